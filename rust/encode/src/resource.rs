//! One encoded resource, and what encode needs to know of each resource type.

use std::sync::Arc;

use bytes::Bytes;
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use navarch_envoy::envoy::config::core::v3::TypedExtensionConfig;
use navarch_envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use navarch_envoy::envoy::config::listener::v3::filter::ConfigType;
use navarch_envoy::envoy::config::listener::v3::{Filter, Listener};
use navarch_envoy::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::Secret;
use navarch_envoy::field::envoy::extensions::filters::network::http_connection_manager::v3::{
    http_connection_manager, rds,
};
use navarch_envoy::istio::networking::nds::v1::NameTable;
use navarch_envoy::wire::find_field;
use navarch_model::Diagnostic;
use navarch_translate::{Encoded, References};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use prost::{Message, Name};

use crate::version::Version;

const HTTP_CONNECTION_MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// One resource as it goes on the wire.
///
/// Made through [`crate::ResourceCache`], so that equal resources are one allocation.
#[derive(Debug)]
pub struct EncodedResource {
    /// The name by which it is subscribed to.
    pub name: Arc<str>,
    /// The hash of [`Self::any`].
    pub version: Version,
    /// The encoded `google.protobuf.Any` that holds the message.
    pub any: Bytes,
    /// The names that it makes Envoy ask for: a cluster's endpoints, a listener's routes; of a route configuration in
    /// pieces its own, under which its virtual hosts are. Sorted.
    pub references: Box<[Arc<str>]>,
    /// What the builder had to say of the objects it was made from.
    pub diagnostics: Box<[Diagnostic]>,
}

impl EncodedResource {
    /// Encode a message, outside any cache.
    pub fn encode<B: Body>(body: &B) -> Self {
        let name = body.name();
        let mut references = body.body_references(&name);
        references.sort_unstable();
        references.dedup();
        let any = Bytes::from(encode_any(body));
        Self {
            name,
            version: Version::of_bytes(&any),
            any,
            references: references.into(),
            diagnostics: Box::default(),
        }
    }

    /// The message's own bytes, without the `Any` around them.
    pub fn message_bytes(&self) -> Vec<u8> {
        navarch_envoy::Any::decode(self.any.clone())
            .map(|any| any.value)
            .unwrap_or_default()
    }
}

fn encode_any<B: Body>(body: &B) -> Vec<u8> {
    let (url, value_len) = (B::TYPE_URL.as_str(), body.body_len());
    let len = |n: usize| 1 + encoded_len_varint(n as u64) + n;
    let mut out = Vec::with_capacity(len(url.len()) + len(value_len));
    encode_key(1, WireType::LengthDelimited, &mut out);
    encode_varint(url.len() as u64, &mut out);
    out.extend_from_slice(url.as_bytes());
    encode_key(2, WireType::LengthDelimited, &mut out);
    encode_varint(value_len as u64, &mut out);
    body.write_body(&mut out);
    out
}

/// What becomes a resource: a message, or its bytes where the builder writes them itself.
pub trait Body {
    /// Its resource type.
    const TYPE_URL: TypeUrl;

    /// The name by which it is subscribed to.
    fn name(&self) -> Arc<str>;

    /// How many bytes the message has.
    fn body_len(&self) -> usize;

    /// Write the message.
    fn write_body(&self, out: &mut Vec<u8>);

    /// The names of the resources of the next type that it makes Envoy ask for over ADS, in any order.
    fn body_references(&self, name: &Arc<str>) -> Vec<Arc<str>>;
}

impl<M: Resource> Body for M {
    const TYPE_URL: TypeUrl = M::TYPE;

    fn name(&self) -> Arc<str> {
        self.resource_name().into()
    }

    fn body_len(&self) -> usize {
        self.encoded_len()
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        self.encode_raw(out);
    }

    fn body_references(&self, _: &Arc<str>) -> Vec<Arc<str>> {
        let mut references = Vec::new();
        self.visit_references(&mut |name| references.push(name.into()));
        references
    }
}

impl<M: Resource> Body for Encoded<M> {
    const TYPE_URL: TypeUrl = M::TYPE;

    fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    fn body_len(&self) -> usize {
        self.bytes.len()
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn body_references(&self, name: &Arc<str>) -> Vec<Arc<str>> {
        match &self.references {
            References::Nothing => Vec::new(),
            References::SameName => vec![name.clone()],
            References::Names(names) => names.clone(),
        }
    }
}

/// A message that is a resource of the discovery services.
pub trait Resource: Message + Name + Default {
    /// Its resource type.
    const TYPE: TypeUrl;

    /// The name by which it is subscribed to.
    fn resource_name(&self) -> &str;

    /// Tell the names of the resources of the next type that this one makes Envoy ask for over ADS.
    fn visit_references(&self, _visit: &mut dyn FnMut(&str)) {}
}

impl Resource for Cluster {
    const TYPE: TypeUrl = TypeUrl::Cluster;

    fn resource_name(&self) -> &str {
        &self.name
    }

