//! What a route does with the request.

use navarch_envoy::envoy::config::core::v3::data_source::Specifier;
use navarch_envoy::envoy::config::route::v3::route::Action;
use navarch_envoy::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier,
};
use navarch_envoy::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use navarch_envoy::envoy::config::route::v3::weighted_cluster::cluster_weight;
use navarch_envoy::envoy::config::route::v3::{
    DirectResponseAction, RetryPolicy, Route, RouteAction, RouteConfiguration, VirtualHost,
};

use crate::chance;
use crate::cluster::{self, Outgoing};
use crate::fault;
use crate::http::Stream;
use crate::outcome::{End, Forwarded, Landing, Stage, Step, failed};
use crate::redirect;
use crate::rewrite;
use crate::walk::Walk;

/// Envoy's timeout of routes that set none.
const DEFAULT_TIMEOUT_SECONDS: f64 = 15.0;

/// The route that was matched, with what it is in.
#[derive(Clone, Copy)]
pub(crate) struct Matched<'a> {
    pub(crate) routes: &'a RouteConfiguration,
    pub(crate) vhost: &'a VirtualHost,
    pub(crate) route: &'a Route,
}

/// Do what the route says.
pub(crate) fn run(
    walk: &mut Walk<'_>,
    stream: &Stream,
    matched: Matched<'_>,
) -> Result<Landing, End> {
    match &matched.route.action {
        Some(Action::Redirect(redirect)) => Ok(redirect::answer(
            redirect,
            matched.route.r#match.as_ref(),
            stream,
        )),
        Some(Action::DirectResponse(direct)) => Ok(direct_response(direct)),
        Some(Action::Route(action)) => forward(walk, stream, matched, action),
        Some(Action::NonForwardingAction(_) | Action::FilterAction(_)) | None => {
            Err(failed(404, "the route forwards nothing"))
        }
    }
}

fn direct_response(direct: &DirectResponseAction) -> Landing {
    let body = direct
        .body
        .as_ref()
        .and_then(|source| source.specifier.as_ref());
    let body = match body {
        Some(Specifier::InlineString(text)) => Some(text.clone()),
        Some(Specifier::InlineBytes(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    };
    Landing::Response {
        status: direct.status,
        location: None,
        body,
        is_configured: true,
        why: "the route answers itself".to_owned(),
    }
}

fn forward(
    walk: &mut Walk<'_>,
    stream: &Stream,
    matched: Matched<'_>,
    action: &RouteAction,
) -> Result<Landing, End> {
    let (name, weighted, step) = choose_cluster(walk, stream, action)?;
    let overrides = [
        weighted.map(|w| &w.typed_per_filter_config),
        Some(&matched.route.typed_per_filter_config),
        Some(&matched.vhost.typed_per_filter_config),
        Some(&matched.routes.typed_per_filter_config),
    ];
    walk.steps.push(step);
    let delay_seconds = fault::inject(walk, stream, &overrides)?;
    let Some(found) = walk.resources.cluster(&name) else {
        let status = match action.cluster_not_found_response_code() {
            ClusterNotFoundResponseCode::ServiceUnavailable => 503,
            ClusterNotFoundResponseCode::NotFound => 404,
            ClusterNotFoundResponseCode::InternalServerError => 500,
        };
        return Err(failed(status, format!("the proxy has no cluster {name}")));
    };
    let forwarded = forwarded(stream, matched, action, weighted);
    let outgoing = Outgoing {
        authority: match weighted.and_then(|w| w.host_rewrite_specifier.as_ref()) {
            Some(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)) => {
                Some(host.clone())
            }
            None => rewrite::authority(action, stream),
        },
        request: Forwarded {
            delay_seconds,
            ..forwarded
        },
        has_alpn_filter: stream.filters.iter().any(|(name, _)| name == "istio.alpn"),
        original: stream,
        is_hashed: !action.hash_policy.is_empty(),
    };
    cluster::land(walk, &found, Some(outgoing))
}

type Choice<'a> = (String, Option<&'a ClusterWeight>, Step);

fn choose_cluster<'a>(
    walk: &Walk<'_>,
    stream: &Stream,
    action: &'a RouteAction,
) -> Result<Choice<'a>, End> {
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => {
            let step = Step::new(Stage::Cluster, name.clone(), "the route's one cluster");
            Ok((name.clone(), None, step))
        }
        Some(ClusterSpecifier::ClusterHeader(header)) => {
            let name = stream.headers.get(&header.to_ascii_lowercase()).cloned();
            let name =
                name.ok_or_else(|| failed(503, format!("header {header} names no cluster")))?;
            let step = Step::new(
                Stage::Cluster,
                name.clone(),
                format!("header {header} names it"),
            );
            Ok((name, None, step))
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let weights: Vec<(String, u32)> = weighted
                .clusters
                .iter()
                .map(|c| (c.name.clone(), c.weight.unwrap_or(0)))
                .collect();
            let (at, step) = chance::choose_cluster(&weights, walk.request.percent)
                .ok_or_else(|| failed(503, "the weights of the route's clusters are 0"))?;
            Ok((weights[at].0.clone(), weighted.clusters.get(at), step))
        }
        Some(
            ClusterSpecifier::ClusterSpecifierPlugin(_)
            | ClusterSpecifier::InlineClusterSpecifierPlugin(_),
        ) => Err(failed(
            503,
            "the route's cluster is picked by a plugin, which is not simulated",
        )),
        None => Err(failed(503, "the route has no cluster")),
    }
}

fn forwarded(
    stream: &Stream,
    matched: Matched<'_>,
    action: &RouteAction,
    weighted: Option<&ClusterWeight>,
) -> Forwarded {
    let route = matched.route;
    let timeout = action
        .timeout
        .as_ref()
        .map_or(DEFAULT_TIMEOUT_SECONDS, rewrite::seconds);
    let retry = action
        .retry_policy
        .as_ref()
        .or(matched.vhost.retry_policy.as_ref());
    let mut header_changes = Vec::new();
    if let Some(weighted) = weighted {
        header_changes.extend(rewrite::header_changes(
            &weighted.request_headers_to_add,
            &weighted.request_headers_to_remove,
        ));
    }
    header_changes.extend(rewrite::header_changes(
        &route.request_headers_to_add,
        &route.request_headers_to_remove,
    ));
    let mirrors = action.request_mirror_policies.iter().map(|mirror| {
        let fraction = mirror
            .runtime_fraction
            .as_ref()
            .and_then(|f| f.default_value);
        let share = fraction.map_or(100.0, chance::percentage);
        format!("{} ({} %)", mirror.cluster, chance::round(share))
    });
    Forwarded {
        method: stream.method.clone(),
        authority: String::new(),
        path: rewrite::path(action, route.r#match.as_ref(), &stream.path),
        is_http2: stream.is_http2,
        timeout_seconds: (timeout > 0.0).then_some(timeout),
        retries: retry.map(written_retries),
        delay_seconds: None,
        mirrors: mirrors.collect(),
        headers: stream
            .headers
            .iter()
            .filter(|(name, _)| !name.starts_with(':'))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        header_changes,
    }
}

fn written_retries(policy: &RetryPolicy) -> String {
    let each = policy.per_try_timeout.as_ref().map(rewrite::seconds);
    let each = each.map_or_else(String::new, |each| format!(", {each} s each"));
    // Envoy's default is one more try.
    format!(
        "{} on {}{each}",
        policy.num_retries.unwrap_or(1),
        policy.retry_on
    )
}
