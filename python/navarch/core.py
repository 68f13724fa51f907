"""The one door to the Rust core: our values in, our values and exceptions out.

A call may take long (a batch, a translation), but holds no lock of Python's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

from navarch import _core, errors, records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the core is told once, at its making; a connection of age 0 is never too old."""

    domain_suffix: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    max_connection_age_seconds: float = 0.0


WireRow = tuple[str, str, str, str, str, int, bytes]
"""`(type, namespace, name, resource_version, revision, generation, payload)` of one object or event."""


def read_watch_lines(kind: str, lines: bytes) -> list[WireRow]:
    """Take whole lines of a watch of the API server apart.

    Raises:
        errors.CoreError: They are no events.
    """
    with _wrapped():
        return _core.read_watch_lines(kind, lines)


def read_list_page(kind: str, body: bytes) -> tuple[str, str, list[WireRow]]:
    """Take a page of a list of the API server apart; return its version, the next page's token, its objects.

    Raises:
        errors.CoreError: It is no list.
    """
    with _wrapped():
        return _core.read_list_page(kind, body)


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


@dataclasses.dataclass(frozen=True, slots=True)
class AuthorityOptions:
    """How a certificate authority is made and how long its certificates live; Istio's defaults.

    Attributes:
        trust_domain: The organization in a root's name.
        root_key: `ecdsa-p256`, `ecdsa-p384`, `rsa-2048` or `rsa-4096`; for a root that is made.
        root_lifetime_seconds: Ditto.
        default_lifetime_seconds: The life of a workload's certificate that asks for none.
        max_lifetime_seconds: A workload that asks for more is refused.
    """

    trust_domain: str = "cluster.local"
    root_key: str = "ecdsa-p256"
    root_lifetime_seconds: int = 10 * 365 * 24 * 3600
    default_lifetime_seconds: int = 24 * 3600
    max_lifetime_seconds: int = 90 * 24 * 3600

    def to_json(self) -> bytes:
        """Return what the core reads."""
        return json.dumps(dataclasses.asdict(self)).encode()


@dataclasses.dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A server's certificate with its key.

    Attributes:
        chain_pem: The certificate and its intermediates.
        key_pem: The private key, PKCS#8; kept out of `repr`.
        expires_at: The last second of its life, since 1970.
    """

    chain_pem: str
    key_pem: str = dataclasses.field(repr=False)
    expires_at: int


class Authority:
    """The mesh's certificate authority, from its files by name.

    The names are Istio's: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` and, for an intermediate, `cert-chain.pem`; or
    those of a Secret of type kubernetes.io/tls. A directory's files come from `find_authority_files`, new ones from
    `make_authority_files`; a Secret's data serve as they are.
    """

    def __init__(self, files: Mapping[str, bytes], options: AuthorityOptions | None = None) -> None:
        """Use the files.

        Raises:
            errors.AuthorityError: They are incomplete, expired, or don't fit each other.
        """
        told = (options or AuthorityOptions()).to_json()
        with _wrapped():
            self._authority = _core.Authority(told, dict(files), _now())

    @property
    def door(self) -> _core.Authority:
        """The same in Rust, for `Core.serve`."""
        return self._authority

    def replace(self, files: Mapping[str, bytes]) -> None:
        """Sign by other files from now on.

        Raises:
            errors.AuthorityError: They can't be used; the former stay in use.
        """
        with _wrapped():
            self._authority.replace(dict(files), _now())

    def root_bundle(self) -> str:
        """Return the roots to trust, in PEM (`istio-ca-root-cert`, a webhook's `caBundle`)."""
        with _wrapped():
            return self._authority.root_bundle()

    def issue_server(
        self, names: Sequence[str], lifetime_seconds: int = 24 * 3600
    ) -> ServerCertificate:
        """Make a key and a certificate for a server of these DNS names or IP addresses.

        Raises:
            errors.AuthorityError: There is no name, or one is none.
        """
        with _wrapped():
            made = self._authority.issue_server(list(names), lifetime_seconds, _now())
        return ServerCertificate(*made)


@dataclasses.dataclass(frozen=True, slots=True)
class Issuer:
    """An OpenID Connect issuer: its `iss`, whom its tokens must be for, its JSON Web Key Set."""

    issuer: str
    audiences: list[str]
    jwks: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class SecureOptions:
    """Who is let in at the authenticated port.

    Attributes:
        server_names: The names in the server's certificate.
        trust_domains: The mesh's, then its aliases; none takes those of the mesh configuration.
        token_audiences: For whom service-account tokens must be.
        has_reviewer: Whether somebody answers `next_review`.
        join_directory: Where the records of join tokens are.
        requests_per_second: The most of one service account; 0 for no limit.
        issuers: OpenID Connect issuers.
        revocations: Who gets nothing from the start: namespaces, or service accounts of them.
    """

    server_names: list[str]
    trust_domains: list[str] = dataclasses.field(default_factory=list)
    token_audiences: list[str] = dataclasses.field(default_factory=lambda: ["istio-ca"])
    has_reviewer: bool = False
    join_directory: Path | None = None
    requests_per_second: int = 0
    issuers: list[Issuer] = dataclasses.field(default_factory=list)
    revocations: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)

    def to_json(self) -> bytes:
        """Return what the core reads."""
        return json.dumps(dataclasses.asdict(self), default=str).encode()


