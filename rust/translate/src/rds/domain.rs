//! The domains of virtual hosts: what requests for a service may call it.
//!
//! Source: istio pilot/pkg/networking/core/httproute.go `generateVirtualHostDomains`, `dedupeDomains`.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use navarch_model::{Hostname, Registry, Service, hash_text};
use navarch_snapshot::NodeGroup;

use super::text_list::TextList;
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

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn host_and_port(host: &str, port: u32) -> String {
    let (open, close) = brackets(host);
    [open, host, close, ":", Decimal::new(port).as_str()].concat()
}

/// What stands around a host in a request: brackets around an IPv6 address.
fn brackets(host: &str) -> (&'static str, &'static str) {
    if is_ipv6(host) { ("[", "]") } else { ("", "") }
}

/// Gives each domain to the first virtual host that asks for it.
#[derive(Debug, Default)]
pub(super) struct DomainRegistry {
    taken: TextSet,
    /// Hosts and `host:port` names of services, which no short name of another may take.
    known: TextSet,
}

/// Texts by their hashes, which are taken for the texts as everywhere; asked only whether it has one, so that it has no order.
#[derive(Debug, Default)]
pub(super) struct TextSet(HashSet<u128, BuildHasherDefault<LowBits>>);

impl TextSet {
    /// Add a text; whether it is new.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        self.0.insert(hash_text(text))
    }
}

/// Half of a hash is a hash.
#[derive(Debug, Default)]
struct LowBits(u64);

impl Hasher for LowBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        let bytes = hash.to_le_bytes();
        self.write(&bytes[..8]);
    }
}

impl DomainRegistry {
    /// A service has this host; `port` where requests for all ports come together.
    pub(super) fn add_known(&mut self, host: &str, port: Option<u32>) {
        self.known.insert(host);
        if let Some(port) = port {
            self.known.insert(&host_and_port(host, port));
        }
    }

    /// The domain of a host that is no service, if it is free; it is taken from now on.
    pub(super) fn take_host(&mut self, host: &str) -> TextList {
        let mut domains = TextList::with_capacity(1, host.len() + 2);
        let (open, close) = brackets(host);
        self.take(&[open, host, close], false, &mut domains);
        domains
    }

    /// The domains of a service that are still free, with ports appended where requests for all ports come together; they
    /// are taken from now on.
    pub(super) fn take_service(
        &mut self,
        service: &Service,
        port: Option<u32>,
        viewer: &Viewer,
    ) -> TextList {
        let hosts = 1 + service.aliases.len();
        let mut taking = Taking {
            registry: self,
            port: port.map(Decimal::new),
            domains: TextList::with_capacity(8 * hosts, 96 * hosts),
        };
        taking.add_hosts("", service, viewer);
        if service.is_headless() {
            taking.add_hosts("*.", service, viewer);
        }
        for address in viewer.addresses(service) {
            taking.add("", [address, ""], false);
        }
        taking.domains
    }

    /// Add a domain made of parts to those of a virtual host, if it is free.
    fn take(&mut self, parts: &[&str], is_expanded: bool, domains: &mut TextList) {
        domains.push(parts);
        let Some(domain) = domains.last() else { return };
        let hash = hash_text(domain);
        let is_free = if is_expanded && self.known.0.contains(&hash) {
            false
        } else if domain.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.taken.insert(&domain.to_ascii_lowercase())
        } else {
            self.taken.0.insert(hash)
        };
        if !is_free {
            domains.pop();
        }
    }
}

/// The domains of one service while they are taken.
struct Taking<'a> {
    registry: &'a mut DomainRegistry,
    port: Option<Decimal>,
    domains: TextList,
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
        registry.take(&parts[..5], is_expanded, &mut self.domains);
        if let Some(port) = &self.port {
            [parts[5], parts[6]] = [":", port.as_str()];
            registry.take(&parts, is_expanded, &mut self.domains);
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
    let labels: Vec<&str> = host.split('.').collect();
    let own: Vec<&str> = dns_domain.split('.').collect();
    let pairs = labels.iter().rev().zip(own.iter().rev());
    let n_shared = pairs.take_while(|(a, b)| a == b).count();
    if n_shared == 0 {
        return Vec::new();
    }
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
    use super::super::text_list::TextList;
    use super::{DomainRegistry, host_and_port, short_names};

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
        let mut registry = DomainRegistry::default();
        registry.add_known("foo.com", None);
        let take = |registry: &mut DomainRegistry, domains: &[(&str, bool)]| {
            let mut taken = TextList::default();
            for (domain, is_expanded) in domains {
                registry.take(&[domain], *is_expanded, &mut taken);
            }
            taken.iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            take(&mut registry, &[("A.com", false), ("foo.com", true)]),
            ["A.com"]
        );
        assert_eq!(
            take(&mut registry, &[("a.com", false), ("foo.com", false)]),
            ["foo.com"]
        );
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        let mut registry = DomainRegistry::default();
        let domains = registry.take_host("2001:db8::1");
        assert_eq!(domains.first(), Some("[2001:db8::1]"));
        assert_eq!(host_and_port("2001:db8::1", 80), "[2001:db8::1]:80");
        assert_eq!(host_and_port("a.b", 80), "a.b:80");
    }
}
