//! Messages as bytes, where building each one as a tree of small values would cost more than all else.
//!
//! Most of a mesh's configuration repeats: what many messages have in common is encoded once, as a [`Template`], and each
//! one's own fields are written between ([`Filling`]) in the order of the field numbers, as protobuf's own encoding of the
//! whole message would have them. Field numbers come from the descriptors ([`crate::field`]).
//! <https://protobuf.dev/programming-guides/encoding/>

use prost::encoding::{WireType, decode_key, decode_varint, encode_varint, encoded_len_varint};
use prost::{Message, Name};

use crate::field::google::protobuf::any;

/// The fields of a map's entry.
const MAP_KEY: u32 = 1;
const MAP_VALUE: u32 = 2;

/// An encoded message that grows field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty message, with room.
    pub fn with_capacity(capacity_bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity_bytes),
        }
    }

    /// Forget all but the first bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// What was written.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written: the default message.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forget what was written, and keep the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// A text made of parts.
    pub fn text(&mut self, field: u32, parts: &[&str]) {
        let len = parts.iter().map(|part| part.len()).sum();
        self.begin(field, len);
        for part in parts {
            self.bytes.extend_from_slice(part.as_bytes());
        }
    }

    /// A text, unless it is empty, which is not written.
    pub fn text_if_any(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.text(field, &[text]);
        }
    }

    /// A message that is encoded already.
    pub fn encoded(&mut self, field: u32, message: &[u8]) {
        self.begin(field, message.len());
        self.bytes.extend_from_slice(message);
    }

    /// A message that `write` writes.
    pub fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field);
        let start = self.bytes.len();
        // Most messages have a length of one byte; longer ones move once it is known.
        self.bytes.push(0);
        write(self);
        let end = self.bytes.len();
        let len = end - start - 1;
        match u8::try_from(len) {
            Ok(byte) if byte < 0x80 => self.bytes[start] = byte,
            _ => self.move_for_length(start, len as u64),
        }
    }

    /// Make room at `start`, where one byte is, for a longer length of the message behind it, and write it.
    fn move_for_length(&mut self, start: usize, len: u64) {
        let end = self.bytes.len();
        let extra = encoded_len_varint(len) - 1;
        self.bytes.resize(end + extra, 0);
        self.bytes.copy_within(start + 1..end, start + 1 + extra);
        let mut place = &mut self.bytes[start..=start + extra];
        encode_varint(len, &mut place);
    }

    /// The same for one that is likely longer than 127 bytes: it need not move for a length of two bytes.
    pub fn long_message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        write(self);
        let end = self.bytes.len();
        let len = (end - start - 2) as u64;
        let n_bytes = encoded_len_varint(len);
        if n_bytes != 2 {
            self.bytes.resize(end.max(end + n_bytes - 2), 0);
            self.bytes.copy_within(start + 2..end, start + n_bytes);
            self.bytes.truncate(end + n_bytes - 2);
        }
        let mut place = &mut self.bytes[start..start + n_bytes];
        encode_varint(len, &mut place);
    }

    /// A message of the type `M`, packed, that `write` writes.
    pub fn any<M: Message + Name + Default>(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.long_message(field, |out| {
            out.text(any::TYPE_URL, &[&M::type_url()]);
            let start = out.len();
            out.long_message(any::VALUE, write);
            let value = find_field(&out.bytes[start..], any::VALUE).unwrap_or_default();
            debug_assert_eq!(
                M::decode(value).map(|message| message.encode_to_vec()),
                Ok(value.to_vec()),
                "{} is not encoded as protobuf does",
                M::NAME
            );
            // The default message is no bytes, and an empty field is left out.
            if value.is_empty() {
                out.bytes.truncate(start);
            }
        });
    }

    /// A message of fields that are encoded already, in parts.
    pub fn message_of(&mut self, field: u32, parts: &[&[u8]]) {
        self.begin(field, parts.iter().map(|part| part.len()).sum());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    /// An entry of a map from texts to messages.
    pub fn map_entry<M: Message>(&mut self, field: u32, key: &str, value: &M) {
        self.message(field, |entry| {
            entry.text(MAP_KEY, &[key]);
            entry.tree(MAP_VALUE, value);
        });
    }

    /// A message that is there as a tree of values.
    pub fn tree<M: Message>(&mut self, field: u32, message: &M) {
        self.begin(field, message.encoded_len());
        message.encode_raw(&mut self.bytes);
    }

    /// Messages of a repeated field that are there as trees of values.
    pub fn trees<M: Message>(&mut self, field: u32, messages: &[M]) {
        for message in messages {
            self.tree(field, message);
        }
    }

    /// A truth value that is set.
    pub fn flag(&mut self, field: u32) {
        self.varint(field, 1);
    }

    /// A number or the value of an enum.
    pub fn varint(&mut self, field: u32, value: u64) {
        encode_varint(u64::from(field) << 3, &mut self.bytes);
        encode_varint(value, &mut self.bytes);
    }

    /// Fields that are encoded already.
    pub fn append(&mut self, fields: &[u8]) {
        self.bytes.extend_from_slice(fields);
    }

    /// The fields of a message.
    pub fn append_message<M: Message>(&mut self, message: &M) {
        message.encode_raw(&mut self.bytes);
    }

    fn begin(&mut self, field: u32, len: usize) {
        let n_bytes = encoded_len_varint(key(field)) + encoded_len_varint(len as u64) + len;
        self.bytes.reserve(n_bytes);
        self.key(field);
        self.length(len as u64);
    }

    fn key(&mut self, field: u32) {
        self.length(key(field));
    }

    fn length(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(byte) if byte < 0x80 => self.bytes.push(byte),
            _ => encode_varint(value, &mut self.bytes),
        }
    }
}

