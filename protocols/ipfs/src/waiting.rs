//! How long one reading is waited for: its clock, and the waits that it counts.
//!
//! Everything that belongs to one reading shares one; several readings of a DAG, each of somebody else, have one each.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::fault::Fault;
use crate::life::now;
use crate::patience::{Clock, Patience};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Waiting {
    clock: Mutex<Clock>,
    /// Ends every wait.
    stop: CancellationToken,
}

impl Waiting {
    pub(crate) fn new(patience: Patience, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { clock: Mutex::new(Clock::new(patience)), stop })
    }

    /// A block of the DAG has come.
    pub(crate) fn progress(&self) {
        self.clock.lock().progress(now());
    }

    /// Waits for `future` as long as the reading's patience lasts.
    pub(crate) async fn within<T>(&self, future: impl Future<Output = T>) -> Result<T, Fault> {
        let _wait = Wait::begin(&self.clock);
        let mut future = std::pin::pin!(future);
        loop {
            let deadline = self.clock.lock().deadline();
            let Some(deadline) = deadline else { return Ok(future.await) };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Fault::ShuttingDown),
                done = &mut future => return Ok(done),
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            let clock = self.clock.lock();
            if clock.deadline().is_none_or(|deadline| now() >= deadline) {
                return Err(Fault::TimedOut(clock.reason().into()));
            }
        }
    }
}

/// One who waits, as the clock counts.
struct Wait<'a>(&'a Mutex<Clock>);

impl<'a> Wait<'a> {
    fn begin(clock: &'a Mutex<Clock>) -> Self {
        clock.lock().begin(now());
        Self(clock)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.lock().end(now());
    }
}
