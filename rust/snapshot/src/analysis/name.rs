//! Names that are made of others and come out too long.

use navarch_model::{DestinationRule, Hostname, Kind, Service};

use super::{Findings, key_of};
use crate::MeshSnapshot;

/// A server name in a TLS handshake is a DNS name, of at most so many bytes (RFC 1035, 2.3.4).
const MAX_SERVER_NAME: usize = 253;

/// Between networks and through east-west gateways a cluster is told by `outbound_.port_.subset_.host` as SNI.
pub(super) fn check(mesh: &MeshSnapshot, told: &mut Findings) {
    for rule in &mesh.analysis.written.destination_rules {
        let namespace = &rule.metadata.namespace;
        let host = Hostname::resolve(&rule.spec.host, namespace, &mesh.domain_suffix);
        for service in mesh.services_of_host(host.as_str()) {
            check_subsets(rule, service, told);
        }
    }
}

fn check_subsets(rule: &DestinationRule, service: &Service, told: &mut Findings) {
    let host = service.hostname.as_str();
    let ports = service.ports.iter().map(|port| port.number);
    let Some(port) = ports.max() else {
        return;
    };
    for (i, subset) in rule.spec.subsets.iter().enumerate() {
        let name = format!("outbound_.{port}_.{}_.{host}", subset.name);
        if name.len() > MAX_SERVER_NAME {
            let message = format!(
                "makes the server name `{name}` of {} bytes, and TLS takes {MAX_SERVER_NAME}: clients of other networks \
                 can't reach the subset; shorten it",
                name.len()
            );
            let path = format!("spec.subsets[{i}].name");
            let key = key_of(Kind::DestinationRule, &rule.metadata);
            told.warn(key, "overlong-name", path, message);
        }
    }
}
