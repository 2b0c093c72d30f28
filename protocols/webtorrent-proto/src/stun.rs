//! The little of STUN (RFC 8489) that a shared socket must read to know whose a datagram is.
//!
//! A connectivity check names the connection that it is for in USERNAME and proves with MESSAGE-INTEGRITY that its
//! sender has read that connection's description (RFC 8445 §7.2.2). Nothing else of a message is looked at here: the
//! ICE agent behind the socket judges it again, in full.

use aws_lc_rs::hmac;

/// Type, length, magic cookie and transaction id (§5), in bytes.
pub const HEADER_BYTES: usize = 20;
/// Tells STUN from everything else on a port (§5).
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Attribute type of USERNAME (§14.3).
const USERNAME: u16 = 0x0006;
/// Attribute type of MESSAGE-INTEGRITY (§14.5).
const MESSAGE_INTEGRITY: u16 = 0x0008;
/// Attribute type of MESSAGE-INTEGRITY-SHA256 (§14.6).
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
/// Attribute type of XOR-MAPPED-ADDRESS (§14.2).
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Attribute type of FINGERPRINT (§14.7).
const FINGERPRINT: u16 = 0x8028;
/// An XOR-MAPPED-ADDRESS of IPv6, in bytes: the last twelve are masked with the transaction id (§14.2).
const IPV6_MAPPED_BYTES: usize = 20;
/// Type and length of an attribute, in bytes (§14).
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// An HMAC-SHA1, in bytes (§14.5).
const INTEGRITY_BYTES: usize = 20;
/// A USERNAME's longest value, in bytes (§14.3).
const MAX_USERNAME_BYTES: usize = 513;

/// What a request and its response have in common (§5).
pub type TransactionId = [u8; 12];

/// What kind of message it is (§5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wants a response.
    Request,
    /// Wants none.
    Indication,
    /// The response to a request, good or bad.
    Response,
}

/// A STUN message that is well-formed as far as this module reads it.
#[derive(Debug, Clone, Copy)]
pub struct StunMessage<'a> {
    /// Request, indication or response.
    pub class: Class,
    /// Of the request and its response.
    pub transaction: TransactionId,
    /// USERNAME, `theirs:ours` as the sender sees it (RFC 8445 §7.2.2), when there is one before the integrity.
    pub username: Option<&'a str>,
    bytes: &'a [u8],
    /// Where MESSAGE-INTEGRITY's attribute begins.
    integrity_at: Option<usize>,
}

/// Whether a datagram may be STUN, by its first two bits: DTLS begins with 20 to 63 (RFC 7983).
#[must_use]
pub fn looks_like_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4)
}

/// Splits what the kernel joined wherever STUN is among it: each STUN message may be for another connection. DTLS
/// datagrams of one address are for one connection and stay together.
pub fn parcels(bytes: &[u8], stride: usize) -> impl Iterator<Item = &[u8]> {
    let stride = stride.max(1);
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = stride.min(rest.len());
        if !looks_like_stun(rest) {
            while end < rest.len() && !looks_like_stun(&rest[end..]) {
                end = (end + stride).min(rest.len());
            }
        }
        let (parcel, others) = rest.split_at(end);
        rest = others;
        Some(parcel)
    })
}

