//! The headers that say what an answer is, whose, and how long it is good (path gateway, "Response Headers").

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LOCATION, ETAG, HeaderName, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue};
use swarmgate_content::{Cid, HashKind};

use crate::auth;
use crate::disposition;
use crate::respond::{X_SWARMGATE_SOURCE, text};
use crate::routes::ipfs::inquiry::{Found, Inquiry, Lifetime};
use crate::state::HttpOptions;

const X_IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");
const X_IPFS_ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");

/// Who wrote the answer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// Whoever made the content: the same bytes for ever.
    Content,
    /// This release of the gateway: a page about the content.
    Gateway,
}

/// What every answer has, a 304 too.
#[must_use]
pub fn validators(inquiry: &Inquiry, found: &Found, etag: &str, author: Author) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ETAG, text(etag));
    headers.insert(CACHE_CONTROL, text(&cache_control(&inquiry.state.options, found.lifetime, author)));
    headers.insert(X_IPFS_PATH, text(&inquiry.address.content_path()));
    let roots: Vec<_> = found.resolved.roots.iter().map(Cid::to_string).collect();
    headers.insert(X_IPFS_ROOTS, text(&roots.join(",")));
    headers.insert(X_SWARMGATE_SOURCE, HeaderValue::from_static("ipfs"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
    if let Some(query) = &inquiry.ask.location_query {
        headers.insert(CONTENT_LOCATION, text(&format!("{}?{query}", inquiry.address.location())));
    }
    headers
}

/// How long caches may keep an answer.
#[must_use]
pub fn cache_control(options: &HttpOptions, lifetime: Lifetime, author: Author) -> String {
    // `public` lets a shared cache give to everybody what it got with a token (RFC 9111 §3.5).
    let whose = if auth::content_is_open(options) { "public" } else { "private" };
    match (lifetime, author) {
        (Lifetime::Immutable, Author::Content) => format!("{whose}, max-age=29030400, immutable"),
        (Lifetime::Immutable, Author::Gateway) => {
            format!("{whose}, max-age=604800, stale-while-revalidate=2678400")
        }
        (Lifetime::Named(valid_for), _) => format!("{whose}, max-age={}", valid_for.as_secs()),
    }
}

/// Offers bytes that no browser can show for saving, under the name asked for or the CID's.
pub fn attach(headers: &mut HeaderMap, inquiry: &Inquiry, cid: &Cid, extension: &str) {
    let own = format!("{cid}.{extension}");
    let name = inquiry.ask.filename.as_deref().unwrap_or(&own);
    headers.insert(CONTENT_DISPOSITION, disposition::header(name, true));
}

/// A short name for bytes, for entity tags that have to differ when these do.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> String {
    let hash = HashKind::Sha2_256.hash(bytes);
    data_encoding::HEXLOWER.encode(hash.digest().get(..8).unwrap_or_default())
}

/// A page of the gateway's own making.
#[must_use]
pub fn page(markup: maud::Markup) -> Bytes {
    Bytes::from(markup.into_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::auth::TokenHash;

    #[test]
    fn what_is_named_by_its_hash_is_kept_for_ever_and_names_as_long_as_they_say() {
        let open = HttpOptions::default();
        let say = |lifetime, author| cache_control(&open, lifetime, author);
        assert_eq!(say(Lifetime::Immutable, Author::Content), "public, max-age=29030400, immutable");
        assert_eq!(say(Lifetime::Immutable, Author::Gateway), "public, max-age=604800, stale-while-revalidate=2678400");
        for author in [Author::Content, Author::Gateway] {
            assert_eq!(say(Lifetime::Named(Duration::from_millis(60_900)), author), "public, max-age=60");
        }
        let closed = HttpOptions { token: Some(TokenHash::of("t")), ..HttpOptions::default() };
        assert!(cache_control(&closed, Lifetime::Immutable, Author::Content).starts_with("private, "));
    }
}
