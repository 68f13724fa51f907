//! Streams that are led as the push thread leads them.

use std::collections::BTreeMap;

use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use navarch_model::{Proxy, Shared};
use navarch_serve::session::{NameSets, Response, Session, Variant};
use navarch_serve::{MeshEpochs, ResourceSource, Touched};
use navarch_snapshot::{Batch, MeshOptions};

use crate::objects::World;

/// What a push made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Over all streams.
    pub n_responses: usize,
    /// Over all streams.
    pub n_bytes: usize,
}

impl Sent {
    fn add(&mut self, response: &Response) {
        self.n_responses += 1;
        for part in &response.segments {
            self.n_bytes += part.len();
        }
    }
}

struct Stream {
    proxy: Shared<Proxy>,
    session: Session,
    /// Responses that the client has not acknowledged.
    unanswered: Vec<(TypeUrl, String)>,
}

/// A mesh and its sidecars, all in sync.
pub struct Fleet {
    epochs: MeshEpochs,
    streams: Vec<Stream>,
    /// Where in `streams` the proxies of a hash are.
    places: BTreeMap<u128, Vec<usize>>,
}

impl Fleet {
    /// Sidecars of the first pods of a world, connected and in sync.
    pub fn connect(world: World, n_sidecars: usize) -> Self {
        let epochs = MeshEpochs::new(MeshOptions::default());
        epochs.apply(world.objects());
        epochs.begin_push();
        let names = NameSets::new();
        let mut places: BTreeMap<u128, Vec<usize>> = BTreeMap::new();
        let mut streams = Vec::new();
        for pod in 0..n_sidecars {
            let proxy = world.proxy(pod);
            places.entry(proxy.hash128()).or_default().push(pod);
            let target = epochs.snapshot_for(&proxy);
            streams.push(Stream {
                proxy,
                session: Session::new(Variant::Delta, target, names.clone()),
                unanswered: Vec::new(),
            });
        }
        let mut fleet = Self {
            epochs,
            streams,
            places,
        };
        fleet.streams.iter_mut().for_each(Stream::subscribe);
        fleet.settle();
        fleet
    }

    /// Take in a change and make all that is sent for it at once.
    pub fn push(&mut self, batch: Batch) -> Sent {
        self.epochs.apply(batch);
        let mut sent = Sent::default();
        let Some(push) = self.epochs.begin_push() else {
            return sent;
        };
        let touched: Vec<usize> = match push.touched {
            Touched::All => (0..self.streams.len()).collect(),
            Touched::Proxies(keys) => keys
                .iter()
                .flat_map(|key| self.places.get(key).into_iter().flatten().copied())
                .collect(),
        };
        for place in touched {
            let stream = &mut self.streams[place];
            stream
                .session
                .set_target(self.epochs.snapshot_for(&stream.proxy));
            stream.send(&mut sent);
        }
        sent
    }

    /// Let all clients acknowledge what they were sent, ask for what it leads to, and get that.
    pub fn settle(&mut self) -> Sent {
        let mut sent = Sent::default();
        for stream in &mut self.streams {
            stream.send(&mut sent);
            while !stream.unanswered.is_empty() {
                stream.answer();
                stream.subscribe_named();
                stream.send(&mut sent);
            }
        }
        sent
    }
}

impl Stream {
    fn subscribe(&mut self) {
        for type_url in [TypeUrl::Cluster, TypeUrl::Listener] {
            self.ask(type_url, String::new(), Vec::new());
        }
        self.subscribe_named();
    }

    fn subscribe_named(&mut self) {
        for type_url in [TypeUrl::Endpoint, TypeUrl::Route] {
            let asked = self.session.names(type_url);
            let all = self.session.target().resources(type_url).iter();
            let is_asked = |name: &str| asked.binary_search_by(|n| (**n).cmp(name)).is_ok();
            let added: Vec<String> = all
                .filter(|resource| !is_asked(&resource.name))
                .map(|resource| resource.name.to_string())
                .collect();
            if !added.is_empty() {
                self.ask(type_url, String::new(), added);
            }
        }
    }

    fn send(&mut self, sent: &mut Sent) {
        while let Some(response) = self.session.next_response() {
            sent.add(&response);
            self.unanswered
                .push((response.type_url, response.nonce.to_string()));
        }
    }

    fn answer(&mut self) {
        for (type_url, nonce) in std::mem::take(&mut self.unanswered) {
            self.ask(type_url, nonce, Vec::new());
        }
    }

    fn ask(&mut self, type_url: TypeUrl, response_nonce: String, names: Vec<String>) {
        let request = DeltaDiscoveryRequest {
            type_url: type_url.as_str().to_owned(),
            response_nonce,
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        };
        if let Err(error) = self.session.on_delta(&request) {
            panic!("a request was refused: {error}");
        }
    }
}
