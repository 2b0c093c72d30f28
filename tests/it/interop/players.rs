//! Players as people have them: mpv and ffmpeg play a film that lies in a swarm, from a gateway that wants credentials.
//!
//! What they make of it is held against what they make of the file itself: the same pictures, the same digest.

use std::path::{Path, PathBuf};

use reqwest::Url;
use serde_json::json;
use swarmgate_tests::ffmpeg::{Ffmpeg, Wrapping};
use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::mpv::Mpv;
use swarmgate_tests::payload::{Payload, PayloadFile};
use swarmgate_tests::peers::{Client, Peer};
use swarmgate_tests::torrent::Torrent;

use super::{PIECE_LEN, scratch};

/// A film of 60 s that has 5 to 8 MB.
const SECONDS: u32 = 60;
/// Where it is sought to.
const FOUR_FIFTHS: u32 = SECONDS * 4 / 5;
/// Pictures that mpv shows: two seconds of the film.
const PICTURES: usize = 30;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A film with a seeder, and a gateway that has nothing of it and gives nothing to strangers.
struct Cinema {
    ffmpeg: Ffmpeg,
    film: PathBuf,
    torrent: Torrent,
    seeder: Peer,
    gateway: Gateway,
}

impl Cinema {
    async fn open(wrapping: Wrapping, dir: &Path) -> Option<Self> {
        let ffmpeg = Ffmpeg::find(dir)?;
        let film = ffmpeg.film(wrapping, SECONDS).await;
        let bytes = std::fs::read(&film).expect("the film was just made");
        let name = film.file_name().expect("a film has a name").to_string_lossy().into_owned();
        let payload = Payload { name, files: vec![PayloadFile { path: Vec::new(), bytes }] };
        let torrent = Torrent::of(&payload, PIECE_LEN, None);
        let seeder = Client::Libtorrent.seed(&payload, &torrent, dir).await?;
        let options = [("SWARMGATE_AUTH__TOKEN", TOKEN), ("SWARMGATE_AUTH__ANONYMOUS_CONTENT", "never")];
        let gateway = Gateway::start_with(dir, &options).await?;
        let cinema = Self { ffmpeg, film, torrent, seeder, gateway };
        let stranger = http::get(&cinema.magnet()).await;
        assert_eq!(stranger.status, 401, "{}", stranger.text());
        Some(cinema)
    }

    /// The film by its magnet, which also names who has it.
    fn magnet(&self) -> String {
        self.gateway.magnet_url(&self.torrent.info_hash, &[self.seeder.address()])
    }

    /// The same for a player that knows passwords alone.
    fn magnet_with_password(&self) -> String {
        self.magnet().replacen("http://", &format!("http://viewer:{TOKEN}@"), 1)
    }

    fn local(&self) -> String {
        self.film.display().to_string()
    }

    /// Asks with credentials.
    async fn asked(&self, request: reqwest::RequestBuilder, url: &str) -> http::Answer {
        let answer = http::send(request.bearer_auth(TOKEN), url).await;
        assert!(answer.status.is_success(), "{url}: {}: {}", answer.status, answer.text());
        answer
    }

    /// The playlist as it is given to who has credentials, with its links made whole, as a list that is kept has them.
    async fn playlist(&self) -> Vec<String> {
        // The gateway learns by the magnet what there is, and from whom.
        self.asked(http::client().head(self.magnet()), "the film").await;
        let url = self.gateway.url(&format!("/bt/{}.m3u8", self.torrent.info_hash));
        let list = self.asked(http::client().get(&url), &url).await.text();
        assert!(list.starts_with("#EXTM3U\n") && !list.contains(TOKEN), "{list}");
        let base = Url::parse(&url).expect("the gateway has a URL");
        let whole = |line: &str| match line.starts_with('#') {
            true => line.to_owned(),
            false => base.join(line).expect("a link of a playlist is a URL").to_string(),
        };
        list.lines().map(whole).collect()
    }

    /// The playlist's only link.
    async fn signed(&self) -> String {
        let lines = self.playlist().await;
        let links: Vec<_> = lines.into_iter().filter(|line| !line.starts_with('#')).collect();
        assert!(links.len() == 1 && links[0].contains("sig="), "{links:?}");
        links[0].clone()
    }
}

