//! Representations of a content other than its bytes: listings, playlists, `.torrent`, magnet.

use axum::response::Response;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LOCATION, CONTENT_SECURITY_POLICY, LINK, VARY};
use swarmgate_content::ContentMeta;

use crate::archive::Archive;
use crate::error::{Problem, ProblemKind};
use crate::exchange::Exchange;
use crate::listing::Listing;
use crate::query::Format;
use crate::{disposition, links, media, pages, playlist, respond};

/// Answers for a folder at its own URL, in the format asked for or negotiated.
///
/// # Errors
/// 404 when there is no such folder.
pub async fn listing(exchange: Exchange, meta: &ContentMeta, path: &[String]) -> Result<Response, Problem> {
    let format = exchange.query.format.unwrap_or_else(|| Format::negotiated(&exchange.headers));
    let up = if path.is_empty() { "./".to_owned() } else { "../".repeat(path.len()) };
    let location = exchange.query.format.map(|format| format!("?format={}", format.name()));
    let mut response = folder(exchange, meta, path, format, &up).await?;
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept"));
    if let Some(location) = location {
        headers.extend(HeaderValue::from_str(&location).ok().map(|location| (CONTENT_LOCATION, location)));
    }
    let playlist = "<?format=m3u8>; rel=\"alternate\"; type=\"audio/x-mpegurl\"";
    headers.insert(LINK, HeaderValue::from_static(playlist));
    Ok(response)
}

/// Answers for a folder in one format; `up` leads from the URL to the content's root.
///
/// # Errors
/// 404 when there is no such folder or its `.torrent` is not known.
pub async fn folder(
    exchange: Exchange,
    meta: &ContentMeta,
    path: &[String],
    format: Format,
    up: &str,
) -> Result<Response, Problem> {
    let no_folder = || Problem::new(ProblemKind::NoSuchFile, "the content has no such folder").item(meta.id);
    let list = Listing::of(meta, path).ok_or_else(no_folder)?;
    let list = list.with_tracker(links::tracker(&exchange.state, &exchange.headers));
    match format {
        Format::Html => {
            let signature = exchange.signature(&meta.id);
            let body = list.signed(signature.clone()).html().into_string();
            let mut response = respond::derived(&exchange, meta, "text/html; charset=utf-8", body);
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(pages::POLICY));
            if signature.is_some() {
                // It is good for whoever has it, and not for long.
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
            }
            Ok(response)
        }
        Format::Json => Ok(respond::derived(&exchange, meta, "application/json", list.json())),
        Format::M3u8 => {
            let entries = playlist::entries(meta, path, exchange.magnet.select.as_ref());
            Ok(print_playlist(&exchange, meta, &entries, up))
        }
        Format::Torrent => torrent(&exchange, meta),
        Format::Magnet => Ok(magnet(&exchange, meta)),
        Format::Archive(kind) => {
            let archive = Archive::of(kind, meta, path, exchange.magnet.select.as_ref()).ok_or_else(no_folder)?;
            let name = path.last().unwrap_or(&meta.name);
            respond::archive(exchange, meta, archive, &format!("{name}.{}", kind.name())).await
        }
    }
}

/// Answers for a file in one format.
///
/// # Errors
/// 404 when there is no such file, 406 for formats that only folders have.
pub fn file(
    exchange: &Exchange,
    meta: &ContentMeta,
    index: usize,
    format: Format,
    up: &str,
) -> Result<Response, Problem> {
    let Some(entry) = meta.files.get(index).filter(|file| !file.padding) else {
        return Err(Problem::new(ProblemKind::NoSuchFile, "the content has no file of that number").item(meta.id));
    };
    match format {
        Format::M3u8 => Ok(print_playlist(exchange, meta, &[(index, entry)], up)),
        Format::Torrent => torrent(exchange, meta),
        Format::Magnet => Ok(magnet(exchange, meta)),
        Format::Html | Format::Json | Format::Archive(_) => {
            Err(Problem::new(ProblemKind::NotAcceptable, "only folders have a listing or an archive").item(meta.id))
        }
    }
}

fn print_playlist(
    exchange: &Exchange,
    meta: &ContentMeta,
    entries: &[(usize, &swarmgate_content::FileEntry)],
    up: &str,
) -> Response {
    let signature = exchange.signature(&meta.id);
    let list = playlist::print(&exchange.state.options, meta, entries, up, signature.as_deref());
    let name = match entries {
        [(_, file)] => file.path.last().unwrap_or(&meta.name),
        _ => &meta.name,
    };
    let mut response =
        named(respond::derived(exchange, meta, media::PLAYLIST, list), &format!("{name}.m3u8"), exchange);
    if signature.is_some() {
        // It is good for whoever has it, and not for long.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    }
    response
}

fn torrent(exchange: &Exchange, meta: &ContentMeta) -> Result<Response, Problem> {
    let wire = meta.id.as_v1().or_else(|| meta.id.as_v2().map(|v2| v2.truncated()));
    let bytes = wire.and_then(|hash| exchange.state.catalogue.torrent_file(&hash));
    let Some(bytes) = bytes else {
        return Err(Problem::new(ProblemKind::NoSuchItem, "its .torrent file is not known").item(meta.id));
    };
    let response = respond::derived(exchange, meta, media::TORRENT, bytes);
    Ok(named(response, &format!("{}.torrent", meta.name), exchange))
}

fn magnet(exchange: &Exchange, meta: &ContentMeta) -> Response {
    let tracker = links::tracker(&exchange.state, &exchange.headers).filter(|_| !meta.private);
    let link = links::magnet(&meta.id, &meta.name, tracker.as_deref()) + "\n";
    respond::derived(exchange, meta, "text/plain; charset=utf-8", link)
}

fn named(mut response: Response, name: &str, exchange: &Exchange) -> Response {
    let name = exchange.query.filename.as_deref().unwrap_or(name);
    response.headers_mut().insert(CONTENT_DISPOSITION, disposition::header(name, exchange.query.download));
    response
}

impl Format {
    /// Its name in `?format=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Json => "json",
            Self::M3u8 => "m3u8",
            Self::Torrent => "torrent",
            Self::Magnet => "magnet",
            Self::Archive(kind) => kind.name(),
        }
    }
}
