//! From what differs between two scopes of a sidecar's group to the resources that it may shape.
//!
//! It errs on the side of more: a resource that is named here and did not change is gathered for nothing.

use std::collections::BTreeSet;

use navarch_model::{Hostname, Service, Shared, VirtualService};
use navarch_snapshot::{ProxyScope, ScopeDifference, ServiceKey, destination_hosts};

use crate::lds::OutboundPlaces;
use crate::rds::route_port;

/// Hosts without services have routes on this port only (istio `route.go`).
const PLAIN_HTTP: u32 = 80;

/// Resources of a group that a change may shape.
#[derive(Debug, Default)]
pub struct AffectedResources {
    /// Hosts whose clusters and endpoints are stale.
    pub hosts: BTreeSet<Hostname>,
    /// Where listeners are stale.
    pub listeners: OutboundPlaces,
    /// Whether the name table is stale.
    pub has_names: bool,
    /// Ports whose routes are stale; with any, those that serve all ports are, too.
    route_ports: BTreeSet<u32>,
}

impl AffectedResources {
    /// What a difference touches, and the services that shape more than their value tells (by their endpoints).
    pub fn of(
        old: &ProxyScope,
        new: &ProxyScope,
        difference: &ScopeDifference,
        shaping: &BTreeSet<ServiceKey>,
    ) -> Self {
        let mut services = difference.services.clone();
        let seen = shaping
            .iter()
            .filter(|key| old.has_service(key) || new.has_service(key));
        services.extend(seen.map(|key| key.hostname.clone()));
        let mut made = Self {
            has_names: !services.is_empty(),
            hosts: &services | &difference.rules,
            ..Self::default()
        };
        let rules = stale_rules(new, difference, &made.hosts);
        if made.hosts.is_empty() && rules.is_empty() {
            return made;
        }
        let hosts = made.hosts.iter().cloned();
        // A rule without routes for HTTP still keeps others from its hosts.
        let of_rules = rules.iter().flat_map(|rule| hosts_of(rule));
        let hosts = hosts.chain(of_rules).collect();
        let speaking = [old, new].map(|scope| services_of(scope, &hosts));
        let ports = speaking.iter().flatten().flat_map(|s| &s.ports);
        made.route_ports = ports.map(|port| port.number).collect();
        if !rules.is_empty() {
            made.route_ports.insert(PLAIN_HTTP);
        }
        let explicit: BTreeSet<u32> = explicit_ports(old).chain(explicit_ports(new)).collect();
        made.route_ports.extend(&explicit);

        let connected = rules
            .iter()
            .filter(|rule| !(rule.spec.tcp.is_empty() && rule.spec.tls.is_empty()));
        let hosts = made.hosts.iter().cloned();
        let hosts: BTreeSet<Hostname> = hosts
            .chain(connected.flat_map(|rule| hosts_of(rule)))
            .collect();
        if !hosts.is_empty() {
            for scope in [old, new] {
                let services = services_of(scope, &hosts);
                made.listeners.add_services(scope, services.into_iter());
            }
            made.listeners.ports.extend(explicit);
        }
        made
    }

    /// Whether the route configuration of a name is stale.
    pub fn has_route(&self, name: &str) -> bool {
        match route_port(name) {
            0 => !self.route_ports.is_empty(),
            port => self.route_ports.contains(&port),
        }
    }
}

/// VirtualServices that differ, and those that lead to hosts that do.
fn stale_rules<'a>(
    scope: &'a ProxyScope,
    difference: &'a ScopeDifference,
    hosts: &BTreeSet<Hostname>,
) -> Vec<&'a Shared<VirtualService>> {
    let mut rules: Vec<_> = difference.virtual_services.iter().collect();
    if !hosts.is_empty() {
        let seen = scope
            .egress
            .iter()
            .flat_map(|egress| &egress.virtual_services);
        let leads_there = |rule: &&Shared<VirtualService>| {
            destination_hosts(rule).any(|host| hosts.contains(host))
        };
        rules.extend(seen.filter(leads_there));
    }
    rules
}

fn hosts_of(rule: &VirtualService) -> impl Iterator<Item = Hostname> {
    rule.spec.hosts.iter().map(|host| host.as_str().into())
}

/// The visible services of hosts; either may be wildcards.
fn services_of<'a>(scope: &'a ProxyScope, hosts: &BTreeSet<Hostname>) -> Vec<&'a Shared<Service>> {
    let exact = hosts.iter();
    let mut found: Vec<_> = exact
        .filter_map(|host| scope.find_service(host.as_str()))
        .collect();
    let has_wildcard = hosts.iter().any(Hostname::is_wildcard);
    let is_meant = |service: &&Shared<Service>| {
        (has_wildcard || service.hostname.is_wildcard())
            && hosts.iter().any(|host| service.hostname.is_matching(host))
    };
    found.extend(scope.services.iter().filter(is_meant));
    found
}

/// Ports that a Sidecar's egress listeners have of their own.
fn explicit_ports(scope: &ProxyScope) -> impl Iterator<Item = u32> {
    let listeners = scope.egress.iter().filter_map(|e| e.listener.as_ref());
    listeners.filter_map(|listener| Some(listener.port.as_ref()?.number))
}
