//! Rules of several routes for one host of one listener, in the API's order of precedence.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/route_collections.go` `mergeHTTPRoutes`, `conversion.go` `sortHTTPRoutes`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use navarch_model::{HttpRoute, MatchOrAny, Shared, StringMatch, VirtualService};

/// VirtualServices by listener (or namespace and port of the mesh) and host, in the form `a/b/host`.
pub(super) type ByHost = BTreeMap<String, Vec<VirtualService>>;

/// One VirtualService for each key, named after it; the oldest gives place and age.
pub(super) fn merge_by_host(by_host: ByHost) -> Vec<Shared<VirtualService>> {
    let merge = |(key, mut services): (String, Vec<VirtualService>)| {
        services.sort_by(|a, b| order(a).cmp(&order(b)));
        let mut services = services.into_iter();
        let mut merged = services.next().unwrap_or_default();
        merged.metadata.name = key.replace('/', "~");
        for service in services {
            merged.spec.http.extend(service.spec.http);
            for source in service.sources {
                if !merged.sources.contains(&source) {
                    merged.sources.push(source);
                }
            }
        }
        sort_http_routes(&mut merged.spec.http);
        Shared::new(merged)
    };
    by_host.into_iter().map(merge).collect()
}

fn order(service: &VirtualService) -> (i64, &str, &str) {
    let metadata = &service.metadata;
    let created = metadata.creation_timestamp.unwrap_or(i64::MIN);
    (created, &metadata.namespace, &metadata.name)
}

/// Sort rules of one match each: exact paths, then prefixes, then expressions; the longer first; then those with
/// a method, with more headers, with more query parameters. Equal ones stay in order.
pub(super) fn sort_http_routes(routes: &mut [HttpRoute]) {
    routes.sort_by_cached_key(|route| {
        let Some(condition) = route.matches.first() else {
            return (true, Reverse((0, 0, false, 0, 0)));
        };
        let (rank, length) = path_rank(condition.uri.as_ref());
        let has_method = condition.method.is_some();
        let (n_headers, n_params) = (condition.headers.len(), condition.query_params.len());
        (
            false,
            Reverse((rank, length, has_method, n_headers, n_params)),
        )
    });
}

fn path_rank(uri: Option<&MatchOrAny>) -> (i8, usize) {
    match uri.map(|uri| &uri.0) {
        Some(StringMatch::Exact(path)) => (3, path.len()),
        Some(StringMatch::Prefix(path)) => (2, path.len()),
        Some(StringMatch::Regex(pattern)) => (1, pattern.len()),
        Some(StringMatch::Any) | None => (-1, 0),
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::{HttpMatchRequest, HttpRoute, MatchOrAny, StringMatch, VirtualService};

    use super::{ByHost, merge_by_host, sort_http_routes};

    fn rule(name: &str, uri: Option<StringMatch>, method: bool) -> HttpRoute {
        HttpRoute {
            name: name.to_owned(),
            matches: vec![HttpMatchRequest {
                uri: uri.map(MatchOrAny),
                method: method.then(MatchOrAny::default),
                ..HttpMatchRequest::default()
            }],
            ..HttpRoute::default()
        }
    }

    fn names(routes: &[HttpRoute]) -> Vec<&str> {
        routes.iter().map(|route| route.name.as_str()).collect()
    }

    #[test]
    fn rules_come_in_the_order_of_precedence() {
        let prefix = |path: &str| Some(StringMatch::Prefix(path.to_owned()));
        let mut routes = vec![
            HttpRoute {
                name: "all".to_owned(),
                ..HttpRoute::default()
            },
            rule("none", None, false),
            rule("regex", Some(StringMatch::Regex("/long.*".into())), false),
            rule("short", prefix("/a"), false),
            rule("first", prefix("/abc"), false),
            rule("second", prefix("/abc"), false),
            rule("method", prefix("/abc"), true),
            rule("exact", Some(StringMatch::Exact("/a".into())), false),
        ];
        sort_http_routes(&mut routes);
        assert_eq!(
            names(&routes),
            [
                "exact", "method", "first", "second", "short", "regex", "none", "all"
            ]
        );
    }

    #[test]
    fn the_oldest_route_comes_first_and_lends_its_place() {
        let service = |namespace: &str, age: i64| {
            let mut service = VirtualService::default();
            service.metadata.namespace = namespace.to_owned();
            service.metadata.creation_timestamp = Some(age);
            service.spec.http = vec![rule(namespace, None, false)];
            service
        };
        let both = vec![service("young", 2), service("old", 1)];
        let merged = merge_by_host(ByHost::from([("n/g/a.com".to_owned(), both)]));
        assert_eq!(merged[0].metadata.name, "n~g~a.com");
        assert_eq!(merged[0].metadata.namespace, "old");
        assert_eq!(names(&merged[0].spec.http), ["old", "young"]);
    }
}
