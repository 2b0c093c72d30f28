//! What a file without a telling name is, by its first bytes.
//!
//! Only what browsers and players can show is looked for. Text is text only when all that is there is UTF-8 without
//! control characters; everything else stays a stream of bytes.

/// How many bytes are looked at: what the WHATWG's MIME sniffing standard looks at for text, and more than the longest
/// mark.
pub const SNIFFED_BYTES: u64 = 1445;

/// Marks at the beginning of a file.
const MARKS: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"\0\0\x01\0", "image/x-icon"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"OggS\0", "application/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\0asm", "application/wasm"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
];

/// The content type that a file's first bytes promise; `all` when they are the whole file.
#[must_use]
pub fn content_type(head: &[u8], all: bool) -> &'static str {
    if let Some((_, found)) = MARKS.iter().find(|(mark, _)| head.starts_with(mark)) {
        return found;
    }
    let at = |from: usize, mark: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(mark));
    if at(0, b"RIFF") && at(8, b"WEBP") {
        return "image/webp";
    }
    if at(0, b"RIFF") && at(8, b"WAVE") {
        return "audio/wav";
    }
    if at(4, b"ftyp") {
        return if at(8, b"avif") { "image/avif" } else { "video/mp4" };
    }
    if at(257, b"ustar") {
        return "application/x-tar";
    }
    text(head, all).map_or("application/octet-stream", of_text)
}

/// The bytes as text, if that is what they are. The last character may be cut.
fn text(head: &[u8], all: bool) -> Option<&str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if !all && error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let is_text = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0c' | '\x1b');
    text.chars().all(is_text).then_some(text)
}

fn of_text(text: &str) -> &'static str {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let begins = |tag: &str| start.get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag));
    if begins("<!doctype html") || begins("<html") || begins("<head") || begins("<body") {
        "text/html; charset=utf-8"
    } else if begins("<svg") || (begins("<?xml") && start.contains("<svg")) {
        "image/svg+xml"
    } else if begins("<?xml") {
        "text/xml; charset=utf-8"
    } else if looks_like_json(start) {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    }
}

/// Whether a text is JSON as far as it is there: an object or a list. A text that is cut may end within a value.
fn looks_like_json(text: &str) -> bool {
    if !text.starts_with(['{', '[']) {
        return false;
    }
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => true,
        Err(error) => error.is_eof(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_can_be_shown_is_known_by_its_first_bytes() {
        for (head, expected) in [
            (&b"{ \"test\": \"i am a plain json file\" }\n"[..], "application/json"),
            (b"[1, 2", "application/json"),
            (b"{not json}", "text/plain; charset=utf-8"),
            (b"hello\n", "text/plain; charset=utf-8"),
            ("grün".as_bytes(), "text/plain; charset=utf-8"),
            (b"  <!DOCTYPE html><p>", "text/html; charset=utf-8"),
            (b"<?xml version='1.0'?><svg/>", "image/svg+xml"),
            (b"<svg xmlns=", "image/svg+xml"),
            (b"\x89PNG\r\n\x1a\n....", "image/png"),
            (b"\0\0\0\x20ftypisom", "video/mp4"),
            (b"RIFF....WEBPVP8 ", "image/webp"),
            (b"\0\x01\x02", "application/octet-stream"),
            (b"\xff\xfe\xfd", "application/octet-stream"),
            (b"", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(content_type(head, true), expected, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn a_character_that_is_cut_is_no_reason_to_doubt() {
        let head = &"ü".as_bytes()[..1];
        assert_eq!(content_type(head, false), "text/plain; charset=utf-8");
        assert_eq!(content_type(head, true), "application/octet-stream");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(head in proptest::collection::vec(any::<u8>(), 0..300), all: bool) {
            let _ = content_type(&head, all);
        }
    }
}
