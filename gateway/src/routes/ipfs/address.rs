//! Where content is in the gateway's URL space: below a path, or at the root of a host of its own. Also every redirect
//! that needs nothing but the URL.

use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri};
use swarmgate_ipfs_proto::content_path::{ContentPath, ParsePathError, Root};
use url::form_urlencoded;

use crate::error::{Problem, ProblemKind};
use crate::links;
use crate::routes::ipfs::host;
use crate::state::HttpOptions;

/// What an origin has to do with the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// Content shares the gateway's origin, below this path: empty, or the base path.
    Path(String),
    /// `{label}.ipfs.{parent}`.
    Subdomain {
        /// The host with its port, as the client names it.
        parent: String,
    },
    /// A website on a host of its own.
    Website {
        /// The host with its port, as the client names it.
        authority: String,
    },
}

/// Content that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Where it is.
    pub mount: Mount,
    /// What it is.
    pub path: ContentPath,
    /// The URL's path as the client spelt it, below the base path.
    pub url_path: String,
    /// The URL's query.
    pub query: Option<String>,
}

/// A better URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The `Location`.
    pub location: String,
    /// With which status.
    pub status: StatusCode,
}

/// Whether a path is one of content.
#[must_use]
pub fn is_content(path: &str) -> bool {
    path.starts_with("/ipfs/") || path.starts_with("/ipns/")
}

/// Where `/ipfs/?uri=` leads: a page may register that as the handler of `ipfs://` (subdomain gateway, "URI router").
///
/// # Errors
/// 400 when the URI is none of ours.
pub fn uri_router(parts: &Parts) -> Result<Option<String>, Problem> {
    if !matches!(parts.uri.path(), "/ipfs/" | "/ipns/") {
        return Ok(None);
    }
    let mut parameters = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let Some((_, uri)) = parameters.find(|(name, _)| name == "uri") else { return Ok(None) };
    let path = ContentPath::from_uri(&uri).map_err(|error| bad_path(&uri, &error))?;
    let query = uri.split('#').next().and_then(|uri| uri.split_once('?')).map(|(_, query)| query);
    let query = query.map(|query| percent_encoding::utf8_percent_encode(query, percent_encoding::CONTROLS).to_string());
    Ok(Some(links::with_query(path.to_string(), query.as_deref())))
}

/// The URL below a host's subdomains of a path of content (subdomain gateway, `Location`). All but the root stays as it
/// is spelt.
///
/// # Errors
/// 400 when it is no path of content, or its root does not fit into a host name.
pub fn subdomain_url(
    options: &HttpOptions,
    uri: &Uri,
    headers: &HeaderMap,
    authority: &str,
) -> Result<String, Problem> {
    if let Some(better) = router_or_superfluous(uri)? {
        return Ok(format!("{}{better}", options.base_path));
    }
    let path = parse(uri.path())?;
    let label = label(&path.root)?;
    let scheme = if host::is_https(options, uri, headers, authority) { "https" } else { "http" };
    let below = uri.path().splitn(4, '/').nth(3).unwrap_or_default();
    let location = format!("{scheme}://{label}.{}.{authority}/{below}", path.namespace());
    Ok(links::with_query(location, uri.query()))
}

fn router_or_superfluous(uri: &Uri) -> Result<Option<String>, Problem> {
    let mut parts = http::Request::new(()).into_parts().0;
    parts.uri = uri.clone();
    Ok(uri_router(&parts)?.or_else(|| superfluous(uri)))
}

/// `/ipfs/ipfs/…` and `/ipfs/ipns/…`, which come from pasting a path behind a prefix.
fn superfluous(uri: &Uri) -> Option<String> {
    let rest = uri.path().strip_prefix("/ipfs").filter(|rest| is_content(rest))?;
    Some(links::with_query(rest.to_owned(), uri.query()))
}

fn parse(path: &str) -> Result<ContentPath, Problem> {
    ContentPath::from_url_path(path).map_err(|error| bad_path(path, &error))
}

