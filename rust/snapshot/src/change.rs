//! What crosses the border, and what it changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_model::{ConfigKey, Hostname, Kind, Shared, VirtualService};

use crate::ServiceKey;

/// One object written or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which object.
    pub key: ConfigKey,
    /// Its JSON; `None` when it is gone.
    pub payload: Option<Vec<u8>>,
}

/// Changes that take effect together; the last one of a key wins.
pub type Batch = Vec<Change>;

/// What a batch changed, after equal values were left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeSet {
    /// Objects whose value is another than before.
    pub objects: BTreeSet<ConfigKey>,
    /// Services whose endpoints are others than before.
    pub endpoints: BTreeSet<ServiceKey>,
    /// Addresses whose workload is another: proxies at them may belong to another group.
    pub addresses: BTreeSet<Arc<str>>,
    /// Whether anything but endpoints changed: services, rules, mesh settings, or who a proxy is.
    pub is_configuration: bool,
    /// Which configuration; empty if every value is what it was.
    pub configuration: ConfigurationChanges,
}

/// What changed of configuration, so that what depends on none of it need not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigurationChanges {
    /// Something that anything may depend on: mesh settings, gateways between networks.
    pub is_whole: bool,
    /// Whether other labels of proxies count than before, so that any proxy may belong to another group.
    pub has_label_keys: bool,
    /// Services that came, went or are others, and those whose endpoints shape more than their own assignment.
    pub services: BTreeSet<ServiceKey>,
    /// VirtualServices as they were and as they are, of those that differ.
    pub virtual_services: Vec<Shared<VirtualService>>,
    /// Hosts, also with wildcards, whose DestinationRules are others.
    pub rule_hosts: BTreeSet<Hostname>,
    /// Whether Gateways are others.
    pub has_gateways: bool,
    /// Namespaces whose workloads may have other policies than before, by objects there or what those lead to; the
    /// root namespace means all.
    pub policy_namespaces: BTreeSet<Arc<str>>,
    /// Namespaces whose `PeerAuthentication`s are others; the root namespace means all.
    pub mutual_tls_namespaces: BTreeSet<Arc<str>>,
    /// Namespaces whose Sidecars are others.
    pub sidecar_namespaces: BTreeSet<Arc<str>>,
}

impl ConfigurationChanges {
    /// Whether every value is what it was.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn merge(&mut self, later: Self) {
        self.is_whole |= later.is_whole;
        self.has_label_keys |= later.has_label_keys;
        self.services.extend(later.services);
        self.virtual_services.extend(later.virtual_services);
        self.rule_hosts.extend(later.rule_hosts);
        self.has_gateways |= later.has_gateways;
        self.policy_namespaces.extend(later.policy_namespaces);
        self.mutual_tls_namespaces
            .extend(later.mutual_tls_namespaces);
        self.sidecar_namespaces.extend(later.sidecar_namespaces);
    }
}

impl ChangeSet {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.addresses.is_empty() && !self.is_configuration
    }

    /// Whether any object of that kind changed.
    pub fn has_kind(&self, kind: Kind) -> bool {
        self.objects.iter().any(|key| key.kind == kind)
    }

    /// Add what a later batch changed.
    pub fn merge(&mut self, later: Self) {
        self.objects.extend(later.objects);
        self.endpoints.extend(later.endpoints);
        self.addresses.extend(later.addresses);
        self.is_configuration |= later.is_configuration;
        self.configuration.merge(later.configuration);
    }
}
