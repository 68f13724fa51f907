//! TCP and TLS routes of VirtualServices as filter chains of outbound listeners.
//!
//! Source: istio `pilot/pkg/networking/core/tls.go`.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{
    Destination, Hostname, L4MatchAttributes, Protocol, Resolution, RouteDestination, Service,
    ServicePort, Shared, TlsMatchAttributes, VirtualService, is_selected,
};
use navarch_snapshot::{NodeGroup, ProxyScope};

use super::filter_chain::ChainMatch;
use super::network_filter::{TcpPolicy, TcpRoute, TcpTarget};
use super::outbound::{ChainContent, OutboundChain};
use crate::name;
use crate::rds::{Precedence, short_names};

/// The gateway that stands for sidecars.
const MESH_GATEWAY: &str = "mesh";

/// The VirtualServices of one egress listener that route connections, found by host.
pub(super) struct TcpRouting<'a> {
    scope: &'a ProxyScope,
    rules: Vec<&'a Shared<VirtualService>>,
    by_host: BTreeMap<&'a str, Vec<usize>>,
    wildcards: Vec<(Hostname, usize)>,
}

impl<'a> TcpRouting<'a> {
    /// Index rules; those without TCP or TLS routes for sidecars are left out.
    pub(super) fn new(scope: &'a ProxyScope, rules: &'a [Shared<VirtualService>]) -> Self {
        let is_relevant = |rule: &VirtualService| {
            let spec = &rule.spec;
            !(spec.tcp.is_empty() && spec.tls.is_empty())
                && (spec.gateways.is_empty() || spec.gateways.iter().any(|g| g == MESH_GATEWAY))
        };
        let mut rules: Vec<_> = rules.iter().filter(|rule| is_relevant(rule)).collect();
        let precedence = Precedence::new(scope);
        rules.sort_by_key(|rule| precedence.mesh_rank(rule));
        let mut by_host: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut wildcards = Vec::new();
        for (i, rule) in rules.iter().enumerate() {
            for host in &rule.spec.hosts {
                if host.starts_with('*') {
                    wildcards.push((Hostname::from(host.as_str()), i));
                } else {
                    by_host.entry(host).or_default().push(i);
                }
            }
        }
        Self {
            scope,
            rules,
            by_host,
            wildcards,
        }
    }

