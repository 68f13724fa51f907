//! HTTP: from the connection manager to a route's action.

use navarch_envoy::Any;
use navarch_envoy::envoy::config::route::v3::virtual_host::TlsRequirementType;
use navarch_envoy::envoy::config::route::v3::RouteConfiguration;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    RouteSpecifier, StripPortMode,
};
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;

use crate::action;
use crate::header_match::Headers;
use crate::outcome::{End, Landing, Stage, Step, failed};
use crate::path;
use crate::request::{Protocol, Request, split_port};
use crate::route_match::{self, Candidate};
use crate::virtual_host;
use crate::walk::Walk;

/// A request as the filters see it.
pub(crate) struct Stream {
    pub(crate) headers: Headers,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) method: String,
    pub(crate) scheme: &'static str,
    pub(crate) is_http2: bool,
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
    let routes = route_configuration(walk, manager)?;
    for (name, config) in &stream.filters {
        walk.note_unmodelled(name, config);
    }
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
        metadata: &request.metadata,
        percent: request.percent,
        has_certificate: is_decrypted && request.has_certificate,
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
        filters: Vec::new(),
    })
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
