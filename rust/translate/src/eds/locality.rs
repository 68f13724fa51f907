//! Weights and priorities of localities, seen from the client's.
//!
//! Source: istio pilot/pkg/networking/core/loadbalancer/loadbalancer.go.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use navarch_envoy::envoy::config::endpoint::v3::LbEndpoint;
use navarch_model::{
    Distribute, Failover, Labels, LoadBalancerSettings, Locality, LocalityLoadBalancerSetting,
    Service, TrafficDistribution, Workload, ZoneAwareLoadBalancerSetting,
};

use crate::cds::settings::ClusterSettings;

/// Label of an endpoint's (and a proxy's) region.
pub const LABEL_REGION: &str = "topology.kubernetes.io/region";
/// Label of its zone.
pub const LABEL_ZONE: &str = "topology.kubernetes.io/zone";
/// Label of its subzone.
pub const LABEL_SUBZONE: &str = "topology.istio.io/subzone";
/// Label of its network.
pub const LABEL_NETWORK: &str = "topology.istio.io/network";
/// Label of its cluster.
pub const LABEL_CLUSTER: &str = "topology.istio.io/cluster";
/// Label of its Node.
pub const LABEL_HOSTNAME: &str = "kubernetes.io/hostname";

/// Priorities that failover by locality knows: subzone, zone, region, named region, the rest.
const N_LOCALITY_PRIORITIES: u32 = 5;

/// Which locality settings are in force for a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LocalityPolicy {
    /// None: all localities are alike.
    Off,
    /// Weights, or failover by locality or labels.
    Locality {
        /// What was set.
        setting: LocalityLoadBalancerSetting,
        /// Whether priorities act: Envoy leaves a priority only when its endpoints are found to fail.
        is_failover_enabled: bool,
    },
    /// Envoy's zone-aware routing within the region.
    ZoneAware {
        /// What was set.
        setting: ZoneAwareLoadBalancerSetting,
        /// Whether priorities act.
        is_failover_enabled: bool,
    },
}

impl LocalityPolicy {
    /// The policy of a destination: the rule's zone-aware setting, its locality setting, the service's
    /// trafficDistribution, then the mesh's two settings.
    pub fn of(
        service: &Service,
        balancer: Option<&LoadBalancerSettings>,
        has_outlier_detection: bool,
        mesh: &ClusterSettings,
    ) -> Self {
        let is_failover_enabled = has_outlier_detection;
        if let Some(setting) = balancer.and_then(|b| b.zone_aware_lb_setting.clone()) {
            return Self::ZoneAware {
                setting,
                is_failover_enabled,
            };
        }
        if let Some(setting) = balancer.and_then(|b| b.locality_lb_setting.clone()) {
            return Self::of_locality(setting, is_failover_enabled);
        }
        if let Some(setting) = of_traffic_distribution(service.traffic_distribution) {
            // The wish for near endpoints acts without outlier detection: readiness moves the traffic.
            return Self::Locality {
                setting,
                is_failover_enabled: true,
            };
        }
        if let Some(setting) = mesh
            .zone_aware
            .clone()
            .filter(|zone| zone.enabled != Some(false))
        {
            return Self::ZoneAware {
                setting,
                is_failover_enabled,
            };
        }
        match mesh.locality.clone() {
            Some(setting) => Self::of_locality(setting, is_failover_enabled),
            None => Self::Off,
        }
    }

    fn of_locality(setting: LocalityLoadBalancerSetting, is_failover_enabled: bool) -> Self {
        if setting.enabled == Some(false) {
            return Self::Off;
        }
        Self::Locality {
            setting,
            is_failover_enabled,
        }
    }

    /// Whether the client's place changes the endpoints' weights or priorities.
    pub fn is_acting(&self) -> bool {
        match self {
            Self::Off => false,
            Self::Locality {
                setting,
                is_failover_enabled,
            } => !setting.distribute.is_empty() || *is_failover_enabled,
            Self::ZoneAware {
                setting,
                is_failover_enabled,
            } => setting.enabled != Some(false) && *is_failover_enabled,
        }
    }

