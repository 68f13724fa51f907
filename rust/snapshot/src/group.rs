//! Node groups: proxies with an equal view share every outbound resource.

use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_model::{
    InterceptionMode, Labels, Locality, NodeMetadata, Proxy, ProxyKind, Resolution, Shared,
};

use crate::{MeshSnapshot, ServiceKey, ServiceTarget};

/// Everything of a proxy that may shape its outbound resources; equal groups share them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeGroup {
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// The namespace whose configuration it gets.
    pub namespace: Arc<str>,
    /// Such as `shop.svc.cluster.local`.
    pub dns_domain: Arc<str>,
    /// Whether Istio's Envoy build runs there.
    pub is_istio: bool,
    /// Whether the proxy can present a workload certificate.
    pub has_workload_certificate: bool,
    /// Labels, only of the keys that some rule looks at.
    pub labels: Labels,
    /// Region, zone, subzone.
    pub locality: Locality,
    /// The proxy's network, or "".
    pub network: Arc<str>,
    /// The proxy's cluster.
    pub cluster_id: Arc<str>,
    /// The Node, only where some service prefers or wants endpoints of the client's node; else "".
    pub node_name: Arc<str>,
    /// Whether it has an IPv4 address.
    pub has_ipv4: bool,
    /// Whether it has an IPv6 address.
    pub has_ipv6: bool,
    /// Whether its first address is IPv6.
    pub is_ipv6_first: bool,
    /// How traffic comes to it.
    pub interception: InterceptionMode,
    /// Its own addresses, only those that are endpoints of headless services (their listeners skip them).
    pub headless_addresses: BTreeSet<Arc<str>>,
    /// Label `service.istio.io/canonical-name` as the node tells it, or "".
    pub canonical_name: String,
    /// Label `service.istio.io/canonical-revision` as the node tells it, or "".
    pub canonical_revision: String,
    /// What a gateway's workload serves, which tells its ports; empty for sidecars.
    pub service_targets: Vec<ServiceTarget>,
    /// Whether virtual hosts are resources of their own, rather than parts of route configurations.
    pub has_virtual_hosts_apart: bool,
    /// The node's metadata without what tells workloads of one kind apart.
    pub metadata: NodeMetadata,
}

impl NodeGroup {
    /// Whether an agent beside the proxy serves certificates, those in files too; a stock Envoy reads its files itself.
    pub fn has_agent(&self) -> bool {
        self.is_istio || self.metadata.workload_certificate
    }
}

impl MeshSnapshot {
    /// The group of a proxy in this epoch.
    pub fn group_of(&self, proxy: &Proxy) -> Shared<NodeGroup> {
        let mut labels = self.proxy_labels(proxy);
        let rules = &self.rules;
        let is_router = proxy.kind == ProxyKind::Router;
        labels.retain(|key, _| {
            rules.label_keys.contains(key) || is_router && rules.policy_label_keys.contains(key)
        });
        let told = &proxy.metadata.labels;
        let label = |key: &str| told.get(key).cloned().unwrap_or_default();
        let network = if proxy.metadata.network.is_empty() {
            self.owner_of(proxy)
                .map_or_else(Arc::default, |owner| owner.workload.network.clone())
        } else {
            proxy.metadata.network.as_str().into()
        };
        let metadata = NodeMetadata {
            namespace: String::new(),
            instance_ips: String::new(),
            service_account: String::new(),
            node_name: String::new(),
            workload_name: String::new(),
            labels: Labels::new(),
            navarch_vhds: None,
            ..proxy.metadata.clone()
        };
        Shared::new(NodeGroup {
            kind: proxy.kind,
            namespace: proxy.namespace.clone(),
            dns_domain: proxy.dns_domain.clone(),
            is_istio: proxy.is_istio(),
            has_workload_certificate: proxy.has_workload_certificate(),
            labels,
            locality: self.proxy_locality(proxy),
            network,
            cluster_id: proxy.metadata.cluster_id.as_str().into(),
            node_name: self.relevant_node_name(proxy),
            has_ipv4: proxy.has_ipv4(),
            has_ipv6: proxy.has_ipv6(),
            is_ipv6_first: proxy
                .ip_addresses
                .first()
                .is_some_and(|ip| ip.contains(':')),
            interception: proxy.interception_mode(),
            headless_addresses: self.headless_addresses(proxy),
            canonical_name: label("service.istio.io/canonical-name"),
            canonical_revision: label("service.istio.io/canonical-revision"),
            service_targets: match proxy.kind {
                ProxyKind::Router => self.service_targets(proxy),
                ProxyKind::Sidecar => Vec::new(),
            },
            has_virtual_hosts_apart: proxy.has_virtual_hosts_apart,
            metadata,
        })
    }

    fn relevant_node_name(&self, proxy: &Proxy) -> Arc<str> {
        if !self.services.has_node_preference {
            return Arc::default();
        }
        match proxy.metadata.node_name.as_str() {
            "" => self
                .owner_of(proxy)
                .map_or_else(Arc::default, |owner| owner.workload.node_name.clone()),
            name => name.into(),
        }
    }

    fn headless_addresses(&self, proxy: &Proxy) -> BTreeSet<Arc<str>> {
        let is_headless = |key: &ServiceKey| {
            self.find_service(key)
                .is_some_and(|s| s.resolution == Resolution::Passthrough)
        };
        let own = proxy.ip_addresses.iter().filter(|ip| {
            self.services_by_address
                .get(*ip)
                .is_some_and(|keys| keys.iter().any(is_headless))
        });
        own.cloned().collect()
    }
}
