//! Lookups, and what they are for: a way through each network at once, then storing at those who are nearest.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use swarmgate_content::InfoHash;

use super::super::krpc::{MutablePut, Query, Response};
use super::super::lookup::Lookup;
use super::super::schedule::JobId;
use super::super::{Contact, Family, Item, K, MutableItem, NodeId};
use super::{ANNOUNCE_INTERVAL, Event, MAX_SEARCHES, Node, PARKED, PUT_INTERVAL, Purpose, SearchId, Standing};

/// Peers that one lookup tells of.
const MAX_FOUND: usize = 2000;
/// The first pause after a lookup that found no peers; doubled with each, up to the interval of announces.
const FRUITLESS: Duration = Duration::from_secs(15);

/// What a lookup is for.
#[derive(Debug, Clone)]
pub(super) enum Goal {
    /// To know the nodes near an id.
    Nodes(NodeId),
    /// Peers of a torrent, and to be one.
    Peers { infohash: InfoHash, announce: Option<u16> },
    /// An item.
    Get { target: NodeId, salt: Vec<u8> },
    /// To store an item.
    Put { item: Item, cas: Option<i64> },
}

/// One lookup under way, in each network that the node is in.
#[derive(Debug)]
pub(super) struct Search {
    goal: Goal,
    lookups: [Option<Lookup>; 2],
    /// What it is a round of.
    pub(super) job: Option<JobId>,
    found: BTreeSet<SocketAddr>,
    /// The latest version found.
    item: Option<Item>,
    storing: Option<Storing>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Storing {
    waiting: usize,
    stored: usize,
}

impl Goal {
    fn target(&self) -> NodeId {
        match self {
            Self::Nodes(target) | Self::Get { target, .. } => *target,
            Self::Peers { infohash, .. } => NodeId::new(*infohash.as_bytes()),
            Self::Put { item, .. } => item.target(),
        }
    }
}

impl Search {
    fn answers(&self) -> usize {
        self.lookups.iter().flatten().map(Lookup::answers).sum()
    }

    /// Takes a version of the item that is sought, if it is that and later than what is known.
    fn take(&mut self, response: &Response) {
        let (target, salt) = match &self.goal {
            Goal::Get { target, salt } => (*target, salt.as_slice()),
            Goal::Put { item, .. } => match item {
                Item::Immutable(_) => return,
                Item::Mutable(item) => (item.key().target(item.salt()), item.salt()),
            },
            Goal::Nodes(_) | Goal::Peers { .. } => return,
        };
        let Some(value) = response.value.clone() else { return };
        let item = match (response.key, response.seq, response.signature) {
            (Some(key), Some(seq), Some(signature)) => {
                let later = self.item.as_ref().is_none_or(|known| Some(seq) > known.seq());
                if !later || key.target(salt) != target {
                    return;
                }
                MutableItem::checked(key, salt, seq, value, signature).map(Item::Mutable)
            }
            _ => Item::immutable(value),
        };
        if let Some(item) = item.ok().filter(|item| item.target() == target && item.replaces(self.item.as_ref())) {
            self.item = Some(item);
        }
    }

    /// The version that stands in the way of what is to be put.
    fn newer(&self) -> Option<&Item> {
        let Goal::Put { item, .. } = &self.goal else { return None };
        self.item.as_ref().filter(|found| found.seq() > item.seq())
    }
}

impl Node {
    /// Begins a lookup, or has it wait until somebody is known.
    pub(super) fn begin_or_park(&mut self, now: Instant, goal: Goal) -> Option<SearchId> {
        if self.searches.len() + self.parked.len() >= MAX_SEARCHES {
            return None;
        }
        if self.knows_anybody() {
            return Some(self.begin(now, goal, None));
        }
        let id = self.new_search_id();
        self.parked.push_back((now + PARKED, id, goal));
        Some(id)
    }

    pub(super) fn unpark_one(&mut self, now: Instant) {
        if let Some((_, id, goal)) = self.parked.pop_front() {
            self.begin_as(now, id, goal, None);
        }
    }

    fn new_search_id(&mut self) -> SearchId {
        self.next_search += 1;
        SearchId(self.next_search)
    }

    pub(super) fn begin(&mut self, now: Instant, goal: Goal, job: Option<JobId>) -> SearchId {
        let id = self.new_search_id();
        self.begin_as(now, id, goal, job);
        id
    }

