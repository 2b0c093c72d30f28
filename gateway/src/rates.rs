//! How often strangers may ask: so many requests a minute of each, and so many torrents that the gateway has not yet
//! taken up. Who is on this machine or presents credentials that are known is no stranger.
//!
//! Each client has a minute's worth at once and gets it back evenly. What is over is refused, never queued.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http::Extensions;
use parking_lot::Mutex;

use crate::admission::household;
use crate::auth::Access;
use crate::error::{Problem, ProblemKind};
use crate::server::Peer;
use crate::state::HttpOptions;

const MINUTE: Duration = Duration::from_secs(60);
/// Clients that are remembered, some 50 bytes of memory each. With more, those that have asked least are forgotten.
const MAX_CLIENTS: usize = 16_384;

/// The rates of one gateway. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Rates(Arc<Meters>);

#[derive(Debug, Default)]
struct Meters {
    requests: Meter,
    items: Meter,
}

#[derive(Debug, Default)]
struct Meter {
    /// 0 for no limit.
    per_minute: AtomicU32,
    used: Mutex<Used>,
}

/// What clients have used of late. A rule: time is handed in.
#[derive(Debug, Default)]
struct Used {
    /// By client, when it will have back all that it has used.
    whole_at: HashMap<IpAddr, Instant>,
}

impl Rates {
    /// Changes them, for what is asked from now on; 0 is no limit.
    pub fn set(&self, requests_per_minute: u32, new_items_per_minute: u32) {
        self.0.requests.per_minute.store(requests_per_minute, Ordering::Relaxed);
        self.0.items.per_minute.store(new_items_per_minute, Ordering::Relaxed);
    }

    /// Counts a request of a stranger.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub fn request(&self, stranger: IpAddr, now: Instant) -> Result<(), Problem> {
        self.0.requests.take(stranger, now).map_err(|(per_minute, wait)| {
            let detail = format!("a client without credentials may send {per_minute} requests a minute");
            Problem::new(ProblemKind::TooManyRequests, detail).after(wait)
        })
    }

    /// Counts a torrent that a stranger has the gateway take up.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub fn new_item(&self, stranger: IpAddr, now: Instant) -> Result<(), Problem> {
        self.0.items.take(stranger, now).map_err(|(per_minute, wait)| {
            let detail = format!("a client without credentials may ask for {per_minute} new contents a minute");
            Problem::new(ProblemKind::TooManyNewItems, detail).after(wait)
        })
    }
}

impl Meter {
    /// Takes one of a client's share; else the share, and how long it takes until there is one again.
    fn take(&self, client: IpAddr, now: Instant) -> Result<(), (u32, Duration)> {
        match self.per_minute.load(Ordering::Relaxed) {
            0 => Ok(()),
            per_minute => self.used.lock().take(client, per_minute, now).map_err(|wait| (per_minute, wait)),
        }
    }
}

impl Used {
    fn take(&mut self, client: IpAddr, per_minute: u32, now: Instant) -> Result<(), Duration> {
        if self.whole_at.len() >= MAX_CLIENTS && !self.whole_at.contains_key(&client) {
            self.make_room(now);
        }
        let whole_at = self.whole_at.entry(client).or_insert(now);
        // No share takes longer than a minute to come back, whatever it was when it was used.
        let then = (*whole_at).clamp(now, now + MINUTE) + MINUTE / per_minute;
        let over = then.saturating_duration_since(now + MINUTE);
        if !over.is_zero() {
            return Err(over);
        }
        *whole_at = then;
        Ok(())
    }

    /// Forgets those that have all of their share, and where that is nobody, the half that has most of it.
    fn make_room(&mut self, now: Instant) {
        self.whole_at.retain(|_, at| *at > now);
        if self.whole_at.len() >= MAX_CLIENTS {
            let mut all: Vec<_> = self.whole_at.values().copied().collect();
            let (_, middle, _) = all.select_nth_unstable(MAX_CLIENTS / 2);
            let middle = *middle;
            self.whole_at.retain(|_, at| *at > middle);
        }
    }
}

/// The client that a request counts for, where it is a stranger's.
#[must_use]
pub fn stranger_of(options: &HttpOptions, extensions: &Extensions) -> Option<IpAddr> {
    let peer = extensions.get::<Peer>()?;
    stranger(options, Access::of(extensions), peer.address.ip())
}

