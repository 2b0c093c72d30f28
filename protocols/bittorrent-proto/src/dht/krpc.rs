//! KRPC: what nodes say to each other (BEP 5), with IPv6 (BEP 32), the asker's address (BEP 42), nodes that do not
//! answer (BEP 43) and items (BEP 44).
//!
//! Everything read is bounded by [`MAX_DATAGRAM_BYTES`]; what belongs to no message is left out, so that later
//! versions can add to it. Everything written is sorted, as bencode wants it.

use std::net::SocketAddr;

use bytes::Bytes;
use swarmgate_content::InfoHash;

use super::item::{MAX_SALT_BYTES, MAX_VALUE_BYTES, SIGNATURE_BYTES};
use super::{Contact, Family, NodeId, PublicKey};
use crate::bencode::{DecodeOptions, Dict, List, OwnedValue, Value, decode};
use crate::tracker::compact;

/// Bytes of a datagram that are read; a longer one is nothing that a node would send.
pub const MAX_DATAGRAM_BYTES: usize = 4096;
/// Bytes that a transaction id may have; nodes use 2 to 8.
pub const MAX_TRANSACTION_BYTES: usize = 32;
/// Bytes of a token that are sent back; nodes use 4 to 20.
pub const MAX_TOKEN_BYTES: usize = 128;
/// Nodes read of one answer, for each family. Nodes send 8; some send 16.
const MAX_NODES: usize = 20;
/// Peers read of one answer: as many as fit a datagram.
const MAX_PEERS: usize = 500;
/// Bytes of an error's text that are kept.
const MAX_ERROR_BYTES: usize = 200;
/// Bytes of a node in an answer: its id, and its address.
const NODE_BYTES: [usize; 2] = [26, 38];
/// What this program calls itself.
const VERSION: &[u8] = b"SG\x00\x01";

const DECODE: DecodeOptions = DecodeOptions::strict(MAX_DATAGRAM_BYTES).in_any_key_order().with_max_nodes(1024);

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What the asker made up, to know the answer by.
    pub transaction: Vec<u8>,
    /// What is said.
    pub body: Body,
    /// Of answers: the asker's address as the answerer sees it (BEP 42).
    pub ip: Option<SocketAddr>,
    /// Of queries: the asker answers none itself (BEP 43).
    pub read_only: bool,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A query, and the asker's id.
    Query(NodeId, Query),
    /// An answer.
    Response(Box<Response>),
    /// A refusal.
    Error(KrpcError),
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Whether somebody is there.
    Ping,
    /// The nodes nearest to an id.
    FindNode {
        /// The id.
        target: NodeId,
        /// The families wanted; that of the asker when it does not say.
        want: Option<Want>,
    },
    /// The peers of a torrent, else the nearest nodes.
    GetPeers {
        /// The torrent.
        infohash: InfoHash,
        /// As above.
        want: Option<Want>,
    },
    /// That the asker is a peer of a torrent.
    AnnouncePeer {
        /// The torrent.
        infohash: InfoHash,
        /// The port; none: that which the query comes from.
        port: Option<u16>,
        /// What the node gave earlier.
        token: Vec<u8>,
    },
    /// An item (BEP 44), and the nearest nodes.
    Get {
        /// Where it is stored.
        target: NodeId,
        /// The version that the asker has.
        seq: Option<i64>,
        /// As above.
        want: Option<Want>,
    },
    /// To store an item (BEP 44).
    Put {
        /// What the node gave earlier.
        token: Vec<u8>,
        /// The bencoded value.
        value: Bytes,
        /// What a mutable item has besides.
        mutable: Option<MutablePut>,
    },
}

/// What belongs to a mutable item, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutablePut {
    /// Whose it is.
    pub key: PublicKey,
    /// Which of the key's items.
    pub salt: Vec<u8>,
    /// Which version.
    pub seq: i64,
    /// The proof.
    pub signature: [u8; SIGNATURE_BYTES],
    /// The version to be replaced, and no other.
    pub cas: Option<i64>,
}

