//! What is done for the items now and then: those that nobody needs are dropped, places in the queue are dealt, policies
//! for uploading are applied, and what they have given and taken is noted for the next start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarmgate_content::InfoHash;

use crate::active::ActiveTorrent;
use crate::items::{Engine, Items};
use crate::queue::{Queued, deal};
use crate::record::Record;
use crate::seeding::{Standing, UploadPolicy, UploadRules};
use crate::selection::Selected;

/// How often it is all gone through, at most and at least.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// How often what an item has given and taken is written, at most: what a crash may lose.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

impl Items {
    /// How an item stands towards its swarm.
    pub(crate) fn standing(&self, infohash: &InfoHash, record: &Record, now: Instant) -> Standing {
        let torrent = self.active.get(infohash);
        let totals = torrent.map(|torrent| torrent.handle().status().totals).unwrap_or_default();
        Standing {
            idle_for: torrent.map_or(Some(Duration::MAX), |torrent| torrent.handle().idle_for(now)),
            uploaded: record.uploaded.saturating_add(totals.uploaded),
            downloaded: record.downloaded.saturating_add(totals.downloaded),
            total_len: torrent.and_then(|torrent| torrent.handle().known()).map(|known| known.meta.total_len),
        }
    }

    /// An item's record as it would be if it stopped now.
    pub(crate) fn settled(&self, infohash: &InfoHash) -> Option<Record> {
        let mut record = self.records.get(infohash)?.clone();
        if let Some(torrent) = self.active.get(infohash) {
            let totals = torrent.handle().status().totals;
            record.uploaded = record.uploaded.saturating_add(totals.uploaded);
            record.downloaded = record.downloaded.saturating_add(totals.downloaded);
            record.complete = is_complete(torrent, &record).unwrap_or(record.complete);
            record.private |= torrent.is_private();
        }
        Some(record)
    }

    /// Takes an active item out, and what it counted into its record.
    pub(crate) fn take_active(&mut self, infohash: &InfoHash) -> Option<Arc<ActiveTorrent>> {
        if let Some(record) = self.settled(infohash) {
            self.records.insert(*infohash, record);
        }
        self.active.remove(infohash)
    }

    /// The items that were added to stay, for the queue; those that are paused want no place.
    fn queued(&self, rules: &UploadRules, grace: Duration, now: Instant) -> Vec<Queued> {
        let kept = self.records.iter().filter(|(_, record)| record.kept && !record.paused);
        kept.map(|(infohash, record)| {
            let torrent = self.active.get(infohash);
            let complete = torrent.and_then(|torrent| is_complete(torrent, record)).unwrap_or(record.complete);
            let standing = self.standing(infohash, record, now);
            let policy = record.policy.unwrap_or(rules.policy);
            Queued {
                infohash: *infohash,
                priority: record.priority,
                added: record.added,
                reading: torrent.is_some_and(|torrent| torrent.is_read(now, grace)),
                complete,
                wants: !complete || policy == UploadPolicy::Off || policy.uploads(&standing),
            }
        })
        .collect()
    }
}

/// Whether all that is to be had of it is in the cache, if its metadata is known: of a pinned one, what is selected.
fn is_complete(torrent: &ActiveTorrent, record: &Record) -> Option<bool> {
    let known = torrent.handle().known()?;
    Some(match record.select.as_ref().filter(|_| record.pinned) {
        Some(select) => Selected::of_known(&known, select).is_whole(),
        None => known.have_bytes() == known.meta.total_len,
    })
}

