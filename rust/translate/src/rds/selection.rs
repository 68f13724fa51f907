//! Which VirtualService speaks for which host of an egress listener.
//!
//! Source: istio pilot/pkg/model/sidecar.go `computeWildcardHostVirtualServiceIndex`, httproute.go `selectVirtualServices`.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{Hostname, RouteSemantics, Service, Shared, VirtualService};
use navarch_snapshot::ProxyScope;

/// Which of several VirtualServices comes first, before age decides (istio `push_context.go`, `VirtualServicesForGateway`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Precedence<'a> {
    /// The namespace of the proxy.
    pub(super) viewer: &'a str,
    /// What holds for VirtualServices without `exportTo`.
    pub(super) default_export_to: &'a [String],
}

impl<'a> Precedence<'a> {
    pub(crate) fn new(scope: &'a ProxyScope) -> Self {
        Self {
            viewer: &scope.group.namespace,
            default_export_to: &scope.mesh_config.default_virtual_service_export_to,
        }
    }

    /// Of each rank those of Gateway API from the proxy's own namespace first (istio virtualservice.go
    /// `SelectVirtualServices`): a client's routes come before those that the service brings.
    pub(crate) fn mesh_rank(&self, virtual_service: &VirtualService) -> (u8, bool) {
        let is_own = virtual_service.semantics == RouteSemantics::GatewayApi
            && virtual_service.metadata.namespace == self.viewer;
        (self.rank(virtual_service), !is_own)
    }

    /// Those private to the namespace first, then those exported to it by name, then those for all.
    pub(crate) fn rank(&self, virtual_service: &VirtualService) -> u8 {
        let own = &virtual_service.spec.export_to[..];
        let tokens = if own.is_empty() {
            self.default_export_to
        } else {
            own
        };
        if tokens.is_empty() || tokens.iter().any(|token| token == "*") {
            return 2;
        }
        u8::from(virtual_service.metadata.namespace != self.viewer)
    }
}

/// The VirtualServices of an egress listener, by host.
#[derive(Debug)]
pub(super) struct HostIndex<'a> {
    /// Those of the mesh, by age.
    pub(super) virtual_services: Vec<&'a Shared<VirtualService>>,
    /// Their hosts, in their order.
    hosts: Vec<Vec<Hostname>>,
    exact: BTreeMap<Hostname, Vec<usize>>,
    /// Longest first, so that the first that matches is the most specific.
    wildcards: Vec<(Hostname, Vec<usize>)>,
}

impl<'a> HostIndex<'a> {
    /// Index those that are bound to the mesh.
    pub(super) fn new(
        virtual_services: &'a [Shared<VirtualService>],
        precedence: &Precedence<'_>,
    ) -> Self {
        let of_mesh = |vs: &&Shared<VirtualService>| vs.spec.gateways.iter().any(|g| g == "mesh");
        let mut virtual_services: Vec<_> = virtual_services.iter().filter(of_mesh).collect();
        virtual_services.sort_by_key(|vs| precedence.mesh_rank(vs));
        let hosts: Vec<Vec<Hostname>> = virtual_services
            .iter()
            .map(|vs| vs.spec.hosts.iter().map(|h| h.as_str().into()).collect())
            .collect();
        let mut exact: BTreeMap<Hostname, Vec<usize>> = BTreeMap::new();
        for (i, hosts) in hosts.iter().enumerate() {
            for host in hosts {
                exact.entry(host.clone()).or_default().push(i);
            }
        }
        let mut wildcards: Vec<(Hostname, Vec<usize>)> = exact
            .iter()
            .filter(|(host, _)| host.is_wildcard())
            .map(|(host, indexes)| (host.clone(), indexes.clone()))
            .collect();
        exact.retain(|host, _| !host.is_wildcard());
        wildcards.sort_by(|(a, _), (b, _)| {
            let length = |host: &Hostname| host.as_str().len();
            length(b).cmp(&length(a)).then_with(|| a.cmp(b))
        });
        Self {
            virtual_services,
            hosts,
            exact,
            wildcards,
        }
    }

    /// The hosts of the `i`-th.
    pub(super) fn hosts_of(&self, i: usize) -> &[Hostname] {
        &self.hosts[i]
    }

