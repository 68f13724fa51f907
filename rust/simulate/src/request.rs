//! The request whose way is asked for.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// What the client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 in plaintext.
    #[default]
    Http,
    /// HTTP/2 in plaintext.
    Http2,
    /// gRPC: HTTP/2 in plaintext, POST, `application/grpc`.
    Grpc,
    /// HTTP in TLS.
    Https,
    /// Bytes that are neither HTTP nor TLS.
    Tcp,
    /// TLS around something that is not HTTP.
    Tls,
}

impl Protocol {
    /// Whether there is HTTP, in plaintext or within TLS.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::Https)
    }

    /// Whether the connection begins with a TLS handshake.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

/// Who a proxy is to those that it sends to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sender {
    /// The identity in its certificate; "" if it has none.
    pub principal: String,
    /// Its IP address; "" if it does not matter.
    pub address: String,
}

/// Which side of the proxy the request comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the proxy's own workload; or from clients to a gateway.
    #[default]
    Outbound,
    /// From elsewhere to the sidecar's workload.
    Inbound,
}

/// A request as its client sends it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// What the client speaks.
    pub protocol: Protocol,
    /// From which side it comes.
    pub direction: Direction,
    /// Whether iptables redirect the connection to the proxy; if not, the client connects to the proxy itself.
    pub is_captured: bool,
    /// The authority (`Host`), with or without a port; without HTTP the name that is connected to.
    pub host: String,
    /// The IP address that is connected to; "" resolves the host by the proxy's name table.
    pub address: String,
    /// The port that is connected to; 0 takes the authority's, else 443 for TLS and 80.
    pub port: u32,
    /// The HTTP method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Other headers; names in any case.
    pub headers: BTreeMap<String, String>,
    /// The TLS server name; "" takes the host.
    pub sni: String,
    /// The ALPN protocols that the client offers in TLS, by preference; empty takes `h2` and `http/1.1` for HTTPS.
    pub alpn: Vec<String>,
    /// Whether the client presents a certificate of the mesh.
    pub has_certificate: bool,
    /// The identity in that certificate, `spiffe://…` or without the scheme; "" if it does not matter.
    pub principal: String,
    /// The client's IP address, if it matters.
    pub source_address: String,
    /// What a token claims that the request has wherever one is looked for; empty for none.
    pub claims: Map<String, Value>,
    /// The time, in seconds since 1970; `None` takes all tokens to be valid now.
    pub now_seconds: Option<f64>,
    /// What Envoy's dice show, 0 to below 100: picks among weights and fractions. `None` follows the likelier branch.
    pub percent: Option<f64>,
    /// Dynamic metadata that earlier filters have set, by filter.
    pub metadata: Map<String, Value>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            protocol: Protocol::Http,
            direction: Direction::Outbound,
            is_captured: true,
            host: String::new(),
            address: String::new(),
            port: 0,
            method: String::new(),
            path: "/".to_owned(),
            headers: BTreeMap::new(),
            sni: String::new(),
            alpn: Vec::new(),
            has_certificate: false,
            principal: String::new(),
            source_address: String::new(),
            claims: Map::new(),
            now_seconds: None,
            percent: None,
            metadata: Map::new(),
        }
    }
}

impl Request {
    /// The host without its port, and the port.
    pub fn split_host(&self) -> (&str, Option<u32>) {
        split_port(&self.host)
    }

    /// The port that is connected to.
    pub fn effective_port(&self) -> u32 {
        let default = if self.protocol.is_tls() { 443 } else { 80 };
        match self.port {
            0 => self.split_host().1.unwrap_or(default),
            port => port,
        }
    }

    /// The TLS server name.
    pub fn server_name(&self) -> String {
        let name = if self.sni.is_empty() {
            self.split_host().0
        } else {
            &self.sni
        };
        // An address is never sent as a server name (RFC 6066).
        let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        if is_address.is_ok() {
            return String::new();
        }
        name.to_ascii_lowercase()
    }

    /// Whether the client shows a certificate when it is asked for one.
    pub fn presents_certificate(&self) -> bool {
        self.has_certificate || !self.principal.is_empty()
    }

    /// The ALPN protocols that are offered.
    pub fn offered_alpn(&self) -> Vec<String> {
        if self.alpn.is_empty() && self.protocol == Protocol::Https {
            return vec!["h2".to_owned(), "http/1.1".to_owned()];
        }
        self.alpn.clone()
    }
}

/// A host and port, apart; IPv6 addresses keep their brackets.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u32>) {
    let Some((host, port)) = authority.rsplit_once(':') else {
        return (authority, None);
    };
    let is_whole = !host.contains(':') || host.ends_with(']');
    match port.parse() {
        Ok(port) if is_whole => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::{Protocol, Request, split_port};

    #[test]
    fn ports_are_told_from_addresses() {
        assert_eq!(split_port("a.b:80"), ("a.b", Some(80)));
        assert_eq!(split_port("[::1]:80"), ("[::1]", Some(80)));
        assert_eq!(split_port("::1"), ("::1", None));
        assert_eq!(split_port("a"), ("a", None));
    }

    #[test]
    fn ports_and_server_names_have_defaults() {
        let request = Request {
            protocol: Protocol::Https,
            host: "A.example".to_owned(),
            ..Request::default()
        };
        assert_eq!(request.effective_port(), 443);
        assert_eq!(request.server_name(), "a.example");
    }
}
