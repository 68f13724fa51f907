//! Reads single fields of encoded messages in place; what is cut off reads as absent.

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message in their order; fixed-width ones are skipped.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = self.varint()?;
            let number = key >> 3;
            match key & 7 {
                0 => return Some((number, Value::Varint(self.varint()?))),
                1 => _ = self.take(8)?,
                2 => {
                    let len = usize::try_from(self.varint()?).ok()?.min(self.0.len());
                    return Some((number, Value::Bytes(self.take(len)?)));
                }
                5 => _ = self.take(4)?,
                _ => return None,
            }
        }
    }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (i, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

/// The first field of that number, as bytes.
pub(crate) fn find_bytes(message: &[u8], number: u64) -> Option<&[u8]> {
    Fields(message).find_map(|field| match field {
        (n, Value::Bytes(bytes)) if n == number => Some(bytes),
        _ => None,
    })
}

/// All fields of that number, as bytes.
pub(crate) fn all_bytes(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter_map(move |field| match field {
        (n, Value::Bytes(bytes)) if n == number => Some(bytes),
        _ => None,
    })
}

/// Append a length-delimited field.
pub(crate) fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    use prost::encoding::{WireType, encode_key, encode_varint};
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::config::cluster::v3::Cluster;
    use prost::Message;

    use super::{Fields, Value, find_bytes};

    #[test]
    fn a_cut_message_reads_as_far_as_it_goes() {
        let cluster = Cluster {
            name: "a-name".into(),
            alt_stat_name: "another".into(),
            ..Cluster::default()
        };
        let bytes = cluster.encode_to_vec();
        assert_eq!(find_bytes(&bytes, 1), Some(b"a-name".as_slice()));
        assert_eq!(Fields(&bytes).count(), 2);
        let cut = &bytes[..bytes.len() - 3];
        assert_eq!(
            Fields(cut).last(),
            Some((28, Value::Bytes(b"anot".as_slice())))
        );
        assert_eq!(Fields(&bytes[..1]).next(), None);
    }
}