    fn begin_as(&mut self, now: Instant, id: SearchId, goal: Goal, job: Option<JobId>) {
        let target = goal.target();
        let lookups = self.tables.each_mut().map(|table| {
            let table = table.as_mut()?;
            table.looked(now, &target);
            Some(Lookup::new(target, table.closest(&target, K * 2)))
        });
        let mut search = Search { goal, lookups, job, found: BTreeSet::new(), item: None, storing: None };
        match &search.goal {
            Goal::Peers { infohash, .. } => {
                let here = self.peers.of(infohash, MAX_FOUND, |_| true, &mut self.random);
                self.tell(&mut search, here);
            }
            Goal::Get { target, salt } => {
                let here = self.items.get(target).filter(|item| item.salt() == salt);
                search.item = here.cloned();
            }
            Goal::Nodes(_) | Goal::Put { .. } => {}
        }
        self.searches.insert(id, search);
        self.advance(now, id);
    }

    /// Begins the jobs that are due.
    pub(super) fn begin_due(&mut self, now: Instant) {
        if !self.knows_anybody() {
            return;
        }
        while self.searches.len() < MAX_SEARCHES
            && let Some(job) = self.schedule.begin(now)
        {
            let goal = match self.schedule.get(job) {
                Some(Standing::Peers { infohash, announce, .. }) => {
                    Goal::Peers { infohash: *infohash, announce: *announce }
                }
                Some(Standing::Item(item)) => Goal::Put { item: item.clone(), cas: None },
                None => continue,
            };
            self.begin(now, goal, Some(job));
        }
    }

    /// Tells the owner of peers, each once a round.
    fn tell(&mut self, search: &mut Search, peers: Vec<SocketAddr>) {
        let Some(job) = search.job else { return };
        for peer in peers {
            if search.found.len() < MAX_FOUND && search.found.insert(peer) {
                self.events.push_back(Event::Peer(job, peer));
            }
        }
    }

    /// Somebody named nodes.
    pub(super) fn hear(&mut self, search: SearchId, teller: SocketAddr, nodes: &[Contact]) {
        let Some(search) = self.searches.get_mut(&search) else { return };
        for contact in nodes.iter().filter(|contact| Self::may_name(teller.ip(), &contact.address)) {
            let family = Family::of(&contact.address).index();
            let own = self.tables[family].as_ref().is_some_and(|table| *table.own() == contact.id);
            if let Some(lookup) = search.lookups[family].as_mut().filter(|_| !own) {
                lookup.hear(*contact);
            }
        }
    }

    /// Somebody who was asked for a lookup answered.
    pub(super) fn looked(&mut self, now: Instant, id: SearchId, contact: Contact, response: Response) {
        self.hear(id, contact.address, &response.nodes);
        let Some(mut search) = self.searches.remove(&id) else { return };
        search.take(&response);
        if let Some(lookup) = &mut search.lookups[Family::of(&contact.address).index()] {
            lookup.answered(&contact, response.token);
        }
        self.tell(&mut search, response.peers);
        self.searches.insert(id, search);
        self.advance(now, id);
    }

    pub(super) fn pass_over(&mut self, now: Instant, id: SearchId, contact: &Contact) {
        self.with_lookup(id, contact, |lookup| lookup.slow(contact));
        self.advance(now, id);
    }

    pub(super) fn fail(&mut self, now: Instant, id: SearchId, contact: &Contact) {
        self.with_lookup(id, contact, |lookup| lookup.failed(contact));
        self.advance(now, id);
    }

    fn with_lookup(&mut self, id: SearchId, contact: &Contact, change: impl FnOnce(&mut Lookup)) {
        let search = self.searches.get_mut(&id);
        if let Some(lookup) = search.and_then(|it| it.lookups[Family::of(&contact.address).index()].as_mut()) {
            change(lookup);
        }
    }

    /// Asks whoever is next, or goes on to what the lookup was for.
    pub(super) fn advance(&mut self, now: Instant, id: SearchId) {
        let want = self.want();
        let Some(search) = self.searches.get_mut(&id).filter(|search| search.storing.is_none()) else { return };
        let mut next = Vec::new();
        for lookup in search.lookups.iter_mut().flatten() {
            next.extend(std::iter::from_fn(|| lookup.next()));
        }
        let over = next.is_empty() && search.lookups.iter().flatten().all(Lookup::is_over);
        let query = match &search.goal {
            Goal::Nodes(target) => Query::FindNode { target: *target, want },
            Goal::Peers { infohash, .. } => Query::GetPeers { infohash: *infohash, want },
            Goal::Get { target, .. } => Query::Get { target: *target, seq: None, want },
            Goal::Put { item, .. } => Query::Get { target: item.target(), seq: None, want },
        };
        for contact in next {
            self.ask(now, contact.address, Some(contact.id), query.clone(), Purpose::Look(id));
        }
        if over {
            self.store(now, id);
        }
    }

