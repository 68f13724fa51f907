"""Pods that come, go and change at a rate, over an API server that is started anew meanwhile."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import random
import threading
import time
from typing import TYPE_CHECKING, Final

from tests.kubernetes import api as apis
from tests.kubernetes import mesh as meshes
from tests.kubernetes import proxies
from tests.lab import processes
from tests.xds import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.kubernetes import cluster as clusters

NAMESPACES: Final = ("red", "blue")
_N_WRITERS: Final = 8
_RETRY_SECONDS: Final = 0.2
_GIVE_UP_SECONDS: Final = 120.0
_SETTLE_SECONDS: Final = 90.0
_SERVER_ERROR: Final = 500
_BUSY: Final = 429
_NOT_FOUND: Final = 404
_OK: Final = 200


@dataclasses.dataclass
class _Pod:
    name: str
    address: str
    is_ready: bool = True
    version: str = "v1"


class Group:
    """One Service with its Pods; one thread at a time changes it."""

    def __init__(self, number: int, n_pods: int) -> None:
        self.name = f"s{number}"
        self.namespace = NAMESPACES[number % len(NAMESPACES)]
        self._number = number
        self._n_made = 0
        self.lock = threading.Lock()
        self.pods = [self._make() for _ in range(n_pods)]

    def _make(self) -> _Pod:
        self._n_made += 1
        # Of 10.0.0.0/9, which no Service has; no address comes back soon.
        place = (self._number * 4096 + self._n_made % 4096) % (1 << 23)
        address = f"10.{place >> 16}.{place >> 8 & 255}.{place & 255}"
        return _Pod(f"{self.name}-{self._n_made}", address)

    def fill(self, write: Writer) -> None:
        """Create all."""
        write.apply(meshes.service(self.name, self.namespace))
        for pod in self.pods:
            self._write_pod(write, pod)
        self._write_slice(write)

    def change(self, write: Writer, dice: random.Random) -> None:
        """Change one Pod in one of four ways, and the EndpointSlice as Kubernetes' controller would."""
        with self.lock:
            place = dice.randrange(len(self.pods))
            pod = self.pods[place]
            what = dice.randrange(4)
            if what == 0:
                pod.is_ready = not pod.is_ready
            elif what == 1:
                pod.version = "v2" if pod.version == "v1" else "v1"
                self._write_pod(write, pod)
            elif what == 2 and len(self.pods) > 1 and dice.random() < 0.3:
                del self.pods[place]
                write.delete(self._pod_object(pod))
            else:
                self.pods[place] = made = self._make()
                self._write_pod(write, made)
                write.delete(self._pod_object(pod))
            self._write_slice(write)

    def _pod_object(self, pod: _Pod) -> apis.Object:
        labels = {"app": self.name, "version": pod.version}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod.name, "namespace": self.namespace, "labels": labels},
            "spec": {
                "serviceAccountName": self.name,
                "containers": [{"name": "app", "image": "app:1"}],
            },
        }

    def _write_pod(self, write: Writer, pod: _Pod) -> None:
        made = self._pod_object(pod)
        write.apply(made)
        write.set_status(
            made, {"phase": "Running", "podIP": pod.address, "podIPs": [{"ip": pod.address}]}
        )

    def _write_slice(self, write: Writer) -> None:
        made = meshes.slice_of(self.name, namespace=self.namespace)
        made["endpoints"] = [
            {
                "addresses": [pod.address],
                "conditions": {"ready": pod.is_ready, "serving": pod.is_ready},
                "targetRef": {"kind": "Pod", "name": pod.name, "namespace": self.namespace},
            }
            for pod in self.pods
        ]
        write.apply(made)


class Writer:
    """Writes until the API server has taken it: an outage delays, and loses nothing."""

    def __init__(self, api: apis.Api) -> None:
        self._api = api
        self.n_retries = 0

    def apply(self, made: apis.Object) -> None:
        """Create or change an object."""
        self._insist(lambda: self._api.apply(made))

    def set_status(self, made: apis.Object, status: apis.Object) -> None:
        """Write the status of an object."""
        self._insist(lambda: self._api.patch(made, {"status": status}, "status"))

    def delete(self, made: apis.Object) -> None:
        """Delete an object, if it is there."""
        self._insist(lambda: self._api.delete(made))

    def _insist(self, act: Callable[[], object]) -> None:
        until = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            try:
                act()
            except apis.ApiError as error:
                if error.status == _NOT_FOUND:
                    return
                if (error.status < _SERVER_ERROR and error.status != _BUSY) or _is_over(until):
                    raise
            except (OSError, EOFError, ValueError) as error:
                if _is_over(until):
                    raise apis.ApiError(0, str(error).encode()) from error
            else:
                return
            self.n_retries += 1
            time.sleep(_RETRY_SECONDS)


