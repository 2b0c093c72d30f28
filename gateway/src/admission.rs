//! How many content requests may be under way, in all and per client.
//!
//! A slot is taken before anything is looked up and held until the last byte was handed over or the client left, so
//! the bound covers waiting requests as well as running streams. Slots are counted, never queued: who gets none is
//! told when to come back.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Problem, ProblemKind};

/// The slots of one gateway.
#[derive(Debug)]
pub struct Admission {
    max: usize,
    max_per_client: usize,
    taken: Mutex<Taken>,
    next_stream: AtomicU64,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// A slot; dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    admission: Arc<Admission>,
    client: Option<IpAddr>,
}

impl Admission {
    /// Makes `max` slots of which one client may take `max_per_client`.
    #[must_use]
    pub fn new(max: usize, max_per_client: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_client, taken: Mutex::default(), next_stream: AtomicU64::new(1) })
    }

    /// Takes a slot for a client; one whose address is unknown, or this machine's own, counts in the total only.
    ///
    /// # Errors
    /// 429 when this client has its share, 503 when all are taken.
    pub fn admit(self: &Arc<Self>, client: Option<IpAddr>) -> Result<Slot, Problem> {
        // Behind a proxy on this machine all clients are loopback; the total bounds them.
        let client = client.map(household).filter(|client| !client.is_loopback());
        let mut taken = self.taken.lock();
        if taken.all >= self.max {
            return Err(Problem::new(ProblemKind::Busy, format!("all {} streams are in use", self.max)));
        }
        if let Some(client) = client {
            let share = taken.by_client.entry(client).or_default();
            if *share >= self.max_per_client {
                let detail = format!("one client may have {} streams", self.max_per_client);
                return Err(Problem::new(ProblemKind::TooManyStreams, detail));
            }
            *share += 1;
        }
        taken.all += 1;
        drop(taken);
        Ok(Slot { admission: Arc::clone(self), client })
    }

    /// How many slots are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.lock().all
    }

    /// A number that no stream of this gateway had before.
    #[must_use]
    pub fn next_stream(&self) -> u64 {
        self.next_stream.fetch_add(1, Ordering::Relaxed)
    }
}

/// Who counts as one client: an IPv4 address, or the /64 of an IPv6 address, since one household has a whole /64.
pub(crate) fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        own if own.is_loopback() => own,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.admission.taken.lock();
        taken.all = taken.all.saturating_sub(1);
        let Some(client) = self.client else { return };
        if let Some(share) = taken.by_client.get_mut(&client) {
            *share -= 1;
            if *share == 0 {
                taken.by_client.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_greedy_client_is_stopped_and_others_are_not() {
        let admission = Admission::new(10, 2);
        let _held = [admission.admit(client("10.0.0.1")).unwrap(), admission.admit(client("::ffff:10.0.0.1")).unwrap()];
        assert_eq!(admission.admit(client("10.0.0.1")).unwrap_err().kind(), ProblemKind::TooManyStreams);
        assert!(admission.admit(client("10.0.0.2")).is_ok());
    }

    #[test]
    fn one_household_is_one_client_whatever_address_it_uses() {
        let admission = Admission::new(10, 1);
        let _held = admission.admit(client("2001:db8::1")).unwrap();
        assert_eq!(admission.admit(client("2001:db8::ffff:2")).unwrap_err().kind(), ProblemKind::TooManyStreams);
        assert!(admission.admit(client("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn slots_come_back_and_leave_no_trace() {
        let admission = Admission::new(1, 1);
        let held = admission.admit(client("10.0.0.1")).unwrap();
        assert_eq!(admission.admit(client("10.0.0.2")).unwrap_err().kind(), ProblemKind::Busy);
        drop(held);
        assert_eq!(admission.taken(), 0);
        assert!(admission.taken.lock().by_client.is_empty());
        assert!(admission.admit(None).is_ok());
    }
}
