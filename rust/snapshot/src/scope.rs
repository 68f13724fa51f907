//! What the proxies of one group may see.
//!
//! Source: istio `pilot/pkg/model/sidecar.go` `DefaultSidecarScopeForNamespace`, `convertToSidecarScope`.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    CaptureMode, Destination, DestinationRule, EgressListener, Hostname, OutboundTrafficPolicy,
    Protocol, ProxyKind, Registry, Service, Shared, Sidecar, VirtualService, Visibility,
};

use crate::gateway_merge::{MergedGateway, merge_gateways};
use crate::sidecar::EgressHosts;
use crate::{MeshSnapshot, NodeGroup, ServiceKey};

/// One egress listener with what it imports.
#[derive(Debug, Clone)]
pub struct EgressScope {
    /// The Sidecar's listener; `None` for the catch-all of proxies without a Sidecar.
    pub listener: Option<EgressListener>,
    /// Imported services, by age.
    pub services: Vec<Shared<Service>>,
    /// Imported VirtualServices of the mesh, by age.
    pub virtual_services: Vec<Shared<VirtualService>>,
    /// Services that are not imported, but that imported VirtualServices lead to: they have clusters, and no
    /// listeners or hosts of their own.
    pub destinations: Vec<Shared<Service>>,
}

impl EgressScope {
    /// Whether it has neither port nor bind of its own.
    pub fn is_catch_all(&self) -> bool {
        self.listener.as_ref().is_none_or(|listener| {
            listener.port.as_ref().is_none_or(|port| port.number == 0) && listener.bind.is_empty()
        })
    }

    /// How its traffic is captured.
    pub fn capture_mode(&self) -> CaptureMode {
        self.listener
            .as_ref()
            .map_or(CaptureMode::Default, |listener| listener.capture_mode)
    }
}

/// What the proxies of one group may see of a mesh.
#[derive(Debug, Clone)]
pub struct ProxyScope {
    /// The group.
    pub group: Shared<NodeGroup>,
    /// The mesh-wide settings.
    pub mesh_config: Shared<navarch_model::MeshConfig>,
    /// Egress listeners; one catch-all for proxies without a Sidecar, and for routers.
    pub egress: Vec<EgressScope>,
    /// Every service that any egress listener imports: one per host, by age.
    pub services: Vec<Shared<Service>>,
    /// The Sidecar in force.
    pub sidecar: Option<Shared<Sidecar>>,
    /// What happens to traffic for unknown destinations.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// The servers of a router, merged; empty for sidecars.
    pub gateways: Arc<MergedGateway>,
    by_host: BTreeMap<Hostname, usize>,
    pub(crate) destination_rules: BTreeMap<Hostname, Shared<DestinationRule>>,
    /// What the Sidecar's egress listeners import; `None` where everything visible is.
    pub(crate) imports: Option<Imports>,
}

/// What a Sidecar lets through.
#[derive(Debug, Clone)]
pub(crate) struct Imports {
    pub(crate) hosts: Vec<EgressHosts>,
    /// Hosts that imported VirtualServices lead to.
    pub(crate) destinations: BTreeSet<String>,
}

impl ProxyScope {
    /// The merged DestinationRule for a visible host.
    pub fn destination_rule<H>(&self, host: &H) -> Option<&Shared<DestinationRule>>
    where
        H: Ord + ?Sized,
        Hostname: Borrow<H>,
    {
        self.destination_rules.get(host)
    }

    /// The visible service of a host.
    pub fn find_service(&self, host: &str) -> Option<&Shared<Service>> {
        self.services.get(*self.by_host.get(host)?)
    }
}

