//! What UPnP's Internet Gateway Device says and hears: the search (SSDP), the device's description and its actions (SOAP).
//! Texts and their parsing; everything a device sends is bounded before it comes here, and none of it is trusted to name
//! another host than its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use roxmltree::{Document, Node, ParsingOptions};
use url::Url;

use crate::leases::{Transport, Wanted};

/// Where devices listen for searches.
pub const SEARCH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 1900);
/// Longest answer to a search read, in bytes.
pub const MAX_FOUND_BYTES: usize = 2048;
/// Elements and texts of one document; a description has some hundred.
const MAX_NODES: u32 = 4000;
/// What the description of a forwarding says.
const DESCRIPTION: &str = "swarmgate";
/// The kinds of service that forward ports, best first. The number behind is the version.
const SERVICES: [&str; 2] =
    ["urn:schemas-upnp-org:service:WANIPConnection:", "urn:schemas-upnp-org:service:WANPPPConnection:"];
/// A device that forwards for ever or not at all.
pub const ONLY_PERMANENT: u16 = 725;
/// The port outside is another's.
pub const CONFLICT: u16 = 718;

/// What forwards ports: where its actions are asked for, and by what name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The name of its kind.
    pub kind: String,
    /// Where it is: host and port.
    pub host: SocketAddr,
    /// The path of its actions.
    pub path: String,
}

/// Why a device's word is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgdError {
    /// It is not XML, or more of it than there should be.
    #[error("its answer is not XML: {0}")]
    Xml(String),
    /// It has no service that forwards ports.
    #[error("it forwards no ports")]
    NoService,
    /// It names another host than itself.
    #[error("it names {0}, which is not where it is")]
    OtherHost(String),
    /// It refuses.
    #[error("it refuses: {text} ({code})")]
    Refused {
        /// UPnP's number for why.
        code: u16,
        /// The same in words, from the device.
        text: String,
    },
    /// It answers with nothing that is understood.
    #[error("it answers with status {0}")]
    Status(u16),
}

/// The search for devices that forward ports, as it is sent to `to`.
#[must_use]
pub fn search(to: SocketAddr, version: u8) -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {to}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
         ST: urn:schemas-upnp-org:device:InternetGatewayDevice:{version}\r\n\r\n"
    )
}

/// Where the description of a device is that answered a search: its own host, whatever it says, by port and path.
#[must_use]
pub fn found(answer: &[u8], from: IpAddr) -> Option<(SocketAddr, String)> {
    let text = std::str::from_utf8(answer.get(..answer.len().min(MAX_FOUND_BYTES))?).ok()?;
    let mut lines = text.lines();
    let status = lines.next()?;
    if !status.starts_with("HTTP/1.") || status.split(' ').nth(1) != Some("200") {
        return None;
    }
    let location = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim())
    })?;
    own(&Url::parse(location).ok()?, from)
}

/// Host, port and path of a URL that is of HTTP and of this host.
fn own(url: &Url, host: IpAddr) -> Option<(SocketAddr, String)> {
    let named: IpAddr = url.host_str()?.trim_matches(['[', ']']).parse().ok()?;
    let port = url.port_or_known_default().filter(|port| *port > 0)?;
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    (url.scheme() == "http" && named == host).then(|| (SocketAddr::new(host, port), format!("{}{query}", url.path())))
}

impl Service {
    /// Finds the service in the description that was read from `at`.
    ///
    /// # Errors
    /// [`IgdError`].
    pub fn parse(description: &str, at: SocketAddr, path: &str) -> Result<Self, IgdError> {
        let document = document(description)?;
        let base = child_text(&document.root_element(), "URLBase").unwrap_or_default();
        let base = Url::parse(base).or_else(|_| Url::parse(&format!("http://{at}{path}")));
        let base = base.map_err(|_| IgdError::OtherHost(path.to_owned()))?;
        let services = || document.descendants().filter(|node| node.tag_name().name() == "service");
        let of = |node: Node<'_, '_>| {
            let kind = child_text(&node, "serviceType")?;
            let rank = SERVICES.iter().position(|service| kind.starts_with(service))?;
            Some((rank, kind.to_owned(), child_text(&node, "controlURL")?.to_owned()))
        };
        let (_, kind, control) = services().filter_map(of).min_by_key(|(rank, ..)| *rank).ok_or(IgdError::NoService)?;
        let url = base.join(&control).map_err(|_| IgdError::OtherHost(control.clone()))?;
        // The kind goes into a header line.
        let plain = kind.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        let (host, path) = own(&url, at.ip()).filter(|_| plain).ok_or(IgdError::OtherHost(control))?;
        Ok(Self { kind, host, path })
    }

