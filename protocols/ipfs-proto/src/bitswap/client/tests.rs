use std::cmp::Reverse;

use proptest::prelude::*;
use swarmgate_content::Cid;

use super::want::Phase;
use super::*;
use crate::bitswap::{Presence, Version};
use crate::testing::{cid_of, identity_cid, keccak_cid, start, verified};

const A: PeerKey = PeerKey(1);
const B: PeerKey = PeerKey(2);
const READER: SessionKey = SessionKey(1);
const OTHER: SessionKey = SessionKey(2);

fn client(peers: &[PeerKey]) -> (Client, Instant) {
    let (mut client, now) = (Client::new(ClientOptions::default()), start());
    for peer in peers {
        assert!(client.join(now, *peer, Version::V1_2));
    }
    (client, now)
}

/// All that is to be sent now: to whom, and each entry as `block`, `have` or `cancel`.
fn sent(client: &mut Client) -> Vec<(PeerKey, Vec<(&'static str, Cid)>)> {
    let word = |entry: &Entry| match entry {
        Entry::Want { want: Want::Block, cid, .. } => ("block", *cid),
        Entry::Want { want: Want::Have, cid, .. } => ("have", *cid),
        Entry::Cancel(cid) => ("cancel", *cid),
    };
    std::iter::from_fn(|| client.poll_transmit())
        .map(|(peer, message)| (peer, message.wantlist.iter().map(word).collect()))
        .collect()
}

fn events(client: &mut Client) -> Vec<ClientEvent> {
    std::iter::from_fn(|| client.poll_event()).collect()
}

fn block(data: &'static [u8]) -> Message {
    let block = WireBlock { cid: cid_of(data), data: verified(data) };
    Message { blocks: vec![block], ..Message::default() }
}

fn presence(cid: Cid, has: bool) -> Message {
    Message { presences: vec![Presence { cid, has }], ..Message::default() }
}

/// Lets the timers run until something is to be sent.
fn wait(client: &mut Client, now: &mut Instant) -> Vec<(PeerKey, Vec<(&'static str, Cid)>)> {
    loop {
        let messages = sent(client);
        if !messages.is_empty() {
            return messages;
        }
        *now = client.poll_timeout().expect("something is waited for").0;
        client.handle_timeout(*now);
    }
}

#[test]
fn among_strangers_one_is_asked_for_the_block_and_the_others_whether_they_have_it() {
    let (mut client, now) = client(&[A, B]);
    let cid = cid_of(b"x");
    client.want(now, READER, cid, 0, None).unwrap();
    assert_eq!(sent(&mut client), [(A, vec![("block", cid)]), (B, vec![("have", cid)])]);
    client.handle_message(now, A, block(b"x"));
    assert_eq!(events(&mut client), [ClientEvent::Block { cid, data: verified(b"x"), from: A }]);
    assert_eq!(sent(&mut client), [(B, vec![("cancel", cid)])]);
    assert_eq!((client.wanted(), client.poll_timeout()), (0, None));
}

#[test]
fn who_answers_whether_it_has_a_small_block_with_the_block_costs_nobody_his_place() {
    let (mut client, now) = client(&[A, B]);
    client.want(now, READER, cid_of(b"x"), 0, None).unwrap();
    sent(&mut client);
    let later = now + Duration::from_millis(50);
    client.handle_message(later, B, block(b"x"));
    client.handle_message(later, A, block(b"x"));
    let cids = [b"a", b"b", b"c", b"d", b"e", b"f"].map(|data| cid_of(data));
    for (nth, cid) in cids.iter().enumerate() {
        client.want(later, READER, *cid, -i32::try_from(nth).unwrap(), None).unwrap();
    }
    let sent = sent(&mut client);
    let asked = |peer| sent.iter().any(|(to, entries)| *to == peer && entries.iter().any(|(word, _)| *word == "block"));
    assert!(asked(A) && asked(B), "both have delivered a block of this DAG: {sent:?}");
}

#[test]
fn a_provider_is_asked_for_blocks_at_once_and_dont_have_goes_to_the_next() {
    let (mut client, now) = client(&[A, B]);
    client.provides(now, READER, A);
    client.provides(now, READER, B);
    let cid = cid_of(b"x");
    client.want(now, READER, cid, 0, None).unwrap();
    assert_eq!(sent(&mut client), [(A, vec![("block", cid)])]);
    client.handle_message(now, A, presence(cid, false));
    assert_eq!(sent(&mut client), [(B, vec![("block", cid)])]);
    client.handle_message(now, B, presence(cid, false));
    let told = |event: &ClientEvent| *event == ClientEvent::Exhausted(cid);
    assert!(events(&mut client).iter().any(told));
    assert_eq!(client.wanted(), 1, "it stays wanted");
}

#[test]
fn asking_again_is_a_cancel_and_then_a_want_in_two_messages() {
    let (mut client, mut now) = client(&[A]);
    let cid = cid_of(b"x");
    let begun = now;
    client.provides(now, READER, A);
    client.want(now, READER, cid, 0, None).unwrap();
    assert_eq!(sent(&mut client), [(A, vec![("block", cid)])]);
    assert_eq!(wait(&mut client, &mut now), [(A, vec![("cancel", cid)]), (A, vec![("block", cid)])]);
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&(now - begun)), "after {:?}", now - begun);
    assert_eq!(events(&mut client), [ClientEvent::Exhausted(cid)]);
}

