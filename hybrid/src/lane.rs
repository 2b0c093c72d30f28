//! One way to the units of a content: its swarm, IPFS, a web server.

use std::fmt;

use swarmgate_content::{BoxFuture, FailureClass, LoanError, VerifiedBytes};
use swarmgate_hybrid_rules::{Holdings, Name, SourceSpec, Unit};

use crate::crowd::Crowd;

/// Why a lane did not deliver a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LaneFault {
    /// It failed, or has not got it.
    Failed(LoanError),
    /// Its bytes are right by this name of its own and wrong by that of the content: the two are not the same.
    Refuted(Name),
    /// It came from elsewhere meanwhile, which says nothing of the source.
    Elsewhere,
}

impl LaneFault {
    pub(crate) fn new(class: FailureClass, detail: impl Into<String>) -> Self {
        Self::Failed(LoanError::new(class, detail))
    }
}

impl From<LoanError> for LaneFault {
    fn from(error: LoanError) -> Self {
        Self::Failed(error)
    }
}

/// A source of one content, that is asked for verified units.
pub(crate) trait Lane: Send + Sync + fmt::Debug {
    /// Who it is, for the plan.
    fn spec(&self) -> SourceSpec;

    /// Which units it has, as far as is known.
    fn holdings(&self) -> Holdings;

    /// Gets a unit, verified by the content's own name and put where its readers find it. Returns the unit's block when
    /// readers do not find it by themselves. Dropping the future withdraws the request.
    fn fetch(&self, unit: Unit) -> BoxFuture<'static, Result<Option<VerifiedBytes>, LaneFault>>;

    /// How many it is made of, if it is there only as long as anybody is.
    fn crowd(&self) -> Option<Crowd> {
        None
    }

    /// Has somebody sought, when nobody is there.
    fn seek(&self) {}

    /// Bytes that it has sent so far, whole units or not: grows while it sends.
    fn received_bytes(&self) -> u64;
}
