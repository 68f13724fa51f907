//! One endpoint as Envoy has it, with the metadata by which telemetry and TLS know it.
//!
//! Source: istio `pilot/pkg/xds/endpoints/endpoint_builder.go` `buildEnvoyLbEndpoint`, pilot/pkg/networking/util/util.go
//! `AppendLbEndpointMetadata`.

use std::collections::BTreeMap;

use navarch_envoy::envoy::config::core::v3::{HealthStatus, Metadata};
use navarch_envoy::envoy::config::endpoint::v3::{
    Endpoint, LbEndpoint, lb_endpoint::HostIdentifier,
};
use navarch_model::{self as model, Health, Labels, Workload};

use super::network::NetworkGateway;
use crate::address::build_address;
use crate::cds::protobuf::{object, text};

const TRANSPORT_SOCKET_METADATA: &str = "envoy.transport_socket_match";
const ISTIO_METADATA: &str = "istio";
const TLS_MODE: &str = "tlsMode";
const MUTUAL_TLS: &str = "istio";

/// One address of an endpoint of a service.
pub(crate) fn build_lb_endpoint(
    endpoint: &model::Endpoint,
    address: &str,
    has_mutual_tls: bool,
) -> LbEndpoint {
    let workload = &*endpoint.workload;
    let (name, revision) = canonical_service(workload);
    let identity = format!(
        "{};{};{name};{revision};{}",
        workload.name, workload.namespace, workload.cluster_id
    );
    LbEndpoint {
        health_status: health_status(endpoint.health) as i32,
        load_balancing_weight: Some(endpoint.weight.unwrap_or(1).max(1)),
        metadata: Some(build_metadata(&identity, has_mutual_tls)),
        host_identifier: Some(host_identifier(address, endpoint.port)),
    }
}

/// A gateway in the place of endpoints of another network.
pub(crate) fn build_gateway_endpoint(
    gateway: &NetworkGateway,
    cluster_id: &str,
    weight: u32,
) -> LbEndpoint {
    let identity = format!(";;;;{cluster_id}");
    LbEndpoint {
        load_balancing_weight: Some(weight),
        metadata: Some(build_metadata(&identity, true)),
        host_identifier: Some(host_identifier(&gateway.address, gateway.port)),
        ..LbEndpoint::default()
    }
}

fn host_identifier(address: &str, port: u32) -> HostIdentifier {
    HostIdentifier::Endpoint(Endpoint {
        address: Some(build_address(address, port)),
        ..Endpoint::default()
    })
}

const fn health_status(health: Health) -> HealthStatus {
    match health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Draining => HealthStatus::Draining,
        Health::Unhealthy | Health::Terminating => HealthStatus::Unhealthy,
        Health::Unknown => HealthStatus::Unknown,
    }
}

fn build_metadata(identity: &str, has_mutual_tls: bool) -> Metadata {
    let mut filter_metadata = BTreeMap::new();
    filter_metadata.insert(
        ISTIO_METADATA.to_owned(),
        object([("workload", text(identity))]),
    );
    if has_mutual_tls {
        let mode = object([(TLS_MODE, text(MUTUAL_TLS))]);
        filter_metadata.insert(TRANSPORT_SOCKET_METADATA.to_owned(), mode);
    }
    Metadata {
        filter_metadata,
        ..Metadata::default()
    }
}

/// Whether a built endpoint is marked for mutual TLS.
pub(crate) fn is_mutual_tls(endpoint: &LbEndpoint) -> bool {
    let metadata = endpoint.metadata.as_ref();
    metadata.is_some_and(|m| m.filter_metadata.contains_key(TRANSPORT_SOCKET_METADATA))
}

/// Name and revision by which telemetry knows a workload; the revision `latest` goes without saying
/// (istio pkg/kube/labels/labels.go `CanonicalService`).
fn canonical_service(workload: &Workload) -> (&str, &str) {
    let labels: &Labels = &workload.labels;
    let first = |keys: &[&str]| {
        keys.iter()
            .find_map(|key| labels.get(*key))
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    };
    let name = first(&[
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ]);
    let revision = first(&[
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ]);
    (
        name.unwrap_or(&workload.name),
        revision.filter(|r| *r != "latest").unwrap_or(""),
    )
}

#[cfg(test)]
mod tests {
    use navarch_model::Workload;

    use super::canonical_service;

    #[test]
    fn a_workload_is_known_by_its_canonical_labels_then_by_its_own() {
        let workload = |labels: &[(&str, &str)]| Workload {
            name: "w".into(),
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..Workload::default()
        };
        assert_eq!(canonical_service(&workload(&[])), ("w", ""));
        assert_eq!(
            canonical_service(&workload(&[("app", "a"), ("version", "v1")])),
            ("a", "v1")
        );
        let latest = workload(&[
            ("service.istio.io/canonical-name", "c"),
            ("app", "a"),
            ("service.istio.io/canonical-revision", "latest"),
        ]);
        assert_eq!(canonical_service(&latest), ("c", ""));
    }
}
