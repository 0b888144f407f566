//! MessagePack with named fields, without a plaintext left behind and without serde's error text, which prints the
//! value it could not place: here that is a token.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Encodes into a buffer of exactly the right size, so that growing it leaves no copies of secrets in freed memory.
pub(crate) fn encode<T: Serialize>(value: &T) -> Option<Zeroizing<Vec<u8>>> {
    let mut length = Counter(0);
    value.serialize(&mut rmp_serde::Serializer::new(&mut length).with_struct_map()).ok()?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    value.serialize(&mut rmp_serde::Serializer::new(&mut *bytes).with_struct_map()).ok()?;
    Some(bytes)
}

/// Decodes the whole of `bytes`; anything left over is an error too. The error carries nothing on purpose. Text is
/// borrowed from `bytes` until it is placed, so that no buffer of the decoder keeps a copy.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    if value_length(bytes)? != bytes.len() {
        return None;
    }
    rmp_serde::from_slice(bytes).ok()
}

/// The pairs of the map in `bytes` whose key is not in `known`, as they stand, one after another, and their number.
pub(crate) fn unknown_pairs(bytes: &[u8], known: &[&str]) -> Option<(Zeroizing<Vec<u8>>, usize)> {
    let (header, mut pairs) = map_header(bytes)?;
    let mut rest = bytes.get(header..)?;
    let (mut unknown, mut count) = (Zeroizing::new(Vec::with_capacity(bytes.len())), 0);
    while pairs > 0 {
        let key = value_length(rest)?;
        let pair = key + value_length(rest.get(key..)?)?;
        let name: &str = rmp_serde::from_slice(&rest[..key]).ok()?;
        if !known.contains(&name) {
            unknown.extend_from_slice(rest.get(..pair)?);
            count += 1;
        }
        rest = rest.get(pair..)?;
        pairs -= 1;
    }
    Some((unknown, count))
}

/// Encodes the struct `value` as [`encode`] does, with `count` more pairs that already are MessagePack.
pub(crate) fn encode_with<T: Serialize>(value: &T, pairs: &[u8], count: usize) -> Option<Zeroizing<Vec<u8>>> {
    let own = encode(value)?;
    if count == 0 {
        return Some(own);
    }
    let (header, own_count) = map_header(&own)?;
    let total = u32::try_from(own_count + count).ok()?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(own.len() + pairs.len() + 5));
    bytes.push(0xdf);
    bytes.extend_from_slice(&total.to_be_bytes());
    bytes.extend_from_slice(own.get(header..)?);
    bytes.extend_from_slice(pairs);
    Some(bytes)
}

/// Length of a map's header and the number of its pairs.
fn map_header(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.first()? {
        marker @ 0x80..=0x8f => Some((1, usize::from(marker & 0x0f))),
        0xde => Some((3, big_endian(bytes, 1, 2)?)),
        0xdf => Some((5, big_endian(bytes, 1, 4)?)),
        _ => None,
    }
}

/// The length in bytes of the MessagePack value that `bytes` begins with.
fn value_length(bytes: &[u8]) -> Option<usize> {
    // Counts values still to come instead of recursing, so that nesting cannot exhaust the stack.
    let (mut at, mut values) = (0_usize, 1_usize);
    while values > 0 {
        values -= 1;
        let rest = bytes.get(at..)?;
        let (length, inner) = match *rest.first()? {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (1, 0),
            marker @ 0x80..=0x8f => (1, 2 * usize::from(marker & 0x0f)),
            marker @ 0x90..=0x9f => (1, usize::from(marker & 0x0f)),
            marker @ 0xa0..=0xbf => (1 + usize::from(marker & 0x1f), 0),
            0xc4 | 0xd9 => (big_endian(rest, 1, 1)?.checked_add(2)?, 0),
            0xc5 | 0xda => (big_endian(rest, 1, 2)?.checked_add(3)?, 0),
            0xc6 | 0xdb => (big_endian(rest, 1, 4)?.checked_add(5)?, 0),
            0xc7 => (big_endian(rest, 1, 1)?.checked_add(3)?, 0),
            0xc8 => (big_endian(rest, 1, 2)?.checked_add(4)?, 0),
            0xc9 => (big_endian(rest, 1, 4)?.checked_add(6)?, 0),
            0xcc | 0xd0 => (2, 0),
            0xcd | 0xd1 => (3, 0),
            0xca | 0xce | 0xd2 => (5, 0),
            0xcb | 0xcf | 0xd3 => (9, 0),
            0xd4 => (3, 0),
            0xd5 => (4, 0),
            0xd6 => (6, 0),
            0xd7 => (10, 0),
            0xd8 => (18, 0),
            0xdc => (3, big_endian(rest, 1, 2)?),
            0xdd => (5, big_endian(rest, 1, 4)?),
            0xde => (3, big_endian(rest, 1, 2)?.checked_mul(2)?),
            0xdf => (5, big_endian(rest, 1, 4)?.checked_mul(2)?),
            0xc1 => return None,
        };
        at = at.checked_add(length).filter(|&end| end <= bytes.len())?;
        values = values.checked_add(inner)?;
    }
    Some(at)
}

