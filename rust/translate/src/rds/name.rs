//! The names by which sidecars' listeners refer to route configurations.

use std::collections::BTreeSet;

use navarch_model::{ListenerProtocol, Protocol, Registry, Resolution, Service, ServicePort};
use navarch_snapshot::{EgressScope, MeshSnapshot, ProxyScope};

use super::domain::Viewer;

/// The configuration of the explicit HTTP proxy (`proxyHttpPort`).
const HTTP_PROXY: &str = "http_proxy";
const UNIX_PREFIX: &str = "unix://";

/// A name, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteName<'a> {
    /// `80`: the HTTP services of a port.
    Port(u32),
    /// `host:port`: one service whose protocol is sniffed.
    Sniffed {
        /// The service's host.
        host: &'a str,
        /// Its port.
        port: u32,
    },
    /// `http_proxy`
    HttpProxy,
    /// `unix://path`: a Sidecar's listener on a socket.
    Unix(&'a str),
}

impl<'a> RouteName<'a> {
    /// Read a name; `None` for those that mean nothing.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        if name == HTTP_PROXY {
            return Some(Self::HttpProxy);
        }
        if name.starts_with(UNIX_PREFIX) {
            return Some(Self::Unix(name));
        }
        match name.rsplit_once(':') {
            Some((host, port)) => Some(Self::Sniffed {
                host,
                port: port.parse().ok()?,
            }),
            None => name.parse().ok().map(Self::Port),
        }
    }

    /// The port whose services it reaches; 0 for all.
    pub(super) const fn port(&self) -> u32 {
        match self {
            Self::Port(port) | Self::Sniffed { port, .. } => *port,
            Self::HttpProxy | Self::Unix(_) => 0,
        }
    }
}

/// The egress listener behind a name (istio sidecar.go `GetEgressListenerForRDS`), with its place.
pub(super) fn find_egress<'a>(
    scope: &'a ProxyScope,
    name: &RouteName<'_>,
) -> Option<(usize, &'a EgressScope)> {
    scope.egress.iter().enumerate().find(|(_, egress)| {
        let listener = egress.listener.as_ref();
        let Some((listener, port)) = listener.and_then(|l| Some((l, l.port.as_ref()?))) else {
            return true;
        };
        match name {
            RouteName::Unix(path) => port.number == 0 && listener.bind == *path,
            other => port.number != 0 && port.number == other.port(),
        }
    })
}

/// The names that the outbound listeners of a scope refer to.
pub(super) fn sidecar_route_names(mesh: &MeshSnapshot, scope: &ProxyScope) -> BTreeSet<String> {
    let mut names = Names {
        mesh,
        viewer: Viewer::new(&scope.group),
        scope,
        names: BTreeSet::new(),
        explicit_ports: BTreeSet::new(),
        tcp_ports: BTreeSet::new(),
    };
    for egress in &scope.egress {
        names.add_egress(egress);
    }
    let own_proxy_port = scope.group.metadata.http_proxy_port.parse::<u32>();
    let proxy_port = own_proxy_port.unwrap_or(scope.mesh_config.proxy_http_port);
    if proxy_port != 0 {
        names.names.insert(HTTP_PROXY.to_owned());
    }
    names.names
}

struct Names<'a> {
    mesh: &'a MeshSnapshot,
    viewer: Viewer,
    scope: &'a ProxyScope,
    names: BTreeSet<String>,
    /// Ports that the Sidecar has listeners of its own for.
    explicit_ports: BTreeSet<u32>,
    /// Ports that an older opaque service without an address has taken.
    tcp_ports: BTreeSet<u32>,
}

