//! Every way to a peer: TCP and uTP; not encrypted, the handshake alone, and all; dialled by us and dialled by it. Each side is
//! told to know one way only, and the gateway has to say that it was that. Only libtorrent can be told each of them.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::payload::Payload;
use swarmgate_tests::peers::{Client, Habits, Peer, Setting, Wanted, libtorrent};
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::wait;

use super::we_seed::{self, Seeding};
use super::{TRANSFER_WITHIN, film, scratch};

/// One way to a peer.
#[derive(Debug, Clone, Copy)]
struct Way {
    transport: &'static str,
    encryption: &'static str,
}

const OVER_UTP: Way = Way { transport: "utp", encryption: "none" };
const ENCRYPTED: Way = Way { transport: "tcp", encryption: "rc4" };

macro_rules! each_way {
    ($story:ident, $($name:ident: $transport:literal $encryption:literal,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                super::$story(super::Way { transport: $transport, encryption: $encryption }).await;
            }
        )*
    };
    ($story:ident) => {
        each_way! {
            $story,
            tcp_in_the_clear: "tcp" "none",
            tcp_with_a_hidden_handshake: "tcp" "handshake",
            utp_with_a_hidden_handshake: "utp" "handshake",
            utp_encrypted: "utp" "rc4",
        }
    };
}

mod we_dial_and_fetch_over {
    each_way!(we_dial);
}

mod it_dials_and_fetches_over {
    each_way!(it_dials);
}

mod we_fetch_over_utp_from {
    super::super::played_by!(super::we_fetch_over_utp: libtorrent rqbit transmission webtorrent);
}

mod the_film_is_fetched_from_us_over_utp_by {
    super::super::played_by!(super::it_fetches_over_utp: libtorrent rqbit transmission webtorrent);
}

mod we_fetch_encrypted_from {
    super::super::played_by!(super::we_fetch_encrypted: libtorrent aria2 transmission webtorrent);
}

mod the_film_is_fetched_from_us_encrypted_by {
    super::super::played_by!(super::it_fetches_encrypted: libtorrent aria2 transmission webtorrent);
}

impl Way {
    /// libtorrent's settings under which nothing else is possible.
    fn settings(self) -> Vec<Setting> {
        let mut settings =
            [libtorrent::transport(self.transport).as_slice(), &libtorrent::encryption(self.encryption)].concat();
        settings.push(libtorrent::STAYS_CONNECTED);
        settings
    }

    /// The same of any client that knows the way at all.
    fn habits(self) -> Habits {
        Habits { utp: self.transport == "utp", rc4: self.encryption == "rc4" }
    }

    /// What of the gateway's options suits it; the default where there is a choice to be made.
    fn options(self) -> &'static [(&'static str, &'static str)] {
        match self.encryption {
            "none" => &[("SWARMGATE_BITTORRENT__ENCRYPTION", "off")],
            "handshake" => &[],
            _ => &[("SWARMGATE_BITTORRENT__ENCRYPTION", "require")],
        }
    }

    /// Waits until the gateway says that it has a peer by this way, at `address` if there is one to look for.
    async fn was_taken(self, gateway: &Gateway, info_hash: &str, address: Option<SocketAddr>) {
        let url = gateway.url(&format!("/api/v1/items/{info_hash}/peers"));
        let what = format!("a peer by {self:?}");
        let address = address.map(|it| it.to_string());
        wait::until(&what, TRANSFER_WITHIN, async || {
            let list = http::get(&url).await.json();
            let mut peers = list["peers"].as_array()?.iter();
            let is_it = |it: &Value| address.as_ref().is_none_or(|address| it["address"] == address.as_str());
            peers
                .find(|it| it["transport"] == self.transport && it["encryption"] == self.encryption && is_it(it))
                .map(|_| ())
        })
        .await;
    }
}

async fn we_dial(way: Way) {
    let dir = scratch();
    let (payload, torrent) = film(61, None);
    let Some(seeder) = libtorrent::seed(&payload, &torrent, &way.settings(), dir.path()).await else { return };
    we_fetch(way, &seeder, &payload, &torrent, dir.path()).await;
}

async fn we_fetch_over_utp(client: Client) {
    we_fetch_from(client, OVER_UTP).await;
}

async fn we_fetch_encrypted(client: Client) {
    we_fetch_from(client, ENCRYPTED).await;
}

async fn we_fetch_from(client: Client, way: Way) {
    let dir = scratch();
    let (payload, torrent) = film(63, None);
    let Some(seeder) = client.seed_as(way.habits(), &payload, &torrent, dir.path()).await else { return };
    we_fetch(way, &seeder, &payload, &torrent, dir.path()).await;
}

/// The gateway knows nothing but the seeder's address; some seeders leave when it has all.
async fn we_fetch(way: Way, seeder: &Peer, payload: &Payload, torrent: &Torrent, dir: &Path) {
    let Some(gateway) = Gateway::start_with(dir, way.options()).await else { return };
    let url = gateway.magnet_url(&torrent.info_hash, &[seeder.address()]);
    let fetch = async {
        let answer = http::get(&url).await;
        assert_eq!(answer.status, 200, "{way:?}: {}", answer.text());
        assert!(answer.body == payload.joined(), "{way:?}: {} bytes, not those of the payload", answer.body.len());
    };
    tokio::join!(fetch, way.was_taken(&gateway, &torrent.info_hash, Some(seeder.address())));
}

async fn it_dials(way: Way) {
    let dir = scratch();
    let (payload, torrent) = film(62, None);
    let Some(seeder) = libtorrent::seed(&payload, &torrent, &way.settings(), dir.path()).await else { return };
    let Some(gateway) = Gateway::start_with(dir.path(), way.options()).await else { return };
    we_seed::fill(&gateway, &torrent, &payload.joined(), &[seeder.address()]).await;
    seeder.stop();

    let wanted = Wanted::File(torrent.write_to(dir.path()));
    let us = [gateway.peer_address()];
    let Some(mut leech) = libtorrent::fetch(&wanted, &us, &way.settings(), dir.path()).await else { return };
    leech.has(&payload, TRANSFER_WITHIN).await;
    way.was_taken(&gateway, &torrent.info_hash, None).await;
}

async fn it_fetches_over_utp(client: Client) {
    it_fetches(client, OVER_UTP).await;
}

async fn it_fetches_encrypted(client: Client) {
    it_fetches(client, ENCRYPTED).await;
}

async fn it_fetches(client: Client, way: Way) {
    let dir = scratch();
    let ordinary = Seeding::of(film(64, None), client);
    let seeding = Seeding { habits: way.habits(), options: way.options(), seeder: way.settings(), ..ordinary };
    let Some(mut begun) = seeding.begin(we_seed::file, dir.path()).await else { return };
    // One that dialled is the only peer; one that was dialled is known by its address.
    let address = (!client.dials_loopback()).then(|| begun.leech.address());
    let way_was_taken = way.was_taken(&begun.gateway, &seeding.torrent.info_hash, address);
    tokio::join!(begun.leech.has(&seeding.payload, TRANSFER_WITHIN), way_was_taken);
}
