//! Whole-system benches: our release build beside other programs, alternating in one sitting, ratios of medians.
//!
//! The measuring itself is done by the scripts in `tests/interop/bench`; here they get their programs and their sizes.
//! What one part costs is measured by the benches of its crate, which need no other programs.

use clap::Subcommand;

use crate::provision::{self, Tool};
use crate::shell::{Cmd, root, target_dir};

/// A bench may take this long, whatever its sizes.
const BENCH_LIMIT_SECONDS: u32 = 60 * 60;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// `swarmgate get` of a whole torrent from one seeder, beside rqbit, libtorrent and aria2
    Download {
        /// Size of the payload
        #[arg(long, default_value_t = 1024)]
        size_mib: u32,
        /// Runs a program
        #[arg(long, default_value_t = 3)]
        runs: u32,
    },
    /// A whole torrent over TCP, over uTP and encrypted, down and up, beside libtorrent and rqbit
    Transports {
        /// Size of the payload
        #[arg(long, default_value_t = 1024)]
        size_mib: u32,
        /// Runs a program, way and direction
        #[arg(long, default_value_t = 3)]
        runs: u32,
        /// Which ways
        #[arg(long, default_value = "tcp,utp,mse")]
        ways: String,
    },
    /// What a viewer feels over a swarm of slow seeders, beside rqbit's HTTP streaming
    Stream {
        /// Seeders in the swarm
        #[arg(long, default_value_t = 8)]
        seeders: u32,
        /// Upload limit of each seeder in KiB/s; 0 for none
        #[arg(long, default_value_t = 512)]
        rate_kib: u32,
        /// Size of the payload; too much to be fetched in one sitting, or seeks would find it cached
        #[arg(long, default_value_t = 1024)]
        size_mib: u32,
        /// Readers at once
        #[arg(long, default_value_t = 64)]
        parallel: u32,
        /// Rate of playback in KiB/s; 0 for half of what the swarm delivers
        #[arg(long, default_value_t = 0)]
        play_rate_kib: u32,
        /// One seeder more that stops uploading without a word
        #[arg(long)]
        with_staller: bool,
        /// Sittings a gateway
        #[arg(long, default_value_t = 3)]
        runs: u32,
    },
    /// Whole torrents over WebRTC between every pair of ours, libtorrent and Chromium
    Rtc {
        /// Size of the payload
        #[arg(long, default_value_t = 256)]
        size_mib: u32,
        /// Size of the payload where a page is one of the two
        #[arg(long, default_value_t = 64)]
        page_size_mib: u32,
        /// Runs a pair
        #[arg(long, default_value_t = 3)]
        runs: u32,
    },
    /// The tracker at /announce under many clients, beside npm's bittorrent-tracker
    Tracker {
        /// Clients at once
        #[arg(long, default_value_t = 1000)]
        clients: u32,
        /// Offers an announce, for one table each
        #[arg(long, value_delimiter = ',', default_values_t = [0, 2, 5])]
        offers: Vec<u32>,
        /// Seconds a measurement
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// Measurements a tracker
        #[arg(long, default_value_t = 3)]
        runs: u32,
    },
    /// What many idle items and many active peers cost: memory and CPU
    Scale {
        /// Items that nobody reads
        #[arg(long, default_value_t = 10_000)]
        items: u32,
        /// Peers of one torrent
        #[arg(long, default_value_t = 500)]
        peers: u32,
        /// Seconds a measurement
        #[arg(long, default_value_t = 30)]
        seconds: u32,
    },
    /// What one event costs the piece picker, as the torrent grows from 1k to 100k pieces
    Picker,
    /// wrk on cached content, beside nginx with the same file
    Http {
        /// Size of the payload
        #[arg(long, default_value_t = 256)]
        size_mib: u32,
        /// Seconds a measurement
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// Measurements a server and number of connections
        #[arg(long, default_value_t = 3)]
        runs: u32,
    },
    /// A file from Kubo over Bitswap, direct and by a long way, beside Kubo's own gateway
    Ipfs {
        /// Size of the file
        #[arg(long, default_value_t = 100)]
        size_mib: u32,
        /// Length of the long way in ms, each way
        #[arg(long, default_value_t = 25)]
        delay_ms: u32,
        /// Providers at once, where there is more than one
        #[arg(long, default_value_t = 4)]
        providers: u32,
        /// Measurements a gateway
        #[arg(long, default_value_t = 3)]
        runs: u32,
    },
    /// A folder published from one read, beside sha1sum and sha256sum at the same time
    Publish {
        /// Size of the folder
        #[arg(long, default_value_t = 10240)]
        size_mib: u32,
        /// Runs of each
        #[arg(long, default_value_t = 3)]
        runs: u32,
    },
    /// The program's size, the time from its start until it is ready, and its memory at rest; fails beyond their bounds
    Start {
        /// Starts
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// Seconds of rest before memory is looked at
        #[arg(long, default_value_t = 10)]
        rest: u32,
    },
    /// IPFS content that is held, under load, beside Kubo's gateway with the same
    IpfsCached {
        /// Size of the large file
        #[arg(long, default_value_t = 256)]
        size_mib: u32,
        /// Seconds a measurement
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// Measurements a server and number of connections
        #[arg(long, default_value_t = 3)]
        runs: u32,
    },
}

