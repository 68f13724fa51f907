"""The settings of injection: the file, or the key of a ConfigMap, by which operators shape what pods get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from navarch import errors
from navarch.crds.schema import canonical, faults, message, reading
from navarch.injection import labels

if TYPE_CHECKING:
    from collections.abc import Mapping

BUILT_IN_TEMPLATES: Final = ("sidecar", "gateway")
_DEFAULT_REQUESTS: Final = {"cpu": "100m", "memory": "128Mi"}
_DEFAULT_LIMITS: Final = {"cpu": "2000m", "memory": "1024Mi"}


class Resources(message.Message):
    """What a container asks for and may use, as Kubernetes writes it."""

    requests: message.StringMap = message.EMPTY
    limits: message.StringMap = message.EMPTY


class Readiness(message.Message):
    """The proxy's readiness probe."""

    initial_delay_seconds: message.UInt32 = 0
    period_seconds: message.UInt32 = 15
    failure_threshold: message.UInt32 = 4


class Startup(message.Message):
    """The proxy's startup probe."""

    enabled: bool = True
    failure_threshold: message.UInt32 = 600


class Proxy(message.Message):
    """The proxy's container.

    `agent` is what runs Envoy: `istio` is pilot-agent in Istio's image, `navarch` is `navarch-agent` beside a stock
    Envoy. A template or an annotation overrides any of it for some pods.
    """

    agent: Literal["istio", "navarch"] = "istio"
    image: str = "istio/proxyv2:1.28.0"
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = ""
    image_pull_secrets: message.Listed[str] = ()
    resources: Resources = Resources(requests=_DEFAULT_REQUESTS, limits=_DEFAULT_LIMITS)
    log_level: str = "warning"
    component_log_level: str = "misc:error"
    agent_log_level: str = "default:info"
    log_as_json: bool = False
    include_ip_ranges: str = "*"
    exclude_ip_ranges: str = ""
    include_inbound_ports: str = "*"
    exclude_inbound_ports: str = ""
    include_outbound_ports: str = ""
    exclude_outbound_ports: str = ""
    readiness: Readiness = Readiness()
    startup: Startup = Startup()
    lifecycle: message.FreeForm | None = None
    run_as_user: message.UInt32 = 1337
    run_as_group: message.UInt32 = 1337
    privileged: bool = False
    core_dump: bool = False
    hold_application_until_proxy_starts: bool = False


class Init(message.Message):
    """The container that sets traffic capture up; with `cni` a node's agent has done it, and it only verifies that.

    Without an image it has the proxy's, where that is Istio's; it needs `istio-iptables`.
    """

    image: str = ""
    cni: bool = False


class ControlPlane(message.Message):
    """Where the proxy finds its control plane; addresses that are left out follow from service and namespace."""

    namespace: str = "istio-system"
    service: str = "istiod"
    revision: str = labels.DEFAULT_REVISION
    discovery_address: str = ""
    ca_address: str = ""
    root_config_map: str = "istio-ca-root-cert"
    token_audience: str = "istio-ca"  # noqa: S105 - a name
    token_seconds: message.UInt32 = 43_200


class Cluster(message.Message):
    """The cluster that the pods are in."""

    name: str = "Kubernetes"
    network: str = ""
    domain: str = "cluster.local"
    mesh_id: str = ""
    dual_stack: bool = False


class Settings(message.Message):
    """All settings of injection.

    `templates` holds partial pods by name; one that is named like a built-in template (`sidecar`, `gateway`) is
    merged over it, others are for the annotation `inject.istio.io/templates`.
    """

    policy: Literal["enabled", "disabled"] = "enabled"
    default_templates: message.Listed[str] = ("sidecar",)
    aliases: dict[str, message.Listed[str]] = message.EMPTY
    templates: dict[str, message.FreeForm] = message.EMPTY
    never_inject_selector: message.Listed[labels.Selector] = ()
    always_inject_selector: message.Listed[labels.Selector] = ()
    injected_annotations: message.StringMap = message.EMPTY
    ignored_namespaces: message.Listed[str] = (
        "kube-system",
        "kube-public",
        "kube-node-lease",
        "local-path-storage",
    )
    native_sidecars: bool = True
    rewrite_probes: bool = True
    proxy: Proxy = Proxy()
    init: Init = Init()
    control_plane: ControlPlane = ControlPlane()
    cluster: Cluster = Cluster()


def read_settings(body: Mapping[str, Any] | None) -> Settings:
    """Read the settings over the defaults.

    Raises:
        errors.SettingsError: With every fault.
    """
    found = faults.Faults()
    given = canonical.with_text_keys(dict(body or {}))
    made = reading.read_model(Settings, given, (), found)
    if made is not None:
        _check(made, found)
    if made is None or found:
        told = found.to_error(None, None).diagnostics
        reasons = "; ".join(f"{fault.field_path} {fault.message}".strip() for fault in told)
        raise errors.SettingsError(f"injection settings: {reasons}")
    return made


def _check(made: Settings, found: faults.Faults) -> None:
    known = {*BUILT_IN_TEMPLATES, *made.templates}
    for alias, names in made.aliases.items():
        for index, name in enumerate(names):
            if name not in known:
                text = f"names no template; there are {', '.join(sorted(known))}"
                found.add(("aliases", alias, index), "unknown-value", text)
    for index, name in enumerate(made.default_templates):
        if name not in known | made.aliases.keys():
            text = f"names no template; there are {', '.join(sorted(known))}"
            found.add(("defaultTemplates", index), "unknown-value", text)
    if made.proxy.agent == "navarch" and not made.init.image:
        text = "is required beside navarch's agent: an image with istio-iptables, such as istio/proxyv2"
        found.add(("init", "image"), "missing-field", text)
    for name, pod in made.templates.items():
        if extra := pod.keys() - {"metadata", "spec"}:
            text = f"is no part of a pod; a template has metadata and spec, not {min(extra)}"
            found.add(("templates", name), "unknown-field", text)
