use proptest::prelude::*;

use super::*;

const TCP: Wanted = Wanted { transport: Transport::Tcp, port: 8421 };
const UDP: Wanted = Wanted { transport: Transport::Udp, port: 8422 };
const OUTSIDE: [u8; 4] = [8, 0, 0, 2];

/// A router that is asked by hand.
struct Router {
    leases: Leases,
    now: Instant,
    booted: Instant,
}

impl Router {
    fn new() -> Self {
        let now = Instant::now();
        let leases = Leases::new(now, [10, 0, 0, 2].into(), [(TCP, [1; 12]), (UDP, [2; 12])]);
        Self { leases, now, booted: now }
    }

    fn steps(&mut self) -> Vec<Step> {
        self.leases.handle_timeout(self.now)
    }

    /// Waits for the next thing that happens by itself.
    fn wait(&mut self) -> Vec<Step> {
        self.now = self.leases.poll_timeout().unwrap().max(self.now);
        self.steps()
    }

    fn epoch(&self) -> [u8; 4] {
        u32::try_from(self.now.duration_since(self.booted).as_secs()).unwrap().to_be_bytes()
    }

    fn pcp(&mut self, wanted: Wanted, nonce: u8, result: u8, port: u16, lifetime: u32) {
        let mut answer = vec![2, 0x81, 0, result];
        answer.extend(lifetime.to_be_bytes());
        answer.extend(self.epoch());
        answer.extend([0; 12]);
        answer.extend([nonce; 12]);
        answer.extend([if wanted.transport == Transport::Tcp { 6 } else { 17 }, 0, 0, 0]);
        answer.extend(wanted.port.to_be_bytes());
        answer.extend(port.to_be_bytes());
        answer.extend(Ipv4Addr::from(OUTSIDE).to_ipv6_mapped().octets());
        self.leases.on_datagram(self.now, &answer);
    }

    fn nat_pmp(&mut self, wanted: Wanted, result: u16, port: u16, lifetime: u32) {
        let mut answer = vec![0, if wanted.transport == Transport::Tcp { 0x82 } else { 0x81 }];
        answer.extend(result.to_be_bytes());
        answer.extend(self.epoch());
        answer.extend(wanted.port.to_be_bytes());
        answer.extend(port.to_be_bytes());
        answer.extend(lifetime.to_be_bytes());
        self.leases.on_datagram(self.now, &answer);
    }

    /// What is forwarded: from which port outside to which inside.
    fn forwarded(&self) -> Vec<(u16, u16)> {
        self.leases.forwardings().map(|held| (held.port, held.wanted.port)).collect()
    }

    /// Both are forwarded by PCP, for an hour.
    fn holding() -> Self {
        let mut router = Self::new();
        router.steps();
        router.pcp(TCP, 1, 0, 8421, 3600);
        router.pcp(UDP, 2, 0, 9000, 3600);
        assert_eq!(router.forwarded(), [(8421, 8421), (9000, 8422)]);
        router
    }
}

/// How many are asked for by each way: of PCP, of NAT-PMP, of UPnP.
fn ways(steps: &[Step]) -> [usize; 3] {
    let version = |step: &Step, version: u8| matches!(step, Step::Send(bytes) if bytes[0] == version);
    let upnp = steps.iter().filter(|step| matches!(step, Step::Upnp(_))).count();
    let [pcp, pmp] = [2, 0].map(|of| steps.iter().filter(|step| version(step, of)).count());
    [pcp, pmp, upnp]
}

#[test]
fn a_forwarding_is_renewed_at_half_its_life_with_the_port_it_has() {
    let mut router = Router::holding();
    let begun = router.now;
    assert!(router.leases.forwardings().all(|held| held.address == Some(OUTSIDE.into())));
    let again = router.wait();
    assert_eq!(router.now - begun, Duration::from_secs(1800));
    assert_eq!(again[1], Step::Send(wire::pcp_map([10, 0, 0, 2].into(), UDP, &[2; 12], 9000, LIFETIME)));
    router.pcp(UDP, 2, 0, 9000, 7200);
    assert_eq!(router.leases.forwardings().nth(1).unwrap().until - router.now, Duration::from_secs(7200));
}

#[test]
fn a_silent_router_is_asked_by_each_way_with_doubled_pauses_and_then_left_alone() {
    let mut router = Router::new();
    let begun = router.now;
    assert_eq!(ways(&router.steps()), [2, 0, 0]);
    let mut asked = Vec::new();
    while router.leases.way() == Way::Pcp {
        let steps = router.wait();
        asked.push(((router.now - begun).as_millis(), ways(&steps)));
    }
    let again = [2, 0, 0];
    assert_eq!(asked, [(250, again), (750, again), (1750, again), (3750, [0, 4, 0])]);
    while router.leases.way() == Way::NatPmp {
        asked.push((0, ways(&router.wait())));
    }
    assert_eq!(asked.last(), Some(&(0, [0, 0, 2])));
    for wanted in [TCP, UDP] {
        router.leases.on_upnp(router.now, wanted, Err("no device answers".to_owned()));
    }
    assert!(router.leases.is_resting() && router.leases.trouble().unwrap().contains("no device answers"));
    let rested = router.now;
    assert_eq!(ways(&router.wait()), [2, 0, 0]);
    assert_eq!(router.now - rested, FIRST_REST);
}

