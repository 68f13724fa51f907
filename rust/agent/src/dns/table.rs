//! Hosts by all the names that a workload may call them by.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use navarch_envoy::istio::networking::nds::v1::NameTable;
use navarch_envoy::istio::networking::nds::v1::name_table::NameInfo;

const KUBERNETES: &str = "Kubernetes";

/// A host's addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) v4: Vec<Ipv4Addr>,
    pub(super) v6: Vec<Ipv6Addr>,
}

/// A host that is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The name that is meant, where the client's resolver had put its search domain behind it.
    pub(super) target: Option<String>,
    pub(super) addresses: Arc<Addresses>,
}

/// All hosts: names in lower case without a dot at the end.
#[derive(Debug, Default)]
pub(super) struct Table {
    hosts: HashMap<String, Arc<Addresses>>,
}

impl Table {
    /// Hosts for a proxy of a namespace, in a cluster whose services end with `domain`.
    pub(super) fn build(names: &NameTable, namespace: &str, domain: &str) -> Self {
        let mut made = Self::default();
        for (host, told) in &names.table {
            let addresses = Arc::new(read_addresses(&told.ips));
            if *addresses == Addresses::default() {
                continue;
            }
            for name in all_names(host, told, namespace, domain) {
                made.hosts
                    .insert(name.to_lowercase(), Arc::clone(&addresses));
            }
        }
        made
    }

    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// A host by its name, by its name with the first search domain behind it, or by a wildcard.
    pub(super) fn find(&self, name: &str, search: &str) -> Option<Found> {
        let found = |addresses: &Arc<Addresses>, target| Found {
            target,
            addresses: Arc::clone(addresses),
        };
        if let Some(addresses) = self.hosts.get(name) {
            return Some(found(addresses, None));
        }
        // Saves a client with search domains the questions that would be answered by nobody.
        let bare = name
            .strip_suffix(search)
            .and_then(|rest| rest.strip_suffix('.'));
        if let Some(bare) = bare.filter(|_| !search.is_empty())
            && let Some(addresses) = self.hosts.get(bare)
        {
            return Some(found(addresses, Some(bare.to_owned())));
        }
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(addresses) = self.hosts.get(&format!("*.{parent}")) {
                return Some(found(addresses, None));
            }
            rest = parent;
        }
        None
    }
}

fn read_addresses(texts: &[String]) -> Addresses {
    let mut made = Addresses::default();
    for ip in texts.iter().filter_map(|text| text.parse().ok()) {
        match ip {
            IpAddr::V4(ip) => made.v4.push(ip),
            IpAddr::V6(ip) => made.v6.push(ip),
        }
    }
    made
}

/// A Kubernetes service of this cluster has short names too; the shortest only within its own namespace.
fn all_names(host: &str, told: &NameInfo, namespace: &str, domain: &str) -> Vec<String> {
    let mut made = vec![host.trim_end_matches('.').to_owned()];
    if told.registry != KUBERNETES || domain.is_empty() || !host.ends_with(domain) {
        return made;
    }
    let first = domain.split('.').next().unwrap_or_default();
    made.push(format!("{}.{}", told.shortname, told.namespace));
    made.push(format!("{}.{}.{first}", told.shortname, told.namespace));
    if told.namespace == namespace {
        made.push(told.shortname.clone());
    }
    made.extend(told.alt_hosts.iter().cloned());
    made
}

#[cfg(test)]
mod tests {
    use navarch_envoy::istio::networking::nds::v1::{NameTable, name_table::NameInfo};

    use super::Table;

    fn info(shortname: &str, namespace: &str, registry: &str, ip: &str) -> NameInfo {
        NameInfo {
            ips: vec![ip.into()],
            registry: registry.into(),
            shortname: shortname.into(),
            namespace: namespace.into(),
            ..NameInfo::default()
        }
    }

    fn found(name: &str) -> Option<String> {
        let names = NameTable {
            table: [
                (
                    "web.shop.svc.cluster.local",
                    info("web", "shop", "Kubernetes", "10.0.0.1"),
                ),
                (
                    "web.other.svc.cluster.local",
                    info("web", "other", "Kubernetes", "10.0.0.2"),
                ),
                ("api.example.com", info("", "", "External", "10.0.0.3")),
                ("*.wild.example.com", info("", "", "External", "10.0.0.4")),
                ("broken.example.com", info("", "", "External", "nonsense")),
            ]
            .map(|(host, told)| (host.to_owned(), told))
            .into(),
        };
        let table = Table::build(&names, "shop", "svc.cluster.local");
        let found = table.find(name, "shop.svc.cluster.local")?;
        Some(found.addresses.v4[0].to_string())
    }

    #[test]
    fn short_names_are_those_of_the_proxys_namespace() {
        for (name, ip) in [
            ("web", Some("10.0.0.1")),
            ("web.shop", Some("10.0.0.1")),
            ("web.shop.svc", Some("10.0.0.1")),
            ("web.shop.svc.cluster.local", Some("10.0.0.1")),
            ("web.other", Some("10.0.0.2")),
            ("api.example.com", Some("10.0.0.3")),
            ("api.example.com.shop.svc.cluster.local", Some("10.0.0.3")),
            ("a.b.wild.example.com", Some("10.0.0.4")),
            ("wild.example.com", None),
            ("broken.example.com", None),
            ("api", None),
        ] {
            assert_eq!(found(name).as_deref(), ip, "{name}");
        }
    }
}
