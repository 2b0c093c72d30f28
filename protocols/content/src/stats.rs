//! Counters, each counted at the one place where the thing happens; metrics and status read them from here.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// One protocol's counters. Adding is lock-free; all start at zero and only grow.
        #[derive(Debug, Default)]
        pub struct ProtocolStats {
            $($name: AtomicU64,)*
        }

        /// The values of [`ProtocolStats`] at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct StatsSnapshot {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl ProtocolStats {
            $(
                $(#[doc = $doc])*
                pub fn $name(&self, by: u64) {
                    self.$name.fetch_add(by, Ordering::Relaxed);
                }
            )*

            /// Reads all counters.
            pub fn snapshot(&self) -> StatsSnapshot {
                StatsSnapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl StatsSnapshot {
            /// What each of [`Self::entries`] counts, in words.
            pub const MEANINGS: [&str; [$(stringify!($name)),*].len()] = [$(concat!($($doc),*).trim_ascii()),*];

            /// The counters by name, in a fixed order: what `/metrics` lists.
            #[must_use]
            pub const fn entries(&self) -> [(&'static str, u64); [$(stringify!($name)),*].len()] {
                [$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counters! {
    /// Contents resolved.
    resolved,
    /// Contents that could not be resolved.
    resolve_failed,
    /// Readers opened.
    opened,
    /// Readers that ended in an error.
    read_failed,
    /// Verified bytes handed to readers.
    bytes_delivered,
    /// Payload bytes received from peers or other sources, useful or not.
    bytes_downloaded,
    /// Payload bytes received that were not needed: duplicates, late or failed blocks.
    bytes_wasted,
    /// Payload bytes sent to peers.
    bytes_uploaded,
    /// Blocks (pieces) that passed their hash.
    blocks_verified,
    /// Blocks (pieces) that failed their hash.
    blocks_corrupt,
    /// Peer connections established, both directions.
    peers_connected,
    /// Dials that failed.
    dials_failed,
    /// Peers banned on evidence.
    peers_banned,
    /// Tracker announces answered.
    announces,
    /// Tracker announces that failed.
    announces_failed,
}
