//! Descriptions as browsers and others write them, and as they should not.

use super::*;

/// Where nobody may send us: a cloud's metadata service.
const FORBIDDEN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254));

/// The shape of what Chromium writes for one data channel, with addresses of ours.
const BROWSER_OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
    c=IN IP4 0.0.0.0\r\n\
    a=candidate:2999745851 1 udp 2113937151 6c9d4f3e-0b1a-4d55-8d3e-3a5b5d0c1e77.local 51234 typ host generation 0\r\n\
    a=candidate:1 1 udp 2113937150 192.168.1.20 51235 typ host generation 0 network-cost 999\r\n\
    a=candidate:842163049 1 UDP 1677729535 1.2.3.4 51236 typ srflx raddr 0.0.0.0 rport 0 generation 0\r\n\
    a=candidate:3 1 tcp 1518280447 1.2.3.4 9 typ host tcptype active generation 0\r\n\
    a=ice-ufrag:sXJ3\r\na=ice-pwd:yEclOTrLg1gEubBFefOqtmyV\r\na=ice-options:trickle\r\n\
    a=fingerprint:sha-256 22:14:B5:AF:66:12:C7:C7:8D:EF:4B:DE:40:25:ED:5D:8F:17:54:DD:88:33:C0:13:2E:FD:1A:FA:7E:7A:1B:79\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

fn read(text: &str) -> Result<RemoteDescription, SdpError> {
    RemoteDescription::parse(text, Role::Offer, |ip| ip != FORBIDDEN)
}

fn addresses(remote: &RemoteDescription) -> Vec<String> {
    remote.candidates().iter().map(|candidate| candidate.address.to_string()).collect()
}

#[test]
fn a_browsers_offer_is_read_and_its_names_and_tcp_are_set_aside() {
    let remote = read(BROWSER_OFFER).unwrap();
    assert_eq!(addresses(&remote), ["192.168.1.20:51235", "1.2.3.4:51236"]);
    assert_eq!((remote.set_aside(), remote.max_message_bytes()), (2, MAX_MESSAGE_BYTES));
    assert_eq!(remote.password(), "yEclOTrLg1gEubBFefOqtmyV");
}

#[test]
fn the_guard_strips_what_strangers_may_not_send_us_to() {
    let offer = BROWSER_OFFER.replace("1.2.3.4 51236", "169.254.169.254 51236");
    let strict = RemoteDescription::parse(&offer, Role::Offer, |_| false).unwrap();
    assert_eq!(addresses(&strict), [""; 0]);
    assert_eq!(addresses(&read(&offer).unwrap()), ["192.168.1.20:51235"]);
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let remote = read(BROWSER_OFFER).unwrap();
    let again = read(&remote.to_sdp()).unwrap();
    assert_eq!(again, RemoteDescription { set_aside: 0, ..remote });
}

#[test]
fn nothing_of_the_strangers_text_reaches_the_library_but_what_was_checked() {
    let offer = BROWSER_OFFER.replace("a=msid-semantic: WMS", "a=evil:\u{0} %n\r\nb=AS:99999999999999999999999");
    assert_eq!(read(&offer).unwrap().to_sdp(), read(BROWSER_OFFER).unwrap().to_sdp());
}

#[test]
fn each_missing_part_is_named() {
    for (line, error) in [
        ("a=ice-ufrag:", SdpError::Missing("ice-ufrag")),
        ("a=ice-pwd:", SdpError::Missing("ice-pwd")),
        ("a=fingerprint:", SdpError::Missing("fingerprint")),
        ("a=setup:", SdpError::Missing("setup")),
        ("a=mid:", SdpError::Missing("mid")),
        ("m=", SdpError::NotOneDataChannel),
    ] {
        let without: Vec<&str> = BROWSER_OFFER.lines().filter(|text| !text.starts_with(line)).collect();
        assert_eq!(read(&without.join("\n")), Err(error), "without {line}");
    }
}

