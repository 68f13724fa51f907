//! Which Sidecar object a proxy has, and what its egress hosts import.
//!
//! Source: istio `pilot/pkg/model/push_context.go` `getSidecarScope`, `sidecar.go` `hostClassification`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    Hostname, Labels, RouteSemantics, Shared, Sidecar, VirtualService, is_selected,
};

/// All Sidecars by namespace and age.
#[derive(Debug, Clone, Default)]
pub(crate) struct SidecarIndex {
    by_namespace: BTreeMap<String, Vec<Shared<Sidecar>>>,
}

impl SidecarIndex {
    pub(crate) fn new<'a>(sidecars: impl Iterator<Item = &'a Shared<Sidecar>>) -> Self {
        let mut by_namespace: BTreeMap<String, Vec<Shared<Sidecar>>> = BTreeMap::new();
        for sidecar in sidecars {
            let namespace = sidecar.metadata.namespace.clone();
            by_namespace
                .entry(namespace)
                .or_default()
                .push(sidecar.clone());
        }
        for sidecars in by_namespace.values_mut() {
            sidecars.sort_by(|a, b| a.metadata.age().cmp(&b.metadata.age()));
        }
        Self { by_namespace }
    }

    /// Namespaces whose Sidecars are others than in `old`.
    pub(crate) fn namespaces_changed_since(&self, old: &Self) -> BTreeSet<Arc<str>> {
        let namespaces = old.by_namespace.keys().chain(self.by_namespace.keys());
        namespaces
            .filter(|namespace| {
                old.by_namespace.get(*namespace) != self.by_namespace.get(*namespace)
            })
            .map(|namespace| namespace.as_str().into())
            .collect()
    }

    /// Label keys that any Sidecar selects by.
    pub(crate) fn selector_keys(&self) -> impl Iterator<Item = &String> {
        self.by_namespace
            .values()
            .flatten()
            .filter_map(|sidecar| sidecar.spec.workload_selector.as_ref())
            .flat_map(|selector| selector.match_labels.keys())
    }

    /// The oldest that selects the workload, else the namespace's own default, else the root namespace's.
    pub(crate) fn find(
        &self,
        root: &str,
        namespace: &str,
        labels: &Labels,
    ) -> Option<&Shared<Sidecar>> {
        let of = |namespace: &str| {
            self.by_namespace
                .get(namespace)
                .map_or(&[][..], Vec::as_slice)
        };
        let own = of(namespace);
        own.iter()
            .find(|sidecar| selector(sidecar).is_some_and(|selector| is_selected(selector, labels)))
            .or_else(|| own.iter().find(|sidecar| selector(sidecar).is_none()))
            .or_else(|| of(root).iter().find(|sidecar| selector(sidecar).is_none()))
    }
}

fn selector(sidecar: &Sidecar) -> Option<&Labels> {
    sidecar
        .spec
        .workload_selector
        .as_ref()
        .map(|selector| &selector.match_labels)
        .filter(|labels| !labels.is_empty())
}

/// The hosts of one egress listener, by the namespace they are imported from.
#[derive(Debug, Clone, Default)]
pub(crate) struct EgressHosts {
    imported: BTreeMap<String, Vec<Hostname>>,
    excluded: BTreeMap<String, Vec<Hostname>>,
}

impl EgressHosts {
    /// Read `namespace/host` patterns as written in an object of `namespace`.
    pub(crate) fn new(patterns: &[String], namespace: &str) -> Self {
        let mut hosts = Self::default();
        for pattern in patterns {
            let (owner, host) = pattern.split_once('/').unwrap_or(("*", pattern));
            let (map, owner) = match owner.strip_prefix('~') {
                Some("") => (&mut hosts.excluded, "*"),
                Some(owner) => (&mut hosts.excluded, owner),
                None => (&mut hosts.imported, owner),
            };
            let owner = if owner == "." { namespace } else { owner };
            map.entry(owner.to_owned()).or_default().push(host.into());
        }
        hosts
    }

    fn has(
        map: &BTreeMap<String, Vec<Hostname>>,
        namespace: &str,
        is_match: impl Fn(&Hostname) -> bool,
    ) -> bool {
        [namespace, "*"].iter().any(|owner| {
            map.get(*owner)
                .is_some_and(|hosts| hosts.iter().any(&is_match))
        })
    }

    /// Whether a service of that host and namespace is imported.
    pub(crate) fn has_service(&self, host: &Hostname, namespace: &str) -> bool {
        Self::has(&self.imported, namespace, |pattern| {
            host.is_subset_of(pattern)
        }) && !Self::has(&self.excluded, namespace, |pattern| {
            host.is_subset_of(pattern)
        })
    }

    /// Whether a VirtualService has a host that meets an imported one; of Gateway API, one that is within it.
    pub(crate) fn has_virtual_service(&self, rule: &VirtualService) -> bool {
        let namespace = rule.metadata.namespace.as_str();
        let is_exact = rule.semantics == RouteSemantics::GatewayApi;
        rule.spec
            .hosts
            .iter()
            .map(|host| Hostname::from(host.as_str()))
            .any(|host| {
                Self::has(&self.imported, namespace, |pattern| {
                    if is_exact {
                        host.is_subset_of(pattern)
                    } else {
                        host.is_matching(pattern)
                    }
                }) && !Self::has(&self.excluded, namespace, |pattern| {
                    host.is_subset_of(pattern)
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::EgressHosts;

    #[test]
    fn patterns_import_and_exclude_by_namespace() {
        let patterns = ["./*", "prod/*.com", "~prod/bad.com"].map(str::to_owned);
        let hosts = EgressHosts::new(&patterns, "dev");
        assert!(hosts.has_service(&"a.dev.svc.cluster.local".into(), "dev"));
        assert!(!hosts.has_service(&"a.x.svc.cluster.local".into(), "x"));
        assert!(hosts.has_service(&"good.com".into(), "prod"));
        assert!(!hosts.has_service(&"bad.com".into(), "prod"));
    }
}
