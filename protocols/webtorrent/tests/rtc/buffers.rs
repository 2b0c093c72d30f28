//! What a kernel grants decides how fast we are, and an operator hears of it once.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use swarmgate_webtorrent::rtc::RtcOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::kit::{KIB, MIB, own_sockets, pattern, shared_port, start};

/// `net.core.rmem_max` where nobody has changed it: the most that a process without privileges is granted.
const STOCK_RECEIVE_BUFFER: usize = 212_992;

/// How much slower that may be than with all the buffer that is asked for, on the same machine at the same time. Without a
/// bound on what is in flight, losses cost far more.
const AT_MOST_SLOWER: f64 = 3.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_default_kernels_buffer_leaves_a_near_peer_most_of_the_rate() {
    for options in [shared_port, own_sockets] {
        let (mut stock, mut ample): (f64, f64) = (0.0, 0.0);
        // In turn, so that a slow moment of the machine is a moment of both; the better of each.
        for _ in 0..2 {
            ample = ample.max(rate(options).await);
            stock = stock.max(rate(|| RtcOptions { receive_buffer_bytes: STOCK_RECEIVE_BUFFER, ..options() }).await);
        }
        println!("{stock:.0} MB/s, and {ample:.0} with all that is asked for");
        assert!(stock * AT_MOST_SLOWER >= ample, "{stock:.1} MB/s, not {ample:.1}");
    }
}

/// MB (10⁶ bytes) a second from one manager to another.
async fn rate(options: impl Fn() -> RtcOptions) -> f64 {
    const TOTAL: usize = 32 * MIB;
    let (a, b) = (start(options()), start(options()));
    #[cfg(target_os = "linux")]
    if options().receive_buffer_bytes == STOCK_RECEIVE_BUFFER {
        assert_eq!(a.stats().receive_buffer_bytes, 2 * STOCK_RECEIVE_BUFFER, "as without CAP_NET_ADMIN");
    }
    let (mut near, mut far) = crate::kit::open(&a, &b).await;
    let block = pattern(1, 16 * KIB);
    let begun = Instant::now();
    let writing = tokio::spawn(async move {
        for _ in 0..TOTAL / block.len() {
            near.write_all(&block).await.unwrap();
        }
        near
    });
    let mut got = vec![0; MIB];
    for _ in 0..TOTAL / MIB {
        far.read_exact(&mut got).await.unwrap();
    }
    let rate = TOTAL as f64 / 1e6 / begun.elapsed().as_secs_f64();
    drop(writing.await.unwrap());
    a.shutdown().await;
    b.shutdown().await;
    rate
}

/// Where a log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_buffer_that_is_too_small_is_told_once_with_the_cure_however_many_sockets_there_are() {
    // No kernel grants that, whatever the process may.
    let wanted = usize::try_from(i32::MAX).unwrap();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut options = RtcOptions { receive_buffer_bytes: wanted, ..shared_port() };
    options.sockets.extend(shared_port().sockets);
    let (a, b) = (start(options), start(shared_port()));
    for _ in 0..3 {
        drop(crate::kit::open(&a, &b).await);
    }
    a.shutdown().await;
    b.shutdown().await;
    let said = String::from_utf8(log.0.lock().clone()).unwrap();
    let warnings: Vec<_> = said.lines().filter(|line| line.contains("WARN")).collect();
    assert!(matches!(warnings[..], [one] if one.contains("net.core.rmem_max") && one.contains("sysctl")), "{said}");
}