    fn visit_references(&self, visit: &mut dyn FnMut(&str)) {
        let is_eds = matches!(
            self.cluster_discovery_type,
            Some(ClusterDiscoveryType::Type(t)) if t == i32::from(DiscoveryType::Eds)
        );
        if is_eds {
            let service = self
                .eds_cluster_config
                .as_ref()
                .map_or("", |c| c.service_name.as_str());
            visit(if service.is_empty() {
                &self.name
            } else {
                service
            });
        }
    }
}

impl Resource for ClusterLoadAssignment {
    const TYPE: TypeUrl = TypeUrl::Endpoint;

    fn resource_name(&self) -> &str {
        &self.cluster_name
    }
}

impl Resource for Listener {
    const TYPE: TypeUrl = TypeUrl::Listener;

    fn resource_name(&self) -> &str {
        &self.name
    }

    fn visit_references(&self, visit: &mut dyn FnMut(&str)) {
        let chains = self.filter_chains.iter().chain(&self.default_filter_chain);
        for filter in chains.flat_map(|chain| &chain.filters) {
            if let Some(name) = route_config_name(filter) {
                visit(name);
            }
        }
    }
}

/// The route configuration that an HTTP connection manager fetches by RDS.
fn route_config_name(filter: &Filter) -> Option<&str> {
    let Some(ConfigType::TypedConfig(config)) = &filter.config_type else {
        return None;
    };
    if config.type_url.rsplit('/').next() != Some(HTTP_CONNECTION_MANAGER) {
        return None;
    }
    let rds = find_field(&config.value, http_connection_manager::RDS)?;
    std::str::from_utf8(find_field(rds, rds::ROUTE_CONFIG_NAME)?).ok()
}

impl Resource for RouteConfiguration {
    const TYPE: TypeUrl = TypeUrl::Route;

    fn resource_name(&self) -> &str {
        &self.name
    }

    fn visit_references(&self, visit: &mut dyn FnMut(&str)) {
        if self.vhds.is_some() {
            visit(&self.name);
        }
    }
}

impl Resource for VirtualHost {
    const TYPE: TypeUrl = TypeUrl::VirtualHost;

    fn resource_name(&self) -> &str {
        &self.name
    }
}

impl Resource for NameTable {
    const TYPE: TypeUrl = TypeUrl::NameTable;

    /// Istio's agent knows one table, without a name.
    fn resource_name(&self) -> &'static str {
        ""
    }
}

impl Resource for TypedExtensionConfig {
    const TYPE: TypeUrl = TypeUrl::ExtensionConfig;

    fn resource_name(&self) -> &str {
        &self.name
    }
}

impl Resource for Secret {
    const TYPE: TypeUrl = TypeUrl::Secret;

    fn resource_name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use navarch_envoy::Any;
    use navarch_envoy::any::{pack, unpack};
    use navarch_envoy::envoy::config::cluster::v3::Cluster;
    use navarch_envoy::envoy::config::cluster::v3::cluster::{
        ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
    };
    use navarch_envoy::envoy::config::listener::v3::filter::ConfigType;
    use navarch_envoy::envoy::config::listener::v3::{Filter, FilterChain, Listener};
    use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
        HttpConnectionManager, Rds, http_connection_manager::RouteSpecifier,
    };
    use prost::Message;

    use super::EncodedResource;

    fn eds_cluster(service_name: &str) -> Cluster {
        Cluster {
            name: "c".into(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
            eds_cluster_config: Some(EdsClusterConfig {
                service_name: service_name.into(),
                ..EdsClusterConfig::default()
            }),
            ..Cluster::default()
        }
    }

    fn references(resource: &EncodedResource) -> Vec<&str> {
        resource.references.iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn any_is_encoded_as_prost_does() {
        let cluster = eds_cluster("s");
        let resource = EncodedResource::encode(&cluster);
        let any = Any::decode(resource.any.clone()).unwrap();
        assert_eq!(any, pack(&cluster));
        assert_eq!(unpack::<Cluster>(&any), Some(cluster.clone()));
        assert_eq!(resource.message_bytes(), cluster.encode_to_vec());
    }

    #[test]
    fn a_cluster_refers_to_its_endpoints() {
        assert_eq!(
            references(&EncodedResource::encode(&eds_cluster("s"))),
            ["s"]
        );
        assert_eq!(
            references(&EncodedResource::encode(&eds_cluster(""))),
            ["c"]
        );
        let other = Cluster {
            name: "static".into(),
            ..Cluster::default()
        };
        assert_eq!(
            references(&EncodedResource::encode(&other)),
            Vec::<&str>::new()
        );
    }

    #[test]
    fn a_listener_refers_to_its_routes_once() {
        let hcm = HttpConnectionManager {
            route_specifier: Some(RouteSpecifier::Rds(Rds {
                route_config_name: "80".into(),
                ..Rds::default()
            })),
            ..HttpConnectionManager::default()
        };
        let filter = Filter {
            config_type: Some(ConfigType::TypedConfig(pack(&hcm))),
            ..Filter::default()
        };
        let chain = FilterChain {
            filters: vec![filter],
            ..FilterChain::default()
        };
        let listener = Listener {
            filter_chains: vec![chain.clone()],
            default_filter_chain: Some(chain),
            ..Listener::default()
        };
        assert_eq!(references(&EncodedResource::encode(&listener)), ["80"]);
    }
}
