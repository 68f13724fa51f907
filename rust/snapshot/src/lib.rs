//! The frozen, indexed view of a mesh, and what one proxy may see of it.
//!
//! **In:** batches of object bytes (`MeshStore::apply`), proxies that ask.
//! **Out:** `MeshSnapshot`, `ChangeSet`, `NodeGroup`, `ProxyScope`, diagnostics.
//! **Never:** I/O, async, a clock, Envoy's messages; more than one writer.

mod affected;
mod analysis;
mod change;
mod destination_rule;
mod gateway_api;
mod gateway_merge;
mod group;
mod ingress;
mod mesh;
mod mutual_tls;
mod policy;
mod registry;
mod scope;
mod sidecar;
mod store;
mod target;
mod virtual_service;

pub use affected::ScopeDifference;
pub use change::{Batch, Change, ChangeSet, ConfigurationChanges};
pub use gateway_api::{
    AncestorStatus, Condition, ListenerStatus, ObjectStatus, ParentStatus, Reason, StatusAddress,
    StatusContent,
};
pub use gateway_merge::{
    GatewayConflict, GatewayServer, MergedGateway, ServerPort, merge_gateways,
};
pub use group::NodeGroup;
pub use mesh::{MeshOptions, MeshSnapshot, ServiceKey};
pub use mutual_tls::MutualTlsModes;
pub use policy::{TokenIssuer, WorkloadPolicies};
pub use scope::{EgressScope, ProxyScope, destination_hosts};
pub use store::{MeshStore, ReportedHealth};
pub use target::ServiceTarget;
