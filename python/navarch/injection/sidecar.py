"""The built-in template `sidecar`: the proxy's container, the container that captures traffic, labels, volumes.

Source: Istio's manifests/charts/istio-control/istio-discovery/files/injection-template.yaml.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from navarch.injection import proxy_container, wishes

if TYPE_CHECKING:
    from navarch.injection.inputs import Inputs, Pod

INIT: Final = "istio-init"
VALIDATION: Final = "istio-validation"
CORE_DUMP: Final = "enable-core-dump"
_OWN_PORTS: Final = "15090,15021"


def build_sidecar(inputs: Inputs) -> Pod:
    """Return the partial pod that is merged over a pod."""
    container = proxy_container.build_container(inputs, "sidecar")
    init_containers = [] if inputs.interception_mode == "NONE" else [_build_capture(inputs)]
    if _dumps_core(inputs):
        init_containers.append(_build_core_dump(inputs))
    spec: dict[str, Any] = {"volumes": _build_volumes(inputs)}
    if inputs.is_native:
        init_containers.append({**container, "restartPolicy": "Always"})
        spec["initContainers"] = init_containers
    else:
        spec["containers"] = [container]
        if init_containers:
            spec["initContainers"] = init_containers
    secrets = inputs.settings.proxy.image_pull_secrets
    if secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in secrets]
    labels = proxy_container.build_labels(inputs)
    labels["security.istio.io/tlsMode"] = inputs.labels.get("security.istio.io/tlsMode", "istio")
    return {"metadata": {"labels": labels, "annotations": _build_annotations(inputs)}, "spec": spec}


def _dumps_core(inputs: Inputs) -> bool:
    by_default = "true" if inputs.settings.proxy.core_dump else "false"
    return inputs.annotations.get("sidecar.istio.io/enableCoreDump", by_default) == "true"


def _build_annotations(inputs: Inputs) -> dict[str, str]:
    made = {}
    names = [
        each.get("name", "")
        for each in inputs.spec.get("containers") or ()
        if each.get("name") != proxy_container.NAME
    ]
    if names:
        for word in ("default-logs-container", "default-container"):
            key = f"kubectl.kubernetes.io/{word}"
            if key not in inputs.annotations:
                made[key] = names[0]
    if inputs.settings.init.cni:
        made |= _build_cni_annotations(inputs)
    return made


def _build_cni_annotations(inputs: Inputs) -> dict[str, str]:
    """Return what the node's agent reads to set capture up, with the defaults of these settings."""
    proxy = inputs.settings.proxy
    told = inputs.annotations
    made = {
        wishes.INTERCEPTION_MODE: inputs.interception_mode,
        wishes.EXCLUDE_INBOUND_PORTS: _excluded_inbound(inputs),
    }
    for name, by_default in (
        (wishes.INCLUDE_OUTBOUND_RANGES, proxy.include_ip_ranges),
        (wishes.EXCLUDE_OUTBOUND_RANGES, proxy.exclude_ip_ranges),
        (wishes.INCLUDE_INBOUND_PORTS, proxy.include_inbound_ports),
        (wishes.INCLUDE_OUTBOUND_PORTS, proxy.include_outbound_ports),
        (wishes.EXCLUDE_OUTBOUND_PORTS, proxy.exclude_outbound_ports),
        (wishes.VIRTUAL_INTERFACES, ""),
        (wishes.EXCLUDE_INTERFACES, ""),
    ):
        if text := told.get(name, by_default):
            made[name] = text
    return made


def _excluded_inbound(inputs: Inputs) -> str:
    """Return the inbound ports that are not captured, the agent's own among them."""
    by_default = inputs.settings.proxy.exclude_inbound_ports
    told = inputs.annotations.get(wishes.EXCLUDE_INBOUND_PORTS, by_default).strip()
    port = str(inputs.status_port)
    if not inputs.status_port or port in [part.strip() for part in told.split(",")]:
        return told
    return ",".join(part for part in (port, told) if part)


