//! The `istio` metadata of clusters, by which telemetry and Istio's filters know them.
//!
//! Source: istio pilot/pkg/networking/util/util.go `AddConfigInfoMetadata`, `core/cluster_builder.go`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use navarch_envoy::any;
use navarch_envoy::envoy::config::cluster::v3::Filter;
use navarch_envoy::envoy::config::core::v3;
use navarch_envoy::udpa::r#type::v1::TypedStruct;
use navarch_model::{DestinationRule, Registry, Service};
use prost_types::{Struct, Value};

use super::protobuf::{boolean, list, object, object_value, text};

const ISTIO_METADATA: &str = "istio";

/// The fields of a cluster's `istio` metadata, gathered.
#[derive(Debug, Clone, Default)]
pub(super) struct ClusterMetadata(BTreeMap<String, Value>);

impl ClusterMetadata {
    fn set(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    /// The services that the cluster is of.
    pub(super) fn set_services<'a>(&mut self, services: impl Iterator<Item = &'a Service>) {
        let services = services.map(|service| {
            object_value([
                ("host", text(service.hostname.as_str())),
                ("name", text(service_name(service))),
                ("namespace", text(&service.namespace)),
            ])
        });
        self.set("services", list(services.collect()));
    }

    /// The rule that shaped the cluster.
    pub(super) fn set_rule(&mut self, rule: &DestinationRule) {
        let (namespace, name) = (&rule.metadata.namespace, &rule.metadata.name);
        let path =
            format!("/apis/networking.istio.io/v1/namespaces/{namespace}/destination-rule/{name}");
        self.set("config", text(&path));
    }

    /// The subset.
    pub(super) fn set_subset(&mut self, name: &str) {
        self.set("subset", text(name));
    }

    /// The service is outside of the mesh.
    pub(super) fn set_external(&mut self) {
        self.set("external", boolean(true));
    }

    /// Istio's ALPN filter must leave the TLS context alone: it is not the mesh's.
    pub(super) fn set_alpn_kept(&mut self) {
        self.set("alpn_override", text("false"));
    }

    /// As Envoy has it; nothing when nothing was set.
    pub(super) fn finish(self) -> Option<v3::Metadata> {
        (!self.0.is_empty()).then(|| v3::Metadata {
            filter_metadata: [(ISTIO_METADATA.to_owned(), Struct { fields: self.0 })].into(),
            ..v3::Metadata::default()
        })
    }
}

/// The name under which telemetry knows a service: a Kubernetes Service's own, else its host.
fn service_name(service: &Service) -> &str {
    match service.registry {
        Registry::Kubernetes => &service.name,
        Registry::External => service.hostname.as_str(),
    }
}

/// Istio's filter that exchanges metadata over TCP; only its Envoy build has it.
pub(super) fn metadata_exchange() -> Filter {
    static FILTER: LazyLock<Filter> = LazyLock::new(build_metadata_exchange);
    FILTER.clone()
}

fn build_metadata_exchange() -> Filter {
    let settings = TypedStruct {
        type_url: "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange".into(),
        value: Some(object([
            ("enable_discovery", boolean(true)),
            ("protocol", text("istio-peer-exchange")),
        ])),
    };
    Filter {
        name: "istio.metadata_exchange".into(),
        typed_config: Some(any::pack(&settings)),
        ..Filter::default()
    }
}
