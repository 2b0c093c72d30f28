//! How a stream to a peer is made: over TCP, and over uTP when TCP is late or refused; encrypted, and plainly when the
//! peer does not know that. Whichever is through with both handshakes first is the peer; the other never was one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use swarmgate_bittorrent_proto::handshake::Handshake;
use swarmgate_bittorrent_proto::mse::Methods;
use swarmgate_content::InfoHash;
use swarmgate_swarm::greeting::{HandshakeError, check_handshake, read_handshake, within, write_handshake};
use tokio::io::AsyncWriteExt;

use crate::dialer::DialLimits;
use crate::obfuscated::{Encryption, Obfuscated, initiate};
use crate::peer_stream::{Carrier, PeerStream};
use crate::route::Route;
use crate::utp::UtpPort;

/// How far TCP is ahead of uTP. A round trip across the world is shorter, so who has both is reached over TCP.
const TCP_HEAD_START: Duration = Duration::from_millis(300);
/// How long uTP may still take when TCP has failed: time for a round trip across the world and back. Most who refuse TCP
/// are gone, and whoever waits should hear of that.
const UTP_GRACE: Duration = Duration::from_millis(700);
/// Addresses remembered that know no encryption; forgotten all at once, since each costs one refused attempt.
const MAX_PLAIN: usize = 4096;

/// The ways to peers of one application.
#[derive(Debug, Default)]
pub struct Outbound {
    route: Route,
    encryption: Encryption,
    utp: Option<UtpPort>,
    /// Addresses that refused to encrypt.
    plain: Mutex<BTreeSet<SocketAddr>>,
}

/// What a peer is told, and for what it may answer.
#[derive(Debug, Clone, Copy)]
pub struct Greeting {
    /// Our handshake: the torrent and our id.
    pub ours: Handshake,
    /// Another infohash of the same torrent, for which the peer may answer (BEP 52).
    pub upgrade: Option<InfoHash>,
}

/// One way to a peer.
#[derive(Debug, Clone, Copy)]
enum Way<'a> {
    Tcp(&'a Route),
    Utp(&'a UtpPort),
}

/// Why one way failed, and so whether another is worth trying.
#[derive(Debug)]
enum Failed {
    /// Nobody is there, or somebody who closes without a word, as those do who take no TCP.
    Unreached(HandshakeError),
    /// Somebody is, and is not our peer.
    Unsuitable(HandshakeError),
}

impl Outbound {
    /// Ways by TCP through `route`, and by uTP when there is a port. uTP knows no proxy and no outlet: with a proxy there
    /// is none, and with an outlet its socket has to be held to it.
    #[must_use]
    pub fn new(route: Route, encryption: Encryption, utp: Option<UtpPort>) -> Self {
        let utp = utp.filter(|_| route.proxy.is_none());
        Self { route, encryption, utp, plain: Mutex::default() }
    }

    /// Makes a stream to a peer, both handshakes included.
    ///
    /// # Errors
    /// [`HandshakeError`]: that of TCP, where both ways failed.
    pub async fn connect(
        &self,
        address: SocketAddr,
        greeting: &Greeting,
        limits: &DialLimits,
    ) -> Result<PeerStream, HandshakeError> {
        let tcp = self.greet(Way::Tcp(&self.route), address, greeting, limits);
        let Some(port) = self.utp.as_ref().filter(|port| port.reaches(&address)) else {
            return tcp.await.map_err(Failed::into_inner);
        };
        race(tcp, self.greet(Way::Utp(port), address, greeting, limits)).await
    }

    /// Makes a stream to a peer that makes one to us at the same time (BEP 55): by uTP alone, since a box that lets the
    /// answer to a packet in is all that is in between.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub async fn punch(
        &self,
        address: SocketAddr,
        greeting: &Greeting,
        limits: &DialLimits,
    ) -> Result<PeerStream, HandshakeError> {
        let port = self.utp.as_ref().filter(|port| port.reaches(&address));
        let port = port.ok_or(HandshakeError::Io(std::io::ErrorKind::Unsupported))?;
        self.greet(Way::Utp(port), address, greeting, limits).await.map_err(Failed::into_inner)
    }

    /// Opens a carrier and exchanges handshakes: encrypted first where that is wanted, and plainly once where it may be.
    async fn greet(
        &self,
        way: Way<'_>,
        address: SocketAddr,
        greeting: &Greeting,
        limits: &DialLimits,
    ) -> Result<PeerStream, Failed> {
        let limit = limits.connect_timeout_for(address.ip());
        let open = || async move { within(limit, way.open(address)).await.map_err(Failed::Unreached) };
        let known_plain = self.encryption == Encryption::Prefer && self.plain.lock().contains(&address);
        if let Some(methods) = self.encryption.methods().filter(|_| !known_plain) {
            let carrier = open().await?;
            match within(limits.handshake_timeout, encrypted(carrier, &greeting.ours, methods)).await {
                Ok(met) => return suitable(address, greeting, met),
                Err(error) if self.encryption == Encryption::Require || !may_be_plain(&error) => {
                    return Err(Failed::of(error));
                }
                Err(error) => tracing::debug!(peer = %address, %error, "not encrypted, so plainly"),
            }
        }
        let carrier = open().await?;
        let met = within(limits.handshake_timeout, plain(carrier, &greeting.ours)).await.map_err(Failed::of)?;
        if self.encryption == Encryption::Prefer {
            self.remember_plain(address);
        }
        suitable(address, greeting, met)
    }

    fn remember_plain(&self, address: SocketAddr) {
        let mut plain = self.plain.lock();
        if plain.len() >= MAX_PLAIN {
            plain.clear();
        }
        plain.insert(address);
    }
}