impl MeshSnapshot {
    /// The scope of a group in this epoch.
    pub fn scope_of(&self, group: &Shared<NodeGroup>) -> ProxyScope {
        let sidecar = (group.kind == ProxyKind::Sidecar)
            .then(|| self.sidecar_of(&group.namespace, &group.labels))
            .flatten()
            .cloned();
        let visible = Visible {
            services: self.visible_services(group),
            virtual_services: self.visible_virtual_services(&group.namespace),
        };
        let egress = match &sidecar {
            Some(sidecar) if !sidecar.spec.egress.is_empty() => {
                let listeners = sidecar.spec.egress.iter();
                listeners
                    .map(|listener| visible.import(listener, sidecar, group))
                    .collect()
            }
            _ => vec![EgressScope {
                listener: None,
                services: visible.services.clone(),
                virtual_services: visible.virtual_services.clone(),
                destinations: Vec::new(),
            }],
        };
        let imports = sidecar
            .as_ref()
            .filter(|sidecar| !sidecar.spec.egress.is_empty())
            .map(|sidecar| Imports::of(sidecar, &egress, &group.namespace));
        let services = one_per_host(&egress, &group.namespace);
        let egress = egress
            .into_iter()
            .map(|scope| keep_chosen(scope, &services))
            .collect();
        let mesh_mode = self.mesh_config.outbound_traffic_policy.mode;
        let outbound_traffic_policy = sidecar
            .as_ref()
            .and_then(|sidecar| sidecar.spec.outbound_traffic_policy.clone())
            .unwrap_or(OutboundTrafficPolicy {
                mode: mesh_mode,
                egress_proxy: None,
            });
        let destination_rules = self.destination_rules_for(group, &services);
        ProxyScope {
            group: group.clone(),
            mesh_config: self.mesh_config.clone(),
            egress,
            by_host: services
                .iter()
                .enumerate()
                .map(|(i, s)| (s.hostname.clone(), i))
                .collect(),
            services,
            sidecar,
            outbound_traffic_policy,
            gateways: Arc::new(self.merged_gateways(group)),
            destination_rules,
            imports,
        }
    }

    fn destination_rules_for(
        &self,
        group: &NodeGroup,
        services: &[Shared<Service>],
    ) -> BTreeMap<Hostname, Shared<DestinationRule>> {
        let client = (&*group.namespace, &group.labels);
        let rules = services.iter().filter_map(|service| {
            let rule = self.destination_rule(client, service)?;
            Some((service.hostname.clone(), rule.clone()))
        });
        rules.collect()
    }

    fn merged_gateways(&self, group: &NodeGroup) -> MergedGateway {
        if group.kind != ProxyKind::Router {
            return MergedGateway::default();
        }
        merge_gateways(&self.gateways_of(&group.labels), &group.service_targets)
    }

    /// Services exported to a group's namespace, by age, with the addresses that they have in its cluster.
    fn visible_services(&self, group: &NodeGroup) -> Vec<Shared<Service>> {
        let default = parse_tokens(&self.mesh_config.default_service_export_to);
        let of_cluster = self.services.of_clusters.get(&group.cluster_id);
        let there = |service| of_cluster?.get(&ServiceKey::of(service));
        let services = self.services().iter();
        services
            .filter(|service| is_service_visible(service, &default, &group.namespace))
            .map(|service| there(service).unwrap_or(service).clone())
            .collect()
    }

    /// VirtualServices exported to a namespace, by age.
    fn visible_virtual_services(&self, namespace: &str) -> Vec<Shared<VirtualService>> {
        let default = parse_tokens(&self.mesh_config.default_virtual_service_export_to);
        let rules = self.virtual_services().iter();
        rules
            .filter(|rule| is_rule_visible(rule, &default, namespace))
            .cloned()
            .collect()
    }
}

/// Whether a service is exported to a namespace.
pub(crate) fn is_service_visible(
    service: &Service,
    default: &[Visibility],
    namespace: &str,
) -> bool {
    let tokens = if service.export_to.is_empty() {
        default
    } else {
        &service.export_to
    };
    Visibility::is_visible(tokens, &service.namespace, namespace)
}

