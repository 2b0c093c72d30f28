//! `Content-Disposition` (RFC 6266) from names that strangers chose.
//!
//! Both forms are always sent: `filename` in ASCII for old clients, `filename*` in UTF-8 (RFC 8187) for the rest.

use std::fmt::Write as _;

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Longest name sent, in bytes: what common file systems take.
const MAX_NAME_BYTES: usize = 255;

/// Everything but `attr-char` of RFC 8187 §3.2.1.
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The header's value for a file of this name, shown in place or saved.
#[must_use]
pub fn header(name: &str, download: bool) -> HeaderValue {
    let kind = if download { "attachment" } else { "inline" };
    let name = sanitise(name);
    let mut value = format!("{kind}; filename=\"");
    value.extend(name.chars().map(|c| if c.is_ascii() && !matches!(c, '"' | '\\' | '%') { c } else { '_' }));
    let _ = write!(value, "\"; filename*=UTF-8''{}", utf8_percent_encode(&name, NOT_ATTR_CHAR));
    HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

/// A name that is safe as one component of a path anywhere: no separators, no control or direction characters, no
/// leading dots, not longer than 255 bytes with its extension kept.
#[must_use]
pub fn sanitise(name: &str) -> String {
    let clean = |c: char| match c {
        '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => '_',
        // Characters that reorder text make `exe.gpj` out of `jpg.exe`.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    let name: String = name.trim_matches([' ', '.']).chars().map(clean).collect();
    if name.is_empty() { "file".to_owned() } else { shorten(name) }
}

fn shorten(name: String) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    let extension =
        name.rsplit_once('.').map(|(_, extension)| extension).filter(|it| it.len() <= 16).unwrap_or_default();
    let room = MAX_NAME_BYTES - extension.len() - 1;
    let end = (0..=room).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    if extension.is_empty() { name[..end].to_owned() } else { format!("{}.{extension}", &name[..end]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_carry_the_name_each_in_its_alphabet() {
        assert_eq!(header("film.mp4", false), "inline; filename=\"film.mp4\"; filename*=UTF-8''film.mp4");
        let value = header("Größe 50% \"x\".txt", true);
        assert_eq!(
            value,
            "attachment; filename=\"Gr__e 50_ _x_.txt\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%2050%25%20_x_.txt"
        );
    }

    #[test]
    fn names_that_would_escape_or_deceive_are_defused() {
        for (name, expected) in [
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..", "file"),
            ("", "file"),
            ("a\r\nSet-Cookie: x", "a__Set-Cookie_ x"),
            ("photo\u{202e}gpj.exe", "photo_gpj.exe"),
            ("C:\\x", "C__x"),
        ] {
            assert_eq!(sanitise(name), expected, "{name:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let name = sanitise(&format!("{}.mkv", "ü".repeat(200)));
        assert!(name.len() <= MAX_NAME_BYTES && name.ends_with("ü.mkv"), "{name}");
    }

    proptest! {
        #[test]
        fn every_name_gives_a_header_with_its_two_forms(name in "\\PC{0,300}") {
            let value = header(&name, false);
            let value = value.to_str().unwrap();
            prop_assert!(value.starts_with("inline; filename=\"") && value.contains("filename*=UTF-8''"));
            prop_assert_eq!(value.matches('"').count(), 2);
        }
    }
}
