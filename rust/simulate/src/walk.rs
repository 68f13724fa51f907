//! The way of a request through a proxy, from one decision to the next.

use std::collections::BTreeMap;

use navarch_encode::ResourceSnapshot;
use navarch_envoy::envoy::config::listener::v3::filter::ConfigType;
use navarch_envoy::envoy::config::listener::v3::{Filter, FilterChain};
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use navarch_envoy::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use navarch_envoy::{Any, any};

use crate::destination::{self, Destination};
use crate::outcome::{End, Forwarded, Landing, Outcome, Step, closed};
use crate::peer::{self, Peer};
use crate::request::{Direction, Protocol, Request, Sender};
use crate::resources::Resources;
use crate::{connection, filter_chain, http, listener, policy, tcp, transport};

/// Everything that the stages of one way share.
pub(crate) struct Walk<'a> {
    pub(crate) resources: Resources<'a>,
    pub(crate) request: &'a Request,
    pub(crate) destination: Destination,
    /// Who is at the other end; known once the filter chain is.
    pub(crate) peer: Peer,
    pub(crate) steps: Vec<Step>,
}

/// Run a request through a proxy's resources.
///
/// `namespace` is the proxy's: it completes short host names, as the workload's DNS does.
pub fn simulate(snapshot: &ResourceSnapshot, namespace: &str, request: &Request) -> Outcome {
    let resources = Resources(snapshot);
    let (destination, step) = destination::resolve(resources, request, namespace);
    let mut walk = Walk {
        resources,
        request,
        destination,
        peer: Peer::default(),
        steps: vec![step],
    };
    let landing = walk.run().unwrap_or_else(|end| *end);
    Outcome {
        landing,
        steps: walk.steps,
        received: None,
    }
}

/// Go on through the sidecar of the endpoint that gets the largest share.
///
/// `receiver` are that sidecar's resources; an outcome that ends before an endpoint stays as it is.
pub fn simulate_received(
    sent: Outcome,
    (request, sender): (&Request, &Sender),
    receiver: &ResourceSnapshot,
) -> Outcome {
    let Some(next) = received_request(&sent, request, sender) else {
        return sent;
    };
    let received = simulate(receiver, "", &next);
    Outcome {
        received: Some(Box::new(received)),
        ..sent
    }
}

/// The request as the receiving sidecar sees it.
fn received_request(sent: &Outcome, request: &Request, sender: &Sender) -> Option<Request> {
    let Landing::Endpoints {
        endpoints,
        request: forwarded,
        ..
    } = &sent.landing
    else {
        return None;
    };
    let endpoint = endpoints.first()?;
    let (address, port) = crate::request::split_port(&endpoint.address);
    let transport = &endpoint.transport;
    let protocol = match forwarded {
        _ if transport.is_tls && forwarded.is_some() => Protocol::Https,
        _ if transport.is_tls => Protocol::Tls,
        Some(forwarded) if forwarded.is_http2 => Protocol::Http2,
        Some(_) => Protocol::Http,
        None => request.protocol,
    };
    let mut next = Request {
        protocol,
        direction: Direction::Inbound,
        address: address.trim_matches(['[', ']']).to_owned(),
        port: port?,
        has_certificate: false,
        principal: String::new(),
        ..request.clone()
    };
    if !sender.address.is_empty() {
        next.source_address.clone_from(&sender.address);
    }
    if transport.is_tls {
        next.sni.clone_from(&transport.sni);
        next.alpn.clone_from(&transport.alpn);
        next.has_certificate = transport.has_certificate;
        if transport.has_certificate {
            next.principal.clone_from(&sender.principal);
        }
    }
    if let Some(forwarded) = forwarded {
        next.host.clone_from(&forwarded.authority);
        next.path.clone_from(&forwarded.path);
        next.method.clone_from(&forwarded.method);
        next.headers = sent_headers(forwarded);
    }
    Some(next)
}

