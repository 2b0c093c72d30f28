//! One connection from the first description to its end, and the guard that owns it.
//!
//! The library leaks a connection that is dropped without being closed: its task, its socket and its memory stay for
//! ever. Here nobody holds a connection but an [`Owner`], and dropping that closes it. A connection that failed is
//! closed by itself as well, since it would keep its socket until then.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use swarmgate_egress::is_public;
use swarmgate_webtorrent_proto::routes::PeerKey;
use swarmgate_webtorrent_proto::sdp::{LIBRARY_MESSAGE_BYTES, RemoteDescription, Role, publish};
use tokio::sync::SetOnce;
use webrtc::data_channel::DataChannel;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfiguration, RTCConfigurationBuilder,
    RTCIceCandidateType, RTCIceGatheringState, RTCIceServer, RTCPeerConnectionState, RTCSessionDescription,
    SettingEngine, SettingEngineBuilder,
};
use webrtc::runtime::Runtime;

use super::error::RtcError;
use super::lane::Lane;
use super::manager::Shared;
use super::options::RtcOptions;

/// How long a closing connection may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Channels beyond the first that a peer may open; each is closed, and the connection with one more.
const MAX_EXTRA_CHANNELS: usize = 4;
/// What our channel is called. Nobody reads it.
const LABEL: &str = "webtorrent";

/// What a connection knows of itself.
pub(crate) struct Connection {
    pub(crate) key: PeerKey,
    pub(crate) lane: Arc<Lane>,
    pub(crate) shared: Arc<Shared>,
    credentials: Credentials,
    peer: Mutex<Peer>,
    gathered: SetOnce<()>,
    /// The channel that the peer opened.
    channel: SetOnce<Channel>,
    extra_channels: Mutex<usize>,
    /// It is to be closed, or is closed already.
    retired: AtomicBool,
    /// It broke off, rather than being closed by us.
    failed: AtomicBool,
}

/// The username fragment and password that a connection is reached with.
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) password: String,
}

/// The library's connection.
#[derive(Default)]
enum Peer {
    /// Not made yet.
    #[default]
    Absent,
    /// There it is.
    Built(Arc<dyn PeerConnection>),
    /// Closed, or never to be made.
    Gone,
}

/// A data channel, which has no other name than this.
#[derive(Clone)]
pub(crate) struct Channel(pub(crate) Arc<dyn DataChannel>);

/// The one that a connection belongs to. Dropping it closes the connection and frees all that it held.
pub(crate) struct Owner(Arc<Connection>);

impl Owner {
    pub(crate) const fn new(connection: Arc<Connection>) -> Self {
        Self(connection)
    }
}

impl std::ops::Deref for Owner {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.retire();
    }
}

fn library<T>(what: &'static str, outcome: webrtc::error::Result<T>) -> Result<T, RtcError> {
    outcome.map_err(|error| RtcError::Library { what, text: error.to_string() })
}

/// Calls the library with what a stranger had a part in: a panic there is an error here.
async fn contained<T>(what: &'static str, call: impl Future<Output = webrtc::error::Result<T>>) -> Result<T, RtcError> {
    let outcome = AssertUnwindSafe(call).catch_unwind().await;
    outcome.map_or_else(|_| Err(RtcError::Library { what, text: "it panicked".to_owned() }), |out| library(what, out))
}

