//! Hole punching (BEP 55): a peer that both sides are connected to leads them to each other.

use std::net::{IpAddr, SocketAddr};

use super::ExtensionError;

/// Bytes before the address: the kind of message and that of the address.
const HEAD_BYTES: usize = 2;
/// Bytes of the port and of the reason.
const PORT_BYTES: usize = 2;
const REASON_BYTES: usize = 4;
/// Longest message read, in bytes: the longest there is has 24, the rest is for what may be added to it.
const MAX_MESSAGE_BYTES: usize = 64;

/// One message of `ut_holepunch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolepunchMessage {
    /// To a relay: lead me and the peer at this address to each other.
    Rendezvous(SocketAddr),
    /// From a relay: open a uTP connection to this address now, as whoever is there does to you.
    Connect(SocketAddr),
    /// From a relay: nothing came of the rendezvous with this address.
    Error(SocketAddr, HolepunchReason),
}

/// Why a relay leads to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HolepunchReason {
    /// Nobody can be at such an address.
    NoSuchPeer,
    /// The relay is not connected to it.
    NotConnected,
    /// The peer there does not know this extension.
    NoSupport,
    /// It is the relay itself.
    NoSelf,
    /// A reason that BEP 55 does not know.
    Other(u32),
}

impl HolepunchMessage {
    /// Whom it is about.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        match self {
            Self::Rendezvous(address) | Self::Connect(address) | Self::Error(address, _) => *address,
        }
    }

    /// The payload of the extended message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, reason) = match self {
            Self::Rendezvous(_) => (0, 0),
            Self::Connect(_) => (1, 0),
            Self::Error(_, reason) => (2, reason.code()),
        };
        let (family, mut ip) = match self.address().ip() {
            IpAddr::V4(ip) => (0, ip.octets().to_vec()),
            IpAddr::V6(ip) => (1, ip.octets().to_vec()),
        };
        let mut payload = vec![kind, family];
        payload.append(&mut ip);
        payload.extend(self.address().port().to_be_bytes());
        payload.extend(reason.to_be_bytes());
        payload
    }

    /// Reads the payload of the extended message; `None` is a message of a kind that is not known yet. Some clients leave
    /// the reason out where there is none.
    ///
    /// # Errors
    /// When it has not the shape of one.
    pub fn parse(payload: &[u8]) -> Result<Option<Self>, ExtensionError> {
        let wrong = |want| ExtensionError::Length { message: "ut_holepunch", len: payload.len(), want };
        let Some((&[kind, family], rest)) = payload.split_first_chunk::<HEAD_BYTES>() else {
            return Err(wrong(HEAD_BYTES));
        };
        if payload.len() > MAX_MESSAGE_BYTES {
            return Err(wrong(MAX_MESSAGE_BYTES));
        }
        let (ip, rest) = match family {
            0 => rest.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest)),
            1 => rest.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip), rest)),
            _ => return Err(ExtensionError::Key { message: "ut_holepunch", key: "addr_type" }),
        }
        .ok_or_else(|| wrong(HEAD_BYTES + if family == 0 { 4 } else { 16 } + PORT_BYTES))?;
        let Some((port, rest)) = rest.split_first_chunk::<PORT_BYTES>() else {
            return Err(wrong(payload.len() - rest.len() + PORT_BYTES));
        };
        let address = SocketAddr::new(ip, u16::from_be_bytes(*port));
        Ok(match kind {
            0 => Some(Self::Rendezvous(address)),
            1 => Some(Self::Connect(address)),
            2 => {
                let (code, _) = rest
                    .split_first_chunk::<REASON_BYTES>()
                    .ok_or_else(|| wrong(payload.len() - rest.len() + REASON_BYTES))?;
                Some(Self::Error(address, HolepunchReason::of(u32::from_be_bytes(*code))))
            }
            _ => None,
        })
    }
}

impl HolepunchReason {
    const fn code(self) -> u32 {
        match self {
            Self::NoSuchPeer => 1,
            Self::NotConnected => 2,
            Self::NoSupport => 3,
            Self::NoSelf => 4,
            Self::Other(code) => code,
        }
    }

    const fn of(code: u32) -> Self {
        match code {
            1 => Self::NoSuchPeer,
            2 => Self::NotConnected,
            3 => Self::NoSupport,
            4 => Self::NoSelf,
            other => Self::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let connect = HolepunchMessage::Connect("192.0.2.7:8421".parse().unwrap());
        assert_eq!(connect.encode(), b"\x01\x00\xc0\x00\x02\x07\x20\xe5\0\0\0\0");
        let error = HolepunchMessage::Error("[2001:db8::1]:1".parse().unwrap(), HolepunchReason::NoSupport);
        let bytes = b"\x02\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x01\0\0\0\x03";
        assert_eq!(error.encode(), bytes);
        assert_eq!(HolepunchMessage::parse(bytes), Ok(Some(error)));
    }

    #[test]
    fn where_there_is_no_reason_none_need_be_told() {
        let address = "10.1.2.3:4".parse().unwrap();
        let read = HolepunchMessage::parse(b"\x00\x00\x0a\x01\x02\x03\x00\x04");
        assert_eq!(read, Ok(Some(HolepunchMessage::Rendezvous(address))));
        assert!(HolepunchMessage::parse(b"\x02\x00\x0a\x01\x02\x03\x00\x04").is_err());
    }

    #[test]
    fn kinds_that_are_not_known_yet_are_no_fault_and_other_shapes_are() {
        assert_eq!(HolepunchMessage::parse(b"\x09\x00\x0a\x01\x02\x03\x00\x04"), Ok(None));
        for payload in
            [&b""[..], b"\0", b"\0\0", b"\0\0\x0a\x01\x02\x03\x00", b"\0\x01\x0a\x01\x02\x03\0\x04", &[0; 65]]
        {
            assert!(HolepunchMessage::parse(payload).is_err(), "{payload:?}");
        }
        let family = HolepunchMessage::parse(b"\0\x02\x0a\x01\x02\x03\0\x04").unwrap_err();
        assert_eq!(family.to_string(), "the ut_holepunch message has no usable `addr_type`");
    }

    fn messages() -> impl Strategy<Value = HolepunchMessage> {
        let address = (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port));
        (address, 0..3u8, any::<u32>()).prop_map(|(address, kind, code)| match kind {
            0 => HolepunchMessage::Rendezvous(address),
            1 => HolepunchMessage::Connect(address),
            _ => HolepunchMessage::Error(address, HolepunchReason::of(code)),
        })
    }

    proptest! {
        #[test]
        fn every_message_survives_the_wire(message in messages()) {
            prop_assert_eq!(HolepunchMessage::parse(&message.encode()), Ok(Some(message)));
        }
    }
}
