//! The best record of a key: of the one imported here and of those that routers have.
//!
//! Nobody is believed: a record is what its key has signed, whoever brings it. All routers are asked at once. When one
//! valid record is in hand the others have a moment left to bring a newer one.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use swarmgate_content::{Attempt, AttemptOutcome, Cid, FailureClass};
use swarmgate_ipfs_proto::content_path::Root;
use swarmgate_ipfs_proto::ipns::{Name, Record};
use tokio::time::Instant;

use super::kept::expired;
use super::{NameError, NameErrorKind, Names};
use crate::attempts::router_kind;
use crate::source::Router;

/// How long routers may look for a newer record when a valid one is there.
const NEWER: Duration = Duration::from_secs(1);

/// What came of asking one router.
struct Answer {
    attempt: Attempt,
    record: Option<Record>,
    /// Why there is none, unless it said that it knows none.
    trouble: Option<NameErrorKind>,
}

impl Names {
    /// The best valid record of a key.
    pub(super) async fn find_record(&self, name: &Name) -> Result<Record, NameError> {
        let kept = self.kept.get(name).await?;
        let cid = name.to_cid();
        let mut answers: FuturesUnordered<_> = self.routers.iter().map(|router| ask(&**router, name, &cid)).collect();
        let mut found: Vec<Record> = kept.into_iter().collect();
        let (mut attempts, mut trouble) = (Vec::new(), None);
        let mut deadline = Instant::now() + self.options.timeout;
        loop {
            if found.iter().any(|record| record.is_valid(SystemTime::now())) {
                deadline = deadline.min(Instant::now() + NEWER);
            }
            match tokio::time::timeout_at(deadline, answers.next()).await {
                Ok(Some(answer)) => {
                    attempts.push(answer.attempt);
                    found.extend(answer.record);
                    trouble = trouble.or(answer.trouble);
                }
                Ok(None) => break,
                Err(_) => {
                    trouble = trouble.or(Some(NameErrorKind::TimedOut));
                    break;
                }
            }
        }
        choose(name, found, trouble).map_err(|error| error.with_attempts(attempts))
    }
}

fn choose(name: &Name, found: Vec<Record>, trouble: Option<NameErrorKind>) -> Result<Record, NameError> {
    let newest = found.iter().max_by_key(|record| record.expires()).cloned();
    if let Some(best) = Record::best(found, SystemTime::now()) {
        return Ok(best);
    }
    let (kind, detail) = match (newest, trouble) {
        (Some(record), _) => (NameErrorKind::Expired, expired(&record)),
        (None, Some(NameErrorKind::TimedOut)) => (NameErrorKind::TimedOut, "nobody answered in time".to_owned()),
        (None, Some(kind)) => (kind, "no record that was found is one of this name".to_owned()),
        (None, None) => (NameErrorKind::NotFound, "nobody asked has a record of it".to_owned()),
    };
    Err(NameError::new(Root::Key(*name), kind, detail))
}

async fn ask(router: &dyn Router, name: &Name, cid: &Cid) -> Answer {
    let began = Instant::now();
    let answered = router.ipns_record(cid).await;
    let took = began.elapsed();
    let (outcome, record, trouble) = match answered {
        Ok(bytes) => match Record::parse(name, bytes) {
            Ok(record) => (AttemptOutcome::Ok(format!("record {}", record.sequence())), Some(record), None),
            Err(error) => (AttemptOutcome::Failed(error.to_string()), None, Some(NameErrorKind::Invalid)),
        },
        Err(error) => {
            let trouble = (error.class != FailureClass::Neutral).then_some(NameErrorKind::TimedOut);
            (AttemptOutcome::Failed(error.detail), None, trouble)
        }
    };
    let (source, target) = (router_kind(router.name()), Some(router.name().to_owned()));
    Answer { attempt: Attempt { source, target, outcome, took }, record, trouble }
}
