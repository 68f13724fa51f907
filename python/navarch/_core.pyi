"""The Rust extension: the manual of the language border.

Everything crosses as values: batches of changes one way, diagnostics and documents of bytes the other; no callback.
Each call releases the GIL. Only `navarch.core` imports this module.
"""

from os import PathLike
from typing import TypeAlias, final

__all__ = [
    "Authority",
    "AuthorityError",
    "BindError",
    "BootstrapError",
    "Core",
    "CoreError",
    "NodeError",
    "RequestError",
    "UnknownProxyError",
    "build_bootstrap",
    "build_node",
    "find_authority",
    "make_authority",
    "mint_join_token",
    "read_list_page",
    "read_watch_lines",
    "renew_authority",
    "write_authority",
]

# (kind, namespace, name, code, severity, field_path, message); all but kind, code, severity and message may be "".
_Diagnostic: TypeAlias = tuple[str, str, str, str, str, str, str]
# (kind, namespace, name, payload, cluster); a payload of None deletes, else it is JSON of the whole object; a cluster
# of "" is the one whose rules count.
_Change: TypeAlias = tuple[str, str, str, bytes | None, str]
# (type, namespace, name, resource_version, revision, generation, payload); as `sources.kubernetes.scan.Event`.
_Event: TypeAlias = tuple[str, str, str, str, str, int, bytes]

class CoreError(Exception):
    """The core refused a call or failed; the root of all that it raises."""

class AuthorityError(CoreError):
    """The certificate authority's files can't be used, or a certificate is refused."""

class BindError(CoreError):
    """The address can't be listened on."""

class BootstrapError(CoreError):
    """A bootstrap can't be made: the node's id is malformed, or parts of it are missing."""

class NodeError(CoreError):
    """A node is no JSON of `envoy.config.core.v3.Node`, or lacks what every proxy has."""

class RequestError(CoreError):
    """A request to simulate is no JSON of its fields."""

class UnknownProxyError(CoreError):
    """No proxy of that id is connected."""

def build_bootstrap(plan_json: bytes) -> str:
    """Return Envoy's bootstrap as protobuf JSON.

    The plan is `{"node": NODE, "discovery": {"address": ADDRESS} or {"pipe": PATH}, "admin": ADDRESS,
    "is_delta": true}` with addresses as `{"host": "127.0.0.1", "port": 15010}` and nodes as `build_node` takes them.
    """

def build_node(node_json: bytes) -> str:
    """Return the node of a bootstrap as protobuf JSON.

    Its fields are `id`, `proxy_type`, `ip`, `pod`, `namespace`, `cluster`, `cluster_id`, `service_account`, `labels`,
    `metadata`, `has_redirect`, `domain_suffix` and `locality`; each has a default.
    """

@final
class Authority:
    """The mesh's certificate authority in use; its files can be replaced while it signs."""

    def __new__(
        cls, options_json: bytes, contents: dict[str, bytes], now_seconds: int
    ) -> Authority:
        """Use an authority's files, by name (`ca-cert.pem`, `ca-key.pem`, `cert-chain.pem`, `root-cert.pem`).

        `{"trust_domain": "cluster.local", "root_key": "ecdsa-p256", "root_lifetime_seconds": 315360000,
        "default_lifetime_seconds": 86400, "max_lifetime_seconds": 7776000}` are all options with their defaults;
        the first three are for `make_authority` and `renew_authority`.
        """

    def replace(self, contents: dict[str, bytes], now_seconds: int) -> None:
        """Sign by other files from now on; on error the former stay in use."""

    def root_bundle(self) -> str:
        """Return the roots to trust, in PEM."""

    def issue_server(
        self, names: list[str], lifetime_seconds: int, now_seconds: int
    ) -> tuple[str, str, int]:
        """Make a key and a certificate for a server; return chain and key in PEM and the second of its end."""

def make_authority(options_json: bytes, now_seconds: int) -> dict[str, bytes]:
    """Return the files of a new root that signs by itself."""

def renew_authority(
    options_json: bytes, contents: dict[str, bytes], now_seconds: int
) -> dict[str, bytes]:
    """Return the files of the same root with a new life; both certificates are in the bundle."""

def find_authority(directory: str | PathLike[str]) -> dict[str, bytes] | None:
    """Return the files of an authority's directory by name, or None if it has none."""

def write_authority(directory: str | PathLike[str], contents: dict[str, bytes]) -> None:
    """Write an authority's files into a directory, readable by their owner alone."""

def mint_join_token(
    directory: str | PathLike[str], namespace: str, service_account: str, expires_at: int
) -> str:
    """Make a join token for a workload and keep its record in the directory."""

