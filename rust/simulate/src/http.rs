//! HTTP: from the connection manager to a route's action.

use std::net::IpAddr;

use navarch_envoy::Any;
use navarch_envoy::envoy::config::route::v3::virtual_host::TlsRequirementType;
use navarch_envoy::envoy::config::route::v3::RouteConfiguration;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    RouteSpecifier, StripPortMode,
};
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use serde_json::{Map, Value};

use crate::action;
use crate::header_match::Headers;
use crate::outcome::{End, Landing, Stage, Step, failed};
use crate::path;
use crate::policy;
use crate::request::{Protocol, Request, split_port};
use crate::route_match::{self, Candidate};
use crate::virtual_host;
use crate::walk::Walk;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// A request as the filters see it.
pub(crate) struct Stream {
    pub(crate) headers: Headers,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) method: String,
    pub(crate) scheme: &'static str,
    pub(crate) is_http2: bool,
    /// What filters have found out, by filter.
    pub(crate) metadata: Map<String, Value>,
    /// The connection manager's filters that are on, with their configuration.
    pub(crate) filters: Vec<(String, Any)>,
}

/// Run a request through a connection manager.
pub(crate) fn run(
    walk: &mut Walk<'_>,
    manager: &HttpConnectionManager,
    is_decrypted: bool,
) -> Result<Landing, End> {
    let mut stream = stream(walk.request, manager, is_decrypted)?;
    stream.filters = http_filters(walk, manager);
    let remote = remote_address(walk, manager, &stream.headers);
    add_own_address(walk, manager, &mut stream.headers);
    policy::run_http(walk, &mut stream, remote)?;
    let routes = route_configuration(walk, manager)?;
    let (vhost, step) = virtual_host::choose(&routes, &stream.authority)?;
    walk.steps.push(step);
    let is_tls_wanted = match vhost.require_tls() {
        TlsRequirementType::All | TlsRequirementType::ExternalOnly => !is_decrypted,
        TlsRequirementType::None => false,
    };
    if is_tls_wanted {
        return Ok(Landing::Response {
            status: 301,
            location: Some(format!(
                "https://{}{}",
                split_port(&stream.authority).0,
                stream.path
            )),
            body: None,
            is_configured: true,
            why: format!("virtual host {} requires TLS", vhost.name),
        });
    }
    let request = walk.request;
    let candidate = Candidate {
        path: &stream.path,
        headers: &stream.headers,
        metadata: &stream.metadata,
        percent: request.percent,
        has_certificate: is_decrypted && request.presents_certificate(),
        is_grpc: request.protocol == Protocol::Grpc,
    };
    let (route, step) = route_match::choose(vhost, &candidate)?;
    walk.steps.push(step);
    action::run(
        walk,
        &stream,
        action::Matched {
            routes: &routes,
            vhost,
            route,
        },
    )
}