/// The same of a client that is known apart from its request.
#[must_use]
pub(crate) fn stranger(options: &HttpOptions, access: Access, client: IpAddr) -> Option<IpAddr> {
    let client = household(client);
    let has_credentials = options.asks_for_credentials() && matches!(access, Access::Known(_));
    (!client.is_loopback() && !has_credentials).then_some(client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Scopes, TokenHash};

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

    #[test]
    fn a_minutes_worth_is_there_at_once_and_comes_back_evenly() {
        let (mut used, start) = (Used::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!(used.take(CLIENT, 20, start), Ok(()));
        }
        assert_eq!(used.take(CLIENT, 20, start), Err(Duration::from_secs(3)));
        assert_eq!(used.take("203.0.113.10".parse().unwrap(), 20, start), Ok(()), "others have their own");
        assert_eq!(used.take(CLIENT, 20, start + Duration::from_secs(2)), Err(Duration::from_secs(1)));
        assert_eq!(used.take(CLIENT, 20, start + Duration::from_secs(3)), Ok(()));
        assert!(used.take(CLIENT, 20, start + Duration::from_secs(3)).is_err());
        let later = start + 3 * MINUTE;
        assert!((0..20).all(|_| used.take(CLIENT, 20, later).is_ok()) && used.take(CLIENT, 20, later).is_err());
    }

    #[test]
    fn a_share_that_divides_no_minute_evenly_is_whole() {
        let (mut used, now) = (Used::default(), Instant::now());
        for share in [1, 7, 600, 601] {
            let client = IpAddr::V4(share.into());
            assert!((0..share).all(|_| used.take(client, share, now).is_ok()), "{share}");
            assert!(used.take(client, share, now).is_err(), "{share}");
        }
    }

    #[test]
    fn a_changed_share_acts_at_once_and_none_is_no_limit() {
        let (rates, now) = (Rates::default(), Instant::now());
        assert!((0..1000).all(|_| rates.request(CLIENT, now).is_ok() && rates.new_item(CLIENT, now).is_ok()));
        rates.set(2, 1);
        assert!(rates.request(CLIENT, now).is_ok() && rates.request(CLIENT, now).is_ok());
        assert_eq!(rates.request(CLIENT, now).unwrap_err().kind(), ProblemKind::TooManyRequests);
        assert!(rates.new_item(CLIENT, now).is_ok());
        assert_eq!(rates.new_item(CLIENT, now).unwrap_err().kind(), ProblemKind::TooManyNewItems);
        rates.set(0, 0);
        assert!(rates.request(CLIENT, now).is_ok() && rates.new_item(CLIENT, now).is_ok());
    }

    #[test]
    fn who_is_on_this_machine_or_known_is_no_stranger() {
        let open = HttpOptions::default();
        let shut = HttpOptions { token: Some(TokenHash::of("secret")), ..HttpOptions::default() };
        let known = Access::Known(Scopes::ALL);
        for (options, access, client, counted) in [
            (&open, known, "203.0.113.9", true),
            (&open, known, "127.0.0.1", false),
            (&open, known, "::ffff:127.0.0.1", false),
            (&shut, known, "203.0.113.9", false),
            (&shut, Access::Nobody, "203.0.113.9", true),
            (&shut, Access::Wrong, "2001:db8::7", true),
            (&shut, Access::Nobody, "::1", false),
        ] {
            let found = stranger(options, access, client.parse().unwrap());
            assert_eq!(found.is_some(), counted, "{access:?} {client}");
        }
        assert_eq!(stranger(&shut, Access::Nobody, "2001:db8::7".parse().unwrap()), "2001:db8::".parse().ok());
    }

    #[test]
    fn the_memory_has_a_bound() {
        let (mut used, now) = (Used::default(), Instant::now());
        for n in 0..u32::try_from(MAX_CLIENTS).unwrap() * 2 {
            let at = now + Duration::from_micros(n.into());
            assert_eq!(used.take(IpAddr::V4(n.into()), 20, at), Ok(()));
        }
        assert!(used.whole_at.len() <= MAX_CLIENTS);
    }
}
