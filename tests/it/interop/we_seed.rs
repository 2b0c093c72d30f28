//! The gateway holds a film, its first seeder is gone, and a foreign client gets every byte from the gateway.

use std::net::SocketAddr;
use std::path::Path;

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::payload::Payload;
use swarmgate_tests::peers::{Client, Habits, Peer, Setting, Wanted, libtorrent};
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::tracker::Tracker;
use swarmgate_tests::wait;

use super::{TRANSFER_WITHIN, film, scratch};

mod the_whole_film_is_fetched_from_us_by {
    super::super::played_by_each_client!(super::by_its_file);
}

mod metadata_and_film_are_fetched_from_us_by {
    super::super::played_by_each_client!(super::by_its_magnet);
}

/// Who fetches what.
#[derive(Debug)]
pub(super) struct Seeding {
    pub(super) client: Client,
    pub(super) payload: Payload,
    /// Without a tracker.
    pub(super) torrent: Torrent,
    pub(super) habits: Habits,
    /// The gateway's options.
    pub(super) options: &'static [(&'static str, &'static str)],
    /// Settings of libtorrent, from which the gateway has the film.
    pub(super) seeder: Vec<Setting>,
}

/// A story under way.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) leech: Peer,
    pub(super) gateway: Gateway,
    _tracker: Tracker,
}

impl Seeding {
    /// A film for a client, and nothing out of the ordinary.
    pub(super) fn of((payload, torrent): (Payload, Torrent), client: Client) -> Self {
        Self { client, payload, torrent, habits: Habits::default(), options: &[], seeder: Vec::new() }
    }

    /// Tells the whole story.
    pub(super) async fn goes_well(&self, wanted: impl Fn(&Torrent, &Path) -> Wanted, dir: &Path) {
        let Some(mut begun) = self.begin(wanted, dir).await else { return };
        begun.leech.has(&self.payload, TRANSFER_WITHIN).await;
    }

    /// Brings the client together with the gateway that alone has the film; `None` without one of the programs.
    pub(super) async fn begin(&self, wanted: impl Fn(&Torrent, &Path) -> Wanted, dir: &Path) -> Option<Begun> {
        let tracker = Tracker::start();
        // The seeder's torrent names no tracker: nobody but the gateway, which is told, ever hears of it. Nor does the
        // other where it can do without, so that who dials whom is for the story to say.
        let seeder = libtorrent::seed_checked(&self.payload, &self.torrent, &self.seeder, dir).await?;
        let gateway = Gateway::start_with(dir, self.options).await?;
        let mut torrent = self.torrent.clone();
        if self.client.asks_trackers_alone() {
            torrent = torrent.announcing(&tracker.url());
        }
        gateway.add_torrent(&torrent.bytes).await;

        let us = [gateway.peer_address()];
        let (wanted, whole) = (wanted(&torrent, dir), self.payload.joined());
        let leech = if self.client.dials_loopback() {
            fill(&gateway, &torrent, &whole, &[seeder.address()]).await;
            seeder.stop();
            let announced = async || (torrent.tracker.is_none() || tracker.knows(us[0].port())).then_some(());
            wait::until("our own announce", TRANSFER_WITHIN, announced).await;
            self.client.fetch_as(self.habits, &wanted, &us, dir).await?
        } else {
            // It cannot dial us, so we dial it, as one more peer of a swarm that we are still fetching from.
            let leech = self.client.fetch_as(self.habits, &wanted, &us, dir).await?;
            fill(&gateway, &torrent, &whole, &[leech.address(), seeder.address()]).await;
            seeder.stop();
            leech
        };
        Some(Begun { leech, gateway, _tracker: tracker })
    }
}

async fn by_its_file(client: Client) {
    Seeding::of(film(31, None), client).goes_well(file, scratch().path()).await;
}

async fn by_its_magnet(client: Client) {
    Seeding::of(film(31, None), client)
        .goes_well(|torrent, _| Wanted::Magnet(torrent.magnet()), scratch().path())
        .await;
}

/// A torrent, written to where the story is told.
pub(super) fn file(torrent: &Torrent, dir: &Path) -> Wanted {
    Wanted::File(torrent.write_to(dir))
}

/// Has a viewer read the whole film, so that the gateway holds all of it.
pub(super) async fn fill(gateway: &Gateway, torrent: &Torrent, whole: &[u8], peers: &[SocketAddr]) {
    let url = gateway.magnet_url(&torrent.info_hash, peers);
    let answer = http::get(&url).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == whole, "{url}: {} bytes, not those of the payload", answer.body.len());
}
