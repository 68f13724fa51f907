//! A sorted, shared list of the resources of one type.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::diff::{ListDiff, diff_lists};
use crate::resource::EncodedResource;
use crate::response::encode_sotw_resources;
use crate::shared_body::{SharedBody, lock};
use crate::version::Version;

/// How many differences to older lists a list remembers; older ones are computed again.
const KEPT_DIFFS: usize = 8;

/// The resources of one type, sorted by name, each name once.
#[derive(Debug)]
pub struct ResourceList {
    items: Box<[Arc<EncodedResource>]>,
    version: Version,
    sotw: SharedBody,
    diffs: Mutex<Vec<(Version, Arc<ListDiff>)>>,
}

impl ResourceList {
    /// A list from resources in any order; of two with the same name the later one stays.
    pub fn new(mut items: Vec<Arc<EncodedResource>>) -> Arc<Self> {
        // Stable, and compared from the end: the later of equals comes first and is kept.
        items.reverse();
        items.sort_by(|a, b| a.name.cmp(&b.name));
        items.dedup_by(|later, kept| later.name == kept.name);
        let version = Version::of_sequence(items.iter().map(|r| (&*r.name, r.version)));
        Arc::new(Self {
            items: items.into(),
            version,
            sotw: SharedBody::default(),
            diffs: Mutex::default(),
        })
    }

    /// The list without resources.
    pub fn empty() -> Arc<Self> {
        Self::new(Vec::new())
    }

    /// The hash of all names and versions.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The resources in the order of their names.
    pub fn items(&self) -> &[Arc<EncodedResource>] {
        &self.items
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The resource of a name.
    pub fn find(&self, name: &str) -> Option<&Arc<EncodedResource>> {
        let at = self.items.binary_search_by(|r| (*r.name).cmp(name)).ok()?;
        self.items.get(at)
    }

    /// All resources as the `resources` field of a `DiscoveryResponse`; one copy for all who ask.
    pub fn sotw_body(&self) -> Bytes {
        self.sotw.get(|| encode_sotw_resources(&self.items))
    }

    /// What changed since `old`; computed once for all who had `old`.
    pub fn diff_from(&self, old: &Self) -> Arc<ListDiff> {
        let mut kept = lock(&self.diffs);
        if let Some((_, diff)) = kept.iter().find(|(version, _)| *version == old.version) {
            return Arc::clone(diff);
        }
        let diff = Arc::new(diff_lists(&old.items, &self.items));
        if kept.len() == KEPT_DIFFS {
            kept.remove(0);
        }
        kept.push((old.version, Arc::clone(&diff)));
        diff
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use navarch_envoy::envoy::config::cluster::v3::Cluster;

    use super::ResourceList;
    use crate::resource::EncodedResource;

    fn cluster(name: &str, stat: &str) -> Arc<EncodedResource> {
        Arc::new(EncodedResource::encode(&Cluster {
            name: name.into(),
            alt_stat_name: stat.into(),
            ..Cluster::default()
        }))
    }

    #[test]
    fn sorted_and_the_later_of_equal_names_stays() {
        let later = cluster("a", "2");
        let list = ResourceList::new(vec![cluster("b", ""), cluster("a", "1"), later.clone()]);
        assert_eq!(list.len(), 2);
        assert!(Arc::ptr_eq(list.find("a").unwrap(), &later));
        assert!(list.find("c").is_none());
    }

    #[test]
    fn version_is_of_the_content_not_the_order() {
        let one = ResourceList::new(vec![cluster("a", ""), cluster("b", "")]);
        let two = ResourceList::new(vec![cluster("b", ""), cluster("a", "")]);
        assert_eq!(one.version(), two.version());
        assert_ne!(
            one.version(),
            ResourceList::new(vec![cluster("a", "")]).version()
        );
    }

    #[test]
    fn a_difference_is_computed_once() {
        let (old, new) = (
            ResourceList::empty(),
            ResourceList::new(vec![cluster("a", "")]),
        );
        assert!(Arc::ptr_eq(
            &new.diff_from(&old),
            &new.diff_from(&ResourceList::empty())
        ));
    }
}
