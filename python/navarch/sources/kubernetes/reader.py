"""Lists and watches one kind of one cluster, without end.

Source: Kubernetes API concepts, "Efficient detection of changes", "Retrieving large results sets in chunks",
"Streaming lists"; what client-go's reflector does (`k8s.io/client-go/tools/cache/reflector.go`).
"""

from __future__ import annotations

import dataclasses
import json
import random
from typing import TYPE_CHECKING, Final, TypeVar

from navarch import errors, records
from navarch.runtime import backoff, clock
from navarch.sources.kubernetes import client, discovery

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping

    from navarch.sources import base
    from navarch.sources.kubernetes import health, scan, selection

T = TypeVar("T")

PAGE_SIZE: Final = 500
_SELECTION_SECONDS: Final = 0.5
_NAMESPACE: Final = "Namespace"
ABSENT_POLL_SECONDS: Final = 5.0
"""How often a kind that is not installed is looked for."""
FORBIDDEN_POLL_SECONDS: Final = 30.0
"""How often a kind is tried again that the API server forbids to read."""
IDLE_SECONDS: Final = 100.0
"""A watch that is silent for longer is dead: bookmarks come each minute."""
_WATCH_SECONDS: Final = 300
"""Watches end after this and up to twice as long, so that they spread over API servers anew."""
_GONE: Final = 410
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_NOT_UNDERSTOOD: Final = frozenset({400, 422})
_NOT_RESTED: Final = 0.5
_UNREACHABLE_SECONDS: Final = 5.0
"""A server that does not answer is tried this often at the least: a try costs it nothing, and it may be back."""
DOUBT_SECONDS: Final = 5.0
"""So long the refusal of a server that does not say that it is ready is not believed: one that starts knows no rights
yet, and forbids all."""
_DOUBT_POLL_SECONDS: Final = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind to read.

    Attributes:
        key_kind: As in `records.SourceKey.kind`.
        wanted: As the API server has it.
        selectors: Query parameters that keep out what the mesh never needs.
        has_revisions: Whether objects that another revision of the control plane owns are left out.
        namespace: Of this one alone; "" for all.
        is_selected: Whether objects of namespaces that don't count are left out.
    """

    key_kind: str
    wanted: discovery.Wanted
    selectors: Mapping[str, str] = dataclasses.field(default_factory=dict)
    has_revisions: bool = False
    namespace: str = ""
    is_selected: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """What the readers of one cluster share.

    Attributes:
        cluster: The cluster in keys; "" for the one whose rules count.
        name: The cluster's name, for people.
        api: Its API server.
        resources: What that serves.
        scanner: Takes its answers apart.
        health: Collects what fails, and the figures.
        revision: Of this control plane.
        selection: Which namespaces count; None for all.
    """

    cluster: str
    name: str
    api: client.Client
    resources: discovery.Discovery
    scanner: scan.Scanner
    health: health.Health
    revision: str = "default"
    selection: selection.Selection | None = None


class KindReader:
    """Is the source of one kind; its state outlives a failed run, and belongs to the thread of the run."""

    def __init__(
        self,
        kind: Kind,
        place: Place,
        time: clock.Clock | None = None,
        schedule: backoff.Backoff | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._kind = kind
        self._place = place
        self._clock = time or clock.SystemClock()
        self._schedule = schedule or backoff.Backoff()
        self._idle_seconds = idle_seconds
        self._origin = records.Origin(self.name)
        self._version = ""
        """From which a watch goes on; "" while all must be listed."""
        self._is_absent = False
        self._has_streaming_lists = True
        self._has_pages = True
        self._figures = place.health.figures(kind.key_kind)
        self._refused_at: float | None = None
        """Since when the kind is forbidden, without another answer in between."""
        self._was_ready = False
        """Whether the server said, after the first of these refusals, that it is ready."""
        self._breaker = client.Breaker()
        self._met: selection.Met = {}
        self._selection = place.selection if kind.is_selected else None

    @property
    def name(self) -> str:
        """Return the source's name."""
        return f"kubernetes/{self._place.name}/{self._kind.key_kind}"

    @property
    def kind_name(self) -> str:
        """Return the kind, as in keys."""
        return self._kind.key_kind

    @property
    def met(self) -> tuple[str, selection.Met]:
        """Return the cluster, and the namespaces whose objects were met."""
        return self._place.cluster, self._met

    def list_anew(self) -> None:
        """Read all again, from whatever thread."""
        self._breaker.trip()

    def run(self, sink: base.Sink, stop: threading.Event) -> None:
        """Read the kind until `stop` is set; what fails is tried again here, with what is known left in force."""
        self._place.api.close_at(stop)
        # A run that ended in the middle has told an INIT, after which all that is there must come.
        self._version, self._is_absent = "", False
        if self._selection is not None:
            self._selection.add(self)
        try:
            self._run(sink, stop)
        finally:
            if self._selection is not None:
                self._selection.remove(self)

    def _run(self, sink: base.Sink, stop: threading.Event) -> None:
        n_failures, was_answered = 0, False
        while not stop.is_set() and not self._place.api.is_closed:
            try:
                self._step(sink, stop)
            except errors.SourceError as error:
                if stop.is_set() or self._place.api.is_closed:
                    return
                is_answered = isinstance(error, errors.ApiError)
                # A server that is back is not to be waited for as long as one that was away.
                n_failures = n_failures + 1 if is_answered == was_answered else 1
                was_answered = is_answered
                self._clock.wait(stop, self._take_failure(error, n_failures, sink))
            else:
                n_failures = 0
                self._forget_refusals()

    def _step(self, sink: base.Sink, stop: threading.Event) -> None:
        """Find the kind, list it where need be, and watch it until the server ends the watch."""
        if self._selection is not None and not self._selection.wait_ready(
            self._place.cluster, _SELECTION_SECONDS
        ):
            return
        if self._breaker.is_tripped:
            self._breaker.reset()
            self._version = ""
            if self._selection is not None:
                self._selection.forget(self)
        resource = self._place.resources.find(self._kind.wanted)
        if resource is None:
            self._tell_empty(sink)
            self._place.health.note_good(self._kind.key_kind, sink)
            self._clock.wait(stop, ABSENT_POLL_SECONDS)
            self._place.resources.forget_older_than(ABSENT_POLL_SECONDS / 2)
            return
        self._is_absent = False
        path = resource.path
        if self._kind.namespace:
            path = f"{resource.root}/namespaces/{self._kind.namespace}/{resource.plural}"
        if self._version:
            self._watch(path, sink, is_list=False)
        elif self._has_streaming_lists:
            self._watch(path, sink, is_list=True)
        else:
            self._list(path, sink)

    def _tell_empty(self, sink: base.Sink) -> None:
        """Tell that there is no object, once."""
        if not self._is_absent:
            kinds = (records.EventType.INIT, records.EventType.INIT_DONE)
            self._emit(sink, [records.SourceEvent(each) for each in kinds])
            self._note_listed()
        self._is_absent, self._version = True, ""

    def _list(self, path: str, sink: base.Sink) -> None:
        """List page by page; all pages are of one moment."""
        query = dict(self._kind.selectors)
        if self._has_pages:
            query["limit"] = str(PAGE_SIZE)
        self._emit(sink, [records.SourceEvent(records.EventType.INIT)])
        while True:
            try:
                body = self._place.api.call(client.Request("GET", path, query))
            except errors.ApiError as error:
                if error.status == _GONE and "continue" in query:
                    # The moment is forgotten. The next list is asked for whole: it can't expire under way.
                    self._has_pages = False
                raise
            page = self._scanned(self._place.scanner.read_page, body)
            self._emit(sink, self._events(page.events))
            if not page.continue_token:
                break
            query["continue"] = page.continue_token
        self._has_pages = True
        self._end_list(sink, page.resource_version)

    def _end_list(self, sink: base.Sink, version: str) -> None:
        self._emit(sink, [records.SourceEvent(records.EventType.INIT_DONE)])
        self._note_listed()
        self._version = version
        self._figures.n_lists += 1
        self._place.health.note_good(self._kind.key_kind, sink)

    def _watch(self, path: str, sink: base.Sink, *, is_list: bool) -> None:
        """Take events until the server ends the watch; as a list, with all objects before the first change."""
        seconds = int(_WATCH_SECONDS * (1 + random.random()))  # noqa: S311  it spreads load
        query = {
            **self._kind.selectors,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
        }
        if is_list:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
            del query["resourceVersion"]
        is_begun = False
        try:
            for lines in self._place.api.stream(path, query, self._idle_seconds, self._breaker):
                began = self._clock.now()
                if is_list and not is_begun:
                    self._emit(sink, [records.SourceEvent(records.EventType.INIT)])
                if not is_begun and not is_list:
                    self._place.health.note_good(self._kind.key_kind, sink)
                is_begun = True
                self._take_lines(lines, sink)
                self._figures.note_event(began, self._clock.now())
        except errors.ApiError as error:
            if is_list and not is_begun and error.status in _NOT_UNDERSTOOD:
                self._has_streaming_lists = False
                return
            raise

    def _take_lines(self, lines: bytes, sink: base.Sink) -> None:
        read = self._scanned(self._place.scanner.read_watch, lines)
        pending: list[scan.Event] = []
        for event in read:
            if event.type == "ERROR":
                self._emit(sink, self._events(pending))
                raise client.refusal(_status_code(event.payload), event.payload)
            if event.type == "LISTED":
                self._emit(sink, self._events(pending))
                pending = []
                self._end_list(sink, event.resource_version)
            elif event.type != "BOOKMARK":
                pending.append(event)
        self._emit(sink, self._events(pending))
        # Before a streaming list has ended there is no version to go on from.
        if self._version and read:
            self._version = read[-1].resource_version

    def _note_listed(self) -> None:
        if self._kind.key_kind == _NAMESPACE and self._place.selection is not None:
            self._place.selection.note_listed(self._place.cluster)

    def _events(self, read: Iterable[scan.Event]) -> list[records.SourceEvent]:
        kind, cluster = self._kind.key_kind, self._place.cluster
        made = []
        for event in read:
            if kind == _NAMESPACE and self._place.selection is not None:
                text = None if event.type == "DELETED" else event.payload
                self._place.selection.note_namespace(cluster, event.name, text)
            key = records.SourceKey(kind, event.namespace, event.name, cluster)
            if self._selection is not None and not self._selection.take(self, event.namespace):
                continue
            if event.type == "DELETED" or not self._is_ours(event.revision):
                made.append(records.SourceEvent(records.EventType.DELETE, key))
                continue
            raw = records.RawObject(key, {}, self._origin, event.payload, event.generation)
            made.append(records.SourceEvent(records.EventType.APPLY, key, raw))
        return made

    def _is_ours(self, revision: str) -> bool:
        """Objects without the label are everybody's (istio `pilot/pkg/config/kube/crdclient` `LabelsInRevision`)."""
        return not (revision and self._kind.has_revisions) or revision == self._place.revision

    def _emit(self, sink: base.Sink, events: list[records.SourceEvent]) -> None:
        if events:
            sink.emit(self.name, events)

    def _scanned(self, read: Callable[[str, bytes], T], text: bytes) -> T:
        try:
            return read(self._kind.key_kind, text)
        except errors.CoreError as error:
            self._version = ""
            raise errors.SourceError(str(error), is_retryable=True) from error

    def _take_failure(self, error: errors.SourceError, n_failures: int, sink: base.Sink) -> float:
        """Note a failure; return how long to wait before the next try."""
        kind = self._kind.key_kind
        # Jitter needs no secrecy.
        delay = self._schedule.delay_seconds(n_failures, random.random())  # noqa: S311
        status = error.status if isinstance(error, errors.ApiError) else 0
        if status in (_GONE, _NOT_FOUND):
            # What happened meanwhile is forgotten, or the kind is gone: all is looked for and listed anew.
            self._version = ""
            if status == _NOT_FOUND:
                self._place.resources.forget_older_than(0.0)
            return 0.0 if n_failures == 1 else delay
        if status == _FORBIDDEN and self._is_doubtful():
            return 0.0 if self._was_ready else min(delay, _DOUBT_POLL_SECONDS)
        if status != _FORBIDDEN:
            self._forget_refusals()
        self._place.health.note_failure(kind, error, n_failures, sink)
        if status == _FORBIDDEN or isinstance(error, discovery.UnknownVersionsError):
            if not self._figures.n_lists:
                # Others must not wait for what may never come.
                self._tell_empty(sink)
            self._version = ""
            return FORBIDDEN_POLL_SECONDS * (_NOT_RESTED + random.random())  # noqa: S311
        if not isinstance(error, errors.ApiError):
            return min(delay, _UNREACHABLE_SECONDS * (_NOT_RESTED + random.random() / 2))  # noqa: S311
        if error.retry_after_seconds is not None:
            return error.retry_after_seconds + delay * random.random()  # noqa: S311
        return delay

    def _is_doubtful(self) -> bool:
        """Whether to ask once more: a server that is ready knows all rights, but it may have become so just now."""
        now = self._clock.now()
        if self._refused_at is None:
            self._refused_at = now
        if self._was_ready or now - self._refused_at >= DOUBT_SECONDS:
            return False
        self._was_ready = self._place.resources.is_ready()
        return True

    def _forget_refusals(self) -> None:
        self._refused_at, self._was_ready = None, False


def _status_code(payload: bytes) -> int:
    """Return the code of a Status that came within a watch."""
    try:
        code = json.loads(payload).get("code")
    except (ValueError, AttributeError):
        return 0
    return code if isinstance(code, int) else 0
