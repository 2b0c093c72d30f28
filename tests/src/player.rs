//! Somebody who watches a film over HTTP: reads ahead until so many seconds are in hand, plays at the film's pace, and
//! stands still when there is nothing to play.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::raw::Connection;

/// A player of films of one rate.
#[derive(Debug, Clone, Copy)]
pub struct Player {
    /// Bytes that a second of the film has.
    pub bytes_per_second: u64,
    /// How much it has in hand, and wants to have before it begins to play.
    pub buffer: Duration,
}

/// How a film was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watched {
    /// From the request to the first byte.
    pub first_byte: Duration,
    /// From the request to the last byte.
    pub took: Duration,
    /// How long the player stood still after it had begun to play, all together.
    pub stood: Duration,
    /// The longest wait for more, which a player with enough in hand does not show.
    pub longest_wait: Duration,
}

/// What has come, and since when it is played.
#[derive(Debug)]
struct Playing {
    player: Player,
    come: u64,
    began: Option<Instant>,
    stood: Duration,
}

impl Player {
    /// Plays what lies at `path`, insisting on its being `whole`, until the end or until `goes_on` says no; that is
    /// called with how many bytes have come.
    ///
    /// # Panics
    /// When it is refused, breaks off, or is something else.
    pub async fn watch(
        self,
        at: SocketAddr,
        path: &str,
        whole: &[u8],
        mut goes_on: impl FnMut(usize) -> bool,
    ) -> Watched {
        let mut connection = Connection::open(at).await;
        let asked = Instant::now();
        // By a name, IPFS content would have an origin of its own.
        let host = at.to_string();
        connection.send("GET", path, &[("host", &host)]).await.unwrap_or_else(|e| panic!("{path}: {e}"));
        let head = connection.head().await.unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!((head.status, head.content_length()), (200, whole.len()), "{path}");
        let mut playing = Playing { player: self, come: 0, began: None, stood: Duration::ZERO };
        let (mut come, mut watched) = (0, Watched::default());
        while come < whole.len() {
            tokio::time::sleep_until(playing.takes_more_at().into()).await;
            let waits = Instant::now();
            let some = connection.some(whole.len() - come).await;
            let some = some.unwrap_or_else(|e| panic!("{path}: {e} after {come} bytes"));
            assert!(some == whole[come..come + some.len()], "{path}: other bytes after {come}");
            match come {
                0 => watched.first_byte = asked.elapsed(),
                _ => watched.longest_wait = watched.longest_wait.max(waits.elapsed()),
            }
            come += some.len();
            playing.took(Instant::now(), some.len() as u64);
            if !goes_on(come) {
                break;
            }
        }
        Watched { took: asked.elapsed(), stood: playing.stood, ..watched }
    }
}

impl Playing {
    /// How long the film is up to a byte.
    fn time_of(&self, byte: u64) -> Duration {
        Duration::from_secs_f64(byte as f64 / self.player.bytes_per_second as f64)
    }

    /// When there is room for more.
    fn takes_more_at(&self) -> Instant {
        let ahead = self.time_of(self.come).saturating_sub(self.player.buffer);
        self.began.map_or_else(Instant::now, |began| began + self.stood + ahead)
    }

    /// More has come.
    fn took(&mut self, now: Instant, bytes: u64) {
        if let Some(began) = self.began {
            let empty_at = began + self.stood + self.time_of(self.come);
            self.stood += now.saturating_duration_since(empty_at);
        }
        self.come += bytes;
        if self.began.is_none() && self.time_of(self.come) >= self.player.buffer {
            self.began = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_player_stands_still_when_it_has_played_all_that_came() {
        let player = Player { bytes_per_second: 10, buffer: Duration::from_secs(2) };
        let begun = Instant::now();
        let mut playing = Playing { player, come: 0, began: None, stood: Duration::ZERO };
        playing.took(begun, 20);
        assert_eq!(playing.takes_more_at(), begun);
        playing.took(begun, 10);
        assert_eq!(playing.takes_more_at(), begun + Duration::from_secs(1));
        playing.took(begun + Duration::from_secs(5), 10);
        assert_eq!(playing.stood, Duration::from_secs(2));
        playing.took(begun + Duration::from_secs(6), 10);
        assert_eq!(playing.stood, Duration::from_secs(2));
    }
}
