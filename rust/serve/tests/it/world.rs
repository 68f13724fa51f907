//! Hand-made snapshots: a world is a map from (type, name) to a revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_encode::{EncodedResource, ResourceCache, ResourcePart, ResourceSnapshot};
use navarch_envoy::TypeUrl;
use navarch_envoy::any::pack;
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use navarch_envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use navarch_envoy::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use navarch_envoy::envoy::config::listener::v3::filter::ConfigType;
use navarch_envoy::envoy::config::listener::v3::{Filter, FilterChain, Listener};
use navarch_envoy::envoy::config::route::v3::RouteConfiguration;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, Rds, http_connection_manager::RouteSpecifier,
};

/// The types that the tests use, in push order.
pub(crate) const TYPES: [TypeUrl; 4] = [
    TypeUrl::Cluster,
    TypeUrl::Endpoint,
    TypeUrl::Listener,
    TypeUrl::Route,
];

/// What exists, in which revision.
pub(crate) type World = BTreeMap<(TypeUrl, String), u8>;

/// A world in which `names` of all types exist in `revision`.
pub(crate) fn world(names: &[&str], revision: u8) -> World {
    let all = TYPES
        .into_iter()
        .flat_map(|t| names.iter().map(move |n| ((t, (*n).to_owned()), revision)));
    all.collect()
}

/// One resource. A cluster refers to the endpoints of its name, a listener to the routes of its name.
pub(crate) fn resource(
    cache: &ResourceCache,
    type_url: TypeUrl,
    name: &str,
    revision: u8,
) -> Arc<EncodedResource> {
    match type_url {
        TypeUrl::Cluster => cache.encode(&Cluster {
            name: name.into(),
            alt_stat_name: revision.to_string(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
            ..Cluster::default()
        }),
        TypeUrl::Endpoint => cache.encode(&ClusterLoadAssignment {
            cluster_name: name.into(),
            policy: Some(Policy {
                overprovisioning_factor: Some(u32::from(revision)),
                ..Policy::default()
            }),
            ..ClusterLoadAssignment::default()
        }),
        TypeUrl::Listener => cache.encode(&listener(name, revision)),
        TypeUrl::Route => cache.encode(&RouteConfiguration {
            name: name.into(),
            response_headers_to_remove: vec![revision.to_string()],
            ..RouteConfiguration::default()
        }),
        other => unreachable!("the tests have no {other}"),
    }
}

fn listener(name: &str, revision: u8) -> Listener {
    let rds = Rds {
        route_config_name: name.into(),
        ..Rds::default()
    };
    let hcm = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        ..HttpConnectionManager::default()
    };
    let config_type = Some(ConfigType::TypedConfig(pack(&hcm)));
    let filters = vec![Filter {
        config_type,
        ..Filter::default()
    }];
    Listener {
        name: name.into(),
        stat_prefix: revision.to_string(),
        filter_chains: vec![FilterChain {
            filters,
            ..FilterChain::default()
        }],
        ..Listener::default()
    }
}

/// The snapshot of a world; names that begin with `o` are the proxy's own.
pub(crate) fn snapshot(world: &World, cache: &ResourceCache) -> Arc<ResourceSnapshot> {
    let (mut shared, mut own) = (ResourcePart::default(), ResourcePart::default());
    for t in TYPES {
        let of_type = world.iter().filter(|((type_url, _), _)| *type_url == t);
        let (mine, ours): (Vec<_>, Vec<_>) =
            of_type.partition(|((_, name), _)| name.starts_with('o'));
        let encode = |items: Vec<(&(TypeUrl, String), &u8)>| {
            items
                .into_iter()
                .map(|((_, name), r)| resource(cache, t, name, *r))
                .collect()
        };
        own.set_items(t, encode(mine));
        shared.set_items(t, encode(ours));
    }
    Arc::new(ResourceSnapshot::new(&shared, &own))
}
