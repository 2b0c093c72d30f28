//! What stands behind `/bt/` in a URL, parsed before anything is looked up.
//!
//! ```text
//! {id}                     → the same with a slash
//! {id}.torrent .m3u8 .m3u .tar .zip → a representation of the whole
//! {id}/                    → its listing
//! {id}/a/b.mkv             → a file, or a folder without its slash
//! {id}/a/                  → a folder
//! {id}/@7  {id}/@7/title   → a file by number; the title is for players to show
//! {id}/@best               → the file a player should get
//! ```
//! A first component that really starts with `@` is spelt `%40`.

use crate::error::{Problem, ProblemKind};
use crate::query::{Format, decode_segment, file_number};

/// Deepest path that is looked up, in components.
const MAX_DEPTH: usize = 128;

/// A parsed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BtPath<'a> {
    /// The id as spelt.
    pub id: &'a str,
    /// Everything after the id, as spelt.
    pub rest: &'a str,
    /// What is meant.
    pub target: Target,
}

/// What a path names within a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The content without a slash: not its listing yet.
    Bare,
    /// A representation of the whole content.
    Whole(Format),
    /// A file, or a folder that lacks its slash.
    Path(Vec<String>),
    /// A folder; the empty path is the root.
    Folder(Vec<String>),
    /// A file by number.
    Index(usize),
    /// The file a player should get.
    Best,
}

impl<'a> BtPath<'a> {
    /// Parses what follows `/bt/`, still percent-encoded.
    ///
    /// # Errors
    /// 400 for a path that cannot name a file, 406 for a suffix of no known format.
    pub fn parse(text: &'a str) -> Result<Self, Problem> {
        let Some(slash) = text.find('/') else {
            let (id, suffix) = text.split_once('.').unwrap_or((text, ""));
            let target = if suffix.is_empty() { Target::Bare } else { Target::Whole(whole(suffix)?) };
            return Ok(Self { id, rest: &text[id.len()..], target });
        };
        let (id, rest) = text.split_at(slash);
        Ok(Self { id, rest, target: Target::parse(&rest[1..])? })
    }
}

/// Reads a suffix alias: those of formats whose links are relative to the content's parent.
fn whole(suffix: &str) -> Result<Format, Problem> {
    match Format::parse(suffix)? {
        format @ (Format::Torrent | Format::M3u8 | Format::Archive(_)) => Ok(format),
        Format::Html | Format::Json | Format::Magnet => {
            Err(Problem::new(ProblemKind::NotAcceptable, "the suffixes are .torrent, .m3u8, .m3u, .tar and .zip"))
        }
    }
}

impl Target {
    fn parse(path: &str) -> Result<Self, Problem> {
        if let Some(special) = path.strip_prefix('@').and_then(Self::special) {
            return Ok(special);
        }
        if path.is_empty() {
            return Ok(Self::Folder(Vec::new()));
        }
        let (path, slash) = match path.strip_suffix('/') {
            Some(folder) => (folder, true),
            None => (path, false),
        };
        if path.split('/').count() > MAX_DEPTH {
            return Err(bad(format!("a path has at most {MAX_DEPTH} components")));
        }
        let components = path.split('/').map(component).collect::<Result<Vec<_>, _>>()?;
        Ok(if slash { Self::Folder(components) } else { Self::Path(components) })
    }

    /// What a path that starts with a literal `@` means, if anything special.
    fn special(text: &str) -> Option<Self> {
        if text == "best" {
            return Some(Self::Best);
        }
        let (number, title) = text.split_once('/').unwrap_or((text, ""));
        file_number(number).filter(|_| !title.contains('/')).map(Self::Index)
    }
}

fn component(segment: &str) -> Result<String, Problem> {
    let component = decode_segment(segment).ok_or_else(|| bad("a path component is not UTF-8"))?;
    if matches!(component.as_str(), "" | "." | "..") {
        return Err(bad("a path component is empty, . or .."));
    }
    if component.contains('\0') {
        return Err(bad("a path component has a NUL"));
    }
    Ok(component)
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::BadPath, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(text: &str) -> Target {
        BtPath::parse(text).unwrap().target
    }

    fn path(components: &[&str]) -> Vec<String> {
        components.iter().map(|&it| it.to_owned()).collect()
    }

    #[test]
    fn every_address_form_has_its_meaning() {
        for (text, expected) in [
            ("ID", Target::Bare),
            ("ID/", Target::Folder(vec![])),
            ("ID.torrent", Target::Whole(Format::Torrent)),
            ("ID.m3u8", Target::Whole(Format::M3u8)),
            ("ID.m3u", Target::Whole(Format::M3u8)),
            ("ID/a%20b/c.mkv", Target::Path(path(&["a b", "c.mkv"]))),
            ("ID/a/", Target::Folder(path(&["a"]))),
            ("ID/@7", Target::Index(7)),
            ("ID/@7/any%20title.mkv", Target::Index(7)),
            ("ID/@best", Target::Best),
            ("ID/%407", Target::Path(path(&["@7"]))),
            ("ID/@seven", Target::Path(path(&["@seven"]))),
            ("ID/a/@7", Target::Path(path(&["a", "@7"]))),
            ("ID/a%2Fb", Target::Path(path(&["a/b"]))),
        ] {
            assert_eq!(target(text), expected, "{text}");
        }
    }

    #[test]
    fn the_rest_of_the_url_survives_a_redirect_as_it_was_spelt() {
        let parsed = BtPath::parse("ID/a%20b/").unwrap();
        assert_eq!((parsed.id, parsed.rest), ("ID", "/a%20b/"));
        let parsed = BtPath::parse("ID.torrent").unwrap();
        assert_eq!((parsed.id, parsed.rest), ("ID", ".torrent"));
    }

    #[test]
    fn paths_that_climb_or_hide_are_refused() {
        for text in
            ["ID//", "ID//a", "ID/a//b", "ID/../x", "ID/a/..", "ID/./a", "ID/%2e%2e/x", "ID/a%00b", "ID/%ff", "ID/a//"]
        {
            assert_eq!(BtPath::parse(text).unwrap_err().kind(), ProblemKind::BadPath, "{text}");
        }
        for text in ["ID.rar", "ID.json", "ID.exe"] {
            assert_eq!(BtPath::parse(text).unwrap_err().kind(), ProblemKind::NotAcceptable, "{text}");
        }
        assert!(BtPath::parse(&format!("ID/{}", "a/".repeat(200))).is_err());
    }

    proptest! {
        #[test]
        fn no_path_panics_and_none_that_passes_climbs(text in "[-a-z0-9@%./2eEfF]{0,40}") {
            if let Ok(BtPath { target: Target::Path(path) | Target::Folder(path), .. }) = BtPath::parse(&text) {
                prop_assert!(path.iter().all(|it| !matches!(it.as_str(), "" | "." | "..")));
            }
        }
    }
}
