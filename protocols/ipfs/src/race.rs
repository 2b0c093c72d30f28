//! One block from whichever source has it: the likeliest is asked first, the next when that one is late or has said no.
//!
//! Late is a source that has given nothing to this reading for longer than it usually takes, so that a queue of blocks
//! which come one after another sets nobody else to work. When nobody has delivered for a moment, routers are asked who
//! may have the DAG, and later who may have this very block; whoever is found makes it worth asking again.

mod answers;
mod asked;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use swarmgate_content::{BlockHash, BoxFuture, FailureClass, VerifiedBytes};
use swarmgate_store::VerifiedBlock;
use tokio::sync::watch;

use crate::blocks::{Ask, Blocks};
use crate::fault::Fault;
use crate::life::{Life, now, seconds};
use crate::source::{SourceError, Want};

use answers::graver;
use asked::Asked;

/// How long a source may take for one block before it has to say that it gives up.
const ASK_TIME: Duration = Duration::from_secs(60);
/// When routers are asked who may have the DAG.
const SEARCH_AFTER: Duration = Duration::from_millis(400);
/// When routers are asked who may have this very block, which nobody among the DAG's providers has given.
const SEARCH_BLOCK_AFTER: Duration = Duration::from_secs(5);
/// A source that delivers other blocks of the DAG is not waited for longer than this.
const LATE_AT_MOST: Duration = Duration::from_secs(8);
/// A source that rests no longer than this is waited for.
const REST_WAIT: Duration = Duration::from_secs(5);
/// How often sources that have not the block are asked again because new providers became known.
const MAX_ROUNDS: u32 = 6;
/// How long news of providers are gathered before anybody is asked again.
const GATHER: Duration = Duration::from_millis(100);

type Answer = (usize, Asked, Result<VerifiedBytes, SourceError>);

/// The fetch of one block.
pub(crate) struct Race<'a> {
    blocks: &'a Arc<Blocks>,
    life: &'a Arc<Life>,
    hash: BlockHash,
    ask: Ask,
    began: Instant,
    /// Who is to be asked, the next last.
    queue: Vec<usize>,
    /// Who is to be asked not before a time: those that rest, and those that failed.
    later: Vec<(usize, Instant)>,
    /// Who has not the block.
    without: Vec<usize>,
    /// Who is being asked.
    at_work: Vec<usize>,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// When the next one is asked though others are at work.
    next_at: Instant,
    retries: Vec<u32>,
    rounds: u32,
    /// How many providers were known when somebody was last asked because of them.
    known: usize,
    /// When to ask again those without the block, because of news.
    again_at: Option<Instant>,
    said: String,
    /// Of what those said who did not deliver.
    gravest: FailureClass,
}

impl<'a> Race<'a> {
    pub(crate) fn new(blocks: &'a Arc<Blocks>, life: &'a Arc<Life>, hash: BlockHash, ask: Ask) -> Self {
        let began = now();
        let mut queue = blocks.standings.lock().order(began);
        // Whoever gave the last block of this DAG likely has this one.
        if let Some(favourite) = life.favourite()
            && let Some(place) = queue.iter().position(|source| *source == favourite)
        {
            queue[..=place].rotate_right(1);
        }
        queue.reverse();
        Self {
            blocks,
            life,
            hash,
            ask,
            began,
            queue,
            later: Vec::new(),
            without: Vec::new(),
            at_work: Vec::new(),
            answers: FuturesUnordered::new(),
            next_at: began,
            retries: vec![0; blocks.sources.len()],
            rounds: 0,
            known: life.search.found.count(),
            again_at: None,
            said: String::new(),
            gravest: FailureClass::Neutral,
        }
    }

