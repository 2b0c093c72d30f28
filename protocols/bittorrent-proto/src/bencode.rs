//! Bencode (BEP 3), strict and bounded.
//!
//! [`decode()`] checks a whole input once, against the grammar and the limits of [`DecodeOptions`], and builds no tree.
//! What it returns is a view: a [`Value`] borrows the input, and a [`Dict`] can give back the exact bytes of any of its
//! values ([`Dict::raw`]), because an infohash is the hash of exactly those. [`OwnedValue`] is the way out.
//!
//! # Why views instead of a tree?
//! A 16 MiB `info` of empty lists is a tree of half a gigabyte, and a stranger sends it. A view costs nothing until it
//! is walked, and walking reads only what was checked before.

mod decode;
mod encode;

pub use decode::{DecodeError, DecodeOptions, Problem, decode, decode_prefix};
pub use encode::OwnedValue;

use decode::{end_of, scan_int, scan_string};

/// One bencoded value, borrowed from an input that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// `i…e`.
    Int(i64),
    /// `n:…`: bytes, often text.
    Bytes(&'a [u8]),
    /// `l…e`.
    List(List<'a>),
    /// `d…e`.
    Dict(Dict<'a>),
}

/// A list, borrowed from an input that was checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct List<'a>(&'a [u8]);

/// A dictionary, borrowed from an input that was checked. Its keys are unique.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dict<'a>(&'a [u8]);

/// One key of a [`Dict`] with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: Value<'a>,
    /// The value's exact bytes.
    pub raw: &'a [u8],
}

/// Reads the value that begins `checked`, and how long it is. `None` never happens for input that was checked.
fn first(checked: &[u8]) -> Option<(Value<'_>, usize)> {
    match *checked.first()? {
        b'i' => scan_int(checked, 0).ok().map(|(int, end)| (Value::Int(int), end)),
        b'l' => end_of(checked).map(|end| (Value::List(List(&checked[..end])), end)),
        b'd' => end_of(checked).map(|end| (Value::Dict(Dict(&checked[..end])), end)),
        _ => scan_string(checked, 0).ok().map(|(bytes, end)| (Value::Bytes(bytes), end)),
    }
}

impl<'a> Value<'a> {
    /// The number, when it is one.
    #[must_use]
    pub const fn as_int(&self) -> Option<i64> {
        if let Self::Int(int) = self { Some(*int) } else { None }
    }

    /// The bytes, when it is a string.
    #[must_use]
    pub const fn as_bytes(&self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The text, when it is a string of valid UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        self.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The list, when it is one.
    #[must_use]
    pub const fn as_list(&self) -> Option<List<'a>> {
        if let Self::List(list) = self { Some(*list) } else { None }
    }

    /// The dictionary, when it is one.
    #[must_use]
    pub const fn as_dict(&self) -> Option<Dict<'a>> {
        if let Self::Dict(dict) = self { Some(*dict) } else { None }
    }
}

impl<'a> List<'a> {
    /// The exact bytes, `l` and `e` included.
    #[must_use]
    pub const fn span(&self) -> &'a [u8] {
        self.0
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut rest = self.0.get(1..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (value, len) = first(rest)?;
            rest = &rest[len..];
            Some(value)
        })
    }
}

impl<'a> Dict<'a> {
    /// The exact bytes, `d` and `e` included.
    #[must_use]
    pub const fn span(&self) -> &'a [u8] {
        self.0
    }

    /// The entries in the order they were written.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let mut rest = self.0.get(1..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (key, key_len) = scan_string(rest, 0).ok()?;
            let (value, len) = first(&rest[key_len..])?;
            let (raw, after) = rest[key_len..].split_at(len);
            rest = after;
            Some(Entry { key, value, raw })
        })
    }

    /// The value of `key`. Reads the dictionary up to there, so a caller that wants many keys of a large one iterates.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value<'a>> {
        self.iter().find(|entry| entry.key == key.as_ref()).map(|entry| entry.value)
    }

    /// The exact bytes of the value of `key`.
    #[must_use]
    pub fn raw(&self, key: impl AsRef<[u8]>) -> Option<&'a [u8]> {
        self.iter().find(|entry| entry.key == key.as_ref()).map(|entry| entry.raw)
    }

    /// The value of `key`, when it is a number.
    #[must_use]
    pub fn int(&self, key: impl AsRef<[u8]>) -> Option<i64> {
        self.get(key)?.as_int()
    }

    /// The value of `key`, when it is a string.
    #[must_use]
    pub fn bytes(&self, key: impl AsRef<[u8]>) -> Option<&'a [u8]> {
        self.get(key)?.as_bytes()
    }

    /// The value of `key`, when it is a string of valid UTF-8.
    #[must_use]
    pub fn str(&self, key: impl AsRef<[u8]>) -> Option<&'a str> {
        self.get(key)?.as_str()
    }
}

impl std::fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "List({} bytes)", self.0.len())
    }
}

