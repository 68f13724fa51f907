//! Filters of HTTP and gRPC rules.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/conversion.go` `createHeadersFilter`, `createRedirectFilter`,
//! `createRewriteFilter`, `createMirrorFilter`, `createCorsFilter`.

use std::collections::BTreeMap;

use navarch_model::gateway_api::{
    Cors, HeaderModifier, HeaderValue, RequestMirror, RequestRedirect, RouteFilter, UrlRewrite,
};
use navarch_model::{
    CorsPolicy, HeaderOperations, HttpMirrorPolicy, HttpRedirect, HttpRewrite, HttpRoute,
    MatchOrAny, Number, Percent, RegexRewrite, Span, StringMatch,
};

use super::backend::resolve_backend;
use super::condition::{Fault, Reason};
use super::route::{RouteContext, RouteOwner};

/// An origin that stands for all: a scheme and an authority.
const ANY_ORIGIN: &str = r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$";

/// Apply filters to a rule; the fault of a mirror leaves the rest in force.
///
/// # Errors
/// A fault for which the whole route is not in force.
pub(super) fn apply_filters(
    context: &RouteContext<'_>,
    owner: RouteOwner<'_>,
    filters: &[RouteFilter],
    out: &mut HttpRoute,
) -> Result<Option<Fault>, Fault> {
    let mut mirror_fault = None;
    for filter in filters {
        let unsupported = || {
            let message = format!("unsupported filter type \"{}\"", filter.filter_type);
            Fault::new(Reason::InvalidFilter, message)
        };
        match filter.filter_type.as_str() {
            "RequestHeaderModifier" => {
                if let Some(modifier) = &filter.request_header_modifier {
                    out.headers.get_or_insert_default().request = Some(header_operations(modifier));
                }
            }
            "ResponseHeaderModifier" => {
                if let Some(modifier) = &filter.response_header_modifier {
                    out.headers.get_or_insert_default().response =
                        Some(header_operations(modifier));
                }
            }
            "RequestMirror" => {
                if let Some(mirror) = &filter.request_mirror {
                    match mirror_policy(context, owner, mirror) {
                        Ok(policy) => out.mirrors.push(policy),
                        Err(fault) => mirror_fault = Some(fault),
                    }
                }
            }
            // gRPC has neither redirects nor rewrites.
            _ if owner.kind == "GRPCRoute" => return Err(unsupported()),
            "RequestRedirect" => out.redirect = filter.request_redirect.as_ref().map(redirect),
            "URLRewrite" => out.rewrite = filter.url_rewrite.as_ref().and_then(rewrite),
            "CORS" => out.cors_policy = filter.cors.as_ref().map(cors_policy),
            _ => return Err(unsupported()),
        }
    }
    Ok(mirror_fault)
}

/// Header operations; names are lower case, and the first of several values counts.
pub(super) fn header_operations(modifier: &HeaderModifier) -> HeaderOperations {
    let map = |headers: &[HeaderValue]| {
        let mut out = BTreeMap::new();
        for header in headers {
            out.entry(header.name.to_ascii_lowercase())
                .or_insert_with(|| header.value.clone());
        }
        out
    };
    HeaderOperations {
        set: map(&modifier.set),
        add: map(&modifier.add),
        remove: modifier.remove.clone(),
    }
}

fn mirror_policy(
    context: &RouteContext<'_>,
    owner: RouteOwner<'_>,
    mirror: &RequestMirror,
) -> Result<HttpMirrorPolicy, Fault> {
    let (destination, fault) = resolve_backend(context, owner, &mirror.backend_ref)?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let fraction = mirror.fraction.as_ref().map(|fraction| {
        100.0 * f64::from(fraction.numerator) / f64::from(fraction.denominator.unwrap_or(100))
    });
    let percent = fraction.or_else(|| mirror.percent.map(f64::from));
    Ok(HttpMirrorPolicy {
        destination: Some(destination),
        percentage: percent.map(|value| Percent {
            value: Number(value),
        }),
    })
}

fn redirect(filter: &RequestRedirect) -> HttpRedirect {
    // Without a port the request's is kept, unless the scheme changes: Istio's own default is another.
    let derived = if filter.scheme.is_some() {
        "FROM_PROTOCOL_DEFAULT"
    } else {
        "FROM_REQUEST_PORT"
    };
    let path = filter.path.as_ref();
    let full = path.filter(|path| path.modifier_type == "ReplaceFullPath");
    let prefix = path.filter(|path| path.modifier_type == "ReplacePrefixMatch");
    HttpRedirect {
        uri: full
            .and_then(|path| path.replace_full_path.clone())
            .unwrap_or_default(),
        prefix_rewrite: prefix
            .and_then(|path| path.replace_prefix_match.clone())
            .unwrap_or_default(),
        authority: filter.hostname.clone().unwrap_or_default(),
        port: filter.port,
        derive_port: filter.port.is_none().then(|| derived.to_owned()),
        scheme: filter.scheme.clone().unwrap_or_default(),
        redirect_code: filter.status_code.unwrap_or_default(),
    }
}

