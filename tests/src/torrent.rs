//! Torrents for stories, made by the kit's own few lines of bencode.
//!
//! Deliberately not built on `swarmgate-bittorrent-proto`: an oracle that shares its code with what it judges would
//! share its mistakes too. Only v1 (BEP 3).

use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use crate::payload::{Payload, hex};

/// A v1 torrent of a payload.
#[derive(Debug, Clone)]
pub struct Torrent {
    /// The `.torrent` file's bytes.
    pub bytes: Vec<u8>,
    /// SHA-1 of the info dictionary, in hex.
    pub info_hash: String,
    /// The info dictionary's `name`.
    pub name: String,
    /// Announce URL, when one is in the file.
    pub tracker: Option<String>,
}

impl Torrent {
    /// Hashes `payload` in pieces of `piece_len` bytes.
    pub fn of(payload: &Payload, piece_len: usize, tracker: Option<&str>) -> Self {
        let info = info_dictionary(payload, piece_len);
        let info_hash = hex(sha1(&info).as_ref());
        let mut bytes = b"d".to_vec();
        text(&mut bytes, b"info");
        bytes.extend_from_slice(&info);
        bytes.push(b'e');
        let torrent = Self { bytes, info_hash, name: payload.name.clone(), tracker: None };
        match tracker {
            Some(url) => torrent.announcing(url),
            None => torrent,
        }
    }

    /// Names a tracker, where none is named so far. The infohash stays what it was.
    #[must_use]
    pub fn announcing(mut self, url: &str) -> Self {
        // `announce` comes before every other key.
        let mut bytes = b"d".to_vec();
        text(&mut bytes, b"announce");
        text(&mut bytes, url.as_bytes());
        bytes.extend_from_slice(&self.bytes[1..]);
        self.bytes = bytes;
        self.tracker = Some(url.to_owned());
        self
    }

    /// Names a web server that has the payload too (BEP 19). The infohash stays what it was.
    #[must_use]
    pub fn with_web_seed(mut self, url: &str) -> Self {
        // `url-list` comes after every other key of the kit's dictionaries.
        self.bytes.pop();
        text(&mut self.bytes, b"url-list");
        text(&mut self.bytes, url.as_bytes());
        self.bytes.push(b'e');
        self
    }

    /// Writes `NAME.torrent` into `dir` and returns its path.
    pub fn write_to(&self, dir: &Path) -> PathBuf {
        let path = dir.join(format!("{}.torrent", self.name));
        std::fs::write(&path, &self.bytes).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        path
    }

    /// A magnet link with nothing but the infohash and, when there is one, the tracker.
    pub fn magnet(&self) -> String {
        let tracker = self.tracker.as_ref().map(|t| format!("&tr={}", escape(t))).unwrap_or_default();
        format!("magnet:?xt=urn:btih:{}{tracker}", self.info_hash)
    }
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
pub fn escape(value: &str) -> String {
    escape_bytes(value.as_bytes())
}

/// The same of bytes that may be no text.
pub fn escape_bytes(value: &[u8]) -> String {
    value.iter().fold(String::new(), |mut out, &b| {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}

/// BEP 3: keys sorted, `length` for one file, `files` for a tree.
fn info_dictionary(payload: &Payload, piece_len: usize) -> Vec<u8> {
    let mut info = b"d".to_vec();
    match payload.files.as_slice() {
        [only] if only.path.is_empty() => {
            text(&mut info, b"length");
            number(&mut info, only.bytes.len());
        }
        tree => {
            text(&mut info, b"files");
            info.push(b'l');
            for file in tree {
                info.push(b'd');
                text(&mut info, b"length");
                number(&mut info, file.bytes.len());
                text(&mut info, b"path");
                info.push(b'l');
                file.path.iter().for_each(|part| text(&mut info, part.as_bytes()));
                info.extend_from_slice(b"ee");
            }
            info.push(b'e');
        }
    }
    text(&mut info, b"name");
    text(&mut info, payload.name.as_bytes());
    text(&mut info, b"piece length");
    number(&mut info, piece_len);
    let pieces: Vec<u8> = payload.joined().chunks(piece_len).flat_map(|p| sha1(p).as_ref().to_vec()).collect();
    text(&mut info, b"pieces");
    text(&mut info, &pieces);
    info.push(b'e');
    info
}

fn text(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(value.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(value);
}

fn number(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(format!("i{value}e").as_bytes());
}

fn sha1(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_carries_its_payloads_shape() {
        let payload = Payload::single("a.bin", 1, 40);
        let torrent = Torrent::of(&payload, 32, Some("http://127.0.0.1:1/announce"));
        let head =
            b"d8:announce27:http://127.0.0.1:1/announce4:infod6:lengthi40e4:name5:a.bin12:piece lengthi32e6:pieces40:";
        assert!(torrent.bytes.starts_with(head));
        assert!(torrent.bytes.ends_with(b"ee"));
        assert_eq!(torrent.info_hash.len(), 40);
        assert_eq!(
            torrent.magnet(),
            format!("magnet:?xt=urn:btih:{}&tr=http%3A%2F%2F127.0.0.1%3A1%2Fannounce", torrent.info_hash)
        );
        let seeded = torrent.with_web_seed("http://w/x");
        assert!(seeded.bytes.ends_with(b"e8:url-list10:http://w/xe"));
    }
}
