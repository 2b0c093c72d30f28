//! Values to be written. Dictionaries are maps, so they come out sorted and without duplicates.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Value;

/// A value that owns its parts, for writing.
///
/// ```
/// use swarmgate_bittorrent_proto::bencode::OwnedValue;
/// let ping = OwnedValue::dict([("q", OwnedValue::from("ping")), ("a", OwnedValue::from(1))]);
/// assert_eq!(ping.encode(), b"d1:ai1e1:q4:pinge");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedValue {
    /// A number.
    Int(i64),
    /// A string.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Self>),
    /// A dictionary.
    Dict(BTreeMap<Vec<u8>, Self>),
    /// A value that is encoded already and must stay as it is, such as an `info` whose hash is known.
    Raw(Bytes),
}

impl OwnedValue {
    /// Makes a dictionary. A later key replaces an equal earlier one.
    pub fn dict<K: Into<Vec<u8>>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// Makes a list.
    pub fn list<V: Into<Self>>(items: impl IntoIterator<Item = V>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// The bencoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Appends the bencoding.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Int(int) => out.extend_from_slice(format!("i{int}e").as_bytes()),
            Self::Bytes(bytes) => string(bytes, out),
            Self::Raw(raw) => out.extend_from_slice(raw),
            Self::List(items) => {
                out.push(b'l');
                items.iter().for_each(|item| item.encode_into(out));
                out.push(b'e');
            }
            Self::Dict(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    string(key, out);
                    value.encode_into(out);
                }
                out.push(b'e');
            }
        }
    }
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
}

impl From<i64> for OwnedValue {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<&str> for OwnedValue {
    fn from(text: &str) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<String> for OwnedValue {
    fn from(text: String) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<Vec<u8>> for OwnedValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&[u8]> for OwnedValue {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Int(int) => Self::Int(int),
            Value::Bytes(bytes) => bytes.into(),
            Value::List(list) => Self::List(list.iter().map(Self::from).collect()),
            Value::Dict(dict) => {
                Self::Dict(dict.iter().map(|entry| (entry.key.to_vec(), entry.value.into())).collect())
            }
        }
    }
}
