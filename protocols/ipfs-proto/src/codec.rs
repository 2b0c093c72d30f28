//! Codecs: how the bytes of a block are read, which links they have, and how one codec's data is written in another.
//!
//! Depth and number of values are counted before anything is decoded: a block of 2 MiB can spell two million values,
//! and each takes a hundred bytes in memory.

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use swarmgate_content::{Cid, VerifiedBytes};

use crate::block::{BadBlock, Flaw, read_cid};
use crate::dag_pb::PbNode;

mod limits;
mod pb_data;

pub use limits::MAX_VALUES;

/// A codec that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Bytes as they are.
    Raw,
    /// Nodes with named links; UnixFS is in these.
    DagPb,
    /// CBOR with links.
    DagCbor,
    /// JSON with links.
    DagJson,
    /// CBOR without links.
    Cbor,
    /// JSON without links.
    Json,
}

impl Codec {
    /// The codec of that multicodec number.
    #[must_use]
    pub const fn new(code: u64) -> Option<Self> {
        match code {
            0x55 => Some(Self::Raw),
            0x70 => Some(Self::DagPb),
            0x71 => Some(Self::DagCbor),
            0x0129 => Some(Self::DagJson),
            0x51 => Some(Self::Cbor),
            0x0200 => Some(Self::Json),
            _ => None,
        }
    }

    /// The codec that a CID names.
    ///
    /// # Errors
    /// [`Flaw::UnknownCodec`].
    pub fn of(cid: &Cid) -> Result<Self, BadBlock> {
        Self::new(cid.codec()).ok_or_else(|| Flaw::UnknownCodec(cid.codec()).of(cid))
    }

    /// Its multicodec number.
    #[must_use]
    pub const fn code(self) -> u64 {
        match self {
            Self::Raw => 0x55,
            Self::DagPb => 0x70,
            Self::DagCbor => 0x71,
            Self::DagJson => 0x0129,
            Self::Cbor => 0x51,
            Self::Json => 0x0200,
        }
    }

    /// Its multicodec name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::DagPb => "dag-pb",
            Self::DagCbor => "dag-cbor",
            Self::DagJson => "dag-json",
            Self::Cbor => "cbor",
            Self::Json => "json",
        }
    }

    /// Reads a block. An identity link of more than 64 bytes cannot be held by the data model, and is an error.
    ///
    /// # Errors
    /// [`Flaw::Malformed`], [`Flaw::TooDeep`], or [`Flaw::TooManyLinks`] past [`MAX_VALUES`].
    pub fn decode(self, block: &[u8]) -> Result<Ipld, Flaw> {
        match self {
            Self::Raw => Ok(Ipld::Bytes(block.to_vec())),
            Self::DagPb => pb_data::from_node(&PbNode::decode(block)?),
            Self::DagCbor | Self::Cbor => {
                limits::check_cbor(block)?;
                serde_ipld_dagcbor::from_slice(block).map_err(|error| Flaw::malformed(self.name(), error.to_string()))
            }
            Self::DagJson | Self::Json => {
                limits::check_json(block)?;
                serde_ipld_dagjson::from_slice(block).map_err(|error| Flaw::malformed(self.name(), error.to_string()))
            }
        }
    }

    /// Writes a block.
    ///
    /// # Errors
    /// [`Flaw::Malformed`] when the codec has no spelling for the value.
    pub fn encode(self, value: &Ipld) -> Result<Vec<u8>, Flaw> {
        match self {
            Self::Raw => {
                let Ipld::Bytes(bytes) = value else {
                    return Err(Flaw::malformed("raw", "only bytes can be written so"));
                };
                Ok(bytes.clone())
            }
            Self::DagPb => pb_data::to_node(value),
            Self::DagCbor | Self::Cbor => {
                serde_ipld_dagcbor::to_vec(value).map_err(|error| Flaw::malformed(self.name(), error.to_string()))
            }
            Self::DagJson | Self::Json if has_reserved_key(value) => {
                Err(Flaw::malformed(self.name(), "a map with the key \"/\" would be read as a link or as bytes"))
            }
            Self::DagJson | Self::Json => {
                serde_ipld_dagjson::to_vec(value).map_err(|error| Flaw::malformed(self.name(), error.to_string()))
            }
        }
    }
}