impl Names<'_> {
    fn add_egress(&mut self, egress: &EgressScope) {
        let listener = egress.listener.as_ref();
        if let Some((listener, port)) = listener.and_then(|l| Some((l, l.port.as_ref()?))) {
            self.add_explicit(egress, &listener.bind, (port.number, &port.protocol));
            return;
        }
        let bind = listener.map_or("", |listener| &listener.bind);
        for service in &egress.services {
            if service.resolution == Resolution::Alias {
                continue;
            }
            for port in &service.ports {
                self.add_service_port(service, port, bind);
            }
        }
    }

    fn add_explicit(&mut self, egress: &EgressScope, bind: &str, (port, protocol): (u32, &str)) {
        let protocol = Protocol::parse(protocol);
        let is_any_port = port == 0 || protocol == Protocol::HttpProxy;
        let mut services = egress.services.iter();
        let first = services.find(|s| is_any_port || s.find_port(port).is_some());
        let Some(first) = first else {
            return;
        };
        self.explicit_ports.insert(port);
        match protocol.listener_protocol() {
            ListenerProtocol::Tcp => {}
            _ if port == 0 => {
                self.names.insert(bind.to_owned());
            }
            ListenerProtocol::Auto if !bind.is_empty() && !is_unspecified(bind) => {
                self.names.insert(format!("{}:{port}", first.hostname));
            }
            _ => {
                self.names.insert(port.to_string());
            }
        }
    }

    fn add_service_port(&mut self, service: &Service, port: &ServicePort, bind: &str) {
        let number = port.number;
        match port.protocol.listener_protocol() {
            ListenerProtocol::Http => {
                if !self.explicit_ports.contains(&number) && !self.tcp_ports.contains(&number) {
                    self.names.insert(number.to_string());
                }
            }
            ListenerProtocol::Tcp => {
                let is_taken = self.names.contains(&number.to_string());
                let is_unbound = bind.is_empty() && self.bound_address(service).is_none();
                if is_unbound && !is_taken && !self.is_per_endpoint(service) {
                    self.tcp_ports.insert(number);
                }
            }
            ListenerProtocol::Auto => self.add_sniffed(service, port, bind),
        }
    }

    fn add_sniffed(&mut self, service: &Service, port: &ServicePort, bind: &str) {
        let is_bound = if bind.is_empty() {
            self.bound_address(service).is_some()
        } else {
            !is_unspecified(bind)
        };
        if is_bound {
            self.names
                .insert(format!("{}:{}", service.hostname, port.number));
        } else if bind.is_empty() && self.is_per_endpoint(service) {
            if self.has_endpoints(service, port) {
                self.names
                    .insert(format!("{}:{}", service.hostname, port.number));
            }
        } else if !self.explicit_ports.contains(&port.number) {
            self.names.insert(port.number.to_string());
        }
    }

    /// The address that a listener for one service binds; without one it listens on all.
    fn bound_address(&self, service: &Service) -> Option<String> {
        let addresses = self.viewer.addresses(service);
        let first = addresses.first().filter(|a| !a.contains('/'))?;
        (!is_unspecified(first)).then(|| first.to_string())
    }

    /// Whether opaque ports of a service have one listener per endpoint: headless services.
    fn is_per_endpoint(&self, service: &Service) -> bool {
        let is_headless = service.resolution == Resolution::Passthrough
            && self.viewer.addresses(service).is_empty();
        let may_have_endpoints = service.registry == Registry::Kubernetes
            || !service.selector.is_empty()
            || !self.mesh.endpoints(service).endpoints.is_empty();
        is_headless && may_have_endpoints
    }

    /// Whether any endpoint is not the proxy itself.
    fn has_endpoints(&self, service: &Service, port: &ServicePort) -> bool {
        let own = &self.scope.group.headless_addresses;
        let endpoints = self.mesh.endpoints(service);
        let is_other = |address: &std::sync::Arc<str>| !own.contains(address);
        endpoints
            .of_port(&port.name)
            .any(|endpoint| endpoint.addresses.first().is_some_and(is_other))
    }
}

fn is_unspecified(address: &str) -> bool {
    matches!(address, "0.0.0.0" | "::")
}

#[cfg(test)]
mod tests {
    use super::RouteName;

    #[test]
    fn names_are_read() {
        for (name, want) in [
            ("80", Some(RouteName::Port(80))),
            (
                "a.b:8080",
                Some(RouteName::Sniffed {
                    host: "a.b",
                    port: 8080,
                }),
            ),
            ("http_proxy", Some(RouteName::HttpProxy)),
            ("unix:///x", Some(RouteName::Unix("unix:///x"))),
            ("a.b:c", None),
            ("http.8080", None),
            ("", None),
        ] {
            assert_eq!(RouteName::parse(name), want, "{name}");
        }
    }
}
