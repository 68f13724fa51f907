//! An endpoint: one address and port behind a service port.

use std::sync::Arc;

use crate::{Labels, Shared};

/// Whether an endpoint takes traffic (istio `model.HealthStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    /// Takes traffic.
    Healthy,
    /// Known, but not ready.
    Unhealthy,
    /// Keeps the sessions it has.
    Draining,
    /// Going away: sent to nobody.
    Terminating,
    /// Nobody tells (entries written by hand): takes traffic.
    Unknown,
}

/// Region, zone and subzone; "" where unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Locality {
    /// The widest.
    pub region: Arc<str>,
    /// Within the region.
    pub zone: Arc<str>,
    /// Within the zone.
    pub subzone: Arc<str>,
}

impl Locality {
    /// Read `region/zone/subzone`, each part optional.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(Arc::from);
        let mut next = || parts.next().unwrap_or_default();
        Self {
            region: next(),
            zone: next(),
            subzone: next(),
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.subzone.is_empty()
    }
}

/// What endpoints of one workload have in common, shared by its ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Workload {
    /// The owner's name (Deployment, StatefulSet, …), as Istio tells it from the Pod.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Labels of the Pod or `WorkloadEntry`.
    pub labels: Labels,
    /// The identity as a SPIFFE name, or "".
    pub service_account: Arc<str>,
    /// Where it runs.
    pub locality: Locality,
    /// The network it is reached in, or "".
    pub network: Arc<str>,
    /// The cluster it belongs to.
    pub cluster_id: Arc<str>,
    /// The Node, or "".
    pub node_name: Arc<str>,
    /// DNS host name, for headless services.
    pub hostname: Arc<str>,
    /// DNS subdomain, for headless services.
    pub subdomain: Arc<str>,
    /// Whether it takes mutual TLS (`istio`) or not.
    pub has_mutual_tls: bool,
}

/// One address and port behind a service port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// IP addresses, first family first; one host name, or one `unix://` path.
    pub addresses: Vec<Arc<str>>,
    /// The workload's port; 0 for unix sockets.
    pub port: u32,
    /// The service port's name it serves.
    pub service_port_name: Arc<str>,
    /// `None` when not given; counts as 1.
    pub weight: Option<u32>,
    /// Whether it takes traffic.
    pub health: Health,
    /// The workload behind it.
    pub workload: Shared<Workload>,
}

/// All endpoints of one service, in a stable order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ServiceEndpoints {
    /// By service port name, then as the registry lists them.
    pub endpoints: Vec<Endpoint>,
}

impl ServiceEndpoints {
    /// Those that serve the port of that name.
    pub fn of_port<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Endpoint> {
        self.endpoints
            .iter()
            .filter(move |endpoint| &*endpoint.service_port_name == name)
    }
}
