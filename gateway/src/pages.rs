//! The pages that people see: one frame for all, the start page, error pages.

use maud::{DOCTYPE, Markup, html};
use serde_json::Value;

use crate::catalogue::ItemStatus;

/// What pages of ours may load and send: their own style sheet and script, and forms back to the gateway.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; base-uri 'none'; \
                          frame-ancestors 'none'";

/// The style sheet.
pub const STYLE: &str = include_str!("pages/style.css");

/// The script: copies links.
pub const SCRIPT: &str = include_str!("pages/copy.js");

/// Most items on the start page.
const MAX_ITEMS: usize = 100;

/// A page; `up` leads from its URL to the gateway's root.
#[must_use]
pub fn page(title: &str, up: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                link rel="stylesheet" href={ (up) "ui/style.css" };
                script src={ (up) "ui/copy.js" } defer {}
            }
            body {
                header { a href=(if up.is_empty() { "./" } else { up }) { "swarmgate" } }
                h1 { (title) }
                (body)
            }
        }
    }
}

/// The start page: where to put a link, and what there is.
#[must_use]
pub fn home(items: &[ItemStatus]) -> Markup {
    let body = html! {
        form action="open" method="get" {
            label for="uri" { "Magnet link, infohash, CID or URL of a .torrent" }
            input #uri name="uri" type="text" required autofocus autocomplete="off" spellcheck="false";
            button type="submit" { "Open" }
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
    page("swarmgate", "", &body)
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
            head { meta charset="utf-8"; title { (word("status")) " " (word("title")) } }
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
