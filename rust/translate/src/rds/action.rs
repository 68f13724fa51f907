//! What a route does: forward, redirect, answer.

use std::borrow::Cow;

use navarch_envoy::envoy::config::core::v3::{DataSource, data_source};
use navarch_envoy::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use navarch_envoy::envoy::config::route::v3::route::Action;
use navarch_envoy::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
};
use navarch_envoy::envoy::config::route::v3::route_match::PathSpecifier;
use navarch_envoy::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use navarch_envoy::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, Route, RouteAction, WeightedCluster,
};
use navarch_envoy::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use navarch_envoy::envoy::r#type::v3::FractionalPercent;
use navarch_model::{
    ConsistentHash, Destination, HttpDirectResponse, HttpRedirect, HttpRewrite, HttpRoute,
    HttpRouteDestination, Percent, RouteSemantics,
};

use super::base64::decode_base64;
use super::hash_policy::{build_hash_policy, hash_of_destination};
use super::header::build_header_mutations;
use super::inputs::{DestinationFacts, RouteClient, VirtualServiceRoutes};
use super::report::Report;
use super::retry::encode_retry_policy;
use super::route::retry_of;
use super::scalar::{NO_TIMEOUT, duration, fraction, runtime, whole_percent};
use super::string_match::{quote, regex};
use crate::name::outbound_cluster;

/// A cluster that does not exist: requests get 503.
const UNKNOWN_SERVICE: &str = "UnknownService";

/// An action that forwards.
pub(super) struct Forward {
    /// All of it but the retry policy.
    pub(super) action: RouteAction,
    /// The retry policy, encoded.
    pub(super) retry: Option<Cow<'static, [u8]>>,
}

/// Builds the action of one HTTP rule's routes.
pub(super) struct RouteBuilder<'a, 'r> {
    inputs: &'a VirtualServiceRoutes,
    index: usize,
    http: &'a HttpRoute,
    report: &'a mut Report<'r>,
}

