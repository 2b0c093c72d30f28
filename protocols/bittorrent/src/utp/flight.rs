//! How much of a connection's stream is on its way: written here, and not yet acknowledged by the peer.
//!
//! The protocol lets a MiB be on its way as soon as its congestion window has grown so far, and where the link takes no time
//! that is a single burst. Most programs have a socket that holds a fifth of it (212 992 bytes where Linux was left as it is,
//! of which a packet of 1.5 KiB takes 2.3). What a burst loses there is sent again packet by packet, each after a timeout, and
//! the connection stands for seconds. So a stream has here a window of its own, which grows with the shortest time that an
//! acknowledgement took: what a link of 10 ms can hold is not in anybody's socket.
//!
//! It is told of packets as they go and come, and sends nothing itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The window of a connection whose acknowledgements take no time, in bytes: 90 packets, of the 92 that a socket holds.
const LEAST_WINDOW: u64 = 128 * 1024;
/// What each millisecond until an acknowledgement adds to it, in bytes: the stream may have 64 MiB a second more.
const WINDOW_PER_MS: u64 = 64 * 1024;
/// The largest window, in bytes: what the protocol itself keeps of a stream.
const MOST_WINDOW: u64 = 1024 * 1024;
/// Less room than this is none, in bytes: what is written in crumbs is sent in packets that are not full.
const LEAST_ROOM: u64 = 16 * 1024;
/// Packets that are remembered. The largest window has fewer of the shortest ones.
const MAX_PACKETS: usize = 4096;

/// `ST_DATA`, `ST_FIN` and `ST_STATE` (BEP 29): the kinds of packet that acknowledge.
const ACKNOWLEDGING: std::ops::RangeInclusive<u8> = 0..=2;
const DATA: u8 = 0;
/// Bytes of a packet's head without extensions.
const HEAD_LEN: usize = 20;

/// What a packet's head tells (BEP 29).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    kind: u8,
    seq: u16,
    ack: u16,
}

/// What is on its way of one connection.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Bytes that were written, that were sent once at least, and that were acknowledged: of the stream from its beginning.
    written: u64,
    sent: u64,
    acknowledged: u64,
    /// Those that were sent and not acknowledged, by number.
    packets: VecDeque<Packet>,
    /// The shortest time that an acknowledgement took.
    quickest: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    seq: u16,
    len: u64,
    sent: Instant,
    /// Whether it was sent again: nobody can tell then what is acknowledged.
    again: bool,
}

impl Head {
    /// Reads the head of a datagram; `None` for what is none of the protocol's.
    pub(super) fn read(datagram: &[u8]) -> Option<Self> {
        let head = datagram.first_chunk::<HEAD_LEN>()?;
        let (kind, version) = (head[0] >> 4, head[0] & 0xf);
        let number = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        (version == 1).then(|| Self { kind, seq: number(16), ack: number(18) })
    }
}

impl Flight {
    /// How much may be written now, in bytes; 0 until more is acknowledged.
    pub(super) fn room(&self) -> usize {
        let quickest = self.quickest.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let window = (LEAST_WINDOW + quickest.saturating_mul(WINDOW_PER_MS) / 1000).min(MOST_WINDOW);
        let room = window.saturating_sub(self.written.saturating_sub(self.acknowledged));
        if room < LEAST_ROOM { 0 } else { usize::try_from(room).unwrap_or(usize::MAX) }
    }

    /// So many bytes were written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// A packet is about to go to the peer, with so many bytes of the stream.
    pub(super) fn on_sent(&mut self, now: Instant, head: Head, bytes: usize) {
        let len = bytes as u64;
        if head.kind != DATA || len == 0 {
            return;
        }
        let at = self.packets.front().map_or(0, |first| usize::from(head.seq.wrapping_sub(first.seq)));
        if let Some(packet) = self.packets.get_mut(at) {
            if packet.len == len {
                packet.again = true;
                return;
            }
            // A packet that was too long for the link is cut anew, and so is all behind it.
            let anew: u64 = self.packets.drain(at..).map(|packet| packet.len).sum();
            self.sent = self.sent.saturating_sub(anew);
        } else if at > self.packets.len() {
            // One that is acknowledged already.
            return;
        }
        self.sent += len;
        if self.packets.len() == MAX_PACKETS {
            return self.forget();
        }
        self.packets.push_back(Packet { seq: head.seq, len, sent: now, again: false });
    }

    /// A packet came from the peer. Says whether there is room now.
    pub(super) fn on_received(&mut self, now: Instant, head: Head) -> bool {
        let Some(last) = self.packets.back().filter(|_| ACKNOWLEDGING.contains(&head.kind)) else { return false };
        // Nobody acknowledges what was not sent.
        if is_behind(head.ack, last.seq) {
            return false;
        }
        while let Some(packet) = self.packets.pop_front_if(|packet| !is_behind(packet.seq, head.ack)) {
            self.acknowledged += packet.len;
            if !packet.again && packet.seq == head.ack {
                let took = now.saturating_duration_since(packet.sent);
                self.quickest = Some(self.quickest.map_or(took, |quickest| quickest.min(took)));
            }
        }
        if self.packets.is_empty() {
            self.acknowledged = self.sent;
        }
        self.room() > 0
    }

    #[cfg(test)]
    pub(super) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Counts from the beginning, as if all had arrived: the count was wrong, or nobody counts any more.
    pub(super) fn forget(&mut self) {
        self.packets.clear();
        (self.written, self.sent, self.acknowledged) = (0, 0, 0);
    }
}

