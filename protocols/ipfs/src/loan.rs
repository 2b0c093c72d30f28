//! A file of IPFS as it is lent to who fetches one content over several networks: its leaves, one by one.
//!
//! Everything that is asked for by way of a loan belongs to the session that lent it, so sources and routers know it as
//! one reading, whatever it asks for first. But a loan lives for as long as somebody reads the content, and each of its
//! readers has the patience of one: so each thing that is asked for has a clock of its own.

use std::sync::Arc;

use bytes::Bytes;
use swarmgate_content::{
    BoxFuture, ByteRange, Cid, ContentReader, DagLoan, FailureClass, Leaf, Leaves, LoanError, VerifiedBytes,
};

use crate::blocks::Ask;
use crate::fault::Fault;
use crate::life::Life;
use crate::session::Session;

/// The most that is read into memory at a time, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Loan {
    life: Arc<Life>,
    root: Cid,
}

impl Loan {
    pub(crate) fn new(life: Arc<Life>, root: Cid) -> Self {
        life.root_or(root);
        Self { life, root }
    }

    /// One who asks for something.
    fn session(&self) -> Session {
        Session::new(self.life.clone())
    }
}

impl DagLoan for Loan {
    fn root(&self) -> Cid {
        self.root
    }

    fn bytes(&self, range: ByteRange) -> BoxFuture<'static, Result<Bytes, LoanError>> {
        let (session, root) = (self.session(), self.root);
        Box::pin(async move {
            if range.len() > MAX_BYTES {
                return Err(LoanError::new(FailureClass::Neutral, "more than 16 MiB are not read at a time"));
            }
            let (mut drive, mut bytes) = (session.drive(root, session.reading(root, range)), Vec::new());
            while let Some(part) = drive.step().await? {
                bytes.extend_from_slice(part.as_ref());
            }
            Ok(bytes.into())
        })
    }

    fn fetch(&self, leaf: Leaf) -> BoxFuture<'static, Result<VerifiedBytes, LoanError>> {
        let ask = Ask::part(leaf.cid, leaf.offset, leaf.len).for_leaf_alone(self.root, &leaf);
        let session = self.session();
        Box::pin(async move { Ok(session.fetch(ask).await?) })
    }

    fn admit(&self, leaf: Leaf, bytes: Bytes) -> BoxFuture<'static, Result<VerifiedBytes, LoanError>> {
        let blocks = self.life.blocks.clone();
        Box::pin(async move {
            let wrong = || LoanError::new(FailureClass::Corruption, format!("what came is not leaf {}", leaf.cid));
            blocks.admit(&leaf.cid, bytes).await?.ok_or_else(wrong)
        })
    }

    fn read(&self, range: ByteRange, leaves: Arc<dyn Leaves>) -> ContentReader {
        let session = self.session();
        let walk = session.reading(self.root, range).with_leaves(leaves);
        ContentReader::new(session.drive(self.root, walk).into_stream())
    }
}

impl From<Fault> for LoanError {
    fn from(fault: Fault) -> Self {
        Self::new(fault.class(), fault.to_string())
    }
}
