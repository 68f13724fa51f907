//! Routes: of a VirtualService for one listener, of a service without one.

use std::sync::LazyLock;

use navarch_envoy::any::pack;
use navarch_envoy::envoy::config::route::v3::route::Action;
use navarch_envoy::envoy::config::route::v3::{Decorator, Route, RouteAction};
use navarch_envoy::field::envoy::config::route::v3::{decorator, route, route_action};
use navarch_envoy::wire::{Template, Writer};
use navarch_model::{
    ConsistentHash, Diagnostic, HttpMatchRequest, HttpRetry, HttpRoute, RouteSemantics,
    VirtualService, is_selected,
};

use super::action::{ActionWriter, is_rewritten_by_match};
use super::cors::build_cors;
use super::fault::build_fault;
use super::hash_policy::build_hash_policy;
use super::header::{HeaderMutations, build_header_mutations};
use super::inputs::{RouteClient, ServiceRoute, VirtualServiceRoutes};
use super::report::Report;
use super::retry::build_retry_policy;
use super::route_match::{Matcher, match_everything};
use super::scalar::NO_TIMEOUT;
use super::wire::{RouteList, ServiceParts};
use crate::istio_metadata::write_config_metadata;
use crate::name::{Decimal, outbound_parts};

/// The name of the only route of a service without a VirtualService.
const DEFAULT_ROUTE: &str = "default";

/// What the routes of one rule have in common, encoded.
struct RuleParts<'a> {
    /// What they do.
    action: Writer,
    /// Header operations, and settings of filters.
    rest: Writer,
    /// What traces call them, up to the path: the destination where there is one, else the VirtualService
    /// (istio `GetRouteOperation`).
    subject: &'a str,
    port: Decimal,
}

/// The routes of a VirtualService, in its order, up to the first that catches everything
/// (istio route.go `BuildHTTPRoutesForVirtualService`).
pub(super) fn add_routes(
    routes: &mut RouteList,
    inputs: &VirtualServiceRoutes<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let metadata = &inputs.virtual_service.metadata;
    let mut origin = Writer::with_capacity(192);
    let names = (metadata.namespace.as_str(), metadata.name.as_str());
    write_config_metadata(route::METADATA, "virtual-service", names, &mut origin);
    let mut adding = Adding {
        routes,
        inputs,
        origin: origin.as_slice(),
        report: Report::new(inputs.virtual_service, diagnostics),
    };
    let rules = &inputs.virtual_service.spec.http;
    let end = (0..rules.len()).find(|i| adding.add_rule((*i, &rules[*i])));
    if let Some(i) = end
        && (rules[i].matches.is_empty() || rules[i].matches.iter().any(is_for_everybody))
    {
        report_unreachable(inputs, i, &mut adding.report);
    }
}

/// Whether the VirtualService has any route for the client; without one its hosts go on as if it were not there.
pub(super) fn has_routes(virtual_service: &VirtualService, client: &RouteClient<'_>) -> bool {
    virtual_service.spec.http.iter().any(|http| {
        http.matches.is_empty() || http.matches.iter().any(|m| is_for_client(m, client))
    })
}

/// Add the only route of a service without a VirtualService.
pub(super) fn add_service_route(routes: &mut RouteList, inputs: &ServiceRoute<'_>) {
    static PLAIN: LazyLock<ServiceParts> = LazyLock::new(|| service_parts(None, None));
    let (hash, retry) = (&inputs.consistent_hash, &inputs.default_retry);
    let own;
    let parts = if hash.is_none() && retry.is_none() {
        &*PLAIN
    } else {
        own = service_parts(*hash, *retry);
        &own
    };
    let port = Decimal::new(inputs.port);
    let host = inputs.hostname.as_str();
    let cluster = outbound_parts(port.as_str(), "", host);
    routes.push_service(parts, &cluster, &[host, ":", port.as_str(), "/*"]);
}

/// The only route of services without a VirtualService (istio route.go `BuildDefaultHTTPOutboundRoute`).
fn service_parts(hash: Option<&ConsistentHash>, retry: Option<&HttpRetry>) -> ServiceParts {
    let mut action = RouteAction {
        retry_policy: build_retry_policy(retry, false),
        timeout: Some(NO_TIMEOUT),
        max_grpc_timeout: Some(NO_TIMEOUT),
        ..RouteAction::default()
    };
    action.hash_policy.extend(hash.and_then(build_hash_policy));
    let route = Route {
        decorator: None,
        action: None,
        ..default_route("", RouteAction::default())
    };
    ServiceParts {
        route: Template::of(&route, route::ONEOFS),
        action: Template::of(&action, route_action::ONEOFS),
    }
}