/// Which families' nodes somebody wants (BEP 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Want {
    /// `n4`.
    pub v4: bool,
    /// `n6`.
    pub v6: bool,
}

/// An answer. What the query did not ask for is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Who answers.
    pub id: NodeId,
    /// The nearest nodes, of both families.
    pub nodes: Vec<Contact>,
    /// Peers.
    pub peers: Vec<SocketAddr>,
    /// Permission to store.
    pub token: Option<Vec<u8>>,
    /// An item's bencoded value.
    pub value: Option<Bytes>,
    /// Whose the item is.
    pub key: Option<PublicKey>,
    /// Its version.
    pub seq: Option<i64>,
    /// Its proof.
    pub signature: Option<[u8; SIGNATURE_BYTES]>,
}

/// Why a query is refused (BEP 5, BEP 44).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error {code}: {text}")]
pub struct KrpcError {
    /// The number.
    pub code: i64,
    /// The sentence.
    pub text: String,
}

/// Why a datagram is no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// Nothing that could be answered.
    NotKrpc,
    /// A query that is answered with an error.
    Query {
        /// Its transaction.
        transaction: Vec<u8>,
        /// What is wrong with it.
        error: KrpcError,
    },
}

impl KrpcError {
    /// BEP 5: 201.
    #[must_use]
    pub fn generic(text: &str) -> Self {
        Self { code: 201, text: text.to_owned() }
    }

    /// BEP 5: 202.
    #[must_use]
    pub fn server(text: &str) -> Self {
        Self { code: 202, text: text.to_owned() }
    }

    /// BEP 5: 203.
    #[must_use]
    pub fn protocol(text: &str) -> Self {
        Self { code: 203, text: text.to_owned() }
    }

    /// BEP 5: 204.
    #[must_use]
    pub fn unknown_method() -> Self {
        Self { code: 204, text: "method unknown".to_owned() }
    }

    /// BEP 44: 205 to 207, 301 and 302.
    #[must_use]
    pub fn item(code: i64, text: &str) -> Self {
        Self { code, text: text.to_owned() }
    }
}

/// Whether a datagram can be KRPC: a dictionary. What else comes to the same port begins with another byte.
#[must_use]
pub fn is_krpc(datagram: &[u8]) -> bool {
    datagram.starts_with(b"d") && datagram.ends_with(b"e")
}

impl Response {
    /// An answer that says nothing but who answers.
    #[must_use]
    pub const fn new(id: NodeId) -> Self {
        Self {
            id,
            nodes: Vec::new(),
            peers: Vec::new(),
            token: None,
            value: None,
            key: None,
            seq: None,
            signature: None,
        }
    }

    fn of(family: Family, nodes: &[Contact]) -> Option<OwnedValue> {
        let mut out = Vec::new();
        for contact in nodes.iter().filter(|contact| Family::of(&contact.address) == family) {
            out.extend_from_slice(contact.id.as_bytes());
            out.extend(compact::encode([contact.address]));
        }
        (!out.is_empty()).then(|| out.into())
    }

    fn to_value(&self) -> OwnedValue {
        let peers = self.peers.iter().map(|peer| compact::encode([*peer]));
        let entries = [
            ("id", Some(OwnedValue::from(&self.id.as_bytes()[..]))),
            ("k", self.key.map(|key| OwnedValue::from(&key.as_bytes()[..]))),
            ("nodes", Self::of(Family::V4, &self.nodes)),
            ("nodes6", Self::of(Family::V6, &self.nodes)),
            ("seq", self.seq.map(OwnedValue::from)),
            ("sig", self.signature.map(|signature| OwnedValue::from(&signature[..]))),
            ("token", self.token.clone().map(OwnedValue::from)),
            ("v", self.value.clone().map(OwnedValue::Raw)),
            ("values", (!self.peers.is_empty()).then(|| OwnedValue::list(peers))),
        ];
        OwnedValue::dict(entries.into_iter().filter_map(|(key, value)| Some((key, value?))))
    }

