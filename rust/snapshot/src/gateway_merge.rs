//! Gateways of one router, merged into listeners and route configurations.
//!
//! Source: istio pilot/pkg/model/gateway.go `mergeGateways`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ServiceTarget;
use navarch_model::{
    ConfigKey, Diagnostic, Gateway, GatewayServices, Kind, Protocol, Server, ServerTlsMode,
    Severity, Shared,
};

/// A Service with this label does not translate the ports of its gateway.
const NO_TRANSLATION_LABEL: &str = "experimental.istio.io/disable-gateway-port-translation";

/// A port that a router listens on; servers with all three in common share a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerPort {
    /// The workload's port: the targetPort of the gateway's Service, or the number as written.
    pub number: u32,
    /// As written.
    pub protocol: String,
    /// The address to bind, or "".
    pub bind: String,
}

/// One server of a merged gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayServer {
    /// The Gateway as `namespace/name`.
    pub gateway: Arc<str>,
    /// The server; `hosts` are of the forms `host` and `namespace/host`.
    pub server: Shared<Server>,
    /// The port that it listens on.
    pub port: ServerPort,
    /// The route configuration; "" for servers that pass bytes on.
    pub route_name: Arc<str>,
}

impl GatewayServer {
    /// Whether requests are told apart: plain HTTP, or HTTPS that ends here.
    pub fn is_http(&self) -> bool {
        is_http_server(&self.server)
    }
}

/// All servers of one router.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MergedGateway {
    /// Listener ports, in the order in which the Gateways name them, each with its servers.
    pub ports: Vec<(ServerPort, Vec<GatewayServer>)>,
    /// Servers by route configuration.
    pub routes: BTreeMap<Arc<str>, Vec<GatewayServer>>,
    /// Servers that are not in force, and why.
    pub conflicts: Vec<GatewayConflict>,
}

/// A server that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayConflict {
    /// The Gateway as `namespace/name`.
    pub gateway: Arc<str>,
    /// The object that the Gateway was made from, if it was not written.
    pub source: Option<ConfigKey>,
    /// The server's place in it.
    pub index: usize,
    /// What it conflicts with.
    pub message: String,
}

impl GatewayConflict {
    /// As a diagnostic on the Gateway.
    pub fn diagnostic(&self) -> Diagnostic {
        let written = || {
            let (namespace, name) = self.gateway.split_once('/').unwrap_or(("", &self.gateway));
            ConfigKey::new(Kind::Gateway, namespace, name)
        };
        let field_path = match self.source {
            None => format!("spec.servers[{}]", self.index),
            Some(_) => String::new(),
        };
        Diagnostic {
            key: self.source.clone().unwrap_or_else(written),
            code: "gateway-conflict",
            severity: Severity::Error,
            field_path,
            message: self.message.clone(),
        }
    }
}

/// Merge the Gateways of a router, oldest first; `targets` tell which port a Service's port is on the workload.
pub fn merge_gateways(gateways: &[Shared<Gateway>], targets: &[ServiceTarget]) -> MergedGateway {
    let mut merger = Merger::default();
    for gateway in in_force(gateways, targets) {
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            for number in ports_of(gateway, server.port.number, targets) {
                merger.add(gateway, (index, server), number);
            }
        }
    }
    merger.merged
}

#[derive(Default)]
struct Merger {
    merged: MergedGateway,
    /// The first plaintext server's port, by number.
    plaintext: BTreeMap<u32, ServerPort>,
    numbers: BTreeSet<u32>,
    /// Binds of ports whose first server is TLS.
    binds: BTreeMap<u32, BTreeSet<String>>,
    /// Hosts of TLS servers, with their bind.
    tls_hosts: BTreeMap<u32, BTreeMap<String, String>>,
}

