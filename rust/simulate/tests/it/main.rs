//! Where requests land, over small meshes.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that is wrong must say so"
)]

mod cases;
mod gateway;
mod http;
mod inbound;
mod policies;
mod tcp;
mod tokens;
