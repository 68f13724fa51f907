//! ProxyConfig.connectionSettings over a connection manager.
//!
//! Source: istio `pilot/pkg/networking/core/connection_settings.go`.

use navarch_envoy::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use navarch_envoy::envoy::config::core::v3::{Http2ProtocolOptions, HttpProtocolOptions};
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::PathWithEscapedSlashesAction;
use navarch_model::{ConnectionSettings, ProxyKind, Span};

use super::facts::duration;

/// The settings in force: on gateways the profile EDGE fills in Envoy's advice for what stands at the edge.
pub(super) fn effective(settings: &ConnectionSettings, kind: ProxyKind) -> ConnectionSettings {
    let mut settings = settings.clone();
    if settings.profile != "EDGE" || kind != ProxyKind::Router {
        return settings;
    }
    let limit = |value: &mut Option<u32>, edge: u32| *value = value.or(Some(edge));
    limit(
        &mut settings.listener_per_connection_buffer_limit_bytes,
        32 * 1024,
    );
    limit(
        &mut settings.cluster_per_connection_buffer_limit_bytes,
        32 * 1024,
    );
    limit(&mut settings.http_max_concurrent_streams, 100);
    limit(&mut settings.http2_initial_stream_window_size, 64 * 1024);
    limit(
        &mut settings.http2_initial_connection_window_size,
        1024 * 1024,
    );
    let timeout = |value: &mut Option<Span>, seconds: i64| {
        *value = value.or(Some(Span::from_seconds(seconds)));
    };
    timeout(&mut settings.http_idle_timeout, 3600);
    timeout(&mut settings.http_stream_idle_timeout, 300);
    timeout(&mut settings.http_request_timeout, 300);
    timeout(&mut settings.http_request_headers_timeout, 60);
    settings.http_merge_slashes = settings.http_merge_slashes.or(Some(true));
    if underscores(&settings.http_headers_with_underscores_action).is_none() {
        "REJECT_REQUEST".clone_into(&mut settings.http_headers_with_underscores_action);
    }
    if escaped_slashes(&settings.http_path_with_escaped_slashes_action).is_none() {
        "UNESCAPE_AND_REDIRECT".clone_into(&mut settings.http_path_with_escaped_slashes_action);
    }
    settings
}

/// Put what is set over what the connection manager has.
pub(super) fn apply(
    manager: &mut HttpConnectionManager,
    settings: Option<&ConnectionSettings>,
    kind: ProxyKind,
) {
    let Some(settings) = settings else {
        return;
    };
    let settings = effective(settings, kind);
    apply_common(manager, &settings);
    apply_http2(manager, &settings);
    let timeouts = [
        (
            &mut manager.stream_idle_timeout,
            settings.http_stream_idle_timeout,
        ),
        (&mut manager.request_timeout, settings.http_request_timeout),
        (
            &mut manager.request_headers_timeout,
            settings.http_request_headers_timeout,
        ),
        (&mut manager.drain_timeout, settings.http_drain_timeout),
    ];
    for (target, value) in timeouts {
        if let Some(value) = value {
            *target = Some(duration(value));
        }
    }
    if let Some(is_merged) = settings.http_merge_slashes {
        manager.merge_slashes = is_merged;
    }
    if let Some(action) = escaped_slashes(&settings.http_path_with_escaped_slashes_action) {
        manager.path_with_escaped_slashes_action = action as i32;
    }
}

fn apply_common(manager: &mut HttpConnectionManager, settings: &ConnectionSettings) {
    let underscores = underscores(&settings.http_headers_with_underscores_action);
    let idle = settings.http_idle_timeout;
    let longest = settings.http_max_connection_duration;
    let stream = settings.http_max_stream_duration;
    if idle.or(longest).or(stream).is_none() && underscores.is_none() {
        return;
    }
    let mut options: HttpProtocolOptions = manager
        .common_http_protocol_options
        .take()
        .unwrap_or_default();
    options.idle_timeout = idle.map(duration).or(options.idle_timeout);
    options.max_connection_duration = longest.map(duration);
    options.max_stream_duration = stream.map(duration);
    if let Some(action) = underscores {
        options.headers_with_underscores_action = action as i32;
    }
    manager.common_http_protocol_options = Some(options);
}

fn apply_http2(manager: &mut HttpConnectionManager, settings: &ConnectionSettings) {
    let streams = settings.http_max_concurrent_streams;
    let window = settings.http2_initial_stream_window_size;
    let connection = settings.http2_initial_connection_window_size;
    if streams.or(window).or(connection).is_none() {
        return;
    }
    let mut options: Http2ProtocolOptions =
        manager.http2_protocol_options.take().unwrap_or_default();
    options.max_concurrent_streams = streams.or(options.max_concurrent_streams);
    options.initial_stream_window_size = window.or(options.initial_stream_window_size);
    options.initial_connection_window_size = connection.or(options.initial_connection_window_size);
    manager.http2_protocol_options = Some(options);
}

fn underscores(name: &str) -> Option<HeadersWithUnderscoresAction> {
    Some(match name.trim_start_matches("HEADERS_WITH_UNDERSCORES_") {
        "ALLOW" => HeadersWithUnderscoresAction::Allow,
        "REJECT_REQUEST" => HeadersWithUnderscoresAction::RejectRequest,
        "DROP_HEADER" => HeadersWithUnderscoresAction::DropHeader,
        _ => return None,
    })
}

fn escaped_slashes(name: &str) -> Option<PathWithEscapedSlashesAction> {
    Some(match name {
        "KEEP_UNCHANGED" => PathWithEscapedSlashesAction::KeepUnchanged,
        "REJECT_REQUEST" => PathWithEscapedSlashesAction::RejectRequest,
        "UNESCAPE_AND_REDIRECT" => PathWithEscapedSlashesAction::UnescapeAndRedirect,
        "UNESCAPE_AND_FORWARD" => PathWithEscapedSlashesAction::UnescapeAndForward,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use navarch_model::{ConnectionSettings, ProxyKind, Span};

    use super::effective;

    #[test]
    fn the_edge_profile_fills_only_gaps_and_only_on_gateways() {
        let settings = ConnectionSettings {
            profile: "EDGE".into(),
            http_idle_timeout: Some(Span::from_seconds(7)),
            ..ConnectionSettings::default()
        };
        let edge = effective(&settings, ProxyKind::Router);
        assert_eq!(edge.http_idle_timeout, Some(Span::from_seconds(7)));
        assert_eq!(edge.http_max_concurrent_streams, Some(100));
        assert_eq!(effective(&settings, ProxyKind::Sidecar), settings);
    }
}