    /// Leaves out what is farthest or last, about `excess` bytes of it. Tells whether there was anything.
    fn shrink(&mut self, excess: usize) -> bool {
        if self.peers.len() > self.nodes.len() {
            let size = if self.peers.iter().any(SocketAddr::is_ipv6) { 21 } else { 8 };
            self.peers.truncate(self.peers.len().saturating_sub(1 + excess / size));
            return true;
        }
        let smallest = NODE_BYTES[1];
        let kept = self.nodes.len().saturating_sub(1 + excess / smallest);
        let shrunk = kept < self.nodes.len();
        self.nodes.truncate(kept);
        shrunk
    }

    fn parse(answer: Dict<'_>) -> Option<Self> {
        let mut read = Self::new(NodeId::from_slice(answer.bytes("id")?)?);
        for entry in answer.iter() {
            let bytes = entry.value.as_bytes();
            match entry.key {
                b"nodes" => read.nodes.extend(nodes(bytes.unwrap_or_default(), Family::V4)),
                b"nodes6" => read.nodes.extend(nodes(bytes.unwrap_or_default(), Family::V6)),
                b"values" => read.peers = entry.value.as_list().map(peers).unwrap_or_default(),
                b"token" => read.token = bytes.filter(|it| it.len() <= MAX_TOKEN_BYTES).map(<[u8]>::to_vec),
                b"k" => read.key = bytes.and_then(|it| it.try_into().ok()).map(PublicKey::new),
                b"seq" => read.seq = entry.value.as_int(),
                b"sig" => read.signature = bytes.and_then(|it| it.try_into().ok()),
                b"v" if entry.raw.len() <= MAX_VALUE_BYTES => read.value = Some(Bytes::copy_from_slice(entry.raw)),
                _ => {}
            }
        }
        Some(read)
    }
}

fn nodes(bytes: &[u8], family: Family) -> impl Iterator<Item = Contact> {
    let chunks = bytes.chunks_exact(NODE_BYTES[family.index()]).take(MAX_NODES);
    chunks.filter_map(move |chunk| {
        let (id, address) = chunk.split_at(20);
        let address = match family {
            Family::V4 => compact::parse_v4(address).next(),
            Family::V6 => compact::parse_v6(address).next(),
        };
        let address = address.filter(compact::dialable)?;
        Some(Contact { id: NodeId::from_slice(id)?, address })
    })
}

fn peers(values: List<'_>) -> Vec<SocketAddr> {
    let addresses = values.iter().filter_map(|value| address(value.as_bytes()?));
    addresses.filter(compact::dialable).take(MAX_PEERS).collect()
}

/// Reads a compact address of either family.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    match bytes.len() {
        6 => compact::parse_v4(bytes).next(),
        18 => compact::parse_v6(bytes).next(),
        _ => None,
    }
}

impl Want {
    /// What somebody wants who asks from this address and says nothing.
    #[must_use]
    pub const fn of(address: &SocketAddr) -> Self {
        Self { v4: address.is_ipv4(), v6: address.is_ipv6() }
    }

    fn parse(arguments: Dict<'_>) -> Option<Self> {
        let list = arguments.get("want")?.as_list()?;
        let has = |name: &[u8]| list.iter().any(|it| it.as_bytes() == Some(name));
        let want = Self { v4: has(b"n4"), v6: has(b"n6") };
        (want != Self::default()).then_some(want)
    }

    fn to_value(self) -> OwnedValue {
        let names = [(self.v4, "n4"), (self.v6, "n6")];
        OwnedValue::list(names.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name))
    }
}

