//! How requests spread over a cluster's endpoints.
//!
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority>,
//! `locality_weight`, `panic_threshold`. Shares are those of a long run without load: hashes, active requests,
//! outliers and zones are not known.

use std::collections::BTreeMap;

use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::common_lb_config::LocalityConfigSpecifier;
use navarch_envoy::envoy::config::core::v3::{HealthStatus, Locality};
use navarch_envoy::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use navarch_envoy::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints,
};

use crate::outcome::Endpoint;
use crate::resources::written_address;
use crate::transport;

/// A priority is overprovisioned: it takes all requests while at least 1/1.4 of it is healthy.
const OVERPROVISIONING: f64 = 140.0;
const PANIC_THRESHOLD: f64 = 50.0;

struct Host<'a> {
    endpoint: &'a LbEndpoint,
    /// Its place among the assignment's localities.
    locality: usize,
    status: HealthStatus,
}

impl Host<'_> {
    fn is_healthy(&self) -> bool {
        matches!(self.status, HealthStatus::Unknown | HealthStatus::Healthy)
    }

    fn is_degraded(&self) -> bool {
        self.status == HealthStatus::Degraded
    }

    fn weight(&self) -> u32 {
        self.endpoint.load_balancing_weight.unwrap_or(1)
    }
}

/// Which hosts of a priority get its requests.
#[derive(Clone, Copy, PartialEq)]
enum Taken {
    Healthy,
    Degraded,
    /// Panic: better any than none.
    All,
}

/// The endpoints that get requests, the largest share first; or why there is none.
pub(crate) fn shares(
    cluster: &Cluster,
    assignment: &ClusterLoadAssignment,
) -> Result<Vec<Endpoint>, String> {
    let localities = &assignment.endpoints;
    let hosts: Vec<Host<'_>> = localities
        .iter()
        .enumerate()
        .flat_map(|(at, locality)| locality.lb_endpoints.iter().map(move |e| (at, e)))
        .map(|(locality, endpoint)| Host {
            endpoint,
            locality,
            status: endpoint.health_status(),
        })
        .collect();
    if hosts.is_empty() {
        return Err(format!("cluster {} has no endpoints", cluster.name));
    }
    let threshold = cluster
        .common_lb_config
        .as_ref()
        .and_then(|c| c.healthy_panic_threshold);
    let threshold = threshold.map_or(PANIC_THRESHOLD, |percent| percent.value);
    let priorities = priorities(localities, &hosts);
    let factor = assignment
        .policy
        .as_ref()
        .and_then(|p| p.overprovisioning_factor);
    let loads = loads(
        &priorities,
        factor.map_or(OVERPROVISIONING, f64::from),
        threshold,
    );
    if loads.is_empty() {
        return Err(format!(
            "none of the {} endpoints of cluster {} is healthy",
            hosts.len(),
            cluster.name
        ));
    }
    let mut endpoints = Vec::new();
    for (at, taken, load) in loads {
        endpoints.extend(
            spread(cluster, localities, &priorities[at], taken)
                .into_iter()
                .map(|mut endpoint| {
                    endpoint.share *= load;
                    endpoint
                }),
        );
    }
    endpoints.retain(|endpoint| endpoint.share > 0.0);
    endpoints.sort_by(|a, b| b.share.total_cmp(&a.share));
    Ok(endpoints)
}

/// Hosts by priority; priorities without hosts are empty.
fn priorities<'a>(
    localities: &[LocalityLbEndpoints],
    hosts: &'a [Host<'a>],
) -> Vec<Vec<&'a Host<'a>>> {
    let n = localities
        .iter()
        .map(|l| l.priority as usize + 1)
        .max()
        .unwrap_or(0);
    let mut made = vec![Vec::new(); n];
    for host in hosts {
        made[localities[host.locality].priority as usize].push(host);
    }
    made
}

fn percent_of<'h>(hosts: &[&Host<'h>], is_counted: impl Fn(&Host<'h>) -> bool, factor: f64) -> f64 {
    if hosts.is_empty() {
        return 0.0;
    }
    let n = hosts.iter().filter(|host| is_counted(host)).count();
    (factor * ratio(n, hosts.len())).min(100.0)
}

