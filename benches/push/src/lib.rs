//! Pushes without network or threads, so that what one costs can be counted.
//!
//! **In** — a number of services and of sidecars, in the world of `benches/README.md`; changes.
//! **Out** — the bytes that streams would be sent.
//! **Never** — a socket, a thread, a clock.

#![allow(
    clippy::panic,
    reason = "what is no part of this world must stop the run"
)]

mod fleet;
mod objects;

pub use fleet::{Fleet, Sent};
pub use objects::World;
