//! What went wrong, and what a breaker should think of it.

use bytes::Bytes;
use swarmgate_content::{Cid, FailureClass, VerifiedBytes};
use swarmgate_egress::HttpError;
use swarmgate_ipfs_proto::block::{self, Flaw};

use crate::source::SourceError;

/// The server is at fault.
pub(super) fn at_fault(detail: impl Into<String>) -> SourceError {
    SourceError { class: FailureClass::Source, detail: detail.into() }
}

/// Nobody is at fault: the server has not what was asked for, or was not asked.
pub(super) fn neutral(detail: impl Into<String>) -> SourceError {
    SourceError { class: FailureClass::Neutral, detail: detail.into() }
}

/// No answer came. That the client cannot ask at all is this machine's fault.
pub(super) fn unanswered(error: &HttpError) -> SourceError {
    let class = match error {
        HttpError::Setup(_) => FailureClass::Local,
        HttpError::Url(_) => FailureClass::Neutral,
        HttpError::Refused(_)
        | HttpError::TooManyRedirects
        | HttpError::Timeout(_)
        | HttpError::Status(_)
        | HttpError::TooLarge(_)
        | HttpError::Connection(_) => FailureClass::Source,
    };
    SourceError { class, detail: error.to_string() }
}

/// A block that nobody needs to be asked for: a CID that holds its bytes itself.
///
/// # Errors
/// When no bytes could be known as the block.
pub(super) fn inline(cid: &Cid) -> Result<Option<VerifiedBytes>, SourceError> {
    if let Some(inline) = VerifiedBytes::inline(cid) {
        return Ok(Some(inline));
    }
    block::hash_of(cid).map(|_| None).map_err(|bad| neutral(bad.to_string()))
}

/// Takes bytes as the block of that name, or says what it is that they are not.
pub(super) fn checked(cid: &Cid, bytes: Bytes) -> Result<VerifiedBytes, SourceError> {
    block::check(cid, bytes).map_err(|bad| {
        let class = match bad.flaw {
            Flaw::Mismatch(_) => FailureClass::Corruption,
            Flaw::UnknownHash { .. } => FailureClass::Neutral,
            Flaw::TooLarge(_)
            | Flaw::UnknownCodec(_)
            | Flaw::Malformed { .. }
            | Flaw::Kind { .. }
            | Flaw::Size { .. }
            | Flaw::TooManyLinks
            | Flaw::TooDeep => FailureClass::Source,
        };
        SourceError { class, detail: bad.to_string() }
    })
}
