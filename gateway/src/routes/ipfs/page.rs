//! The frame of the gateway's pages about content of IPFS. They stand in origins that belong to the content, so
//! nothing of ours is loaded there: no script, and no style but the few lines in the page.

use maud::{DOCTYPE, Markup, html};

/// What changes when these pages do: a part of their entity tags.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");

/// What these pages may load: nothing but the style that is in them. They stand at any path of any host.
pub const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; \
                          frame-ancestors 'none'";

const STYLE: &str = "body{font-family:system-ui,sans-serif;margin:2rem;color-scheme:light dark}\
                     table{border-collapse:collapse}td{padding:.2rem 1rem .2rem 0}\
                     .ipfs-hash{font-family:monospace}.size{text-align:right}";

/// A page of that title.
#[must_use]
pub fn page(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (STYLE) }
            }
            body { (body) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_in_the_contents_own_origin_loads_nothing_of_ours() {
        let page = page("<b>", &html! { p { "a" } }).into_string();
        assert!(page.contains("<title>&lt;b&gt;</title>") && page.contains("<body><p>a</p></body>"), "{page}");
        for loaded in ["<script", "<link", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(loaded), "{loaded}: {page}");
        }
        assert!(POLICY.starts_with("default-src 'none'") && !POLICY.contains("script-src"));
    }
}
