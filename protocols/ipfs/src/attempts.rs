//! What one reading has tried at each source, for whoever asks why it does not come.

use std::time::{Duration, Instant};

use swarmgate_content::{Attempt, AttemptOutcome};

/// What was tried at one source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tried {
    asked: u64,
    delivered: u64,
    since: Option<Instant>,
    last: Option<(AttemptOutcome, Duration)>,
    /// When it last gave a block of this DAG.
    pub(crate) delivered_at: Option<Instant>,
}

impl Tried {
    pub(crate) fn ask(&mut self, now: Instant) {
        self.asked += 1;
        self.since.get_or_insert(now);
    }

    pub(crate) fn deliver(&mut self, now: Instant) {
        self.delivered += 1;
        self.delivered_at = Some(now);
    }

    pub(crate) fn fail(&mut self, why: String, took: Duration) {
        self.last = Some((AttemptOutcome::Failed(why), took));
    }

    pub(crate) fn skip(&mut self, why: &str) {
        if self.asked == 0 {
            self.last = Some((AttemptOutcome::Skipped(why.to_owned()), Duration::ZERO));
        }
    }

    /// As it is told to people; `None` when nothing was tried here.
    pub(crate) fn attempt(&self, name: &str, now: Instant) -> Option<Attempt> {
        let waited = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let (outcome, took) = match &self.last {
            Some((outcome, took)) => (outcome.clone(), *took),
            None if self.asked == 0 => return None,
            None if self.delivered > 0 => (AttemptOutcome::Ok(format!("{} blocks", self.delivered)), waited),
            None => (AttemptOutcome::Timeout, waited),
        };
        Some(Attempt { source: source_kind(name), target: Some(name.to_owned()), outcome, took })
    }
}

/// The kind of a source, by its name.
pub(crate) fn source_kind(name: &str) -> &'static str {
    match name {
        "found-gateways" => "http",
        url if url.starts_with("http://") || url.starts_with("https://") => "http",
        _ => "bitswap",
    }
}

/// The kind of a router, by its name.
pub(crate) fn router_kind(name: &str) -> &'static str {
    if name == "dht" { "dht" } else { "routing" }
}
