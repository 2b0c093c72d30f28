//! `swarmgate link`: the URL that a content has at the gateway, signed perhaps.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;
use swarmgate_config::{Config, Span};
use swarmgate_content::{Cid, ContentId};
use swarmgate_ipfs_proto::content_path::ContentPath;

use super::Exit;
use super::args::Output;
use super::source::Failure;
use crate::app::link_key;
use crate::auth::link::{MAX_TTL, Place};
use crate::{links, publish, qr};

/// `link`.
#[derive(Debug, Clone, Args)]
pub struct Link {
    /// Magnet, infohash or CID with a path, ipfs://…, or a path of the gateway as /bt/…
    pub uri: String,
    /// Let whoever has the URL read it without credentials, for a time
    #[arg(long)]
    pub signed: bool,
    /// How long a signed URL works, as 6h; at most 30 days (auth.link_ttl)
    #[arg(long, visible_alias = "ttl", value_name = "TIME", requires = "signed")]
    pub expires: Option<Span>,
    /// Let a signed URL be good for all files of the content
    #[arg(long, requires = "signed")]
    pub whole: bool,
    /// Draw the URL as a QR code below it, for a phone or a TV to read off a dark screen
    #[arg(long)]
    pub qr: bool,
}

/// Prints the URL.
///
/// # Errors
/// [`Failure`] for what names no content, a time that is too long, a URL that is too long to be drawn, and a key that
/// cannot be read.
pub fn run(config: &Config, wanted: &Link, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let path = path_of(&wanted.uri).ok_or_else(|| usage(format!("{} names no content", wanted.uri)))?;
    let base = publish::base(config);
    let (url, expires) = if wanted.signed {
        let ttl = wanted.expires.unwrap_or(config.auth.link_ttl).duration();
        if ttl < Duration::from_secs(1) || ttl > MAX_TTL {
            return Err(usage("a link works for 1 second to 30 days".to_owned()));
        }
        let key = link_key(config).map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
        let (signed, expires) =
            sign(&key, &path, wanted.whole, ttl).ok_or_else(|| usage(format!("no link can be signed to {path}")))?;
        (format!("{base}{signed}"), Some(expires))
    } else {
        (format!("{base}{path}"), None)
    };
    let written = match output {
        Output::Human if wanted.qr => {
            let code = qr::letters(&url).map_err(|error| usage(error.to_string()))?;
            writeln!(out, "{url}\n{code}")
        }
        Output::Human => writeln!(out, "{url}"),
        // A program draws its own.
        Output::Json => writeln!(out, "{:#}", json!({ "url": url, "expires": expires })),
    };
    written.map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}

/// A path of the gateway with what lets whoever has it read until then, in seconds since 1970; `None` for what no link can be
/// made to.
pub(super) fn sign(key: &crate::auth::LinkKey, target: &str, whole: bool, ttl: Duration) -> Option<(String, u64)> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let place = Place::of(path, query)?;
    let reach = if whole { place.content() } else { place.file() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let expires = now + ttl.as_secs();
    Some((links::signed(target, &key.sign(&reach, expires)), expires))
}

/// The path of the gateway at which a content is, with a query perhaps.
fn path_of(uri: &str) -> Option<String> {
    if let Some(query) = uri.strip_prefix("magnet:?") {
        return Some(format!("/magnet?{query}"));
    }
    if uri.starts_with('/') {
        return Some(uri.to_owned());
    }
    if uri.starts_with("ipfs://") || uri.starts_with("ipns://") {
        return ContentPath::from_uri(uri).ok().map(|path| path.to_string());
    }
    let (name, below) = uri.split_once('/').map_or((uri, None), |(name, below)| (name, Some(below)));
    let below = below.unwrap_or_default().split('/').map(links::encode).collect::<Vec<_>>().join("/");
    if let Ok(id) = ContentId::parse_torrent(name) {
        return Some(format!("/bt/{id}/{below}"));
    }
    let cid = Cid::try_from(name).ok()?;
    Some(if uri.contains('/') { format!("/ipfs/{cid}/{below}") } else { format!("/ipfs/{cid}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IH: &str = "abababababababababababababababababababab";
    const CID: &str = "bafybeie5nqv6kd3qnfjupgvz34woh3oksc3iau6abmyajn7qvtf6d2ho34";

    #[test]
    fn whatever_names_a_content_has_a_path() {
        for (uri, path) in [
            (IH.to_uppercase(), format!("/bt/{IH}/")),
            (format!("{IH}/a b/ü.mkv"), format!("/bt/{IH}/a%20b/%C3%BC.mkv")),
            (CID.to_owned(), format!("/ipfs/{CID}")),
            (format!("ipfs://{CID}/x"), format!("/ipfs/{CID}/x")),
            (format!("magnet:?xt=urn:btih:{IH}"), format!("/magnet?xt=urn:btih:{IH}")),
            (format!("/bt/{IH}.m3u8"), format!("/bt/{IH}.m3u8")),
        ] {
            assert_eq!(path_of(&uri), Some(path), "{uri}");
        }
        assert_eq!(path_of("film.mkv"), None);
    }

    #[test]
    fn a_qr_code_says_the_url_above_it() {
        let wanted = |uri: &str| Link { uri: uri.to_owned(), signed: false, expires: None, whole: false, qr: true };
        let said = |uri: &str, output: Output| {
            let mut out = Vec::new();
            run(&Config::default(), &wanted(uri), output, &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        let shown = said(&format!("{IH}/a b/ü.mkv"), Output::Human).unwrap();
        let (url, code) = shown.split_once('\n').unwrap();
        assert!(url.ends_with(&format!("/bt/{IH}/a%20b/%C3%BC.mkv")), "{url}");
        assert_eq!(qr::reading::letters(code), url);
        let told: serde_json::Value = serde_json::from_str(&said(IH, Output::Json).unwrap()).unwrap();
        assert!(told["url"].as_str().unwrap().ends_with(&format!("/bt/{IH}/")), "a program is told the URL alone");
        let long = format!("{IH}/{}", "a".repeat(qr::MAX_TEXT_BYTES));
        assert_eq!(said(&long, Output::Human).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_signed_link_is_one_that_the_gateway_of_this_configuration_takes() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.cache.dir = dir.path().to_owned();
        config.server.base_path = "/gate".to_owned();
        let wanted = Link { uri: format!("{IH}/a.mkv"), signed: true, expires: None, whole: false, qr: false };
        let mut out = Vec::new();
        run(&config, &wanted, Output::Human, &mut out).unwrap();
        let url = url::Url::parse(String::from_utf8(out).unwrap().trim()).unwrap();
        let path = url.path().strip_prefix("/gate").unwrap();
        let ticket = link_key(&config).unwrap().check(Place::of(path, url.query()).as_ref(), url.query(), 0);
        assert!(matches!(ticket, crate::auth::link::Ticket::Good { .. }), "{url}: {ticket:?}");

        let too_long = Link { expires: Some(Span::from_secs(31 * 24 * 3600)), ..wanted };
        assert_eq!(run(&config, &too_long, Output::Human, &mut Vec::new()).unwrap_err().exit, Exit::Usage);
    }
}
