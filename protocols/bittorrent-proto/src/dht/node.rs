//! One node: what comes in is answered or belongs to something that was asked; what is wanted is sought.
//!
//! ```text
//! handle_input(now, from, datagram) ┐                 ┌ poll_transmit() -> datagrams to send
//! handle_timeout(now)               ├─ the machine ──┤ poll_event()    -> what its owner asked for
//! seek, get, put, add_node          ┘                 └ poll_timeout()  -> when to call again
//! ```
//!
//! Drain both queues after each call.

mod answer;
mod search;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use swarmgate_content::InfoHash;

use super::items::ItemStore;
use super::krpc::{Body, Message, Query, Response, Unread};
use super::limiter::Limiter;
use super::peers::PeerStore;
use super::random::Random;
use super::saved::{KeptItem, SavedTables};
use super::schedule::{JobId, Schedule};
use super::table::Table;
use super::tokens::Tokens;
use super::{Contact, Family, Item, NodeId, id};
use search::{Goal, Search};
use upkeep::Votes;

/// How long an answer may take before the lookup goes on without it. Two nodes of three answer within half a second.
const SLOW: Duration = Duration::from_millis(800);
/// How long an answer may take at all.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Lookups at a time, waiting ones included; more are refused.
const MAX_SEARCHES: usize = 256;
/// Torrents that are sought and items that are kept, together; more are refused.
const MAX_JOBS: usize = 100_000;
/// How long a lookup that nobody can be asked for waits for the first node.
const PARKED: Duration = Duration::from_secs(10);
/// How often a torrent is announced: nodes remember a peer for 30 minutes at least.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// How often an item is put again: nodes keep it for two hours (BEP 44).
const PUT_INTERVAL: Duration = Duration::from_secs(3600);

/// What an asker makes up to know its answer by: four bytes, so that nobody guesses one in time.
type Transaction = [u8; 4];

/// How a node behaves.
#[derive(Debug, Clone, Copy)]
pub struct NodeOptions {
    /// Whether it is in the IPv4 network.
    pub v4: bool,
    /// Whether it is in the IPv6 network.
    pub v6: bool,
    /// Its id in both; otherwise ids that suit its addresses are made as these become known (BEP 42).
    pub node_id: Option<NodeId>,
    /// Whether it only asks and does not answer (BEP 43).
    pub read_only: bool,
    /// What all its random choices follow from. Whoever knows it can forge tokens and answers.
    pub seed: [u8; 32],
}

/// One lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SearchId(u64);

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// To where.
    pub to: SocketAddr,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What its owner is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer of a torrent that is sought; the same one may come again.
    Peer(JobId, SocketAddr),
    /// A lookup for an item has ended; of a mutable one this is the latest version found.
    Got(SearchId, Option<Item>),
    /// A put has ended.
    Stored {
        /// Which.
        search: SearchId,
        /// Nodes that took the item.
        nodes: usize,
        /// The later version that was there, in which case nothing was put.
        newer: Option<i64>,
    },
    /// An item that is kept was found in a later version, which is kept from now on.
    Newer(Item),
    /// No node is known: somebody should be named to [`Node::add_node`]. Comes again until one answers.
    Lonely,
}

/// Counters and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// IPv4 nodes known.
    pub nodes_v4: usize,
    /// IPv6 nodes known.
    pub nodes_v6: usize,
    /// Queries that wait for an answer.
    pub outstanding: usize,
    /// Queries answered.
    pub answered: u64,
    /// Queries left unanswered because their address or all together asked too often.
    pub limited: u64,
    /// Lookups that reached somebody.
    pub lookups: u64,
    /// Times that a node took an announce or an item of ours.
    pub stored: u64,
    /// Torrents whose peers are remembered for others.
    pub torrents: usize,
    /// Items stored for others.
    pub items: usize,
    /// Torrents that are sought and items that are kept.
    pub jobs: usize,
}

/// What is done again and again.
#[derive(Debug)]
enum Standing {
    Peers {
        infohash: InfoHash,
        announce: Option<u16>,
        /// Rounds in a row that found nobody.
        fruitless: u32,
    },
    Item(Item),
}

