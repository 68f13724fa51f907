"""Who owns a pod: the workload by whose name the mesh knows it.

Source: Istio's pkg/kube/util.go, GetWorkloadMetaFromPod.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_HASH: Final = re.compile(r"-[a-z0-9]{5,10}$")
_CRON_SUFFIX: Final = re.compile(r"(.+)-\d{8,10}$")


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """A workload; with no name where nobody owns the pod and it has none itself yet."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def uri(self) -> str:
        """The workload as proxies' metadata names it."""
        namespace = self.namespace or "default"
        plural = f"{self.kind.lower()}s"
        return f"kubernetes://apis/{self.api_version}/namespaces/{namespace}/{plural}/{self.name}"


def find_owner(pod: Mapping[str, Any], namespace: str) -> Owner:
    """Return the workload of a pod: a Deployment for its ReplicaSet, a CronJob for its Job, the pod itself for none."""
    metadata = pod.get("metadata") or {}
    name = metadata.get("name") or ""
    references = metadata.get("ownerReferences") or []
    controller = next((each for each in references if each.get("controller")), None)
    if controller is None or not metadata.get("generateName"):
        name = name or str(metadata.get("generateName") or "").rstrip("-")
        return Owner("v1", "Pod", namespace, name)
    api_version, kind = str(controller.get("apiVersion")), str(controller.get("kind"))
    name = str(controller.get("name"))
    template_hash = (metadata.get("labels") or {}).get("pod-template-hash", "")
    if kind == "ReplicaSet" and template_hash and name.endswith(f"-{template_hash}"):
        return Owner("apps/v1", "Deployment", namespace, name.removesuffix(f"-{template_hash}"))
    if kind == "ReplicaSet" and (told := _HASH.search(name)):
        return Owner("apps/v1", "Deployment", namespace, name[: told.start()])
    if kind == "Job" and (scheduled := _CRON_SUFFIX.match(name)):
        return Owner("batch/v1", "CronJob", namespace, scheduled[1])
    return Owner(api_version, kind, namespace, name)
