//! How connections are made: TCP with TLS or Noise and Yamux, and QUIC; under both the egress guard, above both the
//! resolver. So a name is resolved first, and its addresses are judged one by one.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::multiaddr::Protocol;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version};
use libp2p::futures::future::{BoxFuture, Either, FutureExt};
use libp2p::futures::{AsyncRead, AsyncWrite};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, dns, noise, quic, tls, yamux};
use swarmgate_egress::EgressPolicy;

use super::tcp::Tcp;

/// Streams of one connection, in both directions. The number is what caps the window of a stream: Yamux takes 256 KiB
/// for each stream that there may be from the connection's 1 GiB, and what is left, here 1 MiB, is how far one window
/// may grow. JavaScript peers send frames as large as the window, and frames over 1 MiB end the connection.
const MAX_YAMUX_STREAMS: usize = 4093;

type Output = (PeerId, StreamMuxerBox);

/// Makes the transport of a node.
///
/// # Errors
/// When the key cannot sign what TLS and Noise need.
pub(super) fn make(
    identity: &Keypair,
    listen: &[Multiaddr],
    egress: EgressPolicy,
    timeout: Duration,
) -> io::Result<Boxed<Output>> {
    let secure = Secure::new(identity)?;
    let mut mux = yamux::Config::default();
    mux.set_max_num_streams(MAX_YAMUX_STREAMS);
    let tcp = Tcp::default().upgrade(Version::V1Lazy).authenticate(secure).multiplex(mux).timeout(timeout).boxed();
    let mut config = quic::Config::new(identity);
    config.handshake_timeout = timeout;
    let quic = quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed();
    let quic_hosts = listen.iter().filter(|address| is_quic(address)).filter_map(host_of).collect();
    let guarded = Guard { inner: both, egress, quic_hosts };
    Ok(match hickory_resolver::system_conf::read_system_conf() {
        Ok((config, options)) => dns::tokio::Transport::custom(guarded, config, options).boxed(),
        Err(error) => {
            tracing::warn!(%error, "the system names no resolver: peers are dialled by address alone");
            guarded.boxed()
        }
    })
}

/// What went wrong, in words: the error itself has none.
pub(super) fn explain(error: &TransportError<io::Error>) -> String {
    match error {
        TransportError::MultiaddrNotSupported(address) => format!("{address} is of no kind that is spoken here"),
        TransportError::Other(error) => error.to_string(),
    }
}

/// The address that a multiaddress begins with, unless that is a name.
pub(super) fn host_of(address: &Multiaddr) -> Option<IpAddr> {
    let first = address.iter().next()?;
    if let Protocol::Ip4(ip) = first {
        Some(ip.into())
    } else if let Protocol::Ip6(ip) = first {
        Some(ip.into())
    } else {
        None
    }
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::QuicV1))
}

/// Dials only what the policy allows, and by QUIC only from a socket that is bound already: without one for the same
/// kind of address, the transport would bind another.
struct Guard {
    inner: Boxed<Output>,
    egress: EgressPolicy,
    /// Hosts that are listened on by QUIC.
    quic_hosts: Vec<IpAddr>,
}

impl Guard {
    fn has_quic_for(&self, target: IpAddr) -> bool {
        self.quic_hosts.iter().any(|host| {
            let reaches = !target.is_loopback() || host.is_loopback() || host.is_unspecified();
            host.is_ipv4() == target.is_ipv4() && reaches
        })
    }
}

impl Transport for Guard {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<Output> as Transport>::ListenerUpgrade;
    type Dial = <Boxed<Output> as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(host) = host_of(&address) else { return Err(TransportError::MultiaddrNotSupported(address)) };
        if let Err(refused) = self.egress.check(host) {
            return Err(TransportError::Other(io::Error::new(io::ErrorKind::PermissionDenied, refused)));
        }
        if is_quic(&address) && !self.has_quic_for(host) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.inner.dial(address, options)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.get_mut().inner).poll(cx)
    }
}

/// TLS or Noise. TLS first: its AES runs in hardware.
#[derive(Clone)]
struct Secure {
    tls: tls::Config,
    noise: noise::Config,
}

