//! Virtual hosts that are resources of their own: what each was made of, so that a change makes anew what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_translate::rds::{self, PieceInputs, RouteConfigurationInputs};

use crate::cache::ResourceCache;
use crate::resource::EncodedResource;
use crate::version::InputsKey;

/// How far ahead a virtual host is looked for among the former ones, when others before it have gone.
const LOOK_AHEAD: usize = 8;

/// The route configuration that a virtual host is of, by the virtual host's name as a resource.
pub fn route_of(virtual_host: &str) -> Option<&str> {
    virtual_host.rsplit_once('/').map(|(route, _)| route)
}

/// The virtual hosts of route configurations in pieces, in their order.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    of_routes: BTreeMap<Arc<str>, Vec<Piece>>,
}

/// A virtual host, and what it was made of.
#[derive(Debug, Clone)]
struct Piece {
    key: InputsKey,
    resource: Arc<EncodedResource>,
}

/// What became another by changes.
#[derive(Debug, Default)]
pub(crate) struct PieceChanges {
    /// New ones, and others in place of former ones.
    pub(crate) made: BTreeMap<Arc<str>, Arc<EncodedResource>>,
    /// Those that are there no more.
    pub(crate) gone: BTreeSet<Arc<str>>,
}

impl Pieces {
    /// Take over what a route configuration is made of now, and note what of it differs.
    ///
    /// Most virtual hosts are what they were, at the same place: they cost a hash of their inputs.
    pub(crate) fn update(
        &mut self,
        cache: &ResourceCache,
        inputs: &RouteConfigurationInputs<'_>,
        changes: &mut PieceChanges,
    ) {
        let known = self.of_routes.entry(inputs.name.clone()).or_default();
        let former = std::mem::take(known);
        let mut rest = former.as_slice();
        let mut passed = Vec::new();
        for inputs in inputs.pieces() {
            let key = InputsKey::of(&inputs);
            let mut near = rest.iter().take(LOOK_AHEAD);
            if let Some(at) = near.position(|piece| piece.key == key) {
                passed.extend_from_slice(&rest[..at]);
                known.push(rest[at].clone());
                rest = &rest[at + 1..];
            } else if let Some(piece) = make(cache, &inputs, key) {
                let resource = Arc::clone(&piece.resource);
                changes.made.insert(Arc::clone(&resource.name), resource);
                known.push(piece);
            }
        }
        passed.extend_from_slice(rest);
        changes.drop_former(&passed);
    }

    /// Forget what all were made of; the next of each is made anew.
    pub(crate) fn clear(&mut self) {
        self.of_routes.clear();
    }

    /// Drop a route configuration that is there no more.
    pub(crate) fn remove(&mut self, route: &str, changes: &mut PieceChanges) {
        let former = self.of_routes.remove(route).unwrap_or_default();
        changes.drop_former(&former);
    }
}

impl PieceChanges {
    fn drop_former(&mut self, pieces: &[Piece]) {
        let names = pieces.iter().map(|piece| &piece.resource.name);
        let gone = names.filter(|name| !self.made.contains_key(*name));
        self.gone.extend(gone.cloned());
    }
}

fn make(cache: &ResourceCache, inputs: &PieceInputs<'_>, key: InputsKey) -> Option<Piece> {
    let (resource, _) = cache.resolve_built(inputs, |inputs| {
        let (virtual_host, faults) = rds::build_piece(inputs);
        (Some(virtual_host), faults)
    });
    resource.map(|resource| Piece { key, resource })
}
