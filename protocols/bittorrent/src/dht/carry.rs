//! The tasks that carry: datagrams between the socket and the machine, and names of bootstrap hosts to addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use swarmgate_bittorrent_proto::dht::krpc::{self, MAX_DATAGRAM_BYTES};
use tokio::time::{sleep, sleep_until, timeout};

use super::Datagram;
use super::shared::Shared;

/// How long the name of a bootstrap host may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses asked of one bootstrap host.
const MAX_ADDRESSES: usize = 8;
/// How often bootstrap hosts are resolved at most.
const INTRODUCE_INTERVAL: Duration = Duration::from_secs(5);

/// Carries datagrams until the node stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(socket) = shared.socket() else { return };
    // One byte more than is read: what fills it was cut off.
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES + 1];
    loop {
        let wanted = shared.settle();
        for transmit in wanted.transmits {
            if let Err(error) = socket.send_to(&transmit.bytes, shared.destination(transmit.to)).await {
                // The machine learns it as an answer that does not come.
                tracing::trace!(to = %transmit.to, %error, "a datagram was not sent");
            }
        }
        let wake_at = wanted.wake_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.wake.notified() => {}
            received = socket.recv_from(&mut buffer) => match received {
                Ok((len, from)) => take(&shared, from, &buffer[..len]),
                Err(error) => tracing::trace!(%error, "a datagram was not received"),
            },
            () = sleep_until(wake_at.into()) => shared.with(|node, now| node.handle_timeout(now)),
        }
    }
}

fn take(shared: &Shared, from: SocketAddr, datagram: &[u8]) {
    if krpc::is_krpc(datagram) {
        shared.with(|node, now| node.handle_input(now, from, datagram));
    } else if let Some(others) = &shared.others {
        // Datagrams may be lost anywhere; here, when nobody reads them in time.
        let _ = others.try_send(Datagram { from, bytes: Bytes::copy_from_slice(datagram) });
    }
}

/// Names the bootstrap hosts to the machine whenever it knows nobody, until the node stops.
pub(super) async fn introduce(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.lonely.notified() => {}
        }
        for host in &shared.bootstrap {
            let resolved = tokio::select! {
                () = shared.stop.cancelled() => return,
                resolved = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(host)) => resolved,
            };
            match resolved {
                Ok(Ok(addresses)) => {
                    shared.tell(|node, now| addresses.take(MAX_ADDRESSES).for_each(|it| node.add_node(now, it)));
                }
                Ok(Err(error)) => tracing::debug!(host, %error, "a bootstrap host of the DHT has no address"),
                Err(_) => tracing::debug!(host, "a bootstrap host of the DHT did not resolve in time"),
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = sleep(INTRODUCE_INTERVAL) => {}
        }
    }
}
