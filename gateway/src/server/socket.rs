//! What HTTP is listened on: IP addresses, Unix sockets, and what a service manager hands over.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
#[cfg(unix)]
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

use super::tls::Tls;
use super::wire::Accepted;

/// Who is at the other end of a Unix socket: somebody on this machine.
const THIS_MACHINE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A socket that clients connect to.
#[derive(Debug)]
pub enum HttpSocket {
    /// An IP address, which speaks TLS or not.
    Tcp(TcpListener, Option<Tls>),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(UnixSocket),
}

/// A Unix socket, whose file goes with it where it is ours.
#[cfg(unix)]
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: Option<PathBuf>,
}

impl HttpSocket {
    /// The IP address, unless it is no such socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener, _) => listener.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// The same with TLS, where it is one that can speak it.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        match self {
            Self::Tcp(listener, _) => Self::Tcp(listener, tls),
            #[cfg(unix)]
            unix @ Self::Unix(_) => unix,
        }
    }

    pub(super) const fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Tcp(_, tls) => tls.as_ref(),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Accepted, SocketAddr)> {
        match self {
            Self::Tcp(listener, _) => listener.accept().await.map(|(stream, from)| (Accepted::Tcp(stream), from)),
            #[cfg(unix)]
            Self::Unix(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                Ok((Accepted::Unix(stream), THIS_MACHINE))
            }
        }
    }

    /// The sockets that a service manager has handed over (`LISTEN_FDS`), each as what it is.
    ///
    /// # Errors
    /// When one of them is no socket that clients connect to.
    pub fn handed_over() -> io::Result<Vec<Self>> {
        let mut handed = listenfd::ListenFd::from_env();
        (0..handed.len()).map(|index| take(&mut handed, index)).collect()
    }
}

fn take(handed: &mut listenfd::ListenFd, index: usize) -> io::Result<HttpSocket> {
    let tcp = match handed.take_tcp_listener(index) {
        Ok(Some(listener)) => Ok(listener),
        Ok(None) => Err(io::Error::new(io::ErrorKind::NotFound, "a socket was handed over twice")),
        Err(error) => Err(error),
    };
    match tcp {
        Ok(listener) => {
            listener.set_nonblocking(true)?;
            Ok(HttpSocket::Tcp(TcpListener::from_std(listener)?, None))
        }
        #[cfg(unix)]
        Err(no_tcp) => match handed.take_unix_listener(index)? {
            Some(listener) => {
                listener.set_nonblocking(true)?;
                Ok(HttpSocket::Unix(UnixSocket { listener: UnixListener::from_std(listener)?, path: None }))
            }
            None => Err(no_tcp),
        },
        #[cfg(not(unix))]
        Err(error) => Err(error),
    }
}

impl From<TcpListener> for HttpSocket {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener, None)
    }
}

#[cfg(unix)]
impl UnixSocket {
    /// Listens at a path. What an earlier process left there is replaced; what somebody listens on is not.
    ///
    /// # Errors
    /// When somebody listens there, something else lies there, or it cannot be made.
    pub fn bind(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
        if let Ok(there) = std::fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket lies there"));
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there already"));
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        let socket = Self { listener, path: Some(path.to_owned()) };
        // The group is for the proxy.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(socket)
    }
}

#[cfg(unix)]
impl Drop for UnixSocket {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Whoever comes next replaces it.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_dead_process_left_is_replaced_and_what_lives_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = UnixSocket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(UnixSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(!path.exists(), "its file goes with it");
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(UnixSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
