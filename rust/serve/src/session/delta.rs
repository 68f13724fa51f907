//! The incremental form: only what changed, and what is gone by name.

use navarch_encode::response::encode_delta_prefix;
use navarch_encode::{Resources, Version};
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::nonce::Nonce;
use super::selection::{Gone, Selection};
use super::subscription::{Names, Subscription};
use super::type_session::TypeSession;
use super::{Response, Variant};

/// Take over the names of a request, and the versions of a first one.
pub(super) fn subscribe(
    state: &mut TypeSession,
    request: &DeltaDiscoveryRequest,
    names: Names<'_>,
) {
    let subscribe = &request.resource_names_subscribe;
    let unsubscribe = &request.resource_names_unsubscribe;
    if let Some(subscription) = &mut state.subscription {
        let changes = subscription.change(subscribe, unsubscribe, names);
        state.note(changes);
        return;
    }
    let mut subscription = Subscription::first(state.type_url, subscribe, names);
    subscription.change(&[], unsubscribe, names);
    state.start(subscription);
    if !request.initial_resource_versions.is_empty() {
        let versions = request.initial_resource_versions.iter();
        state.known = Some(
            versions
                .map(|(n, v)| (n.clone(), Version::parse(v)))
                .collect(),
        );
    }
}

/// The next response but for removals that must wait.
pub(super) fn compose(
    state: &mut TypeSession,
    target: &Resources,
    nonce: Nonce,
    may_remove: bool,
) -> Option<Response> {
    let is_awaited = state.must_answer();
    let was_first = state.is_first;
    let selection = state
        .select(target, Variant::Delta)
        .and_then(|mut selection| {
            if !may_remove && matches!(state.type_url, TypeUrl::Cluster | TypeUrl::Endpoint) {
                state.withheld.extend(selection.removed.drain(..));
            }
            (was_first || !selection.is_empty()).then_some(selection)
        });
    let selection = selection.or_else(|| state.select_isolated(target))?;
    Some(respond(state, target, nonce, selection, is_awaited))
}

/// The names that are gone, once nothing of the client's names them any more.
pub(super) fn compose_removals(
    state: &mut TypeSession,
    target: &Resources,
    nonce: Nonce,
) -> Option<Response> {
    let withheld = std::mem::take(&mut state.withheld);
    let is_gone = |(name, _): &Gone| state.covers(name) && target.find(name).is_none();
    let removed: Vec<Gone> = withheld.into_iter().filter(is_gone).collect();
    if removed.is_empty() {
        return None;
    }
    let selection = Selection {
        removed,
        ..Selection::default()
    };
    Some(respond(state, target, nonce, selection, false))
}

fn respond(
    state: &mut TypeSession,
    target: &Resources,
    nonce: Nonce,
    selection: Selection,
    is_awaited: bool,
) -> Response {
    let version = target.version();
    let mut segments = vec![encode_delta_prefix(
        state.type_url,
        version,
        &nonce.to_string(),
    )];
    segments.extend(selection.segments(Variant::Delta));
    state.put_in_flight(nonce, version, selection, is_awaited);
    Response {
        type_url: state.type_url,
        nonce,
        version,
        segments,
    }
}
