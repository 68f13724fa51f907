//! The addresses by which a group's proxies know a service.
//!
//! Source: istio `pilot/pkg/model/service.go` `GetAddressForProxy`.

use std::sync::Arc;

use navarch_model::{Registry, Service};
use navarch_snapshot::NodeGroup;

/// Addresses and ranges that clients connect to; none when the service has no address of its own.
///
/// Allocated ones count where the proxy captures DNS: only its own name table tells them.
pub(super) fn of<'s>(service: &'s Service, group: &NodeGroup) -> Vec<&'s Arc<str>> {
    let metadata = &group.metadata;
    let has_allocated = metadata.dns_capture;
    let own = match &service.addresses[..] {
        [] if has_allocated => &service.auto_allocated_addresses,
        // Each address of a ServiceEntry stands for itself; a Service has one per family.
        [_, ..] if service.registry == Registry::External => {
            return service.addresses.iter().collect();
        }
        _ => &service.addresses,
    };
    let is_usable = |ip: &&Arc<str>| {
        if ip.contains(':') {
            group.has_ipv6
        } else {
            group.has_ipv4
        }
    };
    let chosen = own.iter().find(is_usable).or_else(|| own.first());
    chosen.into_iter().collect()
}