impl Connection {
    pub(crate) fn new(key: PeerKey, lane: Arc<Lane>, shared: Arc<Shared>, credentials: Credentials) -> Self {
        Self {
            key,
            lane,
            shared,
            credentials,
            peer: Mutex::default(),
            gathered: SetOnce::new(),
            channel: SetOnce::new(),
            extra_channels: Mutex::new(0),
            retired: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    fn peer(&self) -> Result<Arc<dyn PeerConnection>, RtcError> {
        match &*self.peer.lock() {
            Peer::Built(peer) => Ok(Arc::clone(peer)),
            Peer::Absent | Peer::Gone => Err(RtcError::Failed),
        }
    }

    /// Has the library make its connection, on sockets that this connection's lane chooses.
    pub(crate) async fn build(self: &Arc<Self>) -> Result<(), RtcError> {
        let options = &self.shared.options;
        let peer = PeerConnectionBuilder::new()
            .with_configuration(configuration(options))
            .with_setting_engine(self.settings())
            .with_runtime(Arc::clone(&self.lane) as Arc<dyn Runtime>)
            .with_handler(Arc::new(Listener(Arc::downgrade(self))))
            .with_udp_addrs(self.shared.addresses.clone())
            .with_data_channel_send_buffer_limit(options.send_buffer_bytes)
            .build();
        let peer: Arc<dyn PeerConnection> = Arc::new(library("start a connection", peer.await)?);
        if !self.keep(&peer) {
            say_goodbye(&*peer).await;
            return Err(RtcError::Failed);
        }
        self.shared.tasks.spawn_on(Arc::clone(self).watch(), &self.shared.runtime);
        Ok(())
    }

    /// Whether it is still wanted: it may have been closed while it was made.
    fn keep(&self, built: &Arc<dyn PeerConnection>) -> bool {
        let mut peer = self.peer.lock();
        let wanted = matches!(*peer, Peer::Absent);
        if wanted {
            *peer = Peer::Built(Arc::clone(built));
        }
        wanted
    }

    fn settings(&self) -> SettingEngine {
        let largest = u32::try_from(LIBRARY_MESSAGE_BYTES).unwrap_or(u32::MAX);
        SettingEngineBuilder::new()
            .with_ice_credentials(self.credentials.ufrag.clone(), self.credentials.password.clone())
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_include_loopback_candidate(true)
            .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(largest))
            .with_sctp_max_receive_buffer_size(self.shared.options.receive_window_bytes)
            .build()
    }

    /// A driver that has ended leaves a connection that does nothing.
    async fn watch(self: Arc<Self>) {
        self.lane.ended().cancelled().await;
        self.fail();
    }

    /// Opens our channel and describes this end.
    pub(crate) async fn describe_offer(&self) -> Result<(String, Channel), RtcError> {
        let peer = self.peer()?;
        let channel = library("open a channel", peer.create_data_channel(LABEL, None).await)?;
        let offer = library("make an offer", peer.create_offer(None).await)?;
        Ok((self.describe(&*peer, offer).await?, Channel(channel)))
    }

    /// Describes this end in answer to an offer.
    pub(crate) async fn describe_answer(&self, offer: &RemoteDescription) -> Result<String, RtcError> {
        self.take(offer).await?;
        let peer = self.peer()?;
        let answer = contained("answer an offer", peer.create_answer(None)).await?;
        self.describe(&*peer, answer).await
    }

    async fn describe(
        &self,
        peer: &dyn PeerConnection,
        description: RTCSessionDescription,
    ) -> Result<String, RtcError> {
        contained("use its own description", peer.set_local_description(description)).await?;
        // What is not found by then is not told: there is no second message.
        let _ = tokio::time::timeout(self.shared.options.gather_timeout, self.gathered.wait()).await;
        let complete = peer.local_description().await.ok_or(RtcError::Failed)?;
        Ok(publish(&complete.sdp, &self.lane.aliases(), self.shared.options.external_ip, is_public))
    }

    /// Takes the other side's description.
    pub(crate) async fn take(&self, remote: &RemoteDescription) -> Result<(), RtcError> {
        for door in self.lane.doors() {
            let addresses = remote.candidates().iter().map(|candidate| candidate.address);
            door.mux.expect(self.key, remote.password(), addresses);
        }
        let what = "use the other side's description";
        let description = match remote.role() {
            Role::Offer => RTCSessionDescription::offer(remote.to_sdp()),
            Role::Answer => RTCSessionDescription::answer(remote.to_sdp()),
        };
        let peer = self.peer()?;
        contained(what, peer.set_remote_description(library(what, description)?)).await
    }

    /// Waits for the channel that the peer opens.
    pub(crate) async fn accepted(&self) -> Result<Channel, RtcError> {
        tokio::select! {
            channel = self.channel.wait() => Ok(channel.clone()),
            () = self.lane.ended().cancelled() => Err(RtcError::Failed),
        }
    }

    /// The peer's address and whether a relay is between, once there is a pair of addresses that works.
    pub(crate) async fn way(&self) -> Option<(SocketAddr, bool)> {
        let transport = self.peer().ok()?.sctp().await?.transport().ice_transport();
        let pair = transport.get_selected_candidate_pair().await.ok()??;
        let remote = pair.remote();
        let relayed = [pair.local(), remote].iter().any(|end| end.typ == RTCIceCandidateType::Relay);
        Some((SocketAddr::new(remote.address.parse().ok()?, remote.port), relayed))
    }

    /// Whether it broke off by itself.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn fail(self: &Arc<Self>) {
        if !self.retired.load(Ordering::Acquire) {
            self.failed.store(true, Ordering::Release);
        }
        self.retire();
    }

