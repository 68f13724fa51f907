//! From a frozen mesh and one proxy's scope to Envoy's resources, by pure functions.
//!
//! **In:** `MeshSnapshot`, `ProxyScope`, `Proxy`; each builder sees only its `*Inputs`.
//! **Out:** Envoy messages and diagnostics.
//! **Never:** I/O, a clock, the environment, randomness, globals, hash-ordered maps.

pub mod address;
pub mod affected;
pub mod cds;
pub mod config_source;
pub mod eds;
mod encoded;
pub mod http_filter;
mod istio_metadata;
pub mod lds;
mod memo;
pub mod name;
pub mod nds;
mod policy;
mod provider;
pub mod rds;

pub use encoded::{Encoded, References};
