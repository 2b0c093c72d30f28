//! Names that strangers gave to files, as they may stand on a disk. What could lead out of a folder is refused; what
//! some system could not store is replaced.

/// Bytes of a name, so that there is room for `.part` on systems that take 255.
const MAX_NAME_BYTES: usize = 240;
/// Characters of a name shown in an error.
const SHOWN_CHARS: usize = 60;

/// A name that could lead out of the folder in which it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an entry is named {shown:?}, which {why}")]
pub(super) struct Escape {
    shown: String,
    why: &'static str,
}

/// The name of a directory's entry, as a file's: one that every filesystem takes.
///
/// # Errors
/// [`Escape`] when it is none, is `.` or `..`, or has a separator or a NUL in it.
pub(super) fn file_name(name: &[u8]) -> Result<String, Escape> {
    let text = String::from_utf8_lossy(name);
    let why = match &*text {
        "" => "is no name",
        "." | ".." => "leads out of the directory",
        text if text.contains(['/', '\\']) => "is a path",
        text if text.contains('\0') => "has a NUL in it",
        text => return Ok(safe(text)),
    };
    Err(Escape { shown: shown(&text), why })
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// A component that every filesystem takes: no separators, reserved characters, trailing dots, device names or `..`.
pub(super) fn safe(component: &str) -> String {
    let reserved = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    let mut name: String = component.chars().map(|c| if reserved(c) { '_' } else { c }).collect();
    while name.len() > MAX_NAME_BYTES {
        name.pop();
    }
    let trimmed = name.trim_end_matches(['.', ' ']);
    let stem = trimmed.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (stem.len() == 4 && (stem.starts_with("COM") || stem.starts_with("LPT")));
    match trimmed {
        "" => "_".to_owned(),
        name if device => format!("_{name}"),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_name_becomes_one_that_any_filesystem_takes() {
        for (name, safe_name) in [
            ("film.mkv", "film.mkv"),
            ("..", "_"),
            ("a/../../etc", "a_.._.._etc"),
            ("nul.txt", "_nul.txt"),
            ("COM1", "_COM1"),
            ("dots...", "dots"),
            ("a:b\0c", "a_b_c"),
        ] {
            assert_eq!(safe(name), safe_name);
        }
        assert!(safe(&"ä".repeat(400)).len() <= MAX_NAME_BYTES);
    }

    #[test]
    fn a_name_that_could_lead_out_of_its_directory_is_refused_with_the_reason() {
        for (name, why) in [
            (&b""[..], "is no name"),
            (b".", "leads out"),
            (b"..", "leads out"),
            (b"../up", "is a path"),
            (b"/etc/passwd", "is a path"),
            (b"a\\..\\b", "is a path"),
            (b"C:\\boot", "is a path"),
            (b"film\0.mkv", "NUL"),
        ] {
            let error = file_name(name).unwrap_err().to_string();
            assert!(error.starts_with("an entry is named \"") && error.contains(why), "{error}");
        }
        for (name, file) in
            [(&b"..."[..], "_"), (b"C:", "C_"), (b"nul", "_nul"), (b"..a", "..a"), (b"\xff", "\u{fffd}")]
        {
            assert_eq!(file_name(name).unwrap(), file);
        }
        assert!(file_name(&[b'/'; 9000]).unwrap_err().to_string().len() < 200);
    }
}