def _is_over(until: float) -> bool:
    return time.monotonic() > until


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much changes, and when the API server goes.

    Attributes:
        n_services: Services, each of `n_pods` Pods at the start.
        per_second: Changes of Pods.
        outages: When the API server is stopped, in seconds from the start, and for how long.
    """

    n_services: int
    n_pods: int
    seconds: float
    per_second: float
    outages: Sequence[tuple[float, float]]


class Churn:
    """A population in a cluster.

    Attributes:
        n_changes: Changes made so far.
    """

    def __init__(self, own: clusters.Cluster, plan: Plan) -> None:
        self._own = own
        self._plan = plan
        self._groups = [Group(number, plan.n_pods) for number in range(plan.n_services)]
        self.writer = Writer(own.api())
        self.n_changes = 0

    def fill(self) -> None:
        """Create the population."""
        for name in ("istio-system", *NAMESPACES):
            self.writer.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        with concurrent.futures.ThreadPoolExecutor(_N_WRITERS) as writers:
            list(writers.map(lambda group: group.fill(self.writer), self._groups))

    def run(self) -> None:
        """Change Pods at the plan's rate to its end, through the plan's outages."""
        dice = random.Random(7)  # the same changes at each run
        began = time.monotonic()
        outage = threading.Thread(target=self._act_outages, args=(began,))
        outage.start()
        with concurrent.futures.ThreadPoolExecutor(_N_WRITERS) as writers:
            asked: list[concurrent.futures.Future[None]] = []
            while (spent := time.monotonic() - began) < self._plan.seconds:
                while len(asked) < spent * self._plan.per_second:
                    group, own_dice = dice.choice(self._groups), random.Random(dice.random())
                    asked.append(writers.submit(group.change, self.writer, own_dice))
                time.sleep(0.02)
            for each in asked:
                each.result(_GIVE_UP_SECONDS)
        outage.join()
        self.n_changes = len(asked)

    def _act_outages(self, began: float) -> None:
        for at, seconds in self._plan.outages:
            time.sleep(max(0.0, began + at - time.monotonic()))
            self._own.stop_apiserver()
            time.sleep(seconds)
            self._own.start_apiserver()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was seen in the end.

    Attributes:
        differences: Resources in which proxies that lived through it differ from those of a fresh start.
        n_resources: How many were compared.
    """

    n_changes: int
    n_retries: int
    n_resources: int
    n_responses: int
    settled_seconds: float
    differences: list[str]
    notes: list[str]


def endure(own: clusters.Cluster, folder: Path, plan: Plan, *flags: str) -> Outcome:
    """Churn under a navarch with proxies connected; compare in the end with what a fresh one serves."""
    own.grant("navarch", meshes.RIGHTS)
    churned = Churn(own, plan)
    churned.fill()
    nodes = [proxies.sidecar(name, f"10.127.0.{place}") for place, name in enumerate(NAMESPACES, 1)]
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(meshes.Navarch(folder / "old", own.kubeconfig(), *flags))
        old.wait_ready()
        live = [stack.enter_context(proxies.Proxy(old.grpc_port, node)) for node in nodes]
        churned.run()
        fresh = stack.enter_context(meshes.Navarch(folder / "fresh", own.kubeconfig(), *flags))
        fresh.wait_ready()
        new = [stack.enter_context(proxies.Proxy(fresh.grpc_port, node)) for node in nodes]

        def differences() -> list[str]:
            pairs = zip(live, new, strict=True)
            return [each for a, b in pairs for each in proxies.difference(a.state(), b.state())]

        began = time.monotonic()
        with contextlib.suppress(AssertionError):
            processes.wait_until(lambda: not differences(), "all is equal", _SETTLE_SECONDS)
        notes = [str(each.ended) for each in (*live, *new) if each.ended]
        return Outcome(
            churned.n_changes,
            churned.writer.n_retries,
            sum(len(of_type) for each in new for of_type in each.state().values()),
            sum(each.n_responses for each in live),
            time.monotonic() - began,
            differences(),
            notes,
        )


@dataclasses.dataclass(frozen=True)
class Survival:
    """What was seen while the API server was away, and after it.

    Attributes:
        differences: Resources in which proxies that came meanwhile differ from one that was there before.
        n_unready: How often navarch said that it is not ready.
        told: What it said of its readiness at the end of the outage.
        emptied: Assignments that lost their last endpoint.
        n_responses: What the proxy that was there before was sent until it had the first change.
        recovery_seconds: How long that took from the API server's return.
    """

    n_assigned: int
    differences: list[str]
    n_unready: int
    told: str
    emptied: list[str]
    n_responses: int
    recovery_seconds: float


def sit_out(own: clusters.Cluster, folder: Path, plan: Plan, seconds: float) -> Survival:
    """Stop the API server for so long under a navarch with a proxy, while others come and go."""
    meshes.prepare(own)
    population = Churn(own, plan)
    population.fill()
    red = proxies.sidecar("red")
    differences: list[str] = []
    n_unready = 0
    with (
        meshes.Navarch(folder / "navarch", own.kubeconfig()) as navarch,
        contextlib.ExitStack() as stack,
    ):
        navarch.wait_ready()
        live = stack.enter_context(proxies.Proxy(navarch.grpc_port, red))
        known = live.state()
        time.sleep(1.0)
        n_before = live.n_responses
        own.stop_apiserver()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for form in (stream.DELTA, stream.SOTW):
                with proxies.Proxy(navarch.grpc_port, red, form) as late:
                    differences += proxies.difference(late.state(), known)
            n_unready += navarch.get("/ready")[0] != _OK
            time.sleep(2.0)
        told = navarch.get("/ready")[1]
        own.start_apiserver()
        population.writer.apply(meshes.service("later", "red"))
        took = processes.wait_until(
            lambda: len(live.state()["CDS"]) > len(known["CDS"]), "a change", _GIVE_UP_SECONDS
        )
        return Survival(
            sum(b"10." in each for each in known["EDS"].values()),
            differences,
            n_unready,
            told,
            live.emptied,
            live.n_responses - n_before,
            took,
        )
