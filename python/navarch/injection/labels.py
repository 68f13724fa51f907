"""Kubernetes' label selectors, and whether a pod's labels and its namespace's ask for a proxy."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Literal

from navarch.crds.schema import message

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMESPACE_LABEL: Final = "istio-injection"
REVISION_LABEL: Final = "istio.io/rev"
POD_LABEL: Final = "sidecar.istio.io/inject"
DEFAULT_REVISION: Final = "default"

_YES: Final = frozenset({"y", "yes", "true", "on"})
"""YAML 1.1's words for true, as Istio reads them."""


class Requirement(message.Message):
    """One of a selector's expressions."""

    key: str = ""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = "In"
    values: message.Listed[str] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels fulfil it; as in Kubernetes, NotIn holds where the label is missing."""
        if self.operator == "Exists":
            return self.key in labels
        if self.operator == "DoesNotExist":
            return self.key not in labels
        return (labels.get(self.key) in self.values) == (self.operator == "In")


class Selector(message.Message):
    """A label selector; an empty one matches everything."""

    match_labels: message.StringMap = message.EMPTY
    match_expressions: message.Listed[Requirement] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels fulfil all of it."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            expression.matches(labels) for expression in self.match_expressions
        )

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not self.match_labels and not self.match_expressions


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """Whether labels ask for a proxy, and which label said so."""

    is_wanted: bool
    reason: str


def read_wish(text: str) -> bool:
    """Read the value of `sidecar.istio.io/inject`; whatever is no yes is a no."""
    return text.lower() in _YES


def ask_labels(
    namespace: Mapping[str, str], pod: Mapping[str, str], revision: str = DEFAULT_REVISION
) -> Asked:
    """Say whether the webhook of a revision gets to see a pod.

    The order is that of the selectors in the MutatingWebhookConfiguration (deploy/chart): a pod that says no wins;
    then the namespace's labels, of which `istio-injection` hides `istio.io/rev`; then the pod's own.
    """
    if pod.get(POD_LABEL) == "false":
        return Asked(is_wanted=False, reason=f"its label {POD_LABEL} is false")
    is_default = revision == DEFAULT_REVISION
    switch = namespace.get(NAMESPACE_LABEL)
    if switch is not None:
        is_wanted = is_default and switch == "enabled"
        return Asked(is_wanted, f"its namespace has {NAMESPACE_LABEL}={switch}")
    wanted = namespace.get(REVISION_LABEL)
    if wanted is not None:
        return Asked(wanted == revision, f"its namespace has {REVISION_LABEL}={wanted}")
    wanted = pod.get(REVISION_LABEL)
    if wanted is not None:
        return Asked(wanted == revision, f"it has the label {REVISION_LABEL}={wanted}")
    if is_default and pod.get(POD_LABEL) == "true":
        return Asked(is_wanted=True, reason=f"its label {POD_LABEL} is true")
    return Asked(is_wanted=False, reason="neither it nor its namespace asks for a proxy")
