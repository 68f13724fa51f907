//! What routes are bound to: listeners of Gateways and ListenerSets, or Services of the mesh.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/conversion.go` `extractParentReferenceInfo`, `referenceAllowed`.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::Hostname;
use navarch_model::gateway_api::{GROUP, ParentReference};

use super::MESH;
use super::condition::{Fault, Reason};

/// A kind of parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum ParentKind {
    Gateway,
    ListenerSet,
    Service,
    ServiceEntry,
}

impl ParentKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::ListenerSet => "ListenerSet",
            Self::Service => "Service",
            Self::ServiceEntry => "ServiceEntry",
        }
    }
}

/// One parent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ParentKey {
    pub(super) kind: ParentKind,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// One listener, as routes see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParentInfo {
    /// The mesh's Gateway as `namespace/name`.
    pub(super) internal_name: String,
    pub(super) kinds: Vec<&'static str>,
    /// As `namespace/host`.
    pub(super) hosts: Vec<String>,
    /// As the listener has it; "" for every host.
    pub(super) hostname: String,
    pub(super) section: String,
    pub(super) port: u32,
    pub(super) protocol: String,
    /// Whether TLS is passed on rather than ended.
    pub(super) is_passthrough: bool,
    /// The Gateway behind it: namespace and name.
    pub(super) gateway: (String, String),
}

/// All listeners by what has them.
pub(super) type Parents = BTreeMap<ParentKey, Vec<ParentInfo>>;

/// A route's binding to one listener, or to the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BoundParent {
    /// As the route has it.
    pub(super) reference: ParentReference,
    pub(super) key: ParentKey,
    /// `mesh`, or the mesh's Gateway as `namespace/name`.
    pub(super) internal_name: String,
    hostname: String,
    /// Hosts of other listeners on the port, which speak for themselves.
    banned: BTreeSet<String>,
    pub(super) section: String,
    pub(super) is_passthrough: bool,
    pub(super) gateway: Option<(String, String)>,
    /// Why the route is not bound.
    pub(super) denied: Option<Fault>,
}

/// The route whose references are looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteIdentity<'a> {
    pub(super) kind: &'static str,
    pub(super) namespace: &'a str,
    pub(super) hostnames: &'a [String],
}

/// The kind that a reference names; `None` for parents of others.
pub(super) fn referred_kind(reference: &ParentReference) -> Option<ParentKind> {
    let group = reference.group.as_deref().unwrap_or(GROUP);
    match (group, reference.kind.as_deref().unwrap_or("Gateway")) {
        (GROUP, "Gateway") => Some(ParentKind::Gateway),
        (GROUP, "ListenerSet") => Some(ParentKind::ListenerSet),
        ("", "Service") => Some(ParentKind::Service),
        ("networking.istio.io", "ServiceEntry") => Some(ParentKind::ServiceEntry),
        _ => None,
    }
}

/// Bind a route to every listener of its parents; `has_target` tells whether a Service or ServiceEntry exists.
pub(super) fn bind_parents(
    parents: &Parents,
    references: &[ParentReference],
    route: RouteIdentity<'_>,
    has_target: impl Fn(&ParentKey) -> bool,
) -> Vec<BoundParent> {
    let mut out = Vec::new();
    for reference in references {
        let Some(kind) = referred_kind(reference) else {
            continue;
        };
        let namespace = reference.namespace.as_deref().unwrap_or(route.namespace);
        let key = ParentKey {
            kind,
            namespace: namespace.to_owned(),
            name: reference.name.clone(),
        };
        if matches!(kind, ParentKind::Service | ParentKind::ServiceEntry) {
            let is_known = has_target(&key);
            out.push(bind_mesh(reference, key, is_known));
            continue;
        }
        let listeners = parents.get(&key).map_or(&[][..], Vec::as_slice);
        let bind = |info: &ParentInfo| bind_listener(reference, &key, (info, listeners), route);
        out.extend(listeners.iter().map(bind));
    }
    out.sort_by_cached_key(|bound| reference_order(&bound.reference, route.namespace));
    out
}

impl BoundParent {
    /// Whether it is a Service of the mesh rather than a Gateway.
    pub(super) fn is_mesh(&self) -> bool {
        self.internal_name == MESH
    }

    /// Of each of a route's hosts what the listener has of it, too (istio `pilot/pkg/config/kube/gateway/conversion.go`
    /// `constrainTLSRoutesToListenerHost`).
    pub(super) fn narrow(&self, hosts: &[String]) -> Vec<String> {
        if self.hostname.is_empty() {
            return hosts.to_vec();
        }
        let own = Hostname::from(self.hostname.as_str());
        let mut narrowed: Vec<String> = Vec::with_capacity(hosts.len());
        for text in hosts {
            let host = Hostname::from(text.as_str());
            let common = if host.is_subset_of(&own) {
                text
            } else if own.is_subset_of(&host) {
                &self.hostname
            } else {
                continue;
            };
            if !narrowed.contains(common) {
                narrowed.push(common.clone());
            }
        }
        narrowed
    }