impl<'a, 'r> RouteBuilder<'a, 'r> {
    pub(super) fn new(
        inputs: &'a VirtualServiceRoutes,
        (index, http): (usize, &'a HttpRoute),
        report: &'a mut Report<'r>,
    ) -> Self {
        Self {
            inputs,
            index,
            http,
            report,
        }
    }

    /// Set what the route does but forward, which is told apart; `authority` is the Host that the rule's header operations
    /// ask for.
    pub(super) fn add_action(
        mut self,
        route: &mut Route,
        authority: Option<String>,
    ) -> Option<Forward> {
        if let Some(redirect) = &self.http.redirect {
            let action = build_redirect(redirect, &self.inputs.client).map(Action::Redirect);
            route.action = action.or_else(|| Some(self.refuse_redirect(redirect.redirect_code)));
        } else if let Some(response) = &self.http.direct_response {
            let action = build_direct_response(response);
            route.action = Some(Action::DirectResponse(action));
        } else {
            return Some(self.build_forward(route, authority));
        }
        None
    }

    /// The answer in place of a redirect that Envoy can't do; it refuses routes without any.
    fn refuse_redirect(&mut self, code: u32) -> Action {
        self.report.warn(
            "unsupported-redirect-code",
            format!("spec.http[{}].redirect.redirectCode", self.index),
            format!(
                "Envoy does not redirect with {code}, and answers 500; use 301, 302, 303, 307 or 308"
            ),
        );
        Action::DirectResponse(DirectResponseAction {
            status: 500,
            ..DirectResponseAction::default()
        })
    }

    fn build_forward(&mut self, route: &mut Route, authority: Option<String>) -> Forward {
        let http = self.http;
        let timeout = http.timeout.map_or(NO_TIMEOUT, duration);
        let mut action = RouteAction {
            timeout: Some(timeout),
            // Envoy's newer max_stream_duration counts differently for gRPC, so Istio keeps the old field.
            max_grpc_timeout: Some(timeout),
            ..RouteAction::default()
        };
        let mut authority = authority;
        if let Some(rewrite) = &http.rewrite {
            action.append_x_forwarded_host = self.inputs.client.viewer.has_forwarded_host;
            let prefix = self.removable_prefix(route, rewrite);
            add_path_rewrite(&mut action, rewrite, prefix);
            if !rewrite.authority.is_empty() {
                authority = Some(rewrite.authority.clone());
            }
        }
        action.host_rewrite_specifier = authority.map(HostRewriteSpecifier::HostRewriteLiteral);
        self.add_mirrors(&mut action);
        if self.inputs.virtual_service.semantics == RouteSemantics::GatewayApi {
            action.cluster_not_found_response_code =
                ClusterNotFoundResponseCode::InternalServerError.into();
        }
        let is_hashed = self.add_destinations(route, &mut action);
        let retry = encode_retry_policy(retry_of(http, &self.inputs.client), is_hashed);
        Forward { action, retry }
    }

    /// The prefix that a rewrite to `/` takes away: Envoy's own prefix rewrite would leave two slashes.
    fn removable_prefix<'m>(&self, route: &'m Route, rewrite: &HttpRewrite) -> Option<&'m str> {
        if !is_rewritten_by_match(self.http, self.inputs.virtual_service.semantics)
            || rewrite.uri != "/"
        {
            return None;
        }
        match &route.r#match.as_ref()?.path_specifier {
            Some(PathSpecifier::PathSeparatedPrefix(prefix)) => Some(prefix),
            _ => Some(""),
        }
    }

    /// Set where requests go; whether retries must stay with the hashed host.
    fn add_destinations(&mut self, route: &mut Route, action: &mut RouteAction) -> bool {
        if let [only] = &self.http.route[..] {
            return self.add_only_destination(only, route, action);
        }
        let mut clusters = Vec::new();
        for (i, destination) in self.http.route.iter().enumerate() {
            let Some(weight) = u32::try_from(destination.weight).ok().filter(|w| *w > 0) else {
                continue;
            };
            clusters.push(self.build_weight((i, destination), weight));
            let hash = self.hash_of(&destination.destination);
            action.hash_policy.extend(hash.and_then(build_hash_policy));
        }
        action.cluster_specifier = Some(if clusters.is_empty() {
            // Envoy refuses an empty list, and with it the whole route configuration.
            ClusterSpecifier::Cluster(UNKNOWN_SERVICE.to_owned())
        } else {
            ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters,
                ..WeightedCluster::default()
            })
        });
        false
    }

    fn add_only_destination(
        &mut self,
        only: &HttpRouteDestination,
        route: &mut Route,
        action: &mut RouteAction,
    ) -> bool {
        let path = format!("spec.http[{}].route[0].destination", self.index);
        let cluster = self.cluster_of(&only.destination, &path);
        action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster));
        let headers = build_header_mutations(only.headers.as_ref());
        route.request_headers_to_add.extend(headers.request_add);
        route
            .request_headers_to_remove
            .extend(headers.request_remove);
        route.response_headers_to_add.extend(headers.response_add);
        route
            .response_headers_to_remove
            .extend(headers.response_remove);
        if action.host_rewrite_specifier.is_none() {
            let authority = headers.authority;
            action.host_rewrite_specifier = authority.map(HostRewriteSpecifier::HostRewriteLiteral);
        }
        let hash = self.hash_of(&only.destination);
        action.hash_policy.extend(hash.and_then(build_hash_policy));
        hash.is_some()
    }

    fn build_weight(
        &mut self,
        (i, destination): (usize, &HttpRouteDestination),
        weight: u32,
    ) -> ClusterWeight {
        let path = format!("spec.http[{}].route[{i}].destination", self.index);
        let headers = build_header_mutations(destination.headers.as_ref());
        let authority = headers.authority;
        ClusterWeight {
            name: self.cluster_of(&destination.destination, &path),
            weight: Some(weight),
            request_headers_to_add: headers.request_add,
            request_headers_to_remove: headers.request_remove,
            response_headers_to_add: headers.response_add,
            response_headers_to_remove: headers.response_remove,
            host_rewrite_specifier: authority
                .map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
            ..ClusterWeight::default()
        }
    }

    fn add_mirrors(&mut self, action: &mut RouteAction) {
        let http = self.http;
        if let Some(destination) = &http.mirror {
            let deprecated = http.mirror_percent.map(whole_percent);
            let share = share_of(http.mirror_percentage, deprecated);
            let path = format!("spec.http[{}].mirror", self.index);
            let policy = self.build_mirror(destination, share, &path);
            action.request_mirror_policies.extend(policy);
        }
        for (i, mirror) in http.mirrors.iter().enumerate() {
            let Some(destination) = &mirror.destination else {
                continue;
            };
            let share = share_of(mirror.percentage, None);
            let path = format!("spec.http[{}].mirrors[{i}].destination", self.index);
            let policy = self.build_mirror(destination, share, &path);
            action.request_mirror_policies.extend(policy);
        }
    }

    fn build_mirror(
        &mut self,
        destination: &Destination,
        share: FractionalPercent,
        path: &str,
    ) -> Option<RequestMirrorPolicy> {
        (share.numerator > 0).then(|| RequestMirrorPolicy {
            cluster: self.cluster_of(destination, path),
            runtime_fraction: Some(runtime(share)),
            trace_sampled: Some(false),
            disable_shadow_host_suffix_append: true,
            ..RequestMirrorPolicy::default()
        })
    }

    fn facts_of(&self, destination: &Destination) -> Option<&'a DestinationFacts> {
        self.inputs.find_destination(&destination.host)
    }

    fn hash_of(&self, destination: &Destination) -> Option<&'a ConsistentHash> {
        let rule = self.facts_of(destination)?.rule.as_ref()?;
        hash_of_destination(rule, destination)
    }

    /// The cluster of a destination (istio route.go `GetDestinationCluster`).
    ///
    /// An unknown destination has a name all the same: its cluster does not exist, so requests get 503.
    fn cluster_of(&mut self, destination: &Destination, path: &str) -> String {
        if destination.host.is_empty() {
            return UNKNOWN_SERVICE.to_owned();
        }
        let facts = self.facts_of(destination);
        let alias = facts.and_then(|facts| facts.alias_of.as_ref());
        let host = alias.map_or(destination.host.as_str(), |alias| alias.as_str());
        let named = destination.port.map(|port| port.number);
        let port = named
            .or_else(|| facts.and_then(|facts| facts.default_port))
            .unwrap_or(self.inputs.client.port);
        self.report_unknown((destination, port), facts, path);
        outbound_cluster(port, &destination.subset, host)
    }

    fn report_unknown(
        &mut self,
        (destination, port): (&Destination, u32),
        facts: Option<&DestinationFacts>,
        path: &str,
    ) {
        let host = &destination.host;
        let Some(ports) = facts.and_then(|facts| facts.ports.as_ref()) else {
            self.report.warn(
                "unknown-destination",
                format!("{path}.host"),
                format!(
                    "no service `{host}` can be seen from namespace `{}`; requests get 503",
                    self.inputs.client.viewer.namespace
                ),
            );
            return;
        };
        if !ports.contains(&port) {
            self.report.warn(
                "unknown-port",
                format!("{path}.port.number"),
                format!("`{host}` has no port {port}, only {ports:?}; requests get 503"),
            );
        }
        let rule = facts.and_then(|facts| facts.rule.as_ref());
        let subset = &destination.subset;
        let is_known = rule.is_some_and(|rule| rule.spec.subsets.iter().any(|s| s.name == *subset));
        if !subset.is_empty() && !is_known {
            self.report.warn(
                "unknown-subset",
                format!("{path}.subset"),
                format!("no DestinationRule of `{host}` has a subset `{subset}`; requests get 503"),
            );
        }
    }
}

