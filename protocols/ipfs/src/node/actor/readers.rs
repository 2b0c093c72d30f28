//! Who waits for which block.

use std::collections::BTreeMap;

use swarmgate_content::{BlockHash, Cid, VerifiedBytes};
use tokio::sync::oneshot;

use crate::node::mailbox::WaiterId;
use crate::source::{SessionId, SourceError};

pub(in crate::node) type Reply = oneshot::Sender<Result<VerifiedBytes, SourceError>>;

#[derive(Debug)]
struct Waiter {
    id: WaiterId,
    session: SessionId,
    cid: Cid,
    reply: Reply,
}

/// The fetches under way, by the block's hash: two CIDs of the same bytes are met by one block. There are as many as
/// the node lets in at a time.
#[derive(Debug, Default)]
pub(super) struct Readers {
    by_hash: BTreeMap<BlockHash, Vec<Waiter>>,
    hashes: BTreeMap<WaiterId, BlockHash>,
}

impl Readers {
    pub(super) fn add(&mut self, id: WaiterId, session: SessionId, cid: Cid, hash: BlockHash, reply: Reply) {
        self.by_hash.entry(hash).or_default().push(Waiter { id, session, cid, reply });
        self.hashes.insert(id, hash);
    }

    /// Nobody waits for this any more. Gives the session and the block that it does not want any more, if it was the
    /// last to want it there.
    pub(super) fn drop_one(&mut self, id: WaiterId) -> Option<(SessionId, Cid)> {
        let hash = self.hashes.remove(&id)?;
        let waiters = self.by_hash.get_mut(&hash)?;
        let index = waiters.iter().position(|waiter| waiter.id == id)?;
        let gone = waiters.swap_remove(index);
        let last = waiters.iter().all(|waiter| waiter.session != gone.session);
        if waiters.is_empty() {
            self.by_hash.remove(&hash);
        }
        last.then_some((gone.session, gone.cid))
    }

    /// A block is there.
    pub(super) fn deliver(&mut self, hash: &BlockHash, data: &VerifiedBytes) {
        for waiter in self.by_hash.remove(hash).unwrap_or_default() {
            self.hashes.remove(&waiter.id);
            // Whoever has gone has left a note about it.
            let _gone = waiter.reply.send(Ok(data.clone()));
        }
    }

    /// The sessions that wait for a block.
    pub(super) fn sessions_of(&self, hash: &BlockHash) -> Vec<SessionId> {
        let mut sessions: Vec<_> = self.by_hash.get(hash).into_iter().flatten().map(|waiter| waiter.session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }

    /// Fails everything that a session waits for.
    pub(super) fn end_session(&mut self, session: SessionId, why: &SourceError) {
        for waiters in self.by_hash.values_mut() {
            for waiter in waiters.extract_if(.., |waiter| waiter.session == session) {
                self.hashes.remove(&waiter.id);
                let _gone = waiter.reply.send(Err(why.clone()));
            }
        }
        self.by_hash.retain(|_, waiters| !waiters.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarmgate_content::HashKind;

    #[test]
    fn a_session_gives_a_block_up_with_its_last_reader() {
        let mut readers = Readers::default();
        let hash = HashKind::Sha2_256.hash(b"abc");
        let cid = hash.to_cid(0x55);
        let mut replies = Vec::new();
        for (id, session) in [(1, 1), (2, 1), (3, 2)] {
            let (reply, waits) = oneshot::channel();
            readers.add(WaiterId(id), SessionId(session), cid, hash, reply);
            replies.push(waits);
        }
        assert_eq!(readers.sessions_of(&hash), [SessionId(1), SessionId(2)]);
        assert_eq!(readers.drop_one(WaiterId(1)), None);
        assert_eq!(readers.drop_one(WaiterId(2)), Some((SessionId(1), cid)));
        assert_eq!(readers.drop_one(WaiterId(2)), None);
        let data = VerifiedBytes::check(&hash, b"abc".as_slice().into()).unwrap();
        readers.deliver(&hash, &data);
        assert_eq!(replies[2].try_recv().unwrap().unwrap(), data);
        assert!(readers.sessions_of(&hash).is_empty());
    }
}