    /// Whether a route's host is this listener's: not one that another listener on the port names more exactly.
    pub(super) fn is_own_host(&self, host: &str) -> bool {
        let host = Hostname::from(host);
        let own = Hostname::from(self.hostname.as_str());
        let has_name = !self.hostname.is_empty();
        if has_name && !own.is_wildcard() {
            return true;
        }
        if has_name && !host.is_matching(&own) {
            return false;
        }
        !self.banned.iter().any(|other| {
            self.hostname.len() <= other.len() && host.is_subset_of(&other.as_str().into())
        })
    }
}

fn bind_mesh(reference: &ParentReference, key: ParentKey, is_known: bool) -> BoundParent {
    let denied = (!is_known).then(|| {
        let noun = match key.kind {
            ParentKind::ServiceEntry => "service entry",
            _ => "service",
        };
        let message = format!("parent {noun}: \"{}\" not found", key.name);
        Fault::new(Reason::NoMatchingParent, message)
    });
    BoundParent {
        reference: reference.clone(),
        key,
        internal_name: MESH.to_owned(),
        hostname: String::new(),
        banned: BTreeSet::new(),
        section: String::new(),
        is_passthrough: true,
        gateway: None,
        denied,
    }
}

fn bind_listener(
    reference: &ParentReference,
    key: &ParentKey,
    (info, siblings): (&ParentInfo, &[ParentInfo]),
    route: RouteIdentity<'_>,
) -> BoundParent {
    let banned = siblings
        .iter()
        .filter(|other| other.port == info.port && other.protocol == info.protocol)
        .filter(|other| other.hostname != info.hostname)
        .map(|other| other.hostname.clone())
        .collect();
    BoundParent {
        reference: reference.clone(),
        key: key.clone(),
        internal_name: info.internal_name.clone(),
        hostname: info.hostname.clone(),
        banned,
        section: info.section.clone(),
        is_passthrough: info.is_passthrough,
        gateway: Some(info.gateway.clone()),
        denied: denial(reference, info, route),
    }
}

/// Why a listener does not take a route.
fn denial(
    reference: &ParentReference,
    info: &ParentInfo,
    route: RouteIdentity<'_>,
) -> Option<Fault> {
    if let Some(port) = reference.port.filter(|port| *port != info.port) {
        let message = format!("port {port} not found");
        return Some(Fault::new(Reason::NoMatchingParent, message));
    }
    let section = reference.section_name.as_deref().unwrap_or_default();
    if !section.is_empty() && section != info.section {
        let message = format!("sectionName \"{section}\" not found");
        return Some(Fault::new(Reason::NoMatchingParent, message));
    }
    if let Some(fault) = host_denial(info, route) {
        return Some(fault);
    }
    let message = format!("kind {GROUP}/v1/{} is not allowed", route.kind);
    (!info.kinds.contains(&route.kind)).then(|| Fault::new(Reason::NotAllowedByListeners, message))
}

/// One host of the route must meet one of the listener's, from a namespace that it takes.
fn host_denial(info: &ParentInfo, route: RouteIdentity<'_>) -> Option<Fault> {
    let every = ["*".to_owned()];
    let hostnames = if route.hostnames.is_empty() {
        &every[..]
    } else {
        route.hostnames
    };
    let mut is_host_met = false;
    for own in hostnames {
        for listed in &info.hosts {
            let (owner, host) = listed.split_once('/').unwrap_or(("*", listed));
            if Hostname::from(host).is_matching(&own.as_str().into()) {
                is_host_met = true;
                if owner == "*" || owner == route.namespace {
                    return None;
                }
            }
        }
    }
    let hostname = &info.hostname;
    Some(if is_host_met {
        let message = format!(
            "hostnames matched parent hostname \"{hostname}\", but namespace \"{}\" is not allowed by the parent",
            route.namespace
        );
        Fault::new(Reason::NotAllowedByListeners, message)
    } else {
        let message = format!("no hostnames matched parent hostname \"{hostname}\"");
        Fault::new(Reason::NoMatchingListenerHostname, message)
    })
}

/// Istio's order of references: `group/kind/name/section/port.namespace`.
pub(super) fn reference_order(reference: &ParentReference, namespace: &str) -> String {
    format!(
        "{}/{}/{}/{}/{}.{}",
        reference.group.as_deref().unwrap_or(GROUP),
        reference.kind.as_deref().unwrap_or("Gateway"),
        reference.name,
        reference.section_name.as_deref().unwrap_or_default(),
        reference.port.unwrap_or_default(),
        reference.namespace.as_deref().unwrap_or(namespace)
    )
}
