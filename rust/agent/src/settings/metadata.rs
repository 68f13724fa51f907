//! The node: who the proxy is, from the environment and the pod's files.
//!
//! Source: istio `pkg/bootstrap/config.go` (`GetNodeMetaData`).

use std::collections::BTreeMap;

use navarch_bootstrap::Node;
use serde_json::{Map, Value, json};

use super::{Environment, Flags, Machine, ProxyConfig, SettingsError};

const PREFIX: &str = "ISTIO_META_";
const JSON_PREFIX: &str = "ISTIO_METAJSON_";
/// Kubernetes' own topology, as Istio's injector passes it on.
const LOCALITY_LABEL: &str = "istio-locality";

/// Lines `key="value"` with Go's escapes, as the downward API writes labels and annotations.
pub(super) fn read_pairs(text: Option<String>) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let plain = serde_json::from_str(value).unwrap_or_else(|_| value.to_owned());
        Some((key.to_owned(), plain))
    };
    text.unwrap_or_default().lines().filter_map(pair).collect()
}

/// What is told of a node besides the environment.
pub(super) struct Told<'a> {
    pub(super) flags: &'a Flags,
    pub(super) proxy: &'a ProxyConfig,
    /// `ProxyConfig` as it was written, for the control plane.
    pub(super) proxy_config: Value,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

pub(super) fn build_node(told: Told<'_>, machine: &Machine<'_>) -> Result<Node, SettingsError> {
    let environment = Environment(&machine.environment);
    let text = |name: &str| environment.text(name).map(ToOwned::to_owned);
    let mut metadata = told_metadata(&machine.environment)?;
    let mut labels = told.labels;
    if let Some(Value::Object(more)) = metadata.remove("LABELS") {
        let as_text = |(k, v): (String, Value)| Some((k, v.as_str()?.to_owned()));
        labels.extend(more.into_iter().filter_map(as_text));
    }
    let (namespace, suffix) = domain(told.flags, text("POD_NAMESPACE"));
    let address = text("INSTANCE_IP").or_else(|| machine.ip.clone());
    let address = address.ok_or_else(|| {
        let remedy = "is not set and the machine has no address that leads anywhere: set it";
        SettingsError::new("INSTANCE_IP", remedy)
    })?;
    let mode = metadata.remove("INTERCEPTION_MODE");
    let cluster_id = metadata.remove("CLUSTER_ID");
    let port = |name: &str, default| Ok(environment.number(name)?.unwrap_or(default));
    let mut made: Map<String, Value> = [
        // Translation gives mutual TLS to a stock Envoy whose bootstrap has a secret source for `default` and `ROOTCA`.
        ("WORKLOAD_CERTIFICATE".to_owned(), Value::Bool(true)),
        ("PROXY_CONFIG".to_owned(), told.proxy_config),
        (
            "ENVOY_STATUS_PORT".to_owned(),
            port("ENVOY_STATUS_PORT", 15021)?.into(),
        ),
        (
            "ENVOY_PROMETHEUS_PORT".to_owned(),
            port("ENVOY_PROMETHEUS_PORT", 15090)?.into(),
        ),
    ]
    .into_iter()
    .collect();
    if !told.annotations.is_empty() {
        made.insert("ANNOTATIONS".into(), json!(told.annotations));
    }
    if !told.proxy.mesh_id.is_empty() {
        made.insert("MESH_ID".into(), told.proxy.mesh_id.as_str().into());
    }
    if let Some(mode) = mode.as_ref().filter(|mode| *mode == "TPROXY") {
        made.insert("INTERCEPTION_MODE".into(), mode.clone());
    }
    made.extend(metadata);
    let cluster_id = cluster_id.as_ref().and_then(Value::as_str);
    Ok(Node {
        proxy_type: told.flags.proxy_type.clone(),
        ip: address,
        pod: text("POD_NAME").unwrap_or_else(|| machine.hostname.clone()),
        namespace,
        cluster: told.proxy.service_cluster.clone(),
        cluster_id: cluster_id.unwrap_or("Kubernetes").to_owned(),
        service_account: text("SERVICE_ACCOUNT").unwrap_or_else(|| "default".into()),
        locality: locality(&labels),
        labels,
        metadata: made,
        has_redirect: mode.is_none_or(|mode| mode != "NONE"),
        domain_suffix: suffix,
        ..Node::default()
    })
}

/// The namespace and the cluster's DNS suffix, from `shop.svc.cluster.local` and the pod's own word.
fn domain(flags: &Flags, namespace: Option<String>) -> (String, String) {
    let (first, suffix) = flags
        .domain
        .split_once(".svc.")
        .unwrap_or(("", "cluster.local"));
    let namespace = namespace.or_else(|| (!first.is_empty()).then(|| first.to_owned()));
    (
        namespace.unwrap_or_else(|| "default".into()),
        suffix.to_owned(),
    )
}

fn told_metadata(
    environment: &BTreeMap<String, String>,
) -> Result<Map<String, Value>, SettingsError> {
    let mut made = Map::new();
    for (name, text) in environment {
        if let Some(key) = name.strip_prefix(JSON_PREFIX) {
            let value: Value = serde_json::from_str(text)
                .map_err(|e| SettingsError::new(name, format!("must be JSON: {e}")))?;
            // Several variables may each bring labels.
            match (made.get_mut(key), value) {
                (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
                (_, value) => drop(made.insert(key.to_owned(), value)),
            }
        } else if let Some(key) = name.strip_prefix(PREFIX) {
            made.entry(key).or_insert_with(|| text.as_str().into());
        }
    }
    Ok(made)
}

/// `region/zone/subzone`, or with dots where a label may hold no slash.
fn locality(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let Some(told) = labels.get(LOCALITY_LABEL) else {
        return BTreeMap::new();
    };
    let separator = if told.contains('/') { '/' } else { '.' };
    let parts = told.split(separator).filter(|part| !part.is_empty());
    let names = ["region", "zone", "sub_zone"].into_iter();
    names
        .zip(parts)
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::read_pairs;

    #[test]
    fn the_downward_apis_lines_are_unquoted() {
        let text = "app=\"web\"\nnote=\"two\\nlines = \\\"x\\\"\"\nodd\n".to_owned();
        let made = read_pairs(Some(text));
        assert_eq!(made["app"], "web");
        assert_eq!(made["note"], "two\nlines = \"x\"");
        assert_eq!(made.len(), 2);
    }
}