/// The route `default` that takes everything.
pub(super) fn default_route(operation: &str, action: RouteAction) -> Route {
    Route {
        name: DEFAULT_ROUTE.to_owned(),
        r#match: Some(match_everything()),
        decorator: Some(Decorator {
            operation: operation.to_owned(),
            propagate: None,
        }),
        action: Some(Action::Route(action)),
        ..Route::default()
    }
}

/// Adds the routes of a VirtualService.
struct Adding<'a, 'r> {
    routes: &'r mut RouteList,
    inputs: &'a VirtualServiceRoutes<'a>,
    /// The metadata that tell of the VirtualService, encoded.
    origin: &'r [u8],
    report: Report<'r>,
}

impl<'a> Adding<'a, '_> {
    /// Add the routes of one HTTP rule; whether the last of them catches everything.
    fn add_rule(&mut self, (index, http): (usize, &'a HttpRoute)) -> bool {
        if http.matches.is_empty() {
            let matcher = Matcher::everything();
            let parts = self.build_parts((index, http), &matcher);
            self.add_route(&parts, &matcher, (&http.name, None));
            return true;
        }
        let semantics = self.inputs.virtual_service.semantics;
        let is_shared = !is_rewritten_by_match(http, semantics);
        let mut shared = None;
        let client = &self.inputs.client;
        for condition in http.matches.iter().filter(|m| is_for_client(m, client)) {
            let matcher = Matcher::new(condition, semantics);
            let parts = match &mut shared {
                Some(known) if is_shared => known,
                other => other.insert(self.build_parts((index, http), &matcher)),
            };
            self.add_route(parts, &matcher, (&http.name, Some(condition)));
            if matcher.is_catch_all() {
                return true;
            }
        }
        false
    }

    /// What the routes of a rule have in common, whatever their conditions.
    fn build_parts(
        &mut self,
        (index, http): (usize, &'a HttpRoute),
        matcher: &Matcher<'_>,
    ) -> RuleParts<'a> {
        let mut headers = build_header_mutations(http.headers.as_ref());
        let mut action = Writer::with_capacity(512);
        let writer = ActionWriter::new(self.inputs, (index, http), &mut self.report);
        let target = writer.write(matcher.path, &mut headers, &mut action);
        let mut rest = Writer::default();
        write_rest(&headers, http, &mut rest);
        let virtual_service = || {
            let name = self.inputs.virtual_service.metadata.name.as_str();
            (name, self.inputs.client.port)
        };
        let (subject, port) = target.map_or_else(virtual_service, |to| (to.host, to.port));
        RuleParts {
            action,
            rest,
            subject,
            port: Decimal::new(port),
        }
    }

    /// Add the route of one condition: its fields in the order of their numbers.
    fn add_route(
        &mut self,
        rule: &RuleParts<'_>,
        matcher: &Matcher<'_>,
        (rule_name, condition): (&str, Option<&HttpMatchRequest>),
    ) {
        self.routes.push(matcher.is_catch_all(), |out| {
            out.message(route::MATCH, |out| matcher.write(out));
            out.append(rule.action.as_slice());
            out.append(self.origin);
            out.message(route::DECORATOR, |out| {
                let [path, rest] = matcher.path_label();
                let operation = [rule.subject, ":", rule.port.as_str(), path, rest];
                out.text(decorator::OPERATION, &operation);
            });
            out.append(rule.rest.as_slice());
            match condition.map_or("", |condition| &condition.name) {
                "" => out.text_if_any(route::NAME, rule_name),
                own => out.text(route::NAME, &[rule_name, ".", own]),
            }
            out.text_if_any(route::STAT_PREFIX, condition.map_or("", |c| &c.stat_prefix));
        });
    }
}

/// Write the fields of a route between decorator and name, in the order of their numbers.
fn write_rest(headers: &HeaderMutations, http: &HttpRoute, out: &mut Writer) {
    out.trees(route::REQUEST_HEADERS_TO_ADD, &headers.request_add);
    out.trees(route::RESPONSE_HEADERS_TO_ADD, &headers.response_add);
    for name in &headers.response_remove {
        out.text(route::RESPONSE_HEADERS_TO_REMOVE, &[name]);
    }
    for name in &headers.request_remove {
        out.text(route::REQUEST_HEADERS_TO_REMOVE, &[name]);
    }
    // By name.
    if let Some(policy) = &http.cors_policy {
        write_filter("envoy.filters.http.cors", &build_cors(policy), out);
    }
    if let Some(fault) = http.fault.as_ref().and_then(build_fault) {
        write_filter("envoy.filters.http.fault", &fault, out);
    }
}

/// Write a filter's settings for one route.
fn write_filter<M: prost::Message + prost::Name>(name: &str, settings: &M, out: &mut Writer) {
    out.map_entry(route::TYPED_PER_FILTER_CONFIG, name, &pack(settings));
}

