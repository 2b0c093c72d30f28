//! JSON as a bounded tree. Reading fails only on what is no JSON; what a field must be is asked afterwards, where its
//! name is known for the error.
//!
//! A tree of a 64 KiB message is bounded by it; wide lists and deep nesting are skipped rather than kept. When a key
//! comes twice the later one counts, as in browsers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{MAX_SCRAPE_HASHES, Problem};

/// Items kept of a list, and entries of an object: the longest list that anything reads, and room for unknown fields.
const MAX_ITEMS: usize = 2 * MAX_SCRAPE_HASHES;
/// Objects and lists in each other, counted from the message: `offers`, its item, its `offer`, and one to spare.
const MAX_DEPTH: usize = 5;
/// Numbers past this are rounded in the JSON of browsers (2^53), and no torrent is as large.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// One value. What is too deep or of no use is [`Json::Other`].
pub(super) enum Json<'a> {
    Null,
    /// A whole number from 0.
    Number(u64),
    Text(Cow<'a, str>),
    List {
        /// The first ones.
        items: Vec<Self>,
        /// How many there are.
        len: usize,
    },
    Object {
        /// The first ones.
        entries: Vec<(Cow<'a, str>, Self)>,
        /// How many there are.
        len: usize,
    },
    Other,
}

impl<'a> Json<'a> {
    /// Reads one value, and nothing after it.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, Problem> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let value = Depth(MAX_DEPTH).deserialize(&mut deserializer).map_err(|error| Problem::from(&error))?;
        deserializer.end().map_err(|error| Problem::from(&error))?;
        Ok(value)
    }

    /// The value of a key, when this is an object, the key is there, and its value is not null.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object { entries, .. } = self else { return None };
        let found = entries.iter().rfind(|(name, _)| name == key).map(|(_, value)| value);
        found.filter(|value| !matches!(value, Self::Null))
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number, also when it is written as text.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Null | Self::List { .. } | Self::Object { .. } | Self::Other => None,
        }
    }
}

/// How many more objects and lists may be entered.
#[derive(Clone, Copy)]
struct Depth(usize);

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Json::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Json::Other)
    }

    #[expect(clippy::cast_possible_truncation, reason = "checked to be a whole number from 0 to 2^53")]
    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        let whole = (0.0..=MAX_EXACT).contains(&number) && number.fract() == 0.0;
        Ok(if whole { Json::Number(number as u64) } else { Json::Other })
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut items, mut len) = (Vec::new(), 0);
        if let Some(depth) = self.0.checked_sub(1) {
            while items.len() < MAX_ITEMS
                && let Some(item) = list.next_element_seed(Self(depth))?
            {
                items.push(item);
            }
            len = items.len();
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            len += 1;
        }
        Ok(if self.0 == 0 { Json::Other } else { Json::List { items, len } })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut entries, mut len) = (Vec::new(), 0);
        if let Some(depth) = self.0.checked_sub(1) {
            while entries.len() < MAX_ITEMS
                && let Some(key) = map.next_key_seed(Key)?
            {
                entries.push((key, map.next_value_seed(Self(depth))?));
            }
            len = entries.len();
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            len += 1;
        }
        Ok(if self.0 == 0 { Json::Other } else { Json::Object { entries, len } })
    }
}

/// A key, borrowed where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}
