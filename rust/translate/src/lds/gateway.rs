//! Listeners of routers as inputs: the servers of their Gateways.
//!
//! Source: istio `pilot/pkg/networking/core/gateway.go` `buildGatewayListeners`.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    Hostname, L4MatchAttributes, Protocol, Server, ServerTlsMode, Shared, VirtualService, hash128,
};
use navarch_snapshot::{GatewayServer, MeshSnapshot, ProxyScope, ServerPort};

use super::connection_settings;
use super::facts::{HttpFacts, NetworkFacts, ip_mode};
use super::filter_chain::{ChainMatch, MUTUAL_TLS_ANY, sni_conflict_key};
use super::network_filter::{TcpPolicy, TcpRoute, TcpTarget};
use super::tcp_routing::route_to;
use super::tls::{MutualTlsFacts, ServerTlsFacts};
use crate::memo::Memo;
use crate::name;
use crate::policy::PolicyFacts;
use crate::provider::find_cluster;
use crate::rds::Precedence;

/// One listener of a router.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayInputs {
    pub(super) network: Shared<NetworkFacts>,
    pub(super) policies: Shared<PolicyFacts>,
    /// Only where a chain has a connection manager.
    pub(super) http: Option<Shared<HttpFacts>>,
    /// The first is the address; the others are additional ones.
    pub(super) binds: Vec<Arc<str>>,
    pub(super) port: u32,
    pub(super) chains: Vec<GatewayChain>,
    /// Gateways with servers whose chains older ones have already.
    pub(super) rejected: Vec<Arc<str>>,
    pub(super) has_proxy_protocol: bool,
    pub(super) buffer_limit_bytes: Option<u32>,
}

impl GatewayInputs {
    /// The names of the route configurations that its chains ask for.
    pub(super) fn route_names(&self) -> impl Iterator<Item = &str> {
        let names = self.chains.iter().filter_map(GatewayChain::route_name);
        names.map(|name| &**name)
    }
}