impl<'a> StunMessage<'a> {
    /// Reads a datagram. `None` is anything that is not exactly one STUN message.
    #[must_use]
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, attributes) = datagram.split_first_chunk::<HEADER_BYTES>()?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let whole = kind >> 14 == 0 && header[4..8] == MAGIC_COOKIE && len == attributes.len() && len % 4 == 0;
        if !whole {
            return None;
        }
        let class = match (kind >> 7 & 0b10) | (kind >> 4 & 0b01) {
            0b00 => Class::Request,
            0b01 => Class::Indication,
            _ => Class::Response,
        };
        let transaction = *header.last_chunk()?;
        let mut message = Self { class, transaction, username: None, bytes: datagram, integrity_at: None };
        message.read_attributes()?;
        Some(message)
    }

    /// Walks the attributes up to MESSAGE-INTEGRITY: what follows it is not protected by it (§14.5).
    fn read_attributes(&mut self) -> Option<()> {
        let mut at = HEADER_BYTES;
        while let Some(header) = self.bytes.get(at..at + ATTRIBUTE_HEADER_BYTES) {
            let kind = u16::from_be_bytes([header[0], header[1]]);
            let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let value_at = at + ATTRIBUTE_HEADER_BYTES;
            let value = self.bytes.get(value_at..value_at + len)?;
            if kind == MESSAGE_INTEGRITY {
                self.integrity_at = (len == INTEGRITY_BYTES).then_some(at);
                return Some(());
            }
            if kind == USERNAME && len <= MAX_USERNAME_BYTES && self.username.is_none() {
                self.username = Some(str::from_utf8(value).ok()?);
            }
            at = value_at + len.next_multiple_of(4);
        }
        Some(())
    }

    /// The first half of USERNAME: whom the sender of a request wants.
    #[must_use]
    pub fn wanted(&self) -> Option<&'a str> {
        self.username?.split_once(':').map(|(wanted, _)| wanted)
    }

    /// Whether MESSAGE-INTEGRITY is there and was made with this password (short-term credentials, §9.1).
    #[must_use]
    pub fn is_signed_with(&self, password: &str) -> bool {
        self.signature(password).is_some()
    }

    /// The same message under another transaction id. An IPv6 address in XOR-MAPPED-ADDRESS, which is masked with the id,
    /// stays the same address. What speaks for the bytes as they were, integrity and fingerprint, is left out with all
    /// that follows it.
    #[must_use]
    pub fn renamed(&self, id: TransactionId) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        let mut at = HEADER_BYTES;
        while let Some(header) = self.bytes.get(at..at + ATTRIBUTE_HEADER_BYTES) {
            let kind = u16::from_be_bytes([header[0], header[1]]);
            let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
            if [MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, FINGERPRINT].contains(&kind) {
                break;
            }
            let value_at = at + ATTRIBUTE_HEADER_BYTES;
            let Some(value) = bytes.get_mut(value_at..value_at + len) else { break };
            if kind == XOR_MAPPED_ADDRESS && len == IPV6_MAPPED_BYTES {
                let masks = self.transaction.iter().zip(id).map(|(old, new)| old ^ new);
                value[IPV6_MAPPED_BYTES - id.len()..].iter_mut().zip(masks).for_each(|(byte, mask)| *byte ^= mask);
            }
            at = (value_at + len.next_multiple_of(4)).min(bytes.len());
        }
        bytes.truncate(at);
        // It is no longer than the message was, whose length fitted.
        let len = u16::try_from(at - HEADER_BYTES).unwrap_or(u16::MAX);
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes[HEADER_BYTES - id.len()..HEADER_BYTES].copy_from_slice(&id);
        bytes
    }

    fn signature(&self, password: &str) -> Option<()> {
        let at = self.integrity_at?;
        let value_at = at + ATTRIBUTE_HEADER_BYTES;
        let tag = self.bytes.get(value_at..value_at + INTEGRITY_BYTES)?;
        // The length that was signed ends with this attribute, whatever follows it now.
        let signed_len = u16::try_from(value_at + INTEGRITY_BYTES - HEADER_BYTES).ok()?;
        let mut signed = self.bytes.get(..at)?.to_vec();
        signed.get_mut(2..4)?.copy_from_slice(&signed_len.to_be_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        hmac::verify(&key, &signed, tag).ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// RFC 5769 §2.1: a request with its software, priority, role, username, integrity and fingerprint.
    const SAMPLE_REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09evtj:h6vY\x20\x20\x20\x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\
        \xf2\x49\xc1\xb5\x71\xa2\x80\x28\x00\x04\xe5\x7a\x3b\xcf";
    const SAMPLE_PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    /// A message of ours, signed when there is a password.
    pub(crate) fn message(kind: u16, id: TransactionId, username: Option<&str>, password: Option<&str>) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(MAGIC_COOKIE);
        bytes.extend(id);
        if let Some(name) = username {
            bytes.extend(USERNAME.to_be_bytes());
            bytes.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
            bytes.extend(name.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let unsigned = bytes.len() - HEADER_BYTES;
        let extra = password.map_or(0, |_| ATTRIBUTE_HEADER_BYTES + INTEGRITY_BYTES);
        let len = u16::try_from(unsigned + extra).unwrap();
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        if let Some(password) = password {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
            let tag = hmac::sign(&key, &bytes);
            bytes.extend(MESSAGE_INTEGRITY.to_be_bytes());
            bytes.extend([0, 20]);
            bytes.extend(tag.as_ref());
        }
        bytes
    }

    #[test]
    fn the_sample_of_the_rfc_is_read_and_its_signature_holds() {
        let request = StunMessage::parse(SAMPLE_REQUEST).unwrap();
        assert_eq!((request.class, request.wanted()), (Class::Request, Some("evtj")));
        assert_eq!(request.transaction, SAMPLE_REQUEST[8..20]);
        assert!(request.is_signed_with(SAMPLE_PASSWORD));
        assert!(!request.is_signed_with("another password altogether"));
    }

    #[test]
    fn one_changed_bit_before_the_signature_breaks_it() {
        for at in (24..40).chain(64..76) {
            let mut bytes = SAMPLE_REQUEST.to_vec();
            bytes[at] ^= 1;
            let request = StunMessage::parse(&bytes).unwrap();
            assert!(!request.is_signed_with(SAMPLE_PASSWORD), "bit of byte {at}");
        }
    }

    #[test]
    fn a_username_behind_the_signature_is_not_believed() {
        let mut bytes = message(1, [7; 12], None, Some("password"));
        bytes.extend([0, 6, 0, 4]);
        bytes.extend(b"a:bc");
        let len = u16::try_from(bytes.len() - HEADER_BYTES).unwrap();
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        let request = StunMessage::parse(&bytes).unwrap();
        assert!(request.is_signed_with("password"));
        assert_eq!(request.username, None);
    }

    #[test]
    fn what_is_cut_short_or_not_stun_is_nothing() {
        for len in 0..SAMPLE_REQUEST.len() {
            assert!(StunMessage::parse(&SAMPLE_REQUEST[..len]).is_none(), "{len} bytes");
        }
        assert!(StunMessage::parse(&[22; 64]).is_none());
        let mut overlong = message(1, [1; 12], Some("a:b"), None);
        overlong[22] = 255;
        assert!(StunMessage::parse(&overlong).is_none(), "an attribute longer than the message");
    }

    /// RFC 5769 §2.3: a response over IPv6 from 2001:db8:1234:5678:11:2233:4455:6677, port 32853.
    const SAMPLE_IPV6_RESPONSE: &[u8] = b"\x01\x01\x00\x48\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x0btest vector\x20\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\
        \xbe\xd2\xb9\xd9\x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed\x41\
        \x80\x28\x00\x04\xc8\xfb\x0b\x4c";

    #[test]
    fn under_another_id_the_mapped_address_stays_and_what_was_signed_goes() {
        let response = StunMessage::parse(SAMPLE_IPV6_RESPONSE).unwrap();
        assert!(response.is_signed_with(SAMPLE_PASSWORD));
        let renamed = response.renamed([7; 12]);
        let read = StunMessage::parse(&renamed).unwrap();
        assert_eq!((read.class, read.transaction), (Class::Response, [7; 12]));
        assert!(!read.is_signed_with(SAMPLE_PASSWORD));
        let masks = MAGIC_COOKIE.into_iter().chain([7; 12]);
        let address: Vec<u8> =
            renamed[renamed.len() - 16..].iter().zip(masks).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(address, [0x20, 1, 0xd, 0xb8, 0x12, 0x34, 0x56, 0x78, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
        assert_eq!(read.renamed(response.transaction)[..HEADER_BYTES + 40][20..], SAMPLE_IPV6_RESPONSE[20..60]);
    }

    #[test]
    fn both_kinds_of_response_are_responses() {
        for kind in [0x0101, 0x0111] {
            assert_eq!(StunMessage::parse(&message(kind, [0; 12], None, None)).unwrap().class, Class::Response);
        }
        assert_eq!(StunMessage::parse(&message(0x0011, [0; 12], None, None)).unwrap().class, Class::Indication);
    }

    #[test]
    fn joined_datagrams_are_split_at_each_stun_message() {
        let split = |bytes: &[u8], stride| parcels(bytes, stride).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(split(&[20, 1, 21, 2, 22], 2), [[20, 1, 21, 2, 22].to_vec()]);
        assert_eq!(split(&[20, 1, 0, 2, 22, 3], 2), [[20, 1], [0, 2], [22, 3]]);
        assert_eq!(split(&[0, 1, 1, 2, 20], 2), [vec![0, 1], vec![1, 2], vec![20]]);
        assert!(split(&[], 0).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_datagram_is_too_strange(bytes: Vec<u8>, at: proptest::sample::Index, byte: u8) {
            let mut changed = SAMPLE_REQUEST.to_vec();
            changed[at.index(SAMPLE_REQUEST.len())] = byte;
            for datagram in [bytes, changed] {
                if let Some(message) = StunMessage::parse(&datagram) {
                    let renamed = message.renamed([5; 12]);
                    proptest::prop_assert_eq!(StunMessage::parse(&renamed).map(|it| it.transaction), Some([5; 12]));
                    let intact = datagram[..SAMPLE_REQUEST.len() - 8] == SAMPLE_REQUEST[..SAMPLE_REQUEST.len() - 8];
                    proptest::prop_assert_eq!(message.is_signed_with(SAMPLE_PASSWORD), intact);
                }
            }
        }
    }
}
