//! Questions and answers over one shared UDP socket a family: the answer is the datagram from the asked address that
//! bears the question's transaction id (BEP 15).
//!
//! Sockets are bound at start-up and given here; one reader task each deals datagrams out to those who wait.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::RngExt;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Questions that may wait at once. Each torrent asks few trackers at a time, so this is hundreds of torrents.
const MAX_PENDING: usize = 1024;
/// Longest datagram read, in bytes: an announce reply of 2000 IPv4 peers. We ask for 200 at most.
const MAX_DATAGRAM_BYTES: usize = 12 * 1024;
/// How long reading rests after an error of the socket.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// Why a question got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// Too many wait already.
    #[error("{MAX_PENDING} requests are waiting already")]
    Busy,
    /// No socket of that address family.
    #[error("{0} is not enabled for UDP trackers")]
    NoSocket(&'static str),
    /// Sending failed.
    #[error("sending failed: {0}")]
    Send(io::ErrorKind),
    /// Nothing came in time.
    #[error("no answer in time")]
    Timeout,
    /// The client is stopping.
    #[error("shutting down")]
    Stopped,
}

/// How long to wait for the answer to transmission number n, from 0; `None` ends it.
pub(crate) type Wait = fn(u32) -> Option<Duration>;

type Waiting = Mutex<BTreeMap<(SocketAddr, u32), oneshot::Sender<Bytes>>>;

/// The shared sockets and those who wait for an answer.
#[derive(Debug)]
pub(crate) struct UdpExchange {
    sockets: Mutex<Sockets>,
    waiting: Arc<Waiting>,
    stop: CancellationToken,
    /// The readers, and a token for each question on its way: all that holds a socket.
    users: TaskTracker,
}

#[derive(Debug, Default)]
struct Sockets {
    v4: Option<Arc<UdpSocket>>,
    v6: Option<Arc<UdpSocket>>,
}

/// One question's place among the waiting; given back when dropped.
struct Ticket<'a> {
    waiting: &'a Waiting,
    key: (SocketAddr, u32),
    answer: oneshot::Receiver<Bytes>,
}

impl UdpExchange {
    /// Starts reading from the sockets.
    pub(crate) fn start(v4: Option<UdpSocket>, v6: Option<UdpSocket>) -> Self {
        let sockets = Sockets { v4: v4.map(Arc::new), v6: v6.map(Arc::new) };
        let (waiting, stop, users) = (Arc::new(Waiting::default()), CancellationToken::new(), TaskTracker::new());
        for socket in sockets.v4.iter().chain(&sockets.v6) {
            users.spawn(stop.clone().run_until_cancelled_owned(read(socket.clone(), waiting.clone())));
        }
        users.close();
        Self { sockets: Mutex::new(sockets), waiting, stop, users }
    }

    /// Whether questions to that family can be sent.
    pub(crate) fn reaches(&self, address: &SocketAddr) -> bool {
        self.socket_for(address).is_ok()
    }

    /// Fails when there is no socket of any family. Then a tracker's name is not asked for either: behind a proxy that would
    /// be heard.
    pub(crate) fn need_socket(&self) -> Result<(), ExchangeError> {
        let sockets = self.sockets.lock();
        let some = sockets.v4.is_some() || sockets.v6.is_some();
        some.then_some(()).ok_or(ExchangeError::NoSocket("UDP"))
    }

    fn socket_for(&self, address: &SocketAddr) -> Result<Arc<UdpSocket>, ExchangeError> {
        let sockets = self.sockets.lock();
        let (socket, family) = match address {
            SocketAddr::V4(_) => (&sockets.v4, "IPv4"),
            SocketAddr::V6(_) => (&sockets.v6, "IPv6"),
        };
        socket.clone().ok_or(ExchangeError::NoSocket(family))
    }

    /// Sends what `packet` makes of a new transaction id and waits for the answer to it. Transmission number n is
    /// repeated after `wait(n)`, until that is `None` or `deadline` has passed.
    pub(crate) async fn ask(
        &self,
        to: SocketAddr,
        packet: impl Fn(u32) -> Vec<u8>,
        wait: Wait,
        deadline: Instant,
    ) -> Result<Bytes, ExchangeError> {
        // Taken before the socket, so given back after it.
        let _user = self.users.token();
        let socket = self.socket_for(&to)?;
        let mut ticket = self.ticket(to)?;
        let packet = packet(ticket.key.1);
        let repeated = async {
            for pause in (0..).map_while(wait) {
                socket.send_to(&packet, to).await.map_err(|error| ExchangeError::Send(error.kind()))?;
                match timeout(pause, &mut ticket.answer).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(_)) => return Err(ExchangeError::Stopped),
                    Err(_) => {}
                }
            }
            Err(ExchangeError::Timeout)
        };
        tokio::select! {
            () = self.stop.cancelled() => Err(ExchangeError::Stopped),
            result = timeout_at(deadline, repeated) => result.unwrap_or(Err(ExchangeError::Timeout)),
        }
    }

    fn ticket(&self, to: SocketAddr) -> Result<Ticket<'_>, ExchangeError> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_PENDING {
            return Err(ExchangeError::Busy);
        }
        let key = loop {
            let key = (to, rand::rng().random());
            if !waiting.contains_key(&key) {
                break key;
            }
        };
        waiting.insert(key, sender);
        Ok(Ticket { waiting: &self.waiting, key, answer })
    }

    /// Ends the readers and all questions; the sockets are closed when it returns.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        *self.sockets.lock() = Sockets::default();
        self.users.wait().await;
    }
}

