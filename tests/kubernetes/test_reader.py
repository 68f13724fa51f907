"""A kind's reader against a real API server: lists, watches, and all that goes wrong with them."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from navarch import core, records
from navarch.ingest import reader as reading
from navarch.runtime import clock
from navarch.sources.kubernetes import client, cluster, discovery, reader, scan
from tests import fakes
from tests.kubernetes import api, wire
from tests.lab import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kubernetes import cluster as clusters

pytestmark = [pytest.mark.extension, pytest.mark.kubernetes, pytest.mark.timeout(240)]

SCANNER = scan.Scanner(core.read_watch_lines, core.read_list_page)
READ: list[dict[str, list[str]]] = [
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}
]
SERVICE = reader.Kind("Service", discovery.Wanted("", "Service", ("v1",)), namespace="NAMESPACE")


class Run:
    """One reader at work on its own client."""

    def __init__(self, document: dict[str, Any], kind: reader.Kind, **options: Any) -> None:
        text = yaml.safe_dump(inlined(document))
        self.cluster = cluster.Cluster("tests", client.Access(document=text), SCANNER)
        self.sink = fakes.Recorder()
        self.reader = reader.KindReader(kind, self.cluster.place, **options)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.reader.run, args=(self.sink, self._stop))
        self._thread.start()

    def names(self) -> set[str]:
        return {key.name for key in self.sink.objects}

    def expect(self, *names: str, seconds: float = 20.0) -> None:
        self.sink.wait_for(lambda: self.sink.n_lists > 0 and self.names() == set(names), seconds)

    def body(self, name: str) -> dict[str, Any]:
        [found] = [o for key, o in self.sink.objects.items() if key.name == name]
        read: dict[str, Any] = json.loads(found.text)
        return read

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        assert not self._thread.is_alive(), "a reader ends soon after it is told to"


def inlined(document: dict[str, Any]) -> dict[str, Any]:
    """Give a kubeconfig the certificates themselves in place of their file."""
    for entry in document["clusters"]:
        file = entry["cluster"].pop("certificate-authority", None)
        if file:
            data = base64.b64encode(Path(file).read_bytes()).decode()
            entry["cluster"]["certificate-authority-data"] = data
    return document


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def make(document: dict[str, Any], kind: reader.Kind, **options: Any) -> Run:
        runs.append(Run(document, kind, **options))
        return runs[-1]

    yield make
    for each in runs:
        each.close()


@pytest.fixture
def namespace(request: pytest.FixtureRequest, cluster: clusters.Cluster) -> str:
    cluster.grant("navarch", READ)
    name = request.node.name.replace("_", "-")[:60].strip("-")
    cluster.api().apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return str(name)


def service(namespace: str, name: str, port: int = 80, **annotations: str) -> api.Object:
    metadata = {"name": name, "namespace": namespace, "annotations": annotations}
    spec = {"ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def in_namespace(namespace: str) -> reader.Kind:
    return reader.Kind("Service", SERVICE.wanted, namespace=namespace)


def test_all_is_listed_then_changes_come_one_by_one(
    cluster: clusters.Cluster, namespace: str, start: Callable[..., Run]
) -> None:
    admin = cluster.api()
    admin.apply([service(namespace, "a"), service(namespace, "b")])
    run = start(cluster.kubeconfig_object(), in_namespace(namespace))
    run.expect("a", "b")
    types = [event.type for event in run.sink.events]
    assert types[0] is records.EventType.INIT
    assert types[-1] is records.EventType.INIT_DONE
    n_before = len(run.sink.events)
    admin.apply(service(namespace, "a", 81))
    run.sink.wait_for(lambda: run.body("a")["spec"]["ports"][0]["port"] == 81)
    admin.apply(service(namespace, "c"))
    run.expect("a", "b", "c")
    admin.delete(service(namespace, "b"))
    run.expect("a", "c")
    told = [(e.type.name, e.key.name) for e in run.sink.events[n_before:] if e.key]
    assert told == [("APPLY", "a"), ("APPLY", "c"), ("DELETE", "b")]
    assert "managedFields" not in run.body("a")["metadata"], "only what the mesh reads crosses"


def test_a_connection_that_breaks_goes_on_where_it_was(
    cluster: clusters.Cluster, namespace: str, start: Callable[..., Run]
) -> None:
    admin = cluster.api()
    admin.apply(service(namespace, "a"))
    with wire.Wire(cluster.port) as line:
        run = start(cluster.kubeconfig_object(url=line.url), in_namespace(namespace))
        run.expect("a")
        line.cut()
        run.sink.wait_for(lambda: "source-unavailable" in run.sink.codes())
        admin.apply(service(namespace, "b"))
        assert run.names() == {"a"}, "what is known stays in force"
        line.mend()
        run.expect("a", "b")
        assert run.sink.n_lists == 1, "nothing had to be listed anew"
        run.sink.wait_for(lambda: not run.sink.faults())
        run.close()


def test_a_connection_that_falls_silent_is_given_up(
    cluster: clusters.Cluster, namespace: str, start: Callable[..., Run]
) -> None:
    admin = cluster.api()
    admin.apply(service(namespace, "a"))
    with wire.Wire(cluster.port) as line:
        run = start(
            cluster.kubeconfig_object(url=line.url), in_namespace(namespace), idle_seconds=1.0
        )
        run.expect("a")
        line.mute()
        admin.apply(service(namespace, "b"))
        run.sink.wait_for(lambda: "source-unavailable" in run.sink.codes(), 20)
        line.mend()
        run.expect("a", "b")
        run.close()


def test_what_vanished_behind_a_compaction_is_gone_after_a_new_list(
    own_cluster: Callable[..., clusters.Cluster], start: Callable[..., Run]
) -> None:
    own = own_cluster()
    own.grant("navarch", READ)
    admin = own.api()
    admin.apply([service("default", "a"), service("default", "b")])
    with wire.Wire(own.port) as line:
        run = start(own.kubeconfig_object(url=line.url), in_namespace("default"))
        run.expect("a", "b", "kubernetes")
        line.cut()
        admin.delete(service("default", "a"))
        admin.apply(service("default", "c"))
        # A server that starts anew has no memory of its own of what happened before.
        own.stop_apiserver()
        own.compact()
        own.start_apiserver()
        assert run.names() == {"a", "b", "kubernetes"}
        line.mend()
        run.expect("b", "c", "kubernetes", seconds=60)
        assert run.sink.n_lists == 2
        n_deleted = sum(e.type is records.EventType.DELETE for e in run.sink.events)
        assert n_deleted == 0, "what is not in the new list is gone, nobody told of a deletion"
        run.close()


def test_long_lists_come_in_pages_where_there_are_no_streaming_lists(
    own_cluster: Callable[..., clusters.Cluster],
    start: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = own_cluster("--feature-gates=WatchList=false")
    own.grant("navarch", READ)
    own.api().apply([service("default", f"s{number}") for number in range(25)])
    monkeypatch.setattr(reader, "PAGE_SIZE", 10)
    calls: list[dict[str, str]] = []
    call = client.Client.call

    def noted(self: client.Client, request: client.Request) -> bytes:
        calls.append(dict(request.query))
        return call(self, request)

    monkeypatch.setattr(client.Client, "call", noted)
    run = start(own.kubeconfig_object(), in_namespace("default"))
    run.expect("kubernetes", *(f"s{number}" for number in range(25)))
    pages = [query for query in calls if "limit" in query]
    assert len(pages) == 3
    assert ["continue" in query for query in pages] == [False, True, True]
    own.api().apply(service("default", "later"))
    run.sink.wait_for(lambda: "later" in run.names())


def test_a_kind_is_read_from_when_its_definition_appears_until_it_goes(
    own_cluster: Callable[..., clusters.Cluster], start: Callable[..., Run]
) -> None:
    own = own_cluster()
    own.grant("navarch", READ)
    admin = own.api()
    kind = reader.Kind("Widget", discovery.Wanted("example.org", "Widget", ("v2", "v1")))
    run = start(own.kubeconfig_object(), kind)
    run.sink.wait_for(lambda: run.sink.n_lists == 1, 20)
    definition = widget_definition("v1")
    admin.apply(definition)
    apply_when_served(admin, "v1", "w")
    run.sink.wait_for(lambda: run.names() == {"w"}, 30)
    admin.delete(definition)
    run.sink.wait_for(lambda: run.names() == set(), 30)
    wait_gone(admin, definition)
    admin.apply(widget_definition("v7"))
    run.sink.wait_for(lambda: "unknown-version" in run.sink.codes(), 30)
    assert "v7" in run.sink.faults()[0].message


def widget_definition(version: str) -> api.Object:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [served | {"schema": {"openAPIV3Schema": schema}}],
        },
    }


def wait_gone(admin: api.Api, definition: api.Object) -> None:
    """Wait until the server has finished with a definition: it is there a while after its objects are gone."""
    name = definition["metadata"]["name"]

    def is_gone() -> bool:
        found = admin.list(definition["apiVersion"], definition["kind"])
        return name not in {each["metadata"]["name"] for each in found}

    processes.wait_until(is_gone, f"{name} is gone", 30)


def apply_when_served(admin: api.Api, version: str, name: str) -> None:
    widget = {
        "apiVersion": f"example.org/{version}",
        "kind": "Widget",
        "metadata": {"name": name, "namespace": "default"},
    }
    for _ in range(100):
        with contextlib.suppress(api.ApiError, KeyError):
            admin.apply(widget)
            return
        time.sleep(0.1)
    raise AssertionError("the kind is never served")


def test_a_kind_that_may_not_be_read_is_named_and_holds_nobody_up(
    cluster: clusters.Cluster, namespace: str, start: Callable[..., Run]
) -> None:
    run = start(cluster.kubeconfig_object("remote"), in_namespace(namespace))
    run.sink.wait_for(lambda: run.sink.n_lists == 1, 20)
    assert run.sink.codes() == ["forbidden-kind"]
    [note] = run.cluster.health.notes()
    assert "Service is not read" in note


class NotingClock(clock.SystemClock):
    """Real time, with a note of each wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        return super().wait(event, seconds)


