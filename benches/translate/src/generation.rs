//! A mesh and a scope, made ready once, and the generation that is measured.

use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_encode::{Body, EncodedResource};
use navarch_model::{Diagnostic, Proxy, ProxyKind};
use navarch_snapshot::{MeshOptions, MeshSnapshot, MeshStore, ProxyScope};
use navarch_translate::{cds, eds, lds, nds, rds};

use crate::scenarios::Scenario;

/// What is generated in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceType {
    /// Clusters.
    Cds,
    /// Load assignments.
    Eds,
    /// Listeners.
    Lds,
    /// Route configurations, of the names that the listeners ask for.
    Rds,
    /// The name table; sidecars only.
    Nds,
}

impl ResourceType {
    /// All, in push order.
    pub const ALL: [Self; 5] = [Self::Cds, Self::Eds, Self::Lds, Self::Rds, Self::Nds];

    /// Its three letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cds => "CDS",
            Self::Eds => "EDS",
            Self::Lds => "LDS",
            Self::Rds => "RDS",
            Self::Nds => "NDS",
        }
    }
}

/// The resources of one generation.
#[derive(Debug, Default)]
pub struct Generated {
    /// In the order in which they were built.
    pub resources: Vec<EncodedResource>,
    /// What the builders had to say.
    pub diagnostics: Vec<Diagnostic>,
}

impl Generated {
    fn add<M: Body>(&mut self, (message, faults): (Option<M>, Vec<Diagnostic>)) {
        self.resources
            .extend(message.as_ref().map(EncodedResource::encode));
        self.diagnostics.extend(faults);
    }

    /// The encoded resources' size in all.
    pub fn size_bytes(&self) -> usize {
        self.resources.iter().map(|r| r.any.len()).sum()
    }
}

/// A scenario's mesh and its proxy's scope.
///
/// This is where Istio's benchmark begins, too: its push context, sidecar scope, merged gateways and service targets are
/// ready before the clock runs.
#[derive(Debug)]
pub struct Bench {
    mesh: Arc<MeshSnapshot>,
    scope: ProxyScope,
    proxy: Proxy,
    route_names: BTreeSet<String>,
}

impl Bench {
    /// Apply a scenario of `n_services`.
    pub fn new(scenario: &Scenario, n_services: usize) -> Self {
        let mut store = MeshStore::new(MeshOptions::default());
        store.apply((scenario.batch)(n_services));
        let faults: Vec<&Diagnostic> = store.undecodable().collect();
        assert!(faults.is_empty(), "objects can't be decoded: {faults:?}");
        let mesh = store.snapshot();
        let proxy = scenario.proxy();
        let scope = mesh.scope_of(&mesh.group_of(&proxy));
        let mut bench = Self {
            mesh,
            scope,
            proxy,
            route_names: BTreeSet::new(),
        };
        let listeners = lds::listener_inputs(&bench.mesh, &bench.scope);
        let names = listeners.iter().flat_map(lds::ListenerInputs::route_names);
        bench.route_names = names.map(str::to_owned).collect();
        bench
    }

    /// Generate all resources of a type that the proxy gets.
    pub fn generate(&self, resource_type: ResourceType) -> Generated {
        let mut made = Generated::default();
        match resource_type {
            ResourceType::Cds => self.clusters(&mut made),
            ResourceType::Eds => self.endpoints(&mut made),
            ResourceType::Lds => self.listeners(&mut made),
            ResourceType::Rds => self.routes(&mut made),
            ResourceType::Nds => self.name_table(&mut made),
        }
        made
    }

    /// Whether the proxy gets resources of a type at all.
    pub fn has(&self, resource_type: ResourceType) -> bool {
        resource_type != ResourceType::Nds || self.is_sidecar()
    }

    fn is_sidecar(&self) -> bool {
        self.proxy.kind == ProxyKind::Sidecar
    }

    fn clusters(&self, made: &mut Generated) {
        for inputs in cds::cluster_inputs(&self.mesh, &self.scope) {
            made.add(cds::build_cluster(&inputs));
        }
        if self.is_sidecar() {
            for inputs in cds::inbound_cluster_inputs(&self.mesh, &self.scope, &self.proxy) {
                made.add(cds::build_cluster(&inputs));
            }
        }
    }

    fn endpoints(&self, made: &mut Generated) {
        for inputs in eds::endpoint_inputs(&self.mesh, &self.scope) {
            made.add((Some(eds::build_load_assignment(&inputs)), Vec::new()));
        }
    }

    fn listeners(&self, made: &mut Generated) {
        for inputs in lds::listener_inputs(&self.mesh, &self.scope) {
            let (listener, faults) = lds::build_listener(&inputs);
            made.add((Some(listener), faults));
        }
        if self.is_sidecar() {
            for inputs in lds::inbound_listener_inputs(&self.mesh, &self.scope, &self.proxy) {
                let (listener, faults) = lds::build_listener(&inputs);
                made.add((Some(listener), faults));
            }
        }
    }

    fn routes(&self, made: &mut Generated) {
        let names = &self.route_names;
        for inputs in rds::route_inputs(&self.mesh, &self.scope, names) {
            let (routes, faults) = rds::build_route_configuration(&inputs);
            made.add((Some(routes), faults));
        }
    }

    fn name_table(&self, made: &mut Generated) {
        if self.is_sidecar() {
            let inputs = nds::name_table_inputs(&self.mesh, &self.scope);
            made.add((Some(nds::build_name_table(&inputs)), Vec::new()));
        }
    }
}
