//! Connection limits, keepalive, and the HTTP protocol towards an upstream.
//!
//! Source: istio `pilot/pkg/networking/core/cluster_traffic_policy.go` `applyConnectionPool`, `cluster_builder.go`
//! `setUpstreamProtocol`.

use navarch_envoy::any;
use navarch_envoy::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, UpstreamConnectionOptions,
    circuit_breakers::{Thresholds, thresholds},
};
use navarch_envoy::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonHttpProtocolOptions,
    KeepaliveSettings, TcpKeepalive, TypedExtensionConfig, UpstreamHttpProtocolOptions,
    http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat},
};
use navarch_envoy::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use navarch_envoy::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        self, ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
        explicit_http_config::ProtocolConfig,
    },
};
use navarch_envoy::envoy::r#type::v3::Percent;
use navarch_model::{
    self as model, ConnectionPoolSettings, Number, Protocol, ProxyKind, RetryBudget,
};
use prost::Name;

use super::protobuf::duration;
use super::settings::{ClusterClient, ClusterSettings};

/// Envoy's default for the share of retries, in percent, and for the count that is always allowed.
const RETRY_BUDGET_PERCENT: f64 = 20.0;
const RETRY_BUDGET_CONCURRENCY: u32 = 3;

/// The HTTP protocol towards an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpstreamProtocol {
    /// Nothing is said: HTTP/1.1.
    Unset,
    /// HTTP/1.1, said because of its header format.
    Http1,
    /// HTTP/2.
    Http2,
    /// As the downstream's.
    Downstream,
}

impl UpstreamProtocol {
    /// The protocol of a port, before any policy.
    pub(super) fn of_port(client: &ClusterClient, protocol: Protocol) -> Self {
        if protocol.is_http2() {
            Self::Http2
        } else if client.kind == ProxyKind::Sidecar && protocol.is_unsupported() {
            Self::Downstream
        } else if client.is_header_case_preserved
            && (protocol.is_http() || protocol.is_unsupported())
        {
            Self::Http1
        } else {
            Self::Unset
        }
    }

    /// The protocol after `h2UpgradePolicy` of the pool and of the mesh, which is for outbound clusters only.
    #[must_use]
    pub(super) fn upgraded(
        self,
        settings: &ClusterSettings,
        protocol: Protocol,
        pool: Option<&ConnectionPoolSettings>,
    ) -> Self {
        let policy = pool
            .and_then(|pool| pool.http.as_ref())
            .map(|http| &*http.h2_upgrade_policy);
        let is_upgraded = match policy {
            Some("UPGRADE") => true,
            Some("DO_NOT_UPGRADE") => false,
            _ => settings.is_h2_upgraded && protocol.is_http(),
        };
        // What the port's own protocol says already, an upgrade leaves as it is.
        if is_upgraded && self == Self::Unset {
            Self::Http2
        } else {
            self
        }
    }

    /// The protocol after `useClientProtocol` of the pool.
    #[must_use]
    pub(super) fn with_pool(self, pool: Option<&ConnectionPoolSettings>) -> Self {
        let http = pool.and_then(|pool| pool.http.as_ref());
        if http.is_some_and(|http| http.use_client_protocol) {
            Self::Downstream
        } else {
            self
        }
    }
}

/// The HTTP side of a cluster while it is built.
#[derive(Debug, Clone)]
pub(super) struct HttpSide {
    protocol: UpstreamProtocol,
    is_header_case_preserved: bool,
    common: Option<CommonHttpProtocolOptions>,
    max_concurrent_streams: Option<u32>,
    keepalive: Option<KeepaliveSettings>,
    /// Automatic SNI and subject check, which TLS origination sets.
    pub upstream: Option<UpstreamHttpProtocolOptions>,
    /// Which responses count as errors.
    pub outlier_detection: Option<http_protocol_options::OutlierDetection>,
}

