//! Which services a proxy's own workload serves, on which of its ports.
//!
//! Source: istio `pilot/pkg/serviceregistry/kube/controller/controller.go` `GetProxyServiceTargets`.

use navarch_model::{Proxy, Service, ServicePort, Shared, Workload, is_selected};

use crate::MeshSnapshot;

/// A service port that a workload serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceTarget {
    /// The service.
    pub service: Shared<Service>,
    /// The port clients use.
    pub port: ServicePort,
    /// The workload's port.
    pub target_port: u32,
}

impl MeshSnapshot {
    /// The workload at a proxy's address, if a Pod is there.
    pub fn workload_of(&self, proxy: &Proxy) -> Option<&Shared<Workload>> {
        self.owner_of(proxy).map(|owner| &owner.workload)
    }

    /// What a proxy's workload serves: by age of the service, then as the service lists its ports.
    pub fn service_targets(&self, proxy: &Proxy) -> Vec<ServiceTarget> {
        let labels = self.proxy_labels(proxy);
        let selecting = self.services.selecting.get(&proxy.namespace);
        let selecting = selecting.into_iter().flatten();
        let mut served: Vec<(&Shared<Service>, bool)> = selecting
            .filter(|service| is_selected(&service.selector, &labels))
            .map(|service| (service, true))
            .collect();
        let by_address = proxy
            .ip_addresses
            .iter()
            .filter_map(|ip| self.services_by_address.get(ip));
        for key in by_address.flatten() {
            let is_known = served.iter().any(|(service, _)| key.is_of(service));
            if let Some(service) = self.find_service(key).filter(|_| !is_known) {
                served.push((service, false));
            }
        }
        served.sort_by(|(a, _), (b, _)| (a.age(), &a.hostname).cmp(&(b.age(), &b.hostname)));
        let mut targets = Vec::new();
        for (service, is_by_selector) in served {
            if is_by_selector {
                self.add_selected(proxy, service, &mut targets);
            } else {
                self.add_by_address(proxy, service, &mut targets);
            }
        }
        targets
    }

    fn add_selected(
        &self,
        proxy: &Proxy,
        service: &Shared<Service>,
        targets: &mut Vec<ServiceTarget>,
    ) {
        let owner = self.owner_of(proxy);
        for port in &service.ports {
            let by_name = || {
                let name = port.target_port_name.as_ref()?;
                owner.and_then(|owner| owner.ports.get(&**name).copied())
            };
            if let Some(target_port) = port.target_port.or_else(by_name) {
                targets.push(ServiceTarget {
                    service: service.clone(),
                    port: port.clone(),
                    target_port,
                });
            }
        }
    }

    fn add_by_address(
        &self,
        proxy: &Proxy,
        service: &Shared<Service>,
        targets: &mut Vec<ServiceTarget>,
    ) {
        let endpoints = self.endpoints(service);
        for port in &service.ports {
            let own = endpoints.of_port(&port.name).find(|endpoint| {
                endpoint
                    .addresses
                    .iter()
                    .any(|address| proxy.ip_addresses.contains(address))
            });
            if let Some(own) = own {
                targets.push(ServiceTarget {
                    service: service.clone(),
                    port: port.clone(),
                    target_port: own.port,
                });
            }
        }
    }
}