#[test]
fn those_that_missed_a_block_are_asked_for_it_in_turn() {
    let (mut client, mut now) = client(&[A, B]);
    let cid = cid_of(b"x");
    client.want(now, READER, cid, 0, None).unwrap();
    assert_eq!(sent(&mut client), [(A, vec![("block", cid)]), (B, vec![("have", cid)])]);
    [A, B].into_iter().for_each(|peer| client.handle_message(now, peer, presence(cid, true)));
    let mut asked = vec![A];
    while asked.len() < 40 {
        let messages = wait(&mut client, &mut now);
        asked.extend(messages.iter().filter(|(_, entries)| entries.contains(&("block", cid))).map(|(peer, _)| *peer));
    }
    assert!(asked.chunks(2).all(|pair| pair.contains(&A) && pair.contains(&B)), "{asked:?}");
}

#[test]
fn a_want_of_two_sessions_is_asked_once_and_outlives_one_of_them() {
    let (mut client, now) = client(&[A]);
    let cid = cid_of(b"x");
    client.want(now, READER, cid, 0, None).unwrap();
    client.want(now, OTHER, Cid::new_v1(0x70, *cid.hash()), 5, None).unwrap();
    assert_eq!(sent(&mut client).len(), 1);
    client.cancel(now, READER, &cid);
    assert_eq!((client.wanted(), sent(&mut client)), (1, vec![]));
    client.end_session(now, OTHER);
    assert_eq!((client.wanted(), sent(&mut client)), (0, vec![(A, vec![("cancel", cid)])]));
}

#[test]
fn what_is_cancelled_before_it_was_sent_is_never_heard_of() {
    let (mut client, now) = client(&[A]);
    client.want(now, READER, cid_of(b"x"), 0, None).unwrap();
    client.cancel(now, READER, &cid_of(b"x"));
    assert_eq!(sent(&mut client), []);
}

#[test]
fn a_late_block_is_counted_and_no_crime() {
    let (mut client, now) = client(&[A]);
    client.want(now, READER, cid_of(b"x"), 0, None).unwrap();
    sent(&mut client);
    client.cancel(now, READER, &cid_of(b"x"));
    client.handle_message(now, A, block(b"x"));
    assert_eq!((events(&mut client), client.stats().unneeded_bytes), (vec![], 1));
    client.want(now, READER, cid_of(b"y"), 0, None).unwrap();
    client.handle_message(now, A, block(b"y"));
    client.handle_message(now, A, block(b"y"));
    assert_eq!((events(&mut client).len(), client.stats().duplicate_bytes), (1, 1));
}

#[test]
fn a_block_that_nobody_asked_for_ends_a_peer_and_moves_its_wants() {
    let (mut client, now) = client(&[A, B]);
    client.provides(now, READER, A);
    let cid = cid_of(b"x");
    client.want(now, READER, cid, 0, None).unwrap();
    client.provides(now, READER, B);
    assert!(sent(&mut client).contains(&(A, vec![("block", cid)])));
    client.handle_message(now, A, block(b"forged"));
    assert_eq!(events(&mut client), [ClientEvent::Misbehaved(A)]);
    assert!(sent(&mut client).contains(&(B, vec![("block", cid)])));
    client.handle_message(now, A, presence(cid, true));
    assert_eq!(events(&mut client), []);
}

