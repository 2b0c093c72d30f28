//! URLs of this gateway: how paths are spelled in links and redirects.
//!
//! Links are relative wherever a document's own URL is known, so they work behind any proxy; redirects and the API's
//! `Location` name the path from the root, with the base path.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_content::{ContentId, FileEntry, Hints, InfoHash};

use crate::proxies::X_FORWARDED_PROTO;
use crate::query;
use crate::state::{Gateway, HttpOptions};

/// Everything but RFC 3986's unreserved characters, so that links survive shells, playlists and a leading `@`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Spells text so that it can stand in any part of a URL.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Spells a path, one component at a time.
#[must_use]
pub fn encode_path(path: &[String]) -> String {
    path.iter().map(|component| encode(component)).collect::<Vec<_>>().join("/")
}

/// The link to a file from its content's root: by path, or by number when a component would not survive a browser.
#[must_use]
pub fn file(index: usize, entry: &FileEntry) -> String {
    let survives =
        |component: &String| !matches!(component.as_str(), "" | "." | "..") && !component.contains(['\0', '/']);
    if !entry.path.is_empty() && entry.path.iter().all(survives) {
        return encode_path(&entry.path);
    }
    format!("@{index}/{}", encode(&crate::disposition::sanitise(entry.path.last().map_or("", String::as_str))))
}

/// The path of a content's listing.
#[must_use]
pub fn listing(options: &HttpOptions, id: &ContentId) -> String {
    format!("{}{}", options.base_path, listing_path(id))
}

/// The same without the base path.
pub(crate) fn listing_path(id: &ContentId) -> String {
    format!("/bt/{id}/")
}

/// The path of an item in the API.
#[must_use]
pub fn item(options: &HttpOptions, id: &InfoHash) -> String {
    format!("{}/api/v1/items/{id}", options.base_path)
}

/// The address of this gateway as the client of a request reaches it, without a slash at its end; empty when the client
/// does not say.
#[must_use]
pub fn origin(options: &HttpOptions, headers: &HeaderMap) -> String {
    if let Some(public) = &options.public_url {
        return public.as_str().trim_end_matches('/').to_owned();
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let scheme = if is_https(options, headers) { "https" } else { "http" };
    host.map_or_else(String::new, |host| format!("{scheme}://{host}{}", options.base_path))
}

/// Whether a client speaks TLS, to us or to a proxy that is believed. Where there is neither, the header is anybody's.
fn is_https(options: &HttpOptions, headers: &HeaderMap) -> bool {
    let ours = options.tls || !options.trusted_proxies.is_empty();
    ours && headers.get(X_FORWARDED_PROTO).is_some_and(|proto| proto == "https")
}

/// The tracker of this gateway as the client of a request reaches it; none when it is no tracker.
#[must_use]
pub fn tracker(gateway: &Gateway, headers: &HeaderMap) -> Option<String> {
    gateway.tracker.as_ref()?;
    if let Some(public) = &gateway.options.public_url {
        let (scheme, rest) = public.as_str().trim_end_matches('/').split_once("://")?;
        return Some(format!("{}://{rest}/announce", if scheme == "https" { "wss" } else { "ws" }));
    }
    let host = headers.get(HOST)?.to_str().ok()?;
    let scheme = if is_https(&gateway.options, headers) { "wss" } else { "ws" };
    Some(format!("{scheme}://{host}{}/announce", gateway.options.base_path))
}

/// A magnet link to a content; with a tracker, a browser that opens it finds its peers there.
#[must_use]
pub fn magnet(id: &ContentId, name: &str, tracker: Option<&str>) -> String {
    let trackers = tracker.map(|tracker| vec![tracker.to_owned()]).into_iter().collect();
    let hints = Hints { name: Some(name.to_owned()), trackers, ..Hints::default() };
    Magnet { hints, ..query::topic(id) }.to_string()
}

/// The path without the base path, if it has it.
#[must_use]
pub fn below_base<'a>(path: &'a str, base: &str) -> &'a str {
    path.strip_prefix(base).filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

/// A URL with the query that signs it.
#[must_use]
pub fn signed(url: &str, signature: &str) -> String {
    format!("{url}{}{signature}", if url.contains('?') { '&' } else { '?' })
}

/// Sends a client elsewhere.
#[must_use]
pub fn redirect(status: StatusCode, location: &str) -> Response {
    let mut response = status.into_response();
    let Ok(location) = HeaderValue::from_str(location) else {
        return crate::error::Problem::internal("a redirect's location has a character no header may have")
            .into_response();
    };
    response.headers_mut().insert(LOCATION, location);
    if status == StatusCode::SEE_OTHER || status == StatusCode::TEMPORARY_REDIRECT {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// A path with a query, if there is one.
#[must_use]
pub fn with_query(path: String, query: Option<&str>) -> String {
    match query {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[&str]) -> FileEntry {
        FileEntry { path: path.iter().map(|&it| it.to_owned()).collect(), len: 1, offset: 0, padding: false }
    }

    #[test]
    fn odd_names_become_links_that_come_back_as_they_were() {
        assert_eq!(file(0, &entry(&["a b", "#1 50%?.mkv"])), "a%20b/%231%2050%25%3F.mkv");
        assert_eq!(file(0, &entry(&["@1"])), "%401");
        assert_eq!(file(0, &entry(&["ü:x"])), "%C3%BC%3Ax");
    }

    #[test]
    fn a_path_that_a_browser_would_fold_is_named_by_number() {
        assert_eq!(file(7, &entry(&["..", "x.txt"])), "@7/x.txt");
        assert_eq!(file(7, &entry(&["a", "."])), "@7/file");
        assert_eq!(file(7, &entry(&[])), "@7/file");
    }
}
