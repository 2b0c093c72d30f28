//! URLs of servers, and what of them may be shown. A password stands before the host; what identifies an account to a
//! tracker or a gateway stands in the path or the query.
//!
//! # What is shown of a URL?
//! Its scheme, host and port, a user's name before a password, and folders that every server of its kind has. All else
//! is `<redacted>`: a key cannot be told from a folder by its looks. Of a text that is no URL, nothing behind its
//! scheme.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::Url;

use crate::values::REDACTED;

/// Folders and files in the paths of trackers, gateways, routers and daemons that are no secret.
const KNOWN_SEGMENTS: [&str; 10] =
    ["", "announce", "announce.php", "api", "ipfs", "ipns", "routing", "scrape", "v0", "v1"];

/// Schemes whose URLs have no `//` before the host.
const SERVER_SCHEMES: [&str; 4] = ["stun", "stuns", "turn", "turns"];

/// The URL of a server, which may have a password or a key in it: `Debug` and `Serialize` write `<redacted>` in their
/// place. It has no `Display`, so that nobody prints it by accident; [`Url::as_str`] has all of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerUrl(Url);

impl Deref for ServerUrl {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.0
    }
}

impl From<Url> for ServerUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl FromStr for ServerUrl {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, url::ParseError> {
        text.parse().map(Self)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_url(&self.0))
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&shown_url(&self.0))
    }
}

/// What may be shown of a URL.
pub(crate) fn shown_url(url: &Url) -> String {
    let Some(host) = url.host_str() else { return shown_opaque(url) };
    let user = match (url.username(), url.password()) {
        ("", None) => String::new(),
        (user, Some(_)) => format!("{user}:{REDACTED}@"),
        // A name alone may be a token.
        (_, None) => format!("{REDACTED}@"),
    };
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    let path = url.path().split('/').map(|part| if KNOWN_SEGMENTS.contains(&part) { part } else { REDACTED });
    let path: Vec<&str> = path.collect();
    let behind = [("?", url.query()), ("#", url.fragment())];
    let behind = behind.iter().filter(|(_, part)| part.is_some()).map(|(mark, _)| format!("{mark}{REDACTED}"));
    format!("{}://{user}{host}{port}{}{}", url.scheme(), path.join("/"), behind.collect::<String>())
}

/// What may be shown of `stun:host:port` or `turn:host:port` (RFC 7064, RFC 7065), whose host is none to a reader of
/// URLs.
fn shown_opaque(url: &Url) -> String {
    let (scheme, path) = (url.scheme(), url.path());
    let (user, host) = path.rsplit_once('@').map_or(("", path), |(_, host)| (REDACTED, host));
    if !SERVER_SCHEMES.contains(&scheme) || !host.chars().all(|letter| is_of_host(letter) || "[]:".contains(letter)) {
        return format!("{scheme}:{REDACTED}");
    }
    let at = if user.is_empty() { "" } else { "@" };
    let transport = url.query().filter(|query| query.starts_with("transport=") && query.chars().all(is_of_query));
    format!("{scheme}:{user}{at}{host}{}", transport.map_or_else(String::new, |query| format!("?{query}")))
}

/// What may be shown of a text that should be a URL.
pub(crate) fn shown(text: &str) -> String {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| is_word(scheme));
    match (Url::parse(text), scheme) {
        (Ok(url), _) => shown_url(&url),
        (Err(_), Some(scheme)) => format!("{scheme}:{REDACTED}"),
        (Err(_), None) if text.chars().all(is_of_host) => text.to_owned(),
        (Err(_), None) => REDACTED.to_owned(),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphabetic())
}

/// Whether a text of such letters is at the most a host, or all of them.
fn is_of_host(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-._*".contains(letter)
}

fn is_of_query(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter == '='
}

/// Reads URLs, naming the one that is none.
pub(crate) fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ServerUrl>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| url_of(text).map(ServerUrl)).collect()
}

/// Reads a URL, where the empty text is none.
pub(crate) fn optional_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { url_of(&text).map(Some) }
}

/// Reads the URL of a server, where the empty text is none.
pub(crate) fn optional_server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ServerUrl>, D::Error> {
    optional_url(deserializer).map(|url| url.map(ServerUrl))
}

/// Writes a URL, where none is the empty text.
pub(crate) fn or_empty<T: Serialize, S: Serializer>(url: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match url {
        Some(url) => url.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

fn url_of<E: de::Error>(text: &str) -> Result<Url, E> {
    Url::parse(text).map_err(|why| E::custom(format!("`{}` is not a URL: {why}", shown(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_is_shown_what_can_be_no_key() {
        for (url, text) in [
            ("https://gateway.example", "https://gateway.example/"),
            ("http://127.0.0.1:5001/api/v0", "http://127.0.0.1:5001/api/v0"),
            ("http://[::1]:5001", "http://[::1]:5001/"),
            ("https://me:hunter2@a.example/", "https://me:<redacted>@a.example/"),
            ("https://hunter2@a.example/", "https://<redacted>@a.example/"),
            ("https://:hunter2@a.example/", "https://:<redacted>@a.example/"),
            ("https://t.example/hunter2/announce", "https://t.example/<redacted>/announce"),
            ("https://t.example/announce?passkey=hunter2", "https://t.example/announce?<redacted>"),
            ("wss://t.example/announce.php#hunter2", "wss://t.example/announce.php#<redacted>"),
            ("udp://t.example:80", "udp://t.example:80"),
            ("turn:t.example:3478?transport=udp", "turn:t.example:3478?transport=udp"),
            ("turn:me:hunter2@t.example", "turn:<redacted>@t.example"),
        ] {
            assert_eq!(shown(url), text);
            let url: ServerUrl = url.parse().unwrap();
            assert_eq!(format!("{url:?}"), text);
            assert_eq!(serde_json::to_value(&url).unwrap(), text);
        }
    }

    #[test]
    fn of_a_text_that_is_no_url_is_shown_its_scheme_or_that_it_may_be_a_host() {
        for (text, kept) in [
            ("https://me:hun/ter2@a.example", "https:<redacted>"),
            ("https://me:hunter2", "https:<redacted>"),
            ("me:hunter2@a.example", "me:<redacted>"),
            ("turn:hunter2/a", "turn:<redacted>"),
            ("hunter2@a.example", "<redacted>"),
            ("//a.example/hunter2", "<redacted>"),
            ("tracker.example", "tracker.example"),
            ("", ""),
        ] {
            assert_eq!(shown(text), kept, "{text}");
        }
    }
}