def _capture_arguments(inputs: Inputs) -> list[str]:
    """Return the arguments of istio-iptables."""
    proxy = inputs.settings.proxy
    told = inputs.annotations
    excluded = _excluded_inbound(inputs)
    arguments = [
        "istio-iptables",
        *("-p", str(inputs.mesh.listen_port)),
        *("-z", str(inputs.mesh.inbound_port)),
        *("-u", str(proxy.run_as_user)),
        *("-m", inputs.interception_mode),
        *("-i", told.get(wishes.INCLUDE_OUTBOUND_RANGES, proxy.include_ip_ranges)),
        *("-x", told.get(wishes.EXCLUDE_OUTBOUND_RANGES, proxy.exclude_ip_ranges)),
        *("-b", told.get(wishes.INCLUDE_INBOUND_PORTS, proxy.include_inbound_ports)),
        *("-d", ",".join(part for part in (_OWN_PORTS, excluded) if part)),
    ]
    for flag, name, by_default in (
        ("-q", wishes.INCLUDE_OUTBOUND_PORTS, proxy.include_outbound_ports),
        ("-o", wishes.EXCLUDE_OUTBOUND_PORTS, proxy.exclude_outbound_ports),
        ("-k", wishes.VIRTUAL_INTERFACES, ""),
        ("-c", wishes.EXCLUDE_INTERFACES, ""),
    ):
        if name in told or by_default:
            arguments += [flag, told.get(name, by_default)]
    if proxy.agent == "istio":
        level = told.get("sidecar.istio.io/agentLogLevel", proxy.agent_log_level)
        arguments.append(f"--log_output_level={level}")
        if proxy.log_as_json:
            arguments.append("--log_as_json")
    if inputs.settings.init.cni:
        arguments += ["--run-validation", "--skip-rule-apply"]
    return arguments


def _build_capture(inputs: Inputs) -> dict[str, Any]:
    proxy = inputs.settings.proxy
    is_validation = inputs.settings.init.cni
    made: dict[str, Any] = {
        "name": VALIDATION if is_validation else INIT,
        "image": proxy_container.find_image(inputs, inputs.settings.init.image or proxy.image),
        "args": _capture_arguments(inputs),
        "resources": proxy_container.build_resources(inputs),
    }
    if proxy.image_pull_policy:
        made["imagePullPolicy"] = proxy.image_pull_policy
    metadata = inputs.proxy_config.get("proxyMetadata") or {}
    environment = [{"name": name, "value": metadata[name]} for name in sorted(metadata)]
    if inputs.settings.cluster.dual_stack:
        environment.append({"name": "ISTIO_DUAL_STACK", "value": "true"})
    if environment:
        made["env"] = environment
    rights: dict[str, Any] = {
        "allowPrivilegeEscalation": proxy.privileged,
        "privileged": proxy.privileged,
        "capabilities": {"drop": ["ALL"]},
    }
    if is_validation:
        rights |= {
            "readOnlyRootFilesystem": True,
            "runAsGroup": proxy.run_as_group,
            "runAsUser": proxy.run_as_user,
            "runAsNonRoot": True,
        }
    else:
        rights["capabilities"]["add"] = ["NET_ADMIN", "NET_RAW"]
        rights |= {
            "readOnlyRootFilesystem": False,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
        }
    made["securityContext"] = rights
    return made


def _build_core_dump(inputs: Inputs) -> dict[str, Any]:
    script = "sysctl -w kernel.core_pattern=/var/lib/istio/data/core.proxy && ulimit -c unlimited"
    return {
        "name": CORE_DUMP,
        "image": proxy_container.find_image(
            inputs, inputs.settings.init.image or inputs.settings.proxy.image
        ),
        "command": ["/bin/sh"],
        "args": ["-c", script],
        "resources": proxy_container.build_resources(inputs),
        "securityContext": {
            "allowPrivilegeEscalation": True,
            "capabilities": {"add": ["SYS_ADMIN"], "drop": ["ALL"]},
            "privileged": True,
            "readOnlyRootFilesystem": False,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
        },
    }


def _build_volumes(inputs: Inputs) -> list[dict[str, Any]]:
    volumes = proxy_container.build_volumes(inputs)
    told = inputs.annotations.get(wishes.USER_VOLUME)
    if told:
        volumes += [{"name": name, **each} for name, each in sorted(json.loads(told).items())]
    return volumes
