//! How a selection of files is written, in an item's record as in the API: as BEP 53 has it, `0,2,4-7`, or null for all. For
//! serde's `with`.

use serde::{Deserialize as _, Deserializer, Serializer};
use swarmgate_bittorrent_proto::magnet::Selection;

/// Writes it.
///
/// # Errors
/// The serializer's own.
pub fn serialize<S: Serializer>(select: &Option<Selection>, serializer: S) -> Result<S::Ok, S::Error> {
    match select {
        Some(select) => serializer.collect_str(select),
        None => serializer.serialize_none(),
    }
}

/// Reads it.
///
/// # Errors
/// For what is neither text nor null, and for text that selects nothing.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Selection>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse::<Selection>().map_err(serde::de::Error::custom)).transpose()
}
