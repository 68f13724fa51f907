//! Application protocols, and how a port's name or appProtocol tells them.

/// The protocol a service port declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/2 after an upgrade.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web over HTTP/1.1.
    GrpcWeb,
    /// HTTP over TLS that the mesh does not terminate.
    Https,
    /// TLS that the mesh does not terminate.
    Tls,
    /// Opaque bytes.
    Tcp,
    /// Datagrams; never proxied.
    Udp,
    /// MongoDB's wire protocol, server-first.
    Mongo,
    /// MySQL's wire protocol, server-first.
    Mysql,
    /// Redis' wire protocol.
    Redis,
    /// An explicit HTTP proxy (Sidecar egress listeners).
    HttpProxy,
    /// HTTP/1.1 CONNECT-based overlay.
    Hbone,
    /// Not declared: told from the first bytes.
    Unsupported,
}

/// How a listener treats a protocol (istio `ModelProtocolToListenerProtocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenerProtocol {
    /// An HTTP connection manager.
    Http,
    /// A TCP proxy.
    Tcp,
    /// Both, told by sniffing.
    Auto,
}

impl Protocol {
    /// Parse a protocol's name (istio `pkg/config/protocol/instance.go` `Parse`), case-insensitively.
    pub fn parse(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "http" => Self::Http,
            "http_proxy" => Self::HttpProxy,
            "http2" => Self::Http2,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "mongo" => Self::Mongo,
            "redis" => Self::Redis,
            "mysql" => Self::Mysql,
            "hbone" => Self::Hbone,
            _ => Self::Unsupported,
        }
    }

    /// The protocol of a Kubernetes service port (istio `pkg/config/kube/conversion.go` `ConvertProtocol`).
    ///
    /// UDP and SCTP win over everything, then `appProtocol`, then the prefix of the port's name, then
    /// the ports whose well-known protocols speak server-first.
    pub fn of_kubernetes_port(
        port: u32,
        name: &str,
        transport: &str,
        app_protocol: Option<&str>,
    ) -> Self {
        if transport == "UDP" {
            return Self::Udp;
        }
        let mut name = name;
        if let Some(app_protocol) = app_protocol {
            match app_protocol.to_ascii_lowercase().as_str() {
                "kubernetes.io/h2c" => return Self::Http2,
                "kubernetes.io/ws" => return Self::Http,
                "kubernetes.io/wss" => return Self::Https,
                _ => name = app_protocol,
            }
        }
        let lower = name.to_ascii_lowercase();
        if lower.starts_with("grpc-web") {
            return Self::GrpcWeb;
        }
        let prefix = lower.split('-').next().unwrap_or("");
        match Self::parse(prefix) {
            // SMTP, DNS, MySQL, MongoDB: the server speaks first, or sniffing is of no use.
            // No name of a service's port: Istio's Gateways alone have it.
            Self::Hbone => Self::Unsupported,
            Self::Unsupported if matches!(port, 25 | 53 | 3306 | 27017) => Self::Tcp,
            protocol => protocol,
        }
    }

    /// Whether requests can be told apart (HTTP, HTTP/2, gRPC, gRPC-Web, explicit proxy).
    pub const fn is_http(self) -> bool {
        matches!(
            self,
            Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy
        )
    }

    /// Whether it is HTTP/2 by declaration.
    pub const fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Whether the mesh passes it on as TLS bytes.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Whether it is proxied as a byte stream.
    pub const fn is_tcp(self) -> bool {
        matches!(
            self,
            Self::Tcp | Self::Https | Self::Tls | Self::Mongo | Self::Redis | Self::Mysql
        )
    }

    /// Whether it must be sniffed.
    pub const fn is_unsupported(self) -> bool {
        matches!(self, Self::Unsupported)
    }

    /// How a listener treats it.
    pub const fn listener_protocol(self) -> ListenerProtocol {
        match self {
            Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy => {
                ListenerProtocol::Http
            }
            Self::Unsupported => ListenerProtocol::Auto,
            _ => ListenerProtocol::Tcp,
        }
    }

    /// The name, as Istio writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::GrpcWeb => "GRPC-Web",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Mongo => "Mongo",
            Self::Mysql => "MySQL",
            Self::Redis => "Redis",
            Self::HttpProxy => "HTTP_PROXY",
            Self::Hbone => "HBONE",
            Self::Unsupported => "UnsupportedProtocol",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Protocol;

    #[test]
    fn a_kubernetes_port_tells_its_protocol() {
        let of = Protocol::of_kubernetes_port;
        assert_eq!(of(80, "http-web", "TCP", None), Protocol::Http);
        assert_eq!(of(80, "HTTP", "TCP", None), Protocol::Http);
        assert_eq!(of(80, "grpc-web-x", "TCP", None), Protocol::GrpcWeb);
        assert_eq!(of(80, "web", "TCP", None), Protocol::Unsupported);
        assert_eq!(of(80, "hbone", "TCP", None), Protocol::Unsupported);
        assert_eq!(of(3306, "db", "TCP", None), Protocol::Tcp);
        assert_eq!(of(3306, "mysql", "TCP", None), Protocol::Mysql);
        assert_eq!(
            of(80, "tcp", "TCP", Some("kubernetes.io/h2c")),
            Protocol::Http2
        );
        assert_eq!(of(80, "http", "UDP", None), Protocol::Udp);
    }
}