    /// Labels by which endpoints are compared with the client.
    fn failover_priority(&self) -> &[String] {
        match self {
            Self::Off => &[],
            Self::Locality { setting, .. } => &setting.failover_priority,
            Self::ZoneAware { setting, .. } => &setting.failover_priority,
        }
    }
}

fn of_traffic_distribution(wish: TrafficDistribution) -> Option<LocalityLoadBalancerSetting> {
    let labels: &[&str] = match wish {
        TrafficDistribution::Any => return None,
        TrafficDistribution::PreferSameZone => &[LABEL_NETWORK, LABEL_REGION, LABEL_ZONE],
        TrafficDistribution::PreferSameNode => &[
            LABEL_NETWORK,
            LABEL_REGION,
            LABEL_ZONE,
            LABEL_SUBZONE,
            LABEL_HOSTNAME,
        ],
    };
    Some(LocalityLoadBalancerSetting {
        enabled: Some(true),
        failover_priority: labels.iter().map(|label| (*label).to_owned()).collect(),
        ..LocalityLoadBalancerSetting::default()
    })
}

/// An acting policy with what it knows of the client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LocalityInputs {
    policy: LocalityPolicy,
    /// Where the client runs.
    locality: Locality,
    /// The client's labels, only of the keys that the policy compares.
    labels: Labels,
}

impl LocalityInputs {
    /// The inputs of a policy for a client, or `None` where the policy does not act.
    pub fn new(
        policy: LocalityPolicy,
        locality: &Locality,
        label_of: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        if !policy.is_acting() {
            return None;
        }
        let keys = policy
            .failover_priority()
            .iter()
            .filter(|key| !key.contains('='));
        let labels = keys
            .filter_map(|key| Some((key.clone(), label_of(key)?)))
            .collect();
        Some(Self {
            labels,
            locality: locality.clone(),
            policy,
        })
    }

