//! What counts against a source, and how much.
//!
//! A breaker guards against a source that does not work, so only what shows that counts: silence, refused dials, broken
//! answers, and, harder, wrong bytes. That something is not there, that the client left, that one peer of many died or
//! that our own disk is full says nothing of the source.

use swarmgate_content::FailureClass;

/// How one request to a source went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// No answer, or no progress, in time.
    TimedOut,
    /// It could not be reached, or refused the connection.
    Unreachable,
    /// It answered what no answer is.
    Malformed,
    /// It says that it has too much to do.
    Throttled,
    /// It failed by its own account.
    Failed,
    /// Its bytes are not those that were asked for.
    WrongBytes,
    /// It has not what was asked for.
    NotFound,
    /// It does not serve that range.
    BadRange,
    /// Nobody wants it any more.
    Withdrawn,
    /// One peer of the many that the source is made of is bad or gone.
    OnePeer,
    /// This machine could not: disk, memory, descriptors.
    Local,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::TimedOut,
        Self::Unreachable,
        Self::Malformed,
        Self::Throttled,
        Self::Failed,
        Self::WrongBytes,
        Self::NotFound,
        Self::BadRange,
        Self::Withdrawn,
        Self::OnePeer,
        Self::Local,
    ];
}

/// What a breaker hears of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It delivered what was asked for, verified.
    Success,
    /// It failed.
    Failure,
    /// It sent wrong bytes.
    Corruption,
    /// That says nothing of it.
    Neutral,
}

/// Whose fault it is.
#[must_use]
pub const fn class(fault: Fault) -> FailureClass {
    match fault {
        Fault::TimedOut | Fault::Unreachable | Fault::Malformed | Fault::Throttled | Fault::Failed => {
            FailureClass::Source
        }
        Fault::WrongBytes => FailureClass::Corruption,
        Fault::NotFound | Fault::BadRange | Fault::Withdrawn | Fault::OnePeer => FailureClass::Neutral,
        Fault::Local => FailureClass::Local,
    }
}

/// What a breaker hears of a failure of this class.
#[must_use]
pub const fn verdict(class: FailureClass) -> Verdict {
    match class {
        FailureClass::Source => Verdict::Failure,
        FailureClass::Corruption => Verdict::Corruption,
        FailureClass::Neutral | FailureClass::Local => Verdict::Neutral,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_has_every_fault_once() {
        let table = [
            (Fault::TimedOut, FailureClass::Source, Verdict::Failure),
            (Fault::Unreachable, FailureClass::Source, Verdict::Failure),
            (Fault::Malformed, FailureClass::Source, Verdict::Failure),
            (Fault::Throttled, FailureClass::Source, Verdict::Failure),
            (Fault::Failed, FailureClass::Source, Verdict::Failure),
            (Fault::WrongBytes, FailureClass::Corruption, Verdict::Corruption),
            (Fault::NotFound, FailureClass::Neutral, Verdict::Neutral),
            (Fault::BadRange, FailureClass::Neutral, Verdict::Neutral),
            (Fault::Withdrawn, FailureClass::Neutral, Verdict::Neutral),
            (Fault::OnePeer, FailureClass::Neutral, Verdict::Neutral),
            (Fault::Local, FailureClass::Local, Verdict::Neutral),
        ];
        for (fault, whose, heard) in table {
            assert_eq!(class(fault), whose, "{fault:?}");
            assert_eq!(verdict(class(fault)), heard, "{fault:?}");
        }
        let faults: BTreeSet<_> = table.iter().map(|(fault, ..)| *fault).collect();
        assert_eq!(faults, Fault::ALL.into_iter().collect(), "a fault has no row");
        assert_eq!(faults.len(), table.len(), "a fault has two rows");
    }
}
