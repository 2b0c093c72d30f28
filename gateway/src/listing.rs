//! Listings: what a content has, as a page for people and as JSON for programs.
//!
//! A page shows one folder; JSON gives every file below it. All links are relative to the listing's own URL.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde::Serialize;
use swarmgate_content::{ContentId, ContentMeta, FileEntry};

use crate::media::{self, Playable};
use crate::{links, pages, respond};

/// Most rows of one page. A browser chokes on more; JSON has them all.
const MAX_ROWS: usize = 5000;

/// One folder of a content.
#[derive(Debug)]
pub struct Listing<'a> {
    meta: &'a ContentMeta,
    folder: &'a [String],
    /// Everything below the folder.
    files: Vec<(usize, &'a FileEntry)>,
    /// The tracker that magnets name.
    tracker: Option<String>,
    /// What signs links that are copied, where they would need credentials else.
    signature: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    infohash: &'a ContentId,
    name: &'a str,
    path: String,
    total_len: u64,
    private: bool,
    magnet: String,
    files: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    index: usize,
    path: String,
    len: u64,
    /// Where it begins in the content, in bytes.
    offset: u64,
    #[serde(rename = "type")]
    content_type: String,
    etag: String,
    url: String,
}

/// What lies directly in a subfolder's name.
#[derive(Default)]
struct Subfolder {
    files: usize,
    len: u64,
}

impl<'a> Listing<'a> {
    /// Lists a folder, or `None` when the content has no such folder.
    #[must_use]
    pub fn of(meta: &'a ContentMeta, folder: &'a [String]) -> Option<Self> {
        let below = |(_, file): &(usize, &FileEntry)| !file.padding && lies_below(folder, &file.path);
        let files: Vec<_> = meta.files.iter().enumerate().filter(below).collect();
        (folder.is_empty() || !files.is_empty()).then_some(Self { meta, folder, files, tracker: None, signature: None })
    }

    /// Names a tracker in magnets, unless the content is private and has its own (BEP 27).
    #[must_use]
    pub fn with_tracker(self, tracker: Option<String>) -> Self {
        let tracker = tracker.filter(|_| !self.meta.private);
        Self { tracker, ..self }
    }

    /// Signs the links that a page has for copying; all others are for whoever reads the page.
    #[must_use]
    pub fn signed(self, signature: Option<String>) -> Self {
        Self { signature, ..self }
    }

    fn magnet(&self) -> String {
        links::magnet(&self.meta.id, &self.meta.name, self.tracker.as_deref())
    }

    /// The listing for programs.
    #[must_use]
    pub fn json(&self) -> String {
        let row = |(index, file): &(usize, &FileEntry)| Row {
            index: *index,
            path: file.joined_path(),
            len: file.len,
            offset: file.offset,
            content_type: media::content_type(name(file)),
            etag: respond::file_etag(&self.meta.id, *index),
            url: self.url(*index, file),
        };
        let document = Document {
            infohash: &self.meta.id,
            name: &self.meta.name,
            path: self.folder.join("/"),
            total_len: self.files.iter().map(|(_, file)| file.len).sum(),
            private: self.meta.private,
            magnet: self.magnet(),
            files: self.files.iter().map(row).collect(),
        };
        serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
    }

    /// The listing for people.
    #[must_use]
    pub fn html(&self) -> Markup {
        let total: u64 = self.files.iter().map(|(_, file)| file.len).sum();
        let (folders, files) = self.rows();
        let up = "../".repeat(self.folder.len() + 2);
        let body = html! {
            p.actions {
                a href={ (up) "#/bt/" (self.meta.id) (folder_fragment(self.folder)) } { "Open in the app" } " "
                a href="?format=m3u8" { "Playlist" } " "
                a href="?format=zip" { "Zip" } " "
                a href="?format=torrent" { ".torrent" } " "
                a href=(self.magnet()) { "Magnet" } " "
                a href="?format=json" { "JSON" }
            }
            p { (count(self.files.len(), "file")) ", " (size(total)) @if self.meta.private { ", private" } }
            table {
                @if !self.folder.is_empty() { tr { td colspan="3" { a href="../" { "../" } } } }
                @for (name, folder) in folders.iter().take(MAX_ROWS) {
                    tr {
                        td { a href={ (links::encode(name)) "/" } { (name) "/" } }
                        td.size { (size(folder.len)) }
                        td { (count(folder.files, "file")) }
                    }
                }
                @for (index, file) in files.iter().take(MAX_ROWS) { (self.file_row(*index, file)) }
            }
            @if folders.len().max(files.len()) > MAX_ROWS { p { "There is more: " a href="?format=json" { "all of it" } "." } }
        };
        let title = self.folder.last().unwrap_or(&self.meta.name);
        pages::page(title, &up, &body)
    }

