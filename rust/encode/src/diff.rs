//! What changed between two lists of resources.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use crate::resource::EncodedResource;
use crate::response::{encode_delta_resources, encode_sotw_resources};
use crate::shared_body::SharedBody;

/// The difference between two lists, with its ready bytes.
#[derive(Debug, Default)]
pub struct ListDiff {
    /// Resources that are new or have another version, in the order of their names.
    pub changed: Vec<Arc<EncodedResource>>,
    /// Names that are gone, in order.
    pub removed: Vec<Arc<str>>,
    sotw: SharedBody,
    delta: SharedBody,
}

impl ListDiff {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    /// The changed resources as the `resources` field of a `DiscoveryResponse`.
    pub fn sotw_body(&self) -> Bytes {
        self.sotw.get(|| encode_sotw_resources(&self.changed))
    }

    /// The changed resources as the `resources` field of a `DeltaDiscoveryResponse`.
    pub fn delta_body(&self) -> Bytes {
        self.delta.get(|| encode_delta_resources(&self.changed))
    }
}

/// Walk two sorted lists; resources shared by both are skipped by reference.
pub fn diff_lists(old: &[Arc<EncodedResource>], new: &[Arc<EncodedResource>]) -> ListDiff {
    let mut diff = ListDiff::default();
    let (mut i, mut j) = (0, 0);
    while let (Some(before), Some(after)) = (old.get(i), new.get(j)) {
        if Arc::ptr_eq(before, after) {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        match before.name.cmp(&after.name) {
            Ordering::Less => {
                diff.removed.push(Arc::clone(&before.name));
                i += 1;
            }
            Ordering::Greater => {
                diff.changed.push(Arc::clone(after));
                j += 1;
            }
            Ordering::Equal => {
                if before.version != after.version {
                    diff.changed.push(Arc::clone(after));
                }
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    diff.removed
        .extend(old[i..].iter().map(|r| Arc::clone(&r.name)));
    diff.changed.extend(new[j..].iter().cloned());
    diff
}