impl HttpSide {
    /// The HTTP side of a protocol and a pool.
    pub(super) fn new(
        client: &ClusterClient,
        protocol: UpstreamProtocol,
        pool: Option<&ConnectionPoolSettings>,
    ) -> Self {
        let http = pool.and_then(|pool| pool.http.as_ref());
        let tcp = pool.and_then(|pool| pool.tcp.as_ref());
        let positive = |value: i32| u32::try_from(value).ok().filter(|value| *value > 0);
        let idle = http
            .and_then(|h| h.idle_timeout)
            .or(tcp.and_then(|t| t.idle_timeout));
        let max_duration = tcp.and_then(|t| t.max_connection_duration);
        let max_requests = http.and_then(|h| positive(h.max_requests_per_connection));
        let max_concurrent_streams = http.and_then(|h| positive(h.max_concurrent_streams));
        let keepalive = http.and_then(|h| h.http2_keep_alive.as_ref());
        let is_set = idle.is_some()
            || max_duration.is_some()
            || max_requests.is_some()
            || max_concurrent_streams.is_some()
            || keepalive.is_some();
        Self {
            protocol: protocol.with_pool(pool),
            is_header_case_preserved: client.is_header_case_preserved,
            common: is_set.then(|| CommonHttpProtocolOptions {
                idle_timeout: idle.map(duration),
                max_requests_per_connection: max_requests,
                max_connection_duration: max_duration.map(duration),
                ..CommonHttpProtocolOptions::default()
            }),
            max_concurrent_streams,
            keepalive: keepalive.map(|keepalive| KeepaliveSettings {
                interval: keepalive.interval.map(duration),
                timeout: keepalive.timeout.map(duration),
                ..KeepaliveSettings::default()
            }),
            upstream: None,
            outlier_detection: None,
        }
    }

    /// Whether the upstream is spoken to in HTTP/2 only.
    pub(super) fn is_http2(&self) -> bool {
        self.protocol == UpstreamProtocol::Http2
    }

    /// Put the options into a cluster, if there is anything to say.
    pub(super) fn finish(self, cluster: &mut Cluster) {
        let is_silent = self.protocol == UpstreamProtocol::Unset
            && self.common.is_none()
            && self.upstream.is_none()
            && self.outlier_detection.is_none();
        if is_silent {
            return;
        }
        let options = HttpProtocolOptions {
            upstream_protocol_options: Some(self.protocol_options()),
            common_http_protocol_options: self.common,
            upstream_http_protocol_options: self.upstream,
            outlier_detection: self.outlier_detection,
            ..HttpProtocolOptions::default()
        };
        set_http_protocol_options(cluster, &options);
    }

    fn protocol_options(&self) -> UpstreamProtocolOptions {
        let http2 = || Http2ProtocolOptions {
            max_concurrent_streams: self.max_concurrent_streams,
            connection_keepalive: self.keepalive,
            ..Http2ProtocolOptions::default()
        };
        match self.protocol {
            UpstreamProtocol::Downstream => use_downstream(self.is_header_case_preserved),
            UpstreamProtocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2())),
            UpstreamProtocol::Http1 | UpstreamProtocol::Unset => {
                let is_preserved = self.protocol == UpstreamProtocol::Http1;
                explicit(ProtocolConfig::HttpProtocolOptions(http1(is_preserved)))
            }
        }
    }
}

/// Put HTTP options into a cluster under their extension's name.
pub(super) fn set_http_protocol_options(cluster: &mut Cluster, options: &HttpProtocolOptions) {
    let name = HttpProtocolOptions::full_name();
    cluster
        .typed_extension_protocol_options
        .insert(name, any::pack(options));
}

fn explicit(config: ProtocolConfig) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(config),
    })
}

/// As the downstream's protocol.
pub(super) fn use_downstream(is_header_case_preserved: bool) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(http1(is_header_case_preserved)),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
        ..UseDownstreamHttpConfig::default()
    })
}

fn http1(is_header_case_preserved: bool) -> Http1ProtocolOptions {
    let formatter = || TypedExtensionConfig {
        name: "preserve_case".to_owned(),
        typed_config: Some(any::pack_default::<PreserveCaseFormatterConfig>()),
    };
    Http1ProtocolOptions {
        header_key_format: is_header_case_preserved.then(|| HeaderKeyFormat {
            header_format: Some(HeaderFormat::StatefulFormatter(formatter())),
        }),
        ..Http1ProtocolOptions::default()
    }
}

/// Put timeouts, limits and keepalive into a cluster.
pub(super) fn apply_connection_pool(
    cluster: &mut Cluster,
    settings: &ClusterSettings,
    pool: Option<&ConnectionPoolSettings>,
    retry_budget: Option<&RetryBudget>,
) {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let timeout = tcp
        .and_then(|tcp| tcp.connect_timeout)
        .unwrap_or(settings.connect_timeout);
    cluster.connect_timeout = Some(duration(timeout));
    cluster.circuit_breakers = Some(CircuitBreakers {
        thresholds: vec![build_thresholds(pool, retry_budget)],
        ..CircuitBreakers::default()
    });
    let keepalive = build_keepalive(
        settings.tcp_keepalive.as_ref(),
        tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()),
    );
    if keepalive.is_some() {
        cluster.upstream_connection_options = Some(UpstreamConnectionOptions {
            tcp_keepalive: keepalive,
            ..UpstreamConnectionOptions::default()
        });
    }
}

