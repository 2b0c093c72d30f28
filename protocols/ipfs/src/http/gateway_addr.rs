//! Which URL a provider's address names, when it is one of a gateway.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use url::Url;

/// The base URL of a gateway at this address: `/dns4/example.org/tcp/443/https` is `https://example.org/`. `None` when
/// it is no address of an HTTP server, or one with a path of its own. Where it leads to is for the egress guard to judge.
#[must_use]
pub fn gateway_url(addr: &Multiaddr) -> Option<String> {
    let mut parts = addr.iter();
    let host = host(&parts.next()?)?;
    let rest: Vec<_> = parts.filter(|part| !matches!(part, Protocol::Sni(_) | Protocol::P2p(_))).collect();
    let (scheme, port) = match rest.as_slice() {
        [Protocol::Https] | [Protocol::Tls, Protocol::Http] => ("https", 443),
        [Protocol::Tcp(port), Protocol::Https] | [Protocol::Tcp(port), Protocol::Tls, Protocol::Http] => {
            ("https", *port)
        }
        [Protocol::Http] => ("http", 80),
        [Protocol::Tcp(port), Protocol::Http] => ("http", *port),
        _ => return None,
    };
    let url = Url::parse(&format!("{scheme}://{host}:{port}/")).ok()?;
    // A name that is none could have brought a user or a path along.
    let plain = url.path() == "/" && url.username().is_empty() && url.password().is_none();
    (plain && url.query().is_none() && url.fragment().is_none()).then(|| url.into())
}

/// Whether it is an address of an HTTP server, and so none that a libp2p peer is dialled at.
pub(super) fn is_http(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| matches!(part, Protocol::Http | Protocol::Https))
}

fn host(part: &Protocol<'_>) -> Option<String> {
    if let Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) = part {
        return Some(name.to_string());
    }
    if let Protocol::Ip6(ip) = part {
        return Some(format!("[{ip}]"));
    }
    if let Protocol::Ip4(ip) = part { Some(ip.to_string()) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_an_http_server_is_a_url() {
        for (addr, url) in [
            ("/dns4/example.org/tcp/443/https", Some("https://example.org/")),
            ("/dns/example.org/https", Some("https://example.org/")),
            ("/dns/example.org/tcp/8443/tls/http", Some("https://example.org:8443/")),
            ("/dns6/example.org/tcp/443/tls/sni/example.org/http", Some("https://example.org/")),
            ("/ip4/192.0.2.1/tcp/8080/http", Some("http://192.0.2.1:8080/")),
            ("/ip6/2001:db8::1/tcp/80/http", Some("http://[2001:db8::1]/")),
            ("/dns4/example.org/tcp/443/https/http-path/sub", None),
            ("/dns4/example.org/tcp/4001", None),
            ("/dns4/example.org/udp/4001/quic-v1", None),
            ("/dns4/me@127.0.0.1/tcp/80/http", None),
            ("/dns4/127.0.0.1#/tcp/80/http", None),
            ("/dns4/a b/tcp/80/http", None),
        ] {
            assert_eq!(gateway_url(&addr.parse().unwrap()).as_deref(), url, "{addr}");
        }
        assert_eq!(gateway_url(&Multiaddr::empty()), None);
    }
}