#[test]
fn each_malformed_part_is_named() {
    for (good, bad, error) in [
        ("a=ice-ufrag:sXJ3", "a=ice-ufrag:s:J3", SdpError::Malformed("ice-ufrag")),
        ("a=ice-ufrag:sXJ3", "a=ice-ufrag:sXJ", SdpError::Malformed("ice-ufrag")),
        ("a=ice-pwd:yEcl", "a=ice-pwd:\u{e9}", SdpError::Malformed("ice-pwd")),
        ("a=setup:actpass", "a=setup:holdconn", SdpError::Malformed("setup")),
        ("a=mid:0", "a=mid:0 0", SdpError::Malformed("mid")),
        ("a=sctp-port:5000", "a=sctp-port:70000", SdpError::Malformed("sctp-port")),
        ("size:262144", "size:1", SdpError::Malformed("max-message-size")),
        ("size:262144", "size:-1", SdpError::Malformed("max-message-size")),
        ("sha-256 22", "sha-256 2", SdpError::Missing("fingerprint")),
        ("sha-256 22", "md5 22", SdpError::Missing("fingerprint")),
        ("m=application 9", "m=application 0", SdpError::NotOneDataChannel),
        ("m=application 9", "m=audio 9", SdpError::NotOneDataChannel),
    ] {
        assert_eq!(read(&BROWSER_OFFER.replace(good, bad)), Err(error), "{bad}");
    }
}

#[test]
fn an_answer_has_to_say_who_begins() {
    let answer = |text: &str| RemoteDescription::parse(text, Role::Answer, |_| true).map(|remote| remote.role());
    assert_eq!(answer(BROWSER_OFFER), Err(SdpError::Malformed("setup")));
    assert_eq!(answer(&BROWSER_OFFER.replace("actpass", "active")), Ok(Role::Answer));
}

#[test]
fn a_second_section_is_not_ours_to_answer() {
    let offer = format!("{BROWSER_OFFER}m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n");
    assert_eq!(read(&offer), Err(SdpError::NotOneDataChannel));
}

#[test]
fn length_and_number_of_candidates_are_bounded() {
    let line = |port: usize| format!("a=candidate:1 1 udp 1 1.2.3.4 {port} typ host\r\n");
    let many: String = (1..=100).map(line).collect();
    let offer = format!("{BROWSER_OFFER}{many}");
    let remote = read(&offer).unwrap();
    assert_eq!(remote.candidates().len() + 2, MAX_CANDIDATES, "two of the first lines are not candidates for us");
    assert_eq!(remote.set_aside(), 104 - remote.candidates().len());
    assert_eq!(read(&"a".repeat(MAX_SDP_BYTES + 1)), Err(SdpError::TooLong));
}

#[test]
fn the_remotes_largest_message_is_kept_within_ours() {
    for (said, kept) in [("16384", 16384), ("0", MAX_MESSAGE_BYTES), ("1073741823", MAX_MESSAGE_BYTES)] {
        let remote = read(&BROWSER_OFFER.replace("size:262144", &format!("size:{said}"))).unwrap();
        assert_eq!(remote.max_message_bytes(), kept);
    }
}

#[test]
fn our_description_names_the_shared_port_and_the_outside_address() {
    let ours = "v=0\r\na=candidate:1 1 udp 1 10.0.0.5 40001 typ host\r\n\
        a=candidate:1 2 udp 1 10.0.0.5 40001 typ host\r\n\
        a=candidate:2 1 udp 1 9.9.9.9 555 typ srflx raddr 10.0.0.5 rport 40001\r\na=max-message-size:262144\r\n";
    let is_public = |ip: IpAddr| ip.to_string().starts_with("9.");
    let shared = [("10.0.0.5:40001".parse().unwrap(), "10.0.0.5:6881".parse().unwrap())];
    assert_eq!(
        publish(ours, &shared, None, is_public),
        "v=0\r\na=candidate:1 1 udp 1 10.0.0.5 6881 typ host\r\n\
         a=candidate:2 1 udp 1 9.9.9.9 555 typ srflx raddr 10.0.0.5 rport 6881\r\na=max-message-size:65536\r\n"
    );
    let outside = publish(ours, &shared, Some("5.6.7.8".parse().unwrap()), is_public);
    assert!(outside.contains("a=candidate:1 1 udp 1 5.6.7.8 6881 typ host\r\n"), "{outside}");
    assert!(!outside.contains("10.0.0.5"), "{outside}");
}

proptest::proptest! {
    #[test]
    fn whatever_comes_is_refused_or_written_so_that_it_is_read_again(
        text in "((v=0|a=ice-ufrag:[ -~]{0,8}|a=candidate:[ -~]{0,40}|m=application 9 UDP/DTLS/SCTP webrtc-datachannel\
            |a=mid:[ -~]{1,4}|a=fingerprint:[ -~]{0,20}|[ -~\u{0}\u{e9}]{0,20})\r?\n){0,20}"
    ) {
        for whole in [text.clone(), format!("{BROWSER_OFFER}{text}")] {
            if let Ok(remote) = read(&whole) {
                let again = read(&remote.to_sdp()).unwrap();
                proptest::prop_assert_eq!(again.candidates(), remote.candidates());
            }
        }
    }
}
