//! Messages become bytes: encoded once, versioned by content, shared by all who get them.
//!
//! **In** — Envoy messages and the hash of what they were built from.
//! **Out** — [`ResourceSnapshot`]s of interned [`EncodedResource`]s, their differences, and the ready
//! bytes of discovery responses.
//! **Never** — tokio, I/O, a clock, who is connected or what they have; no order from a hash map.

pub mod assemble;
pub mod cache;
pub mod diff;
pub mod group;
pub mod json;
mod pieces;
pub mod resource;
pub mod resource_list;
pub mod resource_snapshot;
pub mod response;
mod shared_body;
pub mod version;

pub use assemble::{Assembled, assemble_local_cluster, assemble_own};
pub use cache::ResourceCache;
pub use diff::ListDiff;
pub use group::GroupResources;
pub use pieces::route_of;
pub use resource::{Body, EncodedResource, Resource};
pub use resource_list::ResourceList;
pub use resource_snapshot::{Inconsistency, ResourcePart, ResourceSnapshot, Resources};
pub use version::Version;