const TLS: &str = "/tls/1.0.0";
const NOISE: &str = "/noise";

impl Secure {
    fn new(identity: &Keypair) -> io::Result<Self> {
        let tls = tls::Config::new(identity).map_err(io::Error::other)?;
        let noise = noise::Config::new(identity).map_err(io::Error::other)?;
        Ok(Self { tls, noise })
    }
}

impl UpgradeInfo for Secure {
    type Info = &'static str;
    type InfoIter = [&'static str; 2];

    fn protocol_info(&self) -> Self::InfoIter {
        [TLS, NOISE]
    }
}

/// What both give: who the peer is, and the stream.
type Secured<C> = (PeerId, Either<tls::TlsStream<C>, noise::Output<C>>);

impl<C> InboundConnectionUpgrade<C> for Secure
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Secured<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secured<C>>>;

    fn upgrade_inbound(self, socket: C, info: &'static str) -> Self::Future {
        async move {
            if info == TLS {
                let done = InboundConnectionUpgrade::upgrade_inbound(self.tls, socket, info).await;
                done.map(|(peer, stream)| (peer, Either::Left(stream))).map_err(io::Error::other)
            } else {
                let done = InboundConnectionUpgrade::upgrade_inbound(self.noise, socket, info).await;
                done.map(|(peer, stream)| (peer, Either::Right(stream))).map_err(io::Error::other)
            }
        }
        .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Secure
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Secured<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secured<C>>>;

    fn upgrade_outbound(self, socket: C, info: &'static str) -> Self::Future {
        async move {
            if info == TLS {
                let done = OutboundConnectionUpgrade::upgrade_outbound(self.tls, socket, info).await;
                done.map(|(peer, stream)| (peer, Either::Left(stream))).map_err(io::Error::other)
            } else {
                let done = OutboundConnectionUpgrade::upgrade_outbound(self.noise, socket, info).await;
                done.map(|(peer, stream)| (peer, Either::Right(stream))).map_err(io::Error::other)
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::core::Endpoint;
    use libp2p::core::transport::PortUse;
    use libp2p::core::transport::dummy::DummyTransport;

    fn guard(allow_private: bool, quic_hosts: &[&str]) -> Guard {
        let quic_hosts = quic_hosts.iter().map(|host| host.parse().unwrap()).collect();
        Guard { inner: DummyTransport::new().boxed(), egress: EgressPolicy { allow_private }, quic_hosts }
    }

    fn dial(guard: &mut Guard, address: &str) -> TransportError<io::Error> {
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        guard.dial(address.parse().unwrap(), options).map(drop).unwrap_err()
    }

    fn is_refused(error: &TransportError<io::Error>) -> bool {
        matches!(error, TransportError::Other(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn a_stranger_cannot_send_us_to_the_operators_network() {
        let mut strict = guard(false, &["0.0.0.0"]);
        for address in ["/ip4/127.0.0.1/tcp/80", "/ip4/10.0.0.1/udp/1/quic-v1", "/ip6/::ffff:192.168.0.1/tcp/1"] {
            assert!(is_refused(&dial(&mut strict, address)), "{address}");
        }
        assert!(!is_refused(&dial(&mut strict, "/ip4/1.1.1.1/tcp/4001")));
        assert!(!is_refused(&dial(&mut guard(true, &[]), "/ip4/127.0.0.1/tcp/80")));
    }

    #[test]
    fn quic_is_dialled_from_a_bound_socket_only() {
        for (hosts, target, expected) in [
            (&[][..], "1.1.1.1", false),
            (&["127.0.0.1"], "127.0.0.1", true),
            (&["0.0.0.0"], "127.0.0.1", true),
            (&["192.0.2.7"], "127.0.0.1", false),
            (&["0.0.0.0"], "2606:4700::1111", false),
            (&["::"], "2606:4700::1111", true),
        ] {
            assert_eq!(guard(true, hosts).has_quic_for(target.parse().unwrap()), expected, "{hosts:?} to {target}");
        }
    }
}
