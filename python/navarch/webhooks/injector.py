"""The mutating webhook: a pod gets its proxy as it is created."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from navarch.crds import mesh_config
from navarch.injection import mesh_view, pods, wishes
from navarch.webhooks import review

if TYPE_CHECKING:
    from collections.abc import Sequence

    from navarch import records
    from navarch.injection.inputs import MeshView
    from navarch.webhooks.review import Request, Verdict
    from navarch.webhooks.settings_file import SettingsFile

_log = logging.getLogger(__name__)

PATH: Final = "/inject"
_PROXY_CONFIG: Final = "ProxyConfig"
_VARIABLES: Final = {"cluster": "ISTIO_META_CLUSTER_ID", "net": "ISTIO_META_NETWORK"}
_SLASH: Final = "--slash--"


class Injector:
    """Answers for pods; `note_changes` keeps it current with the mesh."""

    def __init__(self, settings: SettingsFile) -> None:
        self._settings = settings
        self._mesh: MeshView = mesh_view.view_mesh(mesh_config.read_mesh_config({}))
        self._proxy_configs: dict[records.SourceKey, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self.n_injected = 0
        self.n_skipped = 0
        self.n_failed = 0
        self.seconds = 0.0

    def note_changes(self, changes: Sequence[records.Change]) -> None:
        """Take in what injection reads of the mesh: MeshConfig and ProxyConfig."""
        for change in changes:
            if change.key == mesh_config.KEY and change.payload is not None:
                self._mesh = mesh_view.view_mesh(change.payload)
            elif change.key.kind == _PROXY_CONFIG:
                held = dict(self._proxy_configs)
                held.pop(change.key, None)
                if change.payload is not None:
                    held[change.key] = json.loads(change.payload)
                # Replaced whole: a request that is under way goes on with what it began with.
                self._proxy_configs = held

    def inject(self, request: Request, path: str) -> Verdict:
        """Answer for one pod; `path` may say which cluster it is in (`/inject/cluster/ID/net/NETWORK`)."""
        began = time.monotonic()
        try:
            return self._inject(request, path)
        finally:
            with self._lock:
                self.seconds += time.monotonic() - began

    def _inject(self, request: Request, path: str) -> Verdict:
        if request.body.get("kind") != "Pod" or request.operation not in ("CREATE", "UPDATE"):
            return self._count_skip()
        pod = {key: value for key, value in request.body.items() if key in ("metadata", "spec")}
        metadata = pod.get("metadata")
        namespace = request.namespace or (
            str(metadata.get("namespace") or "") if isinstance(metadata, dict) else ""
        )
        labels = metadata.get("labels") if isinstance(metadata, dict) else None
        mesh = self._mesh
        own_config = mesh_view.merge_proxy_configs(
            self._proxy_configs.values(),
            namespace,
            labels if isinstance(labels, dict) else {},
            mesh.root_namespace,
        )
        asked = pods.Request(
            pod, namespace, own_config=own_config, environment=read_variables(path)
        )
        try:
            done = pods.inject(asked, self._settings.current(), mesh)
        except wishes.InjectionError as error:
            with self._lock:
                self.n_failed += 1
            _log.warning("pod %s in %s can't be injected: %s", _name(pod), namespace, error)
            return review.Verdict(refusal=f"navarch can't inject the proxy: {error}")
        if done.skipped:
            return self._count_skip()
        with self._lock:
            self.n_injected += 1
        return review.Verdict(patch=done.patch(pod), warnings=done.warnings)

    def _count_skip(self) -> Verdict:
        with self._lock:
            self.n_skipped += 1
        return review.ALLOWED


def read_variables(path: str) -> dict[str, str]:
    """Read the variables in a webhook's address: names and values in turn, as in Istio's `/inject/cluster/ID`."""
    parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")[1:]]
    pairs = zip(parts[::2], parts[1::2], strict=False)
    return {_VARIABLES.get(name, name.upper()): value.replace(_SLASH, "/") for name, value in pairs}


def _name(pod: dict[str, Any]) -> str:
    metadata = pod.get("metadata")
    known = metadata if isinstance(metadata, dict) else {}
    return str(known.get("name") or known.get("generateName") or "?")
