//! Meshes for tests: objects as an operator writes them, and proxies, without files or servers.
//!
//! **In** — objects in Kubernetes form as JSON values; nodes.
//! **Out** — [`TestMesh`], [`TestProxy`], their `ResourceSnapshot`s; short builders of the objects that most
//! tests need.
//! **Never** — a mock of a room of ours; being depended on by a shipped crate.

#![allow(clippy::panic, reason = "a test that is wrong must say so")]

mod mesh;
pub mod objects;

pub use mesh::{TestMesh, TestProxy};