impl Query {
    const fn method(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::FindNode { .. } => "find_node",
            Self::GetPeers { .. } => "get_peers",
            Self::AnnouncePeer { .. } => "announce_peer",
            Self::Get { .. } => "get",
            Self::Put { .. } => "put",
        }
    }

    fn arguments(&self) -> Vec<(&'static str, OwnedValue)> {
        let wanted = |want: &Option<Want>| want.map(|want| ("want", want.to_value()));
        match self {
            Self::Ping => Vec::new(),
            Self::FindNode { target, want } => {
                [("target", OwnedValue::from(&target.as_bytes()[..]))].into_iter().chain(wanted(want)).collect()
            }
            Self::GetPeers { infohash, want } => {
                [("info_hash", OwnedValue::from(&infohash.as_bytes()[..]))].into_iter().chain(wanted(want)).collect()
            }
            Self::AnnouncePeer { infohash, port, token } => vec![
                ("implied_port", OwnedValue::Int(i64::from(port.is_none()))),
                ("info_hash", OwnedValue::from(&infohash.as_bytes()[..])),
                ("port", OwnedValue::Int(i64::from(port.unwrap_or(1)))),
                ("token", OwnedValue::from(token.clone())),
            ],
            Self::Get { target, seq, want } => [("target", OwnedValue::from(&target.as_bytes()[..]))]
                .into_iter()
                .chain(seq.map(|seq| ("seq", OwnedValue::Int(seq))))
                .chain(wanted(want))
                .collect(),
            Self::Put { token, value, mutable } => {
                let mut arguments =
                    vec![("token", OwnedValue::from(token.clone())), ("v", OwnedValue::Raw(value.clone()))];
                if let Some(mutable) = mutable {
                    arguments.push(("k", OwnedValue::from(&mutable.key.as_bytes()[..])));
                    arguments.push(("seq", OwnedValue::Int(mutable.seq)));
                    arguments.push(("sig", OwnedValue::from(&mutable.signature[..])));
                    arguments.extend(mutable.cas.map(|cas| ("cas", OwnedValue::Int(cas))));
                    let salted = !mutable.salt.is_empty();
                    arguments.extend(salted.then(|| ("salt", OwnedValue::from(mutable.salt.clone()))));
                }
                arguments
            }
        }
    }

    fn parse(method: &[u8], arguments: Dict<'_>) -> Result<Self, KrpcError> {
        let lacks = |what: &str| KrpcError::protocol(&format!("{what} is missing or malformed"));
        let target = || arguments.bytes("target").and_then(NodeId::from_slice).ok_or_else(|| lacks("target"));
        let infohash = || arguments.bytes("info_hash").and_then(InfoHash::from_slice).ok_or_else(|| lacks("info_hash"));
        let token = || {
            let token = arguments.bytes("token").filter(|token| token.len() <= MAX_TOKEN_BYTES);
            token.map(<[u8]>::to_vec).ok_or_else(|| lacks("token"))
        };
        let want = Want::parse(arguments);
        Ok(match method {
            b"ping" => Self::Ping,
            b"find_node" => Self::FindNode { target: target()?, want },
            b"get_peers" => Self::GetPeers { infohash: infohash()?, want },
            b"announce_peer" => {
                let implied = arguments.int("implied_port").is_some_and(|implied| implied != 0);
                let port = arguments.int("port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
                if !implied && port.is_none() {
                    return Err(lacks("port"));
                }
                Self::AnnouncePeer { infohash: infohash()?, port: port.filter(|_| !implied), token: token()? }
            }
            b"get" => Self::Get { target: target()?, seq: arguments.int("seq"), want },
            b"put" => {
                let value = arguments.raw("v").ok_or_else(|| lacks("v"))?;
                if value.len() > MAX_VALUE_BYTES {
                    return Err(KrpcError::item(205, "the value is too long"));
                }
                let mutable = arguments.get("k").map(|_| MutablePut::parse(arguments)).transpose()?;
                Self::Put { token: token()?, value: Bytes::copy_from_slice(value), mutable }
            }
            // A method of tomorrow that has a target is answered with the nodes nearest to it (BEP 44).
            _ => match (target(), infohash()) {
                (Ok(target), _) => Self::FindNode { target, want },
                (Err(_), Ok(infohash)) => Self::FindNode { target: NodeId::new(*infohash.as_bytes()), want },
                (Err(_), Err(_)) => return Err(KrpcError::unknown_method()),
            },
        })
    }
}

