//! Reverse proxies that say who asks: who the client of a request is, when the connection is another's. A pure function
//! of the connection's address and the headers.
//!
//! A header is believed from proxies alone that the operator has named. Each proxy adds the address that it sees at the
//! end, so the client is the last address that is none of theirs: whatever stands before it, the client may have written
//! itself. What cannot be read leaves a client without an address, which has no privilege that an address could have.
//!
//! # Why must `Forwarded` and `X-Forwarded-For` agree?
//! A proxy that writes one of them hands on the other as the client sent it. Whichever were preferred, behind half of all
//! proxies it would be the client's word.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{FORWARDED, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use ipnet::IpNet;

use crate::server::Peer;
use crate::state::HttpOptions;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What a client speaks: after [`introduce`], `https` or `http` and nobody's word but ours or a trusted proxy's.
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Proxies between a client and us, at most.
const MAX_HOPS: usize = 32;

/// The address of a client that nobody can name.
const NOBODY_KNOWS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whether a connection comes from a proxy that may say who asks.
fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// Makes a request one of its client: gives its peer the client's address, and its headers the host and scheme that the
/// client used. Of what a stranger says of others, nothing is left.
pub(crate) fn introduce<B>(options: &HttpOptions, connection: &Peer, request: &mut Request<B>) -> Peer {
    name_host(request);
    let trusted = &options.trusted_proxies;
    let mut peer = connection.clone();
    if !trusted.is_empty() {
        let headers = request.headers();
        if is_trusted(trusted, connection.address.ip()) {
            if let Some(client) = client(trusted, headers) {
                peer.address = SocketAddr::new(client, 0);
            }
            let (host, proto) = (last(headers, &X_FORWARDED_HOST), last(headers, &X_FORWARDED_PROTO));
            take_word(request, host, proto);
        } else {
            for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO] {
                request.headers_mut().remove(name);
            }
        }
    }
    if connection.tls {
        request.headers_mut().insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    }
    peer
}

/// HTTP/2 names the host in the target alone; what follows looks for the header (RFC 9113 §8.3.1).
fn name_host<B>(request: &mut Request<B>) {
    if request.headers().contains_key(HOST) {
        return;
    }
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    request.headers_mut().extend(authority.map(|authority| (HOST, authority)));
}