fn stream(
    request: &Request,
    manager: &HttpConnectionManager,
    is_decrypted: bool,
) -> Result<Stream, End> {
    let is_grpc = request.protocol == Protocol::Grpc;
    let default_method = if is_grpc { "POST" } else { "GET" };
    let method = if request.method.is_empty() {
        default_method
    } else {
        &request.method
    };
    let offers_h2 = || {
        request
            .offered_alpn()
            .iter()
            .any(|p| p == "h2" || p == "istio-h2")
    };
    let is_http2 = match request.protocol {
        Protocol::Http2 | Protocol::Grpc => true,
        Protocol::Https => offers_h2(),
        _ => false,
    };
    let authority = authority(request, manager);
    let given = if request.path.starts_with('/') {
        request.path.clone()
    } else {
        format!("/{}", request.path)
    };
    let path = path::normalize(manager, &given)?;
    let scheme = if is_decrypted { "https" } else { "http" };
    let mut headers: Headers = request
        .headers
        .iter()
        .map(|(k, v)| (k.to_ascii_lowercase(), v.clone()))
        .collect();
    if is_grpc {
        headers
            .entry("content-type".to_owned())
            .or_insert_with(|| "application/grpc".to_owned());
    }
    let pseudo = [
        (":method", method),
        (":path", &path),
        (":authority", &authority),
        (":scheme", scheme),
    ];
    headers.extend(pseudo.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Ok(Stream {
        headers,
        authority,
        path,
        method: method.to_owned(),
        scheme,
        is_http2,
        metadata: request.metadata.clone(),
        filters: Vec::new(),
    })
}

/// The client's own address, past the proxies that are trusted.
///
/// Source: <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-for>.
fn remote_address(
    walk: &Walk<'_>,
    manager: &HttpConnectionManager,
    headers: &Headers,
) -> Option<IpAddr> {
    let hops = usize::try_from(manager.xff_num_trusted_hops).unwrap_or(usize::MAX);
    let from_right = match (manager.use_remote_address == Some(true), hops) {
        (true, 0) => return walk.peer.source,
        (true, hops) => hops - 1,
        (false, hops) => hops,
    };
    let told = headers.get(FORWARDED_FOR).map_or("", String::as_str);
    let address = told.rsplit(',').nth(from_right).map(str::trim);
    let address = address.and_then(|text| text.parse().ok());
    address.or(walk.peer.source)
}

/// What the connection manager adds to `x-forwarded-for`.
fn add_own_address(walk: &Walk<'_>, manager: &HttpConnectionManager, headers: &mut Headers) {
    let is_added = manager.use_remote_address == Some(true) && !manager.skip_xff_append;
    if let Some(source) = walk.peer.source.filter(|_| is_added) {
        let told = headers.entry(FORWARDED_FOR.to_owned()).or_default();
        if !told.is_empty() {
            told.push(',');
        }
        told.push_str(&source.to_string());
    }
}

/// The authority, its port stripped where the connection manager is told to.
fn authority(request: &Request, manager: &HttpConnectionManager) -> String {
    let (bare, port) = split_port(&request.host);
    let is_any_stripped = matches!(
        manager.strip_port_mode,
        Some(StripPortMode::StripAnyHostPort(true))
    );
    let is_own = manager.strip_matching_host_port && port == Some(request.effective_port());
    let mut authority = if is_any_stripped || is_own {
        bare.to_owned()
    } else {
        request.host.clone()
    };
    if manager.strip_trailing_host_dot {
        authority = authority.trim_end_matches('.').to_owned();
    }
    authority
}

fn http_filters(walk: &Walk<'_>, manager: &HttpConnectionManager) -> Vec<(String, Any)> {
    let filters = manager
        .http_filters
        .iter()
        .filter(|filter| !filter.disabled);
    let typed = filters.filter_map(|filter| {
        let config = match filter.config_type.as_ref()? {
            ConfigType::TypedConfig(config) => config.clone(),
            ConfigType::ConfigDiscovery(_) => {
                walk.resources.extension(&filter.name)?.typed_config?
            }
        };
        Some((filter.name.clone(), config))
    });
    typed.collect()
}

fn route_configuration(
    walk: &mut Walk<'_>,
    manager: &HttpConnectionManager,
) -> Result<RouteConfiguration, End> {
    match &manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(inline)) => {
            let why = "it is part of the listener";
            walk.steps.push(Step::new(
                Stage::RouteConfiguration,
                inline.name.clone(),
                why,
            ));
            Ok(inline.clone())
        }
        Some(RouteSpecifier::Rds(rds)) => {
            let name = &rds.route_config_name;
            let Some(found) = walk.resources.route_configuration(name) else {
                return Err(failed(
                    404,
                    format!("the proxy has no route configuration {name}"),
                ));
            };
            let why = "the listener names it";
            walk.steps
                .push(Step::new(Stage::RouteConfiguration, name.clone(), why));
            Ok(found)
        }
        Some(RouteSpecifier::ScopedRoutes(_)) | None => Err(failed(
            404,
            "the connection manager has no route configuration that is simulated",
        )),
    }
}
