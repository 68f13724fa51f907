//! ReferenceGrants: which references into another namespace are allowed.
//!
//! Source: istio `pilot/pkg/config/kube/gatewaycommon/references.go`.

use std::collections::BTreeSet;

use navarch_model::gateway_api::{GROUP, ReferenceGrant};

use crate::registry::ByName;

/// Kinds that may refer into another namespace.
const FROM: [&str; 6] = [
    "Gateway",
    "ListenerSet",
    "HTTPRoute",
    "GRPCRoute",
    "TCPRoute",
    "TLSRoute",
];

/// Kinds that may be referred to.
const TO: [&str; 3] = ["Secret", "ConfigMap", "Service"];

/// One allowed reference; without a name to all objects of the kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    from: (&'static str, String),
    to: (&'static str, String),
    name: Option<String>,
}

/// All allowed references.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeSet<Grant>);

impl Grants {
    pub(super) fn new(objects: &ByName<ReferenceGrant>) -> Self {
        let known = |kinds: &[&'static str], kind: &str| {
            kinds.iter().find(|known| **known == kind).copied()
        };
        let mut grants = BTreeSet::new();
        for object in objects.values() {
            for from in object.spec.from.iter().filter(|from| from.group == GROUP) {
                for to in object.spec.to.iter().filter(|to| to.group.is_empty()) {
                    let (Some(from_kind), Some(to_kind)) =
                        (known(&FROM, &from.kind), known(&TO, &to.kind))
                    else {
                        continue;
                    };
                    grants.insert(Grant {
                        from: (from_kind, from.namespace.clone()),
                        to: (to_kind, object.metadata.namespace.clone()),
                        name: to.name.clone().filter(|name| !name.is_empty()),
                    });
                }
            }
        }
        Self(grants)
    }

    /// Whether an object of a kind and namespace may refer to the one of that name; both are (kind, namespace).
    pub(super) fn is_allowed(
        &self,
        from: (&'static str, &str),
        to: (&'static str, &str),
        name: &str,
    ) -> bool {
        let grant = |name: Option<&str>| Grant {
            from: (from.0, from.1.to_owned()),
            to: (to.0, to.1.to_owned()),
            name: name.map(str::to_owned),
        };
        from.1 == to.1 || self.0.contains(&grant(None)) || self.0.contains(&grant(Some(name)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use navarch_model::Shared;
    use navarch_model::gateway_api::{GROUP, GrantFrom, GrantTo, ReferenceGrant};

    use super::Grants;
    use crate::registry::ByName;

    #[test]
    fn a_grant_is_for_its_own_kinds_namespaces_and_name() {
        let mut grant = ReferenceGrant::default();
        grant.metadata.namespace = "shop".to_owned();
        grant.spec.from = vec![GrantFrom {
            group: GROUP.to_owned(),
            kind: "HTTPRoute".to_owned(),
            namespace: "team".to_owned(),
        }];
        grant.spec.to = vec![GrantTo {
            kind: "Service".to_owned(),
            name: Some("a".to_owned()),
            ..GrantTo::default()
        }];
        let key = (Arc::from("shop"), Arc::from("grant"));
        let grants = Grants::new(&ByName::from([(key, Shared::new(grant))]));
        let is_allowed = |from, to, name| grants.is_allowed(from, to, name);
        assert!(is_allowed(("HTTPRoute", "team"), ("Service", "shop"), "a"));
        assert!(!is_allowed(("HTTPRoute", "team"), ("Service", "shop"), "b"));
        assert!(!is_allowed(("GRPCRoute", "team"), ("Service", "shop"), "a"));
        assert!(!is_allowed(
            ("HTTPRoute", "other"),
            ("Service", "shop"),
            "a"
        ));
        assert!(is_allowed(("HTTPRoute", "shop"), ("Service", "shop"), "b"));
    }
}
