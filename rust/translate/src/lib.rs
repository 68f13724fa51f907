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
pub mod http_filter;
pub mod lds;
pub mod name;
pub mod nds;
pub mod rds;
