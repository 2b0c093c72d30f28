//! Playlists: extended M3U with one direct URL a file.

use std::fmt::Write as _;

use swarmgate_bittorrent_proto::magnet::Selection;
use swarmgate_content::{ContentMeta, FileEntry};

use crate::media::{Playable, playable};
use crate::{links, state::HttpOptions};

/// The files a playlist of a content has: the playable ones below `folder` and within `select`, or all of them when
/// none is playable, in content order.
#[must_use]
pub fn entries<'a>(
    meta: &'a ContentMeta,
    folder: &[String],
    select: Option<&Selection>,
) -> Vec<(usize, &'a FileEntry)> {
    let wanted = |(index, file): &(usize, &FileEntry)| {
        !file.padding && file.path.starts_with(folder) && is_selected(select, *index)
    };
    let all: Vec<_> = meta.files.iter().enumerate().filter(wanted).collect();
    let is_playable = |(_, file): &&(usize, &FileEntry)| kind(file) != Playable::No;
    let media: Vec<_> = all.iter().filter(is_playable).copied().collect();
    if media.is_empty() { all } else { media }
}

/// Whether a selection has a file of that number; none has all.
pub(crate) fn is_selected(select: Option<&Selection>, index: usize) -> bool {
    select.is_none_or(|select| u32::try_from(index).is_ok_and(|index| select.contains(index)))
}

/// The file a player should get: the largest video, else the largest sound, else the largest file.
#[must_use]
pub fn best(meta: &ContentMeta) -> Option<(usize, &FileEntry)> {
    let files = meta.files.iter().enumerate().filter(|(_, file)| !file.padding);
    // Of equals the first.
    files.rev().max_by_key(|(_, file)| (kind(file), file.len))
}

fn kind(file: &FileEntry) -> Playable {
    playable(file.path.last().map_or("", String::as_str))
}

/// Prints a playlist. `up` leads from the playlist's URL to the content's root; with a public URL links are absolute. With a
/// signature they need no credentials.
#[must_use]
pub fn print(
    options: &HttpOptions,
    meta: &ContentMeta,
    entries: &[(usize, &FileEntry)],
    up: &str,
    signature: Option<&str>,
) -> String {
    let root = match &options.public_url {
        Some(url) => format!("{}/bt/{}/", url.as_str().trim_end_matches('/'), meta.id),
        None => up.to_owned(),
    };
    let mut list = String::from("#EXTM3U\n");
    for (index, file) in entries {
        let title: String = file.joined_path().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // The duration is unknown before the file is read: -1.
        let link = format!("{root}{}", links::file(*index, file));
        let link = signature.map_or_else(|| link.clone(), |signature| links::signed(&link, signature));
        let _ = writeln!(list, "#EXTINF:-1,{title}\n{link}");
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::meta;

    #[test]
    fn a_playlist_has_the_media_in_content_order_with_titles_on_one_line() {
        let meta = meta(&[("b\n1.mkv", 5), ("notes.txt", 9), ("a/2.mp3", 7)]);
        let list = print(&HttpOptions::default(), &meta, &entries(&meta, &[], None), "./", None);
        assert_eq!(list, "#EXTM3U\n#EXTINF:-1,b 1.mkv\n./b%0A1.mkv\n#EXTINF:-1,a/2.mp3\n./a/2.mp3\n");
    }

    #[test]
    fn a_public_url_makes_links_absolute() {
        let meta = meta(&[("x.mkv", 5)]);
        let options =
            HttpOptions { public_url: Some("https://g.example/gw/".parse().unwrap()), ..HttpOptions::default() };
        let list = print(&options, &meta, &entries(&meta, &[], None), "./", Some("exp=1&sig=x"));
        assert!(list.contains(&format!("\nhttps://g.example/gw/bt/{}/x.mkv?exp=1&sig=x\n", meta.id)), "{list}");
    }

    #[test]
    fn folders_and_selections_narrow_it_and_without_media_all_files_are_in_it() {
        let meta = meta(&[("a/1.mkv", 5), ("a/2.mkv", 5), ("b/3.mkv", 5), ("c/x.txt", 1)]);
        let indices = |folder: &str, select: Option<&str>| {
            let folder: Vec<_> = folder.split('/').filter(|it| !it.is_empty()).map(str::to_owned).collect();
            let select: Option<Selection> = select.map(|select| select.parse().unwrap());
            entries(&meta, &folder, select.as_ref()).iter().map(|(index, _)| *index).collect::<Vec<_>>()
        };
        assert_eq!(indices("", None), [0, 1, 2]);
        assert_eq!(indices("a", None), [0, 1]);
        assert_eq!(indices("", Some("1-3")), [1, 2]);
        assert_eq!(indices("c", None), [3]);
    }

    #[test]
    fn the_best_file_is_the_largest_of_the_most_playable_kind() {
        let best_of = |files: &[(&str, u64)]| best(&meta(files)).map(|(index, _)| index);
        assert_eq!(best_of(&[("a.iso", 900), ("b.mp3", 50), ("c.mkv", 10), ("d.mkv", 20)]), Some(3));
        assert_eq!(best_of(&[("a.iso", 900), ("b.mp3", 50)]), Some(1));
        assert_eq!(best_of(&[("a.iso", 9), ("b.iso", 9)]), Some(0), "of equals the first");
    }
}
