//! What a torrent is.

use indicatif::BinaryBytes;
use serde::Serialize;
use swarmgate_bittorrent_proto::metainfo::{Info, Metainfo};
use swarmgate_content::TorrentId;

use super::Told;
use crate::cli::Exit;
use crate::cli::ls::printable;
use crate::cli::source::{Failure, Source};

/// What is known of a torrent. What only its metadata says is missing where that is.
#[derive(Debug, Default, Serialize)]
pub(super) struct Torrent {
    infohash: Option<String>,
    infohash_v2: Option<String>,
    name: Option<String>,
    trackers: Vec<String>,
    web_seeds: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    /// In seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    creation_date: Option<i64>,
    #[serde(flatten)]
    content: Option<Content>,
}

/// What its metadata says.
#[derive(Debug, Serialize)]
struct Content {
    private: bool,
    piece_len: u32,
    pieces: u32,
    /// Bytes in all files, without what is between them.
    len: u64,
    files: Vec<File>,
}

#[derive(Debug, Serialize)]
struct File {
    index: usize,
    path: String,
    len: u64,
}

impl Torrent {
    /// What a `.torrent` file says.
    pub(super) fn of_file(metainfo: &Metainfo) -> Self {
        Self {
            trackers: metainfo.announce.iter().flatten().cloned().collect(),
            web_seeds: metainfo.web_seeds.clone(),
            comment: metainfo.comment.clone(),
            created_by: metainfo.created_by.clone(),
            creation_date: metainfo.creation_date,
            name: Some(metainfo.info.name.clone()),
            content: Some(Content::of(&metainfo.info)),
            ..Self::named(metainfo.id)
        }
    }

    /// What a magnet or an infohash says by itself.
    pub(super) fn of_name(source: &Source) -> Self {
        Self {
            name: source.hints.name.clone(),
            trackers: source.hints.trackers.iter().flatten().cloned().collect(),
            web_seeds: source.hints.web_seeds.clone(),
            ..Self::named(source.id)
        }
    }

    /// What peers said of it, and what led to them.
    pub(super) fn of_info(id: TorrentId, info: &Info, source: &Source) -> Self {
        let content = Some(Content::of(info));
        let of_name = Self::of_name(source);
        let Self { infohash, infohash_v2, .. } = Self::named(id);
        Self { infohash, infohash_v2, name: Some(info.name.clone()), content, ..of_name }
    }

    fn named(id: TorrentId) -> Self {
        let infohash_v2 = id.v2().map(|v2| v2.to_string());
        Self { infohash: id.v1().map(|v1| v1.to_string()), infohash_v2, ..Self::default() }
    }

    /// It, for people and for programs.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(super) fn told(&self) -> Result<Told, Failure> {
        let document = serde_json::to_value(self).map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
        Ok(Told { page: self.page(), document })
    }

    fn page(&self) -> String {
        let name = self.name.as_deref().map_or_else(|| "name not known yet".to_owned(), printable);
        let mut page = format!("{name}\n");
        let mut row = |label: &str, text: &str| page += &format!("{label:<10} {}\n", printable(text));
        for (label, id) in [("infohash", &self.infohash), ("of v2", &self.infohash_v2)] {
            if let Some(id) = id {
                row(label, id);
            }
        }
        if let Some(content) = &self.content {
            let Content { len, piece_len, pieces, files, .. } = content;
            row("size", &format!("{} ({len} bytes) in {} files", BinaryBytes(*len), files.len()));
            row("pieces", &format!("{pieces} of {}", BinaryBytes(u64::from(*piece_len))));
            row("private", if content.private { "yes: only its own trackers are asked for peers" } else { "no" });
        }
        for tracker in &self.trackers {
            row("tracker", tracker);
        }
        for seed in &self.web_seeds {
            row("web seed", seed);
        }
        for (label, text) in [("comment", &self.comment), ("made by", &self.created_by)] {
            if let Some(text) = text {
                row(label, text);
            }
        }
        match &self.content {
            None => row("files", "not known without its metadata, which peers have"),
            Some(content) => {
                for File { index, path, len } in &content.files {
                    page += &format!("{index:>5}  {len:>14}  {}\n", printable(path));
                }
            }
        }
        page
    }
}

impl Content {
    fn of(info: &Info) -> Self {
        let files = info.files.iter().enumerate().filter(|(_, file)| !file.padding);
        let files: Vec<_> =
            files.map(|(index, file)| File { index, path: file.joined_path(), len: file.len }).collect();
        Self {
            private: info.private,
            piece_len: info.piece_len,
            pieces: info.piece_count(),
            len: files.iter().map(|file| file.len).sum(),
            files,
        }
    }
}