impl Way<'_> {
    async fn open(self, address: SocketAddr) -> Result<Carrier, HandshakeError> {
        Ok(match self {
            Self::Tcp(route) => Carrier::Tcp(route.connect(address).await?),
            Self::Utp(port) => Carrier::Utp(port.connect(address).await?),
        })
    }
}

impl Failed {
    const fn of(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Io(_) => Self::Unreached(error),
            HandshakeError::Timeout(_)
            | HandshakeError::NotBitTorrent
            | HandshakeError::OtherTorrent
            | HandshakeError::Ourselves
            | HandshakeError::TurnedAway(_) => Self::Unsuitable(error),
        }
    }

    fn into_inner(self) -> HandshakeError {
        match self {
            Self::Unreached(error) | Self::Unsuitable(error) => error,
        }
    }
}

/// A peer that knows no encryption closes, or answers with something else. One that says nothing would say nothing again.
const fn may_be_plain(error: &HandshakeError) -> bool {
    match error {
        HandshakeError::Io(_) | HandshakeError::NotBitTorrent => true,
        HandshakeError::Timeout(_)
        | HandshakeError::OtherTorrent
        | HandshakeError::Ourselves
        | HandshakeError::TurnedAway(_) => false,
    }
}

type Met = (Obfuscated<Carrier>, Handshake);

async fn encrypted(carrier: Carrier, ours: &Handshake, methods: Methods) -> Result<Met, HandshakeError> {
    let mut stream = initiate(carrier, ours.infohash, methods, ours.encode().to_vec()).await?;
    let theirs = read_handshake(&mut stream).await?;
    Ok((stream, theirs))
}

async fn plain(carrier: Carrier, ours: &Handshake) -> Result<Met, HandshakeError> {
    let mut stream = Obfuscated::plain(carrier, Bytes::new());
    write_handshake(&mut stream, ours).await?;
    stream.flush().await?;
    let theirs = read_handshake(&mut stream).await?;
    Ok((stream, theirs))
}

fn suitable(address: SocketAddr, greeting: &Greeting, met: Met) -> Result<PeerStream, Failed> {
    let (stream, handshake) = met;
    // A peer that would rather speak of the torrent's v2 half answers with that one's name.
    let named = greeting.upgrade.filter(|upgrade| handshake.infohash == *upgrade);
    let expected = Handshake { infohash: named.unwrap_or(greeting.ours.infohash), ..greeting.ours };
    check_handshake(&expected, &handshake).map_err(Failed::Unsuitable)?;
    Ok(PeerStream { stream, address, handshake })
}

/// The first to succeed of two ways, of which the second starts late, or when the first reached nobody.
async fn race<T>(
    first: impl Future<Output = Result<T, Failed>>,
    second: impl Future<Output = Result<T, Failed>>,
) -> Result<T, HandshakeError> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let early = tokio::time::timeout(TCP_HEAD_START, &mut first).await;
    let failed = match early {
        Ok(Ok(won)) => return Ok(won),
        Ok(Err(failed)) => failed,
        Err(_) => tokio::select! {
            biased;
            outcome = &mut first => match outcome {
                Ok(won) => return Ok(won),
                Err(failed) => failed,
            },
            outcome = &mut second => match outcome {
                Ok(won) => return Ok(won),
                Err(_) => return first.await.map_err(Failed::into_inner),
            },
        },
    };
    match failed {
        Failed::Unreached(error) => match tokio::time::timeout(UTP_GRACE, second).await {
            Ok(Ok(won)) => Ok(won),
            Ok(Err(_)) | Err(_) => Err(error),
        },
        Failed::Unsuitable(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