#[test]
fn a_router_of_an_older_kind_is_asked_in_its_own_words_at_once() {
    let mut router = Router::new();
    router.steps();
    router.leases.on_datagram(router.now, b"\0\x81\0\x01\0\0\0\0");
    assert_eq!(ways(&router.steps()), [0, 4, 0], "for its address, too");
    router.leases.on_datagram(router.now, b"\0\x80\0\0\0\0\0\0\x08\0\0\x02");
    router.nat_pmp(TCP, 0, 8421, 3600);
    let held = router.leases.forwardings().next().unwrap();
    assert_eq!((held.port, held.address), (8421, Some(OUTSIDE.into())));
    router.leases.on_datagram(router.now, b"\0\x81\0\x01\0\0\0\0");
    assert_eq!(router.leases.way(), Way::NatPmp, "what works is not left for a stray datagram");
}

#[test]
fn a_port_that_is_refused_rests_while_others_hold_and_all_refused_are_asked_for_another_way() {
    let mut router = Router::new();
    router.steps();
    router.pcp(TCP, 1, 0, 8421, 3600);
    router.pcp(UDP, 2, 8, 0, 0);
    assert_eq!((router.forwarded(), router.leases.way()), (vec![(8421, 8421)], Way::Pcp));
    assert_eq!(router.leases.trouble(), Some("Udp 8422: refused by PCP, result 8"));
    let refused = router.now;
    assert_eq!((ways(&router.wait()), router.now - refused), ([1, 0, 0], REFUSED_REST));

    let mut router = Router::new();
    router.steps();
    router.pcp(TCP, 1, 2, 0, 0);
    router.pcp(UDP, 2, 2, 0, 0);
    assert_eq!(router.leases.way(), Way::NatPmp);
}

#[test]
fn a_router_that_forgot_is_told_again_at_once() {
    let mut router = Router::holding();
    router.now += Duration::from_secs(600);
    assert!(router.steps().is_empty());
    router.booted = router.now;
    router.pcp(TCP, 1, 0, 8421, 3600);
    assert_eq!(ways(&router.steps()), [1, 0, 0], "the other one");
    router.pcp(UDP, 2, 0, 9001, 3600);
    router.now += Duration::from_secs(600);
    router.pcp(TCP, 1, 0, 8421, 3600);
    assert!(router.steps().is_empty(), "its clock runs as ours does");
}

#[test]
fn what_is_not_renewed_holds_until_its_end_and_is_then_asked_for_anew() {
    let mut router = Router::holding();
    let end = router.now + Duration::from_secs(3600);
    while router.now < end {
        assert_eq!(router.forwarded().len(), 2);
        assert!(router.wait().len() <= 2);
    }
    assert!(router.forwarded().is_empty());
    assert!(router.leases.trouble().unwrap().contains("did not renew"));
    while router.leases.way() == Way::Pcp {
        router.wait();
    }
    assert_eq!(router.leases.way(), Way::NatPmp);
}

#[test]
fn absurd_lives_are_cut_and_answers_to_others_passed_over() {
    let mut router = Router::new();
    router.steps();
    router.pcp(TCP, 7, 0, 8421, 3600);
    assert!(router.forwarded().is_empty(), "another's nonce");
    router.pcp(TCP, 1, 0, 8421, u32::MAX);
    assert_eq!(router.leases.forwardings().next().unwrap().until - router.now, MAX_LIFETIME);
    router.pcp(UDP, 2, 0, 8422, 1);
    assert_eq!(router.forwarded().len(), 1, "a second is no life");
}

#[test]
fn all_is_taken_back_in_the_way_it_was_had() {
    let mut router = Router::holding();
    let local = Ipv4Addr::new(10, 0, 0, 2);
    let back = |wanted, nonce| Step::Send(wire::pcp_map(local, wanted, &[nonce; 12], 0, Duration::ZERO));
    assert_eq!(router.leases.release(), [back(TCP, 1), back(UDP, 2)]);
    assert!(router.leases.release().is_empty() && router.forwarded().is_empty());

    let mut router = Router::new();
    while router.leases.way() != Way::Upnp {
        router.wait();
    }
    let lease = UpnpLease { port: 40_000, address: None, lifetime: Duration::ZERO };
    router.leases.on_upnp(router.now, TCP, Ok(lease));
    assert_eq!(router.leases.release(), [Step::UpnpDelete(Transport::Tcp, 40_000)]);
}

proptest! {
    #[test]
    fn whatever_a_router_says_it_is_not_asked_more_than_it_should_be(
        steps in proptest::collection::vec((0u8..6, any::<u8>(), any::<u16>(), any::<u32>(), 0u64..2000), 1..200)
    ) {
        let mut router = Router::new();
        let (begun, mut asked) = (router.now, 0);
        for (kind, result, port, lifetime, later) in steps {
            match kind {
                0 => router.pcp(TCP, 1, result % 3, port, lifetime),
                1 => router.pcp(UDP, 2, result % 3, port, lifetime),
                2 => router.nat_pmp(TCP, (result % 3).into(), port, lifetime),
                3 => router.leases.on_datagram(router.now, &[0, 0x80, 0, 1, result]),
                4 => router.leases.on_upnp(router.now, UDP, Err("no".to_owned())),
                _ => router.booted = router.now,
            }
            router.now += Duration::from_millis(later);
            asked += router.steps().len();
            prop_assert!(router.leases.poll_timeout().is_some_and(|at| at > router.now));
            prop_assert!(router.leases.forwardings().all(|held| held.until > router.now));
        }
        // One question for each thing that was said, and what pauses that double allow beside it.
        let seconds = usize::try_from((router.now - begun).as_secs()).unwrap();
        prop_assert!(asked <= 4 * 200 + 4 * seconds, "{asked} in {seconds} s");
    }
}