impl MutablePut {
    fn parse(arguments: Dict<'_>) -> Result<Self, KrpcError> {
        let lacks = |what: &str| KrpcError::protocol(&format!("{what} is missing or malformed"));
        let salt = arguments.bytes("salt").unwrap_or_default();
        if salt.len() > MAX_SALT_BYTES {
            return Err(KrpcError::item(207, "the salt is too long"));
        }
        let key = arguments.bytes("k").and_then(|key| key.try_into().ok()).ok_or_else(|| lacks("k"))?;
        let signature = arguments.bytes("sig").and_then(|sig| sig.try_into().ok()).ok_or_else(|| lacks("sig"))?;
        let seq = arguments.int("seq").ok_or_else(|| lacks("seq"))?;
        Ok(Self { key: PublicKey::new(key), salt: salt.to_vec(), seq, signature, cas: arguments.int("cas") })
    }
}

impl Message {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`Unread`]: what is no message, and queries that lack something.
    pub fn parse(datagram: &[u8]) -> Result<Self, Unread> {
        let message = decode(datagram, DECODE).ok().and_then(|value| value.as_dict()).ok_or(Unread::NotKrpc)?;
        let transaction = message.bytes("t").filter(|t| t.len() <= MAX_TRANSACTION_BYTES).ok_or(Unread::NotKrpc)?;
        let body = match message.bytes("y") {
            Some(b"q") => {
                let query = parse_query(message);
                query.map_err(|error| Unread::Query { transaction: transaction.to_vec(), error })?
            }
            Some(b"r") => {
                let answer = message.get("r").and_then(|r| r.as_dict()).and_then(Response::parse);
                Body::Response(Box::new(answer.ok_or(Unread::NotKrpc)?))
            }
            Some(b"e") => Body::Error(parse_error(message).ok_or(Unread::NotKrpc)?),
            _ => return Err(Unread::NotKrpc),
        };
        let read_only = message.int("ro") == Some(1);
        Ok(Self { transaction: transaction.to_vec(), body, ip: message.bytes("ip").and_then(address), read_only })
    }

    /// The bencoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut entries = vec![("t", OwnedValue::from(self.transaction.clone())), ("v", OwnedValue::from(VERSION))];
        entries.extend(self.ip.map(|ip| ("ip", OwnedValue::from(compact::encode([ip])))));
        entries.extend(self.read_only.then_some(("ro", OwnedValue::Int(1))));
        match &self.body {
            Body::Query(id, query) => {
                let id = ("id", OwnedValue::from(&id.as_bytes()[..]));
                let arguments = OwnedValue::dict(query.arguments().into_iter().chain([id]));
                entries.extend([("a", arguments), ("q", query.method().into()), ("y", "q".into())]);
            }
            Body::Response(response) => entries.extend([("r", response.to_value()), ("y", "r".into())]),
            Body::Error(KrpcError { code, text }) => {
                let error = OwnedValue::list([OwnedValue::Int(*code), text.as_str().into()]);
                entries.extend([("e", error), ("y", "e".into())]);
            }
        }
        OwnedValue::dict(entries).encode()
    }

    /// The bencoding in at most `max` bytes: an answer is shortened by nodes and peers. `None` when that is not enough.
    #[must_use]
    pub fn encode_within(mut self, max: usize) -> Option<Vec<u8>> {
        loop {
            let bytes = self.encode();
            if bytes.len() <= max {
                return Some(bytes);
            }
            let Body::Response(response) = &mut self.body else { return None };
            if !response.shrink(bytes.len() - max) {
                return None;
            }
        }
    }
}

fn parse_query(message: Dict<'_>) -> Result<Body, KrpcError> {
    let malformed = || KrpcError::protocol("a query has q, and a with an id of 20 bytes");
    let arguments = message.get("a").and_then(|a| a.as_dict()).ok_or_else(malformed)?;
    let id = arguments.bytes("id").and_then(NodeId::from_slice).ok_or_else(malformed)?;
    let query = Query::parse(message.bytes("q").ok_or_else(malformed)?, arguments)?;
    Ok(Body::Query(id, query))
}

