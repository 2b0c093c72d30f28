//! WebRTC connections that come and go by the thousand, half of them broken off: nothing of them stays behind.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use swarmgate_egress::EgressPolicy;
use swarmgate_tests::measure::{self, alone, this_test};
use swarmgate_tests::wait;
use swarmgate_webtorrent::rtc::{RtcError, RtcManager, RtcOptions, RtcStream};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::MIB;

/// How many cycles the story has; this many unless the variable says otherwise.
const CYCLES: &str = "SWARMGATE_RTC_CYCLES";
const DEFAULT_CYCLES: usize = 600;
/// Kinds of cycles, equally many of each.
const KINDS: usize = 8;
/// What resident memory may have grown by in the second half of the cycles: the first half has had as many connections at
/// once, and left what allocators keep. A connection that is never closed holds some 0.4 MiB, so that 40 that are lost
/// would be found.
const MAX_GROWTH: u64 = 16 * MIB as u64;
/// What a hundred idle ends may take.
const MAX_IDLE: u64 = 40 * MIB as u64;
/// Open connections that are lost in one half of the cycles, all at once: it takes half a minute to give them up.
const LOST_AT_ONCE: usize = 12;
/// A far end is killed, and a new one started, after this many cycles with it.
const LIFE_OF_A_FAR_END: usize = 25;
/// Half a minute is what ICE waits before it calls a connection lost, and as long again for the machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tells the child what it is.
const FAR_END: &str = "SWARMGATE_STORY_FAR_END";

fn own_sockets() -> RtcOptions {
    RtcOptions {
        addresses: vec![[127, 0, 0, 1].into()],
        egress: EgressPolicy { allow_private: true },
        new_connections_per_second: 1000,
        max_connections: 1000,
        max_pending_offers: 1000,
        connect_timeout: Duration::from_secs(3),
        ..RtcOptions::default()
    }
}

