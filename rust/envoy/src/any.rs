//! Packing of generated messages into `google.protobuf.Any`, Envoy's `typed_config`.

use prost::{Message, Name};
use prost_types::Any;

/// Pack a message with the type URL that its generated type carries.
///
/// Equal messages give equal bytes: all maps of the generated types are in key order.
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// Pack the default message of a type: a filter or extension that needs no settings.
pub fn pack_default<M: Message + Name + Default>() -> Any {
    pack(&M::default())
}

/// Unpack an `Any` into `M`; `None` when it holds another type or broken bytes.
pub fn unpack<M: Message + Name + Default>(any: &Any) -> Option<M> {
    if any.type_url != M::type_url() {
        return None;
    }
    M::decode(any.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::{pack, pack_default, unpack};
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::extensions::filters::http::router::v3::Router;

    #[test]
    fn a_packed_message_comes_back() {
        let cluster = Cluster {
            name: "a".into(),
            ..Cluster::default()
        };
        let any = pack(&cluster);
        assert_eq!(
            any.type_url,
            "type.googleapis.com/envoy.config.cluster.v3.Cluster"
        );
        assert_eq!(unpack::<Cluster>(&any), Some(cluster));
    }

    #[test]
    fn another_type_is_not_unpacked() {
        assert_eq!(unpack::<Cluster>(&pack_default::<Router>()), None);
    }
}
