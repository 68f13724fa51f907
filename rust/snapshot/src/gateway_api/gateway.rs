//! Gateways and ListenerSets: each listener becomes a Gateway of the mesh, and a parent of routes.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/gateway_collection.go`, `conversion.go` `extractGatewayServices`.

use std::collections::BTreeMap;

use navarch_model::gateway_api::{KubernetesGateway, Listener, ListenerSet};
use navarch_model::{
    ConfigKey, Gateway, GatewayServices, GatewaySpec, Hostname, Kind, Metadata, Server, Shared,
};

use super::class::{Classes, Controller};
use super::condition::{Condition, Fault, Reason};
use super::conflict::Conflicts;
use super::gateway_status::{address_conditions, addresses_of, unmanaged_status};
use super::listener::{
    BuiltListener, ListenerOwner, build_listener, has_namespace, is_passthrough, with_port,
};
use super::parent::{ParentInfo, ParentKey, ParentKind, Parents, referred_kind};
use super::reference::Grants;
use super::status::{ListenerStatus, ObjectStatus, StatusContent};
use super::{GENERATED, GatewayApiInputs};

const NAME_OVERRIDE: &str = "gateway.istio.io/name-override";

/// What Gateways and ListenerSets mean.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    /// Those whose listeners proxies get.
    pub(super) gateways: Vec<Shared<Gateway>>,
    pub(super) parents: Parents,
    /// All but the numbers of routes.
    statuses: Vec<(ParentKey, ObjectStatus)>,
}

/// One Gateway while its listeners and those of its ListenerSets are built.
struct Draft<'a> {
    gateway: &'a Shared<KubernetesGateway>,
    controller: Controller,
    services: GatewayServices,
    conflicts: Conflicts<'a>,
    servers: Vec<Server>,
}

/// Build all; oldest first, so that of two ListenerSets the older keeps its places.
pub(super) fn build_gateways(
    inputs: &GatewayApiInputs<'_>,
    classes: &Classes<'_>,
    grants: &Grants,
) -> Gateways {
    let mut out = Gateways::default();
    let mut sets: Vec<(ListenerSet, ParentKey)> = inputs
        .objects
        .listener_sets
        .values()
        .filter_map(|set| {
            let mut with_ports = ListenerSet::clone(set);
            with_ports.spec.listeners = set.spec.listeners.iter().map(with_port).collect();
            Some((with_ports, gateway_of(set)?))
        })
        .collect();
    sets.sort_by(|(a, _), (b, _)| a.metadata.age().cmp(&b.metadata.age()));
    for gateway in inputs.objects.gateways.values() {
        let Some(controller) = classes.controller_of(&gateway.spec.gateway_class_name) else {
            continue;
        };
        let key = key_of(ParentKind::Gateway, &gateway.metadata);
        let own = sets.iter().filter(|(_, parent)| *parent == key);
        let own: Vec<&ListenerSet> = own.map(|(set, _)| set).collect();
        if controller == Controller::Unmanaged {
            let status = unmanaged_status(gateway);
            out.statuses.push((key, status));
            continue;
        }
        out.add_gateway((inputs, grants), gateway, controller, &own);
    }
    out
}

