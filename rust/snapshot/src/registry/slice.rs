//! Which EndpointSlices name a Pod or an address, so that a Pod that changes is not looked for in all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::EndpointSlice;

use super::Name;

/// Slices by what their endpoints point at.
#[derive(Debug, Default)]
pub(crate) struct SlicePlaces {
    by_pod: BTreeMap<Name, BTreeSet<Name>>,
    /// Of endpoints that point at no object.
    by_address: BTreeMap<Arc<str>, BTreeSet<Name>>,
}

impl SlicePlaces {
    /// The slices with an endpoint that points at a Pod of their namespace.
    pub(crate) fn of_pod(&self, pod: &Name) -> impl Iterator<Item = &Name> {
        self.by_pod.get(pod).into_iter().flatten()
    }

    /// The slices with an address that is written by hand.
    pub(crate) fn at_address(&self, address: &str) -> impl Iterator<Item = &Name> {
        self.by_address.get(address).into_iter().flatten()
    }

    /// Take in a slice in place of its former version.
    pub(crate) fn replace(
        &mut self,
        name: &Name,
        old: Option<&EndpointSlice>,
        new: Option<&EndpointSlice>,
    ) {
        if let Some(slice) = old {
            self.visit(name, slice, remove, remove);
        }
        if let Some(slice) = new {
            self.visit(name, slice, insert, insert);
        }
    }

    fn visit(
        &mut self,
        name: &Name,
        slice: &EndpointSlice,
        at_pod: impl Fn(&mut BTreeMap<Name, BTreeSet<Name>>, Name, &Name),
        at_address: impl Fn(&mut BTreeMap<Arc<str>, BTreeSet<Name>>, Arc<str>, &Name),
    ) {
        for endpoint in &slice.endpoints {
            if let Some(target) = &endpoint.target_ref {
                let pod = (name.0.clone(), Arc::from(target.name.as_str()));
                at_pod(&mut self.by_pod, pod, name);
                continue;
            }
            for address in &endpoint.addresses {
                at_address(&mut self.by_address, address.as_str().into(), name);
            }
        }
    }
}

fn insert<K: Ord>(index: &mut BTreeMap<K, BTreeSet<Name>>, key: K, name: &Name) {
    index.entry(key).or_default().insert(name.clone());
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the same signature as `insert`"
)]
fn remove<K: Ord>(index: &mut BTreeMap<K, BTreeSet<Name>>, key: K, name: &Name) {
    if let Some(names) = index.get_mut(&key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(&key);
        }
    }
}