fn parse_error(message: Dict<'_>) -> Option<KrpcError> {
    let list = message.get("e")?.as_list()?;
    let mut parts = list.iter();
    let code = parts.next()?.as_int()?;
    let text = parts.next().and_then(|text| match text {
        Value::Bytes(text) => {
            let mut text = String::from_utf8_lossy(&text[..text.len().min(MAX_ERROR_BYTES)]).into_owned();
            text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES));
            Some(text)
        }
        Value::Int(_) | Value::List(_) | Value::Dict(_) => None,
    });
    Some(KrpcError { code, text: text.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_bep_5_are_read() {
        for (datagram, query) in [
            (&b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"[..], Query::Ping),
            (
                b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
                Query::FindNode { target: NodeId::new(*b"mnopqrstuvwxyz123456"), want: None },
            ),
            (
                b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
                Query::GetPeers { infohash: InfoHash::new(*b"mnopqrstuvwxyz123456"), want: None },
            ),
            (
                b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e\
                  5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
                Query::AnnouncePeer {
                    infohash: InfoHash::new(*b"mnopqrstuvwxyz123456"),
                    port: None,
                    token: b"aoeusnth".to_vec(),
                },
            ),
        ] {
            let message = Message::parse(datagram).unwrap();
            assert_eq!(message.transaction, b"aa");
            assert_eq!(message.body, Body::Query(NodeId::new(*b"abcdefghij0123456789"), query));
        }
        let error = Message::parse(b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee").unwrap();
        assert_eq!(error.body, Body::Error(KrpcError::generic("A Generic Error Ocurred")));
    }

    #[test]
    fn a_query_that_lacks_something_is_told_what() {
        for (datagram, code) in [
            (&b"d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t2:aa1:y1:qe"[..], 203),
            (b"d1:ad2:id20:abcdefghij0123456789e1:q4:jump1:t2:aa1:y1:qe", 204),
            (b"d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe", 203),
        ] {
            let Err(Unread::Query { transaction, error }) = Message::parse(datagram) else { panic!("it was read") };
            assert_eq!((transaction, error.code), (b"aa".to_vec(), code));
        }
        for nothing in [&b""[..], b"d1:y1:qe", b"d1:t2:aa1:y1:xe", b"le"] {
            assert_eq!(Message::parse(nothing), Err(Unread::NotKrpc));
        }
    }

    #[test]
    fn a_method_of_tomorrow_with_a_target_gets_the_nearest_nodes() {
        let sampled = b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q4:seek1:t2:aa1:y1:qe";
        let Ok(Message { body: Body::Query(_, Query::FindNode { .. }), .. }) = Message::parse(sampled) else {
            panic!("it is not understood")
        };
    }

    #[test]
    fn the_largest_item_fits_the_largest_answer_to_the_smallest_query() {
        let mut response = Response::new(NodeId::new([1; 20]));
        let value = OwnedValue::from(vec![b'x'; 996]).encode();
        assert_eq!(value.len(), MAX_VALUE_BYTES);
        response.value = Some(value.into());
        (response.key, response.seq) = (Some(PublicKey::new([2; 32])), Some(i64::MAX));
        (response.signature, response.token) = (Some([3; 64]), Some(vec![4; 8]));
        let address = SocketAddr::from(([1, 2, 3, 4], 5));
        response.nodes = vec![Contact { id: NodeId::new([5; 20]), address }; 8];
        let query = Query::Get { target: NodeId::new([6; 20]), seq: None, want: None };
        let smallest = b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q3:get1:t1:a1:y1:qe".len();
        let max = crate::dht::MAX_ANSWER_BYTES.min(smallest * crate::dht::MAX_ANSWER_FACTOR);
        let ip = Some(SocketAddr::from(([9; 16], 9)));
        let body = Body::Response(Box::new(response.clone()));
        let message = Message { transaction: vec![1], body, ip, read_only: false };
        let bytes = message.encode_within(max).unwrap();
        let Body::Response(read) = Message::parse(&bytes).unwrap().body else { panic!("no answer") };
        assert_eq!((read.value, read.signature), (response.value, response.signature));
        assert!(matches!(query, Query::Get { .. }));
    }

    fn any_address() -> impl Strategy<Value = SocketAddr> {
        any::<SocketAddr>()
            .prop_map(|address| SocketAddr::new(address.ip(), address.port().max(1)))
            .prop_filter("one host", compact::dialable)
    }

    fn any_want() -> impl Strategy<Value = Option<Want>> {
        any::<(bool, bool)>().prop_map(|(v4, v6)| Some(Want { v4, v6 }).filter(|want| *want != Want::default()))
    }

    fn any_query() -> impl Strategy<Value = Query> {
        let id = || any::<[u8; 20]>();
        let token = || proptest::collection::vec(any::<u8>(), 0..20);
        let mutable = (any::<[u8; 32]>(), proptest::collection::vec(any::<u8>(), 0..64), any::<i64>(), any::<u8>());
        let mutable = mutable.prop_map(|(key, salt, seq, sig)| MutablePut {
            key: PublicKey::new(key),
            salt,
            seq,
            signature: [sig; 64],
            cas: Some(seq).filter(|seq| seq % 2 == 0),
        });
        prop_oneof![
            Just(Query::Ping),
            (id(), any_want()).prop_map(|(id, want)| Query::FindNode { target: NodeId::new(id), want }),
            (id(), any_want()).prop_map(|(id, want)| Query::GetPeers { infohash: InfoHash::new(id), want }),
            (id(), any::<Option<u16>>(), token()).prop_map(|(id, port, token)| Query::AnnouncePeer {
                infohash: InfoHash::new(id),
                port: port.filter(|port| *port != 0),
                token
            }),
            (id(), any::<Option<i64>>(), any_want()).prop_map(|(id, seq, want)| Query::Get {
                target: NodeId::new(id),
                seq,
                want
            }),
            (token(), any::<i64>(), proptest::option::of(mutable)).prop_map(|(token, value, mutable)| Query::Put {
                token,
                value: OwnedValue::Int(value).encode().into(),
                mutable
            }),
        ]
    }

    proptest! {
        #[test]
        fn queries_survive_their_encoding(id: [u8; 20], query in any_query(), t: [u8; 4], read_only: bool) {
            let body = Body::Query(NodeId::new(id), query);
            let message = Message { transaction: t.to_vec(), body, ip: None, read_only };
            prop_assert_eq!(Message::parse(&message.encode()), Ok(message));
        }

        #[test]
        fn answers_survive_their_encoding_and_keep_within_their_bound(
            id: [u8; 20],
            ip in any_address(),
            peers in proptest::collection::vec(any_address(), 0..60),
            nodes in proptest::collection::vec((any::<[u8; 20]>(), any_address()), 0..16),
            max in 200..2000_usize,
        ) {
            let mut response = Response::new(NodeId::new(id));
            response.peers = peers;
            response.nodes = nodes.into_iter().map(|(id, address)| Contact { id: NodeId::new(id), address }).collect();
            response.nodes.sort_by_key(|contact| Family::of(&contact.address));
            response.token = Some(vec![1; 8]);
            let body = Body::Response(Box::new(response));
            let message = Message { transaction: vec![1, 2], body, ip: Some(ip), read_only: false };
            prop_assert_eq!(Message::parse(&message.encode()), Ok(message.clone()));
            let bytes = message.encode_within(max).unwrap();
            prop_assert!(bytes.len() <= max);
            prop_assert!(Message::parse(&bytes).is_ok());
        }

        #[test]
        fn nothing_panics(datagram: Vec<u8>) {
            let _ = Message::parse(&datagram);
        }
    }
}
