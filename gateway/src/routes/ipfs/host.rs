//! What a request's host says about what it asks for: a pure function of the options, the URL and the headers.
//!
//! ```text
//! 127.0.0.1, media.example            → the gateway's own paths
//! dweb.example (a subdomain host)     → the same, but /ipfs/… and /ipns/… are sent to subdomains
//! {cid}.ipfs.dweb.example             → that content, from the root of an origin of its own
//! blog.example                        → perhaps a website that its DNSLink leads to
//! ```
//!
//! # Why is `X-Forwarded-Host` believed?
//! Only where it names one of the operator's own hosts, and then it only sends the client there. Content itself is
//! served by that header to a proxy on this machine alone: anybody else could put one origin's pages into another's
//! cache.

use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, Uri};
use swarmgate_ipfs_proto::dnslink::HostName;

use crate::state::HttpOptions;

/// What the host of a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The gateway itself.
    Gateway,
    /// A host with subdomains for content, as the client names it, with its port.
    Parent(String),
    /// A subdomain that stands for content.
    Subdomain {
        /// What stands before the namespace.
        label: String,
        /// `ipfs` or `ipns`.
        namespace: &'static str,
        /// The host below which it is, as the client names it, with its port.
        parent: String,
    },
    /// A name of no meaning here; DNS may know one.
    Website {
        /// The name.
        name: HostName,
        /// The same as the client names it, with its port.
        authority: String,
    },
}

/// Finds out what the host of a request is; `local` when the client is on this machine.
#[must_use]
pub fn role(options: &HttpOptions, uri: &Uri, headers: &HeaderMap, local: bool) -> Role {
    match forwarded(headers, "x-forwarded-host").and_then(|host| known(options, host)) {
        Some(role @ Role::Parent(_)) => return role,
        Some(role) if local => return role,
        Some(_) | None => {}
    }
    let header = headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(authority) = uri.authority().map(http::uri::Authority::as_str).or(header) else { return Role::Gateway };
    known(options, authority).or_else(|| website(options, authority)).unwrap_or(Role::Gateway)
}

/// Whether a host, without its port, is one with subdomains for content or such a subdomain.
#[must_use]
pub fn is_known(options: &HttpOptions, host: &str) -> bool {
    options.subdomain_hosts.iter().any(|parent| {
        let parent = split(parent).0;
        below(host, parent).is_some_and(|prefix| prefix.is_empty() || split_namespace(prefix).is_some())
    })
}

/// Whether the client speaks TLS, to a proxy or to us, as far as anybody says.
#[must_use]
pub fn is_https(options: &HttpOptions, uri: &Uri, headers: &HeaderMap, authority: &str) -> bool {
    if let Some(scheme) = forwarded(headers, "x-forwarded-proto") {
        return scheme.eq_ignore_ascii_case("https");
    }
    let public = options.public_url.as_ref().filter(|url| url.scheme() == "https");
    let is_public =
        public.and_then(|url| url.host_str()).is_some_and(|host| host.eq_ignore_ascii_case(split(authority).0));
    is_public || uri.scheme_str() == Some("https")
}

/// The first value of a header that proxies append to.
fn forwarded<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?.split(',').next()?.trim();
    (!value.is_empty()).then_some(value)
}

fn known(options: &HttpOptions, authority: &str) -> Option<Role> {
    let (host, port) = split(authority);
    options.subdomain_hosts.iter().find_map(|parent| {
        let (parent, its_port) = split(parent);
        let prefix = below(host, parent).filter(|_| its_port.is_none() || its_port == port)?;
        if prefix.is_empty() {
            return Some(Role::Parent(authority.to_owned()));
        }
        let (label, namespace) = split_namespace(prefix)?;
        let parent = authority[prefix.len() + 1..].to_owned();
        Some(Role::Subdomain { label: label.to_owned(), namespace, parent })
    })
}

/// What of a host stands before a parent; empty when it is that.
fn below<'a>(host: &'a str, parent: &str) -> Option<&'a str> {
    let at = host.len().checked_sub(parent.len())?;
    let (prefix, suffix) = (host.get(..at)?, host.get(at..)?);
    if !suffix.eq_ignore_ascii_case(parent) {
        return None;
    }
    if prefix.is_empty() { Some(prefix) } else { prefix.strip_suffix('.') }
}

