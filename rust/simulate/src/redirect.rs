//! Redirects.
//!
//! Source: Envoy `source/common/router/config_impl.cc` `RouteEntryImplBase::newUri`.

use navarch_envoy::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use navarch_envoy::envoy::config::route::v3::{RedirectAction, RouteMatch};

use crate::http::Stream;
use crate::outcome::Landing;
use crate::path::{split_query, with_query};
use crate::request::split_port;
use crate::rewrite;
use crate::string_match;

/// The answer of a redirect.
pub(crate) fn answer(
    action: &RedirectAction,
    matched: Option<&RouteMatch>,
    stream: &Stream,
) -> Landing {
    let status = match action.response_code() {
        RedirectResponseCode::MovedPermanently => 301,
        RedirectResponseCode::Found => 302,
        RedirectResponseCode::SeeOther => 303,
        RedirectResponseCode::TemporaryRedirect => 307,
        RedirectResponseCode::PermanentRedirect => 308,
    };
    let scheme = match &action.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => "https",
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) if !scheme.is_empty() => scheme,
        _ => stream.scheme,
    };
    let host = host(action, stream, scheme);
    let path = path(action, matched, &stream.path);
    Landing::Response {
        status,
        location: Some(format!("{scheme}://{host}{path}")),
        body: None,
        is_configured: true,
        why: "the route redirects".to_owned(),
    }
}

fn host(action: &RedirectAction, stream: &Stream, scheme: &str) -> String {
    let port = match action.port_redirect {
        0 => String::new(),
        port => format!(":{port}"),
    };
    if !action.host_redirect.is_empty() {
        return format!("{}{port}", action.host_redirect);
    }
    let (bare, own) = split_port(&stream.authority);
    // The old scheme's default port would be wrong for the new one.
    let is_default = matches!(
        (stream.scheme, own, scheme),
        ("http", Some(80), "https") | ("https", Some(443), "http")
    );
    if !port.is_empty() || is_default {
        return format!("{bare}{port}");
    }
    stream.authority.clone()
}

fn path(action: &RedirectAction, matched: Option<&RouteMatch>, whole: &str) -> String {
    let (path, query) = split_query(whole);
    let query = if action.strip_query { "" } else { query };
    match &action.path_rewrite_specifier {
        Some(PathRewriteSpecifier::PathRedirect(to)) if !to.is_empty() => {
            let slash = if to.starts_with('/') { "" } else { "/" };
            // A query of its own goes before the request's.
            let query = if to.contains('?') { "" } else { query };
            with_query(&format!("{slash}{to}"), query)
        }
        Some(PathRewriteSpecifier::PrefixRewrite(by)) if !by.is_empty() => {
            with_query(&rewrite::replace_prefix(path, matched, by), query)
        }
        Some(PathRewriteSpecifier::RegexRewrite(rule)) => {
            let rewritten = string_match::substitute(rule, path);
            with_query(rewritten.as_deref().unwrap_or(path), query)
        }
        _ => with_query(path, query),
    }
}