@final
class Core:
    """One mesh: its state, its translation, and once `serve` was called its ADS server."""

    def __new__(cls, options_json: bytes) -> Core:
        """Make an empty mesh.

        `{"domain_suffix": "cluster.local", "cluster_id": "Kubernetes", "max_connection_age_seconds": 0}` are all
        options with their defaults; a connection of age 0 is never too old.
        """

    def apply(self, changes: list[_Change], age_seconds: float = 0.0) -> list[_Diagnostic]:
        """Apply a batch as one; return what in it could not be decoded (the last good version stays).

        `age_seconds` is how long ago the oldest of the changes was told, for the metrics of what proxies wait for.
        """

    def translate(self, node_json: bytes) -> dict[str, list[str]]:
        """Return all resources of one proxy as protobuf JSON, by `clusters`, `endpoints`, `listeners`, …."""

    def diagnose(self, node_json: bytes) -> list[_Diagnostic]:
        """Return what translating for one proxy has to say of the objects it is made from."""

    def simulate(
        self, node_json: bytes, request_json: bytes, receiver_json: bytes | None = None
    ) -> bytes:
        """Return as JSON where a request lands, and why; with a receiver, what that one's sidecar does with it.

        The request's fields are `protocol` (`http`, `http2`, `grpc`, `https`, `tcp`, `tls`), `direction` (`outbound`,
        `inbound`), `host`, `address`, `port`, `method`, `path`, `headers`, `sni`, `alpn`, `has_certificate`,
        `source_address`, `percent`, `metadata`, `is_captured`; each has a default. The answer's are `landing`, `steps`,
        `received`, `is_delivered` and `text`.
        """

    def serve(self, grpc_address: str) -> str:
        """Start the ADS server on threads of its own; return the address with the port that was bound."""

    def serve_secure(self, address: str, authority: Authority, options_json: bytes) -> str:
        """Start the authenticated port (ADS and certificates over TLS) once `serve` runs; return its address.

        `{"server_names": ["navarch.navarch.svc"], "trust_domains": ["cluster.local"], "token_audiences": ["istio-ca"],
        "has_reviewer": false, "join_directory": null, "requests_per_second": 0,
        "issuers": [{"issuer": "…", "audiences": ["…"], "jwks": {"keys": […]}}],
        "revocations": [["namespace", "service account or null"]]}` are the options, all of them needed;
        no trust domains stand for those of the mesh configuration.
        """

    def next_review(self, timeout_seconds: float) -> tuple[int, bytes] | None:
        """Take a question that only the platform can answer, or None when none came in time.

        `{"kind": "token", "token", "audiences"}` or `{"kind": "read-secrets", "namespace", "service_account"}`.
        """

    def answer_review(self, review: int, answer_json: bytes) -> None:
        """Hand in the answer to a question.

        `{"kind": "token", "namespace", "service_account"}`, `{"kind": "allowed"}`, `{"kind": "denied", "why"}` or
        `{"kind": "failed", "why"}`.
        """

    def revoke(self, rows: list[tuple[str, str | None]]) -> None:
        """Turn these namespaces, or service accounts of them, away from the authenticated port, and only these."""

    def drain(self, timeout_seconds: float) -> None:
        """Stop accepting, let streams finish, close what is left after the timeout; once."""

    def diagnostics(self) -> list[_Diagnostic]:
        """Return all current diagnostics of translation and of serving (NACKs)."""

    def statuses(self, known_epoch: int) -> tuple[int, bytes] | None:
        """Return an epoch, and a JSON list of `{"kind", "namespace", "name", "status"}`; None if it is the known one.

        They are of objects of Gateway API and of Ingresses. `observedGeneration`, `lastTransitionTime` and what other
        controllers wrote are left to the writer.
        """

    def workload_health(self, known: int) -> tuple[int, bytes] | None:
        """Return a number that turns, and the statuses of WorkloadEntries whose workloads tell of their health.

        The form is that of `statuses`; None if the number is the known one.
        """

    def wanted_key_sets(self) -> dict[str, float]:
        """Return the addresses of key sets that policies need, with the seconds that a fetch may take (0: unsaid)."""

    def sync_status(self) -> bytes:
        """Return what each connected proxy has acknowledged, as a JSON list."""

    def config_dump(self, proxy_id: str) -> bytes:
        """Return what a connected proxy was sent, as JSON."""

    def metrics(self) -> str:
        """Return all counters in Prometheus' text format."""

def read_watch_lines(kind: str, lines: bytes) -> list[_Event]:
    """Read whole lines of a watch of a kind, which need not be one that the core reads.

    Objects of kinds that come in thousands are cut to the fields that the mesh reads.
    """

def read_list_page(kind: str, body: bytes) -> tuple[str, str, list[_Event]]:
    """Read a page of a list; return the list's version, the token of the next page, and the objects as `ADDED`."""