impl Merger {
    fn add(&mut self, gateway: &Gateway, (index, server): (usize, &Server), number: u32) {
        let metadata = &gateway.metadata;
        let name: Arc<str> = format!("{}/{}", metadata.namespace, metadata.name).into();
        let server = Server {
            hosts: clean_hosts(&server.hosts, &metadata.namespace),
            ..server.clone()
        };
        let entry = GatewayServer {
            gateway: name.clone(),
            port: ServerPort {
                number,
                protocol: server.port.protocol.clone(),
                bind: server.bind.clone(),
            },
            route_name: route_name(&server, number, gateway).into(),
            server: Shared::new(server),
        };
        if let Err(message) = self.place(entry) {
            self.merged.conflicts.push(GatewayConflict {
                gateway: name,
                source: gateway.sources.first().cloned(),
                index,
                message,
            });
        }
    }

    fn place(&mut self, entry: GatewayServer) -> Result<(), String> {
        let number = entry.port.number;
        if entry.server.tls.is_some() {
            self.take_hosts(&entry)?;
        }
        if !self.numbers.insert(number) {
            return match self.plaintext.get(&number).cloned() {
                Some(first) => self.join_plaintext(entry, first),
                None => self.join_tls(entry),
            };
        }
        if !is_tls_server(&entry.server) {
            self.plaintext.insert(number, entry.port.clone());
        }
        if entry.is_http() {
            self.add_route(&entry);
        }
        self.add_port(entry.port.clone(), entry);
        Ok(())
    }

    /// Refuse hosts that another TLS server on the port has: Envoy refuses two chains with the same match.
    fn take_hosts(&mut self, entry: &GatewayServer) -> Result<(), String> {
        let server = &entry.server;
        let known = self.tls_hosts.entry(entry.port.number).or_default();
        let is_taken = |host: &&String| known.get(*host) == Some(&server.bind);
        if let Some(host) = server.hosts.iter().find(is_taken) {
            return Err(format!(
                "not in force: host `{host}` has a TLS server on port {} already",
                entry.port.number
            ));
        }
        let hosts = server.hosts.iter();
        known.extend(hosts.map(|host| (host.clone(), server.bind.clone())));
        Ok(())
    }

    fn join_plaintext(&mut self, entry: GatewayServer, first: ServerPort) -> Result<(), String> {
        let protocol = Protocol::parse(&entry.port.protocol);
        let other = Protocol::parse(&first.protocol);
        let is_mergeable = (protocol.is_http() || protocol == other) && other.is_http();
        let is_same_bind = first.bind == entry.port.bind;
        if is_same_bind && (!is_mergeable || entry.route_name.is_empty()) {
            return Err(format!(
                "not in force: port {} speaks {} already",
                first.number, first.protocol
            ));
        }
        self.add_route(&entry);
        let port = if is_same_bind {
            first
        } else {
            entry.port.clone()
        };
        self.add_port(port, entry);
        Ok(())
    }

    fn join_tls(&mut self, entry: GatewayServer) -> Result<(), String> {
        let number = entry.port.number;
        if entry.is_http() && self.merged.routes.contains_key(&entry.route_name) {
            return Err(format!(
                "not in force: the port name `{}` is used twice on port {number}",
                entry.server.port.name
            ));
        }
        let bind = entry.port.bind.clone();
        let is_new_bind = self.binds.entry(number).or_default().insert(bind);
        if entry.server.tls.is_none() && !is_new_bind {
            return Err(format!("not in force: port {number} has TLS servers"));
        }
        if entry.is_http() {
            self.add_route(&entry);
        }
        self.add_port(entry.port.clone(), entry);
        Ok(())
    }

    fn add_route(&mut self, entry: &GatewayServer) {
        let name = entry.route_name.clone();
        let servers = self.merged.routes.entry(name).or_default();
        servers.push(entry.clone());
    }

    fn add_port(&mut self, port: ServerPort, entry: GatewayServer) {
        let ports = &mut self.merged.ports;
        match ports.iter_mut().find(|(known, _)| *known == port) {
            Some((_, servers)) => servers.push(entry),
            None => ports.push((port, vec![entry])),
        }
    }
}

