//! The domains of virtual hosts: what requests for a service may call it.
//!
//! Source: istio pilot/pkg/networking/core/httproute.go `generateVirtualHostDomains`, `dedupeDomains`.

use std::sync::Arc;

use navarch_model::{Hostname, Registry, Service, hash_text};
use navarch_snapshot::NodeGroup;

use super::by_hash::ByHash;
use super::host_names::HostNames;
use crate::address::{is_ip, is_ipv6};
use crate::name::Decimal;

/// Who asks, as far as names depend on it.
#[derive(Debug, Clone)]
pub(super) struct Viewer {
    /// Such as `shop.svc.cluster.local`.
    pub(super) dns_domain: Arc<str>,
    pub(super) has_ipv4: bool,
    pub(super) has_ipv6: bool,
    /// Whether it resolves hosts without an address to allocated ones.
    pub(super) has_allocated_addresses: bool,
}

impl Viewer {
    pub(super) fn new(group: &NodeGroup) -> Self {
        Self {
            dns_domain: group.dns_domain.clone(),
            has_ipv4: group.has_ipv4,
            has_ipv6: group.has_ipv6,
            has_allocated_addresses: group.metadata.dns_capture,
        }
    }

    /// The addresses of a service that the proxy can use: of both families the one that comes first.
    /// An entry's own count all, as Envoy has listeners for them.
    fn addresses<'a>(&self, service: &'a Service) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        let mut all = &service.addresses;
        if all.is_empty() && self.has_allocated_addresses {
            all = &service.auto_allocated_addresses;
        }
        let wants_ipv6 = match (self.has_ipv4, self.has_ipv6) {
            (true, true) => all.first().is_some_and(|address| address.contains(':')),
            (_, has_ipv6) => has_ipv6,
        };
        let has_listeners = service.registry == Registry::External && !service.addresses.is_empty();
        all.iter()
            .filter(move |a| has_listeners || a.contains(':') == wants_ipv6)
    }
}

/// `host:port` in parts, with brackets around an IPv6 address.
pub(super) fn host_and_port<'a>(host: &'a str, port: &'a Decimal) -> [&'a str; 5] {
    let (open, close) = brackets(host);
    [open, host, close, ":", port.as_str()]
}

/// What stands around a host in a request: brackets around an IPv6 address.
fn brackets(host: &str) -> (&'static str, &'static str) {
    if is_ipv6(host) { ("[", "]") } else { ("", "") }
}

/// Whether a host is to be written in lower case.
pub(super) fn has_uppercase(host: &[u8]) -> bool {
    // To the end in any case, so that many bytes are looked at together.
    host.iter()
        .fold(false, |has, byte| has | byte.is_ascii_uppercase())
}

/// Gives each domain to the first virtual host that asks for it.
#[derive(Debug)]
pub(super) struct DomainRegistry {
    /// Whose domains are told apart by port, as requests for all ports come together.
    has_ports: bool,
    domains: ByHash<Domain>,
    /// Whether there is a virtual host of a name.
    names: ByHash<bool>,
}

/// What became of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Domain {
    Free,
    /// The host of a service, or its `host:port`, which no short name of another may take.
    Known,
    Taken,
}

impl DomainRegistry {
    /// Of about so many services.
    pub(super) fn new(n_services: usize, has_ports: bool) -> Self {
        // Most services have a host, the same with a dot at its end, and an address.
        let n_domains = n_services * if has_ports { 6 } else { 3 };
        Self {
            has_ports,
            domains: ByHash::with_capacity(n_domains),
            names: ByHash::with_capacity(n_services),
        }
    }

    /// A service has this host, on this port.
    pub(super) fn add_known(&mut self, host: &str, port: u32) {
        self.domains.of(hash_text(host), Domain::Known);
        if self.has_ports {
            let name = host_and_port(host, &Decimal::new(port)).concat();
            self.domains.of(hash_text(&name), Domain::Known);
        }
    }

    /// What a virtual host for a host that is no service is called: its domain is taken from now on.
    ///
    /// `None` if there is one of that name, or the domain is not free.
    pub(super) fn take_host(&mut self, host: &str, port: u32) -> Option<HostNames> {
        let mut names = self.take_name(host, port, host.len() + 4)?;
        let (open, close) = brackets(host);
        self.take(&[open, host, close], false, &mut names);
        self.finish(names, port)
    }

