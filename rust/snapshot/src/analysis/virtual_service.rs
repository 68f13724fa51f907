//! VirtualServices: gateways, hosts and delegates that are not there, hosts of which only one can hold.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{
    ConfigKey, Destination, Gateway, Hostname, Kind, Metadata, Shared, VirtualService, Visibility,
};

use super::{Findings, full_name, key_of};
use crate::MeshSnapshot;
use crate::virtual_service::{MESH, resolve};

pub(super) fn check(mesh: &MeshSnapshot, told: &mut Findings) {
    let rules = &mesh.analysis.written.virtual_services;
    let resolved: Vec<VirtualService> = rules
        .iter()
        .map(|rule| resolve(rule, &mesh.domain_suffix))
        .collect();
    let gateways: BTreeMap<String, ServerHosts> = mesh
        .rules
        .gateways
        .iter()
        .map(|gateway| (full_name(&gateway.metadata), ServerHosts::new(gateway)))
        .collect();
    for rule in &resolved {
        check_gateways(rule, &gateways, told);
        check_destinations(mesh, rule, told);
    }
    check_mesh_hosts(mesh, &resolved, told);
    check_delegates(rules, told);
}

/// The hosts of a Gateway's servers; wildcards apart, so that a name is looked up and not searched for.
#[derive(Default)]
struct ServerHosts {
    exact: BTreeMap<Hostname, BTreeSet<String>>,
    wildcard: Vec<(Hostname, String)>,
    is_made: bool,
}

impl ServerHosts {
    fn new(gateway: &Gateway) -> Self {
        let mut hosts = Self {
            is_made: !gateway.sources.is_empty(),
            ..Self::default()
        };
        let namespace = &gateway.metadata.namespace;
        for pattern in gateway.spec.servers.iter().flat_map(|s| &s.hosts) {
            let (owner, host) = pattern.split_once('/').unwrap_or(("*", pattern));
            let owner = if owner == "." { namespace } else { owner };
            let host = Hostname::from(host);
            if host.is_wildcard() {
                hosts.wildcard.push((host, owner.to_owned()));
            } else {
                hosts
                    .exact
                    .entry(host)
                    .or_default()
                    .insert(owner.to_owned());
            }
        }
        hosts
    }

    fn has(&self, host: &Hostname, namespace: &str) -> bool {
        let is_open = |owner: &str| owner == "*" || owner == namespace;
        let of_exact = |owners: &BTreeSet<String>| owners.iter().any(|owner| is_open(owner));
        let is_exact = if host.is_wildcard() {
            let mut exact = self.exact.iter();
            exact.any(|(name, owners)| name.is_matching(host) && of_exact(owners))
        } else {
            self.exact.get(host).is_some_and(of_exact)
        };
        let mut wildcards = self.wildcard.iter();
        is_exact || wildcards.any(|(name, owner)| name.is_matching(host) && is_open(owner))
    }
}

fn rule_key(rule: &VirtualService) -> ConfigKey {
    key_of(Kind::VirtualService, &rule.metadata)
}

fn check_gateways(
    rule: &VirtualService,
    gateways: &BTreeMap<String, ServerHosts>,
    told: &mut Findings,
) {
    for (name, path) in named_gateways(rule) {
        if name != MESH && !gateways.contains_key(name) {
            let message = format!(
                "there is no Gateway `{name}`, so that nothing of this is served there; create it, or correct the name"
            );
            told.error(rule_key(rule), "unknown-gateway", path, message);
        }
    }
    check_hosts(rule, gateways, told);
}

/// Each gateway must take some host, and each host be taken by some gateway, if it is not for the mesh.
fn check_hosts(
    rule: &VirtualService,
    gateways: &BTreeMap<String, ServerHosts>,
    told: &mut Findings,
) {
    let namespace = &rule.metadata.namespace;
    let names = &rule.spec.gateways;
    let hosts: Vec<Hostname> = rule.spec.hosts.iter().map(|h| h.as_str().into()).collect();
    let mut taken: BTreeSet<&Hostname> = BTreeSet::new();
    // Of others it is not known which hosts they are for.
    let mut is_complete = !hosts.is_empty();
    for (i, name) in names.iter().enumerate() {
        let Some(servers) = gateways.get(name).filter(|servers| !servers.is_made) else {
            is_complete = false;
            continue;
        };
        let of_one: Vec<&Hostname> = hosts
            .iter()
            .filter(|host| servers.has(host, namespace))
            .collect();
        if of_one.is_empty() && !hosts.is_empty() {
            let message = format!(
                "no server of the Gateway `{name}` takes a host of this object from this namespace; \
                 add one to a server's hosts"
            );
            let path = format!("spec.gateways[{i}]");
            told.warn(rule_key(rule), "host-not-in-gateway", path, message);
            is_complete = false;
        }
        taken.extend(of_one);
    }
    for (i, host) in hosts.iter().enumerate().filter(|_| is_complete) {
        if !taken.contains(host) {
            let message = format!(
                "no server of the Gateways {names:?} takes `{host}` from this namespace; add it to a server's hosts"
            );
            let path = format!("spec.hosts[{i}]");
            told.warn(rule_key(rule), "host-not-in-gateway", path, message);
        }
    }
}

