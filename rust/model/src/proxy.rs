//! The proxy that asks: an Envoy node, read.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::{Labels, Locality, ProxyConfig};

/// What a proxy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProxyKind {
    /// Beside one workload.
    Sidecar,
    /// A gateway.
    Router,
}

/// How traffic comes to a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum InterceptionMode {
    /// iptables REDIRECT.
    #[default]
    Redirect,
    /// iptables TPROXY.
    Tproxy,
    /// None: listeners bind their ports.
    None,
}

/// Why a node can't be served; the message names the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeError(pub String);

impl std::fmt::Display for NodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NodeError {}

impl NodeError {
    /// Of a node whose form is not Envoy's; names the key of the metadata at fault, if it is one.
    fn of_form(node: &[u8], error: &serde_json::Error) -> Self {
        let node: serde_json::Value = serde_json::from_slice(node).unwrap_or_default();
        let metadata = node.get("metadata").and_then(serde_json::Value::as_object);
        // Each key is read by itself, as the reader of the whole does not tell where it stood.
        let fault = metadata.into_iter().flatten().find_map(|(key, value)| {
            let alone = serde_json::json!({ key: value });
            Some((key, NodeMetadata::deserialize(alone).err()?))
        });
        let id = node.get("id").and_then(serde_json::Value::as_str);
        let id = id.unwrap_or_default();
        Self(match fault {
            Some((key, fault)) => format!(
                "metadata.{key} of node `{id}` is not of its type ({fault}); mend it in node.metadata of Envoy's \
                 bootstrap (`navarch bootstrap` prints one)"
            ),
            None => format!("node `{id}` is not as Envoy writes it: {error}"),
        })
    }
}

/// A proxy that asks (istio `model.Proxy`; metadata keys as in istio `pkg/model/proxy.go`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// The node id as sent, `<kind>~<ip>~<name>.<namespace>~<dns domain>`.
    pub id: Arc<str>,
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// Its addresses, first family first.
    pub ip_addresses: Vec<Arc<str>>,
    /// The Pod's (or machine's) name with its namespace, `name.namespace`.
    pub name: Arc<str>,
    /// The namespace whose configuration it gets.
    pub namespace: Arc<str>,
    /// Such as `shop.svc.cluster.local`.
    pub dns_domain: Arc<str>,
    /// Region, zone, subzone, as the node tells.
    pub locality: Locality,
    /// What else the node tells of itself.
    pub metadata: NodeMetadata,
    /// Whether virtual hosts are resources of their own for it (VHDS), rather than parts of route configurations.
    pub has_virtual_hosts_apart: bool,
}

/// The first Envoy that takes virtual hosts from an ADS stream (<https://github.com/envoyproxy/envoy/pull/42812>).
const FIRST_WITH_VIRTUAL_HOSTS_APART: (u32, u32) = (1, 38);

/// A boolean that node metadata may write as a string.
pub(crate) fn flexible_bool<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(flexible_choice(deserializer)?.unwrap_or_default())
}

/// The same, where no word is a third answer.
fn flexible_choice<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Bool(bool),
        Text(String),
        Number(f64),
    }
    let form = Option::<Form>::deserialize(deserializer)?;
    Ok(form.map(|form| match form {
        Form::Bool(value) => value,
        Form::Text(text) => matches!(text.as_str(), "true" | "1" | "TRUE" | "True"),
        Form::Number(value) => value != 0.0,
    }))
}

/// A text that node metadata may write as a number or boolean.
fn flexible_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(
        match Option::<serde_json::Value>::deserialize(deserializer)? {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(text)) => text,
            Some(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => {
                value.to_string()
            }
            Some(_) => return Err(D::Error::custom("a text is wanted")),
        },
    )
}

