//! What the proxies of a group share, and how it follows the mesh: a change gathers anew what it may shape, alone.
//!
//! Whatever the history, the resources are those of a group that is made of the newest mesh at once; a sidecar's
//! group is led there piece by piece, a router's is gathered as a whole (its cost is that of its Gateways).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::sync::Arc;

use navarch_envoy::TypeUrl;
use navarch_model::{Diagnostic, Hostname, ProxyKind, Service, Shared};
use navarch_snapshot::{ChangeSet, MeshSnapshot, ProxyScope, ScopeDifference};
use navarch_translate::affected::AffectedResources;
use navarch_translate::cds::ClusterInputs;
use navarch_translate::eds::EndpointInputs;
use navarch_translate::lds::{ListenerInputs, OutboundPlaces};
use navarch_translate::{cds, eds, lds, nds, rds};

use crate::cache::ResourceCache;
use crate::pieces::{PieceChanges, Pieces};
use crate::resource::{Body, EncodedResource};
use crate::resource_snapshot::ResourcePart;

type Made = BTreeMap<Arc<str>, Arc<EncodedResource>>;
type Names = BTreeSet<Arc<str>>;

/// The resources that a group's proxies share, of one epoch.
#[derive(Debug)]
pub struct GroupResources {
    scope: Arc<ProxyScope>,
    part: ResourcePart,
    /// What there is to say of clusters that could not be made.
    unmade: BTreeMap<String, Vec<Diagnostic>>,
    /// What there is to say of a router's Gateways.
    conflicts: Vec<Diagnostic>,
    /// Outbound listeners by port and address.
    listeners: BTreeMap<(u32, Arc<str>), Arc<str>>,
    /// The virtual hosts, where they are resources of their own.
    pieces: Pieces,
}

impl GroupResources {
    /// All of it, from nothing.
    pub fn new(cache: &ResourceCache, mesh: &MeshSnapshot, scope: Arc<ProxyScope>) -> Self {
        let mut group = Self {
            scope,
            part: ResourcePart::default(),
            unmade: BTreeMap::new(),
            conflicts: Vec::new(),
            listeners: BTreeMap::new(),
            pieces: Pieces::default(),
        };
        group.gather_all(cache, mesh);
        group
    }

    /// The resources.
    pub fn part(&self) -> &ResourcePart {
        &self.part
    }

    /// What the group sees.
    pub fn scope(&self) -> &Arc<ProxyScope> {
        &self.scope
    }

    /// What builders had to say of the objects behind the resources.
    pub fn diagnostics(&self) -> BTreeSet<Diagnostic> {
        let resources = TypeUrl::ALL
            .into_iter()
            .flat_map(|t| self.part.list(t).items());
        let told = resources.flat_map(|resource| resource.diagnostics.iter());
        let unmade = self.unmade.values().flatten();
        told.chain(unmade).chain(&self.conflicts).cloned().collect()
    }

    /// Take in changes that touch the group; what differs in its scope. They may be of several epochs; the mesh is
    /// the newest.
    pub fn update(
        &mut self,
        cache: &ResourceCache,
        mesh: &MeshSnapshot,
        changes: &ChangeSet,
    ) -> ScopeDifference {
        let configuration = &changes.configuration;
        if configuration.is_empty() {
            self.update_endpoints(cache, mesh, changes);
            return ScopeDifference::default();
        }
        let scope = Arc::new(mesh.scope_of(&self.scope.group));
        let mut difference = self.scope.difference(&scope);
        difference.is_whole |= configuration.is_whole;
        let old = std::mem::replace(&mut self.scope, scope);
        if difference.is_whole {
            self.gather_all(cache, mesh);
        } else {
            self.update_pieces(cache, mesh, (&old, &difference), changes);
        }
        difference
    }

    fn update_pieces(
        &mut self,
        cache: &ResourceCache,
        mesh: &MeshSnapshot,
        (old, difference): (&ProxyScope, &ScopeDifference),
        changes: &ChangeSet,
    ) {
        let scope = Arc::clone(&self.scope);
        let shaping = &changes.configuration.services;
        let mut affected = AffectedResources::of(old, &scope, difference, shaping);
        self.update_clusters(cache, mesh, old, &affected.hosts);
        let moved = changes
            .endpoints
            .iter()
            .filter(|key| scope.has_service(key));
        affected.hosts.extend(moved.map(|key| key.hostname.clone()));
        self.replace_endpoints(cache, mesh, old, &affected.hosts);
        if !affected.listeners.is_empty() {
            self.update_listeners(cache, mesh, &affected.listeners);
        }
        self.update_routes(cache, mesh, &affected);
        if affected.has_names {
            self.gather_names(cache, mesh);
        }
    }

