//! ServiceEntry and WorkloadEntry (networking.istio.io), as the Python half validated them.
//!
//! Fields and meanings: <https://istio.io/latest/docs/reference/config/networking/service-entry/>.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Labels, Metadata, WorkloadSelector};

/// A ServiceEntry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct ServiceEntry {
    /// Name, namespace, age, annotations.
    pub metadata: Metadata,
    /// What it adds to the mesh.
    pub spec: ServiceEntrySpec,
    /// Allocated addresses.
    pub status: ServiceEntryStatus,
}

/// What a ServiceEntry adds to the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ServiceEntrySpec {
    pub hosts: Vec<String>,
    pub addresses: Vec<String>,
    pub ports: Vec<EntryPort>,
    /// `MESH_EXTERNAL` (default) or `MESH_INTERNAL`.
    pub location: String,
    /// `NONE` (default), `STATIC`, `DNS`, `DNS_ROUND_ROBIN`, `DYNAMIC_DNS`.
    pub resolution: String,
    pub endpoints: Vec<WorkloadEntrySpec>,
    pub workload_selector: Option<WorkloadSelector>,
    pub export_to: Vec<String>,
    pub subject_alt_names: Vec<String>,
}

/// Status of a ServiceEntry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct ServiceEntryStatus {
    /// Addresses that were allocated for its hosts.
    pub addresses: Vec<AllocatedAddress>,
}

/// An allocated address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct AllocatedAddress {
    /// The address.
    pub value: String,
    /// The host it is for; "" for the only one.
    pub host: String,
}

/// A port of a ServiceEntry, Gateway server or Sidecar listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct EntryPort {
    pub number: u32,
    pub protocol: String,
    pub name: String,
    pub target_port: u32,
}

/// A WorkloadEntry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct WorkloadEntry {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// The workload.
    pub spec: WorkloadEntrySpec,
    /// Its health.
    pub status: WorkloadEntryStatus,
}

impl WorkloadEntry {
    /// The entry with the labels of its metadata among the workload's, over equal ones there
    /// (istio `ConvertWorkloadEntry`).
    #[must_use]
    pub fn with_labels(mut self) -> Self {
        let of_metadata = self.metadata.labels.iter();
        let of_metadata = of_metadata.map(|(key, value)| (key.clone(), value.clone()));
        self.spec.labels.extend(of_metadata);
        self
    }
}

/// A workload outside Kubernetes, or an endpoint of a ServiceEntry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct WorkloadEntrySpec {
    pub address: String,
    pub ports: BTreeMap<String, u32>,
    pub labels: Labels,
    pub network: String,
    pub locality: String,
    pub weight: u32,
    pub service_account: String,
}

/// Status of a WorkloadEntry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct WorkloadEntryStatus {
    /// Among them `Healthy`.
    pub conditions: Vec<EntryCondition>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct EntryCondition {
    /// Such as `Healthy`.
    #[serde(rename = "type")]
    pub condition_type: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
}