    /// What a virtual host for a service is called: the domains that are still free, with ports appended where requests for
    /// all ports come together; they are taken from now on.
    ///
    /// `None` if there is one of that name, or no domain is free.
    pub(super) fn take_service(
        &mut self,
        service: &Service,
        port: u32,
        viewer: &Viewer,
    ) -> Option<HostNames> {
        let n_hosts = 1 + service.aliases.len();
        // The short names together are not much longer than the host, once for themselves and once with a port.
        let n_each = if self.has_ports { 8 } else { 4 };
        let capacity_bytes = n_hosts * (n_each * service.hostname.as_str().len() + 32);
        let mut taking = Taking {
            names: self.take_name(service.hostname.as_str(), port, capacity_bytes)?,
            port: self.has_ports.then(|| Decimal::new(port)),
            registry: self,
        };
        taking.add_hosts("", service, viewer);
        if service.is_headless() {
            taking.add_hosts("*.", service, viewer);
        }
        for address in viewer.addresses(service) {
            taking.add("", [address, ""], false);
        }
        let names = taking.names;
        self.finish(names, port)
    }

    /// A virtual host's own name, unless there is one.
    fn take_name(&mut self, host: &str, port: u32, capacity_bytes: usize) -> Option<HostNames> {
        let port = Decimal::new(port);
        let names = HostNames::new(&host_and_port(host, &port), capacity_bytes);
        let is_taken = self.names.of(hash_text(names.name_bytes()), false);
        (!std::mem::replace(is_taken, true)).then_some(names)
    }

    fn finish(&self, names: HostNames, port: u32) -> Option<HostNames> {
        // Without a port a request means port 80.
        let names = if self.has_ports && port != 80 {
            names.filtered(|domain| domain.contains(':'))
        } else {
            names
        };
        names.has_domains().then_some(names)
    }

    /// Add a domain made of parts to those of a virtual host, if it is free.
    fn take(&mut self, parts: &[&str], is_expanded: bool, names: &mut HostNames) {
        let len = names.len();
        let domain = names.push(parts);
        let written = hash_text(domain);
        let lower = if has_uppercase(domain) {
            hash_text(domain.to_ascii_lowercase())
        } else {
            written
        };
        let is_known = is_expanded && self.domains.find(written) == Some(Domain::Known);
        let state = self.domains.of(lower, Domain::Free);
        if is_known || *state == Domain::Taken {
            names.truncate(len);
        } else {
            *state = Domain::Taken;
        }
    }
}

/// The domains of one service while they are taken.
struct Taking<'a> {
    registry: &'a mut DomainRegistry,
    port: Option<Decimal>,
    names: HostNames,
}

impl Taking<'_> {
    /// All ways to say a service's hosts, behind `prefix`: hosts themselves, or all names below them.
    fn add_hosts(&mut self, prefix: &str, service: &Service, viewer: &Viewer) {
        let aliases = service.aliases.iter().map(|alias| &alias.hostname);
        // Only another way to say a host gives way to others.
        let is_expanded = prefix.is_empty();
        for host in std::iter::once(&service.hostname).chain(aliases) {
            let host = Hostname::as_str(host);
            self.add(prefix, [host, ""], false);
            if !is_ip(host) {
                self.add(prefix, [host, "."], is_expanded);
            }
            for_short_names(host, &viewer.dns_domain, |short| {
                self.add(prefix, short, is_expanded);
            });
        }
    }

    fn add(&mut self, prefix: &str, host: [&str; 2], is_expanded: bool) {
        // Only a host as it was written can be an address.
        let (open, close) = brackets(if host[1].is_empty() { host[0] } else { "" });
        let mut parts = [prefix, open, host[0], host[1], close, "", ""];
        let registry = &mut *self.registry;
        registry.take(&parts[..5], is_expanded, &mut self.names);
        if let Some(port) = &self.port {
            [parts[5], parts[6]] = [":", port.as_str()];
            registry.take(&parts, is_expanded, &mut self.names);
        }
    }
}