    /// Take in endpoints alone.
    fn update_endpoints(
        &mut self,
        cache: &ResourceCache,
        mesh: &MeshSnapshot,
        changes: &ChangeSet,
    ) {
        let scope = Arc::clone(&self.scope);
        let seen = changes
            .endpoints
            .iter()
            .filter(|key| scope.has_service(key));
        let hosts: BTreeSet<Hostname> = seen.map(|key| key.hostname.clone()).collect();
        if !hosts.is_empty() {
            self.replace_endpoints(cache, mesh, &scope, &hosts);
        }
    }

    fn gather_all(&mut self, cache: &ResourceCache, mesh: &MeshSnapshot) {
        let scope = Arc::clone(&self.scope);
        self.unmade.clear();
        let clusters = self.resolve_clusters(cache, &cds::cluster_inputs(mesh, &scope));
        self.set(TypeUrl::Cluster, clusters);
        let endpoints = resolve_endpoints(cache, &eds::endpoint_inputs(mesh, &scope));
        self.set(TypeUrl::Endpoint, endpoints);

        self.listeners.clear();
        let inputs = lds::listener_inputs(mesh, &scope);
        let listeners = self.resolve_listeners(cache, &inputs);
        self.set(TypeUrl::Listener, listeners);
        self.conflicts = rds::gateway_conflicts(&scope);
        let names = inputs.iter().flat_map(ListenerInputs::route_names);
        let names = names.map(str::to_owned).collect();
        self.pieces.clear();
        let mut pieces = PieceChanges::default();
        let routes = self.resolve_routes(cache, mesh, &names, &mut pieces);
        self.set(TypeUrl::Route, routes);
        self.set(TypeUrl::VirtualHost, pieces.made);
        self.gather_names(cache, mesh);
    }

    fn set(&mut self, type_url: TypeUrl, made: Made) {
        self.part.set_items(type_url, made.into_values().collect());
    }

    fn update_clusters(
        &mut self,
        cache: &ResourceCache,
        mesh: &MeshSnapshot,
        old: &ProxyScope,
        hosts: &BTreeSet<Hostname>,
    ) {
        let gone = cluster_names(old, hosts);
        for name in &gone {
            self.unmade.remove(&**name);
        }
        let scope = Arc::clone(&self.scope);
        let inputs = cds::service_cluster_inputs(mesh, &scope, services(&scope, hosts));
        let made = self.resolve_clusters(cache, &inputs);
        self.part.change_items(TypeUrl::Cluster, made, &gone);
    }

    fn replace_endpoints(
        &mut self,
        cache: &ResourceCache,
        mesh: &MeshSnapshot,
        old: &ProxyScope,
        hosts: &BTreeSet<Hostname>,
    ) {
        let is_sidecar = old.group.kind == ProxyKind::Sidecar;
        // A router's clusters come and go with the whole of it.
        let gone = if is_sidecar {
            cluster_names(old, hosts)
        } else {
            Names::new()
        };
        let inputs = eds::service_endpoint_inputs(mesh, &self.scope, services(&self.scope, hosts));
        let made = resolve_endpoints(cache, &inputs);
        self.part.change_items(TypeUrl::Endpoint, made, &gone);
    }

