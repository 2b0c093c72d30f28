//! How often a client may present credentials that are wrong. A rule: time is handed in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Wrong credentials that a client may present at once: a person mistypes, a player with an old password tries a few times.
const BURST: u32 = 10;
/// After that, one more in so long.
pub(crate) const REFILL: Duration = Duration::from_secs(6);
/// Clients that are remembered. With more, those that owe least are forgotten: a guesser with that many
/// addresses is one whom addresses do not hold.
const MAX_CLIENTS: usize = 4096;

/// Who has presented wrong credentials of late.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// By client, when its debt is paid: each failure adds [`REFILL`] to it.
    paid: HashMap<IpAddr, Instant>,
}

impl Throttle {
    /// How long a client has to wait until it may try again; `None` is not at all.
    pub(crate) fn wait(&self, client: IpAddr, now: Instant) -> Option<Duration> {
        let debt = self.paid.get(&client)?.saturating_duration_since(now);
        debt.checked_sub(REFILL * (BURST - 1)).filter(|wait| !wait.is_zero())
    }

    /// Notes a failure.
    pub(crate) fn failed(&mut self, client: IpAddr, now: Instant) {
        if self.paid.len() >= MAX_CLIENTS && !self.paid.contains_key(&client) {
            self.make_room(now);
        }
        let paid = self.paid.entry(client).or_insert(now);
        *paid = (*paid).max(now) + REFILL;
        // However many were on their way at the same time, no debt is longer than one that is just too long.
        *paid = (*paid).min(now + REFILL * BURST);
    }

    /// Forgets those that owe nothing, and where that is nobody, the half that owes least: so it is seldom done.
    fn make_room(&mut self, now: Instant) {
        self.paid.retain(|_, paid| *paid > now);
        if self.paid.len() >= MAX_CLIENTS {
            let mut all: Vec<_> = self.paid.values().copied().collect();
            let (_, middle, _) = all.select_nth_unstable(MAX_CLIENTS / 2);
            let middle = *middle;
            self.paid.retain(|_, paid| *paid > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

    #[test]
    fn who_guesses_waits_and_who_mistypes_does_not() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(throttle.wait(CLIENT, start), None);
            throttle.failed(CLIENT, start);
        }
        assert_eq!(throttle.wait(CLIENT, start), Some(REFILL));
        assert_eq!(throttle.wait("203.0.113.10".parse().unwrap(), start), None, "others do not wait");
        assert_eq!(throttle.wait(CLIENT, start + REFILL), None, "one more");
        throttle.failed(CLIENT, start + REFILL);
        assert_eq!(throttle.wait(CLIENT, start + REFILL), Some(REFILL));
        assert_eq!(throttle.wait(CLIENT, start + REFILL * BURST * 2), None);
    }

    #[test]
    fn failures_that_come_all_at_once_shut_nobody_out_for_long() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        (0..1000).for_each(|_| throttle.failed(CLIENT, now));
        assert_eq!(throttle.wait(CLIENT, now), Some(REFILL));
    }

    #[test]
    fn the_memory_has_a_bound() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..u32::try_from(MAX_CLIENTS).unwrap() * 2 {
            throttle.failed(IpAddr::V4(n.into()), now + Duration::from_millis(n.into()));
        }
        assert!(throttle.paid.len() <= MAX_CLIENTS);
    }
}
