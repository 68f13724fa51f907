//! Envoys are served: who is connected, what each has, and what it is sent next, in which order.
//!
//! **In** — resource snapshots (through encode), discovery requests.
//! **Out** — discovery responses over gRPC, sync status, rejections, metrics.
//! **Never** — what a VirtualService is, calling translate, pyo3, a queue without a bound.

mod ads;
mod built;
pub mod debug;
mod epoch;
mod frame;
mod health;
pub mod limits;
mod line;
pub mod metrics;
pub mod push;
pub mod registry;
mod running;
pub mod runtime;
pub mod secure;
pub mod session;
mod status;

pub use ads::{AggregatedDiscovery, MAX_REQUEST_BYTES};
pub use epoch::MeshEpochs;
pub use health::HealthNews;
pub use limits::StreamLimits;
pub use metrics::Metrics;
pub use navarch_envoy::TypeUrl;
pub use push::{Push, Pusher, ResourceSource, Touched, Trigger};
pub use registry::{Connection, Fleet, ProxyRejection};
pub use runtime::{AdsServer, ServeError};