impl GatewayChain {
    /// The route configuration that it asks for.
    pub(super) fn route_name(&self) -> Option<&Arc<str>> {
        match &self.content {
            Content::Http { route_name, .. } => Some(route_name),
            Content::Tcp { .. } | Content::Refusal { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GatewayChain {
    pub(super) conditions: ChainMatch,
    pub(super) tls: Option<Shared<ServerTlsFacts>>,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Content {
    Http {
        route_name: Arc<str>,
        protocol: Protocol,
        /// The server's name where it has one; else the listener's.
        stat_prefix: String,
    },
    Tcp {
        route: TcpRoute,
        /// Both ends are of the mesh, and tell each other who they are.
        has_metadata_exchange: bool,
    },
    /// Drops connections to a server of that Gateway which can't be served.
    Refusal { gateway: Arc<str> },
}

/// A listener while servers add to it.
#[derive(Default)]
struct Draft {
    chains: Vec<GatewayChain>,
    /// Hashes of what Envoy tells its chains apart by.
    keys: BTreeSet<u128>,
    rejected: Vec<Arc<str>>,
}

impl Draft {
    /// Whether a chain of that conflict key is the first; else the server's Gateway is noted.
    fn claim(&mut self, gateway: &Arc<str>, key: u128) -> bool {
        let is_first = self.keys.insert(key);
        if !is_first && self.rejected.last() != Some(gateway) {
            self.rejected.push(gateway.clone());
        }
        is_first
    }

    /// Add a server's chains, but those that Envoy can't tell from one that is there.
    fn add(&mut self, gateway: &Arc<str>, chains: impl IntoIterator<Item = GatewayChain>) {
        for chain in chains {
            if self.claim(gateway, chain.conditions.conflict_key()) {
                self.chains.push(chain);
            }
        }
    }
}

type ByGateway<'a> = BTreeMap<&'a str, Vec<&'a Shared<VirtualService>>>;

struct Router<'a> {
    scope: &'a ProxyScope,
    /// Cluster and host of the mesh's own secret service.
    secret_service: Option<(String, String)>,
    /// VirtualServices by the Gateway (`namespace/name`) that they are bound to, in order of precedence.
    by_gateway: LazyCell<ByGateway<'a>, Box<dyn FnOnce() -> ByGateway<'a> + 'a>>,
    /// TLS of servers, by the hash of its settings.
    tls: BTreeMap<u128, Shared<ServerTlsFacts>>,
    /// SNI hosts of passthrough chains, by port and bind.
    sni_hosts: BTreeMap<u32, BTreeSet<(String, String)>>,
}

/// The listeners of a router, by address and port.
pub(super) fn inputs(mesh: &MeshSnapshot, scope: &ProxyScope) -> Vec<GatewayInputs> {
    let network = Shared::new(NetworkFacts::new(&scope.mesh_config, &scope.group));
    let group = &scope.group;
    let policies = PolicyFacts::new(mesh, &group.namespace, &group.labels, true);
    let policies = Shared::new(policies);
    let http = Shared::new(
        HttpFacts::new(&scope.mesh_config, group, false)
            .with_policies(policies.clone())
            .with_internal_subnets(mesh.networks.subnets()),
    );
    let mut router = Router {
        scope,
        secret_service: secret_service(mesh),
        by_gateway: LazyCell::new(Box::new(|| by_gateway(scope))),
        tls: BTreeMap::new(),
        sni_hosts: BTreeMap::new(),
    };
    let mut drafts: BTreeMap<(Vec<Arc<str>>, u32), Draft> = BTreeMap::new();
    for (port, servers) in &scope.gateways.ports {
        if scope.group.metadata.unprivileged_pod && port.number < 1024 {
            continue;
        }
        let key = (binds(scope, port), port.number);
        router.add_chains(port, servers, drafts.entry(key).or_default());
    }
    let topology = http.proxy_config.gateway_topology.as_ref();
    let has_proxy_protocol = topology.is_some_and(|t| t.proxy_protocol.is_some());
    let settings = http.connection_settings.as_ref();
    let buffer_limit_bytes = settings.and_then(|settings| {
        connection_settings::effective(settings, scope.group.kind)
            .listener_per_connection_buffer_limit_bytes
    });
    let is_http = |chain: &GatewayChain| matches!(chain.content, Content::Http { .. });
    drafts
        .into_iter()
        .filter(|(_, draft)| !draft.chains.is_empty())
        .map(|((binds, port), draft)| GatewayInputs {
            network: network.clone(),
            policies: policies.clone(),
            http: draft.chains.iter().any(is_http).then(|| http.clone()),
            binds,
            port,
            chains: draft.chains,
            rejected: draft.rejected,
            has_proxy_protocol,
            buffer_limit_bytes,
        })
        .collect()
}

/// The first extension provider that serves secrets (istio `pilot/pkg/model/extensionproviders.go` `LookupCluster`).
fn secret_service(mesh: &MeshSnapshot) -> Option<(String, String)> {
    let providers = &mesh.mesh_config.extension_providers;
    let provider = providers
        .iter()
        .find_map(|provider| provider.sds.as_ref())?;
    let found = find_cluster(mesh, provider).ok()?;
    Some((found.cluster, found.host))
}

fn binds(scope: &ProxyScope, port: &ServerPort) -> Vec<Arc<str>> {
    // Istio gives routers the further family's address only with its feature for dual stack, which is off.
    let wildcard = ip_mode(&scope.group).wildcards()[0];
    vec![
        if port.bind.is_empty() {
            wildcard
        } else {
            &port.bind
        }
        .into(),
    ]
}

fn by_gateway(scope: &ProxyScope) -> ByGateway<'_> {
    let mut by_gateway: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for rule in scope
        .egress
        .iter()
        .flat_map(|egress| &egress.virtual_services)
    {
        for gateway in &rule.spec.gateways {
            by_gateway.entry(gateway).or_default().push(rule);
        }
    }
    let precedence = Precedence::new(scope);
    for rules in by_gateway.values_mut() {
        rules.sort_by_key(|rule| precedence.rank(rule));
    }
    by_gateway
}

impl<'a> Router<'a> {
    fn add_chains(&mut self, port: &ServerPort, servers: &[GatewayServer], draft: &mut Draft) {
        let protocol = Protocol::parse(&port.protocol);
        // Plaintext HTTP servers share one route configuration.
        if let Some(first) = servers.first().filter(|_| protocol.is_http()) {
            let chain = GatewayChain {
                conditions: ChainMatch::default(),
                tls: None,
                content: Content::Http {
                    route_name: first.route_name.clone(),
                    protocol,
                    stat_prefix: String::new(),
                },
            };
            draft.add(&first.gateway, [chain]);
            return;
        }
        for server in servers {
            self.add_server(server, draft);
        }
    }

    fn add_server(&mut self, entry: &GatewayServer, draft: &mut Draft) {
        let server = &entry.server;
        let gateway = &entry.gateway;
        let mode = server.tls.as_ref().map(|tls| tls.mode);
        // Mutual TLS of the mesh needs a workload certificate.
        let is_refused =
            mode == Some(ServerTlsMode::IstioMutual) && !self.scope.group.has_workload_certificate;
        match mode {
            Some(ServerTlsMode::AutoPassthrough) => {
                draft.add(gateway, self.sni_routed_chains(server));
            }
            Some(ServerTlsMode::Passthrough) => draft.add(gateway, self.passthrough_chains(entry)),
            _ if is_refused || entry.is_http() => {
                let hosts = sni_hosts(server);
                // Most of what is refused here are servers of the same hosts, of which there may be thousands.
                if draft.claim(gateway, sni_conflict_key(hosts.clone())) {
                    draft.chains.push(self.host_chain(entry, hosts, is_refused));
                }
            }
            _ => draft.add(gateway, self.tcp_chain(entry)),
        }
    }

    /// The chain of connections to a server's hosts.
    fn host_chain(
        &mut self,
        entry: &GatewayServer,
        hosts: Vec<&str>,
        is_refused: bool,
    ) -> GatewayChain {
        let server = &entry.server;
        GatewayChain {
            conditions: sni(owned(hosts)),
            tls: if is_refused { None } else { self.tls(entry) },
            content: if is_refused {
                Content::Refusal {
                    gateway: entry.gateway.clone(),
                }
            } else {
                Content::Http {
                    route_name: entry.route_name.clone(),
                    protocol: Protocol::parse(&server.port.protocol),
                    stat_prefix: server.name.clone(),
                }
            },
        }
    }

    /// The TLS of a server; equal ones are one, which is encoded once.
    fn tls(&mut self, entry: &GatewayServer) -> Option<Shared<ServerTlsFacts>> {
        let settings = entry.server.tls.as_ref()?;
        let is_tcp = !entry.is_http();
        let scope = self.scope;
        let facts = self
            .tls
            .entry(hash128(&(settings, is_tcp)))
            .or_insert_with(|| {
                Shared::new(ServerTlsFacts {
                    settings: settings.clone(),
                    defaults: scope.mesh_config.tls_defaults.clone(),
                    workload: MutualTlsFacts::new(&scope.mesh_config, &scope.group),
                    is_tcp,
                    has_agent: scope.group.has_agent(),
                    secret_service: self.secret_service.clone(),
                    socket: Memo::default(),
                })
            });
        Some(facts.clone())
    }

    fn rules(&self, gateway: &str) -> impl Iterator<Item = &'a VirtualService> + use<'a> {
        let rules = self.by_gateway.get(gateway).cloned().unwrap_or_default();
        rules.into_iter().map(|rule| &**rule)
    }

    /// The first TCP rule of a VirtualService that shares a host with the server.
    fn tcp_chain(&mut self, entry: &GatewayServer) -> Option<GatewayChain> {
        let server = &entry.server;
        let mode = server.tls.as_ref().map(|tls| tls.mode);
        let (rule, route) = self
            .rules(&entry.gateway)
            .filter(|rule| has_common_host(&server.hosts, rule))
            .find_map(|rule| {
                let applies = |m: &L4MatchAttributes| is_match(m.port, &m.gateways, entry);
                let mut routes = rule.spec.tcp.iter().filter(|route| !route.route.is_empty());
                let route = routes
                    .find(|route| route.matches.is_empty() || route.matches.iter().any(applies))?;
                Some((rule, route))
            })?;
        let port = (server.port.number, Protocol::parse(&server.port.protocol));
        let names = if mode.is_some() {
            sni_hosts(server)
        } else {
            Vec::new()
        };
        Some(GatewayChain {
            conditions: sni(owned(names)),
            tls: self.tls(entry),
            content: Content::Tcp {
                route: route_to(self.scope, &route.route, port, rule),
                has_metadata_exchange: mode == Some(ServerTlsMode::IstioMutual),
            },
        })
    }

    /// A chain for each TLS match; names that an older rule has on the port are its own.
    fn passthrough_chains(&mut self, entry: &GatewayServer) -> Vec<GatewayChain> {
        let server = &entry.server;
        let port = (server.port.number, Protocol::parse(&server.port.protocol));
        let mut chains = Vec::new();
        for rule in self.rules(&entry.gateway) {
            if !has_common_host(&server.hosts, rule) {
                continue;
            }
            for route in rule.spec.tls.iter().filter(|route| !route.route.is_empty()) {
                for condition in &route.matches {
                    let known = self.sni_hosts.entry(entry.port.number).or_default();
                    let names = condition.sni_hosts.iter();
                    let keys: Vec<_> = names
                        .map(|name| (server.bind.clone(), name.clone()))
                        .collect();
                    if !is_match(condition.port, &condition.gateways, entry)
                        || keys.iter().any(|key| known.contains(key))
                    {
                        continue;
                    }
                    known.extend(keys);
                    chains.push(GatewayChain {
                        conditions: sni(condition.sni_hosts.clone()),
                        tls: None,
                        content: Content::Tcp {
                            route: route_to(self.scope, &route.route, port, rule),
                            has_metadata_exchange: false,
                        },
                    });
                }
            }
        }
        chains
    }

    /// A chain for each service port and subset, told by the SNI that Istio's clients send.
    fn sni_routed_chains(&self, server: &Server) -> Vec<GatewayChain> {
        let hosts: Vec<Hostname> = sni_hosts(server).into_iter().map(Hostname::from).collect();
        let mut chains = Vec::new();
        let services = self.scope.services.iter().filter(|service| {
            !service.is_mesh_external
                && hosts.iter().any(|host| service.hostname.is_subset_of(host))
        });
        for service in services {
            let rule = self
                .scope
                .destination_rule(&service.hostname)
                .map(|rule| &rule.spec);
            let subsets = rule.map_or(&[][..], |rule| &rule.subsets);
            let names = || std::iter::once("").chain(subsets.iter().map(|s| s.name.as_str()));
            for port in service
                .ports
                .iter()
                .filter(|port| port.protocol != Protocol::Udp)
            {
                for subset in names() {
                    let host = service.hostname.as_str();
                    let cluster = name::sni_dnat_cluster(port.number, subset, host);
                    let pattern = &self.scope.mesh_config.outbound_cluster_stat_name;
                    let stat_prefix = if pattern.is_empty() {
                        cluster.clone()
                    } else {
                        name::stat_name(pattern, service, port, subset, 0)
                    };
                    chains.push(GatewayChain {
                        conditions: ChainMatch {
                            application_protocols: MUTUAL_TLS_ANY,
                            ..sni(vec![cluster.clone()])
                        },
                        tls: None,
                        content: Content::Tcp {
                            route: TcpRoute {
                                target: TcpTarget::Single(cluster),
                                stat_prefix,
                                protocol: port.protocol,
                                policy: TcpPolicy::new(rule, subset).without_tunnel(),
                            },
                            has_metadata_exchange: false,
                        },
                    });
                }
            }
        }
        chains
    }
}

fn sni(sni_hosts: Vec<String>) -> ChainMatch {
    ChainMatch {
        sni_hosts,
        ..ChainMatch::default()
    }
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// The hosts of a server without namespaces, each once.
fn sni_hosts(server: &Server) -> Vec<&str> {
    let mut hosts: Vec<&str> = Vec::with_capacity(server.hosts.len());
    for host in &server.hosts {
        let host = host.split_once('/').map_or(host.as_str(), |(_, host)| host);
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// Whether a VirtualService has a host of the server, in a namespace that the server lets in.
fn has_common_host(server_hosts: &[String], rule: &VirtualService) -> bool {
    server_hosts.iter().any(|server_host| {
        let (namespace, host) = match server_host.split_once('/') {
            Some((namespace, host)) => (Some(namespace), host),
            None => (None, server_host.as_str()),
        };
        let host = Hostname::from(host);
        namespace.is_none_or(|namespace| namespace == rule.metadata.namespace)
            && rule
                .spec
                .hosts
                .iter()
                .any(|own| host.is_matching(&own.as_str().into()))
    })
}

fn is_match(port: u32, gateways: &[String], entry: &GatewayServer) -> bool {
    (port == 0 || port == entry.server.port.number)
        && (gateways.is_empty() || gateways.iter().any(|gateway| **gateway == *entry.gateway))
}