    /// The nearest are known: stores there what is to be stored.
    fn store(&mut self, now: Instant, id: SearchId) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        let wanted = match &search.goal {
            Goal::Nodes(_) | Goal::Get { .. } | Goal::Peers { announce: None, .. } => false,
            Goal::Peers { announce: Some(_), .. } => true,
            Goal::Put { .. } => search.newer().is_none(),
        };
        let holders: Vec<_> = search.lookups.iter().flatten().filter(|_| wanted).flat_map(Lookup::holders).collect();
        search.storing = Some(Storing { waiting: holders.len(), stored: 0 });
        if holders.is_empty() {
            self.finish(now, id);
            return;
        }
        let goal = search.goal.clone();
        for (contact, token) in holders {
            if let Some(query) = storing(&goal, token) {
                self.ask(now, contact.address, Some(contact.id), query, Purpose::Store(id));
            }
        }
    }

    /// A node took what was to be stored, or did not.
    pub(super) fn took(&mut self, now: Instant, id: SearchId, stored: bool) {
        let search = self.searches.get_mut(&id);
        let Some(storing) = search.and_then(|search| search.storing.as_mut()) else { return };
        storing.waiting = storing.waiting.saturating_sub(1);
        storing.stored += usize::from(stored);
        self.counters.stored += u64::from(stored);
        if storing.waiting == 0 {
            self.finish(now, id);
        }
    }

    fn finish(&mut self, now: Instant, id: SearchId) {
        let Some(search) = self.searches.remove(&id) else { return };
        let stored = search.storing.unwrap_or_default().stored;
        let answers = search.answers();
        self.counters.lookups += u64::from(answers > 0);
        match (search.job, &search.goal) {
            (Some(job), Goal::Peers { announce, .. }) => {
                let reached = if announce.is_some() { stored > 0 } else { answers > 0 };
                self.next_round(now, job, reached, search.found.len());
            }
            (Some(job), Goal::Put { .. }) => {
                let newer = search.newer().cloned();
                let reached = stored > 0 || newer.is_some();
                if let (Some(newer), Some(Standing::Item(kept))) = (newer, self.schedule.get_mut(job)) {
                    *kept = newer.clone();
                    self.events.push_back(Event::Newer(newer));
                }
                self.schedule.finished(now, job, reached, PUT_INTERVAL, &mut self.random);
            }
            (None, Goal::Get { .. }) => self.events.push_back(Event::Got(id, search.item)),
            (None, Goal::Put { .. }) => {
                let newer = search.newer().and_then(Item::seq);
                self.events.push_back(Event::Stored { search: id, nodes: stored, newer });
            }
            (_, Goal::Nodes(_)) | (Some(_), Goal::Get { .. }) | (None, Goal::Peers { .. }) => {}
        }
    }

    /// When a torrent is sought next: soon while there is nobody but us, and before nodes forget us.
    fn next_round(&mut self, now: Instant, job: JobId, reached: bool, found: usize) {
        let Some(Standing::Peers { announce, fruitless, .. }) = self.schedule.get_mut(job) else { return };
        *fruitless = if found > usize::from(announce.is_some()) { 0 } else { (*fruitless + 1).min(16) };
        let pause = match *fruitless {
            0 => ANNOUNCE_INTERVAL,
            rounds => (FRUITLESS * 2_u32.pow(rounds - 1)).min(ANNOUNCE_INTERVAL),
        };
        self.schedule.finished(now, job, reached, pause, &mut self.random);
    }
}

/// The query that stores, with what the node gave.
fn storing(goal: &Goal, token: Vec<u8>) -> Option<Query> {
    match goal {
        Goal::Peers { infohash, announce } => {
            Some(Query::AnnouncePeer { infohash: *infohash, port: Some((*announce)?), token })
        }
        Goal::Put { item: Item::Immutable(value), .. } => {
            Some(Query::Put { token, value: value.clone(), mutable: None })
        }
        Goal::Put { item: Item::Mutable(item), cas } => {
            let mutable = MutablePut {
                key: *item.key(),
                salt: item.salt().to_vec(),
                seq: item.seq(),
                signature: *item.signature(),
                cas: *cas,
            };
            Some(Query::Put { token, value: item.value().clone(), mutable: Some(mutable) })
        }
        Goal::Nodes(_) | Goal::Get { .. } => None,
    }
}
