//! Whole generation of each resource type, in the scenarios of Istio's own benchmark.
//!
//! **In** — scenarios: batches of objects and one proxy, made by a number of services.
//! **Out** — encoded resources of one type, generated anew each time from a ready mesh and scope.
//! **Never** — a cache between two generations; being depended on by a shipped crate.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a scenario that is wrong must say so"
)]

mod generation;
pub mod scenarios;

/// The server's own (docs/decisions/023-allocator.md).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

pub use generation::{Bench, Generated, ResourceType};
