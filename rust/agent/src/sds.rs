//! The secret service for Envoy: a stream tells names, and is told each secret when it is there and when it changes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use prost::Message as _;
use prost_types::Any;
use tokio::sync::mpsc;

use crate::grpc::{self, Code, Messages, ResponseBody};
use crate::secrets::{LOOK_INTERVAL, Look, Name, Secrets};

const SOTW: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
const DELTA: &str = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets";
/// More names on one stream than any configuration has.
const MAX_NAMES: usize = 1000;

/// Answer a call of Envoy's.
pub(crate) fn answer(request: Request<Incoming>, secrets: Secrets) -> Response<ResponseBody> {
    let is_delta = match request.uri().path() {
        SOTW => false,
        DELTA => true,
        _ => {
            return grpc::refuse(
                Code::Unimplemented,
                "the agent serves StreamSecrets and DeltaSecrets",
            );
        }
    };
    let (sender, body) = grpc::channel_body(4);
    let stream = Stream {
        secrets,
        is_delta,
        names: BTreeMap::new(),
        n_sent: 0,
        sender,
    };
    tokio::spawn(stream.run(request.into_body()));
    grpc::respond(body.map_err(|never| match never {}).boxed())
}

/// One name on a stream.
struct Subscription {
    name: Name,
    /// What the files were like when they were last read.
    look: Look,
    /// What was sent last.
    sent: Option<Any>,
    /// Why nothing could be sent, so that it is told once.
    fault: String,
}

struct Stream {
    secrets: Secrets,
    is_delta: bool,
    names: BTreeMap<String, Subscription>,
    n_sent: u64,
    sender: mpsc::Sender<Frame<Bytes>>,
}

/// What a request says, of either form.
struct Told {
    added: Vec<String>,
    removed: Vec<String>,
    rejection: Option<String>,
}

impl Stream {
    async fn run(mut self, body: Incoming) {
        let mut requests = Messages::new(body);
        let mut held = self.secrets.held();
        let mut looks = tokio::time::interval(LOOK_INTERVAL.max(Duration::from_millis(10)));
        loop {
            let is_open = tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => self.take(&request).await,
                    Some(Err(_)) => self.end("the request is too large").await,
                    // Envoy has left, or the connection broke.
                    None => false,
                },
                changed = held.changed() => changed.is_ok() && self.send_changed(false).await,
                _ = looks.tick(), if !self.names.is_empty() => self.send_changed(true).await,
                () = self.sender.closed() => false,
            };
            if !is_open {
                return;
            }
        }
    }

    /// Follow a request; whether the stream goes on.
    async fn take(&mut self, request: &[u8]) -> bool {
        let told = match self.read(request) {
            Ok(told) => told,
            Err(fault) => return self.end(&fault).await,
        };
        if let Some(rejection) = told.rejection {
            tracing::warn!("Envoy rejects a secret: {rejection}");
        }
        match self.subscribe(told.added, &told.removed) {
            Ok(true) => self.send_changed(false).await,
            Ok(false) => true,
            Err(fault) => self.end(&fault).await,
        }
    }

    async fn end(&mut self, fault: &str) -> bool {
        let trailers = grpc::trailers(Code::InvalidArgument, fault);
        // Envoy may have left already.
        let _ = self.sender.send(Frame::trailers(trailers)).await;
        false
    }

    fn read(&self, message: &[u8]) -> Result<Told, String> {
        let unreadable = |e: prost::DecodeError| format!("the request can't be read: {e}");
        if self.is_delta {
            let request = DeltaDiscoveryRequest::decode(message).map_err(unreadable)?;
            return Ok(Told {
                added: request.resource_names_subscribe,
                removed: request.resource_names_unsubscribe,
                rejection: request.error_detail.map(|detail| detail.message),
            });
        }
        let request = DiscoveryRequest::decode(message).map_err(unreadable)?;
        let removed = self.names.keys();
        let removed = removed.filter(|name| !request.resource_names.contains(name));
        Ok(Told {
            removed: removed.cloned().collect(),
            added: request.resource_names,
            rejection: request.error_detail.map(|detail| detail.message),
        })
    }

    /// Follow the names; whether there are new ones.
    fn subscribe(&mut self, added: Vec<String>, removed: &[String]) -> Result<bool, String> {
        for name in removed {
            self.names.remove(name);
        }
        let mut is_fresh = false;
        for text in added {
            if self.names.contains_key(&text) {
                continue;
            }
            let name =
                Name::find(&text).ok_or_else(|| format!("the agent has no secret {text:?}"))?;
            let subscription = Subscription {
                look: Look::new(),
                name,
                sent: None,
                fault: String::new(),
            };
            self.names.insert(text, subscription);
            is_fresh = true;
        }
        if self.names.len() > MAX_NAMES {
            return Err(format!("more than {MAX_NAMES} secrets on one stream"));
        }
        Ok(is_fresh)
    }

    /// Send what is new or has changed; `is_by_file`: only files may have. Whether the stream goes on.
    async fn send_changed(&mut self, is_by_file: bool) -> bool {
        let mut changed = Vec::new();
        for (text, subscription) in &mut self.names {
            let look = self.secrets.look(&subscription.name);
            let is_pending = subscription.sent.is_none() && subscription.name != Name::Default;
            if is_by_file && look == subscription.look && !is_pending {
                continue;
            }
            subscription.look = look;
            match self.secrets.read(text, &subscription.name) {
                Ok(secret) => {
                    subscription.fault.clear();
                    if subscription.sent.as_ref() != Some(&secret) {
                        subscription.sent = Some(secret.clone());
                        changed.push((text.clone(), secret));
                    }
                }
                Err(fault) => {
                    if fault != subscription.fault {
                        tracing::warn!("secret {text} is not sent: {fault}");
                    }
                    subscription.fault = fault;
                }
            }
        }
        if changed.is_empty() {
            return true;
        }
        let message = self.respond(changed);
        self.sender.send(Frame::data(message)).await.is_ok()
    }

    fn respond(&mut self, changed: Vec<(String, Any)>) -> Bytes {
        self.n_sent += 1;
        let (version, type_url) = (self.n_sent.to_string(), TypeUrl::Secret.as_str().to_owned());
        if !self.is_delta {
            // The state of the world: all that the stream has, changed or not.
            let all = self.names.values().filter_map(|each| each.sent.clone());
            return grpc::frame_message(&DiscoveryResponse {
                version_info: version.clone(),
                resources: all.collect(),
                type_url,
                nonce: version,
                ..DiscoveryResponse::default()
            });
        }
        let resource = |(name, secret)| Resource {
            name,
            version: version.clone(),
            resource: Some(secret),
            ..Resource::default()
        };
        grpc::frame_message(&DeltaDiscoveryResponse {
            system_version_info: version.clone(),
            resources: changed.into_iter().map(resource).collect(),
            type_url,
            nonce: version.clone(),
            ..DeltaDiscoveryResponse::default()
        })
    }
}
