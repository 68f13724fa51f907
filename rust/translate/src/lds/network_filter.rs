//! Network filters of TCP chains: metadata exchange, protocol filters, the TCP proxy.
//!
//! Source: istio `pilot/pkg/networking/core/networkfilter.go`.

use std::sync::LazyLock;

use navarch_envoy::envoy::config::listener::v3::{Filter, filter::ConfigType};
use navarch_envoy::envoy::extensions::filters::network::mongo_proxy::v3::MongoProxy;
use navarch_envoy::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use navarch_envoy::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    TunnelingConfig, WeightedCluster, weighted_cluster::ClusterWeight,
};
use navarch_envoy::envoy::r#type::v3::HashPolicy;
use navarch_envoy::envoy::r#type::v3::hash_policy::{PolicySpecifier, SourceIp};
use navarch_envoy::field::envoy::config::listener::v3::{filter, filter_chain};
use navarch_envoy::field::envoy::extensions::filters::network::mongo_proxy::v3::mongo_proxy;
use navarch_envoy::field::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy as tcp;
use navarch_envoy::wire::Writer;
use navarch_model::{DestinationRuleSpec, Protocol, Span};
use prost::{Message, Name};
use prost_types::{Any, Struct, Value, value::Kind};

use super::facts::{NetworkFacts, duration};
use crate::http_filter::typed_struct;
use crate::name;

/// Where the connections of a chain go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TcpTarget {
    /// One cluster.
    Single(String),
    /// Several, each with a weight above zero.
    Weighted(Vec<(String, u32)>),
}

/// A TCP proxy with what stands before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TcpRoute {
    /// Where connections go.
    pub(super) target: TcpTarget,
    /// The prefix of its statistics.
    pub(super) stat_prefix: String,
    /// What is spoken: some protocols have a filter of their own.
    pub(super) protocol: Protocol,
    /// What the destination's rule adds.
    pub(super) policy: TcpPolicy,
}

/// What a DestinationRule says of TCP connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct TcpPolicy {
    idle_timeout: Option<Span>,
    max_connection_duration: Option<Span>,
    is_hashed_by_source: bool,
    tunnel: Option<Tunnel>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Tunnel {
    authority: String,
    is_post: bool,
}

impl TcpPolicy {
    /// The part of a rule that a connection to one of its subsets ("" for none) needs.
    pub(super) fn new(rule: Option<&DestinationRuleSpec>, subset: &str) -> Self {
        let Some(rule) = rule else {
            return Self::default();
        };
        let whole = rule.traffic_policy.as_ref();
        let of_subset = rule
            .subsets
            .iter()
            .find(|candidate| !subset.is_empty() && candidate.name == subset)
            .and_then(|subset| subset.traffic_policy.as_ref());
        let pool = whole.and_then(|policy| policy.connection_pool.as_ref());
        let tcp = pool.and_then(|pool| pool.tcp.as_ref());
        let balancer = of_subset
            .and_then(|policy| policy.load_balancer.as_ref())
            .or_else(|| whole.and_then(|policy| policy.load_balancer.as_ref()));
        let hash = balancer.and_then(|balancer| balancer.consistent_hash.as_ref());
        // A subset does not take over the tunnel of the whole: Istio looks at its own policy alone.
        let owner = if subset.is_empty() { whole } else { of_subset };
        let tunnel = owner.and_then(|policy| policy.tunnel.as_ref());
        Self {
            idle_timeout: tcp.and_then(|tcp| tcp.idle_timeout),
            max_connection_duration: tcp.and_then(|tcp| tcp.max_connection_duration),
            is_hashed_by_source: hash.and_then(|hash| hash.use_source_ip).unwrap_or(false),
            tunnel: tunnel.map(|tunnel| Tunnel {
                authority: host_and_port(&tunnel.target_host, tunnel.target_port),
                is_post: tunnel.protocol == "POST",
            }),
        }
    }

    /// The same without a tunnel: what an SNI-routing gateway sends on is TLS already.
    pub(super) fn without_tunnel(self) -> Self {
        Self {
            tunnel: None,
            ..self
        }
    }
}