fn bad_path(path: &str, error: &ParsePathError) -> Problem {
    let path: String = path.chars().filter(|c| !c.is_control()).take(200).collect();
    let kind = match error {
        ParsePathError::Namespace | ParsePathError::Cid(_) | ParsePathError::Name(_) => ProblemKind::BadContentPath,
        ParsePathError::TooDeep | ParsePathError::TooLong | ParsePathError::Segment | ParsePathError::Encoding => {
            ProblemKind::BadPath
        }
    };
    Problem::new(kind, format!("invalid path \"{path}\": {error}"))
}

/// The label of a root in host names.
fn label(root: &Root) -> Result<String, Problem> {
    root.subdomain_label().map_err(|error| {
        let detail = format!("CID incompatible with DNS label length limit of 63: {root} ({error})");
        Problem::new(ProblemKind::LabelTooLong, detail).hint("ask for it at a host without subdomains for content")
    })
}

impl Address {
    /// Reads a path below `/ipfs/` or `/ipns/`.
    ///
    /// # Errors
    /// 400 when it names nothing that there could be.
    pub fn of_path(options: &HttpOptions, uri: &Uri) -> Result<Result<Self, Elsewhere>, Problem> {
        let elsewhere = |location: String, status| {
            let location = format!("{}{location}", options.base_path);
            Ok(Err(Elsewhere { location, status }))
        };
        if let Some(better) = superfluous(uri) {
            return elsewhere(better, StatusCode::MOVED_PERMANENTLY);
        }
        let path = parse(uri.path())?;
        if let Some(canonical) = canonical_key(uri, &path.root) {
            return elsewhere(canonical, StatusCode::FOUND);
        }
        let query = uri.query().map(str::to_owned);
        Ok(Ok(Self { mount: Mount::Path(options.base_path.clone()), path, url_path: uri.path().to_owned(), query }))
    }

    /// Reads the host and path of a subdomain. Whoever spelt the root in a way of their own is sent to the one spelling
    /// of it, so that content has one origin.
    ///
    /// # Errors
    /// 400 when they name nothing that there could be.
    pub fn of_subdomain(
        options: &HttpOptions,
        parts: &Parts,
        root: &str,
        namespace: &'static str,
        parent: &str,
    ) -> Result<Result<Self, Elsewhere>, Problem> {
        let url_path = parts.uri.path().to_owned();
        let path = ContentPath::from_subdomain(root, namespace, &url_path)
            .map_err(|error| bad_path(&format!("/{namespace}/{root}{url_path}"), &error))?;
        // A host's name may stand there as it is, where no certificate is in the way.
        if !matches!(path.root, Root::Host(_)) {
            let canonical = label(&path.root)?;
            if !canonical.eq_ignore_ascii_case(root) {
                let https = host::is_https(options, &parts.uri, &parts.headers, parent);
                let scheme = if https { "https" } else { "http" };
                let location = format!("{scheme}://{canonical}.{namespace}.{parent}{url_path}");
                let location = links::with_query(location, parts.uri.query());
                return Ok(Err(Elsewhere { location, status: StatusCode::MOVED_PERMANENTLY }));
            }
        }
        let mount = Mount::Subdomain { parent: parent.to_owned() };
        Ok(Ok(Self { mount, path, url_path, query: parts.uri.query().map(str::to_owned) }))
    }

