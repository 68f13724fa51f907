//! The domains of virtual hosts: what requests for a service may call it.
//!
//! Source: istio pilot/pkg/networking/core/httproute.go `generateVirtualHostDomains`, `dedupeDomains`.

use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_model::Service;
use navarch_snapshot::NodeGroup;

use crate::address::{is_ip, is_ipv6};

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
    pub(super) fn addresses<'a>(&self, service: &'a Service) -> Vec<&'a Arc<str>> {
        let mut all = &service.addresses;
        if all.is_empty() && self.has_allocated_addresses {
            all = &service.auto_allocated_addresses;
        }
        let wants_ipv6 = match (self.has_ipv4, self.has_ipv6) {
            (true, true) => all.first().is_some_and(|address| address.contains(':')),
            (_, has_ipv6) => has_ipv6,
        };
        let usable = all.iter().filter(|a| a.contains(':') == wants_ipv6);
        usable.collect()
    }
}

/// A domain, and whether it is only another way to say a host.
pub(super) type Domain = (String, bool);

/// The domains of a service on `port`; with ports appended where requests for all ports come together.
pub(super) fn domains_of(service: &Service, port: Option<u32>, viewer: &Viewer) -> Vec<Domain> {
    let mut domains = Vec::new();
    let aliases = service.aliases.iter().map(|alias| &alias.hostname);
    for host in std::iter::once(&service.hostname).chain(aliases) {
        let host = host.as_str();
        push(&mut domains, host, port, false);
        if !is_ip(host) {
            push(&mut domains, &format!("{host}."), port, true);
        }
        for short in short_names(host, &viewer.dns_domain) {
            push(&mut domains, &short, port, true);
        }
    }
    if service.is_headless() {
        let stars = domains
            .iter()
            .map(|(domain, _)| (format!("*.{domain}"), false));
        let stars: Vec<Domain> = stars.collect();
        domains.extend(stars);
    }
    for address in viewer.addresses(service) {
        push(&mut domains, address, port, false);
    }
    domains
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn host_and_port(host: &str, port: u32) -> String {
    format!("{}:{port}", bracketed(host))
}

/// The host as it stands in a request: an IPv6 address in brackets.
pub(super) fn bracketed(host: &str) -> String {
    if is_ipv6(host) {
        return format!("[{host}]");
    }
    host.to_owned()
}

/// Gives each domain to the first virtual host that asks for it.
#[derive(Debug, Default)]
pub(super) struct DomainRegistry {
    taken: BTreeSet<Arc<str>>,
    /// Hosts and `host:port` names of services, which no short name of another may take.
    pub(super) known: BTreeSet<String>,
}

impl DomainRegistry {
    /// The domains that are still free; they are taken from now on.
    pub(super) fn take(&mut self, domains: Vec<Domain>) -> Vec<Arc<str>> {
        let mut free = Vec::with_capacity(domains.len());
        for (domain, is_expanded) in domains {
            if is_expanded && self.known.contains(&domain) {
                continue;
            }
            let domain: Arc<str> = domain.into();
            let lower = if domain.bytes().any(|byte| byte.is_ascii_uppercase()) {
                domain.to_ascii_lowercase().into()
            } else {
                domain.clone()
            };
            if self.taken.insert(lower) {
                free.push(domain);
            }
        }
        free
    }
}

fn push(domains: &mut Vec<Domain>, host: &str, port: Option<u32>, is_expanded: bool) {
    domains.push((bracketed(host), is_expanded));
    if let Some(port) = port {
        domains.push((host_and_port(host, port), is_expanded));
    }
}

/// The shorter ways to say a host for a client of a DNS domain (istio `GenerateAltVirtualHosts`).
pub(crate) fn short_names(host: &str, dns_domain: &str) -> Vec<String> {
    match dns_domain.find(".svc.") {
        Some(end) if host.ends_with(&dns_domain[end..]) => {
            kubernetes_short_names(host, &dns_domain[..end])
        }
        // Another host's short name could be a Kubernetes service's.
        Some(_) => Vec::new(),
        None => shared_domain_short_names(host, dns_domain),
    }
}

fn kubernetes_short_names(host: &str, namespace: &str) -> Vec<String> {
    let (Some(end), Some(dot)) = (host.find(".svc."), host.find('.')) else {
        return Vec::new();
    };
    if dot + 1 > end {
        return Vec::new();
    }
    let short = &host[..end];
    if host[dot + 1..end] == *namespace {
        vec![
            host[..dot].to_owned(),
            format!("{short}.svc"),
            short.to_owned(),
        ]
    } else {
        vec![short.to_owned(), format!("{short}.svc")]
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
    use super::{DomainRegistry, bracketed, host_and_port, short_names};

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
        registry.known.insert("foo.com".to_owned());
        let take = |registry: &mut DomainRegistry, domains: &[(&str, bool)]| {
            let domains = domains.iter().map(|(d, e)| ((*d).to_owned(), *e));
            let taken = registry.take(domains.collect());
            taken.iter().map(ToString::to_string).collect::<Vec<_>>()
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
        assert_eq!(bracketed("2001:db8::1"), "[2001:db8::1]");
        assert_eq!(host_and_port("2001:db8::1", 80), "[2001:db8::1]:80");
        assert_eq!(host_and_port("a.b", 80), "a.b:80");
    }
}