/// The key of a field with a length.
const fn key(field: u32) -> u64 {
    (field as u64) << 3 | WireType::LengthDelimited as u64
}

/// A message that is encoded once, to be written many times with other fields in between.
#[derive(Debug, Clone, Default)]
pub struct Template {
    bytes: Vec<u8>,
    fields: Vec<Place>,
    oneofs: &'static [(u32, u32)],
}

/// One field of a template.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    /// Its number, or the smallest of its `oneof`.
    number: u32,
}

impl Template {
    /// Of a message, and the `oneof`s of its type ([`crate::field`]).
    pub fn of<M: Message>(message: &M, oneofs: &'static [(u32, u32)]) -> Self {
        let bytes = message.encode_to_vec();
        let mut fields = places(&bytes);
        for place in &mut fields {
            place.number = place_of(place.number, oneofs);
        }
        Self {
            bytes,
            fields,
            oneofs,
        }
    }

    /// How many bytes it adds.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it is the default message.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Begin to write a message that has all its fields.
    pub fn fill<'a>(&'a self, out: &'a mut Writer) -> Filling<'a> {
        Filling {
            template: self,
            next: 0,
            start: 0,
            out,
        }
    }
}

/// The number by which a field is placed: a `oneof` stands where its smallest member would.
fn place_of(field: u32, oneofs: &[(u32, u32)]) -> u32 {
    let of = oneofs.iter().find(|(member, _)| *member == field);
    of.map_or(field, |(_, smallest)| *smallest)
}

/// Where the fields of an encoded message begin.
fn places(message: &[u8]) -> Vec<Place> {
    let mut places = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let start = message.len() - rest.len();
        let Some((number, _)) = read_field(&mut rest) else {
            break;
        };
        places.push(Place { start, number });
    }
    places
}

/// Take the next field from a message: its number, and its bytes where it has a length; `None` at the end, and where the message
/// is broken.
pub fn read_field<'a>(message: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let (number, wire_type) = decode_key(message).ok()?;
    let len = match wire_type {
        WireType::Varint => {
            decode_varint(message).ok()?;
            0
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(message).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (field, rest) = message.split_at_checked(len)?;
    *message = rest;
    Some((number, field))
}

/// The first field of that number in an encoded message, if it has a length: to decode a large message for one name costs
/// more than to build it.
pub fn find_field(mut message: &[u8], wanted: u32) -> Option<&[u8]> {
    loop {
        let (number, field) = read_field(&mut message)?;
        if number == wanted {
            return Some(field);
        }
    }
}

/// A message under way: a template's fields, and others that are written in the order of their numbers.
#[derive(Debug)]
pub struct Filling<'a> {
    template: &'a Template,
    /// The next field of the template, and where it starts.
    next: usize,
    start: usize,
    out: &'a mut Writer,
}