/// The shorter ways to say a host for a client of a DNS domain (istio `GenerateAltVirtualHosts`).
pub(crate) fn short_names(host: &str, dns_domain: &str) -> Vec<String> {
    let mut names = Vec::new();
    for_short_names(host, dns_domain, |name| names.push(name.concat()));
    names
}

/// Tell each of the shorter ways, in two parts.
fn for_short_names(host: &str, dns_domain: &str, mut tell: impl FnMut([&str; 2])) {
    match dns_domain.find(".svc.") {
        Some(end) if host.ends_with(&dns_domain[end..]) => {
            kubernetes_short_names(host, &dns_domain[..end], tell);
        }
        // Another host's short name could be a Kubernetes service's.
        Some(_) => {}
        None => {
            for name in shared_domain_short_names(host, dns_domain) {
                tell([&name, ""]);
            }
        }
    }
}

fn kubernetes_short_names(host: &str, namespace: &str, mut tell: impl FnMut([&str; 2])) {
    let (Some(end), Some(dot)) = (host.find(".svc."), host.find('.')) else {
        return;
    };
    if dot + 1 > end {
        return;
    }
    let short = &host[..end];
    if host[dot + 1..end] == *namespace {
        tell([&host[..dot], ""]);
        tell([short, ".svc"]);
        tell([short, ""]);
    } else {
        tell([short, ""]);
        tell([short, ".svc"]);
    }
}

/// Names without the part that host and client share; outside Kubernetes.
fn shared_domain_short_names(host: &str, dns_domain: &str) -> Vec<String> {
    let pairs = host.rsplit('.').zip(dns_domain.rsplit('.'));
    let n_shared = pairs.take_while(|(a, b)| a == b).count();
    if n_shared == 0 {
        return Vec::new();
    }
    let labels: Vec<&str> = host.split('.').collect();
    let (unique, shared) = labels.split_at(labels.len() - n_shared);
    let name = unique.join(".");
    let mut names = vec![name.clone()];
    if unique.len() == 2 {
        names.push(format!("{name}.{}", shared[0]));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::{DomainRegistry, HostNames, short_names};

    #[test]
    fn short_names_depend_on_the_client() {
        let host = "a.ns1.svc.cluster.local";
        for (dns_domain, want) in [
            ("ns1.svc.cluster.local", &["a", "a.ns1.svc", "a.ns1"][..]),
            ("ns2.svc.cluster.local", &["a.ns1", "a.ns1.svc"]),
            ("ns1.svc.other.local", &[]),
            ("other.example", &[]),
            ("cluster.local", &["a.ns1.svc"]),
            ("campus.svc", &[]),
        ] {
            assert_eq!(short_names(host, dns_domain), want, "{dns_domain}");
        }
        assert!(short_names("api.example.com", "ns1.svc.cluster.local").is_empty());
        assert_eq!(
            short_names("foo.local.campus.net", "remote.campus.net"),
            ["foo.local", "foo.local.campus"]
        );
    }

    #[test]
    fn a_domain_belongs_to_the_first_and_short_names_yield_to_hosts() {
        let mut registry = DomainRegistry::new(1, false);
        registry.add_known("foo.com", 80);
        let take = |registry: &mut DomainRegistry, domains: &[(&str, bool)]| {
            let mut names = HostNames::new(&[], 0);
            for (domain, is_expanded) in domains {
                registry.take(&[domain], *is_expanded, &mut names);
            }
            names.domains().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            take(&mut registry, &[("A.com", false), ("foo.com", true)]),
            ["A.com"]
        );
        assert_eq!(
            take(&mut registry, &[("a.com", false), ("foo.com", false)]),
            ["foo.com"]
        );
        assert!(take(&mut registry, &[("foo.com", false), ("foo.com", true)]).is_empty());
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        let mut registry = DomainRegistry::new(0, false);
        for (host, domain, name) in [
            ("2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80"),
            ("a.b", "a.b", "a.b:80"),
        ] {
            let names = registry.take_host(host, 80).unwrap();
            assert_eq!(names.name(), name);
            assert_eq!(names.domains().collect::<Vec<_>>(), [domain]);
            assert_eq!(registry.take_host(host, 80), None);
        }
    }
}
