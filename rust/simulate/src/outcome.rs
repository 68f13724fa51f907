//! What a simulation answers.

use std::collections::BTreeMap;

use serde::Serialize;

/// How many of the others a step names; gateways have thousands of routes.
const MAX_OTHERS: usize = 20;

/// Where a request lands and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Where it ends.
    pub landing: Landing,
    /// The decisions on the way, in order.
    pub steps: Vec<Step>,
    /// What the receiving sidecar does with it, where that one is known.
    pub received: Option<Box<Self>>,
}

impl Outcome {
    /// Whether an endpoint gets the request; with a receiving sidecar, whether that one lets it through.
    pub fn is_delivered(&self) -> bool {
        match &self.received {
            Some(received) => received.is_delivered(),
            None => matches!(self.landing, Landing::Endpoints { .. }),
        }
    }

    /// The cluster that it went to, if it went to one.
    pub fn cluster(&self) -> Option<&str> {
        match &self.landing {
            Landing::Endpoints { cluster, .. } => Some(cluster),
            _ => None,
        }
    }

    /// The addresses of the endpoints that may get it.
    pub fn addresses(&self) -> Vec<&str> {
        match &self.landing {
            Landing::Endpoints { endpoints, .. } => {
                endpoints.iter().map(|e| e.address.as_str()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The step of a stage, if it came to it.
    pub fn step(&self, stage: Stage) -> Option<&Step> {
        self.steps.iter().find(|step| step.stage == stage)
    }
}

/// Where a request ends.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Landing {
    /// One of these endpoints gets it.
    Endpoints {
        /// The cluster.
        cluster: String,
        /// Each with its share; the largest first.
        endpoints: Vec<Endpoint>,
        /// The request as it goes out; `None` for bytes.
        request: Option<Forwarded>,
    },
    /// The proxy answers itself.
    Response {
        /// The HTTP status.
        status: u32,
        /// The header `location`, of redirects.
        location: Option<String>,
        /// The body, if configured.
        body: Option<String>,
        /// Whether configuration asks for the answer (a redirect, a fault), or something is missing.
        is_configured: bool,
        /// Why.
        why: String,
    },
    /// The connection is closed, or was never for this proxy.
    Closed {
        /// Why.
        why: String,
    },
}

/// An endpoint that may get the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Endpoint {
    /// Address and port, a DNS name and port, or a socket's path.
    pub address: String,
    /// Of 100.
    pub share: f64,
    /// The priority that it is in; 0 is preferred.
    pub priority: u32,
    /// Region, zone, subzone with `/` between.
    pub locality: String,
    /// Its load balancing weight.
    pub weight: u32,
    /// How the proxy connects to it.
    pub transport: Transport,
}

/// How the proxy connects to an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Transport {
    /// The name of the transport socket, or of the match that picked it.
    pub name: String,
    /// Whether it is TLS.
    pub is_tls: bool,
    /// The TLS server name that is sent.
    pub sni: String,
    /// The ALPN protocols that are offered.
    pub alpn: Vec<String>,
    /// Whether the proxy presents a certificate.
    pub has_certificate: bool,
}

/// An HTTP request as it goes to the endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forwarded {
    /// The method.
    pub method: String,
    /// The authority after rewriting.
    pub authority: String,
    /// The path after normalisation and rewriting.
    pub path: String,
    /// Whether it is HTTP/2.
    pub is_http2: bool,
    /// Seconds; `None` waits for ever.
    pub timeout_seconds: Option<f64>,
    /// The policy's conditions, and how often it tries again.
    pub retries: Option<String>,
    /// The fixed delay of an injected fault.
    pub delay_seconds: Option<f64>,
    /// Clusters that get a copy, with their shares.
    pub mirrors: Vec<String>,
    /// The headers that it came in with, after the filters; less what [`Self::header_changes`] tells.
    pub headers: BTreeMap<String, String>,
    /// Headers that are set or removed, as `+name: value` and `-name`.
    pub header_changes: Vec<String>,
}

/// A decision of the proxy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Which decision.
    pub stage: Stage,
    /// The name of what was chosen.
    pub chosen: String,
    /// Why that.
    pub why: String,
    /// What else there is to say of it.
    pub notes: Vec<String>,
    /// What else was considered.
    pub others: Vec<Other>,
    /// How many more were considered than are named.
    pub n_more_others: usize,
}

impl Step {
    /// A decision without others.
    pub(crate) fn new(stage: Stage, chosen: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            stage,
            chosen: chosen.into(),
            why: why.into(),
            notes: Vec::new(),
            others: Vec::new(),
            n_more_others: 0,
        }
    }

    /// With what else was considered.
    pub(crate) fn with_others(mut self, mut others: Vec<Other>) -> Self {
        self.n_more_others = others.len().saturating_sub(MAX_OTHERS);
        others.truncate(MAX_OTHERS);
        self.others = others;
        self
    }

    /// With more to say.
    pub(crate) fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        self
    }
}

/// The decisions in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The host name to an address.
    Destination,
    /// The listener.
    Listener,
    /// What the listener filters found out.
    Detection,
    /// The filter chain.
    FilterChain,
    /// Who the client is, by its certificate.
    Peer,
    /// Whose tokens the request has.
    Token,
    /// What rules about who may do what say.
    Policy,
    /// A question to an external authorizer.
    Authorizer,
    /// The HTTP route configuration.
    RouteConfiguration,
    /// The virtual host.
    VirtualHost,
    /// The route.
    Route,
    /// What HTTP filters do before the request goes on.
    Fault,
    /// The cluster among the route's.
    Cluster,
    /// The endpoints of the cluster.
    Endpoints,
}

/// Something that was considered and not chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Why not.
    pub why: String,
}

impl Other {
    pub(crate) fn new(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            why: why.into(),
        }
    }
}

/// The end of the way, told where it is found.
pub(crate) type End = Box<Landing>;

/// The connection is closed.
pub(crate) fn closed(why: impl Into<String>) -> End {
    Box::new(Landing::Closed { why: why.into() })
}

/// The proxy answers that the client may not.
pub(crate) fn refused(status: u32, why: impl Into<String>) -> End {
    Box::new(Landing::Response {
        status,
        location: None,
        body: None,
        is_configured: true,
        why: why.into(),
    })
}

/// The proxy answers because something is missing.
pub(crate) fn failed(status: u32, why: impl Into<String>) -> End {
    Box::new(Landing::Response {
        status,
        location: None,
        body: None,
        is_configured: false,
        why: why.into(),
    })
}
