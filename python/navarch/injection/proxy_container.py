"""The proxy's container, its volumes and the labels of its workload, for sidecars and gateways alike.

Source: Istio's injection-template.yaml and gateway-injection-template.yaml.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from navarch.injection import labels, wishes

if TYPE_CHECKING:
    from navarch.injection.inputs import Inputs

NAME: Final = "istio-proxy"
_DISCOVERY_PORT: Final = 15012
_IMAGE_TYPE: Final = re.compile(r"-(distroless|debug)$")
_READINESS_PREFIX: Final = "readiness.status.sidecar.istio.io/"
_STARTUP_TIMEOUT_SECONDS: Final = 3
_FIELDS: Final = (
    ("POD_NAME", "metadata.name"),
    ("POD_NAMESPACE", "metadata.namespace"),
    ("INSTANCE_IP", "status.podIP"),
    ("SERVICE_ACCOUNT", "spec.serviceAccountName"),
    ("HOST_IP", "status.hostIP"),
)


def find_image(inputs: Inputs, image: str) -> str:
    """Return a container's image: the annotation's, else `image`, of the type that the proxy's settings ask for."""
    told = inputs.annotations.get("sidecar.istio.io/proxyImage", "")
    if "/" in told:
        return told
    by_default = (inputs.proxy_config.get("image") or {}).get("imageType", "")
    kind = inputs.annotations.get("sidecar.istio.io/proxyImageType", by_default)
    repository, colon, tag = image.rpartition(":")
    if not kind or not colon or "/" in tag or "@" in image:
        return image
    tag = _IMAGE_TYPE.sub("", tag)
    return f"{repository}:{tag}" if kind == "default" else f"{repository}:{tag}-{kind}"


def build_resources(inputs: Inputs) -> dict[str, Any]:
    """Return what the proxy asks for and may use; any annotation about it replaces all of the settings."""
    told = inputs.annotations
    prefix = "sidecar.istio.io/proxy"
    made: dict[str, Any] = {}
    for part, suffix in (("requests", ""), ("limits", "Limit")):
        for resource, word in (("cpu", "CPU"), ("memory", "Memory")):
            if text := told.get(f"{prefix}{word}{suffix}"):
                made.setdefault(part, {})[resource] = text
    if made:
        return made
    resources = inputs.settings.proxy.resources
    parts = {"requests": dict(resources.requests), "limits": dict(resources.limits)}
    return {name: part for name, part in parts.items() if part}


def build_labels(inputs: Inputs) -> dict[str, str]:
    """Return the labels by which telemetry knows the workload (Istio's canonical service and revision)."""
    own = inputs.labels
    name_label, revision_label = (
        "service.istio.io/canonical-name",
        "service.istio.io/canonical-revision",
    )
    name = (
        own.get(name_label)
        or own.get("app.kubernetes.io/name")
        or own.get("app")
        or inputs.owner.name
    )
    revision = (
        own.get(revision_label)
        or own.get("app.kubernetes.io/version")
        or own.get("version")
        or "latest"
    )
    return {name_label: name[:63], revision_label: revision}


def control_plane_host(inputs: Inputs) -> str:
    """Return the DNS name of the control plane of this revision."""
    plane = inputs.settings.control_plane
    is_default = plane.revision == labels.DEFAULT_REVISION
    service = plane.service if is_default else f"{plane.service}-{plane.revision}"
    return f"{service}.{plane.namespace}.svc"


def build_container(inputs: Inputs, proxy_type: str) -> dict[str, Any]:
    """Return the container of a proxy of a type, `sidecar` or `router`."""
    proxy = inputs.settings.proxy
    made: dict[str, Any] = {
        "name": NAME,
        "image": find_image(inputs, proxy.image),
        "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
        "args": _arguments(inputs, proxy_type),
        "env": _environment(inputs, proxy_type),
        "resources": build_resources(inputs),
        "securityContext": _rights(inputs),
        "volumeMounts": _mounts(inputs),
    }
    if proxy.agent == "navarch":
        made["command"] = ["navarch-agent"]
    lifecycle = _lifecycle(inputs, proxy_type)
    if lifecycle:
        made["lifecycle"] = lifecycle
    if proxy.image_pull_policy:
        made["imagePullPolicy"] = proxy.image_pull_policy
    if inputs.status_port:
        made |= _probes(inputs)
    return made