    /// Closes it in a task of the manager; a second call does nothing. Its addresses on shared sockets are free for another
    /// at once: nothing that comes is for it any more.
    pub(crate) fn retire(self: &Arc<Self>) {
        if !self.retired.swap(true, Ordering::AcqRel) {
            for door in self.lane.doors() {
                door.mux.unregister(self.key);
            }
            self.shared.tasks.spawn_on(Arc::clone(self).close(), &self.shared.runtime);
        }
    }

    async fn close(self: Arc<Self>) {
        // A hurried lane would not leave the driver the time to send the goodbye.
        self.lane.set_hurried(false);
        let peer = std::mem::replace(&mut *self.peer.lock(), Peer::Gone);
        if let Peer::Built(peer) = peer {
            say_goodbye(&*peer).await;
        }
        self.lane.ended().cancel();
        self.shared.forget(self.key);
    }
}

async fn say_goodbye(peer: &dyn PeerConnection) {
    let close = tokio::time::timeout(CLOSE_TIMEOUT, peer.close());
    // Whether it went well or not, it is gone now.
    let _ = AssertUnwindSafe(close).catch_unwind().await;
}

fn configuration(options: &RtcOptions) -> RTCConfiguration {
    let stun = RTCIceServer { urls: options.stun.clone(), ..RTCIceServer::default() };
    let turn = options.turn.iter().map(|server| RTCIceServer {
        urls: vec![server.url.clone()],
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    let servers = Some(stun).filter(|stun| !stun.urls.is_empty()).into_iter().chain(turn).collect();
    RTCConfigurationBuilder::default().with_ice_servers(servers).build()
}

/// Hears what the library has to say of a connection. It does not keep the connection alive.
struct Listener(Weak<Connection>);

#[async_trait]
impl PeerConnectionEventHandler for Listener {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if let (Some(connection), RTCIceGatheringState::Complete) = (self.0.upgrade(), state) {
            let _ = connection.gathered.set(());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let over = matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed);
        if let (Some(connection), true) = (self.0.upgrade(), over) {
            connection.fail();
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let Some(connection) = self.0.upgrade() else { return };
        if connection.shared.is_offerer(connection.key)
            || connection.channel.set(Channel(Arc::clone(&channel))).is_err()
        {
            connection.refuse(&*channel).await;
        }
    }
}

impl Connection {
    /// One channel is what a connection is for.
    async fn refuse(self: &Arc<Self>, channel: &dyn DataChannel) {
        // It may be closed already.
        let _ = channel.close().await;
        let count = {
            let mut count = self.extra_channels.lock();
            *count += 1;
            *count
        };
        if count > MAX_EXTRA_CHANNELS {
            self.fail();
        }
    }
}
