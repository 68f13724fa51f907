//! A service, whatever platform it comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Hostname, Labels, Protocol};

/// Which kind of registry a service comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Registry {
    /// Kubernetes Services.
    Kubernetes,
    /// `ServiceEntry` objects and records of other platforms.
    External,
}

impl Registry {
    /// As Istio's name table writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "Kubernetes",
            Self::External => "External",
        }
    }
}

/// How a client finds the endpoints (istio `model.Resolution`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resolution {
    /// By EDS.
    ClientSide,
    /// By DNS, all addresses.
    Dns,
    /// By DNS, one address at a time.
    DnsRoundRobin,
    /// To where the connection was going.
    Passthrough,
    /// By the name in each request.
    DynamicDns,
    /// Another name of a service (`ExternalName`).
    Alias,
}

/// Preference of near endpoints (Kubernetes trafficDistribution).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum TrafficDistribution {
    /// No preference.
    #[default]
    Any,
    /// `PreferClose`: network, region, zone, subzone.
    PreferSameZone,
    /// `PreferSameNode`: the node first, then as `PreferSameZone`.
    PreferSameNode,
}

/// Who may see an object (tokens of `exportTo`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Visibility {
    /// `*`
    Public,
    /// `.`
    Private,
    /// `~`
    Nobody,
    /// The name of a namespace.
    Namespace(Arc<str>),
}

impl Visibility {
    /// Read one token.
    pub fn parse(token: &str) -> Self {
        match token {
            "*" => Self::Public,
            "." => Self::Private,
            "~" => Self::Nobody,
            namespace => Self::Namespace(namespace.into()),
        }
    }

    /// Whether an object of `owner` that is exported to `tokens` is seen from `viewer`; no token means everybody.
    pub fn is_visible(tokens: &[Self], owner: &str, viewer: &str) -> bool {
        tokens.is_empty()
            || tokens.iter().any(|token| match token {
                Self::Public => true,
                Self::Private => owner == viewer,
                Self::Nobody => false,
                Self::Namespace(namespace) => &**namespace == viewer,
            })
    }
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// Unique in the service; may be "".
    pub name: Arc<str>,
    /// The port clients use.
    pub number: u32,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The workload's port where the service itself tells it by number (`ServiceEntry` targetPort and Kubernetes targetPort).
    pub target_port: Option<u32>,
    /// The Kubernetes targetPort where it is a name.
    pub target_port_name: Option<Arc<str>>,
}

/// A service, whatever platform it comes from (istio `model.Service`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Service {
    /// Fully qualified; with the namespace, the key.
    pub hostname: Hostname,
    /// The namespace of the object.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// Where it comes from.
    pub registry: Registry,
    /// Seconds since 1970; `None` is oldest.
    pub creation_time: Option<i64>,
    /// How clients find endpoints.
    pub resolution: Resolution,
    /// Whether it is outside the mesh: no identity, no automatic mutual TLS.
    pub is_mesh_external: bool,
    /// Virtual addresses and CIDRs, first family first; empty when there is none.
    pub addresses: Vec<Arc<str>>,
    /// The virtual addresses in other clusters that have it too, where they differ, by the cluster's name.
    pub addresses_of_clusters: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// Addresses navarch or Istio allocated, for proxies that capture DNS.
    pub auto_allocated_addresses: Vec<Arc<str>>,
    /// The ports, in the object's order.
    pub ports: Vec<ServicePort>,
    /// Who may see it; empty means the mesh default.
    pub export_to: Vec<Visibility>,
    /// The object's labels.
    pub labels: Labels,
    /// Pods (or workload entries) it selects; empty for none.
    pub selector: Labels,
    /// The target of an `Alias`.
    pub external_name: Option<Hostname>,
    /// Hosts of `ExternalName` services that stand for this one, sorted.
    pub aliases: Vec<Alias>,
    /// Unready endpoints take traffic.
    pub has_published_not_ready: bool,
    /// Only endpoints of the client's own node (internalTrafficPolicy Local).
    pub is_node_local: bool,
    /// Preference of near endpoints.
    pub traffic_distribution: TrafficDistribution,
    /// Identities besides those of the endpoints (annotations), as SPIFFE names or Kubernetes account names.
    pub service_accounts: Vec<Arc<str>>,
    /// `subjectAltNames` of a `ServiceEntry`.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Addresses from outside the cluster: of a load balancer, externalIPs, or of Nodes that an annotation picks.
    pub external_addresses: Vec<Arc<str>>,
    /// Node ports by service port, where the external addresses are those of Nodes.
    pub node_ports: BTreeMap<u32, u32>,
    /// Annotation `istio.io/connect-strategy` is `RACE_FIRST_TCP_CONNECT`.
    pub is_happy_eyeballs: bool,
    /// Connections of clients persist (label `istio.io/persistent-session`).
    pub is_persistent_session: bool,
}

/// The name of an alias service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alias {
    /// Its host.
    pub hostname: Hostname,
    /// Its namespace.
    pub namespace: Arc<str>,
}

impl Service {
    /// Order of age: oldest first, then by name, then by namespace (istio `sortServicesByCreationTime`).
    pub fn age(&self) -> (i64, &str, &str) {
        (
            self.creation_time.unwrap_or(i64::MIN),
            &self.name,
            &self.namespace,
        )
    }

    /// Whether it has no virtual address and connections go to endpoints directly.
    pub fn is_headless(&self) -> bool {
        self.registry == Registry::Kubernetes && self.resolution == Resolution::Passthrough
    }

    /// The port of that number.
    pub fn find_port(&self, number: u32) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// The port of that name.
    pub fn find_port_by_name(&self, name: &str) -> Option<&ServicePort> {
        self.ports.iter().find(|port| &*port.name == name)
    }
}
