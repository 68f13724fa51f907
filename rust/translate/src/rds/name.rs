//! The names by which sidecars' listeners refer to route configurations.

use navarch_snapshot::{EgressScope, ProxyScope};

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
