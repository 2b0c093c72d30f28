//! What kind of file a name promises: its content type, whether players take it, whether browsers run it.
//!
//! By name only. The first bytes are never sniffed into something more dangerous than the name said.

/// Names that `mime_guess` does not know or spells in a way that players stumble over.
const OWN: &[(&str, &str)] = &[
    ("aac", "audio/aac"),
    ("ass", "text/x-ssa"),
    ("avi", "video/x-msvideo"),
    ("car", "application/vnd.ipld.car"),
    ("cbr", "application/vnd.comicbook-rar"),
    ("cbz", "application/vnd.comicbook+zip"),
    ("flac", "audio/flac"),
    ("flv", "video/x-flv"),
    ("m2ts", "video/mp2t"),
    ("m3u", "audio/x-mpegurl"),
    ("m3u8", "audio/x-mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4b", "audio/mp4"),
    ("m4v", "video/mp4"),
    ("mka", "audio/x-matroska"),
    ("mkv", "video/x-matroska"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mts", "video/mp2t"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("srt", "application/x-subrip"),
    ("ssa", "text/x-ssa"),
    ("torrent", "application/x-bittorrent"),
    ("ts", "video/mp2t"),
    ("vtt", "text/vtt"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("wmv", "video/x-ms-wmv"),
];

/// The content type of a `.torrent` file.
pub const TORRENT: &str = "application/x-bittorrent";
/// The content type of a playlist. Not Apple's: that one makes players expect HLS segments.
pub const PLAYLIST: &str = "audio/x-mpegurl; charset=utf-8";

/// What a player can do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Playable {
    /// Neither picture nor sound.
    No,
    /// Sound.
    Audio,
    /// Moving pictures.
    Video,
}

/// The content type that a file's name promises, with the charset for text.
#[must_use]
pub fn content_type(name: &str) -> String {
    let essence = essence(name);
    // Without a charset browsers read text as windows-1252, and nearly all text is UTF-8.
    if essence.starts_with("text/") { format!("{essence}; charset=utf-8") } else { essence }
}

fn essence(name: &str) -> String {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default();
    match OWN.binary_search_by_key(&extension.as_str(), |(known, _)| known) {
        Ok(at) => OWN[at].1.to_owned(),
        Err(_) => mime_guess::from_ext(&extension).first_or_octet_stream().essence_str().to_owned(),
    }
}

/// What a player can do with a file of this name.
#[must_use]
pub fn playable(name: &str) -> Playable {
    let essence = essence(name);
    match essence.split_once('/') {
        Some(("video", _)) => Playable::Video,
        Some(("audio", subtype)) if subtype != "x-mpegurl" => Playable::Audio,
        _ => Playable::No,
    }
}

/// Whether a browser may run what a document of this type contains, in the gateway's own origin.
#[must_use]
pub fn is_active(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    matches!(
        essence,
        "text/html" | "text/xml" | "application/xml" | "text/xsl" | "application/pdf" | "application/x-shockwave-flash"
    ) || essence.ends_with("+xml")
        || essence.ends_with("/xhtml")
        || essence == "multipart/x-mixed-replace"
        || essence == "message/rfc822"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_table_is_sorted_for_its_search() {
        assert!(OWN.is_sorted_by_key(|(extension, _)| extension));
        for (extension, essence) in OWN {
            assert!(content_type(&format!("x.{extension}")).starts_with(essence), "{extension}");
        }
    }

    #[test]
    fn names_get_the_types_that_players_and_browsers_expect() {
        for (name, expected) in [
            ("film.mkv", "video/x-matroska"),
            ("FILM.MP4", "video/mp4"),
            ("disc.m2ts", "video/mp2t"),
            ("sub.vtt", "text/vtt; charset=utf-8"),
            ("sub.srt", "application/x-subrip"),
            ("song.opus", "audio/ogg"),
            ("song.flac", "audio/flac"),
            ("a.torrent", "application/x-bittorrent"),
            ("readme.txt", "text/plain; charset=utf-8"),
            ("cover.jpg", "image/jpeg"),
            ("page.html", "text/html; charset=utf-8"),
            ("no-extension", "application/octet-stream"),
            ("strange.xyzzy", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(content_type(name), expected, "{name}");
        }
    }

    #[test]
    fn documents_that_can_run_scripts_are_active_and_media_are_not() {
        for name in ["a.html", "a.htm", "a.svg", "a.xml", "a.xhtml", "a.pdf", "a.rss", "a.mhtml"] {
            assert!(is_active(&content_type(name)), "{name} is {}", content_type(name));
        }
        for name in ["a.mp4", "a.png", "a.txt", "a.bin", "a.mp3"] {
            assert!(!is_active(&content_type(name)), "{name}");
        }
    }

    #[test]
    fn video_outranks_audio_outranks_the_rest() {
        assert!(playable("a.mkv") > playable("a.mp3"));
        assert!(playable("a.mp3") > playable("a.m3u8"));
        assert_eq!(playable("a.m3u8"), Playable::No);
    }
}
