//! What becomes of a viewer when those that the content comes from are killed, lie, or leave.

use std::time::{Duration, Instant};

use swarmgate_tests::gateway::{Gateway, ipfs};
use swarmgate_tests::http;
use swarmgate_tests::kubo::Kubo;
use swarmgate_tests::payload::{bytes, digest};
use swarmgate_tests::spoiler::Spoiler;
use swarmgate_tests::wait;

use super::{MIB, scratch};

/// Deadlines that a story can wait for.
const SHORT: [(&str, &str); 3] = [
    ("SWARMGATE_DEADLINES__RESOLVE", "2s"),
    ("SWARMGATE_DEADLINES__FIRST_BYTE", "3s"),
    ("SWARMGATE_DEADLINES__STALL", "3s"),
];

/// One of those deadlines, and what a machine that does other things too adds to it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

/// A breaker that was opened more than once lets nobody try for that long.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// A player has that much in hand. A peer that is killed closes its connection, so nobody has to guess.
const LONGEST_STALL: Duration = Duration::from_secs(1);

#[tokio::test]
async fn kubo_is_killed_and_started_again() {
    let dir = scratch();
    let Some(mut kubo) = Kubo::start(dir.path()).await else { return };
    let Some(gateway) = Gateway::start_with(dir.path(), &SHORT).await else { return };
    let films: Vec<_> = (210..214).map(|seed| bytes(seed, MIB + 12_345)).collect();
    let urls: Vec<_> = films.iter().map(|film| gateway.ipfs_url(&kubo.add(film), &[&kubo.multiaddr()])).collect();
    http::assert_range(&urls[0], &films[0], 0, MIB).await;

    kubo.kill();
    for url in &urls[1..] {
        let begun = Instant::now();
        let answer = http::get(url).await;
        assert!(matches!(answer.status.as_u16(), 502 | 504), "{}: {}", answer.status, answer.text());
        assert!(answer.text().contains(kubo.peer_id()), "it does not say who was tried: {}", answer.text());
        assert!(begun.elapsed() < ANSWERED_WITHIN, "the answer took {:?}", begun.elapsed());
    }
    http::assert_range(&urls[0], &films[0], 5, MIB).await;

    kubo.restart().await;
    let begun = Instant::now();
    for (url, film) in urls.iter().zip(&films) {
        let answer = wait::until("the film to come again", BACK_WITHIN, async || {
            let answer = http::get(url).await;
            answer.status.is_success().then_some(answer)
        });
        assert_eq!(digest(&answer.await.body), digest(film));
    }
    eprintln!("all films are there {:?} after the start", begun.elapsed());
}

#[tokio::test]
async fn kubos_rpc_is_gone_and_comes_back() {
    let dir = scratch();
    let Some(mut kubo) = Kubo::start(dir.path()).await else { return };
    let rpc = kubo.rpc_url();
    let options = [SHORT.as_slice(), &[(ipfs::KUBO_API, rpc.as_str())]].concat();
    let film = bytes(214, MIB + 12_345);
    let cid = kubo.add(&film);
    kubo.kill();
    // It starts without.
    let Some(gateway) = Gateway::start_with(dir.path(), &options).await else { return };
    let url = gateway.ipfs_url(&cid, &[]);
    let answer = http::get(&url).await;
    assert!(matches!(answer.status.as_u16(), 502 | 504), "{}: {}", answer.status, answer.text());
    kubo.restart().await;
    let answer = wait::until("the film", BACK_WITHIN, async || {
        let answer = http::get(&url).await;
        answer.status.is_success().then_some(answer)
    });
    assert_eq!(digest(&answer.await.body), digest(&film));
}