#[test]
fn what_a_peer_that_leaves_owes_is_asked_of_another_at_once() {
    let (mut client, now) = client(&[A]);
    client.provides(now, READER, A);
    let cid = cid_of(b"x");
    client.want(now, READER, cid, 0, None).unwrap();
    sent(&mut client);
    assert!(client.join(now, B, Version::V1_2));
    client.provides(now, READER, B);
    client.leave(now, A);
    assert_eq!(sent(&mut client), [(B, vec![("block", cid)])]);
}

#[test]
fn a_peer_is_never_asked_for_more_than_its_budget() {
    let (mut client, now) = client(&[A]);
    client.provides(now, READER, A);
    for n in 0..1000_u32 {
        client.want(now, READER, cid_of(&n.to_le_bytes()), 0, Some(100_000)).unwrap();
    }
    assert!((400_000..=2 << 20).contains(&client.outstanding_bytes(A)), "{}", client.outstanding_bytes(A));
}

#[test]
fn the_most_urgent_goes_first() {
    let (mut client, now) = client(&[]);
    for (n, priority) in [(1, 0), (2, 7), (3, -5)] {
        client.want(now, READER, cid_of(&[n]), priority, Some(400_000)).unwrap();
    }
    assert!(client.join(now, A, Version::V1_2));
    client.provides(now, READER, A);
    let first = sent(&mut client);
    assert!(first.iter().any(|(_, entries)| entries.contains(&("block", cid_of(&[2])))), "{first:?}");
}

#[test]
fn there_is_a_bound_on_wants() {
    let (mut client, now) = client(&[]);
    for n in 0..MAX_WANTS {
        client.want(now, READER, cid_of(&n.to_le_bytes()), 0, None).unwrap();
    }
    assert_eq!(client.want(now, READER, cid_of(b"one more"), 0, None), Err(Refused::Wants));
    assert_eq!(client.want(now, READER, cid_of(&0_usize.to_le_bytes()), 3, None), Ok(()));
}

#[test]
fn what_no_bytes_can_be_known_as_is_not_wanted() {
    let (mut client, now) = client(&[A]);
    for cid in [identity_cid(), keccak_cid()] {
        assert_eq!(client.want(now, READER, cid, 0, None), Err(Refused::Hash));
        client.cancel(now, READER, &cid);
        client.handle_message(now, A, presence(cid, true));
    }
    assert_eq!((sent(&mut client), events(&mut client)), (vec![], vec![]));
}

#[derive(Debug, Clone)]
enum Step {
    Want(u8, u8, i32),
    Cancel(u8, u8),
    End(u8),
    Join(u8, u8),
    Leave(u8),
    Provides(u8, u8),
    Block(u8, u8),
    Presence(u8, u8, bool),
    Wait(u16),
    Timer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step =
        (0..14_u8, 0..4_u8, 0..20_u8, any::<bool>(), any::<u16>()).prop_map(
            |(kind, peer, block, yes, wait)| match kind {
                0..=2 => Step::Want(peer % 3, block, i32::from(wait) - 30_000),
                3 => Step::Cancel(peer % 3, block),
                4 if wait.is_multiple_of(4) => Step::End(peer % 3),
                4 | 5 => Step::Join(peer, block % 3),
                6 if yes => Step::Leave(peer),
                6 | 7 => Step::Provides(peer % 3, peer),
                8 | 9 => Step::Block(peer, block),
                10 => Step::Presence(peer, block, yes),
                11 | 12 => Step::Wait(wait % 3000),
                _ => Step::Timer,
            },
        );
    proptest::collection::vec(step, 0..150)
}