    fn update_listeners(
        &mut self,
        cache: &ResourceCache,
        mesh: &MeshSnapshot,
        places: &OutboundPlaces,
    ) {
        let is_meant = |(port, bind): &(u32, Arc<str>)| places.has(*port, bind);
        let known = std::mem::take(&mut self.listeners);
        let (stale, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            known.into_iter().partition(|(place, _)| is_meant(place));
        self.listeners = kept;
        let inputs = lds::outbound_listener_inputs(mesh, &self.scope, places);
        let inputs: Vec<_> = inputs.into_iter().map(ListenerInputs::Outbound).collect();
        let made = self.resolve_listeners(cache, &inputs);
        let gone = stale.into_values().collect();
        self.part.change_items(TypeUrl::Listener, made, &gone);
    }

    fn update_routes(
        &mut self,
        cache: &ResourceCache,
        mesh: &MeshSnapshot,
        affected: &AffectedResources,
    ) {
        let listeners = self.part.list(TypeUrl::Listener).items();
        let wanted: BTreeSet<&str> = listeners
            .flat_map(|listener| listener.references.iter().map(|name| &**name))
            .collect();
        let known = self.part.list(TypeUrl::Route);
        let is_stale = |name: &&&str| known.find(name).is_none() || affected.has_route(name);
        let stale = wanted.iter().filter(is_stale);
        let stale: BTreeSet<String> = stale.map(|name| (*name).to_owned()).collect();
        let gone = known.items().filter(|route| !wanted.contains(&*route.name));
        let gone: Names = gone.map(|route| Arc::clone(&route.name)).collect();
        let mut pieces = PieceChanges::default();
        for route in &gone {
            self.pieces.remove(route, &mut pieces);
        }
        let made = if stale.is_empty() {
            Made::new()
        } else {
            self.resolve_routes(cache, mesh, &stale, &mut pieces)
        };
        self.part.change_items(TypeUrl::Route, made, &gone);
        let (made, gone) = (pieces.made, pieces.gone);
        self.part.change_items(TypeUrl::VirtualHost, made, &gone);
    }

    /// Build route configurations; of those in pieces the frames, and note which pieces differ.
    fn resolve_routes(
        &mut self,
        cache: &ResourceCache,
        mesh: &MeshSnapshot,
        names: &BTreeSet<String>,
        pieces: &mut PieceChanges,
    ) -> Made {
        let inputs = rds::route_inputs(mesh, &self.scope, names);
        if !self.scope.group.has_virtual_hosts_apart {
            let build = |inputs: &rds::RouteConfigurationInputs<'_>| {
                let (routes, faults) = rds::build_route_configuration(inputs);
                (Some(routes), faults)
            };
            return resolve(cache, &inputs, build, |_, _| ());
        }
        for inputs in &inputs {
            self.pieces.update(cache, inputs, pieces);
        }
        let frames: Vec<_> = inputs
            .iter()
            .map(rds::RouteConfigurationInputs::frame)
            .collect();
        let build = |frame: &_| (Some(rds::build_frame(frame)), Vec::new());
        resolve(cache, &frames, build, |_, _| ())
    }

    fn gather_names(&mut self, cache: &ResourceCache, mesh: &MeshSnapshot) {
        // Istio's agent answers DNS beside workloads only, not in gateways.
        if self.scope.group.kind == ProxyKind::Sidecar {
            let inputs = nds::name_table_inputs(mesh, &self.scope);
            let build = |inputs: &_| (Some(nds::build_name_table(inputs)), Vec::new());
            let made = resolve(cache, &[inputs], build, |_, _| ());
            self.set(TypeUrl::NameTable, made);
        }
    }

    fn resolve_clusters(&mut self, cache: &ResourceCache, inputs: &[ClusterInputs]) -> Made {
        let unmade = &mut self.unmade;
        resolve(cache, inputs, cds::build_cluster, |inputs, made| {
            if let Err(faults) = made {
                unmade.insert(inputs.name(), faults);
            }
        })
    }

    /// Build listeners, and note where they are.
    fn resolve_listeners(&mut self, cache: &ResourceCache, inputs: &[ListenerInputs]) -> Made {
        let places = &mut self.listeners;
        let build = |inputs: &ListenerInputs| {
            let (listener, faults) = lds::build_listener(inputs);
            (Some(listener), faults)
        };
        resolve(cache, inputs, build, |inputs, made| {
            if let (ListenerInputs::Outbound(inputs), Ok(listener)) = (inputs, made) {
                places.insert(inputs.place(), Arc::clone(&listener.name));
            }
        })
    }
}

/// Build what the cache does not have; `note` is told of each result, or of what kept it from being made.
fn resolve<I: Hash, M: Body>(
    cache: &ResourceCache,
    inputs: &[I],
    build: impl Fn(&I) -> (Option<M>, Vec<Diagnostic>),
    mut note: impl FnMut(&I, Result<&Arc<EncodedResource>, Vec<Diagnostic>>),
) -> Made {
    let mut made = Made::new();
    for inputs in inputs {
        match cache.resolve_built(inputs, &build) {
            (Some(resource), _) => {
                note(inputs, Ok(&resource));
                made.insert(Arc::clone(&resource.name), resource);
            }
            (None, faults) => note(inputs, Err(faults)),
        }
    }
    made
}

fn resolve_endpoints(cache: &ResourceCache, inputs: &[EndpointInputs]) -> Made {
    let build = |inputs: &_| (Some(eds::build_load_assignment(inputs)), Vec::new());
    resolve(cache, inputs, build, |_, _| ())
}

fn services<'a>(
    scope: &'a ProxyScope,
    hosts: &'a BTreeSet<Hostname>,
) -> impl Iterator<Item = &'a Shared<Service>> {
    let hosts = hosts.iter();
    hosts.filter_map(|host| scope.find_service(host.as_str()))
}

fn cluster_names(scope: &ProxyScope, hosts: &BTreeSet<Hostname>) -> Names {
    services(scope, hosts)
        .flat_map(|service| cds::cluster_names(scope, service))
        .map(Arc::from)
        .collect()
}