/// Fails unless both are the same `PICTURES` pictures; says which differ rather than what is in them.
fn assert_same(what: &str, shown: &[Vec<u8>], expected: &[Vec<u8>]) {
    assert_eq!((shown.len(), expected.len()), (PICTURES, PICTURES), "{what}");
    let other: Vec<_> = (0..PICTURES).filter(|&at| shown[at] != expected[at]).collect();
    assert!(other.is_empty(), "{what}: pictures {other:?} differ");
}

async fn mpv_shows_a_magnets_film(wrapping: Wrapping) {
    let dir = scratch();
    let Some(mpv) = Mpv::find(dir.path()) else { return };
    let Some(cinema) = Cinema::open(wrapping, dir.path()).await else { return };
    let (url, local) = (cinema.magnet_with_password(), cinema.local());
    for start in ["--start=80%", "--start=0"] {
        let expected = mpv.pictures(&[start, &local], PICTURES).await;
        assert_same(start, &mpv.pictures(&[start, &url], PICTURES).await, &expected);
    }
}

#[tokio::test]
async fn mpv_shows_the_webm_of_a_magnet_from_four_fifths_and_from_its_beginning() {
    mpv_shows_a_magnets_film(Wrapping::Webm).await;
}

#[tokio::test]
async fn mpv_shows_the_mp4_of_a_magnet_whose_index_is_at_its_end() {
    mpv_shows_a_magnets_film(Wrapping::Mp4).await;
}

#[tokio::test]
async fn mpv_plays_signed_playlists_without_credentials() {
    let dir = scratch();
    let Some(mpv) = Mpv::find(dir.path()) else { return };
    let Some(cinema) = Cinema::open(Wrapping::Webm, dir.path()).await else { return };
    let expected = mpv.pictures(&["--start=80%", &cinema.local()], PICTURES).await;

    let kept = dir.path().join("kept.m3u8");
    std::fs::write(&kept, cinema.playlist().await.join("\n")).expect("the story's folder can be written");
    let list = format!("--playlist={}", kept.display());
    assert_same("a list that was kept", &mpv.pictures(&["--start=80%", &list], PICTURES).await, &expected);

    let wanted = json!({ "path": format!("/bt/{}.m3u8", cinema.torrent.info_hash), "ttl_s": 600 });
    let url = cinema.gateway.url("/api/v1/links");
    let made = cinema.asked(http::client().post(&url).body(wanted.to_string()), &url).await.json();
    let list = format!("--playlist={}", made["url"].as_str().expect("a link is a URL"));
    assert_same("a list by a signed link", &mpv.pictures(&["--start=80%", &list], PICTURES).await, &expected);
}

async fn ffmpeg_decodes_a_magnets_film(wrapping: Wrapping) {
    let dir = scratch();
    let Some(cinema) = Cinema::open(wrapping, dir.path()).await else { return };
    let (url, local) = (cinema.magnet_with_password(), cinema.local());
    // The end first, while nothing is here yet.
    for start in [FOUR_FIFTHS, 0] {
        let expected = cinema.ffmpeg.digest(&local, start).await;
        assert!(expected.starts_with("MD5="), "{expected}");
        assert_eq!(cinema.ffmpeg.digest(&url, start).await, expected, "from {start} s");
    }
}

#[tokio::test]
async fn ffmpeg_decodes_every_frame_of_a_magnets_webm() {
    ffmpeg_decodes_a_magnets_film(Wrapping::Webm).await;
}

#[tokio::test]
async fn ffmpeg_decodes_every_frame_of_a_magnets_mp4() {
    ffmpeg_decodes_a_magnets_film(Wrapping::Mp4).await;
}

#[tokio::test]
async fn ffmpeg_plays_the_link_of_a_signed_playlist_and_finds_nothing_wrong() {
    let dir = scratch();
    let Some(cinema) = Cinema::open(Wrapping::Mp4, dir.path()).await else { return };
    let link = cinema.signed().await;
    assert_eq!(cinema.ffmpeg.complaints(&link, FOUR_FIFTHS).await, "");
    assert_eq!(cinema.ffmpeg.complaints(&link, 0).await, "");
    let expected = cinema.ffmpeg.digest(&cinema.local(), 0).await;
    assert_eq!(cinema.ffmpeg.digest(&link, 0).await, expected);
}
