//! A discovery response, reduced to what an Envoy reacts to.

use std::rc::Rc;

use navarch_envoy::TypeUrl;

use crate::marker::{Change, Search};
use crate::names::{Interner, NameId, VersionId, VersionTable};
use crate::protobuf::{Fields, Value, find_bytes};
use crate::scan;
use crate::wire::Sink;

/// The two forms of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Sotw,
    Delta,
}

/// One response.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) type_url: Option<TypeUrl>,
    pub(crate) version: String,
    pub(crate) nonce: String,
    /// The resources in it.
    pub(crate) names: Vec<NameId>,
    /// Their versions in the same order; state of the world tells none.
    pub(crate) versions: Vec<VersionId>,
    /// What they lead to: (cluster, its EDS name), (listener, a route configuration), (route configuration in pieces,
    /// itself), (virtual host, its route configuration).
    pub(crate) references: Vec<(NameId, NameId)>,
    pub(crate) removed: Vec<NameId>,
    pub(crate) len: usize,
    /// The markers of the change waited for that were seen in it.
    pub(crate) markers: u32,
}

/// Reads the messages of one stream.
#[derive(Debug)]
pub(crate) struct Reader {
    variant: Variant,
    message: Message,
    search: Search,
    pub(crate) change: Option<Rc<Change>>,
}

/// A reader at work on a chunk.
pub(crate) struct Reading<'a> {
    pub(crate) reader: &'a mut Reader,
    pub(crate) interner: &'a mut Interner,
    pub(crate) versions: &'a mut VersionTable,
    pub(crate) done: Vec<Message>,
}

impl Reader {
    pub(crate) fn new(variant: Variant) -> Self {
        Self {
            variant,
            message: Message::default(),
            search: Search::default(),
            change: None,
        }
    }
}

impl Sink for Reading<'_> {
    fn on_bytes(&mut self, part: &[u8]) {
        if let Some(change) = &self.reader.change {
            self.reader.search.feed(change, part);
        }
    }

    fn on_field(&mut self, number: u32, head: &[u8]) {
        let variant = self.reader.variant;
        let message = &mut self.reader.message;
        match (variant, number) {
            (_, 1) => message.version = text(head),
            (_, 2) => self.take_resource(head),
            (_, 4) => {
                let url = std::str::from_utf8(head).unwrap_or_default();
                message.type_url = TypeUrl::find(url);
            }
            (_, 5) => message.nonce = text(head),
            (Variant::Delta, 6) => message.removed.push(self.interner.intern(head)),
            _ => {}
        }
    }

    fn on_end(&mut self, len: usize) {
        let mut message = std::mem::take(&mut self.reader.message);
        message.len = len;
        let found = self.reader.search.take();
        if let (Some(change), Some(type_url)) = (&self.reader.change, message.type_url) {
            message.markers = change.of_type(found, type_url);
        }
        self.done.push(message);
    }
}

impl Reading<'_> {
    fn take_resource(&mut self, head: &[u8]) {
        let (name, any) = match self.reader.variant {
            Variant::Sotw => (None, Some(head)),
            Variant::Delta => (find_bytes(head, 3), find_bytes(head, 2)),
        };
        let (url, body) = any.map(read_any).unwrap_or_default();
        let Some(name) = name.or_else(|| scan::find_name(body)) else {
            return;
        };
        let name = self.interner.intern(name);
        let message = &mut self.reader.message;
        message.names.push(name);
        if self.reader.variant == Variant::Delta {
            let version = find_bytes(head, 1).unwrap_or_default();
            message.versions.push(self.versions.intern(name, version));
        }
        match std::str::from_utf8(url).ok().and_then(TypeUrl::find) {
            Some(TypeUrl::Cluster) => {
                if let Some(eds_name) = scan::find_eds_name(body) {
                    let eds_name = self.interner.intern(eds_name);
                    message.references.push((name, eds_name));
                }
            }
            Some(TypeUrl::Listener) => scan::find_route_names(body, |route| {
                let route = self.interner.intern(route);
                message.references.push((name, route));
            }),
            Some(TypeUrl::Route) if scan::is_in_pieces(body) => {
                message.references.push((name, name));
            }
            Some(TypeUrl::VirtualHost) => {
                let text = self.interner.name(name);
                if let Some(end) = text.iter().rposition(|byte| *byte == b'/') {
                    let route = text[..end].to_vec();
                    let route = self.interner.intern(&route);
                    message.references.push((name, route));
                }
            }
            _ => {}
        }
    }
}

fn read_any(any: &[u8]) -> (&[u8], &[u8]) {
    let (mut url, mut body) = (&[][..], &[][..]);
    for field in Fields(any) {
        match field {
            (1, Value::Bytes(bytes)) => url = bytes,
            (2, Value::Bytes(bytes)) => body = bytes,
            _ => {}
        }
    }
    (url, body)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
