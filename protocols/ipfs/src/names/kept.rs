//! IPNS records that somebody imported here: in the store's index, where a write is whole or not there at all.

use std::time::SystemTime;

use bytes::Bytes;
use swarmgate_ipfs_proto::content_path::Root;
use swarmgate_ipfs_proto::ipns::{Name, Record};
use swarmgate_store::Store;

use super::{NameError, NameErrorKind};

/// The store's table.
const TABLE: &str = "ipns";

#[derive(Debug)]
pub(super) struct KeptRecords {
    store: Store,
}

impl KeptRecords {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// The record imported for a name, expired or not. One that no longer reads is as one that is not there.
    pub(super) async fn get(&self, name: &Name) -> Result<Option<Record>, NameError> {
        let found = self.store.get_record(TABLE, &key(name)).await;
        let bytes = found.map_err(|error| disk(name, &error))?;
        Ok(bytes.and_then(|bytes| match Record::parse(name, bytes) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(%name, %error, "a record that was imported is damaged");
                None
            }
        }))
    }

    /// Keeps a record unless a better one is there, and returns the one that is kept.
    pub(super) async fn import(&self, name: &Name, bytes: Bytes, now: SystemTime) -> Result<Record, NameError> {
        let refuse = |kind, detail: String| NameError::new(Root::Key(*name), kind, detail);
        let record = Record::parse(name, bytes).map_err(|error| refuse(NameErrorKind::Invalid, error.to_string()))?;
        if !record.is_valid(now) {
            return Err(refuse(NameErrorKind::Expired, expired(&record)));
        }
        let before = self.get(name).await?;
        if let Some(better) = before.filter(|before| before.supersedes(&record) || *before == record) {
            return Ok(better);
        }
        let written = self.store.put_record(TABLE, &key(name), record.as_bytes().clone()).await;
        written.map_err(|error| disk(name, &error))?;
        Ok(record)
    }
}

/// Says since when a record is of no use.
pub(super) fn expired(record: &Record) -> String {
    format!("its record expired at {}", humantime::format_rfc3339_seconds(record.expires()))
}

fn key(name: &Name) -> Vec<u8> {
    name.peer_id().to_bytes()
}

fn disk(name: &Name, error: &swarmgate_store::RecordError) -> NameError {
    NameError::new(Root::Key(*name), NameErrorKind::StoreIo, error.to_string())
}
