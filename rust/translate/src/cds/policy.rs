//! Which traffic policy is in force for one port and subset of a destination.
//!
//! Source: istio pilot/pkg/networking/util/util.go `GetPortLevelTrafficPolicy`, `MergeSubsetTrafficPolicy`.

use navarch_model::{
    ClientTlsSettings, ConnectionPoolSettings, DefaultTrafficPolicy, DestinationRule,
    LoadBalancerSettings, OutlierDetection, ProxyProtocol, RetryBudget, SimpleLoadBalancer, Subset,
    TrafficPolicy, TunnelSettings,
};

/// The parts in force, each borrowed from where it was set; `None` leaves Istio's default.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct EffectivePolicy<'a> {
    pub connection_pool: Option<&'a ConnectionPoolSettings>,
    pub outlier_detection: Option<&'a OutlierDetection>,
    pub load_balancer: Option<&'a LoadBalancerSettings>,
    pub tls: Option<&'a ClientTlsSettings>,
    pub tunnel: Option<&'a TunnelSettings>,
    pub proxy_protocol: Option<&'a ProxyProtocol>,
    pub retry_budget: Option<&'a RetryBudget>,
}

impl<'a> EffectivePolicy<'a> {
    /// The policy of a rule for a service port and, where named, a subset.
    pub fn of_rule(rule: &'a DestinationRule, port: u32, subset: Option<&'a Subset>) -> Self {
        let (whole, _) = Self::of_port(rule.spec.traffic_policy.as_ref(), port);
        let Some(subset) = subset else { return whole };
        if subset.traffic_policy.is_none() {
            return whole;
        }
        let (own, is_port_level) = Self::of_port(subset.traffic_policy.as_ref(), port);
        whole.overridden(own, is_port_level)
    }

    /// A policy for one port, and whether a port-level setting made it.
    ///
    /// A port-level setting replaces the whole: what it leaves out falls back to Istio's default, not to the rule's.
    fn of_port(policy: Option<&'a TrafficPolicy>, port: u32) -> (Self, bool) {
        let Some(policy) = policy else {
            return (Self::default(), false);
        };
        let own = policy
            .port_level_settings
            .iter()
            .find(|own| own.port.is_some_and(|selector| selector.number == port));
        let whole = Self {
            connection_pool: policy.connection_pool.as_ref(),
            outlier_detection: policy.outlier_detection.as_ref(),
            load_balancer: policy.load_balancer.as_ref(),
            tls: policy.tls.as_ref(),
            tunnel: policy.tunnel.as_ref(),
            proxy_protocol: policy.proxy_protocol.as_ref(),
            retry_budget: policy.retry_budget.as_ref(),
        };
        let Some(own) = own else {
            return (whole, false);
        };
        let own = Self {
            connection_pool: own.connection_pool.as_ref(),
            outlier_detection: own.outlier_detection.as_ref(),
            load_balancer: own.load_balancer.as_ref(),
            tls: own.tls.as_ref(),
            ..Self::default()
        };
        (own, true)
    }

    /// The subset's parts over the whole's; a port-level setting of the subset takes the place of all four.
    fn overridden(self, subset: Self, is_port_level: bool) -> Self {
        let base = if is_port_level {
            Self {
                connection_pool: None,
                outlier_detection: None,
                load_balancer: None,
                tls: None,
                ..self
            }
        } else {
            self
        };
        Self {
            connection_pool: subset.connection_pool.or(base.connection_pool),
            outlier_detection: subset.outlier_detection.or(base.outlier_detection),
            load_balancer: subset.load_balancer.or(base.load_balancer),
            tls: subset.tls.or(base.tls),
            tunnel: subset.tunnel.or(base.tunnel),
            proxy_protocol: subset.proxy_protocol.or(base.proxy_protocol),
            retry_budget: subset.retry_budget.or(base.retry_budget),
        }
    }

    /// Fill the blocks that are still unset from the mesh's baseline.
    #[must_use]
    pub fn with_mesh_default(self, default: Option<&'a DefaultTrafficPolicy>) -> Self {
        let Some(default) = default else { return self };
        Self {
            connection_pool: self.connection_pool.or(default.connection_pool.as_ref()),
            outlier_detection: self
                .outlier_detection
                .or(default.outlier_detection.as_ref()),
            ..self
        }
    }