/// Whether what a rule does depends on the path that each of its conditions asks for.
pub(super) fn is_rewritten_by_match(http: &HttpRoute, semantics: RouteSemantics) -> bool {
    let rewrite = http.rewrite.as_ref();
    semantics == RouteSemantics::GatewayApi && rewrite.is_some_and(|rewrite| rewrite.uri == "/")
}

/// The share to mirror: everything where nothing is said.
fn share_of(
    percentage: Option<Percent>,
    deprecated: Option<FractionalPercent>,
) -> FractionalPercent {
    percentage
        .map(fraction)
        .or(deprecated)
        .unwrap_or_else(|| whole_percent(100))
}

/// Set how the path is rewritten; `prefix` is to be taken away whole (istio route.go `ApplyRewrite`).
fn add_path_rewrite(action: &mut RouteAction, rewrite: &HttpRewrite, prefix: Option<&str>) {
    if let Some(substitution) = &rewrite.uri_regex_rewrite {
        action.regex_rewrite = Some(RegexMatchAndSubstitute {
            pattern: Some(regex(&substitution.pattern)),
            substitution: substitution.rewrite.clone(),
        });
    } else if let Some(prefix) = prefix {
        action.regex_rewrite = Some(RegexMatchAndSubstitute {
            pattern: Some(regex(&format!("^{}(/?)(.*)", quote(prefix)))),
            // Even of the whole path a slash must be left.
            substitution: r"/\2".to_owned(),
        });
    } else {
        action.prefix_rewrite.clone_from(&rewrite.uri);
    }
}

