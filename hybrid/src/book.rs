//! Which names on which networks are the same bytes, kept in the index.
//!
//! The rules ([`Bindings`]) decide what is kept and what goes; here each of them is a record, so that a kill at any
//! moment loses nothing that was added. A record's key is the hash of what it says: said again, it is written again,
//! and no record is there twice. Beside it stands a number that orders records by age, as the rules want it.
//!
//! # Why is `refute` async?
//! Because a pair that gave wrong bytes must not be believed after a restart either, so whoever found it out waits for
//! the disk. When that fails the pair is refuted until then, and the log says so: wrong bytes are never served anyhow.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use swarmgate_content::HashKind;
use swarmgate_hybrid_rules::{Authority, BindingError, Bindings, ContentBinding, Name, PushedOut};
use swarmgate_store::{RecordError, Store};

/// The store's table of bindings.
const BINDINGS: &str = "hybrid-bindings";
/// The store's table of refuted pairs.
const REFUTED: &str = "hybrid-refuted";
/// Records that are written at a time, so that they share the index's commits.
const AT_ONCE: usize = 256;

/// All bindings of an application. Cheap to clone; the clones are one.
#[derive(Debug, Clone)]
pub struct BindingBook {
    store: Store,
    bindings: Arc<Mutex<Bindings>>,
    /// The number that the next record has. Held while one is written, so that the index learns things in the order
    /// in which they were said.
    writing: Arc<tokio::sync::Mutex<u64>>,
}

/// Why a binding was not kept.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// It is none.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The index cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A record: what was said, and when among the others.
#[derive(Debug, Serialize, Deserialize)]
struct Row<T> {
    number: u64,
    said: T,
}

type Pair = (Name, Name);

impl BindingBook {
    /// Reads what the index has. What is damaged, or no binding any more, is left out with a warning, and deleted.
    ///
    /// # Errors
    /// [`RecordError`] when the index fails.
    pub async fn open(store: Store) -> Result<Self, RecordError> {
        let (pairs, said): (Vec<Row<Pair>>, Vec<Row<ContentBinding>>) =
            (read(&store, REFUTED).await?, read(&store, BINDINGS).await?);
        let last = pairs.iter().map(|row| row.number).chain(said.iter().map(|row| row.number)).max();
        let book = Self {
            store,
            bindings: Arc::default(),
            writing: Arc::new(tokio::sync::Mutex::new(last.map_or(0, |last| last.saturating_add(1)))),
        };
        for Row { said: (one, other), .. } in pairs {
            let gone = book.bindings.lock().refute(&one, &other);
            book.forget(gone).await?;
        }
        for Row { said, .. } in said {
            let key = key_of(&said);
            let inserted = book.bindings.lock().insert(said);
            match inserted {
                Ok(gone) => book.forget(gone).await?,
                Err(error) => {
                    tracing::warn!(%error, "a record of the index is no binding any more and is dropped");
                    book.store.delete_record(BINDINGS, &key).await?;
                }
            }
        }
        Ok(book)
    }

    /// The other names of what has this one, with who says so, the most trusted first. Refuted ones are left out.
    #[must_use]
    pub fn others(&self, name: &Name) -> Vec<(Name, Authority)> {
        self.bindings.lock().others(name)
    }

    /// The bindings that speak of a name.
    #[must_use]
    pub fn about(&self, name: &Name) -> Vec<ContentBinding> {
        self.bindings.lock().about(name).cloned().collect()
    }

    /// Adds what somebody said. On disk once it returns.
    ///
    /// # Errors
    /// [`BookError`].
    pub async fn add(&self, binding: ContentBinding) -> Result<(), BookError> {
        self.add_all(vec![binding]).await
    }

    /// Adds what somebody said of many files, with few writes; what was said before is not written again. On disk once it
    /// returns.
    ///
    /// # Errors
    /// [`BookError`]; those before the one that is no binding may have been added.
    pub async fn add_all(&self, bindings: Vec<ContentBinding>) -> Result<(), BookError> {
        bindings.iter().try_for_each(ContentBinding::check)?;
        let mut number = self.writing.lock().await;
        let new: Vec<_> = bindings.into_iter().filter(|binding| !self.knows(binding)).collect();
        for some in new.chunks(AT_ONCE) {
            let rows: Vec<_> = (*number..).zip(some).map(|(number, said)| Row { number, said }).collect();
            *number += some.len() as u64;
            try_join_all(rows.iter().map(|row| self.write(BINDINGS, row))).await?;
            let mut gone = PushedOut::default();
            for said in some {
                let inserted = self.bindings.lock().insert(said.clone())?;
                gone.bindings.extend(inserted.bindings);
            }
            self.forget(gone).await?;
        }
        Ok(())
    }

    /// Bytes that are right by the name `used` were wrong by the name `asked`: the two are not the same. On disk once it
    /// returns, and in force before that.
    pub async fn refute(&self, asked: &Name, used: &Name) {
        if asked == used {
            return;
        }
        let mut number = self.writing.lock().await;
        let gone = self.bindings.lock().refute(asked, used);
        let said = if asked <= used { (asked, used) } else { (used, asked) };
        let row = Row { number: *number, said };
        *number += 1;
        let written = match self.write(REFUTED, &row).await {
            Ok(()) => self.forget(gone).await,
            failed => failed,
        };
        if let Err(error) = written {
            tracing::warn!(%asked, %used, %error, "a binding that gave wrong bytes is believed again after a restart");
        }
    }

    fn knows(&self, binding: &ContentBinding) -> bool {
        let bindings = self.bindings.lock();
        binding.names.first().is_some_and(|name| bindings.about(name).any(|known| known == binding))
    }

    async fn write<T: Serialize>(&self, table: &str, row: &Row<T>) -> Result<(), RecordError> {
        let value = serde_json::to_vec(row).unwrap_or_default();
        self.store.put_record(table, &key_of(&row.said), Bytes::from(value)).await
    }

    /// Deletes what the rules have let go.
    async fn forget(&self, gone: PushedOut) -> Result<(), RecordError> {
        for binding in &gone.bindings {
            self.store.delete_record(BINDINGS, &key_of(binding)).await?;
        }
        match &gone.refuted {
            Some(pair) => self.store.delete_record(REFUTED, &key_of(pair)).await,
            None => Ok(()),
        }
    }
}

/// The key of a record: the hash of what it says, spelled in the one way that this program spells it.
fn key_of(said: &impl Serialize) -> Vec<u8> {
    // Names and numbers always have a spelling in JSON.
    let spelled = serde_json::to_vec(said).unwrap_or_default();
    HashKind::Sha2_256.hash(&spelled).digest().to_vec()
}

/// Reads a table, by age. What makes no sense, or stands under another's key, is dropped.
async fn read<T: Serialize + DeserializeOwned>(store: &Store, table: &str) -> Result<Vec<Row<T>>, RecordError> {
    let mut rows = Vec::new();
    for (key, value) in store.list_records(table).await? {
        let row = serde_json::from_slice::<Row<T>>(&value).ok().filter(|row| key_of(&row.said) == key);
        match row {
            Some(row) => rows.push(row),
            None => {
                tracing::warn!(table, bytes = value.len(), "a record of the index is damaged and is dropped");
                store.delete_record(table, &key).await?;
            }
        }
    }
    rows.sort_by_key(|row: &Row<T>| row.number);
    Ok(rows)
}

#[cfg(test)]
mod tests;
