//! `swarmgate get` fetches what a magnet or a CID names, without a server; `swarmgate play` plays it.

use std::path::Path;

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::kubo::{CHUNK_LEN, Kubo};
use swarmgate_tests::payload::{Payload, bytes, digest, digest_of};
use swarmgate_tests::peers::Client;
use swarmgate_tests::programs::Program;
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::tracker::Tracker;
use swarmgate_tests::{gateway, ports, wait};

use super::{MIB, PIECE_LEN, TRANSFER_WITHIN, film, folder, scratch};

#[tokio::test]
async fn get_fetches_a_film_by_magnet_and_exits_with_success() {
    let dir = scratch();
    let (payload, torrent) = film(41, None);
    let Some(seeder) = Client::Libtorrent.seed(&payload, &torrent, dir.path()).await else { return };
    let uri = format!("{}&x.pe={}", torrent.magnet(), seeder.address());
    let out = folder(dir.path(), "out");
    let Some(()) = gateway::get(&uri, &out, dir.path(), TRANSFER_WITHIN).await else { return };
    assert!(payload.is_in(&out), "the film is not in the folder that -o names");
}

#[tokio::test]
async fn get_fetches_a_tree_with_its_folders() {
    let dir = scratch();
    let payload = Payload::tree("set of files", 42);
    let torrent = Torrent::of(&payload, PIECE_LEN, None);
    let Some(seeder) = Client::Libtorrent.seed(&payload, &torrent, dir.path()).await else { return };
    let uri = format!("{}&x.pe={}", torrent.magnet(), seeder.address());
    let out = folder(dir.path(), "out");
    let Some(()) = gateway::get(&uri, &out, dir.path(), TRANSFER_WITHIN).await else { return };
    assert!(payload.is_in(&out), "the tree is not in the folder that -o names");
}

#[tokio::test]
async fn get_fetches_by_a_torrent_file_whose_tracker_names_the_peer() {
    let (dir, tracker) = (scratch(), Tracker::start());
    let (payload, torrent) = film(43, Some(&tracker.url()));
    let Some(_seeder) = Client::Libtorrent.seed(&payload, &torrent, dir.path()).await else { return };
    let file = torrent.write_to(dir.path()).display().to_string();
    let out = folder(dir.path(), "out");
    let Some(()) = gateway::get(&file, &out, dir.path(), TRANSFER_WITHIN).await else { return };
    assert!(payload.is_in(&out), "the film is not in the folder that -o names");
}

/// The second run has a cache of its own, so that all it can begin with is the file of the first.
#[tokio::test]
async fn get_of_a_cid_goes_on_after_ctrl_c() {
    let (first, second) = (scratch(), scratch());
    let Some(kubo) = Kubo::start(first.path()).await else { return };
    let film = bytes(44, 128 * MIB);
    let (cid, peer) = (kubo.add(&film), kubo.multiaddr());
    let options = [(gateway::ipfs::BOOTSTRAP, peer.as_str())];
    let out = folder(first.path(), "out");
    let (path, part) = (out.join(&cid), out.join(format!("{cid}.part")));

    let Some(mut run) = gateway::start_get(&cid, &out, first.path(), &options) else { return };
    wait::until("a part of the film", TRANSFER_WITHIN, async || {
        run.assert_running();
        part.metadata().is_ok_and(|it| it.len() >= 16 * MIB as u64).then_some(())
    })
    .await;
    run.interrupt();
    assert_eq!(run.finished(TRANSFER_WITHIN).await.code(), Some(130), "{}", run.log());
    assert!(run.log().contains("the same command goes on from here"), "{}", run.log());
    assert!(!path.exists(), "the film has its name before it is complete");

    let left = std::fs::metadata(&part).map_or(0, |it| usize::try_from(it.len()).unwrap_or(0));
    let Some(mut run) = gateway::start_get(&cid, &out, second.path(), &options) else { return };
    assert!(run.finished(TRANSFER_WITHIN).await.success(), "{}", run.log());
    assert_eq!(digest_of(&path), Some(digest(&film)));
    let kept = left - left % CHUNK_LEN;
    assert!(run.log().contains(&format!("{} bytes verified, {kept} of them were here", film.len())), "{}", run.log());
}

/// A player in Python: reads a range of the URL, writes the bytes to a file, and ends with 3 where it got none.
const PLAYER: &str = "\
import sys, urllib.request
url, first, last, path = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
request = urllib.request.Request(url, headers={'Range': 'bytes=' + first + '-' + last})
try:
    with opener.open(request, timeout=60) as answer, open(path, 'wb') as out:
        out.write(answer.read())
except OSError:
    sys.exit(3)
";

/// The command of that player, as `--player` takes it.
fn player(dir: &Path, range: std::ops::RangeInclusive<usize>) -> Option<String> {
    let (python, script) = (Program::Python.find()?, dir.join("player.py"));
    std::fs::write(&script, PLAYER).unwrap_or_else(|e| panic!("cannot write {}: {e}", script.display()));
    let (first, last, seen) = (range.start(), range.end(), dir.join("seen"));
    Some(format!("'{}' '{}' {{url}} {first} {last} '{}'", python.display(), script.display(), seen.display()))
}

#[tokio::test]
async fn play_gives_a_player_the_bytes_without_a_gateway_and_with_one_that_wants_a_token() {
    let dir = scratch();
    let Some(player) = player(dir.path(), MIB..=2 * MIB - 1) else { return };
    let (payload, torrent) = film(45, None);
    let Some(seeder) = Client::Libtorrent.seed(&payload, &torrent, dir.path()).await else { return };
    let uri = format!("{}&x.pe={}", torrent.magnet(), seeder.address());
    let expected = payload.files[0].bytes[MIB..2 * MIB].to_vec();
    let seen = dir.path().join("seen");

    let nowhere = ports::free().to_string();
    let options = [("SWARMGATE_SERVER__LISTEN", nowhere.as_str())];
    let args = ["play", uri.as_str(), "--player", player.as_str()];
    let Some((code, said)) = gateway::run_with(dir.path(), &args, &options, TRANSFER_WITHIN).await else { return };
    assert_eq!(code, Some(0), "{said}");
    assert!(std::fs::read(&seen).is_ok_and(|seen| seen == expected), "the player saw other bytes");
    std::fs::remove_file(&seen).unwrap_or_else(|e| panic!("{e}"));

    let token = ("SWARMGATE_AUTH__TOKEN", "0123456789abcdef");
    let never = ("SWARMGATE_AUTH__ANONYMOUS_CONTENT", "never");
    let Some(running) = Gateway::start_with(dir.path(), &[token, never]).await else { return };
    let listen = running.http_address().to_string();
    let options = [token, never, ("SWARMGATE_SERVER__LISTEN", listen.as_str())];
    let Some((code, said)) = gateway::run_with(dir.path(), &args, &options, TRANSFER_WITHIN).await else { return };
    assert_eq!(code, Some(0), "{said}");
    assert!(std::fs::read(&seen).is_ok_and(|seen| seen == expected), "the player saw other bytes");
    assert!(said.contains(&format!("http://{listen}/bt/")) && said.contains("&sig="), "{said}");
    assert!(!said.contains(token.1), "{said}");
}