/// Every gateway that a rule names, with the place.
fn named_gateways(rule: &VirtualService) -> Vec<(&str, String)> {
    fn put<'a>(named: &mut Vec<(&'a str, String)>, names: &'a [String], at: &str) {
        let names = names.iter().enumerate();
        named.extend(names.map(|(i, name)| (name.as_str(), format!("{at}.gateways[{i}]"))));
    }
    let spec = &rule.spec;
    let mut named = Vec::new();
    put(&mut named, &spec.gateways, "spec");
    for (i, route) in spec.http.iter().enumerate() {
        for (j, condition) in route.matches.iter().enumerate() {
            let at = format!("spec.http[{i}].match[{j}]");
            put(&mut named, &condition.gateways, &at);
        }
    }
    for (i, route) in spec.tls.iter().enumerate() {
        for (j, condition) in route.matches.iter().enumerate() {
            let at = format!("spec.tls[{i}].match[{j}]");
            put(&mut named, &condition.gateways, &at);
        }
    }
    for (i, route) in spec.tcp.iter().enumerate() {
        for (j, condition) in route.matches.iter().enumerate() {
            let at = format!("spec.tcp[{i}].match[{j}]");
            put(&mut named, &condition.gateways, &at);
        }
    }
    named
}

/// Who has a host on the mesh: one for everybody, and those of single namespaces.
#[derive(Default)]
struct HostOwners<'a> {
    public: Option<&'a Metadata>,
    by_namespace: BTreeMap<String, &'a Metadata>,
}

/// Sidecars take one VirtualService a host; gateways merge them.
fn check_mesh_hosts(mesh: &MeshSnapshot, rules: &[VirtualService], told: &mut Findings) {
    let default = &mesh.mesh_config.default_virtual_service_export_to;
    let mut owners: BTreeMap<&str, HostOwners<'_>> = BTreeMap::new();
    for rule in rules {
        if !rule.spec.gateways.iter().any(|name| name == MESH) {
            continue;
        }
        let scope = viewers(rule, default);
        for (i, host) in rule.spec.hosts.iter().enumerate() {
            let known = owners.entry(host).or_default();
            let found = known.find(scope.as_ref());
            // A host that stands twice in one object is no conflict.
            if let Some((older, is_same_scope)) = found.filter(|(o, _)| *o != &rule.metadata) {
                let message = format!(
                    "the VirtualService `{}` has this host, too, and a sidecar takes the routes of one only; \
                     put the routes into one object",
                    full_name(older)
                );
                let path = format!("spec.hosts[{i}]");
                if is_same_scope {
                    told.error(rule_key(rule), "mesh-host-conflict", path, message);
                } else {
                    told.warn(rule_key(rule), "mesh-host-conflict", path, message);
                }
            }
            known.add(scope.as_ref(), &rule.metadata);
        }
    }
}

impl<'a> HostOwners<'a> {
    /// An owner whom some of the viewers see as well, and whether it is seen by the same.
    fn find(&self, viewers: Option<&BTreeSet<String>>) -> Option<(&'a Metadata, bool)> {
        let Some(viewers) = viewers else {
            let of_one = || {
                self.by_namespace
                    .values()
                    .next()
                    .map(|owner| (*owner, false))
            };
            return self.public.map(|owner| (owner, true)).or_else(of_one);
        };
        let mut of_viewers = viewers
            .iter()
            .filter_map(|name| self.by_namespace.get(name));
        let known = of_viewers.next().map(|owner| (*owner, true));
        known.or_else(|| {
            let public = self.public.filter(|_| !viewers.is_empty());
            public.map(|owner| (owner, false))
        })
    }

    fn add(&mut self, viewers: Option<&BTreeSet<String>>, owner: &'a Metadata) {
        match viewers {
            None => {
                self.public.get_or_insert(owner);
            }
            Some(viewers) => {
                for name in viewers {
                    self.by_namespace.entry(name.clone()).or_insert(owner);
                }
            }
        }
    }
}