/// Whether a VirtualService is exported to a namespace.
pub(crate) fn is_rule_visible(
    rule: &VirtualService,
    default: &[Visibility],
    namespace: &str,
) -> bool {
    let own = parse_tokens(&rule.spec.export_to);
    let tokens = if own.is_empty() { default } else { &own };
    Visibility::is_visible(tokens, &rule.metadata.namespace, namespace)
}

impl Imports {
    fn of(sidecar: &Sidecar, egress: &[EgressScope], namespace: &str) -> Self {
        let listeners = sidecar.spec.egress.iter();
        let rules = egress.iter().flat_map(|scope| &scope.virtual_services);
        Self {
            hosts: listeners
                .map(|listener| EgressHosts::new(&listener.hosts, namespace))
                .collect(),
            destinations: rules
                .flat_map(|rule| destination_hosts(rule))
                .map(str::to_owned)
                .collect(),
        }
    }
}

/// What a namespace may see at all.
struct Visible {
    services: Vec<Shared<Service>>,
    virtual_services: Vec<Shared<VirtualService>>,
}

impl Visible {
    /// What one egress listener of a Sidecar imports: its hosts, and what their VirtualServices lead to.
    fn import(
        &self,
        listener: &EgressListener,
        sidecar: &Sidecar,
        group: &NodeGroup,
    ) -> EgressScope {
        // A Sidecar of the root namespace means, by `.`, the namespace that it is applied to.
        let namespace = &group.namespace;
        let hosts = EgressHosts::new(&listener.hosts, namespace);
        let virtual_services: Vec<_> = self
            .virtual_services
            .iter()
            .filter(|rule| {
                rule.spec.gateways.iter().any(|gateway| gateway == "mesh")
                    && hosts.has_virtual_service(rule)
            })
            .cloned()
            .collect();
        let imported: BTreeSet<(&str, &str)> = self
            .services
            .iter()
            .filter(|service| hosts.has_service(&service.hostname, &service.namespace))
            .map(|service| (service.hostname.as_str(), &*service.namespace))
            .collect();
        let mut destinations: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for to in virtual_services
            .iter()
            .flat_map(|rule| destinations_of(rule))
        {
            let port = to.port.map_or(0, |port| port.number);
            destinations.entry(&to.host).or_default().insert(port);
        }
        let is_imported = |service: &Service| {
            imported.contains(&(service.hostname.as_str(), &*service.namespace))
        };
        let (services, others): (Vec<_>, Vec<_>) = self
            .services
            .iter()
            .cloned()
            .partition(|service| is_imported(service));
        let namespace = &sidecar.metadata.namespace;
        let meant = services_meant(&self.services, &destinations, namespace);
        let own_port = port_to_match(listener);
        let destination = |service: Shared<Service>| {
            let host = service.hostname.as_str();
            let of_host = meant.get(host)?;
            let ports = destinations.get(host)?;
            let is_taken = |port| match own_port {
                Some(own) => port == own,
                None => ports.contains(&0) || ports.contains(&port),
            };
            (of_host.namespace == service.namespace)
                .then(|| with_ports(service, is_taken))
                .flatten()
        };
        let on_port = |service| match own_port {
            Some(own) => with_ports(service, |port| port == own),
            None => Some(service),
        };
        EgressScope {
            listener: Some(listener.clone()),
            services: services.into_iter().filter_map(on_port).collect(),
            destinations: others.into_iter().filter_map(destination).collect(),
            virtual_services,
        }
    }
}

/// The port that services must have to be imported by a listener; a proxy for all hosts asks for none
/// (istio `needsPortMatch`).
fn port_to_match(listener: &EgressListener) -> Option<u32> {
    let port = listener.port.as_ref()?;
    let is_proxy = Protocol::parse(&port.protocol) == Protocol::HttpProxy;
    (port.number != 0 && !is_proxy).then_some(port.number)
}

/// The service with those of its ports; `None` if that is none.
fn with_ports(service: Shared<Service>, is_taken: impl Fn(u32) -> bool) -> Option<Shared<Service>> {
    if service.ports.iter().all(|port| is_taken(port.number)) {
        return (!service.ports.is_empty()).then_some(service);
    }
    let mut part = (*service).clone();
    part.ports.retain(|port| is_taken(port.number));
    (!part.ports.is_empty()).then(|| Shared::new(part))
}