/// A rewrite; `None` where nothing is rewritten. The prefix `/` takes the matched prefix away.
fn rewrite(filter: &UrlRewrite) -> Option<HttpRewrite> {
    let mut out = HttpRewrite {
        authority: filter.hostname.clone().unwrap_or_default(),
        ..HttpRewrite::default()
    };
    if let Some(path) = &filter.path {
        match path.modifier_type.as_str() {
            "ReplacePrefixMatch" => {
                let prefix = path.replace_prefix_match.as_deref().unwrap_or_default();
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                let prefix = if prefix.is_empty() { "/" } else { prefix };
                prefix.clone_into(&mut out.uri);
            }
            "ReplaceFullPath" => {
                out.uri_regex_rewrite = Some(RegexRewrite {
                    pattern: "/.*".to_owned(),
                    rewrite: path.replace_full_path.clone().unwrap_or_default(),
                });
            }
            _ => {}
        }
    }
    (out != HttpRewrite::default()).then_some(out)
}

fn cors_policy(filter: &Cors) -> CorsPolicy {
    let origins = filter.allow_origins.iter();
    CorsPolicy {
        allow_origins: origins
            .filter(|origin| !origin.is_empty())
            .map(|origin| MatchOrAny(origin_match(origin)))
            .collect(),
        allow_methods: filter.allow_methods.clone(),
        allow_headers: filter.allow_headers.clone(),
        expose_headers: filter.expose_headers.clone(),
        max_age: (filter.max_age > 0).then(|| Span::from_seconds(filter.max_age)),
        allow_credentials: (filter.allow_credentials == Some(true)).then_some(true),
        unmatched_preflights: "IGNORE".to_owned(),
        ..CorsPolicy::default()
    }
}

/// An origin; a star in it stands for any characters.
fn origin_match(origin: &str) -> StringMatch {
    if origin == "*" {
        return StringMatch::Regex(ANY_ORIGIN.to_owned());
    }
    if !origin.contains('*') {
        return StringMatch::Exact(origin.to_owned());
    }
    let parts: Vec<String> = origin.split('*').map(quote).collect();
    StringMatch::Regex(format!("^{}$", parts.join(".*")))
}

/// The text as a regular expression of itself (Go's `regexp.QuoteMeta`).
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use navarch_model::StringMatch;
    use navarch_model::gateway_api::{HeaderModifier, HeaderValue, PathModifier, UrlRewrite};

    use super::{header_operations, origin_match, redirect, rewrite};

    #[test]
    fn the_first_of_equal_headers_counts() {
        let header = |name: &str, value: &str| HeaderValue {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let operations = header_operations(&HeaderModifier {
            set: vec![header("X-A", "1"), header("x-a", "2")],
            ..HeaderModifier::default()
        });
        let set: Vec<_> = operations.set.into_iter().collect();
        assert_eq!(set, [("x-a".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn rewrites_of_prefixes_end_without_a_slash() {
        let of = |prefix: &str| {
            rewrite(&UrlRewrite {
                hostname: None,
                path: Some(PathModifier {
                    modifier_type: "ReplacePrefixMatch".to_owned(),
                    replace_prefix_match: Some(prefix.to_owned()),
                    ..PathModifier::default()
                }),
            })
            .map(|rewrite| rewrite.uri)
        };
        assert_eq!(of("/a/").as_deref(), Some("/a"));
        assert_eq!(of("/").as_deref(), Some("/"));
        assert_eq!(of("").as_deref(), Some("/"));
        assert_eq!(rewrite(&UrlRewrite::default()), None);
    }

    #[test]
    fn redirects_keep_the_port_unless_the_scheme_changes() {
        let mut filter = navarch_model::gateway_api::RequestRedirect::default();
        let derived = redirect(&filter).derive_port;
        assert_eq!(derived.as_deref(), Some("FROM_REQUEST_PORT"));
        filter.scheme = Some("https".to_owned());
        let derived = redirect(&filter).derive_port;
        assert_eq!(derived.as_deref(), Some("FROM_PROTOCOL_DEFAULT"));
        filter.port = Some(8443);
        assert_eq!(redirect(&filter).derive_port, None);
    }

    #[test]
    fn stars_in_origins_become_expressions() {
        let regex = |text: &str| StringMatch::Regex(text.to_owned());
        assert_eq!(
            origin_match("https://*.b.com"),
            regex(r"^https://.*\.b\.com$")
        );
        assert_eq!(
            origin_match("https://a.com"),
            StringMatch::Exact("https://a.com".to_owned())
        );
    }
}
