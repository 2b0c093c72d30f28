//! Names from strangers. What could lead out of a folder is refused; what could only deceive the eye is replaced.

use crate::bencode::List;

use super::PathProblem;

/// Components of one path. File systems allow about as many; deeper ones are made to exhaust their reader.
pub const MAX_COMPONENTS: usize = 128;
/// Bytes of one component: four times what common file systems store, for names in long encodings.
pub const MAX_COMPONENT_BYTES: usize = 1024;
/// Characters of a name shown in an error.
const SHOWN_CHARS: usize = 60;

/// Reads a path: `path` or `path.utf-8` of a file.
pub(super) fn parse(list: List<'_>) -> Result<Vec<String>, PathProblem> {
    let mut path = Vec::new();
    for component in list.iter() {
        if path.len() == MAX_COMPONENTS {
            return Err(PathProblem::TooDeep { max: MAX_COMPONENTS });
        }
        path.push(self::component(component.as_bytes().ok_or(PathProblem::Path)?)?);
    }
    if path.is_empty() { Err(PathProblem::Path) } else { Ok(path) }
}

/// Reads one component, which becomes safe to show and to compare; invalid UTF-8 becomes U+FFFD.
pub(super) fn component(bytes: &[u8]) -> Result<String, PathProblem> {
    if bytes.len() > MAX_COMPONENT_BYTES {
        return Err(PathProblem::TooLong { len: bytes.len(), max: MAX_COMPONENT_BYTES });
    }
    let text = String::from_utf8_lossy(bytes);
    let shown = || text.chars().take(SHOWN_CHARS).collect::<String>().escape_debug().to_string();
    if matches!(&*text, "" | "." | "..") {
        return Err(PathProblem::Relative { component: shown() });
    }
    match text.chars().find(|&c| matches!(c, '/' | '\\') || c.is_control()) {
        Some(character) => Err(PathProblem::Character { component: shown(), character }),
        None => Ok(text.chars().map(plain).collect()),
    }
}

/// Makes text from strangers safe to show: control characters and those that reorder or hide text become U+FFFD, and
/// what is past `max_chars` is cut off.
#[must_use]
pub fn display_text(text: &str, max_chars: usize) -> String {
    let keep = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { plain(c) };
    text.chars().take(max_chars).map(keep).collect()
}

/// Replaces the characters that reorder a line (Unicode UAX 9) or break it, with which "gpj.exe" can pass for "exe.jpg".
const fn plain(c: char) -> char {
    match c {
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
            char::REPLACEMENT_CHARACTER
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_leads_out_of_a_folder_is_refused_by_name() {
        for (bytes, message) in [
            (&b""[..], "a component of the path is \"\""),
            (b".", "a component of the path is \".\""),
            (b"..", "a component of the path is \"..\""),
            (b"a/b", "the component \"a/b\" of the path has the character '/'"),
            (b"a\\b", "the component \"a\\\\b\" of the path has the character '\\\\'"),
            (b"a\0", "the component \"a\\0\" of the path has the character '\\0'"),
            (b"a\x1b[1m", "the component \"a\\u{1b}[1m\" of the path has the character '\\u{1b}'"),
        ] {
            assert_eq!(component(bytes).unwrap_err().to_string(), message);
        }
        assert!(matches!(component(&[b'a'; 1025]), Err(PathProblem::TooLong { len: 1025, .. })));
    }

    #[test]
    fn what_deceives_the_eye_is_replaced() {
        assert_eq!(component("photo\u{202e}gpj.exe".as_bytes()).unwrap(), "photo\u{fffd}gpj.exe");
        assert_eq!(component(b"caf\xe9").unwrap(), "caf\u{fffd}");
        assert_eq!(component("日本語 …".as_bytes()).unwrap(), "日本語 …");
        assert_eq!(display_text("a\u{7}b\u{2066}cdef", 4), "a\u{fffd}b\u{fffd}");
    }

    proptest! {
        #[test]
        fn an_accepted_component_is_one_component_of_any_path(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(name) = component(&bytes) {
                let parts: Vec<_> = std::path::Path::new(&name).components().collect();
                prop_assert!(matches!(parts[..], [std::path::Component::Normal(part)] if part == name.as_str()));
            }
        }
    }
}
