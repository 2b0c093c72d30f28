//! Names that strangers gave to files, as they may stand on a disk.

/// A component that every filesystem takes: no separators, reserved characters, trailing dots, device names or `..`.
pub(super) fn safe(component: &str) -> String {
    let reserved = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    let mut name: String = component.chars().map(|c| if reserved(c) { '_' } else { c }).collect();
    while name.len() > 240 {
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
        assert!(safe(&"ä".repeat(400)).len() <= 240);
    }
}