/// The namespaces that a rule is exported to; `None` for all.
fn viewers(rule: &VirtualService, default: &[String]) -> Option<BTreeSet<String>> {
    let own = &rule.spec.export_to;
    let tokens = if own.is_empty() { default } else { own };
    let mut names = BTreeSet::new();
    for token in tokens {
        match Visibility::parse(token) {
            Visibility::Public => return None,
            Visibility::Private => drop(names.insert(rule.metadata.namespace.clone())),
            Visibility::Nobody => {}
            Visibility::Namespace(name) => drop(names.insert(name.to_string())),
        }
    }
    (!tokens.is_empty()).then_some(names)
}

/// Where a rule sends connections; requests are looked at where routes are built, as each proxy sees them.
fn check_destinations(mesh: &MeshSnapshot, rule: &VirtualService, told: &mut Findings) {
    let spec = &rule.spec;
    for (i, route) in spec.http.iter().enumerate() {
        for (j, to) in route.route.iter().enumerate() {
            let at = format!("spec.http[{i}].route[{j}].destination");
            check_port_named(mesh, (rule, &to.destination), at, told);
        }
    }
    let tls = spec.tls.iter().map(|route| &route.route).enumerate();
    let tcp = spec.tcp.iter().map(|route| &route.route).enumerate();
    let tls = tls.map(|(i, to)| ("tls", i, to));
    for (list, i, to) in tls.chain(tcp.map(|(i, to)| ("tcp", i, to))) {
        for (j, to) in to.iter().enumerate() {
            let at = format!("spec.{list}[{i}].route[{j}].destination");
            check_destination(mesh, (rule, &to.destination), &at, told);
            check_port_named(mesh, (rule, &to.destination), at, told);
        }
    }
}

fn check_destination(
    mesh: &MeshSnapshot,
    (rule, destination): (&VirtualService, &Destination),
    at: &str,
    told: &mut Findings,
) {
    let host = &destination.host;
    let services = mesh.services_of_host(host);
    if services.is_empty() {
        let message = format!("there is no service `{host}`; connections are closed");
        told.error(
            rule_key(rule),
            "unknown-destination",
            format!("{at}.host"),
            message,
        );
        return;
    }
    let port = destination.port.map(|port| port.number);
    if let Some(port) = port.filter(|n| services.iter().all(|s| s.find_port(*n).is_none())) {
        let message = format!("`{host}` has no port {port}; connections are closed");
        told.error(
            rule_key(rule),
            "unknown-port",
            format!("{at}.port.number"),
            message,
        );
    }
    let subset = &destination.subset;
    if !subset.is_empty()
        && !mesh
            .rules
            .destination_rules
            .has_subset(&host.as_str().into(), subset)
    {
        let message = format!(
            "no DestinationRule of `{host}` has a subset `{subset}`; connections are closed"
        );
        told.error(
            rule_key(rule),
            "unknown-subset",
            format!("{at}.subset"),
            message,
        );
    }
}

/// Without a port a destination gets the one that the client called: it must have it.
fn check_port_named(
    mesh: &MeshSnapshot,
    (rule, destination): (&VirtualService, &Destination),
    at: String,
    told: &mut Findings,
) {
    let host = &destination.host;
    if destination.port.is_some() || rule.spec.hosts.contains(host) {
        return;
    }
    let services = mesh.services_of_host(host);
    if services.iter().any(|service| service.ports.len() > 1) {
        let message = format!(
            "`{host}` has several ports and none is named, so that the one called by the client is taken; name one"
        );
        told.info(rule_key(rule), "destination-port-required", at, message);
    }
}

/// Rules without hosts have an effect through others only.
fn check_delegates(rules: &[Shared<VirtualService>], told: &mut Findings) {
    let mut named: BTreeSet<(&str, &str)> = BTreeSet::new();
    for rule in rules {
        let delegates = rule.spec.http.iter().filter_map(|r| r.delegate.as_ref());
        named.extend(delegates.map(|delegate| {
            let own = &rule.metadata.namespace;
            let namespace = &delegate.namespace;
            let namespace = if namespace.is_empty() { own } else { namespace };
            (namespace.as_str(), delegate.name.as_str())
        }));
    }
    for rule in rules.iter().filter(|rule| rule.spec.hosts.is_empty()) {
        let metadata = &rule.metadata;
        if !named.contains(&(metadata.namespace.as_str(), metadata.name.as_str())) {
            let message =
                "has no hosts, and no other VirtualService delegates to it: it has no effect";
            told.info(
                rule_key(rule),
                "delegate-unused",
                String::new(),
                message.to_owned(),
            );
        }
    }
}