/// What must always hold, seen from inside.
fn check(client: &Client) {
    let mut asked = 0;
    for (id, want) in &client.wants {
        assert_eq!(client.by_hash.get(&want.hash), Some(id));
        assert!(!want.sessions.is_empty());
        let ranks = want.sessions.iter().map(|(session, priority)| (session, (Reverse(*priority), *id)));
        for (nth, (session, rank)) in ranks.enumerate() {
            let session = &client.sessions[session];
            assert!(session.wants.contains(&rank));
            assert_eq!(session.queue.contains(&rank), nth == 0 && want.phase == Phase::Queued, "{:?}", want.phase);
        }
        if let Phase::Asked(key) = want.phase {
            assert!(client.peers[&key].asked.contains_key(id) && want.told.contains_key(&key));
            assert!(!client.peers[&key].banned);
            asked += 1;
        }
        if matches!(want.phase, Phase::Probing | Phase::Exhausted) {
            let wake = want.wake.expect("who waits is woken");
            assert!(client.wakes.contains(&(wake, *id)));
        }
        assert!(want.told.keys().chain(&want.have).chain(want.probed.keys()).all(|key| client.peers.contains_key(key)));
    }
    assert_eq!(client.by_hash.len(), client.wants.len());
    assert_eq!(asked, client.peers.values().map(|peer| peer.asked.len()).sum::<usize>(), "each is asked of one peer");
    for (key, peer) in &client.peers {
        assert_eq!(peer.flow.outstanding_bytes(), peer.asked.values().map(|asked| asked.len).sum::<u64>());
        assert!(peer.asked.len() <= 1 || peer.flow.outstanding_bytes() <= 2 << 20);
        let told = || client.wants.iter().filter_map(|(id, want)| Some((id, *want.told.get(key)?)));
        let unsent = told().filter(|(_, sent)| !sent).map(|(id, _)| id);
        assert!(peer.wants.keys().eq(unsent), "both sides list what {key:?} is yet to hear of");
        assert!(!peer.banned || told().next().is_none(), "{key:?} was sent away and is asked all the same");
        assert!(client.dirty.contains(key) || peer.wants.is_empty() && peer.cancels.is_empty());
    }
    let listed: usize = client.sessions.values().map(|session| session.wants.len()).sum();
    assert_eq!(listed, client.wants.values().map(|want| want.sessions.len()).sum::<usize>());
    assert!(client.past.len() == client.past_order.len() && client.past.len() <= MAX_PAST);
}

proptest! {
    #[test]
    fn whatever_happens_every_want_is_in_one_place_and_ends(steps in steps()) {
        let (mut client, mut now) = client(&[A, B]);
        let data = |n: u8| -> &'static [u8] { &b"abcdefghijklmnopqrstuvwxyz"[usize::from(n)..=usize::from(n)] };
        for step in steps {
            match step {
                Step::Want(session, n, priority) => {
                    client.want(now, SessionKey(session.into()), cid_of(data(n)), priority, None).unwrap();
                }
                Step::Cancel(session, n) => client.cancel(now, SessionKey(session.into()), &cid_of(data(n))),
                Step::End(session) => client.end_session(now, SessionKey(session.into())),
                Step::Join(peer, version) => {
                    client.join(now, PeerKey(peer.into()), Version::ALL[usize::from(version)]);
                }
                Step::Leave(peer) => client.leave(now, PeerKey(peer.into())),
                Step::Provides(session, peer) => {
                    client.provides(now, SessionKey(session.into()), PeerKey(peer.into()));
                }
                Step::Block(peer, n) => client.handle_message(now, PeerKey(peer.into()), block(data(n))),
                Step::Presence(peer, n, has) => {
                    client.handle_message(now, PeerKey(peer.into()), presence(cid_of(data(n)), has));
                }
                Step::Wait(millis) => now += Duration::from_millis(millis.into()),
                Step::Timer => {
                    if let Some((at, _)) = client.poll_timeout() {
                        now = now.max(at);
                    }
                    client.handle_timeout(now);
                    prop_assert!(client.poll_timeout().is_none_or(|(at, _)| at > now), "{:?}", client.poll_timeout());
                }
            }
            check(&client);
            if client.stats().messages.is_multiple_of(2) || client.dirty.len() > 1 {
                sent(&mut client);
            }
        }
        // A good peer comes: all that is wanted is met.
        events(&mut client);
        let good = PeerKey(99);
        prop_assert!(client.join(now, good, Version::V1_2));
        let mut rounds = 0;
        while client.wanted() > 0 {
            for (peer, entries) in sent(&mut client) {
                for (word, cid) in entries {
                    let n = (0..26).find(|n| cid_of(data(*n)).hash() == cid.hash()).unwrap();
                    match word {
                        "block" if peer == good => client.handle_message(now, good, block(data(n))),
                        "have" if peer == good => client.handle_message(now, good, presence(cid, true)),
                        _ => {}
                    }
                    check(&client);
                }
            }
            if let Some((at, _)) = client.poll_timeout().filter(|_| client.wanted() > 0) {
                now = now.max(at);
                client.handle_timeout(now);
            }
            rounds += 1;
            prop_assert!(rounds < 2_000, "{} are still wanted: {client:#?}", client.wanted());
        }
    }
}
