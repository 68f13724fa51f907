//! Ports that a service may not take, since the proxy itself listens there.
//!
//! Source: istio `pilot/pkg/model/context.go` `CanBindToPort`.

use navarch_model::{MeshConfig, ServicePort};
use navarch_snapshot::NodeGroup;

use super::facts::ip_mode;

/// Whether a listener for the port may be there.
pub(super) fn is_free(
    group: &NodeGroup,
    mesh: &MeshConfig,
    is_bound: bool,
    bind: &str,
    port: &ServicePort,
) -> bool {
    if is_bound && port.number < 1024 && group.metadata.unprivileged_pod {
        return false;
    }
    // Only a listener on all addresses meets the proxy's own ones; HTTP without a bind is one.
    let is_on_all = if bind.is_empty() {
        port.protocol.is_http()
    } else {
        bind == ip_mode(group).wildcards()[0]
    };
    let is_own = |text: &str| text.parse() == Ok(port.number);
    !is_on_all
        || !(is_own(&group.metadata.envoy_status_port)
            || is_own(&group.metadata.envoy_prometheus_port)
            || port.number == mesh.proxy_listen_port
            || port.number == mesh.proxy_inbound_listen_port)
}
