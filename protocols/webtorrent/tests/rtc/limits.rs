//! Everything that strangers can multiply has an end.

use std::time::Duration;

use swarmgate_webtorrent::rtc::{RtcError, RtcManager, RtcOptions};
use swarmgate_webtorrent_proto::sdp::{MAX_SDP_BYTES, SdpError};

use crate::kit::{eventually, open, own_sockets, shared_port, start};

#[tokio::test(flavor = "multi_thread")]
async fn the_forty_first_offer_is_refused_until_another_is_dropped() {
    let manager = start(shared_port());
    let mut offers = Vec::new();
    for _ in 0..40 {
        offers.push(manager.offer().await.unwrap());
    }
    assert!(matches!(manager.offer().await, Err(RtcError::TooManyOffers(40))));
    assert_eq!(manager.stats().pending_offers, 40);
    offers.pop();
    eventually("an offer is closed", || manager.stats().pending_offers < 40).await;
    drop(manager.offer().await.unwrap());
    manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_hundred_and_first_connection_is_refused_in_both_roles() {
    let (hub, other) = (start(shared_port()), start(own_sockets()));
    let offer = other.offer().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..200 {
        answers.push(hub.answer(offer.sdp()).await.unwrap());
    }
    assert!(matches!(hub.answer(offer.sdp()).await, Err(RtcError::TooManyConnections(200))));
    let own = hub.offer().await.unwrap();
    let answer = other.answer(own.sdp()).await.unwrap();
    assert!(matches!(own.accept_answer(answer.sdp()).await, Err(RtcError::TooManyConnections(200))));
    drop(answers);
    eventually("they are closed", || hub.stats().connections == 0).await;
    hub.shutdown().await;
    other.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_answered_in_its_life_or_never() {
    let a = start(RtcOptions { offer_life: Duration::from_millis(100), ..shared_port() });
    let b = start(shared_port());
    let offer = a.offer().await.unwrap();
    let answer = b.answer(offer.sdp()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(matches!(offer.accept_answer(answer.sdp()).await, Err(RtcError::OfferExpired(_))));
    eventually("the offer is closed", || a.stats().pending_offers == 0).await;
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_dials_is_given_up_in_time() {
    let impatient = RtcOptions { connect_timeout: Duration::from_millis(300), ..shared_port() };
    let (a, b) = (start(impatient), start(own_sockets()));
    let offer = b.offer().await.unwrap();
    let answered = a.answer(offer.sdp()).await.unwrap();
    assert!(matches!(answered.open().await, Err(RtcError::Timeout(_))));
    eventually("its connection is closed", || a.stats().connections == 0).await;
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_begin_no_faster_than_allowed() {
    let slow = RtcOptions { new_connections_per_second: 2, ..shared_port() };
    let (hub, other) = (start(slow), start(own_sockets()));
    let offer = other.offer().await.unwrap();
    let answer = || async { hub.answer(offer.sdp()).await };
    let attempts = futures_util::future::join_all((0..12).map(|_| answer())).await;
    let refused = attempts.iter().filter(|attempt| matches!(attempt, Err(RtcError::TooFast))).count();
    // Two at once, and as many as get their turn within two seconds.
    assert_eq!(refused, 12 - 2 - 4);
    hub.shutdown().await;
    other.shutdown().await;
}

async fn refusal(manager: &RtcManager, offer: &str) -> SdpError {
    match manager.answer(offer).await {
        Err(RtcError::Sdp(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_description_is_refused_before_anything_is_made() {
    let (a, b) = (start(shared_port()), start(shared_port()));
    let offer = a.offer().await.unwrap();
    let long = format!("{}{}", offer.sdp(), "a=x\r\n".repeat(MAX_SDP_BYTES / 5));
    assert_eq!(refusal(&b, &long).await, SdpError::TooLong);
    assert_eq!(refusal(&b, "").await, SdpError::NotOneDataChannel);
    for cut in (0..offer.sdp().len()).step_by(7) {
        let Ok(answer) = b.answer(&offer.sdp()[..cut]).await else { continue };
        drop(answer);
    }
    eventually("nothing is left of them", || b.stats().connections == 0).await;
    // Both are whole after that.
    drop(offer);
    drop(open(&a, &b).await);
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_needs_an_address_that_can_be_dialled() {
    let nowhere = RtcOptions { sockets: Vec::new(), ..shared_port() };
    assert!(matches!(RtcManager::start(nowhere), Err(RtcError::NoAddress)));
    let anywhere = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let wildcard = RtcOptions { sockets: vec![anywhere], ..shared_port() };
    assert!(matches!(RtcManager::start(wildcard), Err(RtcError::Wildcard(_))));
}