/// Of each of `hosts` the service that a client of `namespace` means: its own namespace's, else the oldest.
fn services_meant<'a>(
    services: &'a [Shared<Service>],
    hosts: &BTreeMap<&str, BTreeSet<u32>>,
    namespace: &str,
) -> BTreeMap<&'a str, &'a Shared<Service>> {
    let mut meant: BTreeMap<&str, &Shared<Service>> = BTreeMap::new();
    for service in services {
        let host = service.hostname.as_str();
        if !hosts.contains_key(host) {
            continue;
        }
        let known = meant.entry(host).or_insert(service);
        if &*known.namespace != namespace && &*service.namespace == namespace {
            *known = service;
        }
    }
    meant
}

pub(crate) fn parse_tokens(tokens: &[String]) -> Vec<Visibility> {
    tokens
        .iter()
        .map(|token| Visibility::parse(token))
        .collect()
}

/// Hosts that a VirtualService sends traffic to.
pub fn destination_hosts(rule: &VirtualService) -> impl Iterator<Item = &str> {
    destinations_of(rule).map(|destination| destination.host.as_str())
}

/// Where a VirtualService sends traffic to.
fn destinations_of(rule: &VirtualService) -> impl Iterator<Item = &Destination> {
    let spec = &rule.spec;
    let http = spec.http.iter().flat_map(|route| {
        let mirrors = route
            .mirrors
            .iter()
            .filter_map(|mirror| mirror.destination.as_ref());
        route
            .route
            .iter()
            .map(|r| &r.destination)
            .chain(&route.mirror)
            .chain(mirrors)
    });
    let tls = spec
        .tls
        .iter()
        .flat_map(|route| &route.route)
        .map(|r| &r.destination);
    let tcp = spec
        .tcp
        .iter()
        .flat_map(|route| &route.route)
        .map(|r| &r.destination);
    http.chain(tls).chain(tcp)
}

/// Of each host the service of the client's own namespace, else a Kubernetes Service, else the oldest; with
/// the ports of all listeners that import it.
fn one_per_host(egress: &[EgressScope], namespace: &str) -> Vec<Shared<Service>> {
    let rank = |service: &Service| {
        (
            &*service.namespace != namespace,
            service.registry != Registry::Kubernetes,
        )
    };
    let mut chosen: BTreeMap<&Hostname, Shared<Service>> = BTreeMap::new();
    let all = egress
        .iter()
        .flat_map(|scope| scope.services.iter().chain(&scope.destinations));
    for service in all {
        chosen
            .entry(&service.hostname)
            .and_modify(|old| {
                if rank(service) < rank(old) {
                    *old = service.clone();
                } else if service.namespace == old.namespace
                    && service.registry == old.registry
                    && service.ports != old.ports
                {
                    add_ports(old, service);
                }
            })
            .or_insert_with(|| service.clone());
    }
    let mut services: Vec<Shared<Service>> = chosen.into_values().collect();
    services.sort_by(|a, b| a.age().cmp(&b.age()));
    services
}

/// Add the ports that another part of the same service has.
fn add_ports(service: &mut Shared<Service>, part: &Service) {
    let mut whole = (**service).clone();
    for port in &part.ports {
        if whole.find_port(port.number).is_none() {
            whole.ports.push(port.clone());
        }
    }
    *service = Shared::new(whole);
}

fn keep_chosen(scope: EgressScope, chosen: &[Shared<Service>]) -> EgressScope {
    let keys: BTreeMap<&Hostname, &Arc<str>> = chosen
        .iter()
        .map(|service| (&service.hostname, &service.namespace))
        .collect();
    let services = scope
        .services
        .into_iter()
        .filter(|service| keys.get(&service.hostname) == Some(&&service.namespace))
        .collect();
    EgressScope { services, ..scope }
}