    /// Set weights and priorities; one locality may be split by labels.
    ///
    /// `is_split` is false for endpoints that Envoy resolves itself, which labels do not tell apart.
    pub(crate) fn apply<'a>(
        &self,
        mut groups: Vec<LocalityGroup<'a>>,
        is_split: bool,
    ) -> Vec<LocalityGroup<'a>> {
        let priority_labels = self.policy.failover_priority();
        if let LocalityPolicy::Locality { setting, .. } = &self.policy
            && !setting.distribute.is_empty()
        {
            self.distribute(&mut groups, &setting.distribute);
            return groups;
        }
        let is_by_label = !priority_labels.is_empty();
        if is_by_label && is_split {
            groups = groups
                .into_iter()
                .flat_map(|group| self.split(group, priority_labels))
                .collect();
            compact(&mut groups);
        }
        match &self.policy {
            LocalityPolicy::Locality { setting, .. } => {
                if !is_by_label || !setting.failover.is_empty() {
                    self.fail_over(&mut groups, &setting.failover, N_LOCALITY_PRIORITIES, |g| {
                        self.distance(&g.locality)
                    });
                }
            }
            LocalityPolicy::ZoneAware { setting, .. } => {
                self.fail_over(&mut groups, &setting.failover, 3, |g| {
                    u32::from(g.locality.region != self.locality.region)
                });
            }
            LocalityPolicy::Off => {}
        }
        groups
    }

    /// 0 in the same subzone, 1 in the zone, 2 in the region, 3 elsewhere.
    fn distance(&self, other: &Locality) -> u32 {
        if self.locality.region != other.region {
            3
        } else if self.locality.zone != other.zone {
            2
        } else {
            u32::from(self.locality.subzone != other.subzone)
        }
    }

    /// Set priorities by distance within those already set; regions that no failover names come last.
    fn fail_over(
        &self,
        groups: &mut [LocalityGroup<'_>],
        failover: &[Failover],
        n_priorities: u32,
        distance: impl Fn(&LocalityGroup<'_>) -> u32,
    ) {
        let to = failover
            .iter()
            .find(|rule| rule.from == *self.locality.region)
            .map(|rule| &rule.to);
        for group in groups.iter_mut() {
            let mut own = distance(group);
            let is_elsewhere = group.locality.region != self.locality.region;
            if is_elsewhere && to.is_some_and(|to| **to != *group.locality.region) {
                own += 1;
            }
            group.priority = group.priority * n_priorities + own;
        }
        compact(groups);
    }

    /// Split a locality by the first label in which its endpoints differ from the client.
    fn split<'a>(&self, group: LocalityGroup<'a>, keys: &[String]) -> Vec<LocalityGroup<'a>> {
        let mut by_priority: BTreeMap<u32, Vec<Member<'a>>> = BTreeMap::new();
        for member in group.members {
            by_priority
                .entry(self.label_priority(&member.labels, keys))
                .or_default()
                .push(member);
        }
        let locality = group.locality;
        by_priority
            .into_iter()
            .map(|(priority, members)| LocalityGroup {
                locality: locality.clone(),
                priority,
                weight: Some(weight_of(&members)),
                members,
            })
            .collect()
    }

    /// 0 when all labels are the client's, else more the earlier the first difference is.
    fn label_priority(&self, labels: &Labels, keys: &[String]) -> u32 {
        for (i, key) in keys.iter().enumerate() {
            let (key, wanted) = match key.split_once('=') {
                Some((key, value)) => (key, value),
                None => (
                    key.as_str(),
                    self.labels.get(key).map_or("", String::as_str),
                ),
            };
            if labels.get(key).map_or("", String::as_str) != wanted {
                return u32::try_from(keys.len() - i).unwrap_or(u32::MAX);
            }
        }
        0
    }

    /// Share the weight by locality; localities that no share names are emptied.
    fn distribute(&self, groups: &mut [LocalityGroup<'_>], rules: &[Distribute]) {
        let Some(rule) = rules
            .iter()
            .find(|rule| is_match(&self.locality, &rule.from))
        else {
            return;
        };
        let mut unmatched: BTreeSet<usize> = (0..groups.len()).collect();
        for (to, share) in &rule.to {
            let matched: Vec<usize> = unmatched
                .iter()
                .copied()
                .filter(|i| is_match(&groups[*i].locality, to))
                .collect();
            let weight = |group: &LocalityGroup<'_>| group.weight.unwrap_or(1);
            let total: u64 = matched.iter().map(|i| u64::from(weight(&groups[*i]))).sum();
            for i in matched {
                unmatched.remove(&i);
                // Rounded up: no locality that is named goes without traffic.
                let own =
                    (u64::from(weight(&groups[i])) * u64::from(*share)).div_ceil(total.max(1));
                if own > 0 {
                    groups[i].weight = Some(u32::try_from(own).unwrap_or(u32::MAX));
                }
            }
        }
        for i in unmatched {
            groups[i].members.clear();
        }
    }
}

/// Whether a locality is of a pattern: `region/zone/subzone`, each part optional or `*`.
fn is_match(locality: &Locality, pattern: &str) -> bool {
    let pattern = Locality::parse(pattern);
    let is_part = |own: &str, wanted: &str| wanted == "*" || wanted.is_empty() || own == wanted;
    (&*pattern.region == "*" || locality.region == pattern.region)
        && is_part(&locality.zone, &pattern.zone)
        && is_part(&locality.subzone, &pattern.subzone)
}

/// Number the priorities that occur from 0 without gaps, as Envoy wants them.
fn compact(groups: &mut [LocalityGroup<'_>]) {
    let used: BTreeSet<u32> = groups.iter().map(|group| group.priority).collect();
    let numbers: BTreeMap<u32, u32> = used.into_iter().zip(0..).collect();
    for group in groups {
        group.priority = numbers[&group.priority];
    }
}

/// The endpoints of one locality while weights and priorities are set.
#[derive(Debug, Clone)]
pub(crate) struct LocalityGroup<'a> {
    pub(crate) locality: Locality,
    pub(crate) weight: Option<u32>,
    pub(crate) priority: u32,
    pub(crate) members: Vec<Member<'a>>,
}

/// One endpoint with the labels by which it is compared.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a> {
    /// `None` for gateways that stand for others.
    pub(crate) workload: Option<&'a Workload>,
    pub(crate) labels: Cow<'a, Labels>,
    pub(crate) endpoint: LbEndpoint,
}

