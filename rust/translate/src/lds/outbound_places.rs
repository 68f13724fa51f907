//! Where outbound listeners are affected by a change: a part of a sidecar's listeners is made anew, not all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{InterceptionMode, ListenerProtocol, Service, Shared};
use navarch_snapshot::ProxyScope;

use super::facts::ip_mode;
use super::service_address;

/// Some addresses and ports at which a sidecar may have outbound listeners.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutboundPlaces {
    /// Ports, on whatever address.
    pub ports: BTreeSet<u32>,
    /// Addresses by port.
    pub addresses: BTreeMap<u32, BTreeSet<Arc<str>>>,
}

impl OutboundPlaces {
    /// Add where services have their listeners, on top of what is there.
    ///
    /// Where a listener is for an endpoint, the port counts on every address.
    pub fn add_services<'a>(
        &mut self,
        scope: &ProxyScope,
        services: impl Iterator<Item = &'a Shared<Service>>,
    ) {
        let mode = ip_mode(&scope.group);
        for service in services {
            let addresses = service_address::of(service, &scope.group);
            for port in &service.ports {
                let is_shared = addresses.is_empty()
                    || scope.sidecar.is_some()
                    || scope.group.interception == InterceptionMode::None
                    || addresses.iter().any(|address| address.contains('/'));
                if is_shared {
                    self.ports.insert(port.number);
                    continue;
                }
                let known = self.addresses.entry(port.number).or_default();
                if port.protocol.listener_protocol() == ListenerProtocol::Http {
                    known.extend(mode.wildcards().iter().map(|bind| Arc::from(*bind)));
                } else {
                    known.extend(addresses.iter().map(|address| Arc::clone(address)));
                }
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.addresses.is_empty()
    }

    /// Whether any listener on the port is meant.
    pub(super) fn has_port(&self, port: u32) -> bool {
        self.ports.contains(&port) || self.addresses.contains_key(&port)
    }

    /// Whether a listener there is meant.
    pub fn has(&self, port: u32, bind: &Arc<str>) -> bool {
        let known = || self.addresses.get(&port);
        self.ports.contains(&port) || known().is_some_and(|known| known.contains(bind))
    }
}
