//! What all servers that give single blocks have in common as sources: a name, and a ledger of what each reading got.

use std::fmt;

use swarmgate_content::{Attempt, BoxFuture, VerifiedBytes};

use super::endpoint::Endpoint;
use super::ledger::Ledger;
use crate::source::{BlockSource, SessionId, SourceError, Want};

/// A kind of server, by how a block is asked of it.
pub(super) trait BlockServer: Send + Sync + fmt::Debug {
    /// What attempts at such a server are called.
    const KIND: &'static str;

    fn endpoint(&self) -> &Endpoint;

    fn ledger(&self) -> &Ledger;

    /// Gets a block that was checked.
    fn get(&self, want: &Want) -> impl Future<Output = Result<VerifiedBytes, SourceError>> + Send;

    /// A reading is over.
    fn forget(&self, _session: SessionId) {}
}

impl<S: BlockServer> BlockSource for S {
    fn name(&self) -> &str {
        self.endpoint().name()
    }

    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<VerifiedBytes, SourceError>> {
        Box::pin(async move { self.ledger().follow(want.session, self.get(&want)).await })
    }

    fn end_session(&self, session: SessionId) {
        self.forget(session);
        self.ledger().forget(session);
    }

    fn attempts(&self, session: SessionId) -> Vec<Attempt> {
        self.ledger().attempts(session, S::KIND, self.endpoint().name())
    }
}