/// Puts a trusted proxy's word in the place of what it stands for.
fn take_word<B>(request: &mut Request<B>, host: Option<String>, proto: Option<String>) {
    if let Some(host) = host.and_then(|host| HeaderValue::from_str(&host).ok()) {
        request.headers_mut().insert(HOST, host);
        // The target of a request to the proxy's own name would outrank the header (RFC 9112 §3.2.2).
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
    request.headers_mut().remove(X_FORWARDED_HOST);
    let https = proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
    let proto = HeaderValue::from_static(if https { "https" } else { "http" });
    request.headers_mut().insert(X_FORWARDED_PROTO, proto);
}

/// The client that the headers of a trusted proxy name; `None` when they name nobody at all, so that it is the proxy.
fn client(trusted: &[IpNet], headers: &HeaderMap) -> Option<IpAddr> {
    let by_list = headers.contains_key(X_FORWARDED_FOR).then(|| outermost(trusted, &list(headers)));
    let by_standard = headers.contains_key(FORWARDED).then(|| outermost(trusted, &standard(headers)));
    match (by_list, by_standard) {
        (None, None) => None,
        (Some(one), Some(other)) if one != other => Some(NOBODY_KNOWS),
        (Some(client), _) | (None, Some(client)) => Some(client),
    }
}

/// The last address that is none of a trusted proxy; the first, when all of them are.
fn outermost(trusted: &[IpNet], hops: &[Option<IpAddr>]) -> IpAddr {
    if hops.len() > MAX_HOPS {
        return NOBODY_KNOWS;
    }
    let stranger = hops.iter().rev().find(|hop| !hop.is_some_and(|hop| is_trusted(trusted, hop)));
    stranger.or_else(|| hops.first()).copied().flatten().map_or(NOBODY_KNOWS, |client| client.to_canonical())
}

/// The hops of `X-Forwarded-For`, the client's first; `None` for what is no address.
fn list(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all(X_FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or("?"));
    lines.flat_map(|line| line.split(',')).take(MAX_HOPS + 1).map(|hop| address(hop.trim())).collect()
}

/// The hops of `Forwarded` (RFC 7239 §4), the client's first; `None` for one that is hidden or names nobody.
fn standard(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all(FORWARDED).iter().map(|line| line.to_str().unwrap_or("?"));
    lines.flat_map(|line| split(line, ',')).take(MAX_HOPS + 1).map(|hop| node(hop).and_then(address)).collect()
}

/// What stands behind `for=` in one hop.
fn node(hop: &str) -> Option<&str> {
    let mut values = split(hop, ';').into_iter().filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = values.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    // An address has nothing in it that would be escaped.
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// Splits at a character that does not stand in quotes.
fn split(text: &str, at: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c: char| {
        quoted ^= c == '"';
        c == at && !quoted
    })
    .collect()
}

/// An address with or without a port, and with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

/// The last value of a header that proxies may have added to.
fn last(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    let value = line.rsplit(',').next()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(rows: &[(&str, &str)]) -> HeaderMap {
        let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
        rows.iter().map(|(key, value)| (name(key), value.parse().unwrap())).collect()
    }

    fn options() -> HttpOptions {
        let trusted_proxies = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
        HttpOptions { trusted_proxies, ..HttpOptions::default() }
    }

    fn from(connection: &str, rows: &[(&str, &str)]) -> (String, HeaderMap) {
        let mut request = Request::new(());
        *request.headers_mut() = headers(rows);
        let peer = Peer::new(SocketAddr::new(connection.parse().unwrap(), 9));
        let peer = introduce(&options(), &peer, &mut request);
        (peer.address.ip().to_string(), request.into_parts().0.headers)
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxys() {
        for (told, client) in [
            ("203.0.113.9", "203.0.113.9"),
            ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
            ("198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
            ("203.0.113.9:4711, 10.0.0.2:80", "203.0.113.9"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:443, [fd00::1]", "2001:db8::1"),
            ("10.0.0.7, 10.0.0.2", "10.0.0.7"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
        ] {
            assert_eq!(from("127.0.0.1", &[("x-forwarded-for", told)]).0, client, "{told}");
        }
        let lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "10.0.0.2")];
        let mut request = Request::new(());
        for (_, value) in lines {
            request.headers_mut().append(X_FORWARDED_FOR, value.parse().unwrap());
        }
        assert_eq!(client(&options().trusted_proxies, request.headers()), "203.0.113.9".parse().ok());
    }

    #[test]
    fn the_standard_header_says_it_as_well() {
        for (told, client) in [
            ("for=203.0.113.9", "203.0.113.9"),
            ("For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1, for=10.0.0.2", "2001:db8::1"),
            ("for=127.0.0.1, proto=http; for=203.0.113.9", "203.0.113.9"),
            ("for=\"127.0.0.1, for=9.9.9.9\", for=203.0.113.9", "203.0.113.9"),
        ] {
            assert_eq!(from("127.0.0.1", &[("forwarded", told)]).0, client, "{told}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_nobody_and_never_this_machine() {
        let long = "10.0.0.1,".repeat(40) + "10.0.0.1";
        for told in
            ["unknown", "203.0.113.9, _hidden", "", "127.0.0.1, x", "203.0.113.9,", "127.0.0.1 127.0.0.1", &long]
        {
            assert_eq!(from("127.0.0.1", &[("x-forwarded-for", told)]).0, "0.0.0.0", "{told}");
        }
        for told in ["proto=https", "for=unknown", "for=\"127.0.0.1", ""] {
            assert_eq!(from("127.0.0.1", &[("forwarded", told)]).0, "0.0.0.0", "{told}");
        }
        let both = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=127.0.0.1")];
        assert_eq!(from("127.0.0.1", &both).0, "0.0.0.0", "one of them is the client's own word");
        let agreed = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")];
        assert_eq!(from("127.0.0.1", &agreed).0, "203.0.113.9");
    }

    #[test]
    fn a_stranger_is_believed_nothing() {
        let told = [
            ("x-forwarded-for", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "https"),
            ("host", "localhost"),
        ];
        let (client, headers) = from("203.0.113.9", &told);
        assert_eq!(client, "203.0.113.9");
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["host"]);
        assert_eq!(headers[HOST], "localhost");
    }

    #[test]
    fn a_proxys_word_stands_for_the_host_and_the_scheme() {
        let told =
            [("host", "127.0.0.1:8420"), ("x-forwarded-host", "x, media.example"), ("x-forwarded-proto", "HTTPS")];
        let (client, headers) = from("10.0.0.1", &told);
        assert_eq!((client.as_str(), &headers[HOST]), ("10.0.0.1", &HeaderValue::from_static("media.example")));
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(from("10.0.0.1", &[]).1[X_FORWARDED_PROTO], "http");
    }

    proptest! {
        #[test]
        fn no_header_panics_and_no_stranger_becomes_this_machine(list in "[ -~]{0,80}", forwarded in "[ -~]{0,80}") {
            // The proxy adds what it sees; whatever stood there before, the client is that or nobody.
            let list = format!("{list},203.0.113.9");
            let rows = [("x-forwarded-for", list.as_str())];
            prop_assert_eq!(from("127.0.0.1", &rows).0, "203.0.113.9");
            let rows = [("x-forwarded-for", list.as_str()), ("forwarded", forwarded.as_str())];
            let client = from("127.0.0.1", &rows).0;
            prop_assert!(client == "203.0.113.9" || client == "0.0.0.0");
        }
    }
}