/// Whether the parts of a condition that are known beforehand hold: port, gateways, the client's labels and namespace.
///
/// Where a condition names gateways, labels and namespace do not count.
fn is_for_client(condition: &HttpMatchRequest, client: &RouteClient<'_>) -> bool {
    if condition.port != 0 && condition.port != client.port {
        return false;
    }
    if !condition.gateways.is_empty() {
        return condition
            .gateways
            .iter()
            .any(|name| **name == *client.gateway);
    }
    let namespace = &condition.source_namespace;
    is_selected(&condition.source_labels, &client.viewer.labels)
        && (namespace.is_empty() || **namespace == *client.viewer.namespace)
}

/// Whether a condition matches every request of every client.
fn is_for_everybody(condition: &HttpMatchRequest) -> bool {
    condition.port == 0
        && condition.gateways.is_empty()
        && condition.source_labels.is_empty()
        && condition.source_namespace.is_empty()
        && Matcher::new(condition, RouteSemantics::Istio).is_catch_all()
}

/// Tell of the rules behind the one that catches everything.
fn report_unreachable(inputs: &VirtualServiceRoutes<'_>, index: usize, report: &mut Report<'_>) {
    for i in index + 1..inputs.virtual_service.spec.http.len() {
        report.warn(
            "unreachable-route",
            format!("spec.http[{i}]"),
            format!("never reached: spec.http[{index}] matches every request; move it to the end"),
        );
    }
}

/// The retry policy of a rule: its own, else the mesh's.
pub(super) fn retry_of<'a>(
    http: &'a HttpRoute,
    client: &'a RouteClient<'_>,
) -> Option<&'a HttpRetry> {
    http.retries
        .as_ref()
        .or(client.viewer.default_retry.as_deref())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use navarch_model::{
        Destination, HttpMatchRequest, HttpRoute, HttpRouteDestination, Labels, MatchOrAny, Shared,
        StringMatch, VirtualService,
    };

    use super::super::inputs::{RouteClient, RouteViewer, VirtualServiceRoutes};
    use super::super::wire::RouteList;
    use super::{add_routes, has_routes, is_for_client};

    fn client() -> RouteClient<'static> {
        RouteClient {
            viewer: Shared::new(RouteViewer {
                namespace: "shop".into(),
                labels: Labels::from([("app".to_owned(), "web".to_owned())]),
                has_forwarded_host: false,
                default_retry: None,
            }),
            gateway: "mesh",
            port: 80,
            is_tls: false,
        }
    }

    fn rule(path: &str) -> HttpRoute {
        let destination = Destination {
            host: "a.shop.svc.cluster.local".to_owned(),
            ..Destination::default()
        };
        HttpRoute {
            matches: vec![HttpMatchRequest {
                uri: Some(MatchOrAny(StringMatch::Prefix(path.to_owned()))),
                ..HttpMatchRequest::default()
            }],
            route: vec![HttpRouteDestination {
                destination,
                ..HttpRouteDestination::default()
            }],
            ..HttpRoute::default()
        }
    }

    #[test]
    fn conditions_known_beforehand_choose_the_routes() {
        let is = |change: &dyn Fn(&mut HttpMatchRequest)| {
            let mut condition = HttpMatchRequest::default();
            change(&mut condition);
            is_for_client(&condition, &client())
        };
        let label = |value: &str| Labels::from([("app".to_owned(), value.to_owned())]);
        assert!(is(&|_| ()));
        assert!(is(&|c| c.port = 80));
        assert!(!is(&|c| c.port = 81));
        assert!(is(&|c| c.source_labels = label("web")));
        assert!(!is(&|c| c.source_labels = label("job")));
        assert!(!is(&|c| c.source_namespace = "other".to_owned()));
        assert!(!is(&|c| c.gateways = vec!["shop/gw".to_owned()]));
        assert!(is(&|c| {
            c.gateways = vec!["mesh".to_owned()];
            c.source_labels = label("job");
        }));
    }

    #[test]
    fn nothing_follows_a_route_that_catches_everything() {
        let mut virtual_service = VirtualService::default();
        virtual_service.spec.http = vec![rule("/a"), rule("/"), rule("/late")];
        assert!(has_routes(&virtual_service, &client()));
        let inputs = VirtualServiceRoutes {
            virtual_service: &Shared::new(virtual_service),
            client: client(),
            destinations: Arc::default(),
        };
        let mut diagnostics = Vec::new();
        let mut routes = RouteList::new(false);
        add_routes(&mut routes, &inputs, &mut diagnostics);
        assert_eq!(routes.messages().len(), 2);
        let unreachable = diagnostics.iter().filter(|d| d.code == "unreachable-route");
        let paths: Vec<_> = unreachable.map(|d| d.field_path.as_str()).collect();
        assert_eq!(paths, ["spec.http[2]"]);
    }
}