/// Where a block's links lead, in the order of the block; one may be there several times.
///
/// # Errors
/// [`BadBlock`] when the block is not of its codec, or the codec is not known.
pub fn links(cid: &Cid, block: &VerifiedBytes) -> Result<Vec<Cid>, BadBlock> {
    let flawed = |flaw: Flaw| flaw.of(cid);
    match Codec::of(cid)? {
        Codec::Raw | Codec::Cbor | Codec::Json => Ok(Vec::new()),
        Codec::DagPb => {
            let node = PbNode::decode(block.as_ref()).map_err(flawed)?;
            Ok(node.links().map(|link| link.cid).collect())
        }
        codec @ (Codec::DagCbor | Codec::DagJson) => {
            let mut found = Vec::new();
            collect_links(&codec.decode(block.as_ref()).map_err(flawed)?, &mut found);
            Ok(found)
        }
    }
}

/// The depth was bounded when the value was decoded.
fn collect_links(value: &Ipld, found: &mut Vec<Cid>) {
    match value {
        Ipld::Link(_) => found.extend(link_target(value)),
        Ipld::List(values) => values.iter().for_each(|value| collect_links(value, found)),
        Ipld::Map(values) => values.values().for_each(|value| collect_links(value, found)),
        Ipld::Null | Ipld::Bool(_) | Ipld::Integer(_) | Ipld::Float(_) | Ipld::String(_) | Ipld::Bytes(_) => {}
    }
}

/// Whether some map has the key that dag-json writes links and bytes with. The depth was bounded when it was decoded.
fn has_reserved_key(value: &Ipld) -> bool {
    match value {
        Ipld::List(values) => values.iter().any(has_reserved_key),
        Ipld::Map(values) => values.contains_key("/") || values.values().any(has_reserved_key),
        Ipld::Null
        | Ipld::Bool(_)
        | Ipld::Integer(_)
        | Ipld::Float(_)
        | Ipld::String(_)
        | Ipld::Bytes(_)
        | Ipld::Link(_) => false,
    }
}

/// Where a value leads, if it is a link.
#[must_use]
pub fn link_target(value: &Ipld) -> Option<Cid> {
    let Ipld::Link(link) = value else { return None };
    read_cid(&link.to_bytes()).ok()
}

/// The value below `value` that a segment of a path names: a key of a map, or an index of a list.
#[must_use]
pub fn step<'a>(value: &'a Ipld, segment: &[u8]) -> Option<&'a Ipld> {
    let segment = std::str::from_utf8(segment).ok()?;
    if let Ipld::Map(values) = value {
        return values.get(segment);
    }
    let Ipld::List(values) = value else { return None };
    let digits = segment.bytes().all(|byte| byte.is_ascii_digit());
    values.get(segment.parse::<usize>().ok().filter(|_| digits)?)
}

/// Writes a block's data in another codec, as a gateway does for `format=` (path gateway specification). What is in
/// that codec already stays as it is, and dag-json is JSON, dag-cbor is CBOR.
///
/// # Errors
/// [`Flaw::Kind`] when either side is raw bytes; else as [`Codec::decode`] and [`Codec::encode`].
pub fn convert(cid: &Cid, block: &VerifiedBytes, to: Codec) -> Result<Bytes, BadBlock> {
    let from = Codec::of(cid)?;
    if from == to || matches!((from, to), (Codec::DagJson, Codec::Json) | (Codec::DagCbor, Codec::Cbor)) {
        return Ok(block.clone().into_bytes());
    }
    if from == Codec::Raw || to == Codec::Raw {
        return Err(Flaw::Kind { found: from.name(), expected: to.name() }.of(cid));
    }
    let value = from.decode(block.as_ref()).map_err(|flaw| flaw.of(cid))?;
    to.encode(&value).map(Bytes::from).map_err(|flaw| flaw.of(cid))
}

#[cfg(test)]
mod tests;
