//! The way that connections to peers take out of this machine: straight, through a SOCKS5 proxy, by one interface or
//! from one address. What cannot go that way does not go.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use swarmgate_egress::HttpRoute;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_socks::tcp::Socks5Stream;
use url::Url;

/// A SOCKS5 proxy (RFC 1928), perhaps with a user's name and password (RFC 1929). `Debug` does not write these.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(Url);

/// By what connections leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Outlet {
    /// Whatever the system's routes say.
    #[default]
    Any,
    /// One network interface, by name. Where systems cannot do that, nothing leaves.
    Interface(String),
    /// One address of this machine, and so one family of addresses.
    Address(IpAddr),
}

/// See the module's head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Whom to go through.
    pub proxy: Option<Proxy>,
    /// By what to leave, to the proxy too.
    pub outlet: Outlet,
}

/// The port of SOCKS (RFC 1928).
const DEFAULT_PORT: u16 = 1080;
/// Longest user name or password that the protocol can say, in bytes (RFC 1929).
const MAX_CREDENTIAL: usize = 255;

impl Proxy {
    /// The proxy at `socks5://[user:password@]host[:port]`. Through what is none, nothing goes.
    #[must_use]
    pub const fn new(url: Url) -> Self {
        Self(url)
    }

    fn host(&self) -> io::Result<(&str, u16)> {
        let known = matches!(self.0.scheme(), "socks5" | "socks5h");
        let host = self.0.host_str().filter(|host| known && !host.is_empty());
        let host = host.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the URL of a SOCKS5 proxy"))?;
        Ok((host.trim_start_matches('[').trim_end_matches(']'), self.0.port().unwrap_or(DEFAULT_PORT)))
    }

    /// Its URL for clients that resolve nothing themselves, so that no name is asked for around it.
    #[must_use]
    pub fn resolving_url(&self) -> String {
        let rest = self.0.as_str().split_once("://").map_or("", |(_, rest)| rest);
        format!("socks5h://{rest}")
    }

    /// The user's name and password; `None` without either.
    fn credentials(&self) -> Option<(String, String)> {
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (decoded(self.0.username()), decoded(self.0.password().unwrap_or_default()));
        (!user.is_empty() && user.len() <= MAX_CREDENTIAL && password.len() <= MAX_CREDENTIAL)
            .then_some((user, password))
    }

    async fn connect(&self, outlet: &Outlet, address: SocketAddr) -> io::Result<TcpStream> {
        let mut result = Err(io::ErrorKind::NotFound.into());
        for proxy in lookup_host(self.host()?).await? {
            result = outlet.connect(proxy).await;
            if result.is_ok() {
                break;
            }
        }
        let stream = result?;
        let through = match self.credentials() {
            Some((user, password)) => {
                Socks5Stream::connect_with_password_and_socket(stream, address, &user, &password).await
            }
            None => Socks5Stream::connect_with_socket(stream, address).await,
        };
        through.map(Socks5Stream::into_inner).map_err(refused)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socks5://{}:{}", self.0.host_str().unwrap_or_default(), self.0.port().unwrap_or(DEFAULT_PORT))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// What the proxy says, as the system would.
fn refused(error: tokio_socks::Error) -> io::Error {
    use tokio_socks::Error;
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else it is, the proxy did not connect us")]
    let kind = match error {
        Error::Io(error) => return error,
        Error::HostUnreachable => io::ErrorKind::HostUnreachable,
        Error::NetworkUnreachable => io::ErrorKind::NetworkUnreachable,
        Error::ConnectionRefused => io::ErrorKind::ConnectionRefused,
        Error::TtlExpired => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::PermissionDenied,
    };
    io::Error::new(kind, error)
}

impl Outlet {
    /// An outlet as the configuration names it: an address, or else an interface.
    #[must_use]
    pub fn named(text: &str) -> Self {
        match (text, text.parse()) {
            ("", _) => Self::Any,
            (_, Ok(address)) => Self::Address(address),
            (name, Err(_)) => Self::Interface(name.to_owned()),
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        match self {
            Self::Any => {}
            Self::Interface(name) => bind_to_interface(&socket2::SockRef::from(&socket), name)?,
            Self::Address(ip) if ip.is_ipv4() == address.is_ipv4() => socket.bind(SocketAddr::new(*ip, 0))?,
            Self::Address(_) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        }
        socket.connect(address).await
    }

    /// Holds a socket that was bound already to this outlet; those of an address are bound to it from the start.
    ///
    /// # Errors
    /// When there is no such interface, or the system cannot do that.
    pub fn hold(&self, socket: &socket2::SockRef<'_>) -> io::Result<()> {
        match self {
            Self::Any | Self::Address(_) => Ok(()),
            Self::Interface(name) => bind_to_interface(socket, name),
        }
    }
}

#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
fn bind_to_interface(socket: &socket2::SockRef<'_>, name: &str) -> io::Result<()> {
    socket.bind_device(Some(name.as_bytes()))
}

#[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
fn bind_to_interface(_: &socket2::SockRef<'_>, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Route {
    /// The same way for the client of trackers and web seeds.
    #[must_use]
    pub fn http(&self) -> HttpRoute {
        let (interface, local_address) = match &self.outlet {
            Outlet::Any => (None, None),
            Outlet::Interface(name) => (Some(name.clone()), None),
            Outlet::Address(address) => (None, Some(*address)),
        };
        HttpRoute { proxy: self.proxy.as_ref().map(Proxy::resolving_url), interface, local_address }
    }

    /// Connects over TCP.
    ///
    /// # Errors
    /// The system's, or the proxy's in its words. There is no other way then.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = match &self.proxy {
            Some(proxy) => proxy.connect(&self.outlet, address).await?,
            None => self.outlet.connect(address).await?,
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn proxy(url: &str) -> Proxy {
        Proxy::new(url.parse().unwrap())
    }

    #[test]
    fn a_proxy_is_shown_without_its_password() {
        let full = proxy("socks5://me:p%40ss@[::1]:9050");
        assert_eq!(format!("{full:?}"), "Proxy(socks5://[::1]:9050)");
        assert_eq!(full.credentials(), Some(("me".to_owned(), "p@ss".to_owned())));
        assert_eq!(full.resolving_url(), "socks5h://me:p%40ss@[::1]:9050");
        assert_eq!(full.host().unwrap(), ("::1", 9050));
        let bare = proxy("socks5://proxy.example");
        assert_eq!((bare.host().unwrap(), bare.credentials()), (("proxy.example", 1080), None));
    }

    #[tokio::test]
    async fn through_what_is_no_proxy_nothing_goes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for url in [format!("http://{address}"), "socks5:".to_owned(), "socks5://127.0.0.1:1".to_owned()] {
            let route = Route { proxy: Some(proxy(&url)), outlet: Outlet::Any };
            assert!(route.connect(address).await.is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_connection_leaves_by_its_outlet_or_not_at_all() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let by = |outlet: Outlet| async move { Route { proxy: None, outlet }.connect(address).await };
        let stream = by(Outlet::named("127.0.0.9")).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 9]));
        assert!(by(Outlet::named("::1")).await.is_err(), "another family");
        assert!(by(Outlet::named("no-such-interface")).await.is_err());
        assert!(by(Outlet::named("")).await.is_ok());
    }
}
