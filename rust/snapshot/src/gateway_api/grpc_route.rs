//! GRPCRoutes to VirtualServices: a method is a path.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/conversion.go` `convertGRPCRoute`, `createGRPCURIMatch`.

use navarch_model::gateway_api as api;
use navarch_model::{HttpMatchRequest, HttpRoute, Kind, MatchOrAny, StringMatch};

use super::condition::{Fault, Reason};
use super::filter::apply_filters;
use super::http_route::{add_destinations, add_virtual_services, default_name, value_matches};
use super::merge::{ByHost, merge_by_host};
use super::route::{Converted, RouteContext, RouteOutput, RouteOwner, RouteSource};

/// Convert all GRPCRoutes.
pub(super) fn add_grpc_routes(context: &RouteContext<'_>, out: &mut RouteOutput) {
    let mut by_host = ByHost::new();
    for route in context.inputs.objects.grpc_routes.values() {
        let source = RouteSource {
            kind: Kind::GRPCRoute,
            metadata: &route.metadata,
            parent_refs: &route.spec.parent_refs,
            hostnames: &route.spec.hostnames,
        };
        let rules = &route.spec.rules;
        let backends: Vec<_> = rules.iter().flat_map(|rule| &rule.backend_refs).collect();
        let computed = context.compute(&source, &backends, out, |owner| {
            let rules = rules.iter().enumerate();
            let rules = rules.map(|(i, rule)| (default_name(&source, i), rule));
            rules
                .flat_map(|(name, rule)| convert_rule(context, owner, &name, rule))
                .collect()
        });
        add_virtual_services(context, &source, &computed, &mut by_host);
    }
    out.virtual_services.extend(merge_by_host(by_host));
}

fn convert_rule(
    context: &RouteContext<'_>,
    owner: RouteOwner<'_>,
    name: &str,
    rule: &api::GrpcRouteRule,
) -> Vec<Converted<HttpRoute>> {
    let name = rule.name.as_deref().unwrap_or(name);
    let rest = || {
        let mut out = HttpRoute {
            name: name.to_owned(),
            ..HttpRoute::default()
        };
        // Unlike an HTTPRoute's, a mirror that leads nowhere takes the whole route out of force.
        if let Some(fault) = apply_filters(context, owner, &rule.filters, &mut out)? {
            return Err(fault);
        }
        let fault = add_destinations(context, owner, &rule.backend_refs, &mut out)?;
        Ok((out, fault))
    };
    if rule.matches.is_empty() {
        return vec![rest()];
    }
    let with_match = |condition: &api::GrpcRouteMatch| {
        let uri = condition.method.as_ref().map(method_match).transpose()?;
        let headers = value_matches(&condition.headers, "HeaderMatch")?;
        let (mut route, fault) = rest()?;
        route.matches = vec![HttpMatchRequest {
            uri: uri.map(MatchOrAny),
            headers,
            ..HttpMatchRequest::default()
        }];
        Ok((route, fault))
    };
    rule.matches.iter().map(with_match).collect()
}

/// The path of a method: `/service/method`.
fn method_match(condition: &api::GrpcMethodMatch) -> Result<StringMatch, Fault> {
    let is_regex = match condition.match_type.as_deref().unwrap_or("Exact") {
        "Exact" => false,
        "RegularExpression" => true,
        other => {
            let message = format!("unknown type: \"{other}\" is not supported Path match type");
            return Err(Fault::new(Reason::InvalidConfiguration, message));
        }
    };
    match (&condition.service, &condition.method, is_regex) {
        (None, None, _) => {
            let message = "gRPC match must have method or service defined";
            Err(Fault::new(Reason::InvalidConfiguration, message))
        }
        (Some(service), None, false) => Ok(StringMatch::Prefix(format!("/{service}/"))),
        (Some(service), None, true) => Ok(StringMatch::Regex(format!("/{service}/.+"))),
        (None, Some(method), _) => Ok(StringMatch::Regex(format!("/[^/]+/{method}"))),
        (Some(service), Some(method), false) => {
            Ok(StringMatch::Exact(format!("/{service}/{method}")))
        }
        (Some(service), Some(method), true) => {
            Ok(StringMatch::Regex(format!("/{service}/{method}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::StringMatch;
    use navarch_model::gateway_api::GrpcMethodMatch;

    use super::method_match;

    #[test]
    fn methods_are_paths() {
        let of = |kind: &str, service: Option<&str>, method: Option<&str>| {
            method_match(&GrpcMethodMatch {
                match_type: Some(kind.to_owned()),
                service: service.map(str::to_owned),
                method: method.map(str::to_owned),
            })
        };
        let exact = "Exact";
        let regex = "RegularExpression";
        for (kind, service, method, want) in [
            (
                exact,
                Some("s"),
                Some("m"),
                StringMatch::Exact("/s/m".into()),
            ),
            (exact, Some("s"), None, StringMatch::Prefix("/s/".into())),
            (
                exact,
                None,
                Some("m"),
                StringMatch::Regex("/[^/]+/m".into()),
            ),
            (regex, Some("s"), None, StringMatch::Regex("/s/.+".into())),
            (
                regex,
                Some("s"),
                Some("m"),
                StringMatch::Regex("/s/m".into()),
            ),
        ] {
            assert_eq!(of(kind, service, method), Ok(want));
        }
        assert!(of(exact, None, None).is_err());
        assert!(of("Prefix", Some("s"), None).is_err());
    }
}