    /// The rules for a host, in order of precedence.
    fn rules_for(&self, host: &Hostname) -> impl Iterator<Item = &'a VirtualService> {
        let mut found: BTreeSet<usize> = self
            .by_host
            .get(host.as_str())
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let wild = self
            .wildcards
            .iter()
            .filter(|(wildcard, _)| wildcard.is_matching(host));
        found.extend(wild.map(|(_, i)| *i));
        if host.is_wildcard() {
            for (name, rules) in &self.by_host {
                if Hostname::from(*name).is_matching(host) {
                    found.extend(rules);
                }
            }
        }
        found.into_iter().map(|i| &**self.rules[i])
    }

    /// The chains of a service's port; `cidr` is its address where that is a range.
    pub(super) fn chains(
        &self,
        service: &Service,
        port: &ServicePort,
        cidr: Option<&str>,
        is_on_wildcard: bool,
    ) -> Vec<OutboundChain> {
        let cidrs: Vec<String> = cidr.map(str::to_owned).into_iter().collect();
        if port.protocol.is_tls() {
            self.tls_chains(service, port, cidrs, is_on_wildcard)
        } else {
            self.tcp_chains(service, port, cidrs)
        }
    }

    fn tls_chains(
        &self,
        service: &Service,
        port: &ServicePort,
        cidrs: Vec<String>,
        is_on_wildcard: bool,
    ) -> Vec<OutboundChain> {
        let mut chains = Vec::new();
        let mut seen = BTreeSet::new();
        for rule in self.rules_for(&service.hostname) {
            for route in &rule.spec.tls {
                for condition in &route.matches {
                    let key = (&condition.sni_hosts, &condition.destination_subnets);
                    if !is_tls_match(condition, &self.scope.group, port.number) || !seen.insert(key)
                    {
                        continue;
                    }
                    let own = &condition.destination_subnets;
                    let has_own = !own.is_empty() && port.number > 0;
                    chains.push(OutboundChain {
                        conditions: ChainMatch {
                            sni_hosts: condition.sni_hosts.clone(),
                            destination_cidrs: if has_own { own.clone() } else { cidrs.clone() },
                            ..ChainMatch::default()
                        },
                        origin: Some(origin(rule)),
                        content: self.route(&route.route, port, rule),
                    });
                }
            }
        }
        if chains.is_empty() {
            // With an address of its own a service is known by it; else only its name tells.
            let needs_name = !cidrs.is_empty() || (service.addresses.is_empty() && is_on_wildcard);
            let sni_hosts = if needs_name {
                self.names_of(service)
            } else {
                Vec::new()
            };
            chains.push(self.default_chain(service, port, sni_hosts, cidrs));
        }
        chains
    }

    /// The host of a service, and those of the `ExternalName` services that stand for it with their short forms.
    fn names_of(&self, service: &Service) -> Vec<String> {
        let mut names = vec![service.hostname.to_string()];
        for alias in &service.aliases {
            let host = alias.hostname.as_str();
            names.push(host.to_owned());
            names.extend(short_names(host, &self.scope.group.dns_domain));
        }
        names
    }

    fn tcp_chains(
        &self,
        service: &Service,
        port: &ServicePort,
        cidrs: Vec<String>,
    ) -> Vec<OutboundChain> {
        let mut chains = Vec::new();
        let mut needs_default = true;
        for rule in self.rules_for(&service.hostname) {
            for route in &rule.spec.tcp {
                let applying = || {
                    let conditions = route.matches.iter();
                    conditions.filter(|c| is_tcp_match(c, &self.scope.group, port.number))
                };
                let is_terminal = route.matches.is_empty()
                    || applying().any(|c| c.destination_subnets.is_empty() || port.number == 0);
                let content = || self.route(&route.route, port, rule);
                if is_terminal {
                    let conditions = ChainMatch {
                        destination_cidrs: cidrs,
                        ..ChainMatch::default()
                    };
                    chains.push(OutboundChain {
                        conditions,
                        origin: Some(origin(rule)),
                        content: content(),
                    });
                    return chains;
                }
                let mut subnets: Vec<String> = applying()
                    .flat_map(|c| c.destination_subnets.iter().cloned())
                    .collect();
                if !subnets.is_empty() {
                    subnets.sort();
                    needs_default &= subnets != cidrs;
                    let conditions = ChainMatch {
                        destination_cidrs: subnets,
                        ..ChainMatch::default()
                    };
                    chains.push(OutboundChain {
                        conditions,
                        origin: None,
                        content: content(),
                    });
                }
            }
        }
        if needs_default {
            chains.push(self.default_chain(service, port, Vec::new(), cidrs));
        }
        chains
    }

    /// To the service itself.
    fn default_chain(
        &self,
        service: &Service,
        port: &ServicePort,
        sni_hosts: Vec<String>,
        destination_cidrs: Vec<String>,
    ) -> OutboundChain {
        // A Sidecar's own port means the only port of a service that has one; else it leads nowhere.
        let number = match &service.ports[..] {
            [only] => only.number,
            _ => port.number,
        };
        let cluster = name::outbound_cluster(number, "", service.hostname.as_str());
        let rule = self.scope.destination_rule(&service.hostname);
        OutboundChain {
            conditions: ChainMatch {
                sni_hosts,
                destination_cidrs,
                ..ChainMatch::default()
            },
            origin: None,
            content: ChainContent::Tcp(TcpRoute {
                stat_prefix: self.stat_prefix(&cluster, service, number),
                target: TcpTarget::Single(cluster),
                protocol: port.protocol,
                policy: TcpPolicy::new(rule.map(|rule| &rule.spec), ""),
            }),
        }
    }

    /// As [`stat_prefix`], but for Istio the port has no name where no rule leads.
    fn stat_prefix(&self, cluster: &str, service: &Service, number: u32) -> String {
        let pattern = &self.scope.mesh_config.outbound_cluster_stat_name;
        if pattern.is_empty() {
            return cluster.to_owned();
        }
        name::stat_name(pattern, service, &nameless_port(number), "", 0)
    }

    fn route(
        &self,
        routes: &[RouteDestination],
        port: &ServicePort,
        rule: &VirtualService,
    ) -> ChainContent {
        ChainContent::Tcp(route_to(
            self.scope,
            routes,
            (port.number, port.protocol),
            rule,
        ))
    }
}

fn nameless_port(number: u32) -> ServicePort {
    ServicePort {
        name: "".into(),
        number,
        protocol: Protocol::Tcp,
        target_port: None,
        target_port_name: None,
    }
}

