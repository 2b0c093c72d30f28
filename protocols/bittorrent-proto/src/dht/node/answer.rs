//! What others ask, and what they get.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::id;
use super::super::krpc::{Body, KrpcError, Message, MutablePut, Query, Response, Want};
use super::super::{Contact, Family, Item, ItemError, K, MAX_ANSWER_BYTES, MAX_ANSWER_FACTOR, MutableItem, NodeId};
use super::{Node, Purpose};

/// Peers in one answer, before it is shortened to its bound.
const MAX_VALUES: usize = 100;
/// Queries out to see whether those who asked are there.
const MAX_CHECKS: usize = 64;

impl Node {
    pub(super) fn answer(
        &mut self,
        now: Instant,
        asker: Contact,
        transaction: Vec<u8>,
        query: Query,
        read_only: bool,
        query_bytes: usize,
    ) {
        if !self.admits(now, asker.address) {
            return;
        }
        if !read_only {
            self.heard(now, asker);
        }
        let body = match self.result(now, asker.address, query) {
            Ok(response) => Body::Response(Box::new(response)),
            Err(error) => Body::Error(error),
        };
        self.reply(asker.address, transaction, body, query_bytes);
    }

    pub(super) fn refuse(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: Vec<u8>,
        error: KrpcError,
        query_bytes: usize,
    ) {
        if self.admits(now, from) {
            self.reply(from, transaction, Body::Error(error), query_bytes);
        }
    }

    fn admits(&mut self, now: Instant, from: SocketAddr) -> bool {
        if self.read_only {
            return false;
        }
        let admitted = self.limiter.admits(now, from.ip());
        self.counters.limited += u64::from(!admitted);
        admitted
    }

    fn reply(&mut self, to: SocketAddr, transaction: Vec<u8>, body: Body, query_bytes: usize) {
        let message = Message { transaction, body, ip: Some(to), read_only: false };
        let max = MAX_ANSWER_BYTES.min(query_bytes.saturating_mul(MAX_ANSWER_FACTOR));
        if let Some(bytes) = message.encode_within(max) {
            self.counters.answered += 1;
            self.transmits.push_back(super::Transmit { to, bytes });
        }
    }

    /// Somebody who asks may be worth knowing; whether it is there at all shows when it answers.
    fn heard(&mut self, now: Instant, asker: Contact) {
        let Some(table) = &mut self.tables[Family::of(&asker.address).index()] else { return };
        let checks = || self.pending.values().filter(|it| matches!(it.purpose, Purpose::Check)).count();
        if table.asked(now, &asker)
            && checks() < MAX_CHECKS
            && !self.pending.values().any(|pending| pending.to == asker.address)
        {
            self.ask(now, asker.address, Some(asker.id), Query::Ping, Purpose::Check);
        }
    }

    fn result(&mut self, now: Instant, from: SocketAddr, query: Query) -> Result<Response, KrpcError> {
        let table = self.tables[Family::of(&from).index()].as_ref();
        let own = *table.ok_or_else(|| KrpcError::generic("this node is not in that network"))?.own();
        let mut response = Response::new(own);
        match query {
            Query::Ping => {}
            Query::FindNode { target, want } => response.nodes = self.near(&target, from, want),
            Query::GetPeers { infohash, want } => {
                let fits = |peer: &SocketAddr| peer.is_ipv4() == from.is_ipv4() && Self::may_name(from.ip(), peer);
                response.peers = self.peers.of(&infohash, MAX_VALUES, fits, &mut self.random);
                response.nodes = self.near(&NodeId::new(*infohash.as_bytes()), from, want);
                response.token = Some(self.tokens.issue(now, from.ip(), &mut self.random));
            }
            Query::AnnouncePeer { infohash, port, token } => {
                self.check(now, from, &token)?;
                let peer = SocketAddr::new(from.ip(), port.unwrap_or_else(|| from.port()));
                if !self.peers.add(now, &own, infohash, peer) {
                    return Err(KrpcError::server("no room for this peer"));
                }
            }
            Query::Get { target, seq, want } => {
                response.nodes = self.near(&target, from, want);
                response.token = Some(self.tokens.issue(now, from.ip(), &mut self.random));
                self.items.expire(now);
                if let Some(item) = self.items.get(&target) {
                    fill(&mut response, item, seq);
                }
            }
            Query::Put { token, value, mutable } => {
                self.check(now, from, &token)?;
                let cas = mutable.as_ref().and_then(|mutable| mutable.cas);
                let item = match mutable {
                    None => Item::immutable(value),
                    Some(MutablePut { key, salt, seq, signature, .. }) => {
                        MutableItem::checked(key, &salt, seq, value, signature).map(Item::Mutable)
                    }
                };
                self.items.put(now, &own, item.map_err(|error| refusal(&error))?, cas, from.ip())?;
            }
        }
        Ok(response)
    }

    fn check(&mut self, now: Instant, from: SocketAddr, token: &[u8]) -> Result<(), KrpcError> {
        let good = self.tokens.accepts(now, from.ip(), token, &mut self.random);
        if good { Ok(()) } else { Err(KrpcError::protocol("bad token")) }
    }

    /// The nodes nearest to an id, of the families wanted, that this asker may be told.
    fn near(&self, target: &NodeId, from: SocketAddr, want: Option<Want>) -> Vec<Contact> {
        let want = want.unwrap_or_else(|| Want::of(&from));
        let wanted = [want.v4, want.v6];
        let tables = self.tables.iter().zip(wanted).filter(|(_, wanted)| *wanted).filter_map(|(it, _)| it.as_ref());
        let near = tables.flat_map(|table| table.closest(target, K));
        near.filter(|contact| id::is_local(from.ip()) || !id::is_local(contact.address.ip())).collect()
    }
}

/// Puts an item into an answer; of a version that the asker has already, only its number (BEP 44).
fn fill(response: &mut Response, item: &Item, known: Option<i64>) {
    match item {
        Item::Immutable(value) => response.value = Some(value.clone()),
        Item::Mutable(item) => {
            response.seq = Some(item.seq());
            if known.is_none_or(|known| item.seq() > known) {
                response.value = Some(item.value().clone());
                response.key = Some(*item.key());
                response.signature = Some(*item.signature());
            }
        }
    }
}

fn refusal(error: &ItemError) -> KrpcError {
    let code = match error {
        ItemError::TooLong(_) => 205,
        ItemError::LongSalt(_) => 207,
        ItemError::Signature | ItemError::Secret => 206,
        ItemError::NotBencoded | ItemError::Sequence(_) => 203,
    };
    KrpcError::item(code, &error.to_string())
}
