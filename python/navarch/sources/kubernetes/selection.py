"""Which namespaces count: `discoverySelectors` of the mesh configuration, applied as objects are read.

Source: istio `pkg/kube/namespace/filter.go`: the root namespace always counts, and every namespaced kind is filtered.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME_LABEL: Final = "kubernetes.io/metadata.name"

Met = dict[str, bool]
"""Namespaces whose objects a reader has met, and whether it passed them on."""


class Listener(Protocol):
    """Who passes objects on by what is selected."""

    @property
    def met(self) -> tuple[str, Met]:
        """Return its cluster, and what it has met; filled by `Selection.take` alone."""

    def list_anew(self) -> None:
        """Read all again: what was met is to be decided otherwise."""


class Selection:
    """Knows the selectors and each cluster's namespaces; safe for many threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._selectors: Sequence[Mapping[str, Any]] = ()
        self._root = ""
        self._is_known = False
        self._labels: dict[tuple[str, str], Mapping[str, str]] = {}
        self._listed: set[str] = set()
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        """Tell it from now on when its decisions are void."""
        with self._changed:
            self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        """Tell it no more."""
        with self._changed:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def note_mesh(self, payload: bytes) -> None:
        """Take in a mesh configuration, in its canonical form."""
        read = json.loads(payload)
        with self._changed:
            self._selectors = read.get("discoverySelectors") or ()
            self._root = read.get("rootNamespace") or ""
            self._tell_void()

    def note_known(self) -> None:
        """The mesh configuration was read for the first time: what was told of it is all there is."""
        with self._changed:
            self._is_known = True
            self._changed.notify_all()

    def note_namespace(self, cluster: str, name: str, text: bytes | None) -> None:
        """Take in a namespace, None for one that is gone: its objects go by themselves."""
        with self._changed:
            if text is None:
                self._labels.pop((cluster, name), None)
                return
            labels = (json.loads(text).get("metadata") or {}).get("labels") or {}
            if self._labels.get((cluster, name)) != labels:
                self._labels[cluster, name] = labels
                self._tell_void()

    def note_listed(self, cluster: str) -> None:
        """All namespaces of a cluster are known."""
        with self._changed:
            self._listed.add(cluster)
            self._changed.notify_all()

    def wait_ready(self, cluster: str, seconds: float) -> bool:
        """Wait until it can be said of each namespace of a cluster whether it counts."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._is_known and (not self._selectors or cluster in self._listed), seconds
            )

    def take(self, listener: Listener, namespace: str) -> bool:
        """Return whether an object of a namespace is passed on by a reader, and remember that it was met."""
        with self._changed:
            cluster, met = listener.met
            met[namespace] = self._is_selected(cluster, namespace)
            return met[namespace]

    def forget(self, listener: Listener) -> None:
        """Forget what a reader has met: it begins anew."""
        with self._changed:
            listener.met[1].clear()

    def is_chosen(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Return whether a namespace with these labels counts."""
        with self._changed:
            return self._chooses(namespace, labels)

    def _is_selected(self, cluster: str, namespace: str) -> bool:
        return self._chooses(namespace, self._labels.get((cluster, namespace), {}))

    def _chooses(self, namespace: str, labels: Mapping[str, str]) -> bool:
        if not self._selectors or namespace == self._root:
            return True
        named = {_NAME_LABEL: namespace, **labels}
        return any(is_match(each, named) for each in self._selectors)

    def _tell_void(self) -> None:
        for listener in self._listeners:
            cluster, met = listener.met
            if any(self._is_selected(cluster, each) != was for each, was in met.items()):
                listener.list_anew()


def is_match(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether Kubernetes' label selector matches; an empty one matches all."""
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(name) != text for name, text in wanted.items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    present = labels.get(expression.get("key", ""))
    values = expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return present in values
        case "NotIn":
            return present not in values
        case "Exists":
            return present is not None
        case "DoesNotExist":
            return present is None
    return False
