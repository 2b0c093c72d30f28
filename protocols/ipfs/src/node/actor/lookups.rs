//! Searches in the DHT.

use std::collections::HashMap;
use std::time::SystemTime;

use bytes::Bytes;
use libp2p::core::Endpoint;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, GetProvidersOk, GetRecordOk, PeerRecord, QueryId, QueryResult, RecordKey};
use libp2p::swarm::{ConnectionId, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId};
use swarmgate_content::FailureClass;
use swarmgate_ipfs_proto::ipns::{Name, Record};
use tokio::sync::{mpsc, oneshot};

use super::sessions::MAX_ADDRESSES;
use crate::source::{Provider, SourceError};

/// Searches at a time.
const MAX_LOOKUPS: usize = 64;
/// Records of a name that are compared: as many as Kubo asks for.
const RECORD_QUORUM: usize = 16;

type Dht = kad::Behaviour<MemoryStore>;

#[derive(Debug)]
enum Lookup {
    Providers(mpsc::Sender<Result<Provider, SourceError>>),
    Record {
        name: Name,
        found: Vec<Record>,
        reply: oneshot::Sender<Result<Bytes, SourceError>>,
    },
    /// The search for a peer dials those that it hears of, so it ends with a connection or with nothing.
    Peer(PeerId),
}

#[derive(Debug, Default)]
pub(super) struct Lookups(HashMap<QueryId, Lookup>);

fn neutral(detail: &str) -> SourceError {
    SourceError { class: FailureClass::Neutral, detail: detail.to_owned() }
}

impl Lookups {
    /// Why no search can begin.
    fn why_not(&self, dht: Option<&Dht>) -> Option<SourceError> {
        match dht {
            None => Some(neutral("the DHT is switched off")),
            Some(_) if self.0.len() >= MAX_LOOKUPS => Some(neutral("too many searches in the DHT are under way")),
            Some(_) => None,
        }
    }

    /// Searches for providers of a multihash.
    pub(super) fn find_providers(
        &mut self,
        dht: Option<&mut Dht>,
        key: &[u8],
        found: mpsc::Sender<Result<Provider, SourceError>>,
    ) {
        match (self.why_not(dht.as_deref()), dht) {
            (None, Some(dht)) => {
                let query = dht.get_providers(RecordKey::new(&key));
                self.0.insert(query, Lookup::Providers(found));
            }
            (why, _) => {
                // The channel is new and empty.
                let _gone = found.try_send(Err(why.unwrap_or_else(|| neutral("the DHT is switched off"))));
            }
        }
    }

    /// Searches for the record of a name.
    pub(super) fn find_record(
        &mut self,
        dht: Option<&mut Dht>,
        name: Name,
        reply: oneshot::Sender<Result<Bytes, SourceError>>,
    ) {
        match (self.why_not(dht.as_deref()), dht) {
            (None, Some(dht)) => {
                let query = dht.get_record(RecordKey::from(name.routing_key()));
                self.0.insert(query, Lookup::Record { name, found: Vec::new(), reply });
            }
            (why, _) => {
                let _gone = reply.send(Err(why.unwrap_or_else(|| neutral("the DHT is switched off"))));
            }
        }
    }

    /// Searches for a peer whose addresses nobody told.
    pub(super) fn find_peer(&mut self, dht: Option<&mut Dht>, peer: PeerId) {
        let searched = |lookup: &Lookup| matches!(lookup, Lookup::Peer(other) if *other == peer);
        if self.why_not(dht.as_deref()).is_none()
            && !self.0.values().any(searched)
            && let Some(dht) = dht
        {
            self.0.insert(dht.get_closest_peers(peer), Lookup::Peer(peer));
        }
    }

    /// A search came somewhere.
    pub(super) fn on_event(&mut self, dht: &mut Dht, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed { id, result, step, .. } = event else { return };
        let Some(lookup) = self.0.get_mut(&id) else { return };
        let enough = match lookup {
            Lookup::Providers(found) => {
                if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) = result {
                    providers.into_iter().for_each(|peer| tell(dht, peer, found));
                }
                found.is_closed()
            }
            Lookup::Record { name, found, reply } => {
                if let QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(PeerRecord { record, .. }))) = result
                    && let Ok(record) = Record::parse(name, record.value.into())
                {
                    found.push(record);
                }
                found.len() >= RECORD_QUORUM || reply.is_closed()
            }
            Lookup::Peer(_) => false,
        };
        if step.last {
            self.finish(id);
        } else if enough && let Some(mut query) = dht.query_mut(&id) {
            query.finish();
        }
    }

    fn finish(&mut self, id: QueryId) {
        let Some(Lookup::Record { found, reply, .. }) = self.0.remove(&id) else { return };
        let best = Record::best(found, SystemTime::now()).map(|record| record.as_bytes().clone());
        let _gone = reply.send(best.ok_or_else(|| neutral("nobody in the DHT has a valid record of that name")));
    }
}

/// Tells of a provider, with the addresses that the search brought: they are not kept longer than it takes.
fn tell(dht: &mut Dht, id: PeerId, found: &mpsc::Sender<Result<Provider, SourceError>>) {
    let nowhere = ConnectionId::new_unchecked(0);
    let known = dht.handle_pending_outbound_connection(nowhere, Some(id), &[], Endpoint::Dialer);
    let addrs: Vec<Multiaddr> = known.unwrap_or_default().into_iter().take(MAX_ADDRESSES).collect();
    // Who does not keep up misses some; there are more than anybody needs.
    let _full = found.try_send(Ok(Provider::Peer { id, addrs }));
}