impl Gateways {
    fn add_gateway(
        &mut self,
        context: (&GatewayApiInputs<'_>, &Grants),
        gateway: &Shared<KubernetesGateway>,
        controller: Controller,
        sets: &[&ListenerSet],
    ) {
        let (services, fault) = services_of(gateway, controller, context.0.domain_suffix);
        let mut draft = Draft {
            gateway,
            controller,
            services,
            conflicts: Conflicts::default(),
            servers: Vec::new(),
        };
        let owner = (ParentKind::Gateway, &gateway.metadata);
        let listeners = self.add_listeners(context, &mut draft, owner, &gateway.spec.listeners);
        let mut n_attached = 0;
        for set in sets {
            n_attached += usize::from(self.add_listener_set(context, &mut draft, set));
        }
        let mut conditions = vec![Condition::positive(
            "Accepted",
            (Reason::Accepted, "Resource accepted"),
            fault,
        )];
        if gateway.spec.allowed_listeners.is_some() {
            let none = Fault::new(
                Reason::NoListenersAttached,
                "AllowedListeners is configured, but no ListenerSets are attached",
            );
            let good = (
                Reason::ListenersAttached,
                "At least one ListenerSet is attached",
            );
            let fault = (n_attached == 0).then_some(none);
            let mut condition = Condition::positive("AttachedListenerSets", good, fault);
            // Allowing what nobody uses yet is nothing to mend.
            condition.is_fault = false;
            conditions.push(condition);
        }
        conditions.push(address_conditions(
            context.0,
            &draft.services,
            &draft.servers,
        ));
        let status = ObjectStatus {
            key: object_key(Kind::KubernetesGateway, &gateway.metadata),
            content: StatusContent::Listeners {
                conditions,
                addresses: addresses_of(context.0, &draft.services),
                listeners,
            },
        };
        let key = key_of(ParentKind::Gateway, &gateway.metadata);
        self.statuses.push((key, status));
    }

    /// Add a set's listeners; whether any of them is in force.
    fn add_listener_set<'a>(
        &mut self,
        context: (&GatewayApiInputs<'_>, &Grants),
        draft: &mut Draft<'a>,
        set: &'a ListenerSet,
    ) -> bool {
        let key = object_key(Kind::ListenerSet, &set.metadata);
        let fault = listener_set_fault(context.0, draft, &set.metadata);
        let mut listeners = Vec::new();
        if fault.is_none() {
            let owner = (ParentKind::ListenerSet, &set.metadata);
            listeners = self.add_listeners(context, draft, owner, &set.spec.listeners);
        }
        let is_good = |listener: &ListenerStatus| {
            let mut conditions = listener.conditions.iter();
            conditions.all(|c| c.condition_type != "Programmed" || c.is_true)
        };
        let fault = fault.or_else(|| {
            let message = "None of the ListenerSet's listeners are valid";
            let fault = Fault::new(Reason::ListenersNotValid, message);
            (!listeners.iter().any(is_good)).then_some(fault)
        });
        let is_attached = fault.is_none();
        let programmed = match &fault {
            Some(fault) => Condition::positive(
                "Programmed",
                (Reason::Programmed, "Resource programmed"),
                Some(fault.clone()),
            ),
            None => address_conditions(context.0, &draft.services, &draft.servers),
        };
        let accepted = (Reason::Accepted, "Resource accepted");
        let status = ObjectStatus {
            key,
            content: StatusContent::Listeners {
                conditions: vec![Condition::positive("Accepted", accepted, fault), programmed],
                addresses: Vec::new(),
                listeners,
            },
        };
        let key = key_of(ParentKind::ListenerSet, &set.metadata);
        self.statuses.push((key, status));
        is_attached
    }

    fn add_listeners<'a>(
        &mut self,
        context: (&GatewayApiInputs<'_>, &Grants),
        draft: &mut Draft<'a>,
        (kind, metadata): (ParentKind, &Metadata),
        listeners: &'a [Listener],
    ) -> Vec<ListenerStatus> {
        let owner = ListenerOwner {
            kind: kind.as_str(),
            metadata,
            controller: draft.controller,
            frontend: frontend_of(draft.gateway),
        };
        let mut statuses = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let conflict = draft.conflicts.offer(listener);
            let has_place = conflict.is_none();
            let built = build_listener(context, &owner, listener, conflict);
            statuses.push(ListenerStatus {
                name: listener.name.clone(),
                supported_kinds: built.kinds.clone(),
                attached_routes: 0,
                conditions: built.conditions.clone(),
            });
            if !has_place {
                continue;
            }
            draft.servers.push(built.server.clone());
            if draft.controller.is_routed(listener.port) {
                self.add_parent(draft, (kind, metadata), listener, built);
            }
        }
        statuses
    }

    fn add_parent(
        &mut self,
        draft: &Draft<'_>,
        (kind, metadata): (ParentKind, &Metadata),
        listener: &Listener,
        built: BuiltListener,
    ) {
        if kind == ParentKind::ListenerSet && !built.is_valid {
            return;
        }
        let name = format!("{}~{GENERATED}~{}", metadata.name, listener.name);
        let info = ParentInfo {
            internal_name: format!("{}/{name}", metadata.namespace),
            kinds: built.kinds,
            hosts: built.server.hosts.clone(),
            hostname: listener.hostname.clone().unwrap_or_default(),
            section: listener.name.clone(),
            port: listener.port,
            protocol: listener.protocol.clone(),
            is_passthrough: is_passthrough(listener.tls.as_ref()),
            gateway: (
                draft.gateway.metadata.namespace.clone(),
                draft.gateway.metadata.name.clone(),
            ),
        };
        let key = key_of(kind, metadata);
        self.parents.entry(key).or_default().push(info);
        if !built.is_valid {
            return;
        }
        let source = match kind {
            ParentKind::ListenerSet => Kind::ListenerSet,
            _ => Kind::KubernetesGateway,
        };
        self.gateways.push(Shared::new(Gateway {
            metadata: Metadata {
                name,
                namespace: metadata.namespace.clone(),
                creation_timestamp: metadata.creation_timestamp,
                ..Metadata::default()
            },
            spec: GatewaySpec {
                servers: vec![built.server],
                ..GatewaySpec::default()
            },
            services: Some(draft.services.clone()),
            sources: vec![object_key(source, metadata)],
        }));
    }

