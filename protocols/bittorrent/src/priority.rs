//! Priorities of items: of those that wait for a place, who has one first. An item's is kept with it.

use serde::{Deserialize, Serialize};
use swarmgate_content::InfoHash;

use crate::protocol::BitTorrentProtocol;

/// When an item that was added to stay has its turn. The first comes before the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// Before all that have another.
    High,
    /// In its turn.
    #[default]
    Normal,
    /// After all that have another.
    Low,
}

impl Priority {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The word that the API says it by.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The one of that word, if there is one.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.word() == word)
    }

    /// Whether it is what an item has unless somebody says otherwise.
    pub(crate) fn is_normal(&self) -> bool {
        *self == Self::Normal
    }
}

impl BitTorrentProtocol {
    /// Gives an item a priority, by which the places of those that nobody reads are dealt anew. Tells whether the item is
    /// known.
    pub async fn set_priority(&self, infohash: &InfoHash, priority: Priority) -> bool {
        let key = {
            let mut items = self.engine.items.lock();
            let key = items.key(*infohash);
            let Some(record) = items.records.get_mut(&key) else { return false };
            record.priority = priority;
            key
        };
        self.engine.persist(key).await;
        self.engine.house.notify_one();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_priority_has_a_word_and_comes_before_the_next() {
        for priority in Priority::ALL {
            assert_eq!(Priority::of_word(priority.word()), Some(priority));
            assert_eq!(serde_json::to_string(&priority).unwrap(), format!("\"{}\"", priority.word()));
        }
        assert!(Priority::High < Priority::Normal && Priority::Normal < Priority::Low);
        assert_eq!((Priority::of_word("High"), Priority::of_word("")), (None, None));
    }
}