    /// Reads the path of a website.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn of_website(parts: &Parts, root: &Root, authority: &str) -> Result<Self, Problem> {
        let url_path = parts.uri.path().to_owned();
        let path = parse(&format!("/ipns/{root}{url_path}"))?;
        let mount = Mount::Website { authority: authority.to_owned() };
        Ok(Self { mount, path, url_path, query: parts.uri.query().map(str::to_owned) })
    }

    /// Whether the content has its origin for itself.
    #[must_use]
    pub const fn is_isolated(&self) -> bool {
        !matches!(self.mount, Mount::Path(_))
    }

    /// `X-Ipfs-Path`: the path of the content as it was asked for, percent-encoded.
    #[must_use]
    pub fn content_path(&self) -> String {
        match &self.mount {
            Mount::Path(_) => self.url_path.clone(),
            Mount::Subdomain { .. } | Mount::Website { .. } => {
                format!("/{}/{}{}", self.path.namespace(), self.path.root, self.url_path)
            }
        }
    }

    /// The path of the same URL as redirects and links name it.
    #[must_use]
    pub fn location(&self) -> String {
        match &self.mount {
            Mount::Path(base) => format!("{base}{}", self.url_path),
            Mount::Subdomain { .. } | Mount::Website { .. } => self.url_path.clone(),
        }
    }

    /// The same with a slash at its end, when it has none.
    #[must_use]
    pub fn with_slash(&self) -> Option<String> {
        let lacks = !self.url_path.ends_with('/');
        lacks.then(|| links::with_query(format!("{}/", self.location()), self.query.as_deref()))
    }

    /// Whether it is the root of the content.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path.segments().is_empty()
    }

    /// Refuses a service worker for all of a content that shares the gateway's origin from a URL that would give it more:
    /// its scope is the folder of its script (path gateway, `Service-Worker`).
    ///
    /// # Errors
    /// 400.
    pub fn refuse_wide_service_worker(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let is_script = headers.get("service-worker").is_some_and(|value| value == "script");
        if is_script && !self.is_isolated() && self.is_root() && !self.url_path.ends_with('/') {
            let detail = "navigator.serviceWorker: registration is not allowed for this scope";
            return Err(Problem::new(ProblemKind::ServiceWorker, detail));
        }
        Ok(())
    }
}