/// The Gateways whose servers the router has: a router that is deployed for a Gateway of Gateway API takes none of
/// Istio's from other namespaces (istio `push_context.go`, `PILOT_ENABLE_STRICT_GATEWAY_MERGING`).
fn in_force<'a>(
    gateways: &'a [Shared<Gateway>],
    targets: &[ServiceTarget],
) -> Vec<&'a Shared<Gateway>> {
    let is_served = |gateway: &&Shared<Gateway>| {
        let services = gateway.services.as_ref();
        services.is_none_or(|services| targets.iter().any(|t| is_target(services, t)))
    };
    let mut served: Vec<_> = gateways.iter().filter(is_served).collect();
    let managed: BTreeSet<&str> = served
        .iter()
        .filter_map(|gateway| gateway.services.as_ref())
        .filter(|services| services.is_managed)
        .map(|services| services.namespace.as_str())
        .collect();
    served.retain(|gateway| {
        gateway.services.is_some()
            || managed.is_empty()
            || managed.contains(gateway.metadata.namespace.as_str())
    });
    served
}

fn is_target(services: &GatewayServices, target: &ServiceTarget) -> bool {
    *target.service.namespace == *services.namespace
        && services.hosts.contains(&target.service.hostname)
}

/// The workload's ports for a server's: one by label selection, but of named Services all that have it, or none.
fn ports_of(gateway: &Gateway, number: u32, targets: &[ServiceTarget]) -> BTreeSet<u32> {
    let Some(services) = &gateway.services else {
        return BTreeSet::from([translate_port(number, targets)]);
    };
    targets
        .iter()
        .filter(|target| is_target(services, target) && target.port.number == number)
        .map(|target| target.target_port)
        .collect()
}

/// The workload's port for a server's: the targetPort of the first service of the proxy that has the port.
fn translate_port(number: u32, targets: &[ServiceTarget]) -> u32 {
    let mut translating = targets
        .iter()
        .filter(|target| !target.service.labels.contains_key(NO_TRANSLATION_LABEL));
    translating
        .find(|target| target.port.number == number)
        .map_or(number, |target| target.target_port)
}

/// Hosts without needless namespaces: `./host` is of the Gateway's own, `*/host` of any.
fn clean_hosts(hosts: &[String], namespace: &str) -> Vec<String> {
    if hosts.iter().any(|host| host == "*/*") {
        return vec!["*".to_owned()];
    }
    let clean = |host: &String| match host.split_once('/') {
        Some((".", host)) => format!("{namespace}/{host}"),
        Some(("*", host)) => host.to_owned(),
        _ => host.clone(),
    };
    hosts.iter().map(clean).collect()
}

fn route_name(server: &Server, number: u32, gateway: &Gateway) -> String {
    let bind = if server.bind.is_empty() {
        String::new()
    } else {
        format!(".{}", server.bind)
    };
    if Protocol::parse(&server.port.protocol).is_http() {
        return format!("http.{number}{bind}");
    }
    if !is_http_server(server) {
        return String::new();
    }
    let metadata = &gateway.metadata;
    format!(
        "https.{}.{}.{}.{}{bind}",
        server.port.number, server.port.name, metadata.name, metadata.namespace
    )
}

/// Whether it is HTTP, or HTTPS that ends here.
fn is_http_server(server: &Server) -> bool {
    match Protocol::parse(&server.port.protocol) {
        Protocol::Https => server.tls.as_ref().is_some_and(|tls| {
            !matches!(
                tls.mode,
                ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough
            )
        }),
        protocol => protocol.is_http(),
    }
}

fn is_tls_server(server: &Server) -> bool {
    server.tls.is_some() && !Protocol::parse(&server.port.protocol).is_http()
}

#[cfg(test)]
mod tests {
    use crate::{Change, MeshOptions, MeshStore, ServiceTarget};
    use navarch_model::{
        ConfigKey, EntryPort, Gateway, GatewayServices, Kind, Server, ServerTlsMode,
        ServerTlsSettings, Shared,
    };

    use super::{clean_hosts, merge_gateways};

    fn server(number: u32, protocol: &str, name: &str, host: &str) -> Server {
        Server {
            port: EntryPort {
                number,
                protocol: protocol.to_owned(),
                name: name.to_owned(),
                ..EntryPort::default()
            },
            hosts: vec![host.to_owned()],
            tls: (protocol == "HTTPS").then(|| ServerTlsSettings {
                mode: ServerTlsMode::Simple,
                ..ServerTlsSettings::default()
            }),
            ..Server::default()
        }
    }