    /// Runs until a source has delivered, or all have said no and nobody is searching any more.
    pub(crate) async fn run(mut self) -> Result<VerifiedBlock, Fault> {
        let mut news = self.life.search.found.news();
        news.mark_unchanged();
        loop {
            self.ask_those_due();
            if self.is_lost() {
                return Err(self.lost());
            }
            let wake = self.wake_at();
            tokio::select! {
                Some((source, asked, result)) = self.answers.next(), if !self.answers.is_empty() => {
                    if let Some(block) = self.hear(source, asked, result).await {
                        return Ok(block);
                    }
                }
                () = heard(&mut news) => self.again_at = self.again_at.or_else(|| Some(now() + GATHER)),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// Does what is due by now.
    fn ask_those_due(&mut self) {
        let now = now();
        let due = self.later.extract_if(.., |(_, at)| *at <= now);
        let due: Vec<usize> = due.map(|(source, _)| source).collect();
        if !due.is_empty() {
            self.queue.extend(due);
            self.next_at = now;
        }
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            self.ask_again(now);
        }
        while self.at_work.is_empty() || now >= self.next_at {
            self.next_at = self.next_at.max(self.patient_until());
            if !self.at_work.is_empty() && now < self.next_at || !self.ask_next(now) {
                break;
            }
        }
        self.search_if_due(now);
    }

    /// Has routers search for the DAG when nobody delivers, and for this very block when that did not help.
    fn search_if_due(&self, now: Instant) {
        let search = &self.life.search;
        let quiet = now.saturating_duration_since(self.quiet_since());
        let given_up = self.at_work.is_empty() && self.queue.is_empty();
        if quiet < SEARCH_AFTER && !given_up || search.begin(&self.life.root_or(self.ask.cid)) {
            return;
        }
        if quiet >= SEARCH_BLOCK_AFTER || given_up && !search.found.is_searching() {
            search.begin(&self.ask.cid);
        }
    }

    /// Since when nobody who is at work on this block has given any of this DAG.
    fn quiet_since(&self) -> Instant {
        self.life.delivered_at(&self.at_work).map_or(self.began, |last| last.max(self.began))
    }

    /// Those without the block may have it now that others are known.
    fn ask_again(&mut self, now: Instant) {
        let known = self.life.search.found.count();
        if self.rounds < MAX_ROUNDS && !self.without.is_empty() && known > self.known {
            self.rounds += 1;
            self.known = known;
            self.queue.append(&mut self.without);
            self.next_at = now;
        }
    }

    /// Until when nobody else is asked, since somebody delivers other blocks of this DAG.
    fn patient_until(&self) -> Instant {
        let Some(last) = self.life.delivered_at(&self.at_work) else { return self.began };
        let standings = self.blocks.standings.lock();
        let late = self.at_work.iter().map(|source| standings.late_after(*source)).max().unwrap_or_default();
        (last + late).min(self.began + LATE_AT_MOST)
    }

    fn ask_next(&mut self, now: Instant) -> bool {
        let Some(source) = self.queue.pop() else { return false };
        let (admitted, late) = {
            let mut standings = self.blocks.standings.lock();
            (standings.admit(source, now), standings.late_after(source))
        };
        if let Err(until) = admitted {
            let rest = seconds(until.saturating_duration_since(now));
            self.life.try_at(source, |tried| tried.skip(&format!("rests for {rest} after failures")));
            // A rest that is nearly over is waited for; for a longer one others stand in, where there are others.
            if self.blocks.sources.len() == 1 || until <= now + REST_WAIT {
                self.later.push((source, until));
            } else {
                // It may have the block for all that anybody knows.
                self.gravest = graver(self.gravest, FailureClass::Source);
            }
            return true;
        }
        self.life.try_at(source, |tried| tried.ask(now));
        // Who is only asked because another is late need not send more than the block.
        let within = self.ask.within.filter(|_| self.at_work.is_empty());
        self.at_work.push(source);
        self.next_at = now + late;
        let want = Want {
            cid: self.ask.cid,
            session: self.life.id,
            expected_len: self.ask.expected_len,
            priority: self.ask.priority,
            deadline: now + ASK_TIME,
            within,
        };
        let (asked, from) = (Asked::begin(self.blocks, source, now), self.blocks.sources[source].clone());
        self.answers.push(Box::pin(async move {
            let result = from.fetch(want).await;
            (source, asked, result)
        }));
        true
    }

    /// Whether there is nobody left to hope for.
    fn is_lost(&self) -> bool {
        let nobody = self.at_work.is_empty() && self.queue.is_empty() && self.later.is_empty();
        self.blocks.sources.is_empty() || nobody && self.again_at.is_none() && !self.life.search.found.is_searching()
    }

    fn lost(&self) -> Fault {
        let why = if self.blocks.sources.is_empty() {
            "there is nobody to ask".into()
        } else if self.said.is_empty() {
            "nobody has it".into()
        } else {
            self.said.as_str().into()
        };
        Fault::NoSource(Box::new(self.ask.cid), why, self.gravest)
    }

    /// When something is due next.
    fn wake_at(&self) -> Instant {
        let now = now();
        let next = (!self.queue.is_empty()).then_some(self.next_at);
        let later = self.later.iter().map(|(_, at)| *at).min();
        let searches = [SEARCH_AFTER, SEARCH_BLOCK_AFTER].map(|after| self.quiet_since() + after);
        let search = searches.into_iter().find(|at| *at > now);
        let due = [next, later, search, self.again_at].into_iter().flatten().min();
        due.unwrap_or(now + ASK_TIME).max(now + Duration::from_millis(1))
    }
}

/// Waits for news of providers. They cannot end while the reading lives.
async fn heard(news: &mut watch::Receiver<u64>) {
    if news.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
