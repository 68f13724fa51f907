//! The state-of-the-world form.
//!
//! Clusters, listeners and wildcards are sent whole, since a client takes what is absent as removed.
//! Endpoints and routes by name are sent as far as they changed, which the protocol allows and Istio does.

use std::sync::Arc;

use navarch_encode::response::{encode_sotw_prefix, encode_sotw_resources, splice_resources};
use navarch_encode::{EncodedResource, Resources, Version};
use navarch_envoy::TypeUrl;
use prost::DecodeError;

use super::nonce::Nonce;
use super::request::SotwRequest;
use super::selection::Selection;
use super::subscription::{Names, Subscription};
use super::type_session::TypeSession;
use super::{Response, Variant};

/// Take over the names of a request.
///
/// A later request without a nonce, when one was sent, comes from a client that began anew: it is
/// answered in full.
pub(super) fn subscribe(
    state: &mut TypeSession,
    request: &SotwRequest,
    names: Names<'_>,
) -> Result<(), DecodeError> {
    let head = &request.head;
    let is_anew = head.response_nonce.is_empty() && state.latest_nonce().is_some();
    let fingerprint = Some(request.fingerprint());
    if state.is_subscribed() && !is_anew && state.requested == fingerprint {
        return Ok(());
    }
    let requested = request.read_names()?;
    match &mut state.subscription {
        None => {
            state.start(Subscription::first(state.type_url, &requested, names));
            state.claimed_version.clone_from(&head.version_info);
        }
        Some(subscription) => {
            let changes = subscription.replace(&requested, names);
            if is_anew {
                let subscription = subscription.clone();
                state.start(subscription);
            } else {
                state.note(changes);
            }
        }
    }
    state.requested = fingerprint;
    Ok(())
}

fn is_sent_whole(state: &TypeSession) -> bool {
    matches!(
        state.type_url,
        TypeUrl::Cluster | TypeUrl::Listener | TypeUrl::NameTable
    ) || state
        .subscription
        .as_ref()
        .is_some_and(Subscription::is_wildcard)
}

/// The next response; removals that must wait are left in for now.
pub(super) fn compose(
    state: &mut TypeSession,
    target: &Resources,
    nonce: Nonce,
    may_remove: bool,
) -> Option<Response> {
    let is_awaited = state.must_answer();
    if is_sent_whole(state) {
        return compose_whole(state, target, nonce, may_remove);
    }
    let was_first = state.is_first;
    let selection = state
        .select(target, Variant::Sotw)
        .and_then(|mut selection| {
            selection.removed.clear();
            (was_first || !selection.is_empty()).then_some(selection)
        });
    let selection = selection.or_else(|| state.select_isolated(target))?;
    let version = target.version();
    let mut segments = vec![encode_sotw_prefix(
        state.type_url,
        version,
        &nonce.to_string(),
    )];
    segments.extend(selection.segments(Variant::Sotw));
    state.put_in_flight(nonce, version, selection, is_awaited);
    Some(Response {
        type_url: state.type_url,
        nonce,
        version,
        segments,
    })
}

fn compose_whole(
    state: &mut TypeSession,
    target: &Resources,
    nonce: Nonce,
    may_remove: bool,
) -> Option<Response> {
    state.forget_parts();
    let must_answer = state.must_answer();
    let before = state.sent.clone();
    let claimed = std::mem::take(&mut state.claimed_version);
    let mut selection = state.select(target, Variant::Sotw).unwrap_or_default();
    let gone = std::mem::take(&mut selection.removed);
    if state.type_url == TypeUrl::Cluster {
        let gone = gone
            .iter()
            .filter_map(|(name, _)| before.find(name))
            .cloned();
        state.retained.extend(gone);
    }
    trim_retained(state, target);
    let is_due = must_answer || !selection.is_empty();
    let is_removal_due = if state.type_url == TypeUrl::Cluster {
        may_remove && !state.retained.is_empty()
    } else {
        !gone.is_empty()
    };
    if !is_due && !is_removal_due {
        return None;
    }
    if may_remove {
        state.retained.clear();
    }
    if must_answer && claimed == target.version().to_string() {
        // The client has these very clusters: it will not warm them, nor wait for their endpoints.
        selection = Selection::default();
    }
    Some(respond_whole(state, target, nonce, selection))
}

/// The whole once more, without what is gone.
pub(super) fn compose_removals(
    state: &mut TypeSession,
    target: &Resources,
    nonce: Nonce,
) -> Option<Response> {
    trim_retained(state, target);
    if state.retained.is_empty() {
        return None;
    }
    state.retained.clear();
    Some(respond_whole(state, target, nonce, Selection::default()))
}

/// Keep of the retained only what is still asked for and still gone.
fn trim_retained(state: &mut TypeSession, target: &Resources) {
    let mut retained = std::mem::take(&mut state.retained);
    retained.retain(|r| target.find(&r.name).is_none() && state.covers(&r.name));
    state.retained = retained;
}

fn respond_whole(
    state: &mut TypeSession,
    target: &Resources,
    nonce: Nonce,
    selection: Selection,
) -> Response {
    let retained = state.retained.iter().map(|r| (&*r.name, r.version));
    let version = match state.retained.len() {
        0 => target.version(),
        _ => target.version().with(Version::of_sequence(retained)),
    };
    let mut segments = vec![encode_sotw_prefix(
        state.type_url,
        version,
        &nonce.to_string(),
    )];
    if state
        .subscription
        .as_ref()
        .is_some_and(Subscription::is_wildcard)
    {
        segments.push(target.shared.sotw_body());
        segments.push(target.own.sotw_body());
    } else {
        let named: Vec<Arc<EncodedResource>> = target
            .iter()
            .filter(|r| state.covers(&r.name))
            .cloned()
            .collect();
        splice_resources(&named, encode_sotw_resources, &mut segments);
    }
    splice_resources(&state.retained, encode_sotw_resources, &mut segments);
    segments.retain(|s| !s.is_empty());
    state.put_in_flight(nonce, version, selection, true);
    Response {
        type_url: state.type_url,
        nonce,
        version,
        segments,
    }
}