/// The liar and an honest peer have the same; all that a viewer gets is right, and the liar is left alone for most of the
/// time. When it tells the truth again, it is believed again.
#[tokio::test]
async fn kubos_gateway_returns_garbage_for_a_minute() {
    const FOR: Duration = Duration::from_secs(60);
    const EVERY: Duration = Duration::from_secs(1);
    /// Of so many answers nobody can say whether there will be more like them; see the breaker's window.
    const GARBAGE_UNTIL_FOUND_OUT: usize = 40;
    let dir = scratch();
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let Some(mut honest) = Kubo::start(dir.path()).await else { return };
    let liar = Spoiler::before(&kubo.gateway_url()).await;
    // Of two that nobody has heard of, the first one is asked first.
    let gateways = format!("{},{}", liar.url(), honest.gateway_url());
    let Some(gateway) = Gateway::start_with(dir.path(), &[(ipfs::GATEWAYS, &gateways)]).await else { return };
    let mut seeds = 300..;
    let mut next = || {
        let film = bytes(seeds.next().expect("it has no end"), 300_000);
        let cid = kubo.add(&film);
        assert_eq!(honest.add(&film), cid);
        (gateway.ipfs_url(&cid, &[]), film)
    };

    liar.spoil(true);
    let begun = Instant::now();
    let mut films = 0;
    while begun.elapsed() < FOR {
        let (url, film) = next();
        let answer = http::get(&url).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(digest(&answer.body), digest(&film), "after {films} films");
        films += 1;
        tokio::time::sleep(EVERY).await;
    }
    eprintln!("{films} films; {} of {} answers were spoiled", liar.spoiled(), liar.requests());
    assert!(liar.spoiled() > 0, "it was never asked, so it never lied");
    assert!(liar.spoiled() <= GARBAGE_UNTIL_FOUND_OUT, "{} lies of the same source", liar.spoiled());

    // While another answers, nobody has to try it again. Now there is no other.
    liar.spoil(false);
    honest.kill();
    let film = bytes(299, 300_000);
    let url = gateway.ipfs_url(&kubo.add(&film), &[]);
    let begun = Instant::now();
    let answer = wait::until("the one that lied to be believed again", BACK_WITHIN * 2, async || {
        let answer = http::get(&url).await;
        answer.status.is_success().then_some(answer)
    });
    assert_eq!(digest(&answer.await.body), digest(&film));
    eprintln!("believed again after {:?}", begun.elapsed());
}

#[tokio::test]
async fn kubo_vanishes_in_mid_file_and_another_goes_on() {
    let dir = scratch();
    let Some(mut kubo) = Kubo::start(dir.path()).await else { return };
    let Some(other) = Kubo::start(dir.path()).await else { return };
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    let whole = bytes(215, 64 * MIB);
    let cid = kubo.add(&whole);
    assert_eq!(other.add(&whole), cid);

    let url = gateway.ipfs_url(&cid, &[&kubo.multiaddr(), &other.multiaddr()]);
    let mut response = http::client().get(&url).send().await.expect("the gateway answers");
    assert_eq!(response.status(), 200);
    let (mut read, mut longest) = (0, Duration::ZERO);
    loop {
        let asked = Instant::now();
        let Some(chunk) = response.chunk().await.expect("the stream is not broken off") else { break };
        // Getting going is another story.
        if read > 0 {
            longest = longest.max(asked.elapsed());
        }
        assert!(whole[read..].starts_with(&chunk), "wrong bytes after {read}");
        let quarter = whole.len() / 4;
        if (read..read + chunk.len()).contains(&quarter) {
            kubo.kill();
        }
        read += chunk.len();
    }
    assert_eq!(read, whole.len(), "the stream ended early");
    eprintln!("longest stall {longest:?}");
    assert!(longest <= LONGEST_STALL, "the stream stood still for {longest:?}");
}

#[tokio::test]
async fn kubo_vanishes_in_mid_file_and_the_answer_does_not_look_whole() {
    let dir = scratch();
    let Some(mut kubo) = Kubo::start(dir.path()).await else { return };
    let Some(gateway) = Gateway::start_with(dir.path(), &SHORT).await else { return };
    let whole = bytes(216, 64 * MIB);
    let url = gateway.ipfs_url(&kubo.add(&whole), &[&kubo.multiaddr()]);
    let mut response = http::client().get(&url).send().await.expect("the gateway answers");
    assert_eq!(response.status(), 200);
    let (mut read, mut killed) = (0, None);
    let fault = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                assert!(whole[read..].starts_with(&chunk), "wrong bytes after {read}");
                read += chunk.len();
            }
            Ok(None) => panic!("it ended as if it were whole, after {read} of {} bytes", whole.len()),
            Err(fault) => break fault,
        }
        if read >= whole.len() / 4 && killed.is_none() {
            kubo.kill();
            killed = Some(Instant::now());
        }
    };
    let after = killed.expect("it broke off only when the peer was gone").elapsed();
    eprintln!("broken off after {read} bytes, {after:?} after the end of the peer: {fault}");
    assert!(after < ANSWERED_WITHIN, "it hung for {after:?}");
}
