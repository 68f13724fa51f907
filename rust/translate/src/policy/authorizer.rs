//! Extension providers that decide of requests, as CUSTOM policies name them.

use navarch_envoy::envoy::r#type::v3::StatusCode;
use navarch_model::{Authorizer, ExtensionProvider, HttpAuthorizer};
use navarch_snapshot::MeshSnapshot;

use crate::provider::{ProviderCluster, find_cluster};

/// An authorizer that can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FoundAuthorizer {
    pub(super) place: ProviderCluster,
    pub(super) settings: AuthorizerSettings,
}

/// How it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum AuthorizerSettings {
    Http(HttpAuthorizer),
    Grpc(Authorizer),
}

impl FoundAuthorizer {
    /// What both kinds have.
    pub(super) fn common(&self) -> &Authorizer {
        match &self.settings {
            AuthorizerSettings::Http(http) => &http.common,
            AuthorizerSettings::Grpc(grpc) => grpc,
        }
    }

    /// The status where it can't be asked.
    pub(super) fn status_on_error(&self) -> Option<StatusCode> {
        parse_status(&self.common().status_on_error).ok().flatten()
    }
}

/// The authorizer of a name, or what is wrong with it.
pub(super) fn find_authorizer(mesh: &MeshSnapshot, name: &str) -> Result<FoundAuthorizer, String> {
    let providers = &mesh.mesh_config.extension_providers;
    let mut named = providers.iter().filter(|provider| provider.name == name);
    let Some(provider) = named.next() else {
        return Err(format!("MeshConfig has no extension provider `{name}`"));
    };
    let settings = settings_of(provider)
        .ok_or_else(|| format!("the extension provider `{name}` is no external authorizer"))?;
    let backend = match &settings {
        AuthorizerSettings::Http(http) => &http.common.backend,
        AuthorizerSettings::Grpc(grpc) => &grpc.backend,
    };
    let of_provider = |reason| format!("the extension provider `{name}` can't be asked: {reason}");
    if named.next().is_some() {
        return Err(of_provider("MeshConfig has several of its name".to_owned()));
    }
    check_name(name).map_err(of_provider)?;
    let found = FoundAuthorizer {
        place: find_cluster(mesh, backend).map_err(of_provider)?,
        settings,
    };
    parse_status(&found.common().status_on_error).map_err(of_provider)?;
    if let AuthorizerSettings::Http(http) = &found.settings {
        check_http(http).map_err(of_provider)?;
    }
    Ok(found)
}

/// The name becomes a part of names in metadata, of policies and of metrics.
fn check_name(name: &str) -> Result<(), String> {
    let is_own = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = name.len() <= 63 && name.chars().all(is_own);
    if is_label && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    Err("its name must be at most 63 small letters, digits and inner hyphens".to_owned())
}

fn check_http(settings: &HttpAuthorizer) -> Result<(), String> {
    if !settings.path_prefix.is_empty() && !settings.path_prefix.starts_with('/') {
        return Err("its pathPrefix must begin with `/`".to_owned());
    }
    let fields = [
        (
            "includeRequestHeadersInCheck",
            &settings.include_request_headers_in_check,
        ),
        ("includeHeadersInCheck", &settings.include_headers_in_check),
        (
            "headersToUpstreamOnAllow",
            &settings.headers_to_upstream_on_allow,
        ),
        (
            "headersToDownstreamOnDeny",
            &settings.headers_to_downstream_on_deny,
        ),
        (
            "headersToDownstreamOnAllow",
            &settings.headers_to_downstream_on_allow,
        ),
    ];
    match fields
        .iter()
        .find(|(_, names)| names.iter().any(|name| name == "*"))
    {
        Some((field, _)) => Err(format!(
            "its {field} has a `*` alone; write the beginning or the end of names beside it"
        )),
        None => Ok(()),
    }
}

fn settings_of(provider: &ExtensionProvider) -> Option<AuthorizerSettings> {
    let http = provider.envoy_ext_authz_http.clone();
    let grpc = provider.envoy_ext_authz_grpc.clone();
    http.map(AuthorizerSettings::Http)
        .or_else(|| grpc.map(AuthorizerSettings::Grpc))
}

/// One of the statuses that Envoy knows; "" for its default.
fn parse_status(text: &str) -> Result<Option<StatusCode>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse::<i32>().ok();
    let status = number.and_then(|number| StatusCode::try_from(number).ok());
    match status {
        Some(status) => Ok(Some(status)),
        None => Err(format!(
            "its statusOnError `{text}` is no HTTP status that Envoy knows"
        )),
    }
}