/// A redirect (istio route.go `ApplyRedirect`); `None` for a code that Envoy does not have.
fn build_redirect(redirect: &HttpRedirect, client: &RouteClient) -> Option<RedirectAction> {
    let code = match redirect.redirect_code {
        0 | 301 => RedirectResponseCode::MovedPermanently,
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => return None,
    };
    let path = if redirect.prefix_rewrite.is_empty() {
        PathRewriteSpecifier::PathRedirect(redirect.uri.clone())
    } else {
        PathRewriteSpecifier::PrefixRewrite(redirect.prefix_rewrite.clone())
    };
    let scheme = (!redirect.scheme.is_empty()).then(|| redirect.scheme.clone());
    Some(RedirectAction {
        host_redirect: redirect.authority.clone(),
        port_redirect: redirect_port(redirect, client),
        response_code: code.into(),
        scheme_rewrite_specifier: scheme.map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: Some(path),
        ..RedirectAction::default()
    })
}

/// The port to redirect to; 0, which keeps the scheme's own, also where the port asked for is that.
///
/// Envoy can't derive the port from the request, but the listener's is known here.
fn redirect_port(redirect: &HttpRedirect, client: &RouteClient) -> u32 {
    let port = match (redirect.port, redirect.derive_port.as_deref()) {
        (Some(port), _) => port,
        (None, Some("FROM_REQUEST_PORT")) => client.port,
        (None, _) => return 0,
    };
    let scheme = match redirect.scheme.as_str() {
        "" if client.is_tls => "https",
        "" => "http",
        scheme => scheme,
    };
    match (port, scheme) {
        (80, "http") | (443, "https") => 0,
        (port, _) => port,
    }
}

fn build_direct_response(response: &HttpDirectResponse) -> DirectResponseAction {
    let body = response.body.as_ref().and_then(|body| {
        let text = body
            .string
            .clone()
            .map(data_source::Specifier::InlineString);
        text.or_else(|| {
            let bytes = decode_base64(body.bytes.as_deref()?)?;
            Some(data_source::Specifier::InlineBytes(bytes))
        })
    });
    DirectResponseAction {
        status: response.status,
        body: body.map(|specifier| DataSource {
            specifier: Some(specifier),
            watched_directory: None,
        }),
        body_format: None,
    }
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::config::route::v3::RouteAction;
    use navarch_model::{HttpRedirect, HttpRewrite, Labels, Shared};

    use super::super::inputs::{RouteClient, RouteViewer};
    use super::{add_path_rewrite, redirect_port};

    #[test]
    fn a_redirect_names_no_port_that_its_scheme_means() {
        for (port, derive, scheme, is_tls, want) in [
            (Some(443), None, "https", false, 0),
            (Some(443), None, "", true, 0),
            (Some(443), None, "", false, 443),
            (Some(8443), None, "https", false, 8443),
            (None, Some("FROM_REQUEST_PORT"), "", false, 8080),
            (None, Some("FROM_PROTOCOL_DEFAULT"), "", false, 0),
            (None, None, "https", false, 0),
        ] {
            let redirect = HttpRedirect {
                port,
                derive_port: derive.map(str::to_owned),
                scheme: scheme.to_owned(),
                ..HttpRedirect::default()
            };
            let client = RouteClient {
                viewer: Shared::new(RouteViewer {
                    namespace: "a".into(),
                    labels: Labels::new(),
                    has_forwarded_host: false,
                    default_retry: None,
                }),
                gateway: "mesh".into(),
                port: 8080,
                is_tls,
            };
            assert_eq!(redirect_port(&redirect, &client), want, "{redirect:?}");
        }
    }

    #[test]
    fn a_prefix_is_taken_away_with_its_slash() {
        let rewrite = |uri: &str| HttpRewrite {
            uri: uri.to_owned(),
            ..HttpRewrite::default()
        };
        let mut action = RouteAction::default();
        add_path_rewrite(&mut action, &rewrite("/"), Some("/a.b"));
        let substitution = action.regex_rewrite.unwrap();
        assert_eq!(substitution.pattern.unwrap().regex, r"^/a\.b(/?)(.*)");
        assert_eq!(substitution.substitution, r"/\2");
        let mut action = RouteAction::default();
        add_path_rewrite(&mut action, &rewrite("/"), None);
        assert_eq!(action.prefix_rewrite, "/");
    }
}
