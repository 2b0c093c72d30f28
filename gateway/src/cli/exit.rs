//! How a command ends, for the script that called it.

use std::process::ExitCode;

use swarmgate_content::{FetchError, FetchErrorKind};

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All was done.
    Ok = 0,
    /// Anything without a code of its own.
    Error = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The content or file is not there, or nobody has it.
    NotFound = 3,
    /// A deadline passed.
    Timeout = 4,
    /// The content does not match its own hashes.
    Integrity = 5,
    /// The server or the system refused.
    Denied = 6,
    /// No room for another byte.
    DiskFull = 7,
    /// Ctrl-C; 128 + SIGINT, as shells have it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&FetchError> for Exit {
    fn from(error: &FetchError) -> Self {
        match error.kind {
            FetchErrorKind::NotFound
            | FetchErrorKind::NotCached
            | FetchErrorKind::NoSource
            | FetchErrorKind::Removed => Self::NotFound,
            FetchErrorKind::TimedOut => Self::Timeout,
            FetchErrorKind::Invalid => Self::Integrity,
            FetchErrorKind::StoreFull => Self::DiskFull,
            FetchErrorKind::Unsupported
            | FetchErrorKind::StoreIo
            | FetchErrorKind::Busy
            | FetchErrorKind::ShuttingDown
            | FetchErrorKind::Internal => Self::Error,
            // The enum may grow in its own crate; a new kind is an error until it has a code.
            _ => Self::Error,
        }
    }
}

impl From<&std::io::Error> for Exit {
    fn from(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            Self::DiskFull
        } else if error.kind() == ErrorKind::PermissionDenied {
            Self::Denied
        } else if error.kind() == ErrorKind::NotFound {
            Self::NotFound
        } else if error.kind() == ErrorKind::TimedOut {
            Self::Timeout
        } else {
            Self::Error
        }
    }
}

#[cfg(test)]
mod tests {
    use swarmgate_content::{ContentId, Stage};

    use super::*;

    #[test]
    fn a_script_can_tell_why_a_fetch_failed() {
        let id = ContentId::parse_torrent(&"ab".repeat(20)).unwrap();
        for (kind, code) in [
            (FetchErrorKind::NoSource, 3),
            (FetchErrorKind::TimedOut, 4),
            (FetchErrorKind::Invalid, 5),
            (FetchErrorKind::StoreFull, 7),
            (FetchErrorKind::Internal, 1),
        ] {
            let error = FetchError::new(id, Stage::Resolve, kind, "why");
            assert_eq!(Exit::from(&error) as u8, code, "{error:?}");
        }
    }

    #[test]
    fn a_full_disk_has_its_own_code() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Exit::from(&full), Exit::DiskFull);
    }
}
