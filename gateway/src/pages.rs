//! The pages that people see: one frame for all, the start page, error pages.

use maud::{DOCTYPE, Markup, html};
use serde_json::Value;

use crate::catalogue::ItemStatus;

/// What pages of ours may load and send: their own style sheet and script, and forms back to the gateway.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; \
                          base-uri 'none'; frame-ancestors 'none'";

/// What the application may load and send: modules, data and content of this gateway, and subtitles that it has made
/// itself. Content of IPFS may have origins of its own, below these hosts.
#[must_use]
pub fn application_policy(subdomain_hosts: &[String]) -> String {
    let below = |host: &String| {
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "*"));
        format!(" http://*.ipfs.{name}:{port} http://*.ipns.{name}:{port} https://*.ipfs.{name} https://*.ipns.{name}")
    };
    let content: String = subdomain_hosts.iter().map(below).collect();
    format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'{content}; connect-src 'self'{content}; \
         media-src 'self' blob:{content}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
}

/// What the page may load and send where a browser watches as a peer: the application's modules and the webtorrent beside
/// them, the gateway's tracker, and what its own worker hands to the player. WebRTC is under no policy.
pub const WATCH_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; worker-src 'self'; \
                                img-src 'self'; connect-src 'self'; media-src 'self'; form-action 'self'; \
                                base-uri 'none'; frame-ancestors 'none'";

/// What the application knows of the gateway before it asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// Whether this client may see what the API says; else it is asked for a token.
    pub may_see: bool,
    /// Whether links to content must be signed to be good for everybody.
    pub signs_links: bool,
    /// Whether there is a webtorrent to watch as a peer with.
    pub peers: bool,
}

impl Facts {
    /// For the head of a page.
    fn metas(self) -> Markup {
        html! {
            meta name="api" content=(if self.may_see { "open" } else { "token" });
            meta name="links" content=(if self.signs_links { "signed" } else { "open" });
            @if self.peers { meta name="peers" content="webtorrent"; }
        }
    }
}

/// Most items on the start page.
const MAX_ITEMS: usize = 100;

/// A page; `up` leads from its URL to the gateway's root.
#[must_use]
pub fn page(title: &str, up: &str, body: &Markup) -> Markup {
    let script = html! { script src={ (up) "ui/copy.js" } defer {} };
    frame(title, up, &script, &html! { h1 { (title) } (body) })
}

/// What our pages have in common. `head` is what a page's head has besides, `main` what it says below our name.
fn frame(title: &str, up: &str, head: &Markup, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href={ (up) "ui/icon.svg" };
                link rel="stylesheet" href={ (up) "ui/style.css" };
                (head)
            }
            body {
                header.top { a.brand href=(up) { "swarmgate" } }
                main { (main) }
            }
        }
    }
}

/// The start page: where to put a link, and what there is. Where scripts run, the application takes its place.
#[must_use]
pub fn home(items: &[ItemStatus], facts: Facts) -> Markup {
    let head = html! {
        (facts.metas())
        script type="module" src="ui/app.js" {}
    };
    let main = html! {
        h1 { "Paste a link" }
        form.open action="open" method="get" {
            label for="uri" { "Magnet link, infohash, CID, IPNS name or URL of a .torrent" }
            div.field {
                input #uri name="uri" type="text" required autofocus autocomplete="off" spellcheck="false";
                button.primary type="submit" { "Open" }
            }
        }
        @if !items.is_empty() {
            table {
                @for item in items.iter().take(MAX_ITEMS) {
                    tr {
                        td { a href={ "bt/" (item.infohash) "/" } { (item.name.clone().unwrap_or_else(|| item.infohash.to_string())) } }
                        td { (item.state) }
                        td.size { (percent(item)) }
                    }
                }
            }
        }
    };
    frame("swarmgate", "./", &head, &main)
}

/// The page where a browser watches as a peer of a swarm. It stands at `ui/watch`; which film, is said behind `#`.
#[must_use]
pub fn watch(facts: Facts) -> Markup {
    let head = html! {
        (facts.metas())
        script type="module" src="watch.js" {}
    };
    let main = html! {
        h1 { "Watch as a peer" }
        p { "This page needs scripts: your browser becomes a peer of the swarm." }
    };
    frame("Watch as a peer – swarmgate", "../", &head, &main)
}

fn percent(item: &ItemStatus) -> String {
    match item.total_len {
        Some(total) if total > 0 => format!("{} %", u128::from(item.have_bytes) * 100 / u128::from(total)),
        Some(_) | None => String::new(),
    }
}

/// An error page with the facts of a problem document, and what was tried in sentences. It stands at any path, so it
/// loads nothing.
#[must_use]
pub fn problem(document: &Value, tried: &[String]) -> Markup {
    let word = |name: &str| match &document[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    };
    let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (word("status")) " " (word("title")) }
            }
            body {
                h1 { (word("title")) }
                p { (word("detail")) }
                @for hint in list("hints") { p { (hint.as_str().unwrap_or_default()) } }
                @if !tried.is_empty() {
                    p { "What was tried:" }
                    ul { @for attempt in tried { li { (attempt) } } }
                }
                p { small { (word("status")) " " (word("type")) ", " (word("instance")) } }
            }
        }
    }
}
