//! What a route does: forward, redirect, answer.

use navarch_envoy::envoy::config::core::v3::{DataSource, data_source};
use navarch_envoy::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use navarch_envoy::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, HashPolicy, RequestMirrorPolicy,
};
use navarch_envoy::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use navarch_envoy::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, WeightedCluster,
};
use navarch_envoy::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use navarch_envoy::envoy::r#type::v3::FractionalPercent;
use navarch_envoy::field::envoy::config::route::v3::{route, route_action};
use navarch_envoy::wire::Writer;
use navarch_model::{
    ConsistentHash, Destination, HttpDirectResponse, HttpRedirect, HttpRewrite, HttpRoute,
    HttpRouteDestination, Percent, RouteSemantics,
};

use super::base64::decode_base64;
use super::hash_policy::{build_hash_policy, hash_of_destination};
use super::header::{HeaderMutations, build_header_mutations};
use super::inputs::{DestinationFacts, RouteClient, VirtualServiceRoutes};
use super::report::Report;
use super::retry::encode_retry_policy;
use super::route::retry_of;
use super::route_match::PathMatch;
use super::scalar::{NO_TIMEOUT, duration, fraction, runtime, whole_percent};
use super::string_match::{quote, regex};
use crate::name::{Decimal, outbound_cluster, outbound_parts};

/// A cluster that does not exist: requests get 503.
const UNKNOWN_SERVICE: &str = "UnknownService";

/// A service's port, or a subset of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) host: &'a str,
    pub(super) port: u32,
    subset: &'a str,
}

/// Where requests go, and by what they are hashed.
struct Forward<'a> {
    to: Clusters<'a>,
    hash_policies: Vec<HashPolicy>,
    /// Whether retries must stay with the hashed host.
    is_hashed: bool,
}

enum Clusters<'a> {
    One(Target<'a>),
    Shares(WeightedCluster),
    None,
}

/// Writes the action of one HTTP rule's routes.
pub(super) struct ActionWriter<'a, 'b, 'r> {
    inputs: &'a VirtualServiceRoutes<'a>,
    index: usize,
    http: &'a HttpRoute,
    report: &'b mut Report<'r>,
}

/// A destination's place in its rule.
#[derive(Clone, Copy)]
enum Place {
    Route(usize),
    Mirror,
    Mirrors(usize),
}

impl<'a, 'b, 'r> ActionWriter<'a, 'b, 'r> {
    pub(super) fn new(
        inputs: &'a VirtualServiceRoutes<'a>,
        (index, http): (usize, &'a HttpRoute),
        report: &'b mut Report<'r>,
    ) -> Self {
        Self {
            inputs,
            index,
            http,
            report,
        }
    }

    /// Write what the route does; the service's port that it sends everything to, if it does.
    ///
    /// `path` is what the condition asks for. Of `headers`, the rule's operations, the Host is read, and those of the only
    /// destination are added.
    pub(super) fn write(
        mut self,
        path: PathMatch<'_>,
        headers: &mut HeaderMutations,
        out: &mut Writer,
    ) -> Option<Target<'a>> {
        if let Some(redirect) = &self.http.redirect {
            if let Some(redirect) = build_redirect(redirect, &self.inputs.client) {
                out.tree(route::REDIRECT, &redirect);
            } else {
                let answer = self.refuse_redirect(redirect.redirect_code);
                out.tree(route::DIRECT_RESPONSE, &answer);
            }
            return None;
        }
        if let Some(response) = &self.http.direct_response {
            out.tree(route::DIRECT_RESPONSE, &build_direct_response(response));
            return None;
        }
        let forward = self.build_forward(headers);
        out.message(route::ROUTE, |out| {
            self.write_forward(&forward, (path, headers), out);
        });
        match forward.to {
            Clusters::One(target) => Some(target),
            Clusters::Shares(_) | Clusters::None => None,
        }
    }

    /// The answer in place of a redirect that Envoy can't do; it refuses routes without any.
    fn refuse_redirect(&mut self, code: u32) -> DirectResponseAction {
        self.report.warn(
            "unsupported-redirect-code",
            format!("spec.http[{}].redirect.redirectCode", self.index),
            format!(
                "Envoy does not redirect with {code}, and answers 500; use 301, 302, 303, 307 or 308"
            ),
        );
        DirectResponseAction {
            status: 500,
            ..DirectResponseAction::default()
        }
    }