    #[test]
    fn plain_servers_share_a_route_configuration_and_tls_servers_do_not() {
        let mut gateway = Gateway::default();
        gateway.metadata.name = "g".to_owned();
        gateway.metadata.namespace = "n".to_owned();
        gateway.spec.servers = vec![
            server(80, "HTTP", "http", "a.com"),
            server(80, "HTTP2", "http2", "b.com"),
            server(80, "TCP", "tcp", "*"),
            server(443, "HTTPS", "a", "a.com"),
            server(443, "HTTPS", "b", "b.com"),
            server(443, "HTTPS", "c", "a.com"),
        ];
        let merged = merge_gateways(&[Shared::new(gateway)], &[]);
        let routes: Vec<_> = merged
            .routes
            .iter()
            .map(|(name, servers)| (&**name, servers.len()))
            .collect();
        assert_eq!(
            routes,
            [
                ("http.80", 2),
                ("https.443.a.g.n", 1),
                ("https.443.b.g.n", 1)
            ]
        );
        let refused: Vec<_> = merged.conflicts.iter().map(|c| c.index).collect();
        assert_eq!(refused, [2, 5]);
    }

    #[test]
    fn hosts_lose_namespaces_that_say_nothing() {
        let clean = |hosts: &[&str]| {
            let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
            clean_hosts(&hosts, "n")
        };
        assert_eq!(
            clean(&["./a.com", "*/b.com", "m/c.com", "d.com"]),
            ["n/a.com", "b.com", "m/c.com", "d.com"]
        );
        assert_eq!(clean(&["a.com", "*/*"]), ["*"]);
    }

    fn target(name: &str, port: u32, target_port: u32) -> ServiceTarget {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"edge"}},"spec":{{"ports":[{{"port":{port}}}]}}}}"#
        );
        let mut store = MeshStore::new(MeshOptions::default());
        store.apply(vec![Change {
            key: ConfigKey::new(Kind::Service, "edge", name),
            payload: Some(json.into_bytes()),
        }]);
        let service = store.snapshot().services()[0].clone();
        ServiceTarget {
            port: service.ports[0].clone(),
            service,
            target_port,
        }
    }

    fn of_services(name: &str, hosts: &[&str], is_managed: bool) -> Shared<Gateway> {
        let mut gateway = Gateway::default();
        gateway.metadata.name = name.to_owned();
        gateway.metadata.namespace = "edge".to_owned();
        gateway.spec.servers = vec![server(80, "HTTP", "default", "*")];
        gateway.services = Some(GatewayServices {
            hosts: hosts
                .iter()
                .map(|host| format!("{host}.edge.svc.cluster.local").into())
                .collect(),
            namespace: "edge".to_owned(),
            is_managed,
        });
        Shared::new(gateway)
    }

    #[test]
    fn servers_behind_services_listen_where_those_lead() {
        let gateway = of_services("g", &["a", "b"], true);
        let ports = |targets: &[ServiceTarget]| {
            let merged = merge_gateways(std::slice::from_ref(&gateway), targets);
            let ports = merged.ports.iter().map(|(port, _)| port.number);
            ports.collect::<Vec<_>>()
        };
        assert_eq!(
            ports(&[target("a", 80, 8080), target("b", 80, 8081)]),
            [8080, 8081]
        );
        assert!(ports(&[target("a", 81, 8080)]).is_empty());
        assert!(ports(&[target("other", 80, 80)]).is_empty());
    }

    #[test]
    fn a_router_made_for_one_gateway_takes_none_from_other_namespaces() {
        let foreign = || {
            let mut gateway = Gateway::default();
            gateway.metadata.name = "foreign".to_owned();
            gateway.metadata.namespace = "other".to_owned();
            gateway.spec.servers = vec![server(90, "HTTP", "http", "*")];
            Shared::new(gateway)
        };
        let n_ports = |is_managed: bool| {
            let gateways = [of_services("g", &["a"], is_managed), foreign()];
            merge_gateways(&gateways, &[target("a", 80, 80)])
                .ports
                .len()
        };
        assert_eq!(n_ports(true), 1);
        assert_eq!(n_ports(false), 2);
    }
}