def mint_join_token(
    directory: Path, namespace: str, service_account: str, lifetime_seconds: int
) -> str:
    """Make a token by which one process gets one certificate of that workload, and keep its record.

    Raises:
        errors.AuthorityError: The names are none, or the record can't be written.
    """
    with _wrapped():
        until = _now() + lifetime_seconds
        return _core.mint_join_token(directory, namespace, service_account, until)


def make_authority_files(options: AuthorityOptions | None = None) -> dict[str, bytes]:
    """Return the files of a new root that signs by itself."""
    with _wrapped():
        return _core.make_authority((options or AuthorityOptions()).to_json(), _now())


def renew_authority_files(
    files: Mapping[str, bytes], options: AuthorityOptions | None = None
) -> dict[str, bytes]:
    """Return the files of the same root, with the same key and a new life; both are trusted."""
    with _wrapped():
        told = (options or AuthorityOptions()).to_json()
        return _core.renew_authority(told, dict(files), _now())


def find_authority_files(directory: Path) -> dict[str, bytes] | None:
    """Return the files of an authority's directory by name, or None if it has none.

    Raises:
        errors.AuthorityError: Some are missing or can't be read.
    """
    with _wrapped():
        return _core.find_authority(directory)


def write_authority_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write an authority's files into a directory, readable by their owner alone."""
    with _wrapped():
        _core.write_authority(directory, dict(files))


class Core:
    """One mesh in Rust."""

    def __init__(self, options: Options | None = None) -> None:
        """Make an empty mesh."""
        with _wrapped():
            self._core = _core.Core(json.dumps(dataclasses.asdict(options or Options())).encode())

    def apply(
        self, changes: Sequence[records.Change], age_seconds: float = 0.0
    ) -> list[records.Diagnostic]:
        """Apply a batch as one.

        Args:
            changes: What is another now.
            age_seconds: How long ago the oldest of them was told, for the metrics of what proxies wait for.

        Returns:
            What in it could not be decoded; the last good version of those objects stays in force.
        """
        rows = [
            (c.key.kind, c.key.namespace, c.key.name, c.payload, c.key.cluster) for c in changes
        ]
        with _wrapped():
            return [_diagnostic(row) for row in self._core.apply(rows, age_seconds)]

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

    def serve_secure(self, address: str, authority: Authority, options: SecureOptions) -> str:
        """Start the authenticated port once `serve` runs; return the address that was bound.

        Raises:
            errors.BindError: The address can't be listened on.
            errors.AuthorityError: The server gets no certificate, or an issuer has no usable key.
        """
        with _wrapped():
            return self._core.serve_secure(address, authority.door, options.to_json())

    def next_review(self, timeout_seconds: float) -> tuple[int, dict[str, Any]] | None:
        """Take a question that only the platform can answer, or None when none came in time.

        Its `kind` is `token` (with `token`, `audiences`) or `read-secrets` (with `namespace`, `service_account`).
        """
        with _wrapped():
            taken = self._core.next_review(timeout_seconds)
        return None if taken is None else (taken[0], json.loads(taken[1]))

    def answer_review(self, review: int, answer: Mapping[str, str]) -> None:
        """Hand in an answer: its `kind` is `token`, `allowed`, `denied` (with `why`) or `failed` (with `why`)."""
        with _wrapped():
            self._core.answer_review(review, json.dumps(answer).encode())

    def revoke(self, revoked: Sequence[tuple[str, str | None]]) -> None:
        """Turn these namespaces, or service accounts of them, away from the authenticated port, and only these."""
        with _wrapped():
            self._core.revoke(list(revoked))

    def drain(self, timeout_seconds: float) -> None:
        """Stop serving: no new streams, a moment for those that are open."""
        with _wrapped():
            self._core.drain(timeout_seconds)

    def diagnostics(self) -> list[records.Diagnostic]:
        """Return all current diagnostics of translation and of serving."""
        with _wrapped():
            return [_diagnostic(row) for row in self._core.diagnostics()]

    def statuses(self, known_epoch: int) -> tuple[int, list[dict[str, Any]]] | None:
        """Return an epoch and the statuses of it (`_core.pyi` has their form), None if the epoch is the known one."""
        with _wrapped():
            found = self._core.statuses(known_epoch)
        return (found[0], json.loads(found[1])) if found else None

    def workload_health(self, known: int) -> tuple[int, list[dict[str, Any]]] | None:
        """Return a number that turns, and what workloads tell of their health; None if the number is the known one."""
        with _wrapped():
            found = self._core.workload_health(known)
        return (found[0], json.loads(found[1])) if found else None

    def wanted_key_sets(self) -> dict[str, float]:
        """Return the addresses of key sets that policies need, with the seconds that a fetch may take (0: unsaid)."""
        with _wrapped():
            return self._core.wanted_key_sets()

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
    # What is of no object is of a proxy, by its id.
    origin = records.Origin(name) if name and key is None else None
    level = records.Severity(severity.lower())
    return records.Diagnostic(code, message, level, key, field_path, origin)


def _now() -> int:
    """Return the wall clock's second, by which certificates live."""
    return int(time.time())


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
    except _core.AuthorityError as error:
        raise errors.AuthorityError(str(error)) from error
    except _core.BindError as error:
        raise errors.BindError(str(error)) from error
    except _core.CoreError as error:
        raise errors.CoreError(str(error)) from error