    /// Write the fields of an action that forwards, in the order of their numbers.
    fn write_forward(
        &mut self,
        forward: &Forward<'a>,
        (path, headers): (PathMatch<'_>, &HeaderMutations),
        out: &mut Writer,
    ) {
        match &forward.to {
            Clusters::One(to) => {
                let port = Decimal::new(to.port);
                let cluster = outbound_parts(port.as_str(), to.subset, to.host);
                out.text(route_action::CLUSTER, &cluster);
            }
            Clusters::Shares(clusters) => out.tree(route_action::WEIGHTED_CLUSTERS, clusters),
            Clusters::None => out.text(route_action::CLUSTER, &[UNKNOWN_SERVICE]),
        }
        let rewrite = self.http.rewrite.as_ref();
        let regex_rewrite = rewrite.and_then(|rewrite| self.regex_rewrite(rewrite, path));
        if let Some(rewrite) = rewrite.filter(|_| regex_rewrite.is_none()) {
            out.text_if_any(route_action::PREFIX_REWRITE, &rewrite.uri);
        }
        let rewritten = rewrite.map(|rewrite| &rewrite.authority);
        let authority = rewritten.filter(|authority| !authority.is_empty());
        if let Some(authority) = authority.or(headers.authority.as_ref()) {
            out.text(route_action::HOST_REWRITE_LITERAL, &[authority]);
        }
        let timeout = self.http.timeout.map_or(NO_TIMEOUT, duration);
        out.tree(route_action::TIMEOUT, &timeout);
        let retry = retry_of(self.http, &self.inputs.client);
        if let Some(retry) = encode_retry_policy(retry, forward.is_hashed) {
            out.encoded(route_action::RETRY_POLICY, &retry);
        }
        out.trees(route_action::HASH_POLICY, &forward.hash_policies);
        if self.inputs.virtual_service.semantics == RouteSemantics::GatewayApi {
            out.varint(
                route_action::CLUSTER_NOT_FOUND_RESPONSE_CODE,
                ClusterNotFoundResponseCode::InternalServerError as u64,
            );
        }
        // Envoy's newer max_stream_duration counts differently for gRPC, so Istio keeps the old field.
        out.tree(route_action::MAX_GRPC_TIMEOUT, &timeout);
        out.trees(route_action::REQUEST_MIRROR_POLICIES, &self.build_mirrors());
        if let Some(regex_rewrite) = &regex_rewrite {
            out.tree(route_action::REGEX_REWRITE, regex_rewrite);
        }
        if rewrite.is_some() && self.inputs.client.viewer.has_forwarded_host {
            out.flag(route_action::APPEND_X_FORWARDED_HOST);
        }
    }

    /// How the path is rewritten where a prefix in place of another does not do (istio route.go `ApplyRewrite`).
    fn regex_rewrite(
        &self,
        rewrite: &HttpRewrite,
        path: PathMatch<'_>,
    ) -> Option<RegexMatchAndSubstitute> {
        if let Some(substitution) = &rewrite.uri_regex_rewrite {
            return Some(RegexMatchAndSubstitute {
                pattern: Some(regex(&substitution.pattern)),
                substitution: substitution.rewrite.clone(),
            });
        }
        // Envoy's own rewrite of a prefix to `/` would leave two slashes.
        is_rewritten_by_match(self.http, self.inputs.virtual_service.semantics).then(|| {
            remove_prefix(match path {
                PathMatch::SeparatedPrefix(prefix) => prefix,
                _ => "",
            })
        })
    }

    fn build_forward(&mut self, headers: &mut HeaderMutations) -> Forward<'a> {
        let http = self.http;
        if let [only] = &http.route[..] {
            headers.add(build_header_mutations(only.headers.as_ref()));
            let hash = self.hash_of(&only.destination);
            let target = self.target_of(&only.destination, Place::Route(0));
            return Forward {
                to: target.map_or(Clusters::None, Clusters::One),
                hash_policies: hash.and_then(build_hash_policy).into_iter().collect(),
                is_hashed: hash.is_some(),
            };
        }
        let mut clusters = Vec::new();
        let mut hash_policies = Vec::new();
        for (i, destination) in http.route.iter().enumerate() {
            let Some(weight) = u32::try_from(destination.weight).ok().filter(|w| *w > 0) else {
                continue;
            };
            clusters.push(self.build_weight((i, destination), weight));
            let hash = self.hash_of(&destination.destination);
            hash_policies.extend(hash.and_then(build_hash_policy));
        }
        let shares = WeightedCluster {
            clusters,
            ..WeightedCluster::default()
        };
        Forward {
            // Envoy refuses an empty list, and with it the whole route configuration.
            to: if shares.clusters.is_empty() {
                Clusters::None
            } else {
                Clusters::Shares(shares)
            },
            hash_policies,
            is_hashed: false,
        }
    }

