//! From a mesh and a proxy's scope to encoded resources: asks for inputs, builds what the cache does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::sync::Arc;

use navarch_envoy::TypeUrl;
use navarch_model::{Diagnostic, Proxy, ProxyKind};
use navarch_snapshot::{MeshSnapshot, ProxyScope, ServiceKey};
use navarch_translate::eds::local_cluster;
use navarch_translate::{cds, eds, lds, nds, rds};

use crate::cache::ResourceCache;
use crate::resource::{Body, EncodedResource};
use crate::resource_snapshot::ResourcePart;

/// Resources with what their builders had to say.
#[derive(Debug, Default)]
pub struct Assembled {
    /// The resources.
    pub part: ResourcePart,
    /// In order, each once.
    pub diagnostics: BTreeSet<Diagnostic>,
}

impl Assembled {
    fn add<I: Hash, M: Body>(
        &mut self,
        cache: &ResourceCache,
        inputs: &[I],
        build: impl Fn(&I) -> (Option<M>, Vec<Diagnostic>),
    ) {
        let mut items: Vec<Arc<EncodedResource>> = Vec::with_capacity(inputs.len());
        for inputs in inputs {
            let (resource, faults) = cache.resolve_built(inputs, &build);
            self.diagnostics.extend(faults);
            if let Some(resource) = resource {
                self.diagnostics
                    .extend(resource.diagnostics.iter().cloned());
                items.push(resource);
            }
        }
        self.part.set_items(M::TYPE_URL, items);
    }
}

/// Build what the proxies of a group share.
pub fn assemble_group(cache: &ResourceCache, mesh: &MeshSnapshot, scope: &ProxyScope) -> Assembled {
    let mut made = Assembled::default();
    made.add(cache, &cds::cluster_inputs(mesh, scope), cds::build_cluster);
    made.add(cache, &eds::endpoint_inputs(mesh, scope), |inputs| {
        (Some(eds::build_load_assignment(inputs)), Vec::new())
    });
    let listeners = lds::listener_inputs(mesh, scope);
    let names = listeners.iter().flat_map(lds::ListenerInputs::route_names);
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    made.add(cache, &listeners, |inputs| {
        let (listener, faults) = lds::build_listener(inputs);
        (Some(listener), faults)
    });
    let conflicts = rds::gateway_conflicts(scope);
    made.diagnostics.extend(conflicts);
    let routes = rds::route_inputs(mesh, scope, &names);
    made.add(cache, &routes, |inputs| {
        let (routes, faults) = rds::build_route_configuration(inputs);
        (Some(routes), faults)
    });
    // Istio's agent answers DNS beside workloads only, not in gateways.
    let is_named = scope.group.kind == ProxyKind::Sidecar;
    let names = is_named.then(|| nds::name_table_inputs(mesh, scope));
    made.add(cache, names.as_slice(), |inputs| {
        (Some(nds::build_name_table(inputs)), Vec::new())
    });
    made
}

/// Build what only one proxy gets: a sidecar's inbound listener and clusters.
pub fn assemble_own(
    cache: &ResourceCache,
    mesh: &MeshSnapshot,
    scope: &ProxyScope,
    proxy: &Proxy,
) -> Assembled {
    let mut made = Assembled::default();
    if proxy.kind == ProxyKind::Sidecar {
        made.add(
            cache,
            &cds::inbound_cluster_inputs(mesh, scope, proxy),
            cds::build_cluster,
        );
        made.add(
            cache,
            &lds::inbound_listener_inputs(mesh, scope, proxy),
            |inputs| {
                let (listener, faults) = lds::build_listener(inputs);
                (Some(listener), faults)
            },
        );
    }
    made
}

/// Add the endpoints of the proxy's own kind, which a proxy with self discovery asks for because of its bootstrap.
pub fn assemble_local_cluster(
    cache: &ResourceCache,
    mesh: &MeshSnapshot,
    proxy: &Proxy,
    made: &mut Assembled,
) {
    let inputs = local_cluster::local_cluster_inputs(mesh, proxy);
    made.add(cache, inputs.as_slice(), |inputs| {
        (Some(local_cluster::build_local_cluster(inputs)), Vec::new())
    });
}

/// Rebuild only the load assignments of some services in what a group shares.
pub fn assemble_endpoints(
    cache: &ResourceCache,
    mesh: &MeshSnapshot,
    scope: &ProxyScope,
    part: &ResourcePart,
    services: &BTreeSet<ServiceKey>,
) -> ResourcePart {
    let visible = services
        .iter()
        .filter_map(|key| {
            scope
                .find_service(key.hostname.as_str())
                .map(|service| (key, service))
        })
        .filter(|(key, service)| service.namespace == key.namespace);
    let made: BTreeMap<Arc<str>, Arc<EncodedResource>> = visible
        .flat_map(|(_, service)| eds::endpoint_inputs_of(mesh, scope, service))
        .filter_map(|inputs| {
            let build = |inputs: &_| (Some(eds::build_load_assignment(inputs)), Vec::new());
            cache.resolve_built(&inputs, build).0
        })
        .map(|resource| (Arc::clone(&resource.name), resource))
        .collect();
    if made.is_empty() {
        return part.clone();
    }
    let mut next = part.clone();
    next.replace_items(TypeUrl::Endpoint, made);
    next
}
