//! One listener to one server, with its conditions.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/conversion.go` `buildListener`, `buildHostnameMatch`.

use navarch_model::gateway_api::{
    AllowedRoutes, FrontendTls, GROUP, Listener, ListenerTls, NamespaceSelection,
};
use navarch_model::{EntryPort, KubernetesNamespace, Labels, Metadata, Server, Shared};

use super::GatewayApiInputs;
use super::class::Controller;
use super::condition::{Condition, Fault, Reason};
use super::listener_tls::{TlsContext, build_tls};
use super::reference::Grants;
use crate::registry::ByName;

/// The label that Kubernetes gives every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

const GOOD: &str = "No errors found";

/// The Gateway or ListenerSet that has a listener.
pub(super) struct ListenerOwner<'a> {
    /// `Gateway` or `ListenerSet`.
    pub(super) kind: &'static str,
    pub(super) metadata: &'a Metadata,
    pub(super) controller: Controller,
    /// Of the Gateway.
    pub(super) frontend: Option<&'a FrontendTls>,
}

/// A listener as a server, and what is to be told of it.
pub(super) struct BuiltListener {
    pub(super) server: Server,
    pub(super) conditions: Vec<Condition>,
    pub(super) kinds: Vec<&'static str>,
    /// Whether proxies get it.
    pub(super) is_valid: bool,
}