def _arguments(inputs: Inputs, proxy_type: str) -> list[str]:
    proxy = inputs.settings.proxy
    told = inputs.annotations
    log_level = told.get("sidecar.istio.io/logLevel", proxy.log_level)
    parts = told.get("sidecar.istio.io/componentLogLevel", proxy.component_log_level)
    made = ["proxy", proxy_type]
    made += ["--domain", f"$(POD_NAMESPACE).svc.{inputs.settings.cluster.domain}"]
    made += [f"--proxyLogLevel={log_level}", f"--proxyComponentLogLevel={parts}"]
    level = told.get("sidecar.istio.io/agentLogLevel", proxy.agent_log_level)
    if proxy.agent == "navarch":
        # Istio's agent has a level for each scope, ours one for all.
        return [*made, f"--log_output_level={level.rpartition(':')[2]}"]
    made.append(f"--log_output_level={level}")
    if proxy.log_as_json:
        made.append("--log_as_json")
    return made


def _lifecycle(inputs: Inputs, proxy_type: str) -> dict[str, Any]:
    proxy = inputs.settings.proxy
    if proxy.lifecycle is not None:
        return dict(proxy.lifecycle)
    if proxy.agent == "navarch":
        # It drains by itself when it is told to end; that it is started, the startup probe says.
        return {}
    if inputs.is_native:
        # Kubernetes ends the application first; until then the proxy drains, and stops when it is told to.
        port = f"--debug-port={inputs.status_port}"
        return {"preStop": {"exec": {"command": ["pilot-agent", "request", port, "POST", "drain"]}}}
    if inputs.holds_application and proxy_type == "sidecar":
        return {"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}}
    return {}


def _probes(inputs: Inputs) -> dict[str, Any]:
    readiness = inputs.settings.proxy.readiness
    startup = inputs.settings.proxy.startup
    action = {"path": "/healthz/ready", "port": 15021}

    def told(name: str, by_default: int) -> int:
        return int(inputs.annotations.get(f"{_READINESS_PREFIX}{name}", by_default))

    made = {
        "readinessProbe": {
            "httpGet": action,
            "initialDelaySeconds": told("initialDelaySeconds", readiness.initial_delay_seconds),
            "periodSeconds": told("periodSeconds", readiness.period_seconds),
            "timeoutSeconds": 3,
            "failureThreshold": told("failureThreshold", readiness.failure_threshold),
        }
    }
    if startup.enabled or inputs.is_native:
        # A sidecar container counts as started, and lets the next container start, once this has succeeded.
        made["startupProbe"] = {
            "httpGet": action,
            "initialDelaySeconds": 0,
            "periodSeconds": 1,
            "timeoutSeconds": _STARTUP_TIMEOUT_SECONDS,
            "failureThreshold": startup.failure_threshold,
        }
    return made


def _environment(inputs: Inputs, proxy_type: str) -> list[dict[str, Any]]:
    plane = inputs.settings.control_plane
    host = f"{control_plane_host(inputs)}:{_DISCOVERY_PORT}"
    made: list[dict[str, Any]] = [
        {"name": "JWT_POLICY", "value": "third-party-jwt"},
        {"name": "PILOT_CERT_PROVIDER", "value": "istiod"},
        {"name": "CA_ADDR", "value": plane.ca_address or host},
    ]
    made += [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in _FIELDS
    ]
    made += _limits_as_variables(inputs)
    values = _variables(inputs, proxy_type) | {
        str(name): str(value)
        for name, value in sorted((inputs.proxy_config.get("proxyMetadata") or {}).items())
    }
    return made + [{"name": name, "value": value} for name, value in values.items()]


def _limits_as_variables(inputs: Inputs) -> list[dict[str, Any]]:
    """Let the agent size itself by the container's limits, where there are any."""
    limits = build_resources(inputs).get("limits") or {}
    made = []
    for resource, names in (
        ("cpu", ("ISTIO_CPU_LIMIT", "GOMAXPROCS")),
        ("memory", ("GOMEMLIMIT",)),
    ):
        if resource in limits:
            made += [
                {
                    "name": name,
                    "valueFrom": {
                        "resourceFieldRef": {"resource": f"limits.{resource}", "divisor": "0"}
                    },
                }
                for name in names
            ]
    return made


def _variables(inputs: Inputs, proxy_type: str) -> dict[str, str]:
    settings = inputs.settings
    containers = [each for each in inputs.spec.get("containers") or () if each.get("name") != NAME]
    ports = [port for each in containers for port in each.get("ports") or ()]
    trust_domain = inputs.mesh.trust_domain
    made = {
        "PROXY_CONFIG": _compact(_proxy_config(inputs)),
        "ISTIO_META_POD_PORTS": _compact(ports),
        "ISTIO_META_APP_CONTAINERS": ",".join(str(each.get("name")) for each in containers),
        "ISTIO_META_CLUSTER_ID": settings.cluster.name,
        "ISTIO_META_INTERCEPTION_MODE": inputs.interception_mode,
        "ISTIO_META_WORKLOAD_NAME": inputs.owner.name,
        "ISTIO_META_OWNER": inputs.owner.uri if inputs.owner.name else "",
        "ISTIO_META_MESH_ID": settings.cluster.mesh_id or trust_domain,
        "TRUST_DOMAIN": trust_domain,
        "ISTIO_BOOTSTRAP_OVERRIDE": _bootstrap_override(inputs),
        "ISTIO_DUAL_STACK": "true" if settings.cluster.dual_stack else "",
    }
    if proxy_type == "router":
        del made["ISTIO_META_INTERCEPTION_MODE"]
    return {name: value for name, value in made.items() if value}


def _proxy_config(inputs: Inputs) -> dict[str, Any]:
    """Return the ProxyConfig that the agent gets: with the address of this revision's control plane."""
    made = dict(inputs.proxy_config)
    plane = inputs.settings.control_plane
    address = plane.discovery_address or f"{control_plane_host(inputs)}:{_DISCOVERY_PORT}"
    made.setdefault("discoveryAddress", address)
    return made


def _bootstrap_override(inputs: Inputs) -> str:
    is_told = "sidecar.istio.io/bootstrapOverride" in inputs.annotations
    return "/etc/istio/custom-bootstrap/custom_bootstrap.json" if is_told else ""


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _rights(inputs: Inputs) -> dict[str, Any]:
    proxy = inputs.settings.proxy
    told = inputs.annotations
    is_transparent = inputs.interception_mode == "TPROXY"
    binds_low = told.get("sidecar.istio.io/capNetBindService") == "true"
    capabilities: dict[str, Any] = {"drop": ["ALL"]}
    added = ["NET_ADMIN"] * is_transparent + ["NET_BIND_SERVICE"] * binds_low
    if added:
        capabilities["add"] = added
    is_root = is_transparent or binds_low
    by_default = "true" if proxy.core_dump else "false"
    return {
        "allowPrivilegeEscalation": proxy.privileged,
        "capabilities": capabilities,
        "privileged": proxy.privileged,
        "readOnlyRootFilesystem": told.get("sidecar.istio.io/enableCoreDump", by_default) != "true",
        "runAsGroup": proxy.run_as_group,
        "runAsNonRoot": not is_root,
        "runAsUser": 0 if is_root else proxy.run_as_user,
    }


def _mounts(inputs: Inputs) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"name": "workload-socket", "mountPath": "/var/run/secrets/workload-spiffe-uds"},
        {"name": "credential-socket", "mountPath": "/var/run/secrets/credential-uds"},
        {"name": "workload-certs", "mountPath": "/var/run/secrets/workload-spiffe-credentials"},
        {"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio"},
        {"name": "istio-data", "mountPath": "/var/lib/istio/data"},
        {"name": "istio-envoy", "mountPath": "/etc/istio/proxy"},
        {"name": "istio-token", "mountPath": "/var/run/secrets/tokens"},
        {"name": "istio-podinfo", "mountPath": "/etc/istio/pod"},
    ]
    if _bootstrap_override(inputs):
        made.append({"name": "custom-bootstrap-volume", "mountPath": "/etc/istio/custom-bootstrap"})
    told = inputs.annotations.get(wishes.USER_VOLUME_MOUNT)
    if told:
        made += [{"name": name, **each} for name, each in sorted(json.loads(told).items())]
    return made


def build_volumes(inputs: Inputs) -> list[dict[str, Any]]:
    """Return the volumes of the container's mounts."""
    plane = inputs.settings.control_plane
    token = {
        "path": "istio-token",
        "expirationSeconds": plane.token_seconds,
        "audience": plane.token_audience,
    }
    described = [
        {"path": word, "fieldRef": {"fieldPath": f"metadata.{word}"}}
        for word in ("labels", "annotations")
    ]
    made: list[dict[str, Any]] = [
        {"name": "workload-socket", "emptyDir": {}},
        {"name": "credential-socket", "emptyDir": {}},
        {"name": "workload-certs", "emptyDir": {}},
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-data", "emptyDir": {}},
        {"name": "istio-podinfo", "downwardAPI": {"items": described}},
        {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "istiod-ca-cert", "configMap": {"name": plane.root_config_map}},
    ]
    override = inputs.annotations.get("sidecar.istio.io/bootstrapOverride")
    if override:
        made.append({"name": "custom-bootstrap-volume", "configMap": {"name": override}})
    return made