def test_the_refusal_of_a_server_that_is_ready_is_believed_at_once(
    cluster: clusters.Cluster, namespace: str, start: Callable[..., Run]
) -> None:
    """It is asked once more, in case that it has become ready just now."""
    assert namespace
    kind = reader.Kind("Lease", discovery.Wanted("coordination.k8s.io", "Lease", ("v1",)))
    cluster.grant("navarch", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}])
    time_of_run = NotingClock()
    run = start(cluster.kubeconfig_object(), kind, time=time_of_run)
    run.sink.wait_for(lambda: run.sink.n_lists > 0)
    cluster.grant("navarch", READ)
    first, then = time_of_run.waits[:2]
    assert first == 0.0
    assert then >= reader.FORBIDDEN_POLL_SECONDS / 2


class StartingServer:
    """Answers as an API server that starts: until it is ready it forbids everything."""

    def __init__(self) -> None:
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.paths.append(self.path)
                status, answer = owner.answer(self.path)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.paths: list[str] = []
        self.is_ready = False
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> tuple[int, api.Object]:
        if path == "/api/v1":
            return 200, {"resources": [{"kind": "Pod", "name": "pods", "namespaced": True}]}
        if not self.is_ready:
            return 403, {"message": "not yet"}
        if "watch=true" in path:
            return 400, {"message": "it knows no watches"}
        return 200, {"metadata": {"resourceVersion": "1"}, "items": []}

    def document(self) -> api.Object:
        """Return a kubeconfig of it."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": url}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_the_refusals_of_a_server_that_starts_are_not_believed(
    start: Callable[..., Run],
) -> None:
    """It forbids all, also to say whether it is ready."""
    server = StartingServer()
    try:
        run = start(server.document(), reader.Kind("Pod", discovery.Wanted("", "Pod", ("v1",))))

        def is_refused_often() -> bool:
            return sum("/pods" in path for path in server.paths) >= 3

        processes.wait_until(is_refused_often, "it is asked again and again", 20)
        assert "/readyz" in server.paths
        assert run.sink.codes() == []
        assert run.sink.n_lists == 0
        server.is_ready = True
        run.sink.wait_for(lambda: run.sink.n_lists == 1, 20)
    finally:
        server.close()


def test_credentials_that_run_out_are_told_and_what_is_known_stays(
    cluster: clusters.Cluster, namespace: str, start: Callable[..., Run]
) -> None:
    document = cluster.kubeconfig_object()
    document["users"][0]["user"]["token"] = "expired"
    run = start(document, in_namespace(namespace))
    run.sink.wait_for(lambda: "source-unavailable" in run.sink.codes(), 20)
    assert "renew the credentials" in run.sink.faults()[0].message
    assert run.sink.n_lists == 0, "a mesh of which nothing could be read is not published"


def test_objects_of_other_revisions_are_left_to_them(
    own_cluster: Callable[..., clusters.Cluster], start: Callable[..., Run]
) -> None:
    own = own_cluster()
    own.grant("navarch", READ)
    admin = own.api()
    labelled = service("default", "other")
    labelled["metadata"]["labels"] = {"istio.io/rev": "canary"}
    admin.apply([labelled, service("default", "ours")])
    kind = reader.Kind("Service", SERVICE.wanted, has_revisions=True)
    run = start(own.kubeconfig_object(), kind)
    run.expect("ours", "kubernetes")
    labelled["metadata"]["labels"] = {"istio.io/rev": "default"}
    admin.apply(labelled)
    run.expect("ours", "other", "kubernetes")
    labelled["metadata"]["labels"] = {"istio.io/rev": "canary"}
    admin.apply(labelled)
    run.expect("ours", "kubernetes")


def test_fields_that_ours_does_not_know_are_kept_out_and_warned_about() -> None:
    text = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "v", "namespace": "n"},
        "spec": {
            "hosts": ["a"],
            "newest": {"x": 1},
            "http": [{"route": [{"destination": {"host": "a"}, "shadow": True}]}],
        },
    }
    key = records.SourceKey("VirtualService", "n", "v")
    raw = records.RawObject(key, {}, records.Origin("k"), json.dumps(text).encode(), 7)
    read = reading.read_object(raw)
    assert sorted((w.code, w.field_path, w.severity) for w in read.warnings) == [
        ("unknown-field", "spec.http[0].route[0].shadow", records.Severity.WARNING),
        ("unknown-field", "spec.newest", records.Severity.WARNING),
    ]
    assert b"shadow" not in read.payload
    assert read.generation == 7