/// Whether a packet's number comes behind another's. They begin again after the last.
fn is_behind(seq: u16, other: u16) -> bool {
    let distance = seq.wrapping_sub(other);
    distance != 0 && distance < 1 << 15
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const LEN: usize = 1452;

    fn head(kind: u8, seq: u16, ack: u16) -> Head {
        let mut datagram = [0; 25];
        datagram[0] = kind << 4 | 1;
        datagram[16..18].copy_from_slice(&seq.to_be_bytes());
        datagram[18..20].copy_from_slice(&ack.to_be_bytes());
        Head::read(&datagram).unwrap()
    }

    /// Writes and sends all that there is room for, from this packet on; tells how many bytes that was.
    fn fill(flight: &mut Flight, now: Instant, from: u16) -> usize {
        let room = flight.room();
        flight.wrote(room);
        for (at, len) in (0..room).step_by(LEN).map(|at| LEN.min(room - at)).enumerate() {
            flight.on_sent(now, head(DATA, from.wrapping_add(u16::try_from(at).unwrap()), 0), len);
        }
        room
    }

    #[test]
    fn a_head_is_read_and_what_is_none_is_not() {
        assert_eq!(head(2, 7, 9), Head { kind: 2, seq: 7, ack: 9 });
        assert_eq!(Head::read(&[0x21; 19]), None);
        assert_eq!(Head::read(b"d1:ad2:id20:abcdefghij0123456789e"), None, "a message of the DHT");
    }

    #[test]
    fn a_burst_is_no_longer_than_what_a_socket_holds_and_goes_on_when_it_is_acknowledged() {
        let (now, mut flight) = (Instant::now(), Flight::default());
        assert_eq!(fill(&mut flight, now, 65_500), 128 * 1024);
        assert_eq!((flight.room(), flight.packets.len()), (0, 91));
        assert!(!flight.on_received(now, head(2, 1, 65_501)), "two packets are crumbs");
        assert!(flight.on_received(now, head(2, 1, 65_520)));
        // The numbers begin again after the last.
        assert_eq!(fill(&mut flight, now, 65_500_u16.wrapping_add(91)), 21 * LEN);
        assert!(flight.on_received(now, head(2, 1, 40)), "that is beyond the last number");
    }

    #[test]
    fn the_window_grows_with_the_shortest_time_until_an_acknowledgement() {
        let (start, mut flight) = (Instant::now(), Flight::default());
        for (round, (took, window)) in [(10, 768), (4, 384), (30, 384)].into_iter().enumerate() {
            let seq = u16::try_from(round).unwrap() + 1;
            let now = start + MS * 100 * u32::from(seq);
            flight.wrote(LEN);
            flight.on_sent(now, head(DATA, seq, 0), LEN);
            assert!(flight.on_received(now + MS * took, head(2, 1, seq)));
            assert_eq!(flight.room(), window * 1024, "after {took} ms");
        }
    }

    #[test]
    fn what_was_sent_again_tells_no_time_and_is_counted_once() {
        let (now, mut flight) = (Instant::now(), Flight::default());
        for seq in [1, 2, 3, 1, 2] {
            flight.on_sent(now, head(DATA, seq, 0), LEN);
        }
        flight.wrote(3 * LEN);
        flight.on_received(now + MS * 50, head(2, 1, 2));
        assert_eq!((flight.acknowledged, flight.quickest), (2 * LEN as u64, None));
        // Once more, though it is acknowledged.
        flight.on_sent(now, head(DATA, 2, 0), LEN);
        flight.on_received(now + MS * 50, head(2, 1, 3));
        assert_eq!(
            (flight.sent, flight.acknowledged, flight.quickest),
            (3 * LEN as u64, 3 * LEN as u64, Some(MS * 50))
        );
    }

    #[test]
    fn a_packet_that_was_too_long_is_cut_anew_and_the_count_stays_right() {
        let (now, mut flight) = (Instant::now(), Flight::default());
        flight.wrote(3000);
        flight.on_sent(now, head(DATA, 1, 0), 500);
        flight.on_sent(now, head(DATA, 2, 0), 2000);
        for (seq, len) in [(2, 500), (3, 500), (4, 500), (5, 500), (6, 500)] {
            flight.on_sent(now, head(DATA, seq, 0), len);
        }
        assert_eq!(flight.sent, 3000);
        flight.on_received(now, head(2, 1, 6));
        assert_eq!((flight.acknowledged, flight.packets.len()), (3000, 0));
    }

    #[test]
    fn what_nobody_can_have_received_is_not_acknowledged() {
        let (now, mut flight) = (Instant::now(), Flight::default());
        fill(&mut flight, now, 1);
        for liar in [head(2, 1, 5000), head(2, 1, 40_000), head(3, 1, 50), head(4, 1, 50), head(2, 1, 0)] {
            assert!(!flight.on_received(now, liar), "{liar:?}");
        }
        assert_eq!(flight.acknowledged, 0);
    }

    #[test]
    fn a_count_that_went_wrong_begins_anew() {
        let (now, mut flight) = (Instant::now(), Flight::default());
        fill(&mut flight, now, 1);
        flight.wrote(LEN);
        assert_eq!(flight.room(), 0);
        flight.forget();
        assert_eq!(flight.room(), 128 * 1024);
    }
}