/// `host:port`, an IPv6 address in brackets.
fn host_and_port(host: &str, port: u32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl TcpRoute {
    /// To one cluster that gives its name to the statistics, without a rule.
    pub(super) fn to_cluster(cluster: &str) -> Self {
        Self {
            target: TcpTarget::Single(cluster.to_owned()),
            stat_prefix: cluster.to_owned(),
            protocol: Protocol::Tcp,
            policy: TcpPolicy::default(),
        }
    }

    /// Write the protocol's own filter, if it has one, and the TCP proxy into a filter chain.
    pub(super) fn write(&self, facts: &NetworkFacts, out: &mut Writer) {
        if self.protocol == Protocol::Mongo {
            write_filter::<MongoProxy>("envoy.filters.network.mongo_proxy", out, |out| {
                out.text(mongo_proxy::STAT_PREFIX, &[&self.stat_prefix]);
            });
        }
        let idle_timeout = self.policy.idle_timeout.or(facts.idle_timeout);
        let rest = TcpProxy {
            idle_timeout: idle_timeout.map(duration),
            hash_policy: self.hash_policy(),
            tunneling_config: self.policy.tunnel.as_ref().map(|tunnel| TunnelingConfig {
                hostname: tunnel.authority.clone(),
                use_post: tunnel.is_post,
                ..TunnelingConfig::default()
            }),
            max_downstream_connection_duration: self.policy.max_connection_duration.map(duration),
            ..TcpProxy::default()
        };
        write_filter::<TcpProxy>("envoy.filters.network.tcp_proxy", out, |out| {
            out.text(tcp::STAT_PREFIX, &[&self.stat_prefix]);
            self.target.write(out);
            out.append(facts.tcp_access_log());
            out.append_message(&rest);
        });
    }

    fn hash_policy(&self) -> Vec<HashPolicy> {
        if !self.policy.is_hashed_by_source {
            return Vec::new();
        }
        vec![HashPolicy {
            policy_specifier: Some(PolicySpecifier::SourceIp(SourceIp {})),
        }]
    }
}

impl TcpTarget {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Single(cluster) => out.text(tcp::CLUSTER, &[cluster]),
            Self::Weighted(clusters) => {
                let weight = |(name, weight): &(String, u32)| ClusterWeight {
                    name: name.clone(),
                    weight: *weight,
                    ..ClusterWeight::default()
                };
                let clusters = WeightedCluster {
                    clusters: clusters.iter().map(weight).collect(),
                };
                out.message(tcp::WEIGHTED_CLUSTERS, |out| out.append_message(&clusters));
            }
        }
    }
}

/// Write a TCP proxy without any setting, to a cluster of a fixed name; blackholes log nothing.
pub(super) fn write_black_hole(out: &mut Writer) {
    write_filter::<TcpProxy>("envoy.filters.network.tcp_proxy", out, |out| {
        out.text(tcp::STAT_PREFIX, &[name::BLACK_HOLE_CLUSTER]);
        out.text(tcp::CLUSTER, &[name::BLACK_HOLE_CLUSTER]);
    });
}

/// Write what tells both ends of an mTLS connection of each other; Istio's Envoy build only.
pub(super) fn write_metadata_exchange(facts: &NetworkFacts, out: &mut Writer) {
    static FILTER: LazyLock<Vec<u8>> = LazyLock::new(|| metadata_exchange().encode_to_vec());
    if facts.is_istio {
        out.encoded(filter_chain::FILTERS, &FILTER);
    }
}

fn metadata_exchange() -> Filter {
    let value = |kind| Value { kind: Some(kind) };
    let fields = [
        ("enable_discovery".to_owned(), value(Kind::BoolValue(true))),
        (
            "protocol".to_owned(),
            value(Kind::StringValue("istio-peer-exchange".to_owned())),
        ),
    ];
    let url = "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange";
    let config = typed_struct(
        url,
        Struct {
            fields: fields.into(),
        },
    );
    network_filter("istio.metadata_exchange", config)
}

/// Write a network filter into a filter chain; `write` writes its configuration.
pub(super) fn write_filter<M: Message + Name + Default>(
    name: &str,
    out: &mut Writer,
    write: impl FnOnce(&mut Writer),
) {
    out.long_message(filter_chain::FILTERS, |out| {
        out.text(filter::NAME, &[name]);
        out.any::<M>(filter::TYPED_CONFIG, write);
    });
}

/// A network filter of that name and configuration.
pub(crate) fn network_filter(name: &str, config: Any) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
    }
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn an_ipv6_authority_has_brackets() {
        assert_eq!(host_and_port("a.b", 443), "a.b:443");
        assert_eq!(host_and_port("2001:db8::7", 5001), "[2001:db8::7]:5001");
    }
}
