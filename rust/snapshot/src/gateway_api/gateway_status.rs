//! Where a Gateway is found: its Services, and whether they have its ports.
//!
//! Source: istio `pilot/pkg/config/kube/gatewaycommon/context.go` `ResolveGatewayInstances`.

use navarch_model::gateway_api::KubernetesGateway;
use navarch_model::{
    ConfigKey, GatewayServices, Hostname, Kind, KubernetesService, LoadBalancerIngress, Server,
};

use super::GatewayApiInputs;
use super::condition::{Condition, Fault, Reason, join_words};
use super::status::{ObjectStatus, StatusAddress, StatusContent};

/// Whether proxies serve every port: every Service must exist and have them.
pub(super) fn address_conditions(
    inputs: &GatewayApiInputs<'_>,
    services: &GatewayServices,
    servers: &[Server],
) -> Condition {
    let mut assigned = Vec::new();
    let mut warnings = Vec::new();
    let mut is_every_service_known = true;
    for host in &services.hosts {
        let Some(service) = find_service(inputs, services, host) else {
            is_every_service_known = false;
            warnings.push(format!("hostname \"{host}\" not found"));
            continue;
        };
        for server in servers {
            let number = server.port.number;
            let place = format!("{host}:{number}");
            if service.spec.ports.iter().any(|port| port.port == number) {
                if !assigned.contains(&place) {
                    assigned.push(place);
                }
            } else {
                let warning = format!("port {number} not found for hostname \"{host}\"");
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
    }
    let words = join_words(&assigned);
    let reason = if is_every_service_known {
        Reason::AddressNotAssigned
    } else {
        Reason::AddressNotUsable
    };
    let fault = if services.hosts.is_empty() {
        let message = "Failed to assign to any requested addresses";
        Some(Fault::new(Reason::UnsupportedAddress, message))
    } else if warnings.is_empty() {
        None
    } else if assigned.is_empty() {
        let warnings = warnings.join("; ");
        let message = format!("Failed to assign to any requested addresses: {warnings}");
        Some(Fault::new(reason, message))
    } else {
        let warnings = warnings.join("; ");
        let message = format!(
            "Assigned to service(s) {words}, but failed to assign to all requested addresses: {warnings}"
        );
        Some(Fault::new(reason, message))
    };
    let good = if assigned.is_empty() {
        "Resource programmed".to_owned()
    } else {
        format!("Resource programmed, assigned to service(s) {words}")
    };
    Condition::positive("Programmed", (Reason::Programmed, &good), fault)
}

/// The addresses of its Services' load balancers, else their host names.
pub(super) fn addresses_of(
    inputs: &GatewayApiInputs<'_>,
    services: &GatewayServices,
) -> Vec<StatusAddress> {
    let mut external = Vec::new();
    let mut internal = Vec::new();
    for host in &services.hosts {
        let Some(service) = find_service(inputs, services, host) else {
            continue;
        };
        internal.push(host.as_str().to_owned());
        external.extend(external_addresses(service));
    }
    let addresses = if external.is_empty() {
        internal
    } else {
        external
    };
    addresses.into_iter().map(StatusAddress::new).collect()
}

/// Where a Service is found from outside: its load balancer, and addresses that were written.
pub(crate) fn external_addresses(service: &KubernetesService) -> Vec<String> {
    let balancer = service.status.load_balancer.ingress.iter();
    let address = |ingress: &LoadBalancerIngress| {
        let address = if ingress.ip.is_empty() {
            &ingress.hostname
        } else {
            &ingress.ip
        };
        address.clone()
    };
    let written = service.spec.external_ips.iter().cloned();
    balancer.map(address).chain(written).collect()
}

/// The status of a Gateway that another mesh runs.
pub(super) fn unmanaged_status(gateway: &KubernetesGateway) -> ObjectStatus {
    let metadata = &gateway.metadata;
    let remote = "This Gateway is remote; Istio will not program it";
    let addresses = gateway.spec.addresses.iter().map(|address| StatusAddress {
        is_ip: address.address_type.as_deref() != Some("Hostname"),
        value: address.value.clone(),
    });
    ObjectStatus {
        key: ConfigKey::new(Kind::KubernetesGateway, &metadata.namespace, &metadata.name),
        content: StatusContent::Listeners {
            conditions: vec![
                Condition::positive("Accepted", (Reason::Accepted, "Resource accepted"), None),
                Condition::positive("Programmed", (Reason::Programmed, remote), None),
            ],
            addresses: addresses.collect(),
            listeners: Vec::new(),
        },
    }
}

fn find_service<'a>(
    inputs: &GatewayApiInputs<'a>,
    services: &GatewayServices,
    host: &Hostname,
) -> Option<&'a KubernetesService> {
    let namespace = services.namespace.as_str();
    let suffix = format!(".{namespace}.svc.{}", inputs.domain_suffix);
    let name = host.as_str().strip_suffix(&suffix)?;
    let service = inputs.services.get(&(namespace.into(), name.into()))?;
    Some(service)
}
