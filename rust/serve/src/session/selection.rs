//! The resources of one response: whole differences with their shared bytes, and single resources.

use std::sync::Arc;

use bytes::Bytes;
use navarch_encode::response::{
    encode_delta_resources, encode_removed, encode_sotw_resources, splice_resources,
};
use navarch_encode::{EncodedResource, ListDiff, Version};

use super::Variant;

/// A name that is gone, and the version that the client holds, if that is known.
pub(super) type Gone = (Arc<str>, Option<Version>);

/// What one response carries.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Differences sent as they are: one body for all streams that had the same before.
    pub(super) whole: Vec<Arc<ListDiff>>,
    /// Resources picked for this stream.
    pub(super) picked: Vec<Arc<EncodedResource>>,
    /// Resources that are gone, with the versions that the client holds (told in delta only).
    pub(super) removed: Vec<Gone>,
    /// Names that were asked for and are not there (told in delta only).
    pub(super) absent: Vec<Arc<str>>,
}

impl Selection {
    /// Nothing to send, nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.picked.is_empty()
            && self.removed.is_empty()
            && self.absent.is_empty()
            && self.whole.iter().all(|diff| diff.changed.is_empty())
    }

    pub(super) fn resources(&self) -> impl Iterator<Item = &Arc<EncodedResource>> {
        self.whole
            .iter()
            .flat_map(|diff| &diff.changed)
            .chain(&self.picked)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        let in_diff = |diff: &Arc<ListDiff>| {
            diff.changed
                .binary_search_by(|r| (*r.name).cmp(name))
                .is_ok()
        };
        self.whole.iter().any(in_diff) || self.picked.iter().any(|r| &*r.name == name)
    }

    /// The encoded fields of the response's resources.
    pub(super) fn segments(&self, variant: Variant) -> Vec<Bytes> {
        let mut segments: Vec<Bytes> = self
            .whole
            .iter()
            .map(|diff| match variant {
                Variant::Sotw => diff.sotw_body(),
                Variant::Delta => diff.delta_body(),
            })
            .collect();
        match variant {
            Variant::Sotw => splice_resources(&self.picked, encode_sotw_resources, &mut segments),
            Variant::Delta => splice_resources(&self.picked, encode_delta_resources, &mut segments),
        }
        if variant == Variant::Delta {
            let removed = self.removed.iter().map(|(name, _)| name);
            let names: Vec<_> = removed.chain(&self.absent).cloned().collect();
            segments.push(encode_removed(&names).into());
        }
        segments.retain(|segment| !segment.is_empty());
        segments
    }
}
