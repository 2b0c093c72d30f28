//! Labels of an item: words that its owner sorts items by. They mean nothing to the engine and are kept with the item.

use swarmgate_content::InfoHash;

use crate::protocol::BitTorrentProtocol;

/// Labels of one item: 16. Whoever sorts by more wants a database.
pub const MAX_LABELS: usize = 16;
/// Bytes in one label: 64. All of an item's are some 1 KiB of its record.
pub const MAX_LABEL_BYTES: usize = 64;

/// Whether a text may be a label: 1 to [`MAX_LABEL_BYTES`] bytes, no control characters.
#[must_use]
pub fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&text.len()) && !text.contains(char::is_control)
}

impl BitTorrentProtocol {
    /// Gives an item these labels in place of those that it has; what [`is_label`] refuses, and more than [`MAX_LABELS`],
    /// are left out. Tells whether the item is known.
    pub async fn set_labels(&self, infohash: &InfoHash, labels: Vec<String>) -> bool {
        let key = {
            let mut items = self.engine.items.lock();
            let key = items.key(*infohash);
            let Some(record) = items.records.get_mut(&key) else { return false };
            record.labels = labels.into_iter().filter(|label| is_label(label)).take(MAX_LABELS).collect();
            key
        };
        self.engine.persist(key).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_short_and_one_line() {
        for label in ["a", "films & more", "фильмы", &"x".repeat(MAX_LABEL_BYTES)] {
            assert!(is_label(label), "{label}");
        }
        for none in ["", "a\nb", "\u{7f}", &"x".repeat(MAX_LABEL_BYTES + 1), &"ф".repeat(33)] {
            assert!(!is_label(none), "{none}");
        }
    }
}
