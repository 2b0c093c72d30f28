//! Names looked up lately, each until its time is over: bounded, and forgotten soonest-to-expire first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use swarmgate_ipfs_proto::content_path::Root;

use super::{NameError, Step};

/// Names kept; some 2 KiB each, with their records at most 12.
const MAX_NAMES: usize = 1024;

/// Where a name leads, or why it leads nowhere; until when.
type Known = (Result<Step, NameError>, Instant);

#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<BTreeMap<Root, Known>>);

impl Memory {
    /// Where a name leads, with what is left of its time.
    pub(super) fn get(&self, name: &Root, now: Instant) -> Option<Result<Step, NameError>> {
        let names = self.0.lock();
        let (known, until) = names.get(name)?;
        let valid_for = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(known.clone().map(|step| Step { valid_for, ..step }))
    }

    pub(super) fn put(&self, name: Root, known: Result<Step, NameError>, lasts: Duration, now: Instant) {
        let Some(until) = now.checked_add(lasts).filter(|until| *until > now) else { return };
        let mut names = self.0.lock();
        if names.len() >= MAX_NAMES && !names.contains_key(&name) {
            let soonest = names.iter().min_by_key(|(_, (_, until))| *until).map(|(name, _)| name.clone());
            soonest.and_then(|name| names.remove(&name));
        }
        names.insert(name, (known, until));
    }

    pub(super) fn forget(&self, name: &Root) {
        self.0.lock().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::NameErrorKind;

    fn host(number: usize) -> Root {
        Root::Host(format!("h{number}.example").parse().unwrap())
    }

    fn step(seconds: u64) -> Step {
        let target = "/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".parse().unwrap();
        Step { target, valid_for: Duration::from_secs(seconds), record: None }
    }

    fn put(memory: &Memory, number: usize, seconds: u64, now: Instant) {
        let step = step(seconds);
        let lasts = step.valid_for;
        memory.put(host(number), Ok(step), lasts, now);
    }

    #[test]
    fn a_name_is_remembered_for_what_is_left_of_its_time() {
        let (memory, now) = (Memory::default(), Instant::now());
        put(&memory, 0, 60, now);
        let left =
            |seconds| memory.get(&host(0), now + Duration::from_secs(seconds)).map(|step| step.unwrap().valid_for);
        assert_eq!(left(20), Some(Duration::from_secs(40)));
        assert_eq!(left(60), None);
        put(&memory, 1, 0, now);
        assert!(memory.get(&host(1), now).is_none());
    }

    #[test]
    fn that_a_host_leads_nowhere_is_remembered_too() {
        let (memory, now) = (Memory::default(), Instant::now());
        let nowhere = NameError::new(host(0), NameErrorKind::NotFound, "no link");
        memory.put(host(0), Err(nowhere), Duration::from_secs(60), now);
        assert_eq!(memory.get(&host(0), now).unwrap().unwrap_err().kind, NameErrorKind::NotFound);
    }

    #[test]
    fn of_too_many_the_one_that_would_go_first_goes() {
        let (memory, now) = (Memory::default(), Instant::now());
        for number in 0..=MAX_NAMES {
            put(&memory, number, 100 + number as u64, now);
        }
        assert!(memory.get(&host(0), now).is_none());
        assert!(memory.get(&host(1), now).is_some() && memory.get(&host(MAX_NAMES), now).is_some());
    }
}