/// What a node tells of itself; absent keys are "", false or `None`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the keys are Istio's own")]
pub struct NodeMetadata {
    #[serde(deserialize_with = "flexible_text")]
    pub namespace: String,
    #[serde(deserialize_with = "flexible_text")]
    pub cluster_id: String,
    #[serde(deserialize_with = "flexible_text")]
    pub istio_version: String,
    #[serde(deserialize_with = "flexible_text")]
    pub instance_ips: String,
    #[serde(deserialize_with = "flexible_text")]
    pub service_account: String,
    #[serde(deserialize_with = "flexible_text")]
    pub interception_mode: String,
    pub labels: Labels,
    #[serde(deserialize_with = "flexible_text")]
    pub network: String,
    #[serde(deserialize_with = "flexible_text")]
    pub node_name: String,
    #[serde(deserialize_with = "flexible_text")]
    pub workload_name: String,
    /// The WorkloadEntry that stands for a machine, in the node's namespace.
    #[serde(deserialize_with = "flexible_text")]
    pub workload_entry: String,
    /// The WorkloadGroup by which a machine registers itself, in the node's namespace.
    #[serde(deserialize_with = "flexible_text")]
    pub auto_register_group: String,
    #[serde(deserialize_with = "flexible_text")]
    pub mesh_id: String,
    #[serde(deserialize_with = "flexible_text")]
    pub http_proxy_port: String,
    #[serde(deserialize_with = "flexible_text")]
    pub idle_timeout: String,
    #[serde(deserialize_with = "flexible_text")]
    pub http10: String,
    #[serde(deserialize_with = "flexible_text")]
    pub requested_network_view: String,
    #[serde(deserialize_with = "flexible_bool")]
    pub dns_capture: bool,
    #[serde(deserialize_with = "flexible_bool")]
    pub dns_auto_allocate: bool,
    #[serde(deserialize_with = "flexible_bool")]
    pub enable_self_discovery: bool,
    #[serde(deserialize_with = "flexible_bool")]
    pub unprivileged_pod: bool,
    #[serde(deserialize_with = "flexible_bool")]
    pub inbound_listener_exact_balance: bool,
    #[serde(deserialize_with = "flexible_bool")]
    pub outbound_listener_exact_balance: bool,
    #[serde(deserialize_with = "flexible_text")]
    pub envoy_status_port: String,
    #[serde(deserialize_with = "flexible_text")]
    pub envoy_prometheus_port: String,
    #[serde(deserialize_with = "flexible_text")]
    pub tls_server_cert_chain: String,
    #[serde(deserialize_with = "flexible_text")]
    pub tls_server_key: String,
    #[serde(deserialize_with = "flexible_text")]
    pub tls_server_root_cert: String,
    #[serde(deserialize_with = "flexible_text")]
    pub tls_client_cert_chain: String,
    #[serde(deserialize_with = "flexible_text")]
    pub tls_client_key: String,
    #[serde(deserialize_with = "flexible_text")]
    pub tls_client_root_cert: String,
    pub proxy_config: Option<ProxyConfig>,
    /// A stock Envoy's word that its bootstrap has a secret source for `default` and `ROOTCA` (a static cluster `sds-grpc`).
    #[serde(deserialize_with = "flexible_bool")]
    pub workload_certificate: bool,
    /// Whether virtual hosts are resources of their own; `None` leaves it to `PROXY_CONFIG`.
    #[serde(deserialize_with = "flexible_choice")]
    pub navarch_vhds: Option<bool>,
}

impl NodeMetadata {
    /// Whether the node wants virtual hosts as resources of their own: by its own word, else by its `ProxyConfig`.
    fn wants_virtual_hosts_apart(&self) -> bool {
        let by_config = || {
            self.proxy_config
                .as_ref()
                .map(|c| c.proxy_metadata.navarch_vhds)
        };
        self.navarch_vhds.or_else(by_config).unwrap_or_default()
    }
}

/// The longest name of a Kubernetes object.
const MAX_NAME_BYTES: usize = 253;

