//! The node: the id that names the proxy, and the metadata that navarch reads.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::BootstrapError;

const PROXY_TYPES: [&str; 2] = ["sidecar", "router"];

/// Who a proxy is; with an `id` the parts of an id are not needed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// `TYPE~IP~POD.NAMESPACE~DOMAIN`, in place of its parts.
    pub id: String,
    /// `sidecar` or `router`.
    pub proxy_type: String,
    /// The workload's address; several are joined by commas, the first is the one in the id.
    pub ip: String,
    /// The workload's name.
    pub pod: String,
    /// The workload's namespace.
    pub namespace: String,
    /// Envoy's cluster; `APP.NAMESPACE` if empty.
    pub cluster: String,
    /// The mesh's name of the Kubernetes cluster.
    pub cluster_id: String,
    /// Who the workload runs as; "" if unknown.
    pub service_account: String,
    /// The workload's labels.
    pub labels: BTreeMap<String, String>,
    /// Further fields of the node's metadata; they win over those made here.
    pub metadata: Map<String, Value>,
    /// Whether iptables redirects the workload's traffic to the proxy.
    pub has_redirect: bool,
    /// DNS domain of the cluster.
    pub domain_suffix: String,
    /// `region`, `zone`, `sub_zone`, as far as known.
    pub locality: BTreeMap<String, String>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            id: String::new(),
            proxy_type: "sidecar".into(),
            ip: String::new(),
            pod: String::new(),
            namespace: String::new(),
            cluster: String::new(),
            cluster_id: "Kubernetes".into(),
            service_account: String::new(),
            labels: BTreeMap::new(),
            metadata: Map::new(),
            has_redirect: true,
            domain_suffix: "cluster.local".into(),
            locality: BTreeMap::new(),
        }
    }
}

struct Identity {
    id: String,
    ip: String,
    pod: String,
    namespace: String,
}

/// Make the node with the metadata that navarch reads.
///
/// # Errors
/// The node's id is malformed, or parts of it are missing.
pub fn build_node(node: &Node) -> Result<Value, BootstrapError> {
    let who = identify(node)?;
    let ips = if node.ip.is_empty() {
        &who.ip
    } else {
        &node.ip
    };
    let mode = if node.has_redirect {
        "REDIRECT"
    } else {
        "NONE"
    };
    let mut metadata = json!({
        "NAMESPACE": who.namespace,
        "CLUSTER_ID": node.cluster_id,
        "INSTANCE_IPS": ips,
        "NAME": who.pod,
        "LABELS": node.labels,
        "INTERCEPTION_MODE": mode,
    });
    if !node.service_account.is_empty() {
        metadata["SERVICE_ACCOUNT"] = node.service_account.as_str().into();
    }
    for (key, value) in &node.metadata {
        metadata[key] = value.clone();
    }
    let app = node.labels.get("app").filter(|app| !app.is_empty());
    let cluster = if node.cluster.is_empty() {
        format!("{}.{}", app.unwrap_or(&who.pod), who.namespace)
    } else {
        node.cluster.clone()
    };
    let mut made = json!({ "id": who.id, "cluster": cluster, "metadata": metadata });
    if !node.locality.is_empty() {
        made["locality"] = json!(node.locality);
    }
    Ok(made)
}

fn identify(node: &Node) -> Result<Identity, BootstrapError> {
    if !node.id.is_empty() {
        return parse_id(&node.id).ok_or_else(|| BootstrapError::MalformedId(node.id.clone()));
    }
    let parts = [
        ("--ip", &node.ip),
        ("--pod", &node.pod),
        ("--namespace", &node.namespace),
    ];
    let is_missing = |(flag, value): (&'static str, &String)| value.is_empty().then_some(flag);
    let missing: Vec<_> = parts.into_iter().filter_map(is_missing).collect();
    if !missing.is_empty() {
        return Err(BootstrapError::MissingParts(missing));
    }
    let ip = node.ip.split(',').next().unwrap_or_default().to_owned();
    let Node {
        proxy_type,
        pod,
        namespace,
        domain_suffix,
        ..
    } = node;
    Ok(Identity {
        id: format!("{proxy_type}~{ip}~{pod}.{namespace}~{namespace}.svc.{domain_suffix}"),
        ip,
        pod: pod.clone(),
        namespace: namespace.clone(),
    })
}

fn parse_id(id: &str) -> Option<Identity> {
    let parts: Vec<&str> = id.split('~').collect();
    let [proxy_type, ip, name, _] = parts[..] else {
        return None;
    };
    let (pod, namespace) = name.rsplit_once('.')?;
    PROXY_TYPES.contains(&proxy_type).then(|| Identity {
        id: id.to_owned(),
        ip: ip.to_owned(),
        pod: pod.to_owned(),
        namespace: namespace.to_owned(),
    })
}
