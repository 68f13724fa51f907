//! Policies of mutual TLS of which only the oldest holds, or that hold nowhere.

use std::collections::BTreeMap;

use navarch_model::{Kind, Labels, PeerAuthentication};

use super::{Findings, full_name, key_of};
use crate::MeshSnapshot;

pub(super) fn check(mesh: &MeshSnapshot, told: &mut Findings) {
    let root = &mesh.mesh_config.root_namespace;
    let mut older: BTreeMap<(&str, Option<&Labels>), &PeerAuthentication> = BTreeMap::new();
    for policy in &mesh.analysis.written.peer_authentications {
        let metadata = &policy.metadata;
        let selector = policy.spec.selector.as_ref().map(|s| &s.match_labels);
        let selector = selector.filter(|labels| !labels.is_empty());
        let key = key_of(Kind::PeerAuthentication, metadata);
        if selector.is_some() && metadata.namespace == *root {
            let message = format!(
                "a policy with a selector has no effect in the root namespace `{root}`; move it to the workloads'"
            );
            let path = "spec.selector".to_owned();
            told.warn(key, "peer-authentication-without-effect", path, message);
            continue;
        }
        let Some(first) = older.get(&(metadata.namespace.as_str(), selector)) else {
            older.insert((&metadata.namespace, selector), policy);
            continue;
        };
        let message = format!(
            "the older PeerAuthentication `{}` is for the same workloads, and it holds; take one of them out",
            full_name(&first.metadata)
        );
        told.error(
            key,
            "peer-authentication-conflict",
            "spec".to_owned(),
            message,
        );
    }
}
