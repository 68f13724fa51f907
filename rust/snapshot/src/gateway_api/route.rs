//! What the four kinds of routes have in common: parents, rules that fail, the objects they become.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/route_collections.go` `computeRoute`.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::gateway_api::{BackendReference, ParentReference};
use navarch_model::{
    ConfigKey, Kind, Metadata, RouteSemantics, Shared, VirtualService, VirtualServiceSpec,
};

use super::GatewayApiInputs;
use super::condition::Fault;
use super::parent::{BoundParent, ParentKey, ParentKind, Parents, RouteIdentity, bind_parents};
use super::reference::Grants;
use super::route_status::route_status;
use super::status::ObjectStatus;

/// What the conversion of a route may see.
pub(super) struct RouteContext<'a> {
    pub(super) inputs: &'a GatewayApiInputs<'a>,
    pub(super) grants: &'a Grants,
    pub(super) parents: &'a Parents,
}

/// Whose rule is converted, and for whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteOwner<'a> {
    pub(super) kind: &'static str,
    pub(super) namespace: &'a str,
    /// Whether it is for the mesh, where backends need no grant.
    pub(super) is_mesh: bool,
}

/// A route of any kind.
pub(super) struct RouteSource<'a> {
    pub(super) kind: Kind,
    pub(super) metadata: &'a Metadata,
    pub(super) parent_refs: &'a [ParentReference],
    pub(super) hostnames: &'a [String],
}

/// A rule, whose fault leaves it in force; or the fault for which the whole route is not.
pub(super) type Converted<R> = Result<(R, Option<Fault>), Fault>;

/// All rules of a route for one sort of parent.
#[derive(Debug)]
pub(super) struct Conversion<R> {
    pub(super) routes: Vec<R>,
    pub(super) fault: Option<Fault>,
}

/// A route with its parents found and its rules converted.
pub(super) struct ComputedRoute<R> {
    /// Those that take the route, by name.
    pub(super) bound: Vec<BoundParent>,
    pub(super) mesh: Conversion<R>,
    pub(super) gateway: Conversion<R>,
}

/// What routes mean.
#[derive(Debug, Default)]
pub(super) struct RouteOutput {
    pub(super) virtual_services: Vec<Shared<VirtualService>>,
    pub(super) statuses: Vec<ObjectStatus>,
    /// Numbers of routes by parent and listener.
    pub(super) attached: BTreeMap<(ParentKey, String), u32>,
    /// Gateways by the Service (namespace, name) that they lead to.
    pub(super) ancestors: BTreeMap<(String, String), BTreeSet<(String, String)>>,
}

impl RouteContext<'_> {
    /// The host name of a Service.
    pub(super) fn service_host(&self, namespace: &str, name: &str) -> String {
        format!("{name}.{namespace}.svc.{}", self.inputs.domain_suffix)
    }

    /// Bind a route, convert its rules for each sort of parent it has, and say how that went.
    pub(super) fn compute<R>(
        &self,
        source: &RouteSource<'_>,
        backends: &[&BackendReference],
        out: &mut RouteOutput,
        convert: impl Fn(RouteOwner<'_>) -> Vec<Converted<R>>,
    ) -> ComputedRoute<R> {
        let namespace = source.metadata.namespace.as_str();
        let identity = RouteIdentity {
            kind: source.kind.as_str(),
            namespace,
            hostnames: source.hostnames,
        };
        let inputs = self.inputs;
        let has_target = |key: &ParentKey| {
            let name = (key.namespace.as_str().into(), key.name.as_str().into());
            match key.kind {
                ParentKind::Service => inputs.services.contains_key(&name),
                ParentKind::ServiceEntry => inputs.service_entries.contains_key(&name),
                ParentKind::Gateway | ParentKind::ListenerSet => false,
            }
        };
        let bound = bind_parents(self.parents, source.parent_refs, identity, has_target);
        let convert = |is_mesh: bool| {
            if bound.iter().all(|parent| parent.is_mesh() != is_mesh) {
                return collect(Vec::new());
            }
            let owner = RouteOwner {
                kind: identity.kind,
                namespace,
                is_mesh,
            };
            collect(convert(owner))
        };
        let (mesh, gateway) = (convert(true), convert(false));
        let faults = (mesh.fault.as_ref(), gateway.fault.as_ref());
        let key = ConfigKey::new(source.kind, namespace, &source.metadata.name);
        out.statuses
            .extend(route_status(key, &bound, faults, source.parent_refs));
        let mut bound: Vec<_> = bound.into_iter().filter(|p| p.denied.is_none()).collect();
        bound.sort_by(|a, b| a.internal_name.cmp(&b.internal_name));
        out.attach(&bound, backends, namespace);
        ComputedRoute {
            bound,
            mesh,
            gateway,
        }
    }

    /// The hosts of a parent that is a Service or ServiceEntry.
    pub(super) fn mesh_hosts(&self, parent: &BoundParent) -> Vec<String> {
        let key = &parent.key;
        if key.kind != ParentKind::ServiceEntry {
            return vec![self.service_host(&key.namespace, &key.name)];
        }
        let name = (key.namespace.as_str().into(), key.name.as_str().into());
        let entry = self.inputs.service_entries.get(&name);
        entry.map_or_else(Vec::new, |entry| entry.spec.hosts.clone())
    }
}