/// The URL with the one spelling of a key, where it has another.
fn canonical_key(uri: &Uri, root: &Root) -> Option<String> {
    let Root::Key(name) = root else { return None };
    let mut parts = uri.path().splitn(4, '/').skip(2);
    let (spelt, below) = (parts.next()?, parts.next());
    let canonical = name.to_string();
    if canonical == spelt {
        return None;
    }
    let location = match below {
        Some(below) => format!("/ipns/{canonical}/{below}"),
        None => format!("/ipns/{canonical}"),
    };
    Some(links::with_query(location, uri.query()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V0: &str = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";
    const V1: &str = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
    const KEY: &str = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
    const PEER: &str = "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK";

    fn options() -> HttpOptions {
        HttpOptions { base_path: "/gate".to_owned(), ..HttpOptions::default() }
    }

    fn of_path(path: &str) -> Result<Result<Address, Elsewhere>, Problem> {
        Address::of_path(&options(), &uri(path))
    }

    fn uri(path: &str) -> Uri {
        path.parse().unwrap()
    }

    fn parts(uri: &str) -> Parts {
        http::Request::builder().uri(uri).body(()).unwrap().into_parts().0
    }

    fn elsewhere(path: &str) -> (String, u16) {
        let Elsewhere { location, status } = of_path(path).unwrap().unwrap_err();
        (location, status.as_u16())
    }

    #[test]
    fn other_spellings_of_a_path_lead_to_the_one() {
        assert_eq!(elsewhere(&format!("/ipfs/ipfs/{V0}/a%20b?x")), (format!("/gate/ipfs/{V0}/a%20b?x"), 301));
        assert_eq!(elsewhere(&format!("/ipfs/ipns/{KEY}")), (format!("/gate/ipns/{KEY}"), 301));
        assert_eq!(elsewhere(&format!("/ipns/{PEER}/root2/?x=1")), (format!("/gate/ipns/{KEY}/root2/?x=1"), 302));
        assert!(of_path(&format!("/ipns/{KEY}/a")).unwrap().is_ok());
        assert!(of_path(&format!("/ipfs/{V0}/ipfs/a")).unwrap().is_ok());
    }

    #[test]
    fn what_is_no_path_is_told_as_it_was_spelt() {
        let problem = of_path("/ipfs/QmInvalidCID").unwrap_err();
        assert_eq!(problem.kind(), ProblemKind::BadContentPath);
        assert!(
            problem.for_the_log().starts_with("invalid path \"/ipfs/QmInvalidCID\": "),
            "{}",
            problem.for_the_log()
        );
        assert_eq!(of_path(&format!("/ipfs/{V0}/a/%2e%2e/b")).unwrap_err().kind(), ProblemKind::BadPath);
    }

    #[test]
    fn paths_are_sent_to_the_origin_of_their_content() {
        let url = |path: &str, rows: &[(&'static str, &str)]| {
            let headers =
                rows.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
            let options = HttpOptions::default();
            subdomain_url(&options, &path.parse().unwrap(), &headers.collect(), "dweb.example:81")
                .map_err(|it| it.kind())
        };
        for (path, expected) in [
            (format!("/ipfs/{V1}/a%20b/?x=%20"), format!("http://{V1}.ipfs.dweb.example:81/a%20b/?x=%20")),
            (format!("/ipfs/{V1}"), format!("http://{V1}.ipfs.dweb.example:81/")),
            (format!("/ipns/{PEER}"), format!("http://{KEY}.ipns.dweb.example:81/")),
            ("/ipns/en.wiki-x.org/w/".to_owned(), "http://en-wiki--x-org.ipns.dweb.example:81/w/".to_owned()),
            (format!("/ipfs/?uri=ipfs://{V0}/wiki/x.html"), format!("/ipfs/{V0}/wiki/x.html")),
            ("/ipns/?uri=ipns%3A%2F%2Fx.example".to_owned(), "/ipns/x.example".to_owned()),
        ] {
            assert_eq!(url(&path, &[]), Ok(expected), "{path}");
        }
        let https = url(&format!("/ipfs/{V1}/"), &[("x-forwarded-proto", "https")]).unwrap();
        assert_eq!(https, format!("https://{V1}.ipfs.dweb.example:81/"));
        assert_eq!(url("/ipfs/nonsense", &[]), Err(ProblemKind::BadContentPath));
    }

    #[test]
    fn a_subdomain_has_one_spelling() {
        let of = |root: &str, namespace| {
            Address::of_subdomain(&HttpOptions::default(), &parts("/a/?x"), root, namespace, "dweb.example")
        };
        let address = of(V1, "ipfs").unwrap().unwrap();
        assert_eq!(address.content_path(), format!("/ipfs/{V1}/a/"));
        assert!(address.is_isolated() && address.with_slash().is_none());
        assert!(of(V0, "ipfs").unwrap().unwrap_err().location.starts_with("http://bafybei"));
        assert!(
            of(PEER, "ipns")
                .unwrap()
                .unwrap_err()
                .location
                .starts_with(&format!("http://{KEY}.ipns.dweb.example/a/?x"))
        );
        for host in ["en.wiki-x.org", "en-wiki--x-org"] {
            assert_eq!(of(host, "ipns").unwrap().unwrap().content_path(), "/ipns/en.wiki-x.org/a/");
        }
        assert_eq!(of("nonsense", "ipfs").unwrap_err().kind(), ProblemKind::BadContentPath);
    }

    #[test]
    fn a_folder_gets_its_slash_where_it_is() {
        let address = of_path(&format!("/ipfs/{V1}/%C4%85?format=x")).unwrap().unwrap();
        assert_eq!(address.with_slash(), Some(format!("/gate/ipfs/{V1}/%C4%85/?format=x")));
        let site = Address::of_website(&parts("/a"), &Root::Host("x.example".parse().unwrap()), "x.example:1").unwrap();
        assert_eq!(site.with_slash().as_deref(), Some("/a/"));
    }

    #[test]
    fn a_service_worker_stays_within_its_content() {
        let headers =
            [(http::HeaderName::from_static("service-worker"), "script".parse().unwrap())].into_iter().collect();
        let refused = |path: &str| of_path(path).unwrap().unwrap().refuse_wide_service_worker(&headers).is_err();
        assert!(refused(&format!("/ipfs/{V1}")) && refused(&format!("/ipns/{KEY}")));
        assert!(!refused(&format!("/ipfs/{V1}/")) && !refused(&format!("/ipfs/{V1}/sw.js")));
        let plain = of_path(&format!("/ipfs/{V1}")).unwrap().unwrap();
        assert!(plain.refuse_wide_service_worker(&HeaderMap::new()).is_ok());
    }
}