#[expect(clippy::cast_precision_loss, reason = "counts of endpoints")]
fn ratio(n: usize, of: usize) -> f64 {
    n as f64 / of as f64
}

/// Which priorities get how much: healthy hosts in the order of priorities, then degraded ones.
fn loads(priorities: &[Vec<&Host<'_>>], factor: f64, threshold: f64) -> Vec<(usize, Taken, f64)> {
    let healthy: Vec<f64> = priorities
        .iter()
        .map(|p| percent_of(p, Host::is_healthy, factor))
        .collect();
    let degraded: Vec<f64> = priorities
        .iter()
        .map(|p| percent_of(p, Host::is_degraded, factor))
        .collect();
    let total = (healthy.iter().sum::<f64>() + degraded.iter().sum::<f64>()).min(100.0);
    if total <= 0.0 {
        // A threshold of 0 switches panic off.
        let first = priorities.iter().position(|p| !p.is_empty());
        return first
            .filter(|_| threshold > 0.0)
            .map(|at| (at, Taken::All, 1.0))
            .into_iter()
            .collect();
    }
    let is_panicking = |at: usize| {
        total < 100.0 && percent_of(&priorities[at], Host::is_healthy, 100.0) < threshold
    };
    let mut remaining: f64 = 100.0;
    let mut made = Vec::new();
    for (available, taken) in [(&healthy, Taken::Healthy), (&degraded, Taken::Degraded)] {
        for (at, available) in available.iter().enumerate() {
            let load = (available * 100.0 / total).min(remaining);
            remaining -= load;
            if load > 0.0 {
                let taken = if is_panicking(at) { Taken::All } else { taken };
                made.push((at, taken, load / 100.0));
            }
        }
    }
    made
}

/// One priority's hosts with shares of 100.
fn spread(
    cluster: &Cluster,
    localities: &[LocalityLbEndpoints],
    hosts: &[&Host<'_>],
    taken: Taken,
) -> Vec<Endpoint> {
    let is_taken = |host: &Host<'_>| match taken {
        Taken::Healthy => host.is_healthy(),
        Taken::Degraded => host.is_degraded(),
        Taken::All => true,
    };
    let config = cluster
        .common_lb_config
        .as_ref()
        .and_then(|c| c.locality_config_specifier.as_ref());
    let is_weighted = matches!(
        config,
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
    );
    let taken: Vec<&Host<'_>> = hosts
        .iter()
        .copied()
        .filter(|host| is_taken(host))
        .collect();
    let mut weights: BTreeMap<usize, f64> = BTreeMap::new();
    for host in &taken {
        *weights.entry(host.locality).or_default() += f64::from(host.weight());
    }
    let group_weight = |at: &usize| {
        let weight = localities[*at].load_balancing_weight.map_or(0.0, f64::from);
        let all = hosts.iter().copied().filter(|host| host.locality == *at);
        weight * percent_of(&all.collect::<Vec<_>>(), is_taken, OVERPROVISIONING)
    };
    let groups: BTreeMap<usize, f64> = weights.keys().map(|at| (*at, group_weight(at))).collect();
    let total_groups: f64 = groups.values().sum();
    let total: f64 = weights.values().sum();
    let made = taken.iter().map(|host| {
        let (group, peers) = if is_weighted && total_groups > 0.0 {
            (
                groups[&host.locality] / total_groups,
                weights[&host.locality],
            )
        } else {
            (1.0, total)
        };
        let share = 100.0 * group * f64::from(host.weight()) / peers;
        endpoint(cluster, &localities[host.locality], host, share)
    });
    made.collect()
}

fn endpoint(
    cluster: &Cluster,
    locality: &LocalityLbEndpoints,
    host: &Host<'_>,
    share: f64,
) -> Endpoint {
    let address = match &host.endpoint.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => written_address(endpoint.address.as_ref()),
        Some(HostIdentifier::EndpointName(name)) => name.clone(),
        None => String::new(),
    };
    Endpoint {
        address,
        share,
        priority: locality.priority,
        locality: locality
            .locality
            .as_ref()
            .map(written_locality)
            .unwrap_or_default(),
        weight: host.weight(),
        transport: transport::of_endpoint(cluster, host.endpoint.metadata.as_ref()),
    }
}

