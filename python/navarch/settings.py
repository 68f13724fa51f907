"""What a running navarch was told: one frozen value, made once from flags and environment."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
from typing import TYPE_CHECKING, Final

from navarch import errors

if TYPE_CHECKING:
    from pathlib import Path

_MAX_PORT = 65_535
FILE: Final = "file"
KUBERNETES: Final = "Kubernetes"
REGISTRIES: Final = (FILE, KUBERNETES)
"""The platforms that `--registries` chooses from; Kubernetes' is Istio's name for it."""


BLOCKED_KEY_ADDRESSES: Final = ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128")
"""What no issuer has and clouds tell their secrets at: link-local addresses, and the metadata service by IPv6."""


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """A host and port to listen on; port 0 takes a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, flag: str) -> Address:
        """Read `HOST:PORT`, `[IPV6]:PORT` or `:PORT` (every interface).

        Raises:
            errors.SettingsError: The text is none of these.
        """
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        is_bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not port.isdecimal() or int(port) > _MAX_PORT:
            raise errors.SettingsError(
                f"{flag} {text!r} must be HOST:PORT, such as 127.0.0.1:15010"
            )
        if ":" in bare and not is_bracketed:
            raise errors.SettingsError(f"{flag} {text!r}: put an IPv6 address in [brackets]")
        return cls(bare or "0.0.0.0", int(port))  # noqa: S104  asked for by leaving the host out

    def resolve(self, flag: str) -> Address:
        """Return the numeric address of a host that is a name.

        Raises:
            errors.SettingsError: The name is unknown.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise errors.SettingsError(f"{flag} {self}: {error.strerror}") from error
        return Address(str(found[0][4][0]), self.port)

    def is_loopback(self, flag: str) -> bool:
        """Return whether only this machine reaches it.

        Raises:
            errors.SettingsError: The host is a name that is unknown.
        """
        return ipaddress.ip_address(self.resolve(flag).host.partition("%")[0]).is_loopback

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class Issuer:
    """An OpenID Connect issuer whose tokens are taken: its `iss`, whom they must be for, the file of its keys."""

    issuer: str
    audience: str
    jwks_file: Path


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """All that the authenticated port needs.

    Attributes:
        address: Where ADS and certificates are served over TLS.
        authority_dir: The authority's files (Istio's `cacerts` names), watched; a root is made if there are none.
        server_names: DNS names and addresses in the server's certificate.
        root_key: The kind of key of a root that is made.
        certificate_seconds: The life of a workload's certificate that asks for none.
        max_certificate_seconds: A workload that asks for more is refused.
        join_token_dir: The records of join tokens; None takes none.
        issuers: OpenID Connect issuers.
        revocations: File of who gets nothing, watched: a line each, `namespace` or `namespace/service-account`.
        requests_per_second: How often one service account may ask for a stream or a certificate; 0 for no limit.
    """

    address: Address
    authority_dir: Path
    server_names: tuple[str, ...] = ()
    root_key: str = "ecdsa-p256"
    certificate_seconds: int = 24 * 3600
    max_certificate_seconds: int = 90 * 24 * 3600
    join_token_dir: Path | None = None
    issuers: tuple[Issuer, ...] = ()
    revocations: Path | None = None
    requests_per_second: int = 100

    def __post_init__(self) -> None:
        if self.certificate_seconds > self.max_certificate_seconds:
            raise errors.SettingsError(
                "--certificate-seconds is more than --max-certificate-seconds"
            )
        files = {"--revocations": self.revocations}
        files |= {f"--oidc-issuer {each.issuer}": each.jwks_file for each in self.issuers}
        for flag, file in files.items():
            if file is not None and not file.is_file():
                raise errors.SettingsError(f"{flag}: {file} is no file")


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """All that `navarch serve` needs.

    Attributes:
        config_dirs: Directories (or files) of objects.
        mesh_config: The file of the mesh configuration; None takes every default.
        mesh_networks: The file of the mesh's networks; None for none but what labels tell.
        grpc_address: Where ADS is served, in plaintext and to anybody: a loopback address, unless `allow_plaintext`.
        allow_plaintext: Whether plaintext may be served off loopback.
        identity: The authenticated port; None leaves it closed.
        http_address: Where readiness, metrics and debugging are served.
        https_address: Where the webhooks are served; None for nowhere.
        webhook_certificates: The directory of their `tls.crt`, `tls.key` and `ca.crt`.
        injection_settings: The file of the injection settings; None for the defaults.
        patches_webhooks: Whether the webhooks' roots are put into the cluster's webhook configurations.
        has_authority_secret: Whether the authority's directory follows a Secret of the cluster, made if need be.
        domain_suffix: The cluster's DNS domain.
        cluster_id: The cluster's name, as proxies give it in their metadata.
        drain_seconds: How long open streams may last after a stop was asked for.
        max_connection_age_seconds: After this, and up to a tenth more, a proxy has to connect anew; 0 for never.
        log_level: Name of the lowest level that is logged.
        blocked_key_addresses: Networks where no keys of token issuers are fetched, several of them with commas between.
        registries: The platforms that are read; none given takes files where there is a directory of them, and
            Kubernetes where there is a kubeconfig or navarch runs in a Pod.
        kubeconfig: The file that tells where the API server is; None for the Pod's own account.
        context: Of the kubeconfig; None for its current one.
        revision: The name of this control plane among others side by side.
        system_namespace: Where navarch's own objects and the Secrets of remote clusters are.
        remote_sync_seconds: How long the first push waits for remote clusters.
        is_in_cluster: Whether navarch runs in a Pod.
    """

    config_dirs: tuple[Path, ...] = ()
    mesh_config: Path | None = None
    mesh_networks: Path | None = None
    grpc_address: Address = Address("127.0.0.1", 15010)
    http_address: Address = Address("127.0.0.1", 8080)
    https_address: Address | None = None
    webhook_certificates: Path | None = None
    injection_settings: Path | None = None
    patches_webhooks: bool = False
    has_authority_secret: bool = False
    domain_suffix: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    drain_seconds: float = 5.0
    max_connection_age_seconds: float = 0.0
    log_level: str = "INFO"
    allow_plaintext: bool = False
    identity: Identity | None = None
    blocked_key_addresses: tuple[str, ...] = BLOCKED_KEY_ADDRESSES

    registries: tuple[str, ...] = ()
    kubeconfig: Path | None = None
    context: str | None = None
    revision: str = "default"
    system_namespace: str = "istio-system"
    remote_sync_seconds: float = 30.0
    is_in_cluster: bool = False

    @property
    def blocked_key_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The networks where no keys of token issuers are fetched.

        Raises:
            errors.SettingsError: One of them is none.
        """
        told = ",".join(self.blocked_key_addresses).split(",")
        try:
            return tuple(ipaddress.ip_network(each.strip()) for each in told if each.strip())
        except ValueError as error:
            raise errors.SettingsError(
                f"--blocked-key-address: {error}; give networks such as 10.0.0.0/8"
            ) from error

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that are read, FILE and KUBERNETES."""
        if self.registries:
            return tuple(dict.fromkeys(self.registries))
        has_cluster = self.kubeconfig is not None or (self.is_in_cluster and not self.config_dirs)
        chosen = {FILE: bool(self.config_dirs), KUBERNETES: has_cluster}
        return tuple(name for name, is_chosen in chosen.items() if is_chosen)

    def __post_init__(self) -> None:
        if not self.allow_plaintext and not self.grpc_address.is_loopback("--grpc-address"):
            raise errors.SettingsError(
                f"--grpc-address {self.grpc_address} serves the whole mesh to anybody who reaches it: listen on "
                "loopback and serve others by --secure-grpc-address, or give --allow-plaintext"
            )
        if not self.platforms:
            raise errors.SettingsError(
                "give a --config-dir or a --kubeconfig: outside of a cluster there is nothing to read"
            )
        if FILE in self.platforms and not self.config_dirs:
            raise errors.SettingsError(f"--registries {FILE} needs at least one --config-dir")
        if KUBERNETES in self.platforms and self.kubeconfig is None and not self.is_in_cluster:
            raise errors.SettingsError(
                f"--registries {KUBERNETES} needs a --kubeconfig outside of a cluster"
            )
        self._check_cluster_flags()
        _ = self.blocked_key_networks
        for path in self.config_dirs:
            if not path.exists():
                raise errors.SettingsError(f"--config-dir {path} does not exist")
        files = {
            "--mesh-config": self.mesh_config,
            "--mesh-networks": self.mesh_networks,
            "--kubeconfig": self.kubeconfig,
        }
        for flag, file in files.items():
            if file is not None and not file.is_file():
                raise errors.SettingsError(f"{flag} {file} is no file")

    def _check_cluster_flags(self) -> None:
        for is_told, flag in (
            (self.patches_webhooks, "--patch-webhooks"),
            (self.has_authority_secret, "--authority-secret"),
        ):
            if is_told and KUBERNETES not in self.platforms:
                raise errors.SettingsError(f"{flag} needs a cluster: give --kubeconfig")
        if self.has_authority_secret and self.identity is None:
            raise errors.SettingsError("--authority-secret needs --secure-grpc-address")
