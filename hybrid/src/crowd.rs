//! Sources that are crowds, as a swarm's peers are one: there for as long as anybody is.
//!
//! When the last of a crowd leaves, nothing shows it but that nothing comes, which takes a plan a second and more to tell
//! from a pause. So whoever knows says it.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use swarmgate_content::BoxFuture;
use swarmgate_hybrid_rules::SourceKey;
use tokio::sync::watch;

/// How many a crowd is, now and from now on.
pub(crate) type Crowd = watch::Receiver<usize>;

/// The crowds among the sources of a fetch.
#[derive(Debug, Default)]
pub(crate) struct Crowds(FuturesUnordered<BoxFuture<'static, Option<(SourceKey, Crowd)>>>);

impl Crowds {
    /// Looks at one more. What it is at this moment is no news.
    pub(crate) fn watch(&mut self, key: SourceKey, mut crowd: Crowd) {
        self.0.push(Box::pin(async move { crowd.changed().await.ok().map(|()| (key, crowd)) }));
    }

    /// Waits until one has become another, without end if none does. Tells which, and whether anybody is there.
    pub(crate) async fn next(&mut self) -> (SourceKey, bool) {
        loop {
            match self.0.next().await {
                Some(Some((key, mut crowd))) => {
                    let somebody = *crowd.borrow_and_update() > 0;
                    self.watch(key, crowd);
                    return (key, somebody);
                }
                // Who counted them is gone.
                Some(None) => {}
                None => std::future::pending().await,
            }
        }
    }
}
