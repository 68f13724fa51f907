"""Small messages that say which: strings, percentages, ports, destinations, selectors, target references."""

from __future__ import annotations

from navarch.crds.schema import message


class StringMatch(message.Message):
    """Exactly one of three ways to match a string; an empty message matches any (presence)."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class Percent(message.Message):
    """A percentage, 0 to 100."""

    value: float = 0.0


class PortSelector(message.Message):
    """A port by number."""

    number: message.UInt32 = 0


class Destination(message.Message):
    """A service, or a subset of one, to which traffic goes."""

    host: str = ""
    subset: str = ""
    port: PortSelector | None = None


class LabelSelector(message.Message):
    """Workloads by labels, as the networking kinds write it (`labels`)."""

    labels: message.StringMap = message.EMPTY


class WorkloadSelector(message.Message):
    """Workloads by labels, as the type package writes it (`matchLabels`)."""

    match_labels: message.StringMap = message.EMPTY


class PolicyTargetReference(message.Message):
    """The Gateway, Service or ServiceEntry to which a policy is attached."""

    group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