    /// Indexes of all that have a host in common with the services, in order.
    pub(super) fn matching(&self, services: &BTreeMap<&Hostname, &Shared<Service>>) -> Vec<usize> {
        let mut found = BTreeSet::new();
        for host in services.keys() {
            if let Some(indexes) = self.exact.get(*host) {
                found.extend(indexes);
            }
            for (wildcard, indexes) in &self.wildcards {
                if wildcard.is_matching(host) {
                    found.extend(indexes);
                }
            }
            if host.is_wildcard() {
                let inside = self.exact.iter().filter(|(h, _)| h.is_matching(host));
                found.extend(inside.flat_map(|(_, indexes)| indexes));
            }
        }
        found.into_iter().collect()
    }

    /// The one that speaks for a service: of its very host, else of the longest wildcard; the oldest of several.
    pub(super) fn most_specific(&self, host: &Hostname) -> Option<usize> {
        let oldest = |indexes: &Vec<usize>| indexes.first().copied();
        if let Some(found) = self.exact.get(host).and_then(oldest) {
            return Some(found);
        }
        let wildcards = self.wildcards.iter();
        wildcards
            .filter(|(wildcard, _)| host.is_subset_of(wildcard))
            .find_map(|(_, indexes)| oldest(indexes))
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::{RouteSemantics, Shared, VirtualService};

    use super::{HostIndex, Precedence};

    fn of(hosts: &[&str]) -> Shared<VirtualService> {
        let mut virtual_service = VirtualService::default();
        virtual_service.spec.gateways = vec!["mesh".to_owned()];
        virtual_service.spec.hosts = hosts.iter().map(|h| (*h).to_owned()).collect();
        Shared::new(virtual_service)
    }

    #[test]
    fn the_most_specific_host_wins_then_the_oldest() {
        let all = [
            of(&["*.b.com"]),
            of(&["*.a.b.com"]),
            of(&["x.a.b.com"]),
            of(&["*.b.com", "x.a.b.com"]),
        ];
        let precedence = Precedence {
            viewer: "shop",
            default_export_to: &[],
        };
        let index = HostIndex::new(&all, &precedence);
        for (host, want) in [
            ("x.a.b.com", Some(2)),
            ("y.a.b.com", Some(1)),
            ("z.b.com", Some(0)),
            ("*.a.b.com", Some(1)),
            ("b.com", None),
        ] {
            assert_eq!(index.most_specific(&host.into()), want, "{host}");
        }
    }

    #[test]
    fn private_comes_before_public_whatever_the_age() {
        let with = |namespace: &str, export_to: &[&str]| {
            let mut virtual_service = VirtualService::clone(&of(&["a.com"]));
            virtual_service.metadata.namespace = namespace.to_owned();
            virtual_service.spec.export_to = export_to.iter().map(|t| (*t).to_owned()).collect();
            Shared::new(virtual_service)
        };
        let all = [
            with("shop", &["*"]),
            with("other", &["shop"]),
            with("shop", &["."]),
        ];
        let precedence = Precedence {
            viewer: "shop",
            default_export_to: &[],
        };
        let index = HostIndex::new(&all, &precedence);
        let order: Vec<_> = index
            .virtual_services
            .iter()
            .map(|vs| &vs.spec.export_to[0])
            .collect();
        assert_eq!(order, [".", "shop", "*"]);
    }

    #[test]
    fn routes_of_the_clients_own_namespace_come_first() {
        let with = |namespace: &str, semantics: RouteSemantics| {
            let mut virtual_service = VirtualService::clone(&of(&["a.com"]));
            virtual_service.metadata.namespace = namespace.to_owned();
            virtual_service.semantics = semantics;
            Shared::new(virtual_service)
        };
        let all = [
            with("other", RouteSemantics::GatewayApi),
            with("shop", RouteSemantics::Istio),
            with("shop", RouteSemantics::GatewayApi),
        ];
        let precedence = Precedence {
            viewer: "shop",
            default_export_to: &[],
        };
        let index = HostIndex::new(&all, &precedence);
        let first = index.virtual_services[0];
        assert_eq!(first.semantics, RouteSemantics::GatewayApi);
        assert_eq!(first.metadata.namespace, "shop");
        assert_eq!(index.most_specific(&"a.com".into()), Some(0));
    }
}