/// Build a server; `conflict` is why another listener has its place.
pub(super) fn build_listener(
    (inputs, grants): (&GatewayApiInputs<'_>, &Grants),
    owner: &ListenerOwner<'_>,
    listener: &Listener,
    conflict: Option<Fault>,
) -> BuiltListener {
    let context = TlsContext {
        inputs,
        grants,
        kind: owner.kind,
        metadata: owner.metadata,
    };
    let (tls, tls_fault) = match build_tls(&context, listener, owner.frontend) {
        Ok(tls) => (tls, None),
        Err(fault) => (None, Some(fault)),
    };
    let (kinds, has_known_kinds) = supported_kinds(listener);
    let protocol_fault = protocol_fault(owner.controller, listener);
    let is_valid = tls_fault.is_none() && protocol_fault.is_none() && conflict.is_none();
    let programmed_fault = conflict.clone().or_else(|| {
        tls_fault
            .as_ref()
            .map(|_| Fault::new(Reason::Invalid, "Bad TLS configuration"))
    });
    let references_fault = if has_known_kinds {
        tls_fault
    } else {
        Some(Fault::new(Reason::InvalidRouteKinds, "Invalid route kinds"))
    };
    let accepted_fault = conflict.clone().or(protocol_fault);
    let conditions = vec![
        Condition::positive("Accepted", (Reason::Accepted, GOOD), accepted_fault),
        Condition::negative("Conflicted", (Reason::NoConflicts, GOOD), conflict),
        Condition::positive("Programmed", (Reason::Programmed, GOOD), programmed_fault),
        Condition::positive(
            "ResolvedRefs",
            (Reason::ResolvedRefs, GOOD),
            references_fault,
        ),
    ];
    let server = Server {
        // Each listener becomes a Gateway of its own, so that the name tells nothing apart.
        port: EntryPort {
            name: "default".to_owned(),
            number: listener.port,
            protocol: listener.protocol.clone(),
            target_port: 0,
        },
        hosts: server_hosts(listener, &owner.metadata.namespace, inputs.namespaces),
        tls,
        ..Server::default()
    };
    BuiltListener {
        server,
        conditions,
        kinds,
        is_valid,
    }
}

/// The listener with the port that it means: a ListenerSet may leave it to the protocol.
pub(super) fn with_port(listener: &Listener) -> Listener {
    let port = match (listener.port, listener.protocol.as_str()) {
        (0, "HTTP") => 80,
        (0, "HTTPS") => 443,
        (port, _) => port,
    };
    Listener {
        port,
        ..listener.clone()
    }
}

/// Whether routes are told apart by SNI only, the bytes being passed on as they are.
pub(super) fn is_passthrough(tls: Option<&ListenerTls>) -> bool {
    tls.and_then(|tls| tls.mode.as_deref()) == Some("Passthrough")
}

/// Kinds of routes that may be bound, and whether every kind that the listener names is among them.
fn supported_kinds(listener: &Listener) -> (Vec<&'static str>, bool) {
    let by_protocol: &[&'static str] = match listener.protocol.as_str() {
        "HTTP" | "HTTPS" => &["HTTPRoute", "GRPCRoute"],
        "TCP" => &["TCPRoute"],
        "TLS" if listener.tls.is_some() && !is_passthrough(listener.tls.as_ref()) => {
            &["TLSRoute", "TCPRoute"]
        }
        "TLS" => &["TLSRoute"],
        _ => &[],
    };
    let named = listener
        .allowed_routes
        .as_ref()
        .map_or(&[][..], |routes| &routes.kinds);
    if named.is_empty() {
        return (by_protocol.to_vec(), true);
    }
    let is_named = |kind: &&&str| {
        named.iter().any(|named| {
            named.kind == ***kind && named.group.as_deref().is_none_or(|group| group == GROUP)
        })
    };
    let kinds: Vec<_> = by_protocol.iter().filter(is_named).copied().collect();
    let is_complete = kinds.len() == named.len();
    (kinds, is_complete)
}

fn protocol_fault(controller: Controller, listener: &Listener) -> Option<Fault> {
    let protocol = listener.protocol.as_str();
    let fault = |message: String| Some(Fault::new(Reason::UnsupportedProtocol, message));
    match protocol {
        _ if listener.port == 0 => fault(format!("protocol {protocol} requires a port to be set")),
        "HTTP" | "HTTPS" | "TLS" | "TCP" => None,
        "HBONE" if matches!(controller, Controller::Mesh | Controller::EastWest) => None,
        "HBONE" => fault("protocol \"HBONE\" is only supported for waypoint proxies".to_owned()),
        _ => {
            let upper = protocol.to_ascii_uppercase();
            if matches!(upper.as_str(), "HTTP" | "HTTPS" | "TLS" | "TCP" | "HBONE") {
                fault(format!(
                    "protocol \"{protocol}\" is unsupported. hint: \"{upper}\" (uppercase) may be supported"
                ))
            } else {
                fault(format!("protocol \"{protocol}\" is unsupported"))
            }
        }
    }
}

/// The hosts with the namespaces whose routes may be bound; `~` is no namespace's name.
fn server_hosts(
    listener: &Listener,
    own: &str,
    namespaces: &ByName<KubernetesNamespace>,
) -> Vec<String> {
    let host = listener.hostname.as_deref().filter(|host| !host.is_empty());
    let host = host.unwrap_or("*");
    let owners = route_namespaces(listener.allowed_routes.as_ref(), own, namespaces);
    if owners.is_empty() {
        return vec![format!("~/{host}")];
    }
    let owners = owners.into_iter();
    owners.map(|owner| format!("{owner}/{host}")).collect()
}

fn route_namespaces(
    routes: Option<&AllowedRoutes>,
    own: &str,
    namespaces: &ByName<KubernetesNamespace>,
) -> Vec<String> {
    let selection = routes.and_then(|routes| routes.namespaces.as_ref());
    let from = selection.and_then(|selection| selection.from.as_deref());
    let Some(selection) = selection.filter(|_| from.is_some_and(|from| from != "Same")) else {
        return vec![own.to_owned()];
    };
    match (from, &selection.selector) {
        (Some("None"), _) => Vec::new(),
        (Some("Selector"), Some(selector)) => namespaces
            .values()
            .filter(|namespace| selector.is_selecting(&with_name(namespace)))
            .map(|namespace| namespace.metadata.name.clone())
            .collect(),
        _ => vec!["*".to_owned()],
    }
}

/// Whether a selection has a namespace; without one it has none.
pub(super) fn has_namespace(
    selection: Option<&NamespaceSelection>,
    (namespace, own): (&str, &str),
    namespaces: &ByName<KubernetesNamespace>,
) -> bool {
    let Some(selection) = selection else {
        return false;
    };
    match (selection.from.as_deref(), &selection.selector) {
        (Some("All"), _) => true,
        (Some("Same"), _) => namespace == own,
        (Some("Selector") | None, Some(selector)) => namespaces
            .get(&("".into(), namespace.into()))
            .is_some_and(|object| selector.is_selecting(&with_name(object))),
        _ => false,
    }
}

/// A namespace's labels with its name among them, as newer Kubernetes gives it to all.
fn with_name(namespace: &Shared<KubernetesNamespace>) -> Labels {
    let mut labels = namespace.metadata.labels.clone();
    labels.insert(NAMESPACE_NAME.to_owned(), namespace.metadata.name.clone());
    labels
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use navarch_model::gateway_api::{
        AllowedRoutes, LabelSelector, Listener, ListenerTls, NamespaceSelection, RouteGroupKind,
    };
    use navarch_model::{KubernetesNamespace, Labels, Shared};

    use super::{server_hosts, supported_kinds, with_port};
    use crate::registry::ByName;

    fn listener(protocol: &str) -> Listener {
        Listener {
            protocol: protocol.to_owned(),
            ..Listener::default()
        }
    }

    #[test]
    fn kinds_follow_protocol_and_what_the_listener_names() {
        let mut http = listener("HTTP");
        assert_eq!(
            supported_kinds(&http),
            (vec!["HTTPRoute", "GRPCRoute"], true)
        );
        let kind = |kind: &str| RouteGroupKind {
            group: None,
            kind: kind.to_owned(),
        };
        http.allowed_routes = Some(AllowedRoutes {
            kinds: vec![kind("GRPCRoute"), kind("TCPRoute")],
            ..AllowedRoutes::default()
        });
        assert_eq!(supported_kinds(&http), (vec!["GRPCRoute"], false));
        let mut tls = listener("TLS");
        tls.tls = Some(ListenerTls::default());
        assert_eq!(supported_kinds(&tls), (vec!["TLSRoute", "TCPRoute"], true));
        assert_eq!(supported_kinds(&listener("UDP")), (vec![], true));
    }

    #[test]
    fn hosts_name_the_namespaces_whose_routes_may_be_bound() {
        let namespace = |name: &str, label: &str| {
            let mut namespace = KubernetesNamespace::default();
            namespace.metadata.name = name.to_owned();
            namespace.metadata.labels = Labels::from([("l".to_owned(), label.to_owned())]);
            ((Arc::from(""), Arc::from(name)), Shared::new(namespace))
        };
        let namespaces = ByName::from([namespace("a", "yes"), namespace("b", "no")]);
        let selector = |key: &str, value: &str| LabelSelector {
            match_labels: Labels::from([(key.to_owned(), value.to_owned())]),
            ..LabelSelector::default()
        };
        for (from, selector, want) in [
            (None, None, &["own/*"][..]),
            (Some("Same"), None, &["own/*"]),
            (Some("All"), None, &["*/*"]),
            (Some("None"), None, &["~/*"]),
            (Some("Selector"), Some(selector("l", "yes")), &["a/*"]),
            (Some("Selector"), Some(selector("l", "maybe")), &["~/*"]),
            (
                Some("Selector"),
                Some(selector("kubernetes.io/metadata.name", "b")),
                &["b/*"],
            ),
        ] {
            let mut listener = listener("HTTP");
            listener.allowed_routes = Some(AllowedRoutes {
                namespaces: Some(NamespaceSelection {
                    from: from.map(str::to_owned),
                    selector,
                }),
                kinds: Vec::new(),
            });
            assert_eq!(
                server_hosts(&listener, "own", &namespaces),
                want,
                "{from:?}"
            );
        }
    }

    #[test]
    fn a_port_may_be_left_to_the_protocol() {
        assert_eq!(with_port(&listener("HTTPS")).port, 443);
        assert_eq!(with_port(&listener("TCP")).port, 0);
    }
}
