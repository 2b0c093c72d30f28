//! Knowing others: being introduced, seeing who is still there, and finding out how others see us.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::krpc::{Query, Response, Want};
use super::super::{Contact, Family, NodeId, id};
use super::search::Goal;
use super::{Event, Node, Purpose};

/// How often the tables are looked after.
const UPKEEP: Duration = Duration::from_secs(30);
/// How often, while nobody is known.
const LONELY: Duration = Duration::from_secs(5);
/// Questionable nodes asked each time, of each family.
const MAX_CHECKED: usize = 4;
/// Introductions that may be under way.
const MAX_MEETINGS: usize = 512;
/// Opinions about our address that are remembered, each of another address.
const MAX_VOTES: usize = 15;
/// Opinions that have to agree.
const MAJORITY: usize = 5;

/// What others say our address is.
#[derive(Debug, Default)]
pub(super) struct Votes(VecDeque<(IpAddr, IpAddr)>);

impl Votes {
    /// Counts a voter once; tells what is agreed upon.
    fn add(&mut self, voter: IpAddr, seen: IpAddr) -> Option<IpAddr> {
        self.0.retain(|(earlier, _)| *earlier != voter);
        if self.0.len() == MAX_VOTES {
            self.0.pop_front();
        }
        self.0.push_back((voter, seen));
        let agreeing = self.0.iter().filter(|(_, it)| *it == seen).count();
        (agreeing >= MAJORITY && agreeing * 2 > self.0.len()).then_some(seen)
    }
}

impl Node {
    pub(super) fn meet(&mut self, now: Instant, address: SocketAddr) {
        let meetings = self.pending.values().filter(|it| matches!(it.purpose, Purpose::Meet)).count();
        if address.port() == 0 || meetings >= MAX_MEETINGS {
            return;
        }
        if let Some(target) = self.own_id(Family::of(&address)) {
            self.ask(now, address, None, Query::FindNode { target, want: self.want() }, Purpose::Meet);
        }
    }

    /// The families that we are in, when these are both: of one, nodes know by the address.
    pub(super) fn want(&self) -> Option<Want> {
        self.tables.iter().all(Option::is_some).then_some(Want { v4: true, v6: true })
    }

    /// Somebody answered who was asked for an introduction.
    pub(super) fn introduced(&mut self, now: Instant, from: SocketAddr, response: &Response) {
        let search = self.find_ourselves(now);
        self.hear(search, from, &response.nodes);
        self.advance(now, search);
    }

    /// Looks for our own ids, which leads to our neighbours and makes us known to them.
    fn find_ourselves(&mut self, now: Instant) -> super::SearchId {
        if let Some(running) = self.own_search.filter(|id| self.searches.contains_key(id)) {
            return running;
        }
        let target = Family::BOTH.into_iter().find_map(|family| self.own_id(family));
        let search = self.begin(now, Goal::Nodes(target.unwrap_or(NodeId::new([0; 20]))), None);
        self.own_search = Some(search);
        search
    }

    /// Somebody answered.
    pub(super) fn learn(&mut self, now: Instant, contact: Contact) {
        let Some(table) = &mut self.tables[Family::of(&contact.address).index()] else { return };
        let first = table.is_empty();
        let new = contact.id != *table.own() && table.answered(now, contact);
        if first && new {
            let search = self.find_ourselves(now);
            self.hear(search, contact.address, &[contact]);
            self.advance(now, search);
        }
        while !self.parked.is_empty() && self.knows_anybody() {
            self.unpark_one(now);
        }
    }

    pub(super) fn look_after(&mut self, now: Instant) {
        self.peers.expire(now);
        self.items.expire(now);
        if !self.knows_anybody() {
            self.upkeep = now + LONELY;
            self.events.push_back(Event::Lonely);
            return;
        }
        self.upkeep = now + UPKEEP;
        for family in Family::BOTH {
            let Some(table) = &self.tables[family.index()] else { continue };
            for contact in table.questionable(now, MAX_CHECKED) {
                self.ask(now, contact.address, Some(contact.id), Query::Ping, Purpose::Check);
            }
        }
        self.refresh(now);
    }

    /// Looks through one bucket that was quiet for long; the next one's turn comes with the next upkeep.
    fn refresh(&mut self, now: Instant) {
        if self.refreshing.is_some_and(|id| self.searches.contains_key(&id)) {
            return;
        }
        let (tables, random) = (&mut self.tables, &mut self.random);
        let target = tables.iter_mut().flatten().find_map(|table| table.refresh(now, random));
        self.refreshing = target.map(|target| self.begin(now, Goal::Nodes(target), None));
    }

    /// Somebody says what our address is. When enough agree and our id does not suit it, we take another (BEP 42).
    pub(super) fn vote(&mut self, now: Instant, voter: IpAddr, seen: IpAddr) {
        let family = if voter.is_ipv4() { Family::V4 } else { Family::V6 };
        if self.fixed_id || voter.is_ipv4() != seen.is_ipv4() || id::is_local(seen) || id::is_local(voter) {
            return;
        }
        let Some(agreed) = self.votes[family.index()].add(voter, seen) else { return };
        let random = self.random.bytes();
        let Some(table) = &mut self.tables[family.index()] else { return };
        if !table.own().suits(agreed) {
            table.move_to(NodeId::for_ip(agreed, random));
            self.own_search = None;
            self.find_ourselves(now);
        }
    }
}
