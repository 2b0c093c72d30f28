//! Where a gateway takes requests: at an address, or at a Unix socket of this machine.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

use swarmgate_config::{Config, Listen};
use url::Url;

use crate::cli::Exit;
use crate::cli::source::Failure;

/// What stands before the path of a Unix socket, as in `server.listen`.
const UNIX: &str = "unix:";
/// The name that a gateway is asked by over a Unix socket. An IP address passes wherever names are looked at, and has no
/// subdomains that content could be sent to.
const THIS_MACHINE: &str = "127.0.0.1";

/// See the module's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `host:port`.
    Address(String),
    /// A Unix socket, at a path from the root. No TLS is spoken there.
    Unix(PathBuf),
}

/// Where the gateway was found to be, and how it is spoken to there.
#[derive(Debug)]
pub(super) struct Found {
    /// Where.
    pub(super) place: Place,
    /// Whether it speaks TLS.
    pub(super) speaks_tls: bool,
    /// What its paths begin with, slashes at the ends or not.
    pub(super) base_path: String,
}

impl Found {
    /// The gateway that `api` names, else that of the configuration.
    ///
    /// # Errors
    /// [`Exit::Usage`] when neither says where it is.
    pub(super) fn of(config: &Config, api: Option<&str>) -> Result<Self, Failure> {
        let has_tls = config.server.has_tls();
        let base_path = config.server.base_path.clone();
        let Some(text) = api else {
            let place = listening(config)?;
            let speaks_tls = has_tls && matches!(place, Place::Address(_));
            return Ok(Self { place, speaks_tls, base_path });
        };
        match text.strip_prefix(UNIX).map(PathBuf::from) {
            Some(path) if path.is_absolute() => Ok(Self { place: Place::Unix(path), speaks_tls: false, base_path }),
            Some(_) => Err(usage(text, "a socket's path begins at the root, as unix:/run/swarmgate.sock")),
            None => parse(text, has_tls),
        }
    }
}

impl Place {
    /// What requests name as their host.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Address(authority) => authority,
            Self::Unix(_) => THIS_MACHINE,
        }
    }

    /// Nobody takes a connection there.
    pub(super) fn unanswered(&self, error: &io::Error) -> Failure {
        let is_socket = matches!(self, Self::Unix(_));
        let (exit, advice) = if is_socket && error.kind() == ErrorKind::PermissionDenied {
            (Exit::Denied, "ask as the user that it runs as, or as a member of the socket's group")
        } else if is_socket {
            (Exit::NotFound, "is it running, and does its server.listen name this socket?")
        } else {
            (Exit::NotFound, "is it running?")
        };
        Failure::new(exit, format!("no gateway answers at {self}: {error}; {advice}"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(authority) => f.write_str(authority),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Where the gateway of this configuration can be reached from this machine.
fn listening(config: &Config) -> Result<Place, Failure> {
    let Some(mut address) = config.server.addresses().find(|address| address.port() != 0) else {
        let socket = |listen: &Listen| match listen {
            Listen::Unix(path) => Some(Place::Unix(path.clone())),
            Listen::Tcp(_) | Listen::Systemd => None,
        };
        let unknown = "server.listen names no port and no socket that the gateway could be found at; say --api \
                       http://HOST:PORT or --api unix:/PATH";
        return config.server.listen.iter().find_map(socket).ok_or_else(|| Failure::new(Exit::Usage, unknown));
    };
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(Place::Address(address.to_string()))
}

fn parse(text: &str, has_tls: bool) -> Result<Found, Failure> {
    let usage = |why: &str| usage(text, why);
    let url = Url::parse(text).map_err(|error| usage(&error.to_string()))?;
    let speaks_tls = match url.scheme() {
        "http" => false,
        "https" if has_tls => true,
        "https" => {
            return Err(usage(
                "over https only the certificate in server.tls_cert is believed; name it, or write http://HOST:PORT",
            ));
        }
        _ => {
            return Err(usage("write http://HOST:PORT or unix:/PATH, where the gateway itself listens"));
        }
    };
    let host = url.host_str().ok_or_else(|| usage("it names no host"))?;
    let port = url.port_or_known_default().ok_or_else(|| usage("it names no port"))?;
    Ok(Found { place: Place::Address(format!("{host}:{port}")), speaks_tls, base_path: url.path().to_owned() })
}

fn usage(text: &str, why: &str) -> Failure {
    Failure::new(Exit::Usage, format!("--api {text}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(listen: &[&str]) -> Result<String, Failure> {
        let mut config = Config::default();
        config.server.listen = listen.iter().map(|place| place.parse().unwrap()).collect();
        Found::of(&config, None).map(|found| found.place.to_string())
    }

    #[test]
    fn a_gateway_that_listens_everywhere_is_reached_on_loopback() {
        assert_eq!(place(&["0.0.0.0:8420"]).unwrap(), "127.0.0.1:8420");
        assert_eq!(place(&["[::]:8420"]).unwrap(), "[::1]:8420");
        assert_eq!(place(&["127.0.0.1:0", "10.0.0.7:80"]).unwrap(), "10.0.0.7:80");
        assert_eq!(place(&["127.0.0.1:0"]).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_gateway_without_a_port_of_its_own_is_reached_at_its_socket() {
        assert_eq!(place(&["systemd", "unix:/run/gate.sock"]).unwrap(), "unix:/run/gate.sock");
        assert_eq!(place(&["unix:/run/gate.sock", "127.0.0.1:8420"]).unwrap(), "127.0.0.1:8420");
        let nowhere = place(&["systemd"]).unwrap_err();
        assert!(nowhere.exit == Exit::Usage && nowhere.message.contains("--api unix:/PATH"), "{nowhere}");
    }

    #[test]
    fn over_a_socket_no_tls_is_spoken_whatever_addresses_do() {
        let mut config = Config::default();
        config.server.tls_cert = "/etc/cert.pem".into();
        config.server.listen = vec!["unix:/run/gate.sock".parse().unwrap()];
        assert!(!Found::of(&config, None).unwrap().speaks_tls);
        assert!(!Found::of(&config, Some("unix:/run/other.sock")).unwrap().speaks_tls);
        config.server.listen = vec!["127.0.0.1:8420".parse().unwrap()];
        assert!(Found::of(&config, None).unwrap().speaks_tls);
    }

    #[test]
    fn who_may_not_ask_is_told_so_and_who_finds_nobody_too() {
        let (socket, address) = (Place::Unix("/run/gate.sock".into()), Place::Address("127.0.0.1:8420".to_owned()));
        for (place, kind, exit, told) in [
            (&socket, ErrorKind::PermissionDenied, Exit::Denied, "group"),
            (&socket, ErrorKind::NotFound, Exit::NotFound, "server.listen"),
            (&socket, ErrorKind::ConnectionRefused, Exit::NotFound, "is it running"),
            (&address, ErrorKind::ConnectionRefused, Exit::NotFound, "is it running?"),
        ] {
            let failure = place.unanswered(&io::Error::from(kind));
            assert_eq!(failure.exit, exit, "{failure}");
            assert!(failure.message.contains(told) && failure.message.contains(&place.to_string()), "{failure}");
        }
    }
}
