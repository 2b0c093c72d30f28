//! The page that lists a directory.
//!
//! Its links are those that other gateways make, so that tools which read such pages find what they look for: names lead
//! to content paths from the origin's root, CIDs to `/ipfs/{cid}?filename=`, and the line above leads up name by name.

use bytesize::ByteSize;
use maud::{Markup, html};
use swarmgate_content::Cid;
use swarmgate_ipfs_proto::directory::Entry;

use crate::links;
use crate::routes::ipfs::address::{Address, Mount};
use crate::routes::ipfs::page;

/// A directory to list.
#[derive(Debug)]
pub struct Listing<'a> {
    /// Where it is.
    pub address: &'a Address,
    /// What it is.
    pub cid: Cid,
    /// What it has, in the order to show it.
    pub entries: &'a [Entry],
    /// Whether it has more than that.
    pub more: bool,
}

impl Listing<'_> {
    /// The page.
    #[must_use]
    pub fn page(&self) -> Markup {
        let title = self.address.path.to_plain();
        let body = html! {
            h1 { "Index of " (self.breadcrumbs()) }
            p { span.ipfs-hash { (self.cid) } }
            p { a href="?format=car" { "CAR" } " " a href="?format=tar" { "tar" } " " a href="?format=zip" { "zip" } }
            table {
                @if !self.address.is_root() { tr { td colspan="3" { a href={ (self.here()) ".." } { ".." } } } }
                @for entry in self.entries { (self.row(entry)) }
            }
            @if self.more { p { "There is more: " a href="?format=car&dag-scope=entity" { "all of it" } "." } }
        };
        page::page(&title, &body)
    }

    /// The listing's own path, with its slash and one spelling.
    fn here(&self) -> String {
        let path = encode_all(self.address.path.segments());
        match &self.address.mount {
            Mount::Path(base) => format!("{base}/{}/{}{path}/", self.address.path.namespace(), self.address.path.root),
            Mount::Subdomain { .. } | Mount::Website { .. } => format!("{path}/"),
        }
    }

    /// `/ipfs/{root}/{name}/…`, each with its link.
    fn breadcrumbs(&self) -> Markup {
        let path = &self.address.path;
        let (namespace, root) = (path.namespace(), path.root.to_string());
        let base = match &self.address.mount {
            Mount::Path(base) => format!("{base}/{namespace}/{root}"),
            Mount::Subdomain { parent } => format!("//{parent}/{namespace}/{root}"),
            Mount::Website { authority } => format!("//{authority}"),
        };
        let to_root =
            if matches!(self.address.mount, Mount::Website { .. }) { format!("{base}/") } else { base.clone() };
        let crumbs = (0..path.segments().len()).map(|at| {
            let href = format!("{base}{}", encode_all(&path.segments()[..=at]));
            (href, &path.segments()[at])
        });
        html! {
            "/" (namespace) "/" a href=(to_root) { (root) }
            @for (href, name) in crumbs { "/" a href=(href) { (name) } }
        }
    }

    fn row(&self, entry: &Entry) -> Markup {
        let name = String::from_utf8_lossy(&entry.name);
        let size = entry.tsize.map(|size| ByteSize(size).display().iec().to_string()).unwrap_or_default();
        html! {
            tr {
                // A name that is no text has no path; its block can still be had.
                td {
                    @if entry.text().is_some() { a href={ (self.here()) (links::encode(&name)) } { (name) } }
                    @else { (name) }
                }
                td { (self.block_link(entry, &name)) }
                td.size title="all blocks of it together" { (size) }
            }
        }
    }

    fn block_link(&self, entry: &Entry, name: &str) -> Markup {
        let cid = entry.cid;
        // Other gateways escape the name twice here, and the conformance suite wants it so.
        let filename = links::encode(&links::encode(name));
        let href = match &self.address.mount {
            Mount::Path(base) => format!("{base}/ipfs/{cid}?filename={filename}"),
            Mount::Subdomain { parent } => format!("//{parent}/ipfs/{cid}?filename={filename}"),
            Mount::Website { .. } => {
                // A website's host has no `/ipfs/` of its own.
                let href = format!("https://cid.ipfs.tech/#{cid}");
                return html! {
                    a class="ipfs-hash" translate="no" href=(href) target="_blank" rel="noreferrer noopener" {
                        (short(&cid))
                    }
                };
            }
        };
        html! { a class="ipfs-hash" translate="no" href=(href) { (short(&cid)) } }
    }
}