impl std::fmt::Debug for Dict<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dict({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STRICT: DecodeOptions = DecodeOptions::strict(1 << 20);

    #[test]
    fn a_dictionary_gives_values_by_key_and_their_exact_bytes() {
        let input = b"d3:inti-42e4:listli1e1:xdee4:text3:abce";
        let dict = decode(input, STRICT).unwrap().as_dict().unwrap();
        assert_eq!(dict.int("int"), Some(-42));
        assert_eq!(dict.str("text"), Some("abc"));
        assert_eq!(dict.raw("list"), Some(&b"li1e1:xdee"[..]));
        assert_eq!(dict.span(), input);
        let items: Vec<_> = dict.get("list").unwrap().as_list().unwrap().iter().collect();
        assert_eq!(items[..2], [Value::Int(1), Value::Bytes(b"x")]);
        assert_eq!(items[2].as_dict().unwrap().iter().count(), 0);
        assert!(dict.get("absent").is_none() && dict.int("text").is_none());
    }

    #[test]
    fn an_error_says_where_and_what_was_expected() {
        for (input, message) in [
            (&b""[..], "byte 0: the input ends where a value should be"),
            (b"x", "byte 0: found 'x' where a value should be"),
            (b"i12", "byte 3: the input ends where a digit or 'e' should be"),
            (b"ie", "byte 1: found 'e' where a digit should be"),
            (b"i012e", "byte 1: the number has a leading zero"),
            (b"i-0e", "byte 1: minus zero is not a number"),
            (b"i9223372036854775808e", "byte 1: the number does not fit 64 bits"),
            (b"01:a", "byte 0: the number has a leading zero"),
            (b"5:abc", "byte 2: the string is 5 bytes long and 3 are left"),
            (b"99999999999999999999:", "byte 0: the number does not fit 64 bits"),
            (b"d1:bi1e1:ai2ee", "byte 7: the keys are not sorted"),
            (b"d1:ai1e1:ai2ee", "byte 7: the key \"a\" occurs twice"),
            (b"di1ei2ee", "byte 1: found 'i' where a key or 'e' should be"),
            (b"i1ei2e", "byte 3: more bytes follow the value"),
        ] {
            assert_eq!(decode(input, STRICT).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_limits_hold() {
        let deep = |n: usize| [b"l".repeat(n), b"e".repeat(n)].concat();
        assert!(decode(&deep(32), STRICT).is_ok());
        assert_eq!(decode(&deep(33), STRICT).unwrap_err().problem, Problem::TooDeep { max: 32 });
        let wide = [&b"l"[..], &b"i0e".repeat(10), b"e"].concat();
        assert!(decode(&wide, STRICT.with_max_nodes(11)).is_ok());
        assert_eq!(decode(&wide, STRICT.with_max_nodes(10)).unwrap_err().problem, Problem::TooManyNodes { max: 10 });
        let long = decode(&wide, DecodeOptions::strict(31)).unwrap_err();
        assert_eq!(long.problem, Problem::TooLong { len: 32, max: 31 });
    }

    #[test]
    fn keys_in_any_order_are_read_where_allowed_but_never_twice() {
        let lenient = STRICT.in_any_key_order();
        let dict = decode(b"d1:bi1e1:ai2ee", lenient).unwrap().as_dict().unwrap();
        assert_eq!((dict.int("a"), dict.int("b")), (Some(2), Some(1)));
        let twice = decode(b"d1:bi1e1:ai2e1:bi3ee", lenient).unwrap_err();
        assert_eq!(twice.to_string(), "byte 13: the key \"b\" occurs twice");
        assert!(decode(b"d1:bde1:ali1ee1:ci3e1:ai0ee", lenient).is_err());
    }

    #[test]
    fn a_prefix_gives_the_value_and_its_length() {
        let (value, len) = decode_prefix(b"d1:ai1eeTAIL", STRICT).unwrap();
        assert_eq!((value.as_dict().unwrap().int("a"), len), (Some(1), 8));
    }

    fn any_value() -> impl Strategy<Value = OwnedValue> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(OwnedValue::Int),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(OwnedValue::Bytes),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(OwnedValue::List),
                proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 0..6), inner, 0..6)
                    .prop_map(OwnedValue::Dict),
            ]
        })
    }

    /// Touches everything a view can reach.
    fn walk(value: Value<'_>) -> usize {
        match value {
            Value::Int(_) | Value::Bytes(_) => 1,
            Value::List(list) => 1 + list.iter().map(walk).sum::<usize>(),
            Value::Dict(dict) => 1 + dict.iter().map(|entry| walk(entry.value)).sum::<usize>(),
        }
    }

    proptest! {
        #[test]
        fn every_value_survives_its_encoding(value in any_value()) {
            let bytes = value.encode();
            prop_assert_eq!(OwnedValue::from(decode(&bytes, STRICT).unwrap()), value);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_what_is_strict_has_one_spelling(
            bytes in proptest::collection::vec(prop_oneof![Just(b'd'), Just(b'l'), Just(b'e'), Just(b'i'), Just(b'1'), Just(b':'), any::<u8>()], 0..60),
        ) {
            let _ = decode_prefix(&bytes, STRICT.in_any_key_order()).map(|(value, _)| walk(value));
            if let Ok(value) = decode(&bytes, STRICT) {
                prop_assert_eq!(OwnedValue::from(value).encode(), bytes);
            }
        }
    }
}
