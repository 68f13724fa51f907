"""ProxyConfig (networking.istio.io): settings of proxies that take effect when a pod is injected.

Source: istio.io/api networking/v1beta1/proxy_config.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch.crds.schema import matching, message, proxy_config, rules

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults


class ProxyConfig(message.Message):
    """The spec of a ProxyConfig."""

    selector: matching.WorkloadSelector | None = None
    concurrency: message.Int32 | None = None
    environment_variables: message.StringMap = message.EMPTY
    image: proxy_config.Image | None = None


SPEC = ProxyConfig


def check(spec: ProxyConfig, _: envelope.Metadata, found: faults.Faults) -> None:
    """The selector is one; concurrency is not negative."""
    rules.check_attachment(spec.selector, None, (), found)
    if spec.concurrency is not None and spec.concurrency < 0:
        found.add(
            ("spec", "concurrency"), "out-of-range", "must not be negative; 0 means all cores"
        )
