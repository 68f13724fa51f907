//! To whom a policy is attached: workloads by labels, or gateways by name.
//!
//! Source: istio `pilot/pkg/model/policyattachment.go`.

use serde::Deserialize;

use crate::{Labels, WorkloadSelector, is_selected};

/// The label by which a workload says of which gateway of Gateway API it is an instance.
pub const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// One object that a policy is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct PolicyTargetReference {
    pub group: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

/// The part of a policy that says to whom it is attached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct PolicyAttachment {
    pub selector: Option<WorkloadSelector>,
    pub target_ref: Option<PolicyTargetReference>,
    pub target_refs: Vec<PolicyTargetReference>,
}

impl PolicyAttachment {
    /// The references, the older single one where the list is empty.
    pub fn targets(&self) -> &[PolicyTargetReference] {
        if self.target_refs.is_empty() {
            self.target_ref.as_slice()
        } else {
            &self.target_refs
        }
    }

    /// Whether a policy of `policy_namespace` is attached to a workload.
    ///
    /// A policy with references is for gateways of Gateway API in its own namespace only. References to Services and
    /// ServiceEntries are for waypoints, which navarch does not run.
    pub fn is_attached(
        &self,
        policy_namespace: &str,
        workload_namespace: &str,
        labels: &Labels,
    ) -> bool {
        let targets = self.targets();
        if targets.is_empty() {
            let selector = self.selector.as_ref();
            return selector.is_none_or(|selector| is_selected(&selector.match_labels, labels));
        }
        let Some(gateway) = labels.get(GATEWAY_NAME_LABEL) else {
            return false;
        };
        policy_namespace == workload_namespace
            && targets.iter().any(|target| {
                target.group == "gateway.networking.k8s.io"
                    && target.kind == "Gateway"
                    && target.name == *gateway
                    && (target.namespace.is_empty() || target.namespace == workload_namespace)
            })
    }

    /// The labels of a workload that decide whether the policy is attached to it.
    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        let selector = self.selector.iter();
        let selected = selector.flat_map(|selector| selector.match_labels.keys());
        let gateway = (!self.targets().is_empty()).then_some(GATEWAY_NAME_LABEL);
        selected.map(String::as_str).chain(gateway)
    }
}

#[cfg(test)]
mod tests {
    use super::{GATEWAY_NAME_LABEL, PolicyAttachment};
    use crate::Labels;

    fn attachment(json: &str) -> PolicyAttachment {
        serde_json::from_str(json).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        pairs.collect()
    }

    #[test]
    fn selectors_pick_workloads_and_gateways() {
        let web = attachment(r#"{"selector": {"matchLabels": {"app": "web"}}}"#);
        assert!(web.is_attached("shop", "shop", &labels(&[("app", "web"), ("x", "y")])));
        assert!(!web.is_attached("shop", "shop", &labels(&[("app", "db")])));
        assert!(attachment("{}").is_attached("shop", "shop", &labels(&[])));
    }

    #[test]
    fn references_pick_gateways_of_their_own_namespace_only() {
        let edge = labels(&[(GATEWAY_NAME_LABEL, "edge")]);
        let of = |extra: &str| {
            attachment(&format!(
                r#"{{"targetRefs": [{{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"{extra}}}]}}"#
            ))
        };
        assert!(of("").is_attached("ingress", "ingress", &edge));
        assert!(!of("").is_attached("other", "ingress", &edge));
        assert!(!of(r#", "namespace": "other""#).is_attached("ingress", "ingress", &edge));
        assert!(!of("").is_attached("ingress", "ingress", &labels(&[("app", "edge")])));
        assert!(!of("").is_attached("ingress", "ingress", &labels(&[(GATEWAY_NAME_LABEL, "b")])));
    }

    #[test]
    fn the_older_single_reference_counts_where_there_is_no_list() {
        let single = attachment(
            r#"{"targetRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}}"#,
        );
        assert!(single.is_attached("a", "a", &labels(&[(GATEWAY_NAME_LABEL, "edge")])));
    }

    #[test]
    fn a_service_is_no_target_outside_waypoints() {
        let service = attachment(r#"{"targetRefs": [{"kind": "Service", "name": "edge"}]}"#);
        assert!(!service.is_attached("a", "a", &labels(&[(GATEWAY_NAME_LABEL, "edge")])));
    }
}
