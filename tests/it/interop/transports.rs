//! Every way to a peer, with libtorrent at the other end: TCP and uTP; not encrypted, the handshake alone, and all;
//! dialled by us and dialled by it. Each side is told to know one way only, and the gateway has to say that it was that.

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::peers::{Setting, Wanted, libtorrent};
use swarmgate_tests::wait;

use super::{TRANSFER_WITHIN, film, scratch};

/// One way to a peer.
#[derive(Debug, Clone, Copy)]
struct Way {
    transport: &'static str,
    encryption: &'static str,
}

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
            tcp_encrypted: "tcp" "rc4",
            utp_in_the_clear: "utp" "none",
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

impl Way {
    /// libtorrent's settings under which nothing else is possible.
    fn settings(self) -> Vec<Setting> {
        let (tcp, utp) = (i32::from(self.transport == "tcp"), i32::from(self.transport == "utp"));
        // Policies: 0 forced, 1 enabled, 2 disabled. Levels: 1 the clear, 2 RC4, 3 both.
        let (policy, level) = match self.encryption {
            "none" => (2, 3),
            "handshake" => (0, 1),
            _ => (0, 2),
        };
        vec![
            ("enable_outgoing_tcp", tcp),
            ("enable_incoming_tcp", tcp),
            ("enable_outgoing_utp", utp),
            ("enable_incoming_utp", utp),
            ("out_enc_policy", policy),
            ("in_enc_policy", policy),
            ("allowed_enc_level", level),
            // Two who have all stay connected, so that the way can be looked at.
            ("close_redundant_connections", 0),
        ]
    }

    /// What of the gateway's options suits it; the default where there is a choice to be made.
    fn options(self) -> Vec<(&'static str, &'static str)> {
        match self.encryption {
            "none" => vec![("SWARMGATE_BITTORRENT__ENCRYPTION", "off")],
            "handshake" => Vec::new(),
            _ => vec![("SWARMGATE_BITTORRENT__ENCRYPTION", "require")],
        }
    }

    async fn was_taken(self, gateway: &Gateway, info_hash: &str) {
        let url = gateway.url(&format!("/api/v1/items/{info_hash}/peers"));
        let what = format!("a peer by {self:?}");
        wait::until(&what, TRANSFER_WITHIN, async || {
            let list = http::get(&url).await.json();
            let mut peers = list["peers"].as_array()?.iter();
            peers.find(|it| it["transport"] == self.transport && it["encryption"] == self.encryption).map(|_| ())
        })
        .await;
    }
}

async fn we_dial(way: Way) {
    let dir = scratch();
    let (payload, torrent) = film(61, None);
    let Some(seeder) = libtorrent::seed(&payload, &torrent, &way.settings(), dir.path()).await else { return };
    let Some(gateway) = Gateway::start_with(dir.path(), &way.options()).await else { return };
    let url = gateway.magnet_url(&torrent.info_hash, &[seeder.address()]);
    let answer = http::get(&url).await;
    assert_eq!(answer.status, 200, "{way:?}: {}", answer.text());
    assert!(answer.body == payload.joined(), "{way:?}: {} bytes, not those of the payload", answer.body.len());
    way.was_taken(&gateway, &torrent.info_hash).await;
}

async fn it_dials(way: Way) {
    let dir = scratch();
    let (payload, torrent) = film(62, None);
    let Some(seeder) = libtorrent::seed(&payload, &torrent, &way.settings(), dir.path()).await else { return };
    let Some(gateway) = Gateway::start_with(dir.path(), &way.options()).await else { return };
    let answer = http::get(&gateway.magnet_url(&torrent.info_hash, &[seeder.address()])).await;
    assert_eq!(answer.status, 200, "{way:?}: {}", answer.text());
    seeder.stop();

    let wanted = Wanted::File(torrent.write_to(dir.path()));
    let us = [gateway.peer_address()];
    let Some(mut leech) = libtorrent::fetch(&wanted, &us, &way.settings(), dir.path()).await else { return };
    leech.has(&payload, TRANSFER_WITHIN).await;
    way.was_taken(&gateway, &torrent.info_hash).await;
}