    /// The statuses, with the numbers of routes by parent and listener.
    pub(super) fn finish_statuses(
        &self,
        attached: &BTreeMap<(ParentKey, String), u32>,
    ) -> Vec<ObjectStatus> {
        let statuses = self.statuses.iter().cloned();
        let finish = |(key, mut status): (ParentKey, ObjectStatus)| {
            if let StatusContent::Listeners { listeners, .. } = &mut status.content {
                for listener in listeners {
                    let n_routes = attached.get(&(key.clone(), listener.name.clone()));
                    listener.attached_routes = n_routes.copied().unwrap_or_default();
                }
            }
            status
        };
        statuses.map(finish).collect()
    }
}

fn listener_set_fault(
    inputs: &GatewayApiInputs<'_>,
    draft: &Draft<'_>,
    set: &Metadata,
) -> Option<Fault> {
    let gateway = draft.gateway;
    if !draft.controller.has_listener_sets() {
        let class = &gateway.spec.gateway_class_name;
        let message = format!("The \"{class}\" GatewayClass does not support ListenerSet");
        return Some(Fault::new(Reason::NotAllowed, message));
    }
    let allowed = gateway.spec.allowed_listeners.as_ref();
    let selection = allowed.and_then(|allowed| allowed.namespaces.as_ref());
    let namespaces = (set.namespace.as_str(), gateway.metadata.namespace.as_str());
    let message =
        "The parent Gateway does not allow this reference; check the 'spec.allowedRoutes'";
    (!has_namespace(selection, namespaces, inputs.namespaces))
        .then(|| Fault::new(Reason::NotAllowed, message))
}

fn frontend_of(gateway: &KubernetesGateway) -> Option<&navarch_model::gateway_api::FrontendTls> {
    gateway.spec.tls.as_ref()?.frontend.as_ref()
}

/// The Gateway that a set adds listeners to.
fn gateway_of(set: &ListenerSet) -> Option<ParentKey> {
    let parent = &set.spec.parent_ref;
    (referred_kind(parent) == Some(ParentKind::Gateway)).then(|| ParentKey {
        kind: ParentKind::Gateway,
        namespace: parent
            .namespace
            .clone()
            .unwrap_or_else(|| set.metadata.namespace.clone()),
        name: parent.name.clone(),
    })
}

/// The Services behind which a Gateway is, and what is wrong with what it asks for.
fn services_of(
    gateway: &KubernetesGateway,
    controller: Controller,
    domain_suffix: &str,
) -> (GatewayServices, Option<Fault>) {
    let metadata = &gateway.metadata;
    let namespace = &metadata.namespace;
    let host = |name: &str| Hostname::resolve(name, namespace, domain_suffix);
    let is_managed = match &gateway.spec.addresses[..] {
        [] => true,
        [only] => only.address_type.as_deref().unwrap_or("IPAddress") == "IPAddress",
        _ => false,
    };
    let services = |hosts| GatewayServices {
        hosts,
        namespace: namespace.clone(),
        is_managed,
    };
    if is_managed {
        let name = metadata.annotations.get(NAME_OVERRIDE).cloned();
        let name = name.unwrap_or_else(|| {
            if controller.has_class_suffix() {
                format!("{}-{}", metadata.name, gateway.spec.gateway_class_name)
            } else {
                metadata.name.clone()
            }
        });
        return (services(vec![host(&name)]), None);
    }
    let (hosts, skipped): (Vec<_>, Vec<_>) = gateway.spec.addresses.iter().partition(|address| {
        let address_type = address.address_type.as_deref();
        address_type.is_none_or(|address_type| address_type == "Hostname")
    });
    let skipped: Vec<&str> = skipped.iter().map(|a| a.value.as_str()).collect();
    let fault = (!skipped.is_empty()).then(|| {
        let message = format!("only Hostname is supported, ignoring {skipped:?}");
        Fault::new(Reason::UnsupportedAddress, message)
    });
    let hosts = hosts.iter().map(|address| host(&address.value));
    (services(hosts.collect()), fault)
}

fn key_of(kind: ParentKind, metadata: &Metadata) -> ParentKey {
    ParentKey {
        kind,
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
    }
}

fn object_key(kind: Kind, metadata: &Metadata) -> ConfigKey {
    ConfigKey::new(kind, &metadata.namespace, &metadata.name)
}
