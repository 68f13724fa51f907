//! How a route changes the request that it forwards.

use navarch_envoy::envoy::config::core::v3::HeaderValueOption;
use navarch_envoy::envoy::config::route::v3::RouteAction;
use navarch_envoy::envoy::config::route::v3::RouteMatch;
use navarch_envoy::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use navarch_envoy::envoy::config::route::v3::route_match::PathSpecifier;
use prost_types::Duration;

use crate::http::Stream;
use crate::path::{split_query, with_query};
use crate::string_match;

/// The path that goes out.
pub(crate) fn path(action: &RouteAction, matched: Option<&RouteMatch>, whole: &str) -> String {
    let (path, query) = split_query(whole);
    if !action.prefix_rewrite.is_empty() {
        return with_query(
            &replace_prefix(path, matched, &action.prefix_rewrite),
            query,
        );
    }
    if let Some(rule) = &action.regex_rewrite {
        let rewritten = string_match::substitute(rule, path);
        return with_query(rewritten.as_deref().unwrap_or(path), query);
    }
    whole.to_owned()
}

/// What the route matched, replaced by `by`.
pub(crate) fn replace_prefix(path: &str, matched: Option<&RouteMatch>, by: &str) -> String {
    let length = match matched.and_then(|m| m.path_specifier.as_ref()) {
        Some(PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix)) => {
            prefix.len()
        }
        // Of a path or a regex the whole was matched.
        _ => path.len(),
    };
    format!("{by}{}", path.get(length..).unwrap_or_default())
}

/// The authority that goes out, and `None` where the endpoint's own name is taken.
pub(crate) fn authority(action: &RouteAction, stream: &Stream) -> Option<String> {
    match &action.host_rewrite_specifier {
        Some(
            HostRewriteSpecifier::HostRewriteLiteral(host)
            | HostRewriteSpecifier::HostRewrite(host),
        ) => Some(host.clone()),
        Some(HostRewriteSpecifier::AutoHostRewrite(true)) => None,
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => Some(
            stream
                .headers
                .get(&name.to_ascii_lowercase())
                .unwrap_or(&stream.authority)
                .clone(),
        ),
        Some(HostRewriteSpecifier::HostRewritePathRegex(rule)) => {
            let (path, _) = split_query(&stream.path);
            Some(string_match::substitute(rule, path).unwrap_or_else(|| stream.authority.clone()))
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(false)) | None => Some(stream.authority.clone()),
    }
}

/// Changes of request headers, as people write them.
pub(crate) fn header_changes(added: &[HeaderValueOption], removed: &[String]) -> Vec<String> {
    let added = added.iter().filter_map(|option| {
        let header = option.header.as_ref()?;
        Some(format!("+{}: {}", header.key, header.value))
    });
    added
        .chain(removed.iter().map(|name| format!("-{name}")))
        .collect()
}

/// A duration in seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "durations of configuration are small"
)]
pub(crate) fn seconds(duration: &Duration) -> f64 {
    duration.seconds as f64 + f64::from(duration.nanos) / 1e9
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::config::route::v3::route_match::PathSpecifier;
    use navarch_envoy::envoy::config::route::v3::{RouteAction, RouteMatch};

    use super::path;

    #[test]
    fn prefixes_are_replaced_and_queries_kept() {
        let action = RouteAction {
            prefix_rewrite: "/new".to_owned(),
            ..RouteAction::default()
        };
        for (specifier, made) in [
            (PathSpecifier::Prefix("/old".to_owned()), "/new/x?q"),
            (PathSpecifier::Path("/old/x".to_owned()), "/new?q"),
        ] {
            let matched = RouteMatch {
                path_specifier: Some(specifier),
                ..RouteMatch::default()
            };
            assert_eq!(path(&action, Some(&matched), "/old/x?q"), made);
        }
        assert_eq!(path(&RouteAction::default(), None, "/old?q"), "/old?q");
    }
}