/// The statistics' prefix: the cluster's name, or as the mesh's pattern says.
fn stat_prefix(
    scope: &ProxyScope,
    cluster: &str,
    service: Option<&Service>,
    number: u32,
    subset: &str,
) -> String {
    let pattern = &scope.mesh_config.outbound_cluster_stat_name;
    match service {
        Some(service) if !pattern.is_empty() => {
            let port = service
                .find_port(number)
                .cloned()
                .unwrap_or_else(|| nameless_port(number));
            name::stat_name(pattern, service, &port, subset, 0)
        }
        _ => cluster.to_owned(),
    }
}

/// The TCP proxy of a rule's destinations, entered at a port.
pub(super) fn route_to(
    scope: &ProxyScope,
    routes: &[RouteDestination],
    (number, protocol): (u32, Protocol),
    rule: &VirtualService,
) -> TcpRoute {
    let cluster_of = |destination: &Destination| {
        let service = scope.find_service(&destination.host);
        destination_cluster(destination, service.map(|service| &**service), number)
    };
    let Some(first) = routes.first() else {
        return TcpRoute::to_cluster(name::BLACK_HOLE_CLUSTER);
    };
    let service = scope.find_service(&first.destination.host);
    let destination_rule = service.and_then(|service| scope.destination_rule(&service.hostname));
    let spec = destination_rule.map(|rule| &rule.spec);
    if let [only] = routes {
        let cluster = cluster_of(&only.destination);
        let subset = &only.destination.subset;
        return TcpRoute {
            stat_prefix: stat_prefix(scope, &cluster, service.map(|s| &**s), number, subset),
            target: TcpTarget::Single(cluster),
            protocol,
            policy: TcpPolicy::new(spec, subset),
        };
    }
    let weighted: Vec<(String, u32)> = routes
        .iter()
        .filter_map(|route| {
            let weight = u32::try_from(route.weight)
                .ok()
                .filter(|weight| *weight > 0)?;
            Some((cluster_of(&route.destination), weight))
        })
        .collect();
    TcpRoute {
        target: if weighted.is_empty() {
            // Envoy refuses a choice among none.
            TcpTarget::Single(name::BLACK_HOLE_CLUSTER.to_owned())
        } else {
            TcpTarget::Weighted(weighted)
        },
        stat_prefix: format!("{}.{}", rule.metadata.name, rule.metadata.namespace),
        protocol,
        policy: TcpPolicy::new(spec, ""),
    }
}

/// The cluster of a destination: its port, the only port of its service, or the listener's
/// (istio `pilot/pkg/networking/core/route/route.go` `GetDestinationCluster`).
pub(super) fn destination_cluster(
    destination: &Destination,
    service: Option<&Service>,
    listener_port: u32,
) -> String {
    let own = destination.port.map(|port| port.number);
    let only = service.and_then(|service| match &service.ports[..] {
        [only] => Some(only.number),
        _ => None,
    });
    let concrete = service
        .filter(|service| service.resolution == Resolution::Alias)
        .and_then(|service| service.external_name.as_ref());
    let host = concrete.map_or(destination.host.as_str(), Hostname::as_str);
    name::outbound_cluster(
        own.or(only).unwrap_or(listener_port),
        &destination.subset,
        host,
    )
}

fn origin(rule: &VirtualService) -> (String, String) {
    (rule.metadata.namespace.clone(), rule.metadata.name.clone())
}

fn is_gateway_match(gateways: &[String]) -> bool {
    gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH_GATEWAY)
}

fn is_tls_match(condition: &TlsMatchAttributes, group: &NodeGroup, port: u32) -> bool {
    is_gateway_match(&condition.gateways)
        && is_selected(&condition.source_labels, &group.labels)
        && (condition.port == 0 || condition.port == port)
        && (condition.source_namespace.is_empty() || condition.source_namespace == *group.namespace)
}

fn is_tcp_match(condition: &L4MatchAttributes, group: &NodeGroup, port: u32) -> bool {
    is_gateway_match(&condition.gateways)
        && is_selected(&condition.source_labels, &group.labels)
        && (condition.port == 0 || condition.port == port)
        && (condition.source_namespace.is_empty() || condition.source_namespace == *group.namespace)
}

#[cfg(test)]
mod tests {
    use navarch_model::{Destination, PortSelector};

    use super::destination_cluster;

    #[test]
    fn a_destination_without_a_port_takes_the_listeners() {
        let mut destination = Destination {
            host: "a.b".into(),
            ..Destination::default()
        };
        assert_eq!(
            destination_cluster(&destination, None, 90),
            "outbound|90||a.b"
        );
        destination.port = Some(PortSelector { number: 80 });
        destination.subset = "v1".into();
        assert_eq!(
            destination_cluster(&destination, None, 90),
            "outbound|80|v1|a.b"
        );
    }
}
