//! A sorted, shared list of the resources of one type, in chunks that lists of later epochs share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;

use crate::diff::{ListDiff, diff_lists};
use crate::resource::EncodedResource;
use crate::response::encode_sotw_resources;
use crate::shared_body::{SharedBody, lock};
use crate::version::{Version, VersionSum};

/// How many differences to older lists a list remembers; older ones are computed again.
const KEPT_DIFFS: usize = 8;
/// Resources in a chunk when it is made; it is cut anew when it has grown to twice as many.
const CHUNK_LEN: usize = 64;

/// Some resources that are neighbours by name.
pub(crate) type Chunk = Arc<[Arc<EncodedResource>]>;

/// The resources of one type, sorted by name, each name once.
#[derive(Debug)]
pub struct ResourceList {
    chunks: Vec<Chunk>,
    len: usize,
    sum: VersionSum,
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
        let mut sum = VersionSum::default();
        for item in &items {
            sum.add(&item.name, item.version);
        }
        let len = items.len();
        Arc::new(Self::of_chunks(cut(items).collect(), len, sum))
    }

    fn of_chunks(chunks: Vec<Chunk>, len: usize, sum: VersionSum) -> Self {
        Self {
            chunks,
            len,
            version: sum.version(),
            sum,
            sotw: SharedBody::default(),
            diffs: Mutex::default(),
        }
    }

    /// The list without resources.
    pub fn empty() -> Arc<Self> {
        Self::new(Vec::new())
    }

    /// The list with some resources replaced or added and others removed; `None` if that changes nothing.
    ///
    /// It shares with this list all chunks in which nothing changed, and knows its difference from it.
    pub fn changed(
        &self,
        made: BTreeMap<Arc<str>, Arc<EncodedResource>>,
        gone: &BTreeSet<Arc<str>>,
    ) -> Option<Arc<Self>> {
        let mut sum = self.sum;
        let mut diff = ListDiff::default();
        for name in gone.iter().filter(|name| !made.contains_key(*name)) {
            if let Some(old) = self.find(name) {
                sum.remove(&old.name, old.version);
                diff.removed.push(Arc::clone(&old.name));
            }
        }
        let mut n_added = 0;
        let mut placed = Vec::with_capacity(made.len());
        for (name, resource) in made {
            match self.find(&name) {
                Some(old) if old.version == resource.version => {
                    // The same to proxies, though there may be other things to say of it.
                    if old.diagnostics != resource.diagnostics {
                        placed.push(resource);
                    }
                    continue;
                }
                Some(old) => sum.remove(&old.name, old.version),
                None => n_added += 1,
            }
            sum.add(&resource.name, resource.version);
            diff.changed.push(Arc::clone(&resource));
            placed.push(resource);
        }
        if placed.is_empty() && diff.removed.is_empty() {
            return None;
        }
        let len = self.len + n_added - diff.removed.len();
        let list = Self::of_chunks(self.with(&placed, &diff.removed), len, sum);
        lock(&list.diffs).push((self.version, Arc::new(diff)));
        Some(Arc::new(list))
    }

    /// Whether both tell proxies the same, and there is the same to say of it.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let mut pairs = self.items().zip(other.items());
        self.version == other.version && pairs.all(|(a, b)| a.diagnostics == b.diagnostics)
    }

    /// The chunks with resources put in and others taken out, where they meet them; all are sorted.
    fn with(&self, mut changed: &[Arc<EncodedResource>], mut removed: &[Arc<str>]) -> Vec<Chunk> {
        let mut chunks = Vec::with_capacity(self.chunks.len() + 1);
        for (i, chunk) in self.chunks.iter().enumerate() {
            // What lies before the next chunk belongs to this one; before the first, to the first.
            let next = self.chunks.get(i + 1).and_then(|next| next.first());
            let is_before = |name: &str| next.is_none_or(|next| *name < *next.name);
            let (here, later) = changed.split_at(changed.partition_point(|r| is_before(&r.name)));
            let (gone, later_gone) = removed.split_at(removed.partition_point(|n| is_before(n)));
            (changed, removed) = (later, later_gone);
            if here.is_empty() && gone.is_empty() {
                chunks.push(Arc::clone(chunk));
            } else {
                chunks.extend(cut(merge(chunk, here, gone)));
            }
        }
        chunks.extend(cut(changed.to_vec()));
        chunks
    }

    /// The hash of all names and versions.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The resources in the order of their names.
    pub fn items(&self) -> impl Iterator<Item = &Arc<EncodedResource>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The resource of a name.
    pub fn find(&self, name: &str) -> Option<&Arc<EncodedResource>> {
        let is_not_after = |chunk: &Chunk| chunk.first().is_some_and(|r| *r.name <= *name);
        let at = self.chunks.partition_point(is_not_after).checked_sub(1)?;
        let chunk = self.chunks.get(at)?;
        let at = chunk.binary_search_by(|r| (*r.name).cmp(name)).ok()?;
        chunk.get(at)
    }

    /// The resources whose names are `<folder>/` and something without a slash.
    pub fn under(&self, folder: &str) -> impl Iterator<Item = &Arc<EncodedResource>> {
        let first = format!("{folder}/");
        let from = first.clone();
        let rest = self.items().skip_while(move |r| *r.name < *from);
        let below = rest.map_while(move |r| r.name.strip_prefix(&first).map(|name| (r, name)));
        below.filter_map(|(r, name)| (!name.contains('/')).then_some(r))
    }

    /// All resources as the `resources` field of a `DiscoveryResponse`; one copy for all who ask.
    pub fn sotw_body(&self) -> Bytes {
        self.sotw.get(|| {
            let items: Vec<_> = self.items().cloned().collect();
            encode_sotw_resources(&items)
        })
    }

    /// What changed since `old`; computed once for all who had `old`.
    pub fn diff_from(&self, old: &Self) -> Arc<ListDiff> {
        let mut kept = lock(&self.diffs);
        if let Some((_, diff)) = kept.iter().find(|(version, _)| *version == old.version) {
            return Arc::clone(diff);
        }
        let diff = Arc::new(diff_lists(&old.chunks, &self.chunks));
        if kept.len() == KEPT_DIFFS {
            kept.remove(0);
        }
        kept.push((old.version, Arc::clone(&diff)));
        diff
    }

    /// What changed since `old`, for the only one who has these lists: nothing of it is remembered here.
    pub fn diff_alone_from(&self, old: &Self) -> Arc<ListDiff> {
        static NOTHING: OnceLock<Arc<ListDiff>> = OnceLock::new();
        if self.version == old.version {
            return Arc::clone(NOTHING.get_or_init(Arc::default));
        }
        Arc::new(diff_lists(&old.chunks, &self.chunks))
    }
}

