//! What comes of an answer: a block when it is right; else the source is asked again later, or counts as without it.

use std::time::Duration;

use swarmgate_content::{FailureClass, VerifiedBytes};
use swarmgate_store::VerifiedBlock;

use super::Race;
use super::asked::Asked;
use crate::life::now;
use crate::source::SourceError;

/// How often a source that failed is asked again for the same block, and how long it is left in peace before, doubled
/// every time.
const MAX_RETRIES: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_millis(200);

impl Race<'_> {
    /// Takes an answer; a block when it is right.
    pub(super) async fn hear(
        &mut self,
        source: usize,
        asked: Asked,
        result: Result<VerifiedBytes, SourceError>,
    ) -> Option<VerifiedBlock> {
        self.at_work.retain(|other| *other != source);
        let len = result.as_ref().map_or(0, VerifiedBytes::len) as u64;
        let checked = match result {
            Ok(bytes) => {
                let checked = self.blocks.store.verifier().verify(self.hash, bytes.into_bytes()).await;
                checked
                    .map_err(|mismatch| SourceError { class: FailureClass::Corruption, detail: mismatch.to_string() })
            }
            Err(error) => Err(error),
        };
        match checked {
            Ok(block) => {
                asked.delivered(len);
                self.life.try_at(source, |tried| tried.deliver(now()));
                self.blocks.stats.bytes_downloaded(len);
                self.blocks.stats.blocks_verified(1);
                Some(block)
            }
            Err(error) => {
                self.refused(source, asked, &error);
                None
            }
        }
    }

    fn refused(&mut self, source: usize, asked: Asked, error: &SourceError) {
        let name = self.blocks.sources[source].name();
        tracing::debug!(source = name, cid = %self.ask.cid, class = ?error.class, detail = error.detail, "no block");
        self.life.try_at(source, |tried| tried.fail(error.detail.clone(), asked.took()));
        self.said = format!("{name}: {}", error.detail);
        self.gravest = graver(self.gravest, error.class);
        asked.failed(error.class);
        let now = now();
        self.next_at = now;
        match error.class {
            FailureClass::Neutral | FailureClass::Local => self.without.push(source),
            FailureClass::Source | FailureClass::Corruption => {
                if error.class == FailureClass::Corruption {
                    self.blocks.stats.blocks_corrupt(1);
                }
                let times = self.retries[source];
                if times < MAX_RETRIES {
                    self.retries[source] += 1;
                    self.later.push((source, now + RETRY_AFTER * (1 << times)));
                }
            }
        }
    }
}

/// The graver of two failures: who lies is worse than who fails, and that worse than who has it not.
pub(super) fn graver(one: FailureClass, other: FailureClass) -> FailureClass {
    let weight = |class| match class {
        FailureClass::Neutral => 0,
        FailureClass::Local => 1,
        FailureClass::Source => 2,
        FailureClass::Corruption => 3,
    };
    if weight(other) > weight(one) { other } else { one }
}