impl Engine {
    /// Goes through it all until the engine stops.
    pub(crate) async fn keep_up(self: Arc<Self>) {
        let interval = (self.options.idle_grace / 4).clamp(INTERVAL.0, INTERVAL.1);
        let (mut saved, mut saved_at) = (BTreeMap::new(), Instant::now());
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
                () = self.house.notified() => {}
            }
            self.drop_idle_items();
            self.deal_places().await;
            self.apply_policies();
            self.apply_pins().await;
            if saved_at.elapsed() >= SAVE_INTERVAL {
                saved_at = Instant::now();
                self.save_changed(&mut saved).await;
            }
        }
    }

    /// Drops the items that nobody asked to stay and nobody has read for the grace, unless their swarm is still owed.
    fn drop_idle_items(&self) {
        let (now, rules) = (Instant::now(), *self.uploads.lock());
        let mut items = self.items.lock();
        let is_over = |(infohash, torrent): (&InfoHash, &Arc<ActiveTorrent>)| {
            let record = items.records.get(infohash)?;
            let standing = items.standing(infohash, record, now);
            let idle = torrent.handle().idle_for(now).is_some_and(|idle| idle >= self.options.idle_grace);
            let stays = record.kept || record.policy.unwrap_or(rules.policy).stays(&standing);
            (idle && !stays).then_some(*infohash)
        };
        let over: Vec<_> = items.active.iter().filter_map(is_over).collect();
        over.into_iter().for_each(|infohash| self.retire(&mut items, infohash));
    }

    /// Has the items that were added to stay take their places, and the others wait.
    pub(crate) async fn deal_places(&self) {
        let starting: Vec<_> = {
            let (now, rules) = (Instant::now(), *self.uploads.lock());
            let mut items = self.items.lock();
            if items.closed {
                return;
            }
            let mut queued = items.queued(&rules, self.options.idle_grace, now);
            let passing =
                items.active.len() - queued.iter().filter(|it| items.active.contains_key(&it.infohash)).count();
            let reading = queued.iter().filter(|item| item.reading).count();
            let room = self.options.max_active.saturating_sub(passing + reading);
            let places = deal(&mut queued, self.options.queue, room);
            let stopping: Vec<_> = queued
                .iter()
                .map(|item| item.infohash)
                .filter(|infohash| items.active.contains_key(infohash) && !places.active.contains(infohash))
                .collect();
            stopping.into_iter().for_each(|infohash| self.retire(&mut items, infohash));
            items.waiting = places.waiting.into_iter().zip(1..).collect();
            places.active.into_iter().filter(|infohash| !items.active.contains_key(infohash)).collect()
        };
        for infohash in starting {
            if let Err(error) = self.activate_from_store(infohash).await {
                tracing::debug!(%infohash, %error, "an item that was added to stay is not active");
            }
        }
    }

    /// Whether one more item that is added to stay would have a place.
    pub(crate) fn has_place(&self) -> bool {
        let items = self.items.lock();
        let kept = items.active.keys().filter(|it| items.records.get(it).is_some_and(|record| record.kept)).count();
        items.active.len() < self.options.max_active && kept < self.options.queue.downloads && items.waiting.is_empty()
    }

    /// Tells each swarm to how many peers it uploads.
    pub(crate) fn apply_policies(&self) {
        let (now, rules) = (Instant::now(), *self.uploads.lock());
        let items = self.items.lock();
        for (infohash, torrent) in &items.active {
            let Some(record) = items.records.get(infohash) else { continue };
            let policy = record.policy.unwrap_or(rules.policy);
            let uploads = policy.uploads(&items.standing(infohash, record, now));
            torrent.set_uploads(if uploads { rules.slots } else { 0 }, rules.turns);
        }
    }

    /// To how many peers an item uploads when it becomes active.
    pub(crate) fn first_slots(&self, items: &Items, infohash: &InfoHash) -> usize {
        let rules = *self.uploads.lock();
        let policy = items.records.get(infohash).and_then(|record| record.policy).unwrap_or(rules.policy);
        if policy == UploadPolicy::Off { 0 } else { rules.slots }
    }

    /// Writes the records of those that have given or taken something since they were last written.
    async fn save_changed(&self, saved: &mut BTreeMap<InfoHash, (u64, u64)>) {
        let changed: Vec<_> = {
            let items = self.items.lock();
            saved.retain(|infohash, _| items.active.contains_key(infohash));
            let settled = items.active.keys().filter_map(|infohash| Some((*infohash, items.settled(infohash)?)));
            let settled = settled.filter(|(_, record)| record.kept);
            let counted = settled.map(|(infohash, record)| (infohash, (record.uploaded, record.downloaded)));
            counted.filter(|(infohash, counts)| saved.get(infohash) != Some(counts)).collect()
        };
        for (infohash, counts) in changed {
            saved.insert(infohash, counts);
            self.persist(infohash).await;
        }
    }
}