    fn build_weight(
        &mut self,
        (i, destination): (usize, &'a HttpRouteDestination),
        weight: u32,
    ) -> ClusterWeight {
        let headers = build_header_mutations(destination.headers.as_ref());
        let authority = headers.authority;
        ClusterWeight {
            name: self.cluster_of(&destination.destination, Place::Route(i)),
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

    fn build_mirrors(&mut self) -> Vec<RequestMirrorPolicy> {
        let http = self.http;
        let mut policies = Vec::new();
        if let Some(destination) = &http.mirror {
            let deprecated = http.mirror_percent.map(whole_percent);
            let share = share_of(http.mirror_percentage, deprecated);
            policies.extend(self.build_mirror(destination, share, Place::Mirror));
        }
        for (i, mirror) in http.mirrors.iter().enumerate() {
            let Some(destination) = &mirror.destination else {
                continue;
            };
            let share = share_of(mirror.percentage, None);
            policies.extend(self.build_mirror(destination, share, Place::Mirrors(i)));
        }
        policies
    }

    fn build_mirror(
        &mut self,
        destination: &'a Destination,
        share: FractionalPercent,
        place: Place,
    ) -> Option<RequestMirrorPolicy> {
        (share.numerator > 0).then(|| RequestMirrorPolicy {
            cluster: self.cluster_of(destination, place),
            runtime_fraction: Some(runtime(share)),
            trace_sampled: Some(false),
            disable_shadow_host_suffix_append: true,
            ..RequestMirrorPolicy::default()
        })
    }

    fn facts_of(&self, destination: &Destination) -> Option<&'a DestinationFacts<'a>> {
        self.inputs.destinations.find(&destination.host)
    }

    fn hash_of(&self, destination: &Destination) -> Option<&'a ConsistentHash> {
        let rule = self.facts_of(destination)?.rule?;
        hash_of_destination(rule, destination)
    }

    fn cluster_of(&mut self, destination: &'a Destination, place: Place) -> String {
        self.target_of(destination, place).map_or_else(
            || UNKNOWN_SERVICE.to_owned(),
            |to| outbound_cluster(to.port, to.subset, to.host),
        )
    }

    /// The cluster of a destination (istio route.go `GetDestinationCluster`); `None` where it names no host.
    ///
    /// An unknown destination has a name all the same: its cluster does not exist, so requests get 503.
    fn target_of(&mut self, destination: &'a Destination, place: Place) -> Option<Target<'a>> {
        if destination.host.is_empty() {
            return None;
        }
        let facts = self.facts_of(destination);
        let named = destination.port.map(|port| port.number);
        let port = named
            .or_else(|| facts.and_then(|facts| facts.default_port))
            .unwrap_or(self.inputs.client.port);
        self.report_unknown((destination, port), facts, place);
        let alias = facts.and_then(|facts| facts.alias_of);
        Some(Target {
            host: alias.map_or(&destination.host, |alias| alias.as_str()),
            port,
            subset: &destination.subset,
        })
    }

    fn report_unknown(
        &mut self,
        (destination, port): (&Destination, u32),
        facts: Option<&DestinationFacts<'_>>,
        place: Place,
    ) {
        let host = &destination.host;
        let Some(ports) = facts.and_then(|facts| facts.ports) else {
            self.report.warn(
                "unknown-destination",
                format!("{}.host", self.path_of(place)),
                format!(
                    "no service `{host}` can be seen from namespace `{}`; requests get 503",
                    self.inputs.client.viewer.namespace
                ),
            );
            return;
        };
        if !ports.iter().any(|known| known == port) {
            let ports: Vec<u32> = ports.iter().collect();
            self.report.warn(
                "unknown-port",
                format!("{}.port.number", self.path_of(place)),
                format!("`{host}` has no port {port}, only {ports:?}; requests get 503"),
            );
        }
        let rule = facts.and_then(|facts| facts.rule);
        let subset = &destination.subset;
        let is_known = |subset: &str| {
            rule.is_some_and(|rule| rule.spec.subsets.iter().any(|s| s.name == *subset))
        };
        if !subset.is_empty() && !is_known(subset) {
            self.report.warn(
                "unknown-subset",
                format!("{}.subset", self.path_of(place)),
                format!("no DestinationRule of `{host}` has a subset `{subset}`; requests get 503"),
            );
        }
    }

    /// The field of a destination.
    fn path_of(&self, place: Place) -> String {
        let rule = self.index;
        match place {
            Place::Route(i) => format!("spec.http[{rule}].route[{i}].destination"),
            Place::Mirror => format!("spec.http[{rule}].mirror"),
            Place::Mirrors(i) => format!("spec.http[{rule}].mirrors[{i}].destination"),
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

/// Take a prefix away whole.
fn remove_prefix(prefix: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(regex(&format!("^{}(/?)(.*)", quote(prefix)))),
        // Even of the whole path a slash must be left.
        substitution: r"/\2".to_owned(),
    }
}

/// A redirect (istio route.go `ApplyRedirect`); `None` for a code that Envoy does not have.
fn build_redirect(redirect: &HttpRedirect, client: &RouteClient<'_>) -> Option<RedirectAction> {
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
fn redirect_port(redirect: &HttpRedirect, client: &RouteClient<'_>) -> u32 {
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
    use navarch_model::{HttpRedirect, Labels, Shared};

    use super::super::inputs::{RouteClient, RouteViewer};
    use super::{redirect_port, remove_prefix};

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
                gateway: "mesh",
                port: 8080,
                is_tls,
            };
            assert_eq!(redirect_port(&redirect, &client), want, "{redirect:?}");
        }
    }

    #[test]
    fn a_prefix_is_taken_away_with_its_slash() {
        let substitution = remove_prefix("/a.b");
        assert_eq!(substitution.pattern.unwrap().regex, r"^/a\.b(/?)(.*)");
        assert_eq!(substitution.substitution, r"/\2");
    }
}