/// `/a/b` for names.
fn encode_all(names: &[String]) -> String {
    names.iter().map(|name| format!("/{}", links::encode(name))).collect()
}

/// The head and tail of a CID, which tell most apart.
fn short(cid: &Cid) -> String {
    let text = cid.to_string();
    match (text.get(..4), text.len().checked_sub(4).and_then(|at| text.get(at..))) {
        (Some(head), Some(tail)) => format!("{head}\u{2026}{tail}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use swarmgate_ipfs_proto::content_path::ContentPath;

    const DIR: &str = "bafybeig6ka5mlwkl4subqhaiatalkcleo4jgnr3hqwvpmsqfca27cijp3i";
    const FILE: &str = "bafkreialihlqnf5uwo4byh4n3cmwlntwqzxxs2fg5vanqdi3d7tb2l5xkm";

    fn page(mount: Mount, path: &str, names: &[&[u8]]) -> String {
        let path: ContentPath = path.parse().unwrap();
        let address = Address { mount, path, url_path: String::new(), query: None };
        let entry =
            |name: &&[u8]| Entry { name: Bytes::copy_from_slice(name), cid: FILE.parse().unwrap(), tsize: Some(34) };
        let entries: Vec<_> = names.iter().map(entry).collect();
        Listing { address: &address, cid: DIR.parse().unwrap(), entries: &entries, more: false }.page().into_string()
    }

    #[test]
    fn links_of_a_path_begin_at_the_gateways_root() {
        let page = page(Mount::Path(String::new()), &format!("/ipfs/{DIR}/ą/ę/"), &["file-źł.txt".as_bytes()]);
        for part in [
            "Index of",
            &format!(
                "/ipfs/<a href=\"/ipfs/{DIR}\">{DIR}</a>/<a href=\"/ipfs/{DIR}/%C4%85\">ą</a>/<a href=\"/ipfs/{DIR}/%C4%85/%C4%99\">ę</a>"
            ),
            &format!("<a href=\"/ipfs/{DIR}/%C4%85/%C4%99/..\">..</a>"),
            &format!("<a href=\"/ipfs/{DIR}/%C4%85/%C4%99/file-%C5%BA%C5%82.txt\">file-źł.txt</a>"),
            &format!(
                "<a class=\"ipfs-hash\" translate=\"no\" href=\"/ipfs/{FILE}?filename=file-%25C5%25BA%25C5%2582.txt\">"
            ),
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }

    #[test]
    fn links_of_a_subdomain_begin_at_its_own_root() {
        let mount = Mount::Subdomain { parent: "dweb.example:81".to_owned() };
        let page = page(mount, &format!("/ipfs/{DIR}/ipfs/ipns/"), &[b"bar"]);
        for part in [
            &format!(
                "/ipfs/<a href=\"//dweb.example:81/ipfs/{DIR}\">{DIR}</a>/<a href=\"//dweb.example:81/ipfs/{DIR}/ipfs\">ipfs</a>/"
            ),
            "<a href=\"/ipfs/ipns/..\">..</a>",
            "<a href=\"/ipfs/ipns/bar\">bar</a>",
            &format!("href=\"//dweb.example:81/ipfs/{FILE}?filename=bar\""),
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }

    #[test]
    fn a_websites_links_stay_with_it() {
        let mount = Mount::Website { authority: "x.example".to_owned() };
        let page = page(mount, "/ipns/x.example/ą/", &[b"a"]);
        for part in [
            "/ipns/<a href=\"//x.example/\">x.example</a>/<a href=\"//x.example/%C4%85\">ą</a>",
            "<a href=\"/%C4%85/..\">..</a>",
            &format!(
                "<a class=\"ipfs-hash\" translate=\"no\" href=\"https://cid.ipfs.tech/#{FILE}\" target=\"_blank\" rel=\"noreferrer noopener\">"
            ),
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }

    #[test]
    fn the_root_leads_no_further_up_and_strangers_names_are_escaped() {
        let page = page(Mount::Path(String::new()), &format!("/ipfs/{DIR}/"), &[b"<b>", b"\xff"]);
        assert!(!page.contains("..</a>") && page.contains("%3Cb%3E\">&lt;b&gt;</a>"), "{page}");
        assert!(page.contains("<td>\u{fffd}</td>"), "a name that is no text has no link: {page}");
    }
}
