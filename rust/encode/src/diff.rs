//! What changed between two lists of resources.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use crate::resource::EncodedResource;
use crate::resource_list::Chunk;
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

/// Walk two sorted lists; chunks and resources shared by both are skipped by reference.
pub(crate) fn diff_lists(old: &[Chunk], new: &[Chunk]) -> ListDiff {
    let mut diff = ListDiff::default();
    let (mut old, mut new) = (Cursor::new(old), Cursor::new(new));
    while let (Some(before), Some(after)) = (old.item(), new.item()) {
        if let (Some(a), Some(b)) = (old.at_start(), new.at_start())
            && Arc::ptr_eq(a, b)
        {
            old.skip_chunk();
            new.skip_chunk();
            continue;
        }
        let order = if Arc::ptr_eq(before, after) {
            Ordering::Equal
        } else {
            before.name.cmp(&after.name)
        };
        match order {
            Ordering::Less => diff.removed.push(Arc::clone(&before.name)),
            Ordering::Greater => diff.changed.push(Arc::clone(after)),
            Ordering::Equal if before.version != after.version => {
                diff.changed.push(Arc::clone(after));
            }
            Ordering::Equal => {}
        }
        if order != Ordering::Greater {
            old.advance();
        }
        if order != Ordering::Less {
            new.advance();
        }
    }
    while let Some(before) = old.item() {
        diff.removed.push(Arc::clone(&before.name));
        old.advance();
    }
    while let Some(after) = new.item() {
        diff.changed.push(Arc::clone(after));
        new.advance();
    }
    diff
}

/// A place in chunks, none of which is empty.
struct Cursor<'a> {
    chunks: &'a [Chunk],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(chunks: &'a [Chunk]) -> Self {
        Self { chunks, at: 0 }
    }

    fn item(&self) -> Option<&'a Arc<EncodedResource>> {
        self.chunks.first()?.get(self.at)
    }

    /// The chunk, at whose first resource this is.
    fn at_start(&self) -> Option<&'a Chunk> {
        self.chunks.first().filter(|_| self.at == 0)
    }

    fn skip_chunk(&mut self) {
        self.chunks = self.chunks.get(1..).unwrap_or_default();
        self.at = 0;
    }

    fn advance(&mut self) {
        self.at += 1;
        if self.item().is_none() {
            self.skip_chunk();
        }
    }
}
