//! What a mesh is: the objects operators write, the nouns every platform shares, and who asks.
//!
//! **In:** JSON bytes of Kubernetes and mesh objects (valid by the Python half), Envoy node JSON.
//! **Out:** plain values that hash the same on every replica, and diagnostics.
//! **Never:** a clock, I/O, hash-ordered maps in public types, knowledge of Envoy's messages.

mod authorization_policy;
mod credential;
mod decode;
mod destination_rule;
mod diagnostic;
mod endpoint;
mod extension_provider;
mod gateway;
pub mod gateway_api;
mod ingress;
mod json_value;
mod key;
mod kubernetes;
mod mesh_config;
mod mesh_networks;
mod metadata;
mod peer_authentication;
mod policy_target;
mod protocol;
mod proxy;
mod request_authentication;
mod scalar;
mod service;
mod service_entry;
mod shared;
mod sidecar;
mod virtual_service;
mod wire;

pub use authorization_policy::*;
pub use credential::{ConfigMapFacts, SecretFacts};
pub use decode::{Object, decode_object};
pub use destination_rule::*;
pub use diagnostic::{Diagnostic, Severity};
pub use endpoint::*;
pub use extension_provider::*;
pub use gateway::*;
pub use ingress::*;
pub use json_value::{JsonValue, parse_json_object};
pub use key::{ConfigKey, Hostname, Kind};
pub use kubernetes::*;
pub use mesh_config::*;
pub use mesh_networks::*;
pub use metadata::{Labels, Metadata, is_selected};
pub use peer_authentication::*;
pub use policy_target::*;
pub use protocol::{ListenerProtocol, Protocol};
pub use proxy::*;
pub use request_authentication::*;
pub use scalar::{Number, Percent, Span, Wrapped};
pub use service::*;
pub use service_entry::*;
pub use shared::{Shared, StableHasher, hash_text, hash128};
pub use sidecar::*;
pub use virtual_service::*;
pub use wire::{WireEvent, WirePage, read_page, read_watch};
