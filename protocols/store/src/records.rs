//! Small durable records beside the blocks: the list of items and the like. They do not count in the budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::database::{Change, Database, MAX_NAME_BYTES, record_key};
use crate::error::RecordError;
use crate::inner::{Active, Home};
use crate::store::Store;

/// The longest value of a record. 64 KiB.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// The longest key of a record. 1 KiB.
pub const MAX_RECORD_KEY_BYTES: usize = 1024;

/// A memory store's records, by table and key as on disk.
pub(crate) type MemoryRecords = BTreeMap<Vec<u8>, Bytes>;

impl Store {
    /// Writes a record, replacing the one of that key. On disk once it returns.
    ///
    /// # Errors
    /// [`RecordError`] when a part is too long or the index fails; the old record is then still there.
    pub async fn put_record(&self, table: &str, key: &[u8], value: Bytes) -> Result<(), RecordError> {
        bounded("value", value.len(), MAX_RECORD_BYTES)?;
        let (active, key) = self.record(table, key)?;
        match &active.inner().home {
            Home::Memory(records) => {
                records.lock().insert(key, value);
                Ok(())
            }
            Home::Disk(disk) => change(&active, &disk.database, Change::PutRecord { key, value }).await,
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`] when the index fails.
    pub async fn get_record(&self, table: &str, key: &[u8]) -> Result<Option<Bytes>, RecordError> {
        let (active, key) = self.record(table, key)?;
        match &active.inner().home {
            Home::Memory(records) => Ok(records.lock().get(&key).cloned()),
            Home::Disk(disk) => blocking(&active, disk, move |database| database.record(&key)).await,
        }
    }

    /// Deletes a record; one that is not there is fine.
    ///
    /// # Errors
    /// [`RecordError`] when the index fails.
    pub async fn delete_record(&self, table: &str, key: &[u8]) -> Result<(), RecordError> {
        let (active, key) = self.record(table, key)?;
        match &active.inner().home {
            Home::Memory(records) => {
                records.lock().remove(&key);
                Ok(())
            }
            Home::Disk(disk) => change(&active, &disk.database, Change::DropRecord { key }).await,
        }
    }

    /// Reads all records of a table as (key, value), by key.
    ///
    /// # Errors
    /// [`RecordError`] when the index fails.
    pub async fn list_records(&self, table: &str) -> Result<Vec<(Bytes, Bytes)>, RecordError> {
        let (active, prefix) = self.record(table, &[])?;
        match &active.inner().home {
            Home::Memory(records) => {
                let records = records.lock();
                let rows = records.range(prefix.clone()..).map_while(|(key, value)| {
                    Some((Bytes::copy_from_slice(key.strip_prefix(&prefix[..])?), value.clone()))
                });
                Ok(rows.collect())
            }
            Home::Disk(disk) => blocking(&active, disk, move |database| database.records(&prefix)).await,
        }
    }

    /// Waits until all pins and unpins made so far are on the disk.
    ///
    /// # Errors
    /// [`RecordError`] when the index fails, or one of those changes has failed since the last call.
    pub async fn flush(&self) -> Result<(), RecordError> {
        let active = self.inner().enter().ok_or(RecordError::Closed)?;
        match &active.inner().home {
            Home::Memory(_) => Ok(()),
            Home::Disk(disk) => {
                change(&active, &disk.database, Change::Nothing).await?;
                let lost = active.inner().pins_lost.lock().take();
                lost.map_or(Ok(()), |fault| Err(fault.into()))
            }
        }
    }

    fn record(&self, table: &str, key: &[u8]) -> Result<(Active, Vec<u8>), RecordError> {
        bounded("table name", table.len(), MAX_NAME_BYTES)?;
        bounded("key", key.len(), MAX_RECORD_KEY_BYTES)?;
        let active = self.inner().enter().ok_or(RecordError::Closed)?;
        Ok((active, record_key(table, key)))
    }
}

const fn bounded(what: &'static str, len: usize, limit: usize) -> Result<(), RecordError> {
    if len <= limit { Ok(()) } else { Err(RecordError::TooLarge { what, len, limit }) }
}

async fn change(active: &Active, database: &Arc<Database>, change: Change) -> Result<(), RecordError> {
    let slot = database.slot().await;
    let (tell, told) = oneshot::channel();
    let active = active.clone();
    let done = move |result| {
        drop((active, slot));
        // Whoever asked may have left; the change is made all the same.
        let _ = tell.send(result);
    };
    database.submit(change, Box::new(done));
    Ok(told.await.map_err(|_| RecordError::Closed)??)
}

async fn blocking<T: Send + 'static>(
    active: &Active,
    disk: &crate::disk::Disk,
    read: impl FnOnce(&Database) -> Result<T, crate::error::StorageFault> + Send + 'static,
) -> Result<T, RecordError> {
    let turn = Arc::clone(&disk.reads).acquire_owned().await;
    let (active, database) = (active.clone(), Arc::clone(&disk.database));
    let runtime = active.inner().runtime.clone();
    let job = runtime.spawn_blocking(move || {
        let result = read(&database);
        drop((turn, active));
        result
    });
    Ok(job.await.map_err(|_| RecordError::Closed)??)
}