/// Cut sorted resources into chunks of equal length.
fn cut(items: Vec<Arc<EncodedResource>>) -> impl Iterator<Item = Chunk> {
    let n_chunks = if items.len() <= 2 * CHUNK_LEN {
        1
    } else {
        items.len() / CHUNK_LEN
    };
    let len = items.len().div_ceil(n_chunks).max(1);
    let mut items = items.into_iter().peekable();
    std::iter::from_fn(move || {
        items.peek()?;
        Some(items.by_ref().take(len).collect())
    })
}

/// One chunk with resources added or replaced and others removed; all are sorted.
fn merge(
    chunk: &Chunk,
    changed: &[Arc<EncodedResource>],
    removed: &[Arc<str>],
) -> Vec<Arc<EncodedResource>> {
    let mut items = Vec::with_capacity(chunk.len() + changed.len());
    let mut changed = changed.iter().peekable();
    for old in chunk.iter() {
        while let Some(new) = changed.next_if(|new| new.name < old.name) {
            items.push(Arc::clone(new));
        }
        if let Some(new) = changed.next_if(|new| new.name == old.name) {
            items.push(Arc::clone(new));
        } else if removed.binary_search(&old.name).is_err() {
            items.push(Arc::clone(old));
        }
    }
    items.extend(changed.cloned());
    items
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

    #[test]
    fn a_difference_for_one_alone_is_the_same_and_not_kept() {
        let old = ResourceList::new(vec![cluster("a", ""), cluster("b", "")]);
        let new = ResourceList::new(vec![cluster("b", "2"), cluster("c", "")]);
        let alone = new.diff_alone_from(&old);
        assert_eq!(std::sync::Arc::strong_count(&alone), 1);
        let names: Vec<&str> = alone.changed.iter().map(|r| &*r.name).collect();
        assert_eq!(
            (names, &*alone.removed),
            (vec!["b", "c"], &["a".into()][..])
        );
        assert!(!alone.is_empty() && new.diff_alone_from(&new).is_empty());
    }

    #[test]
    fn chunks_in_which_nothing_changed_are_shared() {
        let names: Vec<String> = (0..1000).map(|i| format!("{i:04}")).collect();
        let items = names.iter().map(|name| cluster(name, "")).collect();
        let old = ResourceList::new(items);
        let made = [("0500".into(), cluster("0500", "2"))].into();
        let new = old.changed(made, &["0501".into()].into()).unwrap();
        let is_shared = |chunk| old.chunks.iter().any(|known| Arc::ptr_eq(known, chunk));
        let n_own = new.chunks.iter().filter(|chunk| !is_shared(chunk)).count();
        assert_eq!((n_own, new.len()), (1, 999));
    }
}
