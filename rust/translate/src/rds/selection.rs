//! Which VirtualService speaks for which host of an egress listener.
//!
//! Source: istio pilot/pkg/model/sidecar.go `computeWildcardHostVirtualServiceIndex`, httproute.go `selectVirtualServices`.

use navarch_model::{Hostname, RouteSemantics, Service, Shared, VirtualService, hash_text};
use navarch_snapshot::ProxyScope;

use super::by_hash::ByHash;
use super::indexes::Indexes;

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
    /// Those of the mesh, in order of precedence.
    pub(super) virtual_services: Vec<&'a Shared<VirtualService>>,
    /// Each host once.
    hosts: Vec<Speakers<'a>>,
    /// Where in `hosts` one is.
    by_host: ByHash<usize>,
    /// Where the wildcards are, longest first, so that the first that matches is the most specific.
    wildcards: Vec<usize>,
}

/// Who speaks for a host.
#[derive(Debug)]
struct Speakers<'a> {
    host: &'a str,
    virtual_services: Indexes,
}

impl Speakers<'_> {
    fn all(&self) -> impl Iterator<Item = usize> {
        self.virtual_services.iter()
    }
}

impl<'a> HostIndex<'a> {
    /// Index those that are bound to the mesh.
    pub(super) fn new(
        virtual_services: &'a [Shared<VirtualService>],
        precedence: &Precedence<'_>,
    ) -> Self {
        let of_mesh = |vs: &&Shared<VirtualService>| vs.spec.gateways.iter().any(|g| g == "mesh");
        let mut virtual_services: Vec<_> = virtual_services.iter().filter(of_mesh).collect();
        virtual_services.sort_by_cached_key(|vs| precedence.mesh_rank(vs));
        let n_hosts = virtual_services.iter().map(|vs| vs.spec.hosts.len()).sum();
        let mut hosts: Vec<Speakers<'a>> = Vec::with_capacity(n_hosts);
        let mut by_host = ByHash::with_capacity(n_hosts);
        for (i, virtual_service) in virtual_services.iter().enumerate() {
            for host in &virtual_service.spec.hosts {
                let at = *by_host.of(hash_text(host), hosts.len());
                match hosts.get_mut(at) {
                    Some(known) => known.virtual_services.push(i),
                    None => hosts.push(Speakers {
                        host,
                        virtual_services: Indexes::new(i),
                    }),
                }
            }
        }
        let mut wildcards: Vec<usize> = (0..hosts.len())
            .filter(|at| hosts[*at].host.starts_with('*'))
            .collect();
        wildcards.sort_by_key(|at| (std::cmp::Reverse(hosts[*at].host.len()), hosts[*at].host));
        Self {
            virtual_services,
            hosts,
            by_host,
            wildcards,
        }
    }

    fn wildcards(&self) -> impl Iterator<Item = &Speakers<'a>> {
        self.wildcards.iter().map(|at| &self.hosts[*at])
    }

    fn find(&self, host: &str) -> Option<&Speakers<'a>> {
        let at = self.by_host.find(hash_text(host))?;
        Some(&self.hosts[at])
    }

    /// Indexes of all that have a host in common with the services, in order.
    pub(super) fn matching(&self, services: &[&Shared<Service>]) -> Vec<usize> {
        let mut found = Vec::with_capacity(services.len());
        for service in services {
            let host = service.hostname.as_str();
            found.extend(self.find(host).into_iter().flat_map(Speakers::all));
            let wildcards = self.wildcards();
            let around = wildcards.filter(|speakers| Hostname::is_meeting(speakers.host, host));
            found.extend(around.flat_map(Speakers::all));
            if service.hostname.is_wildcard() {
                let inside = self.hosts.iter();
                let inside = inside.filter(|speakers| Hostname::is_meeting(speakers.host, host));
                found.extend(inside.flat_map(Speakers::all));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The one that speaks for a service: of its very host, else of the longest wildcard; the oldest of several.
    pub(super) fn most_specific(&self, host: &str) -> Option<usize> {
        let mut around = self.wildcards();
        let found = self.find(host);
        let found = found.or_else(|| around.find(|s| Hostname::is_subset(host, s.host)));
        found.map(|speakers| speakers.virtual_services.first())
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
            assert_eq!(index.most_specific(host), want, "{host}");
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
        assert_eq!(index.most_specific("a.com"), Some(0));
    }
}
