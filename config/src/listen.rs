//! Where the HTTP server listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What stands before the path of a Unix socket.
const UNIX: &str = "unix:";

/// A place where the HTTP server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket, at a path from the root.
    Unix(PathBuf),
    /// The sockets that the service manager hands over.
    Systemd,
}

impl Listen {
    /// The address, unless it is another kind of place.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) | Self::Systemd => None,
        }
    }

    /// Whether only this machine can reach it. Nobody knows where the service manager's sockets are.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
            Self::Systemd => false,
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "systemd" {
            return Ok(Self::Systemd);
        }
        if let Some(path) = text.strip_prefix(UNIX) {
            let path = PathBuf::from(path);
            let rooted = path.is_absolute();
            return if rooted {
                Ok(Self::Unix(path))
            } else {
                Err(format!("`{text}` needs a path from the root, as unix:/run/swarmgate.sock"))
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!("`{text}` is not an IP address with a port, as 127.0.0.1:8420 or [::1]:8420, nor unix:/a/path or systemd")
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::Systemd => f.write_str("systemd"),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_itself_back() {
        for text in ["127.0.0.1:8420", "[::1]:8420", "unix:/run/swarmgate.sock", "systemd"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for bad in ["localhost:8420", "unix:run.sock", "8420", ""] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_others_could_reach_is_not_local() {
        let local = |text: &str| text.parse::<Listen>().unwrap().is_local();
        assert!(local("127.0.0.1:1") && local("[::ffff:127.0.0.1]:1") && local("unix:/run/x"));
        assert!(!local("0.0.0.0:1") && !local("systemd"), "nobody knows what systemd listens on");
    }
}
