//! Load balancers: the policy, its settings, and what locality settings say to Envoy.
//!
//! Source: istio `pilot/pkg/networking/core/cluster_traffic_policy.go` `applyLoadBalancer`.

use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
    RoundRobinLbConfig, SlowStartConfig,
    common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig},
};
use navarch_envoy::envoy::config::core::v3::RuntimeDouble;
use navarch_envoy::envoy::r#type::v3::Percent;
use navarch_model::{
    ConsistentHash, LoadBalancerSettings, Number, SimpleLoadBalancer, Warmup, Wrapped,
    ZoneAwareLoadBalancerSetting,
};

use super::protobuf::duration;
use crate::eds::locality::LocalityPolicy;

/// Envoy's default size of a hash ring.
const MINIMUM_RING_SIZE: u64 = 1024;
/// Istio gives the aggression of slow start a runtime key that no one sets.
const AGGRESSION_RUNTIME_KEY: &str = "(";
const WARMUP_MINIMUM_PERCENT: f64 = 10.0;

/// Put the load balancer of a policy into a cluster whose endpoints Envoy chooses among.
pub(super) fn apply_load_balancer(cluster: &mut Cluster, settings: Option<&LoadBalancerSettings>) {
    let simple = settings
        .and_then(|settings| settings.simple)
        .unwrap_or_default();
    let slow_start = settings.and_then(build_slow_start);
    let policy = match simple {
        SimpleLoadBalancer::Random => LbPolicy::Random,
        SimpleLoadBalancer::RoundRobin => {
            cluster.lb_config = slow_start.map(|slow_start| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig {
                    slow_start_config: Some(slow_start),
                })
            });
            LbPolicy::RoundRobin
        }
        SimpleLoadBalancer::Passthrough => LbPolicy::ClusterProvided,
        SimpleLoadBalancer::Unspecified
        | SimpleLoadBalancer::LeastConn
        | SimpleLoadBalancer::LeastRequest => {
            cluster.lb_config = slow_start.map(|slow_start| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(slow_start),
                    ..LeastRequestLbConfig::default()
                })
            });
            LbPolicy::LeastRequest
        }
    };
    cluster.set_lb_policy(policy);
    if let Some(hash) = settings.and_then(|settings| settings.consistent_hash.as_ref()) {
        apply_consistent_hash(cluster, hash);
    }
}

fn build_slow_start(settings: &LoadBalancerSettings) -> Option<SlowStartConfig> {
    if let Some(warmup) = &settings.warmup {
        return Some(build_warmup(warmup));
    }
    settings.warmup_duration_secs.map(|window| SlowStartConfig {
        slow_start_window: Some(duration(window)),
        ..SlowStartConfig::default()
    })
}

fn build_warmup(warmup: &Warmup) -> SlowStartConfig {
    let Number(aggression) = warmup.aggression.unwrap_or(Number(1.0));
    let Number(minimum) = warmup
        .minimum_percent
        .unwrap_or(Number(WARMUP_MINIMUM_PERCENT));
    SlowStartConfig {
        slow_start_window: warmup.duration.map(duration),
        aggression: Some(RuntimeDouble {
            default_value: aggression,
            runtime_key: AGGRESSION_RUNTIME_KEY.to_owned(),
        }),
        min_weight_percent: Some(Percent { value: minimum }),
    }
}

fn apply_consistent_hash(cluster: &mut Cluster, hash: &ConsistentHash) {
    let positive = |Wrapped(size): Wrapped<u64>| Some(size).filter(|size| *size > 0);
    let ring = |size| {
        LbConfig::RingHashLbConfig(RingHashLbConfig {
            minimum_ring_size: Some(size),
            ..RingHashLbConfig::default()
        })
    };
    if let Some(maglev) = &hash.maglev {
        cluster.set_lb_policy(LbPolicy::Maglev);
        if let Some(table_size) = positive(maglev.table_size) {
            let maglev = MaglevLbConfig {
                table_size: Some(table_size),
            };
            cluster.lb_config = Some(LbConfig::MaglevLbConfig(maglev));
        }
        return;
    }
    cluster.set_lb_policy(LbPolicy::RingHash);
    if let Some(own) = &hash.ring_hash {
        if let Some(size) = positive(own.minimum_ring_size) {
            cluster.lb_config = Some(ring(size));
        }
        return;
    }
    let size = positive(hash.minimum_ring_size).unwrap_or(MINIMUM_RING_SIZE);
    cluster.lb_config = Some(ring(size));
}

