//! Resources that their builders write as bytes.

use std::marker::PhantomData;
use std::sync::Arc;

use navarch_envoy::wire::Writer;
use prost::Message;

/// A resource of the type `M`, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded<M> {
    /// By which it is subscribed to.
    pub name: Arc<str>,
    /// The message.
    pub bytes: Vec<u8>,
    /// What it makes Envoy ask for.
    pub references: References,
    message: PhantomData<M>,
}

/// The resources of the next type that one makes Envoy ask for over ADS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum References {
    /// None.
    #[default]
    Nothing,
    /// The one of the same name: a cluster's endpoints.
    SameName,
    /// These: a listener's route configurations.
    Names(Vec<Arc<str>>),
}

impl<M: Message + Default + PartialEq> Encoded<M> {
    /// Of bytes that were written field by field.
    pub(crate) fn new(name: Arc<str>, bytes: Writer, references: References) -> Self {
        let encoded = Self {
            name,
            bytes: bytes.into_bytes(),
            references,
            message: PhantomData,
        };
        debug_assert_eq!(
            encoded.message().encode_to_vec(),
            encoded.bytes,
            "{} is not encoded as protobuf does",
            encoded.name
        );
        encoded
    }

    /// Of a whole message.
    pub(crate) fn of(name: &str, message: &M, references: References) -> Self {
        Self {
            name: name.into(),
            bytes: message.encode_to_vec(),
            references,
            message: PhantomData,
        }
    }

    /// The message, decoded.
    pub fn message(&self) -> M {
        M::decode(self.bytes.as_slice()).unwrap_or_default()
    }
}