fn shared_port() -> RtcOptions {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    RtcOptions { sockets: vec![socket], addresses: Vec::new(), ..own_sockets() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_half_of_them_broken_off_leave_nothing() {
    if !alone("stories::webrtc_cycles::thousands_of_connections_half_of_them_broken_off_leave_nothing") {
        return;
    }
    let cycles = std::env::var(CYCLES).ok().map_or(DEFAULT_CYCLES, |it| it.parse().unwrap());
    let begun = Instant::now();
    let mut soak = Soak::new();
    let before = soak.run(cycles / 2).await;
    let after = soak.run(cycles / 2).await;
    eprintln!("{cycles} cycles in {:?}: {before:?}, then {after:?}", begun.elapsed());
    assert_eq!((after.descriptors, after.threads), (before.descriptors, before.threads));
    let grown = after.resident.saturating_sub(before.resident);
    assert!(grown <= MAX_GROWTH, "resident memory grew by {} KiB", grown / 1024);
    soak.near.shutdown().await;
    soak.far.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_idle_ends_take_forty_mebibytes_at_most() {
    if !alone("stories::webrtc_cycles::a_hundred_idle_ends_take_forty_mebibytes_at_most") {
        return;
    }
    let Soak { near, far, .. } = Soak::new();
    // What the first connection brings serves them all.
    let mut held = vec![open(&near, &far).await];
    let before = measure::resident_bytes();
    for _ in 0..50 {
        held.push(open(&near, &far).await);
    }
    let taken = measure::resident_bytes().saturating_sub(before);
    eprintln!("100 idle ends take {} KiB", taken / 1024);
    assert_eq!(near.stats().connections + far.stats().connections, 2 * held.len());
    assert!(taken <= MAX_IDLE, "100 idle ends take {} KiB", taken / 1024);
    near.shutdown().await;
    far.shutdown().await;
}

/// What this process has when no connection is left.
#[derive(Debug)]
struct Look {
    resident: u64,
    descriptors: usize,
    threads: usize,
}

/// When somebody vanishes.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// Once the connection is open.
    Open,
    /// Before it uses our answer to its offer.
    BeforeOurAnswer,
    /// Before we use its answer to our offer.
    BeforeTheirAnswer,
}

/// Two managers in this process, and a far end in another that will not say goodbye.
struct Soak {
    near: RtcManager,
    far: RtcManager,
    stranger: Option<FarEnd>,
    /// Connections to strangers, each until its end.
    lost: JoinSet<()>,
}

impl Soak {
    fn new() -> Self {
        let (near, far) = (shared_port(), own_sockets());
        Self {
            near: RtcManager::start(near).unwrap(),
            far: RtcManager::start(far).unwrap(),
            stranger: None,
            lost: JoinSet::new(),
        }
    }

    /// Runs so many cycles and waits until nothing is left of them. Those with strangers come first: while they are missed,
    /// the others come and go.
    async fn run(&mut self, cycles: usize) -> Look {
        let with_strangers = cycles / KINDS;
        let others = [Moment::BeforeOurAnswer, Moment::BeforeTheirAnswer].into_iter().cycle();
        for moment in std::iter::repeat_n(Moment::Open, LOST_AT_ONCE).chain(others).take(with_strangers) {
            self.meet_a_stranger(moment).await;
        }
        self.kill_the_stranger().await;
        for turn in 0..cycles - with_strangers {
            self.cycle(turn).await;
        }
        self.look_when_idle().await
    }

    /// One cycle of the seven other kinds, in turn; three of them are broken off.
    async fn cycle(&self, turn: usize) {
        let kind = turn % (KINDS - 1);
        let (near, far) = if turn.is_multiple_of(2) { (&self.near, &self.far) } else { (&self.far, &self.near) };
        match kind {
            // Nobody answers.
            0 => drop(near.offer().await.unwrap()),
            // The answer is not used.
            1 => {
                let offer = near.offer().await.unwrap();
                drop(far.answer(offer.sdp()).await.unwrap());
            }
            // The caller goes in the middle of the making.
            2 => drop(tokio::time::timeout(Duration::from_micros(300), near.offer()).await),
            // The one that made it leaves, or the other, or both at once.
            3 | 4 => {
                let (one, other) = open(near, far).await;
                let (leaves, mut stays) = if kind == 3 { (one, other) } else { (other, one) };
                drop(leaves);
                assert!(!matches!(stays.read(&mut [0]).await, Ok(1..)));
            }
            5 => drop(open(near, far).await),
            _ => {
                let (mut one, mut other) = open(near, far).await;
                one.write_all(&[1; 1000]).await.unwrap();
                one.shutdown().await.unwrap();
                other.read_exact(&mut [0; 1000]).await.unwrap();
            }
        }
    }

    /// Begins or opens a connection to somebody who will vanish from one moment to the next.
    async fn meet_a_stranger(&mut self, vanishes: Moment) {
        let stranger = self.stranger.get_or_insert_with(FarEnd::start);
        match vanishes {
            Moment::Open => {
                let offer = self.near.offer().await.unwrap();
                let answer = stranger.ask(&json!({ "offer": offer.sdp() })).await;
                let mut stream = offer.accept_answer(&answer).await.unwrap();
                self.lost.spawn(async move { assert!(!matches!(stream.read(&mut [0]).await, Ok(1..))) });
            }
            Moment::BeforeOurAnswer => {
                let offer = stranger.ask(&json!({})).await;
                let answered = self.near.answer(&offer).await.unwrap();
                self.lost.spawn(async move { assert!(answered.open().await.is_err()) });
            }
            Moment::BeforeTheirAnswer => {
                let offer = self.near.offer().await.unwrap();
                let answer = stranger.ask(&json!({ "offer": offer.sdp() })).await;
                self.kill_the_stranger().await;
                self.lost.spawn(async move { assert!(offer.accept_answer(&answer).await.is_err()) });
            }
        }
        if self.stranger.as_ref().is_some_and(|stranger| stranger.asked >= LIFE_OF_A_FAR_END) {
            self.kill_the_stranger().await;
        }
    }

    async fn kill_the_stranger(&mut self) {
        if let Some(mut stranger) = self.stranger.take() {
            stranger.child.kill().await.unwrap();
        }
    }

    async fn look_when_idle(&mut self) -> Look {
        while let Some(ended) = self.lost.join_next().await {
            ended.unwrap();
        }
        let (near, far) = (&self.near, &self.far);
        wait::until("all connections to be closed", PATIENCE, async || {
            let held = |it: &RtcManager| it.stats().connections + it.stats().pending_offers;
            (held(near) + held(far) == 0).then_some(())
        })
        .await;
        // The story itself is none of them.
        wait::until("all tasks to end", PATIENCE, async || {
            (Handle::current().metrics().num_alive_tasks() == 0).then_some(())
        })
        .await;
        Look { resident: measure::resident_bytes(), descriptors: measure::descriptors(), threads: measure::threads() }
    }
}

async fn open(near: &RtcManager, far: &RtcManager) -> (RtcStream, RtcStream) {
    loop {
        let offer = near.offer().await.unwrap();
        let answered = far.answer(offer.sdp()).await.unwrap();
        let answer = answered.sdp().to_owned();
        match tokio::join!(offer.accept_answer(&answer), answered.open()) {
            (Ok(near), Ok(far)) => return (near, far),
            // The kernel gave the far end a port of somebody who has vanished and is not given up yet.
            (Err(RtcError::AlreadyConnected), Err(_)) => {}
            (near, far) => panic!("{near:?}, {far:?}"),
        }
    }
}

/// The far end of some connections, in a process of its own: killed, its sockets are silent like those of a killed tab.
struct FarEnd {
    child: Child,
    input: ChildStdin,
    said: Lines<BufReader<ChildStderr>>,
    asked: usize,
}

impl FarEnd {
    fn start() -> Self {
        let mut command = Command::from(this_test("stories::webrtc_cycles::a_far_end_answers_until_it_is_killed"));
        command.env(FAR_END, "yes").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let (input, said) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
        Self { child, input, said: BufReader::new(said).lines(), asked: 0 }
    }

    /// Asks for an answer to an offer, or for an offer.
    async fn ask(&mut self, question: &Value) -> String {
        self.asked += 1;
        self.input.write_all(format!("{question}\n").as_bytes()).await.unwrap();
        loop {
            let line = self.said.next_line().await.unwrap().expect("the far end lives");
            let Ok(said) = serde_json::from_str::<Value>(&line) else { panic!("the far end says: {line}") };
            if let Some(sdp) = said["sdp"].as_str() {
                return sdp.to_owned();
            }
        }
    }
}

/// The child of the story above.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_far_end_answers_until_it_is_killed() {
    if std::env::var_os(FAR_END).is_none() {
        return;
    }
    let manager = RtcManager::start(own_sockets()).unwrap();
    let (mut offers, mut opening) = (Vec::new(), Vec::new());
    let mut questions = BufReader::new(tokio::io::stdin()).lines();
    while let Some(question) = questions.next_line().await.unwrap() {
        let question: Value = serde_json::from_str(&question).unwrap();
        let sdp = if let Some(offer) = question["offer"].as_str() {
            let answered = manager.answer(offer).await.unwrap();
            let sdp = answered.sdp().to_owned();
            opening.push(tokio::spawn(answered.open()));
            sdp
        } else {
            let offer = manager.offer().await.unwrap();
            let sdp = offer.sdp().to_owned();
            offers.push(offer);
            sdp
        };
        eprintln!("{}", json!({ "sdp": sdp }));
    }
}
