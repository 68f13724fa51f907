//! The clusters that every proxy of a kind has: traffic that goes nowhere, or where it was going.
//!
//! Source: istio `pilot/pkg/networking/core/cluster_builder.go` `buildBlackHoleCluster`, `buildDefaultPassthroughCluster`,
//! `buildInboundPassthroughCluster`.

use navarch_envoy::any;
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DiscoveryType, DnsLookupFamily, LbPolicy,
};
use navarch_envoy::envoy::config::core::v3::{
    BindConfig, ExtraSourceAddress, HttpProtocolOptions as CommonHttpProtocolOptions,
};
use navarch_envoy::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
    ClusterConfig, cluster_config::ClusterImplementationSpecifier,
};
use navarch_envoy::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use navarch_envoy::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use navarch_model::{Shared, Span};

use super::metadata::metadata_exchange;
use super::outbound::dns_lookup_family;
use super::pool::{apply_connection_pool, set_http_protocol_options, use_downstream};
use super::protobuf::duration;
use super::settings::{ClusterClient, ClusterSettings};
use crate::address::socket_address;
use crate::name::{
    ALLOW_ANY_DNS_CACHE, ALLOW_ANY_DYNAMIC_DNS_CLUSTER, BLACK_HOLE_CLUSTER,
    INBOUND_PASSTHROUGH_CLUSTER, PASSTHROUGH_CLUSTER, delimited_stat_name,
};

/// How long an HTTP connection to an unknown destination may idle.
const PASSTHROUGH_IDLE: Span = Span::from_seconds(300);
/// How many hosts a proxy resolves for requests to unknown destinations.
const ALLOW_ANY_MAX_HOSTS: u32 = 1024;

/// A cluster that every proxy of a kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FixedCluster {
    /// Goes nowhere.
    BlackHole,
    /// Outbound, to where the connection was going.
    Passthrough,
    /// Inbound, to where the connection was going.
    InboundPassthrough,
    /// Outbound HTTP, to the host that the request names.
    AllowAnyDynamicDns,
}

impl FixedCluster {
    /// The cluster's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::BlackHole => BLACK_HOLE_CLUSTER,
            Self::Passthrough => PASSTHROUGH_CLUSTER,
            Self::InboundPassthrough => INBOUND_PASSTHROUGH_CLUSTER,
            Self::AllowAnyDynamicDns => ALLOW_ANY_DYNAMIC_DNS_CLUSTER,
        }
    }
}

/// Everything that a fixed cluster depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FixedInputs {
    pub(crate) cluster: FixedCluster,
    pub(crate) client: Shared<ClusterClient>,
    pub(crate) settings: Shared<ClusterSettings>,
}

/// Build a fixed cluster.
pub(super) fn build_fixed(inputs: &FixedInputs) -> Cluster {
    match inputs.cluster {
        FixedCluster::BlackHole => build_black_hole(&inputs.settings),
        FixedCluster::Passthrough => {
            let mut cluster = build_passthrough(inputs);
            if inputs.client.is_istio {
                cluster.filters.push(metadata_exchange());
            }
            cluster
        }
        FixedCluster::InboundPassthrough => Cluster {
            name: INBOUND_PASSTHROUGH_CLUSTER.to_owned(),
            upstream_bind_config: Some(build_inbound_bind(&inputs.client)),
            // The statistics go on under the outbound cluster's name.
            ..build_passthrough(inputs)
        },
        FixedCluster::AllowAnyDynamicDns => {
            let mut cluster = build_passthrough(inputs);
            ALLOW_ANY_DYNAMIC_DNS_CLUSTER.clone_into(&mut cluster.name);
            cluster.alt_stat_name = delimited_stat_name(ALLOW_ANY_DYNAMIC_DNS_CLUSTER);
            cluster.cluster_discovery_type =
                Some(ClusterDiscoveryType::ClusterType(dynamic_forward_proxy(
                    ALLOW_ANY_DNS_CACHE,
                    dns_lookup_family(inputs.client.ip_mode),
                    Some(ALLOW_ANY_MAX_HOSTS),
                    true,
                )));
            if inputs.client.is_istio {
                cluster.filters.push(metadata_exchange());
            }
            cluster
        }
    }
}

fn build_black_hole(settings: &ClusterSettings) -> Cluster {
    Cluster {
        name: BLACK_HOLE_CLUSTER.to_owned(),
        alt_stat_name: delimited_stat_name(BLACK_HOLE_CLUSTER),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        connect_timeout: Some(duration(settings.connect_timeout)),
        ..Cluster::default()
    }
}

fn build_passthrough(inputs: &FixedInputs) -> Cluster {
    let mut cluster = Cluster {
        name: PASSTHROUGH_CLUSTER.to_owned(),
        alt_stat_name: delimited_stat_name(PASSTHROUGH_CLUSTER),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(
            DiscoveryType::OriginalDst as i32,
        )),
        lb_policy: LbPolicy::ClusterProvided as i32,
        ..Cluster::default()
    };
    let settings = &inputs.settings;
    let pool = settings
        .default_traffic_policy
        .as_ref()
        .and_then(|p| p.connection_pool.as_ref());
    apply_connection_pool(&mut cluster, settings, pool, None);
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(CommonHttpProtocolOptions {
            idle_timeout: Some(duration(PASSTHROUGH_IDLE)),
            ..CommonHttpProtocolOptions::default()
        }),
        upstream_protocol_options: Some(use_downstream(inputs.client.is_header_case_preserved)),
        ..HttpProtocolOptions::default()
    };
    set_http_protocol_options(&mut cluster, &options);
    cluster
}

/// The source address by which iptables tells the proxy's inbound connections from the workload's own.
fn build_inbound_bind(client: &ClusterClient) -> BindConfig {
    let (first, others) = match client.ip_mode.inbound_passthrough_binds() {
        [first, others @ ..] => (*first, others),
        [] => ("", &[][..]),
    };
    BindConfig {
        source_address: Some(socket_address(first, 0)),
        extra_source_addresses: others
            .iter()
            .map(|address| ExtraSourceAddress {
                address: Some(socket_address(address, 0)),
                ..ExtraSourceAddress::default()
            })
            .collect(),
        ..BindConfig::default()
    }
}

/// The cluster type that resolves the host each request names.
pub(crate) fn dynamic_forward_proxy(
    cache: &str,
    family: DnsLookupFamily,
    max_hosts: Option<u32>,
    is_unverified: bool,
) -> CustomClusterType {
    let settings = ClusterConfig {
        // Without a check of the server's name Envoy wants to be told that this is meant.
        allow_insecure_cluster_options: is_unverified,
        cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(
            DnsCacheConfig {
                name: cache.to_owned(),
                dns_lookup_family: family as i32,
                max_hosts,
                ..DnsCacheConfig::default()
            },
        )),
        ..ClusterConfig::default()
    };
    CustomClusterType {
        name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
        typed_config: Some(any::pack(&settings)),
    }
}
