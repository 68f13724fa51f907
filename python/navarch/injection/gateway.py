"""The built-in template `gateway`: a pod that is nothing but a proxy, which its owner wrote with the image `auto`.

Source: Istio's gateway-injection-template.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from navarch.injection import proxy_container

if TYPE_CHECKING:
    from navarch.injection.inputs import Inputs, Pod


def build_gateway(inputs: Inputs) -> Pod:
    """Return the partial pod that is merged over a pod."""
    container = proxy_container.build_container(inputs, "router")
    container["securityContext"] |= {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
    }
    spec: dict[str, Any] = {
        # A gateway listens on 80 and 443 without being root.
        "securityContext": {
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
        },
        "containers": [container],
        "volumes": proxy_container.build_volumes(inputs),
    }
    secrets = inputs.settings.proxy.image_pull_secrets
    if secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in secrets]
    labels = proxy_container.build_labels(inputs)
    labels["istio.io/dataplane-mode"] = "none"
    return {"metadata": {"labels": labels}, "spec": spec}
