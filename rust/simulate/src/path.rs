//! Normalisation of paths, as the HTTP connection manager is told to do it.
//!
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto>
//! `normalize_path`, `merge_slashes`, `path_with_escaped_slashes_action`.

use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::PathWithEscapedSlashesAction as Action;

use crate::outcome::{End, Landing, failed};

/// The path and the query, without a fragment.
pub(crate) fn split_query(path: &str) -> (&str, &str) {
    let whole = path.split('#').next().unwrap_or_default();
    whole.split_once('?').unwrap_or((whole, ""))
}

/// The path with its query after normalisation.
pub(crate) fn normalize(manager: &HttpConnectionManager, whole: &str) -> Result<String, End> {
    if whole.contains('#') {
        // RFC 9112, 3.2: a fragment is the client's own.
        return Err(failed(400, "the path has a fragment"));
    }
    let (path, query) = split_query(whole);
    let mut path = path.to_owned();
    let is_escaped = ["%2f", "%2F", "%5c", "%5C"]
        .iter()
        .any(|escape| path.contains(escape));
    if is_escaped {
        let unescaped = unescape(&path);
        match manager.path_with_escaped_slashes_action() {
            Action::RejectRequest => {
                return Err(failed(
                    400,
                    "the path has escaped slashes, which are rejected",
                ));
            }
            Action::UnescapeAndRedirect => return Err(redirected(&with_query(&unescaped, query))),
            Action::UnescapeAndForward => path = unescaped,
            Action::ImplementationSpecificDefault | Action::KeepUnchanged => {}
        }
    }
    if manager.normalize_path == Some(true) {
        if path.contains("%00") {
            return Err(failed(400, "the path has an escaped NUL"));
        }
        path = without_dots(&canonical(&without_dot_parameters(&path)));
    }
    if manager.merge_slashes {
        while path.contains("//") {
            path = path.replace("//", "/");
        }
    }
    Ok(with_query(&path, query))
}

/// A path and a query as one.
pub(crate) fn with_query(path: &str, query: &str) -> String {
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

fn redirected(location: &str) -> End {
    Box::new(Landing::Response {
        status: 307,
        location: Some(location.to_owned()),
        body: None,
        is_configured: true,
        why: "the path has escaped slashes, which are redirected".to_owned(),
    })
}

fn unescape(path: &str) -> String {
    path.replace("%2f", "/")
        .replace("%2F", "/")
        .replace("%5c", "\\")
        .replace("%5C", "\\")
}

/// `..;x` and `.;x` as dot segments, which they are to servers that drop parameters; only where dots are plain.
fn without_dot_parameters(path: &str) -> String {
    let bare = |segment: &str| match segment.split_once(';') {
        Some((dots @ ("." | ".."), _)) => dots.to_owned(),
        _ => segment.to_owned(),
    };
    let segments: Vec<String> = path.split('/').map(bare).collect();
    segments.join("/")
}

/// As Envoy's URL parser (Chromium's) writes a path: unreserved characters plain, others that are no URL's escaped.
fn canonical(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        match (escaped, byte) {
            (Some(plain), _) if is_unreserved(plain) => {
                out.push(char::from(plain));
                rest = &rest[2..];
            }
            (None, b'\\') => out.push('/'),
            (None, b' ' | b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | 0..=31 | 127..) => {
                out.extend(format!("%{byte:02X}").chars());
            }
            _ => out.push(char::from(*byte)),
        }
    }
    out
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Dot segments removed (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let last = segments.len().saturating_sub(1);
    for (at, segment) in segments.iter().enumerate() {
        match *segment {
            "." if at == last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if at == last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;

    use super::normalize;

    #[test]
    fn dots_and_slashes_go_where_told() {
        let manager = HttpConnectionManager {
            normalize_path: Some(true),
            merge_slashes: true,
            ..HttpConnectionManager::default()
        };
        for (given, made) in [
            ("/a/../b?c=/../d", "/b?c=/../d"),
            ("/a/./b//c/..", "/a/b/"),
            ("/../a", "/a"),
            ("/%61/%2e%2E/%7e{", "/~%7B"),
            ("/a/..;x/b;y/.;", "/b;y/"),
            ("/a/%2e%2e;/b", "/a/..;/b"),
        ] {
            assert_eq!(normalize(&manager, given).unwrap(), made);
        }
        assert!(normalize(&manager, "/a#f").is_err());
        assert!(normalize(&manager, "/a%00").is_err());
        assert_eq!(
            normalize(&HttpConnectionManager::default(), "/a//../b").unwrap(),
            "/a//../b"
        );
    }
}