/// Splits `{label}.ipfs`.
fn split_namespace(prefix: &str) -> Option<(&str, &'static str)> {
    let (label, namespace) = prefix.rsplit_once('.')?;
    let known = ["ipfs", "ipns"].into_iter().find(|known| known.eq_ignore_ascii_case(namespace))?;
    (!label.is_empty()).then_some((label, known))
}

/// A name that DNS may know a link for: not an address, not this machine, not where the operator says the gateway is.
fn website(options: &HttpOptions, authority: &str) -> Option<Role> {
    let host = split(authority).0;
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let public = options.public_url.as_ref().and_then(|url| url.host_str());
    let is_public = public.is_some_and(|public| public.eq_ignore_ascii_case(host));
    let name: HostName = host.parse().ok()?;
    let is_local = name.as_str() == "localhost" || name.as_str().ends_with(".localhost");
    let may_be = name.as_str().contains('.') && !is_address && !is_public && !is_local;
    may_be.then(|| Role::Website { name, authority: authority.to_owned() })
}

/// Host and port of an authority; a dot at the host's end does not belong to it.
fn split(authority: &str) -> (&str, Option<&str>) {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, rest)| rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    (host.trim_end_matches('.'), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options() -> HttpOptions {
        HttpOptions {
            subdomain_hosts: vec!["dweb.example".to_owned(), "localhost".to_owned(), "one.example:81".to_owned()],
            public_url: "https://gate.example/".parse().ok(),
            ..HttpOptions::default()
        }
    }

    fn with(rows: &[(&str, &str)], local: bool) -> Role {
        let name = |name: &str| http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        let headers = rows.iter().map(|(key, value)| (name(key), value.parse().unwrap())).collect();
        role(&options(), &Uri::from_static("/"), &headers, local)
    }

    fn of(host: &str) -> Role {
        with(&[("host", host)], false)
    }

    fn subdomain(label: &str, namespace: &'static str, parent: &str) -> Role {
        Role::Subdomain { label: label.to_owned(), namespace, parent: parent.to_owned() }
    }

    fn website(name: &str) -> Role {
        Role::Website { name: name.parse().unwrap(), authority: name.to_owned() }
    }

    #[test]
    fn each_host_has_its_role() {
        for host in ["127.0.0.1:8420", "[::1]:8420", "gate.example", "tv", "x.localhost", ""] {
            assert_eq!(of(host), Role::Gateway, "{host}");
        }
        for host in ["dweb.example", "DWEB.example:8080", "localhost:1", "one.example:81"] {
            assert_eq!(of(host), Role::Parent(host.to_owned()), "{host}");
        }
        assert_eq!(of("bafy.ipfs.dweb.example:8080"), subdomain("bafy", "ipfs", "dweb.example:8080"));
        assert_eq!(of("a.b.IPNS.localhost"), subdomain("a.b", "ipns", "localhost"));
        for host in ["blog.example", "ipfs.dweb.example", "x.dweb.example", "one.example", "notdweb.example"] {
            assert_eq!(of(host), website(host), "{host}");
        }
    }

    #[test]
    fn a_forwarded_host_counts_where_it_is_one_of_ours() {
        let host = ("host", "fake.example");
        let forwarded = |to, local| with(&[host, ("x-forwarded-host", to)], local);
        assert_eq!(forwarded("dweb.example", false), Role::Parent("dweb.example".to_owned()));
        assert_eq!(forwarded("dweb.example, proxy", false), Role::Parent("dweb.example".to_owned()));
        assert_eq!(forwarded("blog.example", true), website("fake.example"));
        assert_eq!(forwarded("bafy.ipfs.dweb.example", true), subdomain("bafy", "ipfs", "dweb.example"));
        assert_eq!(forwarded("bafy.ipfs.dweb.example", false), website("fake.example"));
    }

    #[test]
    fn the_guard_knows_the_same_hosts() {
        for host in ["dweb.example", "x.ipfs.dweb.example", "a.b.ipns.Dweb.example", "one.example"] {
            assert!(is_known(&options(), host), "{host}");
        }
        for host in ["x.dweb.example", "ipfs.dweb.example", "evil.example", "dweb.example.evil.example"] {
            assert!(!is_known(&options(), host), "{host}");
        }
    }

    proptest! {
        #[test]
        fn any_host_has_a_role(host in "[ -~]{0,40}") {
            let _ = with(&[("host", host.trim())], true);
        }
    }
}