impl Drop for UdpExchange {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.key);
    }
}

async fn read(socket: Arc<UdpSocket>, waiting: Arc<Waiting>) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => deal(&waiting, &buffer[..len], from),
            Err(error) => {
                tracing::debug!(%error, "reading UDP tracker answers failed");
                tokio::time::sleep(READ_PAUSE).await;
            }
        }
    }
}

/// Gives a datagram to the one who waits for it. Both BEP 15 answers carry the transaction id in bytes 4 to 8.
fn deal(waiting: &Waiting, datagram: &[u8], from: SocketAddr) {
    let Some(id) = datagram.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) else {
        return;
    };
    if let Some(sender) = waiting.lock().remove(&(from, id)) {
        // The asker may have given up this moment.
        let _ = sender.send(Bytes::copy_from_slice(datagram));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").await.unwrap()
    }

    fn question(id: u32) -> Vec<u8> {
        [&[0; 4], &id.to_be_bytes()[..]].concat()
    }

    fn brisk(transmission: u32) -> Option<Duration> {
        Some(Duration::from_millis(20) * 2u32.pow(transmission))
    }

    fn patient(_: u32) -> Option<Duration> {
        Some(Duration::from_secs(9))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(300)
    }

    #[tokio::test]
    async fn a_question_is_repeated_at_doubling_pauses_until_answered() {
        let (exchange, server) = (UdpExchange::start(Some(socket().await), None), socket().await);
        let address = server.local_addr().unwrap();
        let asked = exchange.ask(address, question, brisk, soon());
        let answer = async {
            let (mut buffer, mut times) = ([0; 64], Vec::new());
            for _ in 0..3 {
                let (_, from) = server.recv_from(&mut buffer).await.unwrap();
                times.push((Instant::now(), from));
            }
            server.send_to(&buffer[..8], times[0].1).await.unwrap();
            times
        };
        let (result, times) = tokio::join!(asked, answer);
        assert_eq!(result.unwrap().len(), 8);
        assert!(times[2].0 - times[1].0 >= Duration::from_millis(35));
        exchange.shutdown().await;
    }

    #[tokio::test]
    async fn an_answer_from_elsewhere_or_to_something_else_is_not_taken() {
        let (exchange, server, liar) = (UdpExchange::start(Some(socket().await), None), socket().await, socket().await);
        let address = server.local_addr().unwrap();
        let asked = exchange.ask(address, question, patient, soon());
        let answer = async {
            let mut buffer = [0; 64];
            let (_, from) = server.recv_from(&mut buffer).await.unwrap();
            liar.send_to(&buffer[..8], from).await.unwrap();
            buffer[7] ^= 1;
            server.send_to(&buffer[..8], from).await.unwrap();
            server.send_to(b"abc", from).await.unwrap();
        };
        assert_eq!(tokio::join!(asked, answer).0, Err(ExchangeError::Timeout));
        assert!(exchange.waiting.lock().is_empty());
        exchange.shutdown().await;
    }

    #[tokio::test]
    async fn shutdown_ends_those_who_wait_and_closes_the_socket() {
        let own = socket().await;
        let (address, server) = (own.local_addr().unwrap(), socket().await);
        let exchange = UdpExchange::start(Some(own), None);
        let to = server.local_addr().unwrap();
        let asked = exchange.ask(to, question, patient, Instant::now() + Duration::from_secs(9));
        let (result, ()) = tokio::join!(asked, exchange.shutdown());
        assert_eq!(result, Err(ExchangeError::Stopped));
        UdpSocket::bind(address).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_of_a_family_without_a_socket_is_not_asked() {
        let exchange = UdpExchange::start(Some(socket().await), None);
        let v6 = "[::1]:1".parse().unwrap();
        assert_eq!(exchange.ask(v6, question, patient, soon()).await, Err(ExchangeError::NoSocket("IPv6")));
    }
}