/// Without limits but those that are set: Envoy's own default of 1024 is too low for a mesh.
fn build_thresholds(
    pool: Option<&ConnectionPoolSettings>,
    retry_budget: Option<&RetryBudget>,
) -> Thresholds {
    let limit = |value: Option<i32>| {
        let value = value.and_then(|value| u32::try_from(value).ok());
        Some(value.filter(|value| *value > 0).unwrap_or(u32::MAX))
    };
    let http = pool.and_then(|pool| pool.http.as_ref());
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    Thresholds {
        max_connections: limit(tcp.map(|tcp| tcp.max_connections)),
        max_pending_requests: limit(http.map(|http| http.http1_max_pending_requests)),
        max_requests: limit(http.map(|http| http.http2_max_requests)),
        max_retries: limit(http.map(|http| http.max_retries)),
        retry_budget: retry_budget.map(build_retry_budget),
        ..Thresholds::default()
    }
}

fn build_retry_budget(budget: &RetryBudget) -> thresholds::RetryBudget {
    let Number(percent) = budget.percent.unwrap_or(Number(RETRY_BUDGET_PERCENT));
    let concurrency = match budget.min_retry_concurrency {
        0 => RETRY_BUDGET_CONCURRENCY,
        concurrency => concurrency,
    };
    thresholds::RetryBudget {
        budget_percent: Some(Percent { value: percent }),
        min_retry_concurrency: Some(concurrency),
        budget_interval: budget.budget_interval.map(duration),
    }
}

/// The mesh's keepalive, overridden value by value.
fn build_keepalive(
    mesh: Option<&model::TcpKeepalive>,
    own: Option<&model::TcpKeepalive>,
) -> Option<TcpKeepalive> {
    if mesh.is_none() && own.is_none() {
        return None;
    }
    let mut out = TcpKeepalive::default();
    for keepalive in mesh.into_iter().chain(own) {
        let seconds = |span: Option<model::Span>| span.and_then(|s| u32::try_from(s.seconds).ok());
        let probes = Some(keepalive.probes).filter(|probes| *probes > 0);
        out.keepalive_probes = probes.or(out.keepalive_probes);
        out.keepalive_time = seconds(keepalive.time).or(out.keepalive_time);
        out.keepalive_interval = seconds(keepalive.interval).or(out.keepalive_interval);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use navarch_model::{
        ConnectionPoolSettings, HttpSettings, Number, RetryBudget, Span, TcpKeepalive,
    };

    use super::{build_keepalive, build_retry_budget, build_thresholds};

    #[test]
    fn limits_that_are_not_set_are_none_at_all() {
        let http = HttpSettings {
            http2_max_requests: 7,
            ..HttpSettings::default()
        };
        let pool = ConnectionPoolSettings {
            http: Some(http),
            tcp: None,
        };
        let thresholds = build_thresholds(Some(&pool), None);
        assert_eq!(thresholds.max_requests, Some(7));
        assert_eq!(thresholds.max_connections, Some(u32::MAX));
        assert_eq!(thresholds.max_retries, Some(u32::MAX));
    }

    #[test]
    fn a_retry_budget_has_envoys_defaults() {
        let budget = RetryBudget {
            percent: Some(Number(10.0)),
            budget_interval: None,
            min_retry_concurrency: 0,
        };
        let budget = build_retry_budget(&budget);
        assert_eq!(budget.min_retry_concurrency, Some(3));
        assert_eq!(
            budget.budget_percent.map(|percent| percent.value),
            Some(10.0)
        );
    }

    #[test]
    fn keepalive_is_overridden_value_by_value() {
        let mesh = TcpKeepalive {
            probes: 9,
            time: Some(Span::from_seconds(60)),
            interval: None,
        };
        let own = TcpKeepalive {
            probes: 3,
            ..TcpKeepalive::default()
        };
        let out = build_keepalive(Some(&mesh), Some(&own)).unwrap();
        assert_eq!(
            (out.keepalive_probes, out.keepalive_time),
            (Some(3), Some(60))
        );
        assert_eq!(build_keepalive(None, None), None);
    }
}
