"""Everything that a template may look at."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from navarch.injection import wishes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from navarch.injection.owner import Owner
    from navarch.injection.settings import Settings

Pod = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class MeshView:
    """What injection reads of the mesh's configuration, in JSON names.

    Attributes:
        default_config: The `defaultConfig` of MeshConfig, a ProxyConfig.
        merges_metrics: `enablePrometheusMerge`.
        trust_domain: What identities of the mesh begin with.
        listen_port: Where outbound traffic is redirected to.
        inbound_port: Where inbound traffic is redirected to.
        root_namespace: Whose ProxyConfig holds for every pod.
    """

    default_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    merges_metrics: bool = True
    trust_domain: str = ""
    listen_port: int = 15001
    inbound_port: int = 15006
    root_namespace: str = "istio-system"


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """What one template is made from.

    Attributes:
        pod: The pod as it was written, without what an earlier injection put in.
        proxy_config: The ProxyConfig of this pod, in JSON names; only what differs from the defaults.
        environment: Variables that the webhook's address asks for; they win over those made here.
        is_native: Whether the proxy is an init container that stays (a sidecar container of Kubernetes).
    """

    pod: Pod
    owner: Owner
    settings: Settings
    mesh: MeshView
    proxy_config: Mapping[str, Any]
    environment: Mapping[str, str]
    is_native: bool

    @property
    def annotations(self) -> Mapping[str, str]:
        """The pod's annotations."""
        found: Mapping[str, str] = self.pod.get("metadata", {}).get("annotations") or {}
        return found

    @property
    def labels(self) -> Mapping[str, str]:
        """The pod's labels."""
        found: Mapping[str, str] = self.pod.get("metadata", {}).get("labels") or {}
        return found

    @property
    def spec(self) -> Mapping[str, Any]:
        """The pod's spec."""
        found: Mapping[str, Any] = self.pod.get("spec") or {}
        return found

    @property
    def interception_mode(self) -> str:
        """How traffic is captured: REDIRECT, TPROXY or NONE."""
        by_default = str(self.proxy_config.get("interceptionMode", "REDIRECT"))
        return self.annotations.get(wishes.INTERCEPTION_MODE, by_default)

    @property
    def status_port(self) -> int:
        """Where the agent answers probes and metrics; 0 for nowhere."""
        by_default = str(self.proxy_config.get("statusPort", 15020))
        return int(self.annotations.get(wishes.STATUS_PORT, by_default).strip())

    @property
    def holds_application(self) -> bool:
        """Whether the application waits for the proxy."""
        wish = self.proxy_config.get("holdApplicationUntilProxyStarts")
        if wish is None:
            return self.settings.proxy.hold_application_until_proxy_starts
        return bool(wish)
