//! References to backends as destinations.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/conversion.go` `buildDestination`, `buildHTTPDestination`.

use navarch_model::gateway_api::BackendReference;
use navarch_model::{Destination, Headers, HttpRouteDestination, PortSelector, RouteDestination};

use super::condition::{Fault, Reason};
use super::filter::header_operations;
use super::route::{RouteContext, RouteOwner};

/// A destination; with a fault it leads nowhere, and the rest of the rule goes on.
pub(super) type Resolved = (Destination, Option<Fault>);

/// The destination of a backend.
///
/// # Errors
/// A fault for which the whole route is not in force.
pub(super) fn resolve_backend(
    context: &RouteContext<'_>,
    owner: RouteOwner<'_>,
    backend: &BackendReference,
) -> Result<Resolved, Fault> {
    let namespace = backend.namespace.as_deref().unwrap_or(owner.namespace);
    let name = backend.name.as_str();
    let from = (owner.kind, owner.namespace);
    let is_permitted = context
        .grants
        .is_allowed(from, ("Service", namespace), name);
    if !owner.is_mesh && !is_permitted {
        let fault = not_permitted(owner, namespace, name);
        return Ok((Destination::default(), Some(fault)));
    }
    let group = backend.group.as_deref().unwrap_or_default();
    let invalid = |message: &str| Err(Fault::new(Reason::InvalidDestination, message));
    let (host, is_known) = match (group, backend.kind.as_deref().unwrap_or("Service")) {
        ("", "Service") | ("multicluster.x-k8s.io", "ServiceImport") => {
            if name.contains('.') {
                return invalid(
                    "service name invalid; the name of the Service must be used, not the hostname.",
                );
            }
            let key = (namespace.into(), name.into());
            let host = context.service_host(namespace, name);
            (host, context.inputs.services.contains_key(&key))
        }
        ("networking.istio.io", "Hostname") => {
            if backend.namespace.is_some() {
                return invalid("namespace may not be set with Hostname type");
            }
            (name.to_owned(), (context.inputs.has_host)(name, namespace))
        }
        (group, kind) => {
            let message =
                format!("referencing unsupported backendRef: group \"{group}\" kind \"{kind}\"");
            let fault = Fault::new(Reason::InvalidKind, message);
            return Ok((Destination::default(), Some(fault)));
        }
    };
    let Some(number) = backend.port else {
        return invalid("port is required in backendRef");
    };
    let fault = (!is_known).then(|| {
        Fault::new(
            Reason::BackendNotFound,
            format!("backend({host}) not found"),
        )
    });
    let destination = Destination {
        host,
        subset: String::new(),
        port: Some(PortSelector { number }),
    };
    Ok((destination, fault))
}

fn not_permitted(owner: RouteOwner<'_>, namespace: &str, name: &str) -> Fault {
    let message = format!(
        "backendRef {name}/{namespace} not accessible to a {} in namespace \"{}\" (missing a ReferenceGrant?)",
        owner.kind, owner.namespace
    );
    Fault::new(Reason::RefNotPermitted, message)
}

/// Whether any backend has a weight.
pub(super) fn has_weight(backends: &[BackendReference]) -> bool {
    backends.iter().any(|backend| backend.weight() != 0)
}

/// The destinations of requests; backends of weight 0 are left out.
pub(super) fn http_destinations(
    context: &RouteContext<'_>,
    owner: RouteOwner<'_>,
    backends: &[BackendReference],
) -> Result<(Vec<HttpRouteDestination>, Option<Fault>), Fault> {
    let mut out = Vec::new();
    let mut fault = None;
    for (backend, weight) in weighted(backends) {
        let (destination, own) = resolve_backend(context, owner, backend)?;
        fault = own.or(fault);
        out.push(HttpRouteDestination {
            destination,
            weight,
            headers: backend_headers(backend)?,
        });
    }
    Ok((out, fault))
}

/// The destinations of connections; backends of weight 0 are left out.
pub(super) fn connection_destinations(
    context: &RouteContext<'_>,
    owner: RouteOwner<'_>,
    backends: &[BackendReference],
) -> Result<(Vec<RouteDestination>, Option<Fault>), Fault> {
    let mut out = Vec::new();
    let mut fault = None;
    for (backend, weight) in weighted(backends) {
        let (destination, own) = resolve_backend(context, owner, backend)?;
        fault = own.or(fault);
        out.push(RouteDestination {
            destination,
            weight,
        });
    }
    Ok((out, fault))
}

/// A destination that does not exist: a rule without backends must refuse connections.
pub(super) fn nowhere() -> RouteDestination {
    RouteDestination {
        destination: Destination {
            host: "internal.cluster.local".to_owned(),
            subset: "zero-weight".to_owned(),
            port: Some(PortSelector { number: 65535 }),
        },
        weight: 0,
    }
}

/// Backends with their weights; an only one needs none.
fn weighted(backends: &[BackendReference]) -> Vec<(&BackendReference, i32)> {
    let mut out: Vec<_> = backends
        .iter()
        .map(|backend| (backend, backend.weight()))
        .filter(|(_, weight)| *weight != 0)
        .collect();
    if let [(_, weight)] = &mut out[..] {
        *weight = 0;
    }
    out
}

fn backend_headers(backend: &BackendReference) -> Result<Option<Headers>, Fault> {
    let mut headers: Option<Headers> = None;
    for filter in &backend.filters {
        match filter.filter_type.as_str() {
            "RequestHeaderModifier" => {
                let operations = filter.request_header_modifier.as_ref();
                headers.get_or_insert_default().request = operations.map(header_operations);
            }
            "ResponseHeaderModifier" => {
                let operations = filter.response_header_modifier.as_ref();
                headers.get_or_insert_default().response = operations.map(header_operations);
            }
            other => {
                let message = format!("unsupported filter type \"{other}\"");
                return Err(Fault::new(Reason::InvalidFilter, message));
            }
        }
    }
    Ok(headers)
}
