//! What pages load: the application for browsers, hand-written ES modules and one style sheet, in the program as they
//! stand in `gateway/ui`. There is no build step, nothing of others, and nothing from elsewhere.
//!
//! One file more can be served beside them: a webtorrent that the operator has installed, for viewers who want to join a
//! swarm themselves.
//!
//! Names carry no version, so each answer is validated by its entity tag: a browser never runs the modules of two
//! releases together for longer than one visit.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use aws_lc_rs::digest;
use bytes::Bytes;
use data_encoding::HEXLOWER;

/// Bytes of a digest that tell one text from another here.
const TAG_BYTES: usize = 8;

/// Bytes of an installed file, at most: 8 MiB, many times what a webtorrent has.
const MAX_INSTALLED_BYTES: usize = 8 * 1024 * 1024;
/// The name below `/ui/` of the webtorrent that the operator has installed.
pub const INSTALLED: &str = "webtorrent.min.js";

const STYLE: &str = "text/css; charset=utf-8";
/// The content type of modules.
pub const SCRIPT: &str = "text/javascript; charset=utf-8";
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
pub const ASSETS: [Asset; 26] = assets! {
    "style.css": STYLE,
    "icon.svg": PICTURE,
    "copy.js": SCRIPT,
    "app.js": SCRIPT,
    "api.js": SCRIPT,
    "choose.js": SCRIPT,
    "dom.js": SCRIPT,
    "words.js": SCRIPT,
    "pasted.js": SCRIPT,
    "home.js": SCRIPT,
    "keep.js": SCRIPT,
    "labels.js": SCRIPT,
    "links.js": SCRIPT,
    "peers.js": SCRIPT,
    "problem.js": SCRIPT,
    "qr.js": SCRIPT,
    "torrent.js": SCRIPT,
    "dag.js": SCRIPT,
    "unixfs.js": SCRIPT,
    "player.js": SCRIPT,
    "subtitles.js": SCRIPT,
    "dashboard.js": SCRIPT,
    "plot.js": SCRIPT,
    "settings.js": SCRIPT,
    "watch.js": SCRIPT,
    "worker.js": SCRIPT,
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
        tag_of(self.text.as_bytes())
    }
}

/// A script of others that the operator has installed, as it was at the start. Clones are the same.
#[derive(Clone)]
pub struct Installed {
    script: Bytes,
    etag: String,
}

impl Installed {
    /// Reads a script.
    ///
    /// # Errors
    /// When it cannot be read, is empty, is no text or has more than 8 MiB.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut script = Vec::new();
        File::open(path)?.take(MAX_INSTALLED_BYTES as u64 + 1).read_to_end(&mut script)?;
        let invalid = |reason: &str| Err(io::Error::new(ErrorKind::InvalidData, reason));
        if script.len() > MAX_INSTALLED_BYTES {
            return invalid("it has more than 8 MiB, so it is not webtorrent.min.js");
        }
        if script.is_empty() || std::str::from_utf8(&script).is_err() {
            return invalid("it is no script; name the file dist/webtorrent.min.js of an installed webtorrent");
        }
        Ok(Self { etag: tag_of(&script), script: script.into() })
    }

    /// All of it.
    #[must_use]
    pub const fn script(&self) -> &Bytes {
        &self.script
    }

    /// Its entity tag, with quotes.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.etag
    }
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installed").field("bytes", &self.script.len()).field("etag", &self.etag).finish()
    }
}

/// The entity tag of some bytes, with quotes.
fn tag_of(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    format!("\"{}\"", HEXLOWER.encode(&digest.as_ref()[..TAG_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_folder_is_in_the_program() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
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

    #[test]
    fn what_is_installed_is_a_script_of_bounded_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script.js");
        assert_eq!(Installed::read(&path).unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::write(&path, "export default 1;").unwrap();
        let installed = Installed::read(&path).unwrap();
        assert_eq!(installed.script().as_ref(), b"export default 1;");
        for (bytes, reason) in [
            (Vec::new(), "no script"),
            (vec![0xff; 4], "no script"),
            (vec![b' '; MAX_INSTALLED_BYTES + 1], "more than 8 MiB"),
        ] {
            std::fs::write(&path, &bytes).unwrap();
            let error = Installed::read(&path).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(installed.script().as_ref(), b"export default 1;", "it is as it was at the start");
    }
}
