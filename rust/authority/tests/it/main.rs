//! The authority by what it issues: read by another library (webpki), signed for real.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that is wrong must say so"
)]

mod forge;
mod issuing;
mod mutations;
mod refusals;
mod replacing;
mod trust;