/// Runs one bench, with what it needs.
pub(crate) fn run(bench: &Bench) -> Result<(), String> {
    let measure = match bench {
        Bench::Download { size_mib, runs } => script("download.py", &[Tool::Rqbit, Tool::Aria2])?.args([
            "--size",
            &size_mib.to_string(),
            "--runs",
            &runs.to_string(),
        ]),
        Bench::Transports { size_mib, runs, ways } => script("transports.py", &[Tool::Rqbit])?
            .args(["--size", &size_mib.to_string(), "--runs", &runs.to_string()])
            .args(["--ways", ways]),
        Bench::Stream { seeders, rate_kib, size_mib, parallel, play_rate_kib, with_staller, runs } => {
            let stream = script("stream.py", &[Tool::Rqbit])?
                .args(["--seeders", &seeders.to_string(), "--rate", &rate_kib.to_string()])
                .args(["--size", &size_mib.to_string(), "--parallel", &parallel.to_string()])
                .args(["--play-rate", &play_rate_kib.to_string(), "--runs", &runs.to_string()]);
            if *with_staller { stream.arg("--with-staller") } else { stream }
        }
        Bench::Rtc { size_mib, page_size_mib, runs } => {
            script("rtc.py", &[Tool::Node, Tool::Webtorrent, Tool::Chromium])?
                .args(["--size", &size_mib.to_string(), "--page-size", &page_size_mib.to_string()])
                .args(["--runs", &runs.to_string()])
        }
        Bench::Tracker { clients, offers, seconds, runs } => {
            Cmd::cargo("build --package swarmgate-tests --bin tracker-load --release").run()?;
            script("tracker.py", &[Tool::Node, Tool::Webtorrent])?
                .arg("--load")
                .arg(target_dir().join("release/tracker-load"))
                .args(["--clients", &clients.to_string(), "--seconds", &seconds.to_string()])
                .args(["--runs", &runs.to_string(), "--offers"])
                .args(offers.iter().map(u32::to_string))
        }
        Bench::Scale { items, peers, seconds } => script("scale.py", &[])?
            .args(["--items", &items.to_string(), "--peers", &peers.to_string()])
            .args(["--seconds", &seconds.to_string()]),
        Bench::Picker => Cmd::cargo("bench --package swarmgate-bittorrent-proto --bench picker"),
        Bench::Http { size_mib, seconds, runs } => script("http_cached.py", &[Tool::Nginx, Tool::Wrk])?.args([
            "--size",
            &size_mib.to_string(),
            "--seconds",
            &seconds.to_string(),
            "--runs",
            &runs.to_string(),
        ]),
        Bench::Ipfs { size_mib, delay_ms, providers, runs } => {
            Cmd::cargo("build --package swarmgate-tests --bin delay-relay --release").run()?;
            script("ipfs.py", &[Tool::Kubo])?
                .arg("--relay")
                .arg(target_dir().join("release/delay-relay"))
                .args(["--size", &size_mib.to_string(), "--delay", &delay_ms.to_string()])
                .args(["--providers", &providers.to_string(), "--runs", &runs.to_string()])
        }
        Bench::Publish { size_mib, runs } => {
            script("publish.py", &[])?.args(["--size", &size_mib.to_string(), "--runs", &runs.to_string()])
        }
        Bench::Start { runs, rest } => {
            script("start.py", &[])?.args(["--runs", &runs.to_string(), "--rest", &rest.to_string()])
        }
        Bench::IpfsCached { size_mib, seconds, runs } => {
            Cmd::cargo("build --package swarmgate-tests --bin http-load --release").run()?;
            script("ipfs_cached.py", &[Tool::Kubo])?
                .arg("--load")
                .arg(target_dir().join("release/http-load"))
                .args(["--size", &size_mib.to_string(), "--seconds", &seconds.to_string()])
                .args(["--runs", &runs.to_string()])
        }
    };
    measure.limit(BENCH_LIMIT_SECONDS).run()
}

/// A script with our release binary and the programs beside it. Python and libtorrent are what every script is made of;
/// another program that is missing is left out of the comparison, and the script says so.
fn script(name: &str, beside: &[Tool]) -> Result<Cmd, String> {
    let tools = provision::provide(&[&[Tool::Libtorrent], beside].concat());
    Cmd::new("sh").arg(root().join("deploy/build.sh")).run()?;
    let path = |wanted: Tool| tools.iter().find(|t| t.tool == wanted).and_then(|t| t.program.as_ref().ok());
    let python = path(Tool::Libtorrent).ok_or("the benches need libtorrent's Python binding")?;
    let mut script = Cmd::new(python)
        .arg(root().join("tests/interop/bench").join(name))
        .arg("--swarmgate")
        .arg(target_dir().join("release/swarmgate"));
    for (flag, tool) in [
        ("--rqbit", Tool::Rqbit),
        ("--aria2", Tool::Aria2),
        ("--nginx", Tool::Nginx),
        ("--wrk", Tool::Wrk),
        ("--node", Tool::Node),
        ("--node-modules", Tool::Webtorrent),
        ("--chromium", Tool::Chromium),
        ("--kubo", Tool::Kubo),
    ] {
        if let Some(program) = path(tool) {
            script = script.arg(flag).arg(program);
        }
    }
    Ok(script)
}