/// What Envoy must know of localities and health besides the endpoints.
///
/// The panic threshold is 0 unless a rule sets one: unready endpoints never take traffic.
pub(super) fn build_common_lb_config(
    policy: &LocalityPolicy,
    min_health_percent: i32,
) -> CommonLbConfig {
    CommonLbConfig {
        healthy_panic_threshold: Some(Percent {
            value: f64::from(min_health_percent.max(0)),
        }),
        locality_config_specifier: build_locality_specifier(policy),
        ..CommonLbConfig::default()
    }
}

fn build_locality_specifier(policy: &LocalityPolicy) -> Option<LocalityConfigSpecifier> {
    match policy {
        LocalityPolicy::Off => None,
        LocalityPolicy::Locality {
            setting,
            is_failover_enabled,
        } => {
            let is_failing_over = *is_failover_enabled
                && !(setting.failover.is_empty() && setting.failover_priority.is_empty());
            (is_failing_over || !setting.distribute.is_empty()).then(|| {
                LocalityConfigSpecifier::LocalityWeightedLbConfig(
                    LocalityWeightedLbConfig::default(),
                )
            })
        }
        LocalityPolicy::ZoneAware { setting, .. } => Some(
            LocalityConfigSpecifier::ZoneAwareLbConfig(build_zone_aware(setting)),
        ),
    }
}

fn build_zone_aware(setting: &ZoneAwareLoadBalancerSetting) -> ZoneAwareLbConfig {
    if setting.enabled == Some(false) {
        return ZoneAwareLbConfig {
            routing_enabled: Some(Percent { value: 0.0 }),
            ..ZoneAwareLbConfig::default()
        };
    }
    ZoneAwareLbConfig {
        min_cluster_size: setting.min_cluster_size.map(|size| size.0),
        ..ZoneAwareLbConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::config::cluster::v3::Cluster;
    use navarch_envoy::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy};
    use navarch_model::{
        ConsistentHash, LoadBalancerSettings, Maglev, RingHash, SimpleLoadBalancer, Span, Wrapped,
    };

    use super::apply_load_balancer;

    fn applied(settings: &LoadBalancerSettings) -> Cluster {
        let mut cluster = Cluster::default();
        apply_load_balancer(&mut cluster, Some(settings));
        cluster
    }

    #[test]
    fn simple_balancers_have_envoys_names() {
        for (simple, policy) in [
            (SimpleLoadBalancer::Unspecified, LbPolicy::LeastRequest),
            (SimpleLoadBalancer::LeastConn, LbPolicy::LeastRequest),
            (SimpleLoadBalancer::Random, LbPolicy::Random),
            (SimpleLoadBalancer::RoundRobin, LbPolicy::RoundRobin),
            (SimpleLoadBalancer::Passthrough, LbPolicy::ClusterProvided),
        ] {
            let settings = LoadBalancerSettings {
                simple: Some(simple),
                ..LoadBalancerSettings::default()
            };
            assert_eq!(applied(&settings).lb_policy(), policy);
        }
    }

    #[test]
    fn hashing_takes_the_size_from_where_it_is_set() {
        let hash = |hash: ConsistentHash| {
            let settings = LoadBalancerSettings {
                consistent_hash: Some(hash),
                ..LoadBalancerSettings::default()
            };
            applied(&settings).lb_config
        };
        let ring = |config| match config {
            Some(LbConfig::RingHashLbConfig(ring)) => ring.minimum_ring_size,
            _ => None,
        };
        assert_eq!(ring(hash(ConsistentHash::default())), Some(1024));
        let own = RingHash {
            minimum_ring_size: Wrapped(7),
        };
        let hash_of_ring = ConsistentHash {
            ring_hash: Some(own),
            ..ConsistentHash::default()
        };
        assert_eq!(ring(hash(hash_of_ring)), Some(7));
        let none = Maglev::default();
        assert_eq!(
            hash(ConsistentHash {
                maglev: Some(none),
                ..ConsistentHash::default()
            }),
            None
        );
    }

    #[test]
    fn slow_start_is_for_balancers_that_know_it() {
        let settings = |simple| LoadBalancerSettings {
            simple: Some(simple),
            warmup_duration_secs: Some(Span::from_seconds(60)),
            ..LoadBalancerSettings::default()
        };
        assert!(
            applied(&settings(SimpleLoadBalancer::RoundRobin))
                .lb_config
                .is_some()
        );
        assert!(
            applied(&settings(SimpleLoadBalancer::Random))
                .lb_config
                .is_none()
        );
    }
}
