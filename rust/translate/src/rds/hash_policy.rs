//! What consistent hashing hashes by.

use navarch_envoy::envoy::config::route::v3::route_action::HashPolicy;
use navarch_envoy::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};
use navarch_model::{
    ConsistentHash, Destination, DestinationRule, LoadBalancerSettings, PortTrafficPolicy,
    TrafficPolicy,
};

use super::scalar::duration;

/// The hash policy of a consistent hash; `None` when it names no key.
pub(super) fn build_hash_policy(hash: &ConsistentHash) -> Option<HashPolicy> {
    let specifier = if let Some(name) = &hash.http_header_name {
        PolicySpecifier::Header(Header {
            header_name: name.clone(),
            regex_rewrite: None,
        })
    } else if let Some(cookie) = &hash.http_cookie {
        let attributes = cookie.attributes.iter().map(|attribute| CookieAttribute {
            name: attribute.name.clone(),
            value: attribute.value.clone(),
        });
        PolicySpecifier::Cookie(Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.map(duration),
            path: cookie.path.clone(),
            attributes: attributes.collect(),
        })
    } else if let Some(source_ip) = hash.use_source_ip {
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip })
    } else {
        PolicySpecifier::QueryParameter(QueryParameter {
            name: hash.http_query_parameter_name.clone()?,
        })
    };
    Some(HashPolicy {
        terminal: false,
        policy_specifier: Some(specifier),
    })
}

/// The consistent hash of a service's port without a VirtualService: the port's own, else the rule's.
pub(super) fn hash_of_port(rule: &DestinationRule, port: u32) -> Option<&ConsistentHash> {
    let policy = rule.spec.traffic_policy.as_ref()?;
    of_port(&policy.port_level_settings, port).or_else(|| of(policy.load_balancer.as_ref()))
}

/// The consistent hash of a route's destination: the subset's port, the subset, the port, the rule, in this order.
///
/// Only a port that the destination names counts (istio route.go `hashForHTTPDestination`).
pub(super) fn hash_of_destination<'a>(
    rule: &'a DestinationRule,
    destination: &Destination,
) -> Option<&'a ConsistentHash> {
    let subsets = rule.spec.subsets.iter();
    let mut subsets = subsets.filter(|subset| subset.name == destination.subset);
    let subset = subsets.next().and_then(|s| s.traffic_policy.as_ref());
    let levels = [subset, rule.spec.traffic_policy.as_ref()];
    levels.into_iter().flatten().find_map(|policy| {
        of_named_port(policy, destination).or_else(|| of(policy.load_balancer.as_ref()))
    })
}

/// Whether any part of the rule hashes consistently.
pub(super) fn has_hash(rule: &DestinationRule) -> bool {
    let has = |policy: &TrafficPolicy| {
        of(policy.load_balancer.as_ref()).is_some()
            || policy
                .port_level_settings
                .iter()
                .any(|settings| of(settings.load_balancer.as_ref()).is_some())
    };
    rule.spec.traffic_policy.as_ref().is_some_and(has)
        || rule
            .spec
            .subsets
            .iter()
            .any(|subset| subset.traffic_policy.as_ref().is_some_and(has))
}

fn of(settings: Option<&LoadBalancerSettings>) -> Option<&ConsistentHash> {
    settings?.consistent_hash.as_ref()
}

fn of_named_port<'a>(
    policy: &'a TrafficPolicy,
    destination: &Destination,
) -> Option<&'a ConsistentHash> {
    of_port(&policy.port_level_settings, destination.port?.number)
}

/// Of the first settings of that port, which shadow later ones.
fn of_port(settings: &[PortTrafficPolicy], port: u32) -> Option<&ConsistentHash> {
    let first = settings
        .iter()
        .find(|settings| settings.port.is_some_and(|p| p.number == port))?;
    of(first.load_balancer.as_ref())
}

#[cfg(test)]
mod tests {
    use navarch_model::{
        ConsistentHash, Destination, DestinationRule, DestinationRuleSpec, LoadBalancerSettings,
        PortSelector, PortTrafficPolicy, Subset, TrafficPolicy,
    };

    use super::{hash_of_destination, hash_of_port};

    fn balance(header: &str) -> LoadBalancerSettings {
        let consistent_hash = Some(ConsistentHash {
            http_header_name: Some(header.to_owned()),
            ..ConsistentHash::default()
        });
        LoadBalancerSettings {
            consistent_hash,
            ..LoadBalancerSettings::default()
        }
    }

    fn policy(header: Option<&str>, port: Option<(u32, &str)>) -> TrafficPolicy {
        let on_port = port.map(|(number, header)| PortTrafficPolicy {
            port: Some(PortSelector { number }),
            load_balancer: Some(balance(header)),
            ..PortTrafficPolicy::default()
        });
        TrafficPolicy {
            load_balancer: header.map(balance),
            port_level_settings: on_port.into_iter().collect(),
            ..TrafficPolicy::default()
        }
    }

    fn rule() -> DestinationRule {
        let subset = |name: &str, policy: Option<TrafficPolicy>| Subset {
            name: name.to_owned(),
            traffic_policy: policy,
            ..Subset::default()
        };
        DestinationRule {
            spec: DestinationRuleSpec {
                traffic_policy: Some(policy(Some("all"), Some((80, "port")))),
                subsets: vec![
                    subset(
                        "own",
                        Some(policy(Some("subset"), Some((80, "subset-port")))),
                    ),
                    subset("plain", None),
                ],
                ..DestinationRuleSpec::default()
            },
            ..DestinationRule::default()
        }
    }

    #[test]
    fn the_nearest_level_wins() {
        let rule = rule();
        for (subset, port, header) in [
            ("own", Some(80), "subset-port"),
            ("own", None, "subset"),
            ("plain", Some(80), "port"),
            ("plain", Some(81), "all"),
            ("", None, "all"),
        ] {
            let destination = Destination {
                subset: subset.to_owned(),
                port: port.map(|number| PortSelector { number }),
                ..Destination::default()
            };
            let hash = hash_of_destination(&rule, &destination).unwrap();
            assert_eq!(hash.http_header_name.as_deref(), Some(header), "{subset}");
        }
        assert_eq!(
            hash_of_port(&rule, 80).unwrap().http_header_name.as_deref(),
            Some("port")
        );
        assert_eq!(
            hash_of_port(&rule, 81).unwrap().http_header_name.as_deref(),
            Some("all")
        );
    }
}