impl Proxy {
    /// The name of the WorkloadEntry that stands for the node, in its namespace; none stands for a pod.
    ///
    /// A node that registers itself by a group has one of the group's name, its first address and its network
    /// (istio `pilot/pkg/autoregistration`, `autoregisteredWorkloadEntryName`).
    pub fn workload_entry(&self) -> Option<Cow<'_, str>> {
        let NodeMetadata {
            auto_register_group: group,
            workload_entry: entry,
            network,
            ..
        } = &self.metadata;
        if group.is_empty() {
            return (!entry.is_empty()).then_some(Cow::Borrowed(entry));
        }
        let address = self.ip_addresses.first()?.replace(':', "-");
        let mut name = format!("{group}-{address}");
        if !network.is_empty() {
            name = format!("{name}-{network}");
        }
        let start = name.len().saturating_sub(MAX_NAME_BYTES);
        // A name that is cut within a character is no object's in either case.
        Some(Cow::Owned(name.get(start..)?.to_owned()))
    }

    /// Read an Envoy node given as JSON (`id`, `metadata`, `locality`, …).
    ///
    /// # Errors
    /// A [`NodeError`] that names the missing or malformed field and how to write it.
    pub fn from_node_json(node: &[u8]) -> Result<Self, NodeError> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Node {
            id: String,
            metadata: Option<NodeMetadata>,
            locality: NodeLocality,
            extensions: Vec<Extension>,
            user_agent_build_version: BuildVersion,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct BuildVersion {
            version: Option<SemanticVersion>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct SemanticVersion {
            major_number: u32,
            minor_number: u32,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Extension {
            name: String,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct NodeLocality {
            region: String,
            zone: String,
            sub_zone: String,
        }
        let node: Node = serde_json::from_slice(node).map_err(|e| NodeError::of_form(node, &e))?;
        let mut metadata = node.metadata.unwrap_or_default();
        // Istio's agent names its own version beside any Envoy; Envoy itself tells what it was built with.
        let is_stock = !node.extensions.is_empty()
            && !node
                .extensions
                .iter()
                .any(|each| each.name.contains("istio"));
        if is_stock && !metadata.istio_version.is_empty() {
            metadata.istio_version.clear();
            metadata.workload_certificate = true;
        }
        let locality = Locality {
            region: node.locality.region.into(),
            zone: node.locality.zone.into(),
            subzone: node.locality.sub_zone.into(),
        };
        let mut proxy = Self::new(&node.id, metadata, locality)?;
        // One that does not say what it is has been set up by hand, and is believed.
        let version = node.user_agent_build_version.version;
        proxy.has_virtual_hosts_apart &= version.is_none_or(|version| {
            (version.major_number, version.minor_number) >= FIRST_WITH_VIRTUAL_HOSTS_APART
        });
        Ok(proxy)
    }

    /// A proxy from a node's id, metadata and locality.
    ///
    /// # Errors
    /// A [`NodeError`] when the id is absent or not of the four parts.
    pub fn new(id: &str, metadata: NodeMetadata, locality: Locality) -> Result<Self, NodeError> {
        let form = "write `sidecar~<ip>~<pod>.<namespace>~<namespace>.svc.cluster.local` as node.id of the bootstrap";
        if id.is_empty() {
            return Err(NodeError(format!("the node has no id; {form}")));
        }
        let parts: Vec<&str> = id.split('~').collect();
        let [kind, ip, name, dns_domain] = parts[..] else {
            return Err(NodeError(format!(
                "node id `{id}` has {} parts, not 4; {form}",
                parts.len()
            )));
        };
        let kind = match kind {
            "sidecar" => ProxyKind::Sidecar,
            "router" => ProxyKind::Router,
            other => {
                return Err(NodeError(format!(
                    "node id `{id}` is of type `{other}`, which is none of sidecar, router; {form}"
                )));
            }
        };
        let mut ip_addresses: Vec<Arc<str>> = metadata
            .instance_ips
            .split(',')
            .filter(|ip| is_ip(ip))
            .map(Arc::from)
            .collect();
        if ip_addresses.is_empty() && is_ip(ip) {
            ip_addresses.push(ip.into());
        }
        if ip_addresses.is_empty() {
            return Err(NodeError(format!(
                "node `{id}` tells no IP address, neither in its id nor in metadata INSTANCE_IPS; {form}"
            )));
        }
        let namespace = if metadata.namespace.is_empty() {
            dns_domain.split('.').next().unwrap_or_default()
        } else {
            &metadata.namespace
        };
        if namespace.is_empty() {
            return Err(NodeError(format!(
                "node `{id}` tells no namespace; set NAMESPACE in node.metadata, or {form}"
            )));
        }
        Ok(Self {
            has_virtual_hosts_apart: metadata.wants_virtual_hosts_apart(),
            id: id.into(),
            kind,
            ip_addresses,
            name: name.into(),
            namespace: namespace.into(),
            dns_domain: dns_domain.into(),
            locality,
            metadata,
        })
    }

    /// Whether Istio's Envoy build runs there, with its own filters.
    pub fn is_istio(&self) -> bool {
        !self.metadata.istio_version.is_empty()
    }

    /// Whether the proxy can present a workload certificate: Istio's agent always gives one, a stock Envoy says so.
    pub fn has_workload_certificate(&self) -> bool {
        self.is_istio()
            || self.metadata.workload_certificate
            || !self.metadata.tls_client_cert_chain.is_empty()
    }

    /// How traffic comes to it.
    pub fn interception_mode(&self) -> InterceptionMode {
        match self.metadata.interception_mode.as_str() {
            "TPROXY" => InterceptionMode::Tproxy,
            "NONE" => InterceptionMode::None,
            _ => InterceptionMode::Redirect,
        }
    }

    /// Whether any of its addresses is IPv4.
    pub fn has_ipv4(&self) -> bool {
        self.ip_addresses.iter().any(|ip| !ip.contains(':'))
    }

    /// Whether any of its addresses is IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.ip_addresses.iter().any(|ip| ip.contains(':'))
    }
}

fn is_ip(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::Proxy;

    fn proxy(extensions: &str) -> Proxy {
        let node = format!(
            r#"{{"id": "sidecar~10.0.0.1~a.b~b.svc.cluster.local", "extensions": {extensions},
            "metadata": {{"NAMESPACE": "b", "ISTIO_VERSION": "1.32.0"}}}}"#
        );
        Proxy::from_node_json(node.as_bytes()).unwrap()
    }

    #[test]
    fn a_mistyped_key_of_the_metadata_is_named() {
        let refusal = |node: &str| Proxy::from_node_json(node.as_bytes()).unwrap_err().0;
        for (key, value) in [
            ("LABELS", r#"{"app": 3}"#),
            ("LABELS", r#""app=a""#),
            ("CLUSTER_ID", "[]"),
            ("PROXY_CONFIG", "7"),
        ] {
            let node = format!(
                r#"{{"id": "sidecar~10.0.0.1~a.b~b.svc.cluster.local", "metadata": {{"NAMESPACE": "b", "{key}": {value}}}}}"#
            );
            let told = refusal(&node);
            assert!(
                told.starts_with(&format!("metadata.{key} of node `sidecar~10.0.0.1~a.b~")),
                "{told}"
            );
            assert!(
                told.contains("node.metadata of Envoy's bootstrap"),
                "{told}"
            );
        }
        assert!(refusal(r#"{"id": 3}"#).starts_with("node `` is not as Envoy writes it: "));
    }

    #[test]
    fn envoys_own_word_says_whose_build_it_is() {
        let stock = proxy(r#"[{"name": "envoy.filters.http.router"}]"#);
        assert!(!stock.is_istio() && stock.has_workload_certificate());
        let istios = r#"[{"name": "envoy.filters.http.router"}, {"name": "istio.alpn"}]"#;
        assert!(proxy(istios).is_istio() && proxy("[]").is_istio());
    }

    #[test]
    fn virtual_hosts_are_apart_by_the_nodes_word_and_for_an_envoy_that_can() {
        let is_apart = |metadata: &str, version: &str| {
            let node = format!(
                r#"{{"id": "sidecar~10.0.0.1~a.b~b.svc.cluster.local", "metadata": {metadata}{version}}}"#
            );
            let proxy = Proxy::from_node_json(node.as_bytes()).unwrap();
            proxy.has_virtual_hosts_apart
        };
        let of_minor = |n: u32| {
            format!(
                r#", "user_agent_build_version": {{"version": {{"major_number": 1, "minor_number": {n}}}}}"#
            )
        };
        let (by_mesh, against) = (
            r#"{"PROXY_CONFIG": {"proxyMetadata": {"NAVARCH_VHDS": "true", "OTHER": "x"}}}"#,
            r#"{"NAVARCH_VHDS": "false", "PROXY_CONFIG": {"proxyMetadata": {"NAVARCH_VHDS": "true"}}}"#,
        );
        assert!(is_apart(r#"{"NAVARCH_VHDS": true}"#, "") && is_apart(by_mesh, &of_minor(38)));
        assert!(!is_apart("{}", &of_minor(40)) && !is_apart(against, ""));
        assert!(!is_apart(r#"{"NAVARCH_VHDS": "true"}"#, &of_minor(37)));
    }
}