    /// The name of an action, as its header line has it.
    #[must_use]
    pub fn action(&self, name: &str) -> String {
        format!("\"{}#{name}\"", self.kind)
    }

    /// Asks for a forwarding; a lifetime of zero is for ever.
    #[must_use]
    pub fn add(&self, local: Ipv4Addr, wanted: Wanted, port: u16, lifetime: Duration) -> String {
        let arguments = format!(
            "<NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort><NewProtocol>{}</NewProtocol>\
             <NewInternalPort>{}</NewInternalPort><NewInternalClient>{local}</NewInternalClient><NewEnabled>1</NewEnabled>\
             <NewPortMappingDescription>{DESCRIPTION}</NewPortMappingDescription>\
             <NewLeaseDuration>{}</NewLeaseDuration>",
            word(wanted.transport),
            wanted.port,
            lifetime.as_secs()
        );
        self.envelope("AddPortMapping", &arguments)
    }

    /// Takes a forwarding back.
    #[must_use]
    pub fn delete(&self, transport: Transport, port: u16) -> String {
        let arguments = format!(
            "<NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort><NewProtocol>{}</NewProtocol>",
            word(transport)
        );
        self.envelope("DeletePortMapping", &arguments)
    }

    /// Asks for the address outside.
    #[must_use]
    pub fn address(&self) -> String {
        self.envelope("GetExternalIPAddress", "")
    }

    fn envelope(&self, action: &str, arguments: &str) -> String {
        let kind = escape(&self.kind);
        format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{kind}\">\
             {arguments}</u:{action}></s:Body></s:Envelope>\r\n"
        )
    }
}

/// What a device answered to an action.
///
/// # Errors
/// [`IgdError`].
pub fn outcome(status: u16, body: &str) -> Result<(), IgdError> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let Ok(document) = document(body) else { return Err(IgdError::Status(status)) };
    let text = |name: &str| document.descendants().find(|node| node.tag_name().name() == name).and_then(|it| it.text());
    let Some(code) = text("errorCode").and_then(|code| code.trim().parse().ok()) else {
        return Err(IgdError::Status(status));
    };
    let words: String = text("errorDescription").unwrap_or_default().chars().filter(|it| !it.is_control()).collect();
    Err(IgdError::Refused { code, text: words.chars().take(80).collect() })
}

/// The address outside, as a device answered.
#[must_use]
pub fn external_address(body: &str) -> Option<IpAddr> {
    let document = document(body).ok()?;
    let node = document.descendants().find(|node| node.tag_name().name() == "NewExternalIPAddress")?;
    node.text()?.trim().parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified())
}

/// Without document types, and so without entities that unfold to more than was sent.
fn document(text: &str) -> Result<Document<'_>, IgdError> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| IgdError::Xml(error.to_string()))
}

fn child_text<'a>(node: &Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.children().find(|child| child.tag_name().name() == name)?.text().map(str::trim)
}

const fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn at() -> SocketAddr {
        SocketAddr::new(ROUTER, 5000)
    }

    fn description(services: &[(&str, &str)], base: &str) -> String {
        let services: String = services
            .iter()
            .map(|(kind, url)| {
                format!("<service><serviceType>{kind}</serviceType><controlURL>{url}</controlURL></service>")
            })
            .collect();
        format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">{base}<device><deviceList><device>\
             <serviceList>{services}</serviceList></device></deviceList></device></root>"
        )
    }

    const IP: &str = "urn:schemas-upnp-org:service:WANIPConnection:2";
    const PPP: &str = "urn:schemas-upnp-org:service:WANPPPConnection:1";

    #[test]
    fn a_device_is_found_where_it_answers_from_and_nowhere_else() {
        let answer = |location: &str| format!("HTTP/1.1 200 OK\r\nST: x\r\nLocation: {location}\r\n\r\n");
        let here = found(answer("http://10.0.0.1:5000/desc.xml").as_bytes(), ROUTER);
        assert_eq!(here, Some((at(), "/desc.xml".to_owned())));
        for elsewhere in [
            "http://10.0.0.9:5000/d",
            "http://metadata/d",
            "file:///etc/passwd",
            "https://10.0.0.1/d",
            "http://10.0.0.1:0/",
        ] {
            assert_eq!(found(answer(elsewhere).as_bytes(), ROUTER), None, "{elsewhere}");
        }
        assert_eq!(found(b"NOTIFY * HTTP/1.1\r\nLocation: http://10.0.0.1/\r\n\r\n", ROUTER), None);
    }

    #[test]
    fn the_service_that_forwards_ports_is_found_in_the_description() {
        let text = description(&[("urn:x:y", "/no"), (PPP, "/ppp"), (IP, "ctl/IP?a=b")], "");
        let service = Service::parse(&text, at(), "/desc/root.xml").unwrap();
        assert_eq!(service, Service { kind: IP.to_owned(), host: at(), path: "/desc/ctl/IP?a=b".to_owned() });
        let based = description(&[(PPP, "/ppp")], "<URLBase>http://10.0.0.1:80/</URLBase>");
        assert_eq!(Service::parse(&based, at(), "/").unwrap().host, SocketAddr::new(ROUTER, 80));
    }

    #[test]
    fn a_device_cannot_send_us_to_another_host_nor_into_a_header() {
        let elsewhere = description(&[(IP, "http://10.0.0.9/ctl")], "");
        assert!(matches!(Service::parse(&elsewhere, at(), "/"), Err(IgdError::OtherHost(_))));
        let crafty = description(&[(&format!("{IP}\"&#13;&#10;X: y"), "/ctl")], "");
        assert!(matches!(Service::parse(&crafty, at(), "/"), Err(IgdError::OtherHost(_))));
        assert_eq!(Service::parse(&description(&[], ""), at(), "/"), Err(IgdError::NoService));
    }

    #[test]
    fn a_document_that_unfolds_is_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>";
        assert!(matches!(Service::parse(bomb, at(), "/"), Err(IgdError::Xml(_))));
        let wide = format!("<a>{}</a>", "<b/>".repeat(5000));
        assert!(matches!(Service::parse(&wide, at(), "/"), Err(IgdError::Xml(_))));
    }

    #[test]
    fn a_refusal_is_told_by_its_number() {
        let body = "<s:Envelope xmlns:s=\"e\"><s:Body><s:Fault><detail><UPnPError><errorCode>718</errorCode>\
                    <errorDescription>ConflictInMappingEntry</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>";
        let refused = outcome(500, body).unwrap_err();
        assert_eq!(refused.to_string(), "it refuses: ConflictInMappingEntry (718)");
        assert_eq!((outcome(200, ""), outcome(404, "")), (Ok(()), Err(IgdError::Status(404))));
        let address = "<a><NewExternalIPAddress>8.0.0.2</NewExternalIPAddress></a>";
        assert_eq!(external_address(address), Some([8, 0, 0, 2].into()));
        assert_eq!(external_address("<a><NewExternalIPAddress>0.0.0.0</NewExternalIPAddress></a>"), None);
    }

    #[test]
    fn what_is_asked_for_is_well_formed_and_complete() {
        let service = Service { kind: IP.to_owned(), host: at(), path: "/ctl".to_owned() };
        let wanted = Wanted { transport: Transport::Udp, port: 8421 };
        let asked = service.add([10, 0, 0, 2].into(), wanted, 9000, Duration::from_secs(3600));
        let parsed = document(&asked).unwrap();
        let value = |name: &str| parsed.descendants().find(|it| it.tag_name().name() == name).and_then(|it| it.text());
        let values =
            ["NewExternalPort", "NewProtocol", "NewInternalPort", "NewInternalClient", "NewLeaseDuration"].map(value);
        assert_eq!(values, [Some("9000"), Some("UDP"), Some("8421"), Some("10.0.0.2"), Some("3600")]);
        assert!(document(&service.delete(Transport::Tcp, 1)).is_ok() && document(&service.address()).is_ok());
        assert_eq!(service.action("AddPortMapping"), format!("\"{IP}#AddPortMapping\""));
    }

    proptest! {
        #[test]
        fn whatever_a_device_says_nothing_panics(text in ".{0,300}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (found(&bytes, ROUTER), found(text.as_bytes(), ROUTER), external_address(&text));
            let _ = (Service::parse(&text, at(), "/"), outcome(500, &text));
        }
    }
}