fn written_locality(locality: &Locality) -> String {
    let parts = [&locality.region, &locality.zone, &locality.sub_zone];
    parts
        .map(String::as_str)
        .join("/")
        .trim_end_matches('/')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::config::cluster::v3::Cluster;
    use navarch_envoy::envoy::config::cluster::v3::cluster::CommonLbConfig;
    use navarch_envoy::envoy::config::cluster::v3::cluster::common_lb_config::{
        LocalityConfigSpecifier, LocalityWeightedLbConfig,
    };
    use navarch_envoy::envoy::config::core::v3::HealthStatus;
    use navarch_envoy::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
    use navarch_envoy::envoy::config::endpoint::v3::{
        ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints,
    };
    use navarch_envoy::envoy::r#type::v3::Percent;

    use super::shares;

    /// 100 hosts named after the group, so many of them healthy.
    fn group(name: &str, priority: u32, weight: u32, n_healthy: usize) -> LocalityLbEndpoints {
        let host = |at: usize| LbEndpoint {
            health_status: if at < n_healthy {
                HealthStatus::Healthy as i32
            } else {
                HealthStatus::Unhealthy as i32
            },
            host_identifier: Some(HostIdentifier::EndpointName(name.to_owned())),
            ..LbEndpoint::default()
        };
        LocalityLbEndpoints {
            lb_endpoints: (0..100).map(host).collect(),
            load_balancing_weight: Some(weight),
            priority,
            ..LocalityLbEndpoints::default()
        }
    }

    /// The shares of `a` and `b`, in whole percents.
    fn split(is_weighted: bool, groups: [LocalityLbEndpoints; 2]) -> Option<(f64, f64)> {
        let weighted =
            LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig::default());
        let cluster = Cluster {
            common_lb_config: Some(CommonLbConfig {
                healthy_panic_threshold: Some(Percent { value: 0.0 }),
                locality_config_specifier: is_weighted.then_some(weighted),
                ..CommonLbConfig::default()
            }),
            ..Cluster::default()
        };
        let assignment = ClusterLoadAssignment {
            endpoints: groups.into(),
            ..ClusterLoadAssignment::default()
        };
        let found = shares(&cluster, &assignment).ok()?;
        let of = |name: &str| {
            let own = found.iter().filter(|e| e.address == name);
            own.map(|e| e.share).sum::<f64>().round()
        };
        Some((of("a"), of("b")))
    }

    #[test]
    fn priorities_share_as_envoys_manual_tells() {
        for (healthy, wanted) in [
            ((100, 100), Some((100.0, 0.0))),
            ((72, 100), Some((100.0, 0.0))),
            ((50, 100), Some((70.0, 30.0))),
            ((25, 100), Some((35.0, 65.0))),
            ((25, 25), Some((50.0, 50.0))),
            ((0, 100), Some((0.0, 100.0))),
            ((0, 0), None),
        ] {
            let groups = [group("a", 0, 1, healthy.0), group("b", 1, 1, healthy.1)];
            assert_eq!(split(false, groups), wanted, "{healthy:?}");
        }
    }

    #[test]
    fn weighted_localities_share_as_envoys_manual_tells() {
        for (healthy, wanted) in [
            (100, (33.0, 67.0)),
            (72, (33.0, 67.0)),
            (50, (26.0, 74.0)),
            (25, (15.0, 85.0)),
            (0, (0.0, 100.0)),
        ] {
            let groups = [group("a", 0, 1, healthy), group("b", 0, 2, 100)];
            assert_eq!(split(true, groups), Some(wanted), "{healthy}");
        }
    }

    #[test]
    fn without_locality_weights_hosts_are_equal() {
        let groups = || [group("a", 0, 1, 50), group("b", 0, 9, 100)];
        assert_eq!(split(false, groups()), Some((33.0, 67.0)));
        let unset = groups().map(|group| LocalityLbEndpoints {
            load_balancing_weight: None,
            ..group
        });
        assert_eq!(split(true, unset), Some((33.0, 67.0)));
    }
}
