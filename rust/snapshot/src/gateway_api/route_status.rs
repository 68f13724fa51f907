//! The status of a route: one entry for each reference, whatever the number of listeners behind it.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/conditions.go` `createRouteStatus`.

use navarch_model::ConfigKey;
use navarch_model::gateway_api::ParentReference;

use super::condition::{Condition, Fault, Reason};
use super::parent::{BoundParent, reference_order};
use super::status::{ObjectStatus, ParentStatus, StatusContent};

/// Reasons by how much they say: a fault of a listener that was meant says more than a name that is none.
const RANKING: [Reason; 3] = [
    Reason::NotAllowedByListeners,
    Reason::NoMatchingListenerHostname,
    Reason::NoMatchingParent,
];

/// The status of a route; `None` where no parent is ours. Faults are those of the rules, for the mesh and for Gateways.
pub(super) fn route_status(
    key: ConfigKey,
    bound: &[BoundParent],
    faults: (Option<&Fault>, Option<&Fault>),
    references: &[ParentReference],
) -> Option<ObjectStatus> {
    let mut references: Vec<&ParentReference> = references.iter().collect();
    references.sort_by_cached_key(|r| std::cmp::Reverse(reference_order(r, &key.namespace)));
    references.dedup();
    let of = |reference: &&ParentReference| {
        let bindings = bound.iter().filter(|b| b.reference == **reference);
        parent_status(&bindings.collect::<Vec<_>>(), faults)
    };
    let parents: Vec<ParentStatus> = references.iter().filter_map(of).collect();
    (!parents.is_empty()).then_some(ObjectStatus {
        key,
        content: StatusContent::Route { parents },
    })
}

/// The status for one reference; bound to one listener is bound.
fn parent_status(
    bindings: &[&BoundParent],
    (mesh, gateway): (Option<&Fault>, Option<&Fault>),
) -> Option<ParentStatus> {
    let first = bindings.first()?;
    let n_bound = bindings.iter().filter(|b| b.denied.is_none()).count();
    let denied = (n_bound == 0).then(|| denial(bindings)).flatten();
    let message = match n_bound {
        0 | 1 => "Route was valid".to_owned(),
        n => format!("Route was valid, bound to {n} parents"),
    };
    let fault = if first.is_mesh() { mesh } else { gateway };
    let resolved = (Reason::ResolvedRefs, "All references resolved");
    Some(ParentStatus {
        parent: first.reference.clone(),
        conditions: vec![
            Condition::positive("Accepted", (Reason::Accepted, &message), denied),
            Condition::positive("ResolvedRefs", resolved, fault.cloned()),
        ],
    })
}

/// The denials that say most, as one.
fn denial(bindings: &[&BoundParent]) -> Option<Fault> {
    let faults: Vec<&Fault> = bindings.iter().filter_map(|b| b.denied.as_ref()).collect();
    let reason = RANKING
        .iter()
        .find(|reason| faults.iter().any(|fault| fault.reason == **reason))?;
    let messages: Vec<&str> = faults
        .iter()
        .filter(|fault| fault.reason == *reason)
        .map(|fault| fault.message.as_str())
        .collect();
    Some(Fault::new(*reason, messages.join("; ")))
}