    fn file_row(&self, index: usize, file: &FileEntry) -> Markup {
        let url = self.url(index, file);
        let plays = media::playable(name(file)) != Playable::No;
        let copied = match &self.signature {
            Some(signature) => links::signed(&url, signature),
            None => url.clone(),
        };
        html! {
            tr {
                td { a href=(url) { (name(file)) } }
                td.size { (size(file.len)) }
                td.actions {
                    @if plays { a href={ (url) "?format=m3u8" } { "Play" } " " }
                    a href={ (url) "?download=true" } { "Save" } " "
                    button type="button" data-copy=(copied) { "Copy link" }
                }
            }
        }
    }

    /// The folders and files that lie directly in this folder.
    fn rows(&self) -> (BTreeMap<&str, Subfolder>, Vec<(usize, &FileEntry)>) {
        let depth = self.folder.len();
        let mut folders: BTreeMap<&str, Subfolder> = BTreeMap::new();
        let mut files = Vec::new();
        for (index, file) in &self.files {
            match file.path.get(depth..).unwrap_or_default() {
                [first, _, ..] => {
                    let folder = folders.entry(first).or_default();
                    folder.files += 1;
                    folder.len += file.len;
                }
                _ => files.push((*index, *file)),
            }
        }
        files.sort_by(|(_, one), (_, other)| one.path.cmp(&other.path));
        (folders, files)
    }

    /// A file's URL, relative to this listing.
    fn url(&self, index: usize, file: &FileEntry) -> String {
        let from_root = links::file(index, file);
        if from_root.starts_with('@') {
            return format!("{}{from_root}", "../".repeat(self.folder.len()));
        }
        links::encode_path(file.path.get(self.folder.len()..).unwrap_or_default())
    }
}

/// Whether a path lies in a folder, at any depth.
fn lies_below(folder: &[String], path: &[String]) -> bool {
    folder.is_empty() || (path.len() > folder.len() && path.starts_with(folder))
}

/// The rest of a folder's address in the application.
fn folder_fragment(folder: &[String]) -> String {
    folder.iter().map(|component| format!("/{}", links::encode(component))).collect()
}

fn name(file: &FileEntry) -> &str {
    file.path.last().map_or("", String::as_str)
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::meta;

    #[test]
    fn a_page_shows_one_folder_and_escapes_what_strangers_named() {
        let meta = meta(&[("<b>/x.mkv", 1536), ("<b>/y/z.txt", 10), ("a&b.mp3", 2048)]);
        let root = Listing::of(&meta, &[]).unwrap().html().into_string();
        assert!(root.contains("href=\"%3Cb%3E/\">&lt;b&gt;/</a>"), "{root}");
        assert!(root.contains("href=\"a%26b.mp3\">a&amp;b.mp3</a>") && root.contains("2.0 KiB"));
        assert!(!root.contains("x.mkv"));
        let folder = ["<b>".to_owned()];
        let inner = Listing::of(&meta, &folder).unwrap().html().into_string();
        assert!(inner.contains("href=\"x.mkv\"") && inner.contains("href=\"y/\"") && inner.contains("href=\"../\""));
        assert!(inner.contains("../../../ui/style.css"), "{inner}");
    }

    #[test]
    fn json_gives_every_file_below_with_relative_urls() {
        let meta = meta(&[("a/1.mkv", 5), ("a/b/2.txt", 6), ("c.txt", 7)]);
        let folder = ["a".to_owned()];
        let json: serde_json::Value = serde_json::from_str(&Listing::of(&meta, &folder).unwrap().json()).unwrap();
        let urls: Vec<_> = json["files"].as_array().unwrap().iter().map(|file| file["url"].as_str().unwrap()).collect();
        assert_eq!(urls, ["1.mkv", "b/2.txt"]);
        assert_eq!((json["total_len"].as_u64(), json["path"].as_str()), (Some(11), Some("a")));
    }

    #[test]
    fn a_file_and_a_stranger_are_no_folders() {
        let meta = meta(&[("a/1.mkv", 5)]);
        for folder in [vec!["b".to_owned()], vec!["a".to_owned(), "1.mkv".to_owned()]] {
            assert!(Listing::of(&meta, &folder).is_none(), "{folder:?}");
        }
    }
}
