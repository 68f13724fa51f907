"""The one door to the Rust core: our values in, our values and exceptions out.

A call may take long (a batch, a translation), but holds no lock of Python's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from navarch import _core, errors, records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the core is told once, at its making."""

    domain_suffix: str = "cluster.local"
    cluster_id: str = "Kubernetes"


@dataclasses.dataclass(frozen=True, slots=True)
class Simulation:
    """Where a request lands.

    Attributes:
        answer: `landing`, `steps`, `received` and `is_delivered`, as `_core.pyi` describes them.
        text: The same for people.
        is_delivered: Whether an endpoint gets the request.
    """

    answer: dict[str, Any]
    text: str
    is_delivered: bool


class Core:
    """One mesh in Rust."""

    def __init__(self, options: Options | None = None) -> None:
        """Make an empty mesh."""
        with _wrapped():
            self._core = _core.Core(json.dumps(dataclasses.asdict(options or Options())).encode())

    def apply(self, changes: Sequence[records.Change]) -> list[records.Diagnostic]:
        """Apply a batch as one.

        Returns:
            What in it could not be decoded; the last good version of those objects stays in force.
        """
        rows = [(c.key.kind, c.key.namespace, c.key.name, c.payload) for c in changes]
        with _wrapped():
            return [_diagnostic(row) for row in self._core.apply(rows)]

    def translate(self, node_json: bytes) -> dict[str, list[str]]:
        """Return all resources of one proxy, as protobuf JSON, by type (`clusters`, `listeners`, …)."""
        with _wrapped():
            return self._core.translate(node_json)

    def diagnose(self, node_json: bytes) -> list[records.Diagnostic]:
        """Return what translating for one proxy has to say of the objects it is made from."""
        with _wrapped():
            return [_diagnostic(row) for row in self._core.diagnose(node_json)]

    def simulate(
        self, node_json: bytes, request_json: bytes, receiver_json: bytes | None = None
    ) -> Simulation:
        """Find out where a request of a proxy lands; with a receiver, go on through its sidecar.

        Raises:
            errors.RequestError: The request has a field that there is none of, or a wrong value.
        """
        with _wrapped():
            answer = json.loads(self._core.simulate(node_json, request_json, receiver_json))
        text = answer.pop("text")
        return Simulation(answer, text, is_delivered=answer["is_delivered"])

    def serve(self, grpc_address: str) -> str:
        """Start the ADS server; return the address that was bound, with its port.

        Raises:
            errors.SettingsError: The address can't be listened on.
        """
        try:
            with _wrapped():
                return self._core.serve(grpc_address)
        except errors.BindError as error:
            message = f"can't serve ADS on {grpc_address} (--grpc-address): {error}"
            raise errors.SettingsError(message) from error

    def drain(self, timeout_seconds: float) -> None:
        """Stop serving: no new streams, a moment for those that are open."""
        with _wrapped():
            self._core.drain(timeout_seconds)

    def diagnostics(self) -> list[records.Diagnostic]:
        """Return all current diagnostics of translation and of serving."""
        with _wrapped():
            return [_diagnostic(row) for row in self._core.diagnostics()]

    def sync_status(self) -> bytes:
        """Return what each connected proxy has acknowledged, as a JSON list."""
        with _wrapped():
            return self._core.sync_status()

    def config_dump(self, proxy_id: str) -> bytes:
        """Return what a connected proxy was sent, as JSON.

        Raises:
            errors.UnknownProxyError: No proxy of that id is connected.
        """
        with _wrapped():
            return self._core.config_dump(proxy_id)

    def metrics(self) -> str:
        """Return all counters of the core in Prometheus' text format."""
        with _wrapped():
            return self._core.metrics()


def build_bootstrap(plan: dict[str, Any]) -> dict[str, Any]:
    """Return Envoy's bootstrap as protobuf JSON, from a plan as `_core.pyi` describes it.

    Raises:
        errors.SettingsError: The node's id is malformed, or parts of it are missing.
    """
    with _wrapped():
        made: dict[str, Any] = json.loads(_core.build_bootstrap(json.dumps(plan).encode()))
    return made


def build_node(node: dict[str, Any]) -> dict[str, Any]:
    """Return the node of a bootstrap alone.

    Raises:
        errors.SettingsError: The node's id is malformed, or parts of it are missing.
    """
    with _wrapped():
        made: dict[str, Any] = json.loads(_core.build_node(json.dumps(node).encode()))
    return made


def _diagnostic(row: tuple[str, str, str, str, str, str, str]) -> records.Diagnostic:
    kind, namespace, name, code, severity, field_path, message = row
    key = records.SourceKey(kind, namespace, name) if kind else None
    return records.Diagnostic(code, message, records.Severity(severity.lower()), key, field_path)


@contextlib.contextmanager
def _wrapped() -> Iterator[None]:
    """Turn the extension's exceptions into ours."""
    try:
        yield
    except _core.UnknownProxyError as error:
        raise errors.UnknownProxyError(str(error)) from error
    except _core.RequestError as error:
        raise errors.RequestError(str(error)) from error
    except _core.NodeError as error:
        raise errors.NodeError(str(error)) from error
    except _core.BootstrapError as error:
        raise errors.SettingsError(str(error)) from error
    except _core.BindError as error:
        raise errors.BindError(str(error)) from error
    except _core.CoreError as error:
        raise errors.CoreError(str(error)) from error