    /// Whether connections go to where they were going.
    pub fn is_passthrough(&self) -> bool {
        self.load_balancer.is_some_and(is_passthrough)
    }
}

/// Whether a load balancer sends connections to where they were going.
pub fn is_passthrough(settings: &LoadBalancerSettings) -> bool {
    settings.simple == Some(SimpleLoadBalancer::Passthrough)
}

/// The subset of that name; "" names none.
pub fn find_subset<'a>(rule: &'a DestinationRule, name: &str) -> Option<&'a Subset> {
    if name.is_empty() {
        return None;
    }
    rule.spec.subsets.iter().find(|subset| subset.name == name)
}

#[cfg(test)]
mod tests {
    use navarch_model::{
        ConnectionPoolSettings, DestinationRule, LoadBalancerSettings, OutlierDetection,
        PortSelector, PortTrafficPolicy, RetryBudget, SimpleLoadBalancer, Subset, TcpSettings,
        TrafficPolicy,
    };

    use super::EffectivePolicy;

    fn balancer(simple: SimpleLoadBalancer) -> navarch_model::LoadBalancerSettings {
        LoadBalancerSettings {
            simple: Some(simple),
            ..LoadBalancerSettings::default()
        }
    }

    fn pool(max_connections: i32) -> navarch_model::ConnectionPoolSettings {
        ConnectionPoolSettings {
            tcp: Some(TcpSettings {
                max_connections,
                ..TcpSettings::default()
            }),
            http: None,
        }
    }

    fn rule() -> DestinationRule {
        let mut rule = DestinationRule::default();
        rule.spec.traffic_policy = Some(TrafficPolicy {
            load_balancer: Some(balancer(SimpleLoadBalancer::Random)),
            connection_pool: Some(pool(5)),
            outlier_detection: Some(OutlierDetection::default()),
            retry_budget: Some(RetryBudget::default()),
            port_level_settings: vec![PortTrafficPolicy {
                port: Some(PortSelector { number: 81 }),
                connection_pool: Some(pool(81)),
                ..PortTrafficPolicy::default()
            }],
            ..TrafficPolicy::default()
        });
        rule.spec.subsets = vec![Subset {
            name: "v1".into(),
            traffic_policy: Some(TrafficPolicy {
                connection_pool: Some(pool(1)),
                port_level_settings: vec![PortTrafficPolicy {
                    port: Some(PortSelector { number: 82 }),
                    load_balancer: Some(balancer(SimpleLoadBalancer::RoundRobin)),
                    ..PortTrafficPolicy::default()
                }],
                ..TrafficPolicy::default()
            }),
            ..Subset::default()
        }];
        rule
    }

    fn limit(policy: &EffectivePolicy<'_>) -> Option<i32> {
        Some(policy.connection_pool?.tcp.as_ref()?.max_connections)
    }

    #[test]
    fn a_port_level_setting_replaces_and_does_not_inherit() {
        let rule = rule();
        let policy = EffectivePolicy::of_rule(&rule, 81, None);
        assert_eq!(limit(&policy), Some(81));
        assert!(policy.load_balancer.is_none());
        assert!(policy.outlier_detection.is_none());
        assert!(policy.retry_budget.is_none());
        assert_eq!(limit(&EffectivePolicy::of_rule(&rule, 80, None)), Some(5));
    }

    #[test]
    fn a_subset_overrides_field_by_field() {
        let rule = rule();
        let policy = EffectivePolicy::of_rule(&rule, 80, Some(&rule.spec.subsets[0]));
        assert_eq!(limit(&policy), Some(1));
        assert!(policy.load_balancer.is_some());
        assert!(policy.outlier_detection.is_some());
    }

    #[test]
    fn a_port_level_setting_of_a_subset_drops_the_rest() {
        let rule = rule();
        let policy = EffectivePolicy::of_rule(&rule, 82, Some(&rule.spec.subsets[0]));
        assert_eq!(limit(&policy), None);
        assert!(policy.outlier_detection.is_none());
        assert!(policy.retry_budget.is_some());
        let simple = policy.load_balancer.and_then(|balancer| balancer.simple);
        assert_eq!(simple, Some(SimpleLoadBalancer::RoundRobin));
    }
}