#[derive(Debug, Clone, Copy)]
enum Purpose {
    /// To see whether somebody is there.
    Check,
    /// To be introduced.
    Meet,
    /// For a lookup.
    Look(SearchId),
    /// To store what the lookup was for.
    Store(SearchId),
}

#[derive(Debug)]
struct Pending {
    to: SocketAddr,
    /// Who is expected there.
    id: Option<NodeId>,
    purpose: Purpose,
    sent: Instant,
    slow: bool,
}

impl Pending {
    fn contact(&self) -> Option<Contact> {
        self.id.map(|id| Contact { id, address: self.to })
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Node {
    random: Random,
    tables: [Option<Table>; 2],
    votes: [Votes; 2],
    fixed_id: bool,
    read_only: bool,
    tokens: Tokens,
    limiter: Limiter,
    peers: PeerStore,
    items: ItemStore,
    pending: BTreeMap<Transaction, Pending>,
    deadlines: BTreeSet<(Instant, Transaction)>,
    searches: BTreeMap<SearchId, Search>,
    parked: VecDeque<(Instant, SearchId, Goal)>,
    next_search: u64,
    own_search: Option<SearchId>,
    refreshing: Option<SearchId>,
    schedule: Schedule<Standing>,
    upkeep: Instant,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
}

impl Node {
    /// Makes a node that knows what was saved.
    #[must_use]
    pub fn new(now: Instant, options: &NodeOptions, saved: Option<&SavedTables>) -> Self {
        let mut random = Random::new(&options.seed);
        let tables = Family::BOTH.map(|family| {
            let wanted = [options.v4, options.v6][family.index()];
            let kept = saved.and_then(|saved| saved.ids[family.index()]);
            let id = options.node_id.or(kept).unwrap_or_else(|| NodeId::new(random.bytes()));
            wanted.then(|| Table::new(id))
        });
        let tokens = Tokens::new(now, &mut random);
        let mut node = Self {
            random,
            tables,
            votes: [Votes::default(), Votes::default()],
            fixed_id: options.node_id.is_some(),
            read_only: options.read_only,
            tokens,
            limiter: Limiter::new(now),
            peers: PeerStore::default(),
            items: ItemStore::default(),
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            searches: BTreeMap::new(),
            parked: VecDeque::new(),
            next_search: 0,
            own_search: None,
            refreshing: None,
            schedule: Schedule::default(),
            upkeep: now,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        };
        for contact in saved.into_iter().flat_map(|saved| &saved.nodes) {
            node.meet(now, contact.address);
        }
        node
    }

    /// Asks a node to introduce itself and others: a bootstrap host, or one that a peer named (BEP 5 `port`).
    pub fn add_node(&mut self, now: Instant, address: SocketAddr) {
        self.meet(now, id::plain(address));
    }

    /// Seeks a torrent's peers from now on, again and again, and announces us as one when a port is given. `None` when
    /// too much is sought already.
    pub fn seek(&mut self, now: Instant, infohash: InfoHash, announce: Option<u16>) -> Option<JobId> {
        if self.schedule.len() >= MAX_JOBS {
            return None;
        }
        let id = self.schedule.add(now, Standing::Peers { infohash, announce, fruitless: 0 });
        self.begin_due(now);
        Some(id)
    }

    /// Ends a job and what is under way for it.
    pub fn withdraw(&mut self, job: JobId) {
        self.schedule.remove(job);
        self.searches.retain(|_, search| search.job != Some(job));
    }

    /// Looks an item up; a mutable one is stored under its key's [`target`](super::PublicKey::target) and has this salt. `None`
    /// when too much is looked up already.
    pub fn get(&mut self, now: Instant, target: NodeId, salt: &[u8]) -> Option<SearchId> {
        self.begin_or_park(now, Goal::Get { target, salt: salt.to_vec() })
    }

    /// Puts an item once; with `cas`, only in place of that version. `None` when too much is under way already.
    pub fn put(&mut self, now: Instant, item: Item, cas: Option<i64>) -> Option<SearchId> {
        self.begin_or_park(now, Goal::Put { item, cas })
    }

    /// Ends a lookup whose result nobody waits for.
    pub fn cancel(&mut self, search: SearchId) {
        self.searches.remove(&search);
        self.parked.retain(|(_, id, _)| *id != search);
    }

    /// Puts an item each hour from `due` on, in place of an earlier version of it. `false` when too much is kept.
    pub fn keep(&mut self, now: Instant, item: Item, due: Duration) -> bool {
        let earlier = self.kept_job(&item.target());
        if let Some(Standing::Item(kept)) = earlier.and_then(|id| self.schedule.get_mut(id)) {
            if item.replaces(Some(kept)) {
                *kept = item;
            }
            return true;
        }
        let room = self.schedule.len() < MAX_JOBS;
        if room {
            self.schedule.add(now + due.min(PUT_INTERVAL), Standing::Item(item));
        }
        room
    }

    /// Puts an item no more.
    pub fn forget(&mut self, target: &NodeId) {
        if let Some(job) = self.kept_job(target) {
            self.withdraw(job);
        }
    }

    fn kept_job(&self, target: &NodeId) -> Option<JobId> {
        let mut jobs = self.schedule.iter();
        jobs.find(|(_, what, _)| matches!(what, Standing::Item(item) if item.target() == *target)).map(|(id, ..)| id)
    }

    /// The items that are kept, each with the time until it is put again.
    #[must_use]
    pub fn kept(&self, now: Instant) -> Vec<KeptItem> {
        let items = self.schedule.iter().filter_map(|(_, what, due)| match what {
            Standing::Item(item) => {
                let due = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
                Some(KeptItem { item: item.clone(), due })
            }
            Standing::Peers { .. } => None,
        });
        items.collect()
    }

    /// What of the tables is worth keeping over a restart.
    #[must_use]
    pub fn tables(&self) -> SavedTables {
        let ids = self.tables.each_ref().map(|table| table.as_ref().map(|table| *table.own()));
        let nodes = self.tables.iter().flatten().flat_map(Table::contacts).collect();
        SavedTables { ids, nodes }
    }

    /// The id in one network, if the node is in it.
    #[must_use]
    pub fn own_id(&self, family: Family) -> Option<NodeId> {
        self.tables[family.index()].as_ref().map(|table| *table.own())
    }

    /// Reads the counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let nodes = self.tables.each_ref().map(|table| table.as_ref().map_or(0, Table::len));
        Counters {
            nodes_v4: nodes[0],
            nodes_v6: nodes[1],
            outstanding: self.pending.len(),
            torrents: self.peers.torrents(),
            items: self.items.len(),
            jobs: self.schedule.len(),
            ..self.counters
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`], and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let answer = self.deadlines.first().map(|(at, _)| (*at, "an answer is late"));
        let parked = self.parked.front().map(|(at, ..)| (*at, "nobody to ask was found"));
        let job = self.schedule.next_due().filter(|_| self.knows_anybody()).map(|at| (at, "an announce is due"));
        [answer, parked, job, Some((self.upkeep, "the table is looked after"))].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, transaction)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.pop_first();
            self.late(now, transaction);
        }
        if now >= self.upkeep {
            self.look_after(now);
        }
        while self.parked.front().is_some_and(|(until, ..)| *until <= now) {
            self.unpark_one(now);
        }
        self.begin_due(now);
    }

    /// Takes a datagram; what is none of this network's is dropped.
    pub fn handle_input(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let from = id::plain(from);
        if self.tables[Family::of(&from).index()].is_none() || from.port() == 0 {
            return;
        }
        match Message::parse(datagram) {
            Ok(Message { transaction, body: Body::Query(id, query), read_only, .. }) => {
                let contact = Contact { id, address: from };
                self.answer(now, contact, transaction, query, read_only, datagram.len());
            }
            Ok(Message { transaction, body: Body::Response(response), ip, .. }) => {
                self.answered(now, from, &transaction, *response, ip);
            }
            Ok(Message { transaction, body: Body::Error(_), .. }) => {
                if let Some(pending) = self.take(from, &transaction) {
                    self.unanswered(now, &pending);
                }
            }
            Err(Unread::Query { transaction, error }) => {
                self.refuse(now, from, transaction, error, datagram.len());
            }
            Err(Unread::NotKrpc) => {}
        }
        self.begin_due(now);
    }

    /// What was asked with this transaction, if it was asked there.
    fn take(&mut self, from: SocketAddr, transaction: &[u8]) -> Option<Pending> {
        let transaction = Transaction::try_from(transaction).ok()?;
        self.pending.get(&transaction).filter(|pending| pending.to == from)?;
        let pending = self.pending.remove(&transaction)?;
        self.deadlines.remove(&(pending.sent + if pending.slow { TIMEOUT } else { SLOW }, transaction));
        Some(pending)
    }

    fn answered(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: &[u8],
        response: Response,
        ip: Option<SocketAddr>,
    ) {
        let Some(pending) = self.take(from, transaction) else { return };
        if let Some(expected) = pending.contact().filter(|expected| expected.id != response.id) {
            // Somebody else lives there now.
            self.lost(&expected);
            self.unanswered(now, &pending);
            return;
        }
        let contact = Contact { id: response.id, address: from };
        self.learn(now, contact);
        if let Some(seen) = ip {
            self.vote(now, from.ip(), seen.ip());
        }
        match pending.purpose {
            Purpose::Check => {}
            Purpose::Meet => self.introduced(now, from, &response),
            Purpose::Look(search) => self.looked(now, search, contact, response),
            Purpose::Store(search) => self.took(now, search, true),
        }
    }

    /// An answer is late, or does not come.
    fn late(&mut self, now: Instant, transaction: Transaction) {
        let Some(pending) = self.pending.get_mut(&transaction) else { return };
        if !pending.slow {
            pending.slow = true;
            self.deadlines.insert((pending.sent + TIMEOUT, transaction));
            let (purpose, contact) = (pending.purpose, pending.contact());
            if let (Purpose::Look(search), Some(contact)) = (purpose, contact) {
                self.pass_over(now, search, &contact);
            }
            return;
        }
        if let Some(pending) = self.pending.remove(&transaction) {
            if let Some(contact) = pending.contact() {
                self.lost(&contact);
            }
            self.unanswered(now, &pending);
        }
    }

    /// What was asked was refused, or never answered.
    fn unanswered(&mut self, now: Instant, pending: &Pending) {
        match pending.purpose {
            Purpose::Check | Purpose::Meet => {}
            Purpose::Look(search) => {
                if let Some(contact) = pending.contact() {
                    self.fail(now, search, &contact);
                }
            }
            Purpose::Store(search) => self.took(now, search, false),
        }
    }

    fn lost(&mut self, contact: &Contact) {
        if let Some(table) = &mut self.tables[Family::of(&contact.address).index()] {
            table.failed(contact);
        }
    }

    fn ask(&mut self, now: Instant, to: SocketAddr, id: Option<NodeId>, query: Query, purpose: Purpose) {
        let Some(table) = &self.tables[Family::of(&to).index()] else { return };
        let own = *table.own();
        let mut transaction: Transaction = self.random.bytes();
        while self.pending.contains_key(&transaction) {
            transaction = self.random.bytes();
        }
        let body = Body::Query(own, query);
        let message = Message { transaction: transaction.to_vec(), body, ip: None, read_only: self.read_only };
        self.transmits.push_back(Transmit { to, bytes: message.encode() });
        self.pending.insert(transaction, Pending { to, id, purpose, sent: now, slow: false });
        self.deadlines.insert((now + SLOW, transaction));
    }

    fn knows_anybody(&self) -> bool {
        self.tables.iter().flatten().any(|table| !table.is_empty())
    }

    /// Whether what `teller` names may be contacted: nobody public names what is private.
    const fn may_name(teller: IpAddr, named: &SocketAddr) -> bool {
        id::is_local(teller) || !id::is_local(named.ip())
    }
}

#[cfg(test)]
mod tests;
