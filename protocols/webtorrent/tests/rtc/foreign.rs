//! A peer that is not ours, made with the library directly, and does what ours never does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use rtc::ice::mdns::MulticastDnsMode;
use swarmgate_webtorrent::rtc::{RtcManager, RtcStream};
use tokio::io::AsyncReadExt as _;
use tokio::sync::SetOnce;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState, RTCSessionDescription,
    SettingEngineBuilder,
};

use crate::kit::{KIB, PATIENCE, eventually, shared_port, start};

struct Gathered(Arc<SetOnce<()>>);

#[async_trait]
impl PeerConnectionEventHandler for Gathered {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.0.set(());
        }
    }
}

struct Foreign {
    peer: Box<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
}

/// Offers a channel to a manager of ours, and waits until it is open.
async fn connect(manager: &RtcManager) -> (Foreign, RtcStream) {
    let gathered = Arc::new(SetOnce::new());
    let settings = SettingEngineBuilder::new()
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_include_loopback_candidate(true)
        .with_sctp_max_message_size(rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize::Unbounded);
    let builder = PeerConnectionBuilder::new()
        .with_setting_engine(settings.build())
        .with_handler(Arc::new(Gathered(Arc::clone(&gathered))))
        .with_udp_addrs(vec!["127.0.0.1:0"]);
    let peer = Box::new(builder.build().await.unwrap());
    let channel = peer.create_data_channel("a label of theirs", None).await.unwrap();
    peer.set_local_description(peer.create_offer(None).await.unwrap()).await.unwrap();
    gathered.wait().await;
    let offer = peer.local_description().await.unwrap();
    let answered = manager.answer(&offer.sdp).await.unwrap();
    // It is told that we take larger messages than we do.
    let answer = answered.sdp().replace("max-message-size:65536", "max-message-size:262144");
    peer.set_remote_description(RTCSessionDescription::answer(answer).unwrap()).await.unwrap();
    let stream = answered.open().await.unwrap();
    while !matches!(channel.poll().await, Some(DataChannelEvent::OnOpen)) {}
    (Foreign { peer, channel }, stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_any_size_that_is_allowed_are_one_stream() {
    let manager = start(shared_port());
    let (foreign, mut stream) = connect(&manager).await;
    for size in [0, 1, 17, 16 * KIB, 64 * KIB] {
        foreign.channel.send(BytesMut::from(&vec![size.to_le_bytes()[0]; size][..])).await.unwrap();
    }
    let mut got = vec![0; 18 + 80 * KIB];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(got[..18], [&[1][..], &[17; 17]].concat());
    assert!(got[18..].iter().all(|byte| *byte == 0));
    foreign.peer.close().await.unwrap();
    manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_messages_that_are_too_long_end_the_connection() {
    let manager = start(shared_port());
    for text in [true, false] {
        let (foreign, mut stream) = connect(&manager).await;
        if text {
            foreign.channel.send_text("hello").await.unwrap();
        } else {
            foreign.channel.send(BytesMut::from(&vec![0; 64 * KIB + 1][..])).await.unwrap();
        }
        let error = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        eventually("it is closed", || manager.stats().connections == 0).await;
        foreign.peer.close().await.unwrap();
    }
    manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_channel_is_closed_and_a_crowd_of_them_ends_the_connection() {
    let manager = start(shared_port());
    let (foreign, mut stream) = connect(&manager).await;
    let second = foreign.peer.create_data_channel("second", None).await.unwrap();
    let closed = async { while !matches!(second.poll().await, Some(DataChannelEvent::OnClose) | None) {} };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    foreign.channel.send(BytesMut::from(&b"still here"[..])).await.unwrap();
    let mut got = [0; 10];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(&got, b"still here");

    let mut crowd = Vec::new();
    for number in 0..8 {
        crowd.push(foreign.peer.create_data_channel(&number.to_string(), None).await.unwrap());
    }
    eventually("it is closed", || manager.stats().connections == 0).await;
    assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
    foreign.peer.close().await.unwrap();
    manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_closes_its_channel_ends_the_stream_cleanly() {
    let manager = start(shared_port());
    let (foreign, mut stream) = connect(&manager).await;
    foreign.channel.send(BytesMut::from(&b"bye"[..])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    foreign.channel.close().await.unwrap();
    let mut got = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, b"bye");
    foreign.peer.close().await.unwrap();
    manager.shutdown().await;
}