/// The sum of the endpoints' weights.
pub(crate) fn weight_of(members: &[Member<'_>]) -> u32 {
    members.iter().fold(0, |sum: u32, member| {
        sum.saturating_add(member.endpoint.load_balancing_weight.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use navarch_envoy::envoy::config::endpoint::v3::LbEndpoint;
    use navarch_model::{Distribute, Failover, Labels, Locality, LocalityLoadBalancerSetting};

    use super::{LocalityGroup, LocalityInputs, LocalityPolicy, Member};

    fn group(locality: &str, labels: &[&[(&str, &str)]]) -> LocalityGroup<'static> {
        let members: Vec<_> = labels
            .iter()
            .map(|labels| Member {
                workload: None,
                labels: Cow::Owned(
                    labels
                        .iter()
                        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                        .collect(),
                ),
                endpoint: LbEndpoint {
                    load_balancing_weight: Some(1),
                    ..LbEndpoint::default()
                },
            })
            .collect();
        let weight = u32::try_from(members.len()).ok();
        LocalityGroup {
            locality: Locality::parse(locality),
            weight,
            priority: 0,
            members,
        }
    }

    fn inputs(setting: LocalityLoadBalancerSetting, labels: &Labels) -> LocalityInputs {
        let policy = LocalityPolicy::Locality {
            setting,
            is_failover_enabled: true,
        };
        LocalityInputs::new(policy, &Locality::parse("east/1/a"), |key| {
            labels.get(key).cloned()
        })
        .unwrap()
    }

    fn priorities(groups: &[LocalityGroup<'_>]) -> Vec<u32> {
        groups.iter().map(|group| group.priority).collect()
    }

    fn everywhere() -> Vec<LocalityGroup<'static>> {
        ["north/1", "east/1/a", "east/1/b", "east/2", "west/1"]
            .map(|l| group(l, &[&[]]))
            .into()
    }

    #[test]
    fn farther_localities_have_lower_priority() {
        let none = LocalityLoadBalancerSetting::default();
        let out = inputs(none, &Labels::new()).apply(everywhere(), true);
        assert_eq!(priorities(&out), [3, 0, 1, 2, 3]);
    }

    #[test]
    fn a_failover_region_comes_before_the_rest() {
        let setting = LocalityLoadBalancerSetting {
            failover: vec![Failover {
                from: "east".into(),
                to: "west".into(),
            }],
            ..LocalityLoadBalancerSetting::default()
        };
        let out = inputs(setting, &Labels::new()).apply(everywhere(), true);
        assert_eq!(priorities(&out), [4, 0, 1, 2, 3]);
    }

    #[test]
    fn shares_are_rounded_up_and_the_unnamed_is_emptied() {
        let to = [("east/*".to_owned(), 80), ("west/*".to_owned(), 20)].into();
        let setting = LocalityLoadBalancerSetting {
            distribute: vec![Distribute {
                from: "east/*".into(),
                to,
            }],
            ..LocalityLoadBalancerSetting::default()
        };
        let out = inputs(setting, &Labels::new()).apply(everywhere(), true);
        let weights: Vec<_> = out.iter().map(|group| group.weight).collect();
        assert_eq!(weights, [Some(1), Some(27), Some(27), Some(27), Some(20)]);
        assert!(out[0].members.is_empty());
    }

    #[test]
    fn the_first_label_that_differs_counts() {
        let setting = LocalityLoadBalancerSetting {
            failover_priority: vec!["rack".into(), "tier=gold".into()],
            ..LocalityLoadBalancerSetting::default()
        };
        let labels: Labels = [("rack".to_owned(), "r1".to_owned())].into();
        let members: [&[(&str, &str)]; 3] = [
            &[("rack", "r2"), ("tier", "gold")],
            &[("rack", "r1")],
            &[("rack", "r1"), ("tier", "gold")],
        ];
        let out = inputs(setting, &labels).apply(vec![group("east/1", &members)], true);
        assert_eq!(priorities(&out), [0, 1, 2]);
        assert_eq!(
            out[0].members[0].labels.get("tier").map(String::as_str),
            Some("gold")
        );
    }
}
