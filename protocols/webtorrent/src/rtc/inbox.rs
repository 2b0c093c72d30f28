//! Datagrams of one connection between the shared socket's reader and the connection's driver.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use webrtc::runtime::RecvMeta;

/// Unread bytes that are kept, like a socket's receive buffer; what comes then is dropped, as a kernel would.
const MAX_INBOX_BYTES: usize = 2 * 1024 * 1024;

/// One or several datagrams of equal size from one address, as the kernel joined them (GRO).
#[derive(Debug)]
struct Parcel {
    from: SocketAddr,
    stride: usize,
    bytes: Bytes,
}

impl Parcel {
    /// Splits off as many datagrams as there is room for. One that is longer than the room loses its end, as it would
    /// with a socket.
    fn take(&mut self, room: usize) -> Bytes {
        let whole = room / self.stride * self.stride;
        let len = whole.max(self.stride).min(self.bytes.len());
        self.bytes.split_to(len)
    }
}

/// A bounded queue with one reader.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    reader: Option<Waker>,
}

impl Inbox {
    /// Puts datagrams in. `false` means that there was no room.
    pub(crate) fn push(&self, from: SocketAddr, stride: usize, bytes: &[u8]) -> bool {
        let reader = {
            let mut queue = self.queue.lock();
            if queue.bytes + bytes.len() > MAX_INBOX_BYTES {
                return false;
            }
            queue.bytes += bytes.len();
            queue.parcels.push_back(Parcel { from, stride: stride.max(1), bytes: Bytes::copy_from_slice(bytes) });
            queue.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    /// Takes the next datagrams into the first buffer, as a socket would.
    pub(crate) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        let (Some(buffer), Some(meta)) = (buffers.first_mut(), metas.first_mut()) else { return Poll::Ready(0) };
        let mut queue = self.queue.lock();
        let Some(parcel) = queue.parcels.front_mut() else {
            // A probe that only wants to know whether there is more must not unseat who waits.
            if queue.reader.is_none() || !cx.waker().will_wake(Waker::noop()) {
                queue.reader = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        let (from, stride, bytes) = (parcel.from, parcel.stride, parcel.take(buffer.len()));
        if parcel.bytes.is_empty() {
            queue.parcels.pop_front();
        }
        queue.bytes -= bytes.len();
        drop(queue);
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        *meta = RecvMeta::default();
        meta.addr = from;
        meta.len = len;
        meta.stride = stride;
        Poll::Ready(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    fn receive(inbox: &Inbox) -> Option<(usize, usize)> {
        let (mut bytes, mut meta) = ([0; 64], [RecvMeta::default()]);
        let mut cx = Context::from_waker(Waker::noop());
        match inbox.poll_recv(&mut cx, &mut [IoSliceMut::new(&mut bytes)], &mut meta) {
            Poll::Ready(_) => Some((meta[0].len, meta[0].stride)),
            Poll::Pending => None,
        }
    }

    #[test]
    fn parcels_come_out_in_order_with_their_stride() {
        let inbox = Inbox::default();
        assert!(inbox.push(from(), 2, &[1, 2, 3]) && inbox.push(from(), 1, &[4]));
        assert_eq!([receive(&inbox), receive(&inbox), receive(&inbox)], [Some((3, 2)), Some((1, 1)), None]);
    }

    #[test]
    fn what_the_buffer_cannot_hold_comes_with_the_next_read() {
        let inbox = Inbox::default();
        inbox.push(from(), 30, &[7; 100]);
        assert_eq!([receive(&inbox), receive(&inbox), receive(&inbox)], [Some((60, 30)), Some((40, 30)), None]);
        inbox.push(from(), 100, &[7; 100]);
        assert_eq!([receive(&inbox), receive(&inbox)], [Some((64, 100)), None]);
    }

    #[test]
    fn a_full_inbox_drops_and_has_room_again_when_read() {
        let inbox = Inbox::default();
        let datagram = vec![0; 64 * 1024];
        let taken = (0..1000).filter(|_| inbox.push(from(), 1200, &datagram)).count();
        assert_eq!(taken, MAX_INBOX_BYTES / datagram.len());
        receive(&inbox);
        assert!(!inbox.push(from(), 1200, &datagram));
        assert!(inbox.push(from(), 1200, &datagram[..1200]));
    }
}
