//! Finds in encoded resources what an Envoy would subscribe to next.

use crate::protobuf::{Fields, Value, all_bytes, find_bytes};

/// `Cluster.DiscoveryType.EDS`.
const TYPE_EDS: u64 = 3;
const HCM_TYPE_NAME: &[u8] =
    b"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// The name of a cluster, listener, route configuration or load assignment: field 1 of each.
pub(crate) fn find_name(resource: &[u8]) -> Option<&[u8]> {
    find_bytes(resource, 1)
}

/// What an EDS cluster asks EDS for.
pub(crate) fn find_eds_name(cluster: &[u8]) -> Option<&[u8]> {
    let (mut name, mut service_name, mut is_eds) = (None, None, false);
    for field in Fields(cluster) {
        match field {
            (1, Value::Bytes(bytes)) => name = Some(bytes),
            (2, Value::Varint(kind)) => is_eds = kind == TYPE_EDS,
            (3, Value::Bytes(eds)) => service_name = find_bytes(eds, 2),
            _ => {}
        }
    }
    if is_eds { service_name.or(name) } else { None }
}

/// Whether a route configuration has Envoy ask for its virtual hosts (VHDS).
pub(crate) fn is_in_pieces(route_configuration: &[u8]) -> bool {
    find_bytes(route_configuration, 9).is_some()
}

/// The route configurations that a listener's connection managers ask RDS for.
pub(crate) fn find_route_names(listener: &[u8], mut found: impl FnMut(&[u8])) {
    let chains = Fields(listener).filter_map(|field| match field {
        (3 | 25, Value::Bytes(chain)) => Some(chain),
        _ => None,
    });
    for filter in chains.flat_map(|chain| all_bytes(chain, 3)) {
        let Some(any) = find_bytes(filter, 4) else {
            continue;
        };
        if find_bytes(any, 1).is_some_and(|url| url.ends_with(HCM_TYPE_NAME)) {
            let rds = find_bytes(any, 2).and_then(|hcm| find_bytes(hcm, 3));
            if let Some(name) = rds.and_then(|rds| find_bytes(rds, 2)) {
                found(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use navarch_envoy::any::pack;
    use navarch_envoy::envoy::config::cluster::v3::Cluster;
    use navarch_envoy::envoy::config::cluster::v3::cluster::{
        ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
    };
    use navarch_envoy::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
    use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
        HttpConnectionManager, Rds, http_connection_manager::RouteSpecifier,
    };
    use prost::Message;

    use super::{find_eds_name, find_name, find_route_names};

    fn cluster(kind: DiscoveryType, service_name: &str) -> Vec<u8> {
        Cluster {
            name: "c".into(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
            eds_cluster_config: Some(EdsClusterConfig {
                service_name: service_name.into(),
                ..EdsClusterConfig::default()
            }),
            ..Cluster::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn eds_clusters_are_asked_for_by_service_name_or_name() {
        let named = cluster(DiscoveryType::Eds, "s");
        assert_eq!(find_eds_name(&named), Some(b"s".as_slice()));
        assert_eq!(find_name(&named), Some(b"c".as_slice()));
        let unnamed = cluster(DiscoveryType::Eds, "");
        assert_eq!(find_eds_name(&unnamed), Some(b"c".as_slice()));
        assert_eq!(find_eds_name(&cluster(DiscoveryType::StrictDns, "s")), None);
    }

    #[test]
    fn route_names_are_found_in_every_chain() {
        let chain = |name: &str| {
            let manager = HttpConnectionManager {
                route_specifier: Some(RouteSpecifier::Rds(Rds {
                    route_config_name: name.into(),
                    ..Rds::default()
                })),
                ..HttpConnectionManager::default()
            };
            FilterChain {
                filters: vec![Filter {
                    name: "http".into(),
                    config_type: Some(filter::ConfigType::TypedConfig(pack(&manager))),
                }],
                ..FilterChain::default()
            }
        };
        let listener = Listener {
            filter_chains: vec![chain("a"), FilterChain::default()],
            default_filter_chain: Some(chain("b")),
            ..Listener::default()
        };
        let mut found = Vec::new();
        find_route_names(&listener.encode_to_vec(), |name| found.push(name.to_vec()));
        assert_eq!(found, [b"a", b"b"]);
    }
}
