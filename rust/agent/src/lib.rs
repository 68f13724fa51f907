//! The agent beside Envoy: identity, secrets, bootstrap, ADS relay, readiness, metrics, DNS.
//!
//! **In** — [`settings::Settings`]; the control plane on one side, Envoy and the application on the other.
//! **Out** — certificates and roots by SDS, ADS as it comes, answers on :15020 and :15053; an exit code.
//! **Never** — a key on disk or in a log, a decision about the mesh, a resource looked into beyond its type.

mod connect;
mod dns;
mod envoy;
mod grpc;
mod http_client;
mod metrics;
mod probe;
mod proof;
mod relay;
mod renewal;
mod run;
mod sds;
mod secrets;
pub mod settings;
mod socket;
mod status;
mod workload;

pub use envoy::{EnvoyError, build_bootstrap};
pub use run::{RunError, run};