fn big_endian(bytes: &[u8], from: usize, length: usize) -> Option<usize> {
    let field = bytes.get(from..from + length)?;
    Some(field.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serde for secret text, private to what is sealed in a store.
pub(crate) mod secret_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use tokenkeep_secret::SecretString;

    pub(crate) fn serialize<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
        String::deserialize(deserializer).map(SecretString::new)
    }
}

/// The same for an optional secret.
pub(crate) mod optional_secret_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use tokenkeep_secret::SecretString;

    pub(crate) fn serialize<S: Serializer>(
        secret: &Option<SecretString>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => serializer.serialize_some(secret.expose()),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SecretString>, D::Error> {
        Option::<String>::deserialize(deserializer).map(|text| text.map(SecretString::new))
    }
}

/// The same for a list of secrets.
pub(crate) mod secret_texts {
    use serde::ser::SerializeSeq;
    use serde::{Deserialize, Deserializer, Serializer};
    use tokenkeep_secret::SecretString;

    pub(crate) fn serialize<S: Serializer>(
        secrets: &[SecretString],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(secrets.len()))?;
        for secret in secrets {
            list.serialize_element(secret.expose())?;
        }
        list.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<SecretString>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Ok(texts.into_iter().map(SecretString::new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Old {
        a: u8,
        b: String,
    }

    #[derive(Serialize)]
    struct New<'a> {
        a: u8,
        later: Vec<(u32, Option<i64>)>,
        b: &'a str,
        text: String,
        float: f64,
    }

    fn new_bytes() -> Zeroizing<Vec<u8>> {
        encode(&New {
            a: 7,
            later: vec![(1 << 20, Some(-1)), (0, None)],
            b: "b",
            text: "x".repeat(300),
            float: 0.5,
        })
        .unwrap()
    }

    #[test]
    fn what_a_newer_version_added_is_kept() {
        let bytes = new_bytes();
        let (unknown, count) = unknown_pairs(&bytes, &["a", "b"]).unwrap();
        assert_eq!(count, 3);
        let old: Old = decode(&bytes).unwrap();
        let again = encode_with(&Old { a: 8, ..old }, &unknown, count).unwrap();
        let (unknown_again, count_again) = unknown_pairs(&again, &["a", "b"]).unwrap();
        assert_eq!((unknown_again, count_again), (unknown, count));
        assert_eq!(decode::<Old>(&again).unwrap(), Old { a: 8, b: "b".into() });
    }

    #[test]
    fn trailing_bytes_and_every_truncation_are_refused() {
        let bytes = new_bytes();
        let mut longer = bytes.to_vec();
        longer.push(0xc0);
        assert!(decode::<Old>(&longer).is_none());
        for end in 0..bytes.len() {
            assert!(decode::<Old>(&bytes[..end]).is_none(), "{end} bytes");
            assert!(unknown_pairs(&bytes[..end], &["a"]).is_none(), "{end} bytes");
        }
    }

    #[test]
    fn hostile_lengths_and_nesting_are_refused_at_once() {
        assert!(value_length(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_none());
        assert!(value_length(&[0xdb, 0xff, 0xff, 0xff, 0xff, b'a']).is_none());
        assert!(value_length(&vec![0x91; 1_000_000]).is_none());
        assert!(value_length(&[0xc1]).is_none());
    }

    #[test]
    fn encoding_never_grows_its_buffer() {
        let bytes = new_bytes();
        assert_eq!(bytes.len(), bytes.capacity());
    }
}
