//! What pages load: the application for browsers, hand-written ES modules and one style sheet, in the program as they
//! stand in `gateway/ui`. There is no build step, nothing of others, and nothing from elsewhere.
//!
//! Names carry no version, so each answer is validated by its entity tag: a browser never runs the modules of two
//! releases together for longer than one visit.

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

/// Bytes of a digest that tell one text from another here.
const TAG_BYTES: usize = 8;

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// One file of the application.
#[derive(Debug)]
pub struct Asset {
    /// Its name below `/ui/`.
    pub name: &'static str,
    /// Its content type.
    pub content_type: &'static str,
    /// All of it.
    pub text: &'static str,
}

/// Reads files of `gateway/ui` at build time.
macro_rules! assets {
    ($($name:literal: $content_type:expr,)*) => {
        [$(Asset { name: $name, content_type: $content_type, text: include_str!(concat!("../ui/", $name)) },)*]
    };
}

/// All files of the application.
pub const ASSETS: [Asset; 18] = assets! {
    "style.css": STYLE,
    "icon.svg": PICTURE,
    "copy.js": SCRIPT,
    "app.js": SCRIPT,
    "api.js": SCRIPT,
    "dom.js": SCRIPT,
    "words.js": SCRIPT,
    "pasted.js": SCRIPT,
    "home.js": SCRIPT,
    "problem.js": SCRIPT,
    "torrent.js": SCRIPT,
    "dag.js": SCRIPT,
    "unixfs.js": SCRIPT,
    "player.js": SCRIPT,
    "subtitles.js": SCRIPT,
    "dashboard.js": SCRIPT,
    "plot.js": SCRIPT,
    "settings.js": SCRIPT,
};

/// The file of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Asset> {
    const FILES: &[Asset] = &ASSETS;
    FILES.iter().find(|asset| asset.name == name)
}

impl Asset {
    /// Its entity tag, with quotes.
    #[must_use]
    pub fn etag(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.text.as_bytes());
        format!("\"{}\"", HEXLOWER.encode(&digest.as_ref()[..TAG_BYTES]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_folder_is_in_the_program() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
        let there = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let known: BTreeSet<_> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        assert_eq!(there.collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn what_a_module_imports_is_there_too_and_nothing_comes_from_elsewhere() {
        for asset in ASSETS.iter().filter(|asset| asset.content_type == SCRIPT) {
            for import in asset.text.lines().filter(|line| line.starts_with("import ") || line.starts_with("} from ")) {
                let from = import.rsplit('"').nth(1).unwrap_or_else(|| panic!("{}: {import}", asset.name));
                let name = from.strip_prefix("./").unwrap_or_else(|| panic!("{}: {import}", asset.name));
                assert!(find(name).is_some(), "{} imports {name}", asset.name);
            }
        }
        for asset in ASSETS.iter().filter(|asset| asset.content_type != PICTURE) {
            for foreign in ["https://", "eval(", "innerHTML", "insertAdjacentHTML", "document.write"] {
                assert!(!asset.text.contains(foreign), "{} has {foreign}", asset.name);
            }
        }
    }

    #[test]
    fn tags_differ_as_the_files_do() {
        let tags: BTreeSet<_> = ASSETS.iter().map(Asset::etag).collect();
        assert_eq!(tags.len(), ASSETS.len());
        assert!(find("app.js").is_some() && find("../app.js").is_none() && find("").is_none());
    }
}