impl RouteOutput {
    /// Count the route at its listeners, and note which Gateways lead to its backends.
    fn attach(&mut self, bound: &[BoundParent], backends: &[&BackendReference], namespace: &str) {
        for parent in bound {
            let Some(gateway) = &parent.gateway else {
                continue;
            };
            let listener = (parent.key.clone(), parent.section.clone());
            *self.attached.entry(listener).or_default() += 1;
            for backend in backends {
                if backend.group.as_deref().unwrap_or_default().is_empty()
                    && backend.kind.as_deref().unwrap_or("Service") == "Service"
                {
                    let namespace = backend.namespace.as_deref().unwrap_or(namespace);
                    let service = (namespace.to_owned(), backend.name.clone());
                    let gateways = self.ancestors.entry(service).or_default();
                    gateways.insert(gateway.clone());
                }
            }
        }
    }
}

impl RouteSource<'_> {
    /// A VirtualService of one host for one Gateway, or for the mesh.
    pub(super) fn virtual_service(
        &self,
        name: String,
        host: &str,
        parent: &BoundParent,
    ) -> VirtualService {
        let metadata = self.metadata;
        // A route of another namespace than its Service's is that of a client: it is for clients there only.
        let is_private = parent.is_mesh() && parent.key.namespace != metadata.namespace;
        VirtualService {
            metadata: Metadata {
                name,
                namespace: metadata.namespace.clone(),
                creation_timestamp: metadata.creation_timestamp,
                ..Metadata::default()
            },
            spec: VirtualServiceSpec {
                hosts: vec![host.to_owned()],
                gateways: vec![parent.internal_name.clone()],
                export_to: is_private.then(|| ".".to_owned()).into_iter().collect(),
                ..VirtualServiceSpec::default()
            },
            semantics: RouteSemantics::GatewayApi,
            sources: vec![ConfigKey::new(
                self.kind,
                &metadata.namespace,
                &metadata.name,
            )],
        }
    }

    /// The route's hosts; every host where it names none.
    pub(super) fn hosts(&self) -> Vec<String> {
        if self.hostnames.is_empty() {
            return vec!["*".to_owned()];
        }
        self.hostnames.to_vec()
    }
}

/// The rules up to the first fault that takes all of them away.
fn collect<R>(rules: Vec<Converted<R>>) -> Conversion<R> {
    let mut out = Conversion {
        routes: Vec::with_capacity(rules.len()),
        fault: None,
    };
    for rule in rules {
        match rule {
            Ok((route, fault)) => {
                out.routes.push(route);
                out.fault = fault.or(out.fault);
            }
            Err(fault) => {
                return Conversion {
                    routes: Vec::new(),
                    fault: Some(fault),
                };
            }
        }
    }
    out
}
