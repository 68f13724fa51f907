//! The `istio` metadata of clusters, by which telemetry and Istio's filters know them.
//!
//! Source: istio pilot/pkg/networking/util/util.go `AddConfigInfoMetadata`, `core/cluster_builder.go`.

use std::sync::LazyLock;

use navarch_envoy::any;
use navarch_envoy::envoy::config::cluster::v3::Filter;
use navarch_envoy::envoy::config::core::v3::Metadata;
use navarch_envoy::field::google::protobuf::{list_value, value};
use navarch_envoy::udpa::r#type::v1::TypedStruct;
use navarch_envoy::wire::Writer;
use navarch_model::{DestinationRule, Registry, Service};
use prost::Message;

use super::protobuf::{boolean, object, text};
use crate::istio_metadata::{write_config, write_entry, write_metadata, write_text};

/// Any field: metadata are a message of their own where they are built alone.
const ANY_FIELD: u32 = 1;

/// A cluster's `istio` metadata.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ClusterMetadata<'a> {
    /// Istio's ALPN filter must leave the TLS context alone: it is not the mesh's.
    pub(super) is_alpn_kept: bool,
    /// The rule that shaped the cluster.
    pub(super) rule: Option<&'a DestinationRule>,
    /// The service is outside of the mesh.
    pub(super) is_external: bool,
    /// The subset, or "".
    pub(super) subset: &'a str,
}

impl ClusterMetadata<'_> {
    /// Write it with the services that the cluster is of; nothing where there is nothing to tell.
    ///
    /// Keys come in their order, as in any map.
    pub(super) fn write<'s>(
        &self,
        number: u32,
        mut services: impl Iterator<Item = &'s Service>,
        out: &mut Writer,
    ) {
        let first = services.next();
        let is_silent = first.is_none()
            && self.rule.is_none()
            && self.subset.is_empty()
            && !(self.is_alpn_kept || self.is_external);
        if is_silent {
            return;
        }
        write_metadata(number, out, |object| {
            self.write_before_services(object);
            if let Some(first) = first {
                write_services(std::iter::once(first).chain(services), object);
            }
            if !self.subset.is_empty() {
                write_text("subset", &[self.subset], object);
            }
        });
    }

    fn write_before_services(&self, object: &mut Writer) {
        if self.is_alpn_kept {
            write_text("alpn_override", &["false"], object);
        }
        if let Some(rule) = self.rule {
            let metadata = &rule.metadata;
            let name = (&*metadata.namespace, &*metadata.name);
            write_config("destination-rule", name, object);
        }
        if self.is_external {
            write_entry("external", object, |value| value.flag(value::BOOL_VALUE));
        }
    }

    /// As a message.
    pub(super) fn build<'s>(
        &self,
        services: impl Iterator<Item = &'s Service>,
    ) -> Option<Metadata> {
        let mut out = Writer::default();
        self.write(ANY_FIELD, services, &mut out);
        let metadata = navarch_envoy::wire::find_field(out.as_slice(), ANY_FIELD)?;
        Metadata::decode(metadata).ok()
    }
}

fn write_services<'s>(services: impl Iterator<Item = &'s Service>, object: &mut Writer) {
    write_entry("services", object, |value| {
        value.message(value::LIST_VALUE, |list| {
            for service in services {
                list.message(list_value::VALUES, |value| {
                    value.message(value::STRUCT_VALUE, |object| {
                        write_text("host", &[service.hostname.as_str()], object);
                        write_text("name", &[service_name(service)], object);
                        write_text("namespace", &[&service.namespace], object);
                    });
                });
            }
        });
    });
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