impl Filling<'_> {
    /// The place of a field: all of the template's smaller numbers are written.
    pub fn at(&mut self, field: u32) -> &mut Writer {
        let fields = &self.template.fields;
        let place = place_of(field, self.template.oneofs);
        while fields.get(self.next).is_some_and(|f| f.number < place) {
            self.next += 1;
        }
        let bytes = &self.template.bytes;
        let end = fields.get(self.next).map_or(bytes.len(), |f| f.start);
        self.out.append(&bytes[self.start..end]);
        self.start = end;
        self.out
    }

    /// A text made of parts.
    pub fn text(&mut self, field: u32, parts: &[&str]) {
        self.at(field).text(field, parts);
    }

    /// A message that is encoded already.
    pub fn encoded(&mut self, field: u32, message: &[u8]) {
        self.at(field).encoded(field, message);
    }

    /// A message that `write` writes.
    pub fn message(&mut self, field: u32, write: impl FnOnce(&mut Writer)) {
        self.at(field).message(field, write);
    }

    /// The rest of the template.
    pub fn finish(self) {
        self.out.append(&self.template.bytes[self.start..]);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{Template, Writer, find_field};
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::cluster::v3::cluster::{
        ClusterDiscoveryType, CustomClusterType, DiscoveryType, EdsClusterConfig,
    };
    use crate::field::envoy::config::cluster::v3::cluster as field;

    fn whole(name: &str, service_name: &str) -> Cluster {
        Cluster {
            name: name.to_owned(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
            eds_cluster_config: Some(EdsClusterConfig {
                service_name: service_name.to_owned(),
                ..EdsClusterConfig::default()
            }),
            respect_dns_ttl: true,
            alt_stat_name: format!("{name};"),
            ..Cluster::default()
        }
    }

    #[test]
    fn a_filled_template_is_what_the_whole_message_would_be() {
        let rest = Cluster {
            name: String::new(),
            eds_cluster_config: None,
            alt_stat_name: String::new(),
            ..whole("", "")
        };
        let template = Template::of(&rest, field::ONEOFS);
        // Lengths of one byte, two and three.
        for n in [1, 100, 126, 127, 128, 16_383, 20_000] {
            let (name, service_name) = ("c", "s".repeat(n));
            let mut out = Writer::default();
            let mut cluster = template.fill(&mut out);
            cluster.text(field::NAME, &[name]);
            cluster.message(field::EDS_CLUSTER_CONFIG, |eds| {
                eds.text(field::eds_cluster_config::SERVICE_NAME, &[&service_name]);
            });
            cluster.text(field::ALT_STAT_NAME, &[name, ";"]);
            cluster.finish();
            assert_eq!(out.as_slice(), whole(name, &service_name).encode_to_vec());
            let (mut short, mut long) = (Writer::default(), Writer::default());
            short.message(1, |message| message.append(&vec![7; n]));
            long.long_message(1, |message| message.append(&vec![7; n]));
            assert_eq!(long, short);
        }
    }

    #[test]
    fn a_oneof_stands_where_its_first_member_would() {
        let cluster = Cluster {
            name: "c".to_owned(),
            cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
                name: "x".to_owned(),
                ..CustomClusterType::default()
            })),
            respect_dns_ttl: true,
            alt_stat_name: "a".to_owned(),
            ..Cluster::default()
        };
        let rest = Cluster {
            name: String::new(),
            alt_stat_name: String::new(),
            ..cluster.clone()
        };
        let template = Template::of(&rest, field::ONEOFS);
        let mut out = Writer::default();
        let mut filling = template.fill(&mut out);
        filling.text(field::NAME, &["c"]);
        filling.text(field::ALT_STAT_NAME, &["a"]);
        filling.finish();
        assert_eq!(out.as_slice(), cluster.encode_to_vec());
    }

    #[test]
    fn a_packed_message_is_what_packing_makes_of_it() {
        for name in ["", "c"] {
            let cluster = Cluster {
                name: name.to_owned(),
                ..Cluster::default()
            };
            let mut out = Writer::default();
            out.any::<Cluster>(1, |out| out.append_message(&cluster));
            let mut whole = Writer::default();
            whole.encoded(1, &crate::any::pack(&cluster).encode_to_vec());
            assert_eq!(out, whole);
        }
    }

    #[test]
    fn numbers_are_the_descriptors() {
        let pool = crate::json::descriptor_pool();
        let eds = pool.get_message_by_name("envoy.config.cluster.v3.Cluster.EdsClusterConfig");
        let service_name = eds.unwrap().get_field_by_name("service_name").unwrap();
        assert_eq!(
            service_name.number(),
            field::eds_cluster_config::SERVICE_NAME
        );
    }

    #[test]
    fn a_field_is_found_among_others() {
        let bytes = whole("c", "s").encode_to_vec();
        assert_eq!(find_field(&bytes, field::ALT_STAT_NAME), Some(&b"c;"[..]));
        assert_eq!(find_field(&bytes, field::METADATA), None);
        assert_eq!(find_field(&bytes[..bytes.len() - 1], field::METADATA), None);
    }
}
