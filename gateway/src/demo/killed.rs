//! The film goes on: a file that two networks have, one of which is killed half-way.

use std::io::Write;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use swarmgate_content::ContentId;
use swarmgate_hybrid_rules::{Authority, ContentBinding, Name};

use super::line::Line;
use super::{DemoError, FILE_LEN, FILE_NAME, Seeder, offline, root};
use crate::app::App;
use crate::listeners::Listeners;

/// What each network gives, in bytes a second: slow enough that half-way is a moment.
const RATE: u32 = 12_000_000;
/// How often it is looked whether the gateway has half.
const LOOK: Duration = Duration::from_millis(5);

/// Which network is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    BitTorrent,
    Ipfs,
}

impl Victim {
    /// The source that finishes the file, by the name that its share has.
    const fn survivor(self) -> &'static str {
        match self {
            Self::BitTorrent => "ipfs",
            Self::Ipfs => "swarm",
        }
    }
}

/// A gateway that knows nothing yet, and slow ways from it to the seeder's two networks.
struct Stage {
    app: App,
    dir: std::path::PathBuf,
    swarm: Line,
    ipfs: Line,
}

/// Reads the file twice, each time by a gateway that has none of it: by infohash, and its swarm is killed half-way; by
/// CID, and IPFS is.
pub(super) async fn show(seeder: &Seeder, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    writeln!(
        out,
        "Third gateways are told that the infohash and the CID are the same bytes; one network is killed.\n"
    )?;
    for victim in [Victim::BitTorrent, Victim::Ipfs] {
        let stage = Stage::set(seeder).await?;
        let outcome = stage.play(seeder, victim, out).await;
        stage.app.shutdown(Duration::from_secs(1)).await;
        std::fs::remove_dir_all(&stage.dir)?;
        outcome?;
    }
    writeln!(out)?;
    Ok(())
}

impl Stage {
    async fn set(seeder: &Seeder) -> Result<Self, DemoError> {
        let dir = std::env::temp_dir().join(format!("swarmgate-demo-{:016x}", rand::random::<u64>()));
        let peers = seeder.bittorrent.listen_address().ok_or("the seeder listens")?;
        let sockets = seeder.ipfs.sockets();
        let node = sockets.iter().find(|(transport, _)| *transport == "tcp").ok_or("the seeder's node listens")?;
        let (swarm, ipfs) = (Line::to(peers, RATE).await?, Line::to(node.1, RATE).await?);
        let id = seeder.ipfs.node().ok_or("the seeder is an IPFS node")?.peer_id();
        let mut config = offline();
        config.cache.dir.clone_from(&dir);
        // The seeder would tell it of the other gateways here, which have all of it and no slow way.
        config.bittorrent.pex = false;
        config.ipfs.bootstrap = vec![format!("/ip4/127.0.0.1/tcp/{}/p2p/{id}", ipfs.address.port())];
        let app = App::build(&config, Listeners::bind(&config)?).await?;
        let names = [
            Name::Torrent { id: ContentId::BtV1(seeder.metainfo.infohash), file: 0 },
            Name::Ipfs(ContentId::Ipfs(seeder.cid)),
        ];
        let len = Some(FILE_LEN as u64);
        let binding = ContentBinding { names: names.into(), len, path: Vec::new(), said_by: Authority::Operator };
        app.hybrid().ok_or("hybrid fetching is on")?.book().add(binding).await?;
        Ok(Self { app, dir, swarm, ipfs })
    }

    async fn play(&self, seeder: &Seeder, victim: Victim, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
        let (root, infohash, cid) = (root(&self.app)?, seeder.metainfo.infohash, seeder.cid);
        let client = reqwest::Client::builder().no_proxy().build()?;
        // It learns of the torrent and of its peer.
        let magnet = format!("{root}/bt/{infohash}/?format=json&x.pe={}", self.swarm.address);
        client.get(&magnet).send().await?.error_for_status()?;
        let (url, what, line) = match victim {
            Victim::BitTorrent => (format!("{root}/bt/{infohash}/{FILE_NAME}"), "infohash, swarm", &self.swarm),
            Victim::Ipfs => (format!("{root}/ipfs/{cid}"), "CID, IPFS", &self.ipfs),
        };
        let mut answer = client.get(&url).send().await?.error_for_status()?;
        let mut hasher = digest::Context::new(&digest::SHA256);
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        let reading = async {
            while let Some(chunk) = answer.chunk().await? {
                (longest, last) = (longest.max(last.elapsed()), Instant::now());
                hasher.update(&chunk);
            }
            Ok::<_, DemoError>(())
        };
        // What the gateway has, not the client: it fetches ahead of whom it answers.
        let killing = async {
            while self.come() < FILE_LEN as u64 / 2 {
                tokio::time::sleep(LOOK).await;
            }
            line.cut();
            std::future::pending().await
        };
        tokio::select! {
            outcome = reading => outcome?,
            () = killing => {}
        }
        if hasher.finish().as_ref() != seeder.digest {
            return Err("the file came back wrong when a network was killed".into());
        }
        let shares = self.shares();
        if !shares.iter().any(|(name, bytes)| name == victim.survivor() && *bytes > 0) {
            return Err(format!("a network was killed, and nothing came from {}: {shares:?}", victim.survivor()).into());
        }
        let shares: Vec<_> = shares.into_iter().map(|(name, bytes)| format!("{bytes} from {name}")).collect();
        let pause = longest.as_millis();
        writeln!(out, "  by {what} killed: SHA-256 right, {}; longest pause {pause} ms", shares.join(", "))?;
        Ok(())
    }

    /// Bytes that all sources have delivered.
    fn come(&self) -> u64 {
        self.shares().into_iter().map(|(_, bytes)| bytes).sum()
    }

    /// What each source has delivered, in bytes.
    fn shares(&self) -> Vec<(String, u64)> {
        let fetches = self.app.hybrid().map(|hybrid| hybrid.fetches()).unwrap_or_default();
        let shares = fetches.into_iter().flat_map(|fetch| fetch.shares);
        shares.map(|share| (share.name.to_string(), share.bytes)).collect()
    }
}