/// The headers as they come to the endpoint.
fn sent_headers(forwarded: &Forwarded) -> BTreeMap<String, String> {
    let mut headers = forwarded.headers.clone();
    for change in &forwarded.header_changes {
        if let Some(name) = change.strip_prefix('-') {
            headers.remove(&name.to_ascii_lowercase());
        } else if let Some((name, value)) = change.trim_start_matches('+').split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }
    headers
}

impl Walk<'_> {
    fn run(&mut self) -> Result<Landing, End> {
        let (listener, step) =
            listener::choose(self.resources.listeners(), self.request, &self.destination)?;
        self.steps.push(step);
        let (connection, step) = connection::inspect(&listener, self.request, &self.destination);
        self.steps.push(step);
        let (chain, step) = filter_chain::choose(listener, &connection)?;
        self.steps.push(step);
        self.peer = peer::plain(&connection, &self.destination);
        self.shake_hands(&chain)?;
        self.run_filters(&chain)
    }

    /// The chain's TLS, if any.
    fn shake_hands(&mut self, chain: &FilterChain) -> Result<(), End> {
        let socket = chain.transport_socket.as_ref();
        let context: Option<DownstreamTlsContext> = socket.and_then(transport::unpack_tls);
        if let Some(context) = context {
            let step = peer::shake_hands(&mut self.peer, (&chain.name, &context), self.request)?;
            self.steps.extend(step);
        }
        Ok(())
    }

    fn run_filters(&mut self, chain: &FilterChain) -> Result<Landing, End> {
        let is_decrypted = self.peer.is_tls;
        let mut metadata = self.request.metadata.clone();
        for filter in &chain.filters {
            let Some(config) = self.typed_config(filter) else {
                continue;
            };
            if let Some(manager) = any::unpack::<HttpConnectionManager>(&config) {
                self.check_http(is_decrypted)?;
                return http::run(self, &manager, is_decrypted);
            }
            if let Some(proxy) = any::unpack::<TcpProxy>(&config) {
                return tcp::run(self, &proxy, is_decrypted);
            }
            if !policy::run_tcp(self, &config, &mut metadata)? {
                self.note_unmodelled(&filter.name, &config);
            }
        }
        Err(closed(
            "the filter chain has neither an HTTP connection manager nor a TCP proxy",
        ))
    }

    fn typed_config(&self, filter: &Filter) -> Option<Any> {
        match filter.config_type.as_ref()? {
            ConfigType::TypedConfig(config) => Some(config.clone()),
            ConfigType::ConfigDiscovery(_) => self
                .resources
                .extension(&filter.name)
                .and_then(|found| found.typed_config),
        }
    }

    /// Tell of filters that may decide something here, and are passed by.
    pub(crate) fn note_unmodelled(&mut self, name: &str, config: &Any) {
        const DECIDING: [&str; 7] = [
            "LocalRateLimit",
            "RateLimit",
            "Lua",
            "LuaPerRoute",
            "Wasm",
            "PluginConfig",
            "CompositeFilter",
        ];
        let message = config.type_url.rsplit('.').next().unwrap_or_default();
        // Telemetry is a plugin too.
        if DECIDING.contains(&message) && !name.starts_with("istio.stats") {
            let note = format!("filter {name} is not simulated: taken to let the request pass");
            if let Some(step) = self.steps.last_mut() {
                step.notes.push(note);
            }
        }
    }

    fn check_http(&self, is_decrypted: bool) -> Result<(), End> {
        match self.request.protocol {
            Protocol::Tcp => Err(closed(
                "the HTTP connection manager can't parse what the client sends",
            )),
            Protocol::Tls => Err(closed(
                "the HTTP connection manager can't parse what is within the client's TLS",
            )),
            Protocol::Https if !is_decrypted => Err(closed(
                "the client speaks TLS to a chain for plaintext HTTP",
            )),
            _ => Ok(()),
        }
    }
}

/// The name of a message type, as [`Any`] has it.
pub(crate) fn is_type<M: prost::Name>(config: &Any) -> bool {
    config.type_url == M::type_url()
}
