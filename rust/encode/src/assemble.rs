//! What is one proxy's own: asks for inputs, builds what the cache does not have. Groups: [`crate::group`].

use std::collections::BTreeSet;
use std::hash::Hash;
use std::sync::Arc;

use navarch_model::{Diagnostic, Proxy, ProxyKind};
use navarch_snapshot::{MeshSnapshot, ProxyScope};
use navarch_translate::eds::local_cluster;
use navarch_translate::{cds, lds};

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
