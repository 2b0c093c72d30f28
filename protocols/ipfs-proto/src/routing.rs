//! Delegated routing over HTTP, version 1: who provides a block, and the record of a name
//! (<https://specs.ipfs.tech/routing/http-routing-v1/>).
//!
//! Lists of providers come as one JSON object or as a line of JSON each, as the server likes; [`ProviderLines`] takes
//! the latter as it arrives. Records of other schemas, of peers without a readable id, and addresses of transports that
//! are not known are passed over: the list is a hint, and grows new things. A name's record comes as it is: see
//! [`crate::ipns`].

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use serde::Deserialize;
use serde_json::Value;
use swarmgate_content::Cid;

use crate::ipns::Name;

/// Media type of a list that comes at once.
pub const JSON: &str = "application/json";
/// Media type of a list that comes line by line. Ask for it first, and for [`JSON`] as well.
pub const NDJSON: &str = "application/x-ndjson";
/// Longest body that is read, in bytes. A server gives 100 providers in JSON; one takes about a kibibyte.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Longest line, in bytes.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// Providers taken from one answer.
pub const MAX_PROVIDERS: usize = 256;
/// Addresses taken from one provider.
pub const MAX_ADDRS: usize = 64;
/// Protocols looked at of one provider.
const MAX_PROTOCOLS: usize = 32;

/// How blocks can be had from a provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transfer {
    /// Bitswap over libp2p.
    Bitswap,
    /// A trustless gateway over HTTP.
    GatewayHttp,
}

/// Somebody who is said to have a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Who.
    pub id: PeerId,
    /// Where. May be empty: then the peer has to be found by its id.
    pub addrs: Vec<Multiaddr>,
    /// What it is said to speak. Empty when nothing is said: then Bitswap is worth a try.
    pub transfers: Vec<Transfer>,
}

/// Why an answer is no list of providers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutingError {
    /// Longer than [`MAX_BODY_BYTES`], or a line than [`MAX_LINE_BYTES`].
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
    /// Not the JSON that the specification describes.
    #[error("not a list of providers: {0}")]
    Json(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    // `null` stands for none in what Go servers write.
    #[serde(default)]
    providers: Option<Vec<Value>>,
}

/// The schemas `peer` and, from before it, `bitswap`, which names one protocol.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PeerRecord {
    schema: String,
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    addrs: Option<Vec<Value>>,
    #[serde(default)]
    protocols: Option<Vec<Value>>,
    #[serde(default)]
    protocol: Option<String>,
}

/// The path to ask for the providers of a block, below the server's URL.
#[must_use]
pub fn providers_path(cid: &Cid) -> String {
    format!("/routing/v1/providers/{cid}")
}

/// The path to ask for the record of a name. Ask with [`crate::ipns::RECORD_MEDIA_TYPE`].
#[must_use]
pub fn record_path(name: &Name) -> String {
    format!("/routing/v1/ipns/{name}")
}

/// Reads a list that came at once.
///
/// # Errors
/// When it is too long, or not JSON of the shape described. What is strange about one provider costs only that one.
pub fn parse_providers(body: &[u8]) -> Result<Vec<Provider>, RoutingError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(RoutingError::TooLong(MAX_BODY_BYTES));
    }
    let list: List = serde_json::from_slice(body).map_err(|error| RoutingError::Json(error.to_string()))?;
    Ok(list.providers.unwrap_or_default().into_iter().filter_map(read_provider).take(MAX_PROVIDERS).collect())
}

fn read_provider(record: Value) -> Option<Provider> {
    let record = PeerRecord::deserialize(record).ok()?;
    if !matches!(record.schema.as_str(), "peer" | "bitswap") {
        return None;
    }
    let addr = |addr: Value| addr.as_str()?.parse().ok();
    let addrs = record.addrs.unwrap_or_default().into_iter().take(MAX_ADDRS).filter_map(addr).collect();
    let named = record.protocols.unwrap_or_default().into_iter().take(MAX_PROTOCOLS);
    let named = named.filter_map(|name| name.as_str().map(str::to_owned)).chain(record.protocol);
    let mut transfers: Vec<_> = named.filter_map(|name| Transfer::read(&name)).collect();
    transfers.sort_unstable();
    transfers.dedup();
    Some(Provider { id: record.id.parse().ok()?, addrs, transfers })
}

impl Transfer {
    fn read(name: &str) -> Option<Self> {
        match name {
            "transport-bitswap" => Some(Self::Bitswap),
            "transport-ipfs-gateway-http" => Some(Self::GatewayHttp),
            _ => None,
        }
    }
}

/// Reads a list line by line, as it arrives.
#[derive(Debug, Default)]
pub struct ProviderLines {
    buffer: Vec<u8>,
    total: usize,
    found: usize,
}

impl ProviderLines {
    /// Takes the next bytes; gives the providers of the lines that are complete with them.
    ///
    /// # Errors
    /// When a line or the whole becomes too long. A line that cannot be read costs only itself.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Provider>, RoutingError> {
        self.total += bytes.len();
        if self.total > MAX_BODY_BYTES {
            return Err(RoutingError::TooLong(MAX_BODY_BYTES));
        }
        let mut found = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.buffer.extend_from_slice(part);
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(RoutingError::TooLong(MAX_LINE_BYTES));
            }
            if part.ends_with(b"\n") {
                found.extend(self.line());
            }
        }
        Ok(found)
    }

    /// The end has come: gives the provider of a last line without an end.
    pub fn finish(mut self) -> Option<Provider> {
        self.line()
    }

    fn line(&mut self) -> Option<Provider> {
        let line = std::mem::take(&mut self.buffer);
        let provider =
            serde_json::from_slice(&line).ok().and_then(read_provider).filter(|_| self.found < MAX_PROVIDERS);
        self.found += usize::from(provider.is_some());
        provider
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: &str = r#"{"Schema":"peer","ID":"12D3KooWRBhwfeP2Y4TCx1SM6s9rUoHhR5STiGwxBhgFRcw3UERE","Addrs":["/ip4/192.0.2.1/tcp/4001","/ip4/192.0.2.1/udp/4001/quic-v1","/unheard/of"],"Protocols":["transport-bitswap","transport-new"],"Other":{"x":1}}"#;
    const GATEWAY: &str = r#"{"Schema":"peer","ID":"QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n","Addrs":["/dns4/example.org/tcp/443/https"],"Protocols":["transport-ipfs-gateway-http"]}"#;
    const OLD: &str = r#"{"Protocol":"transport-bitswap","Schema":"bitswap","ID":"12D3KooWRBhwfeP2Y4TCx1SM6s9rUoHhR5STiGwxBhgFRcw3UERE","Addrs":null}"#;
    const STRANGE: &str = r#"{"Schema":"carrier-pigeon","ID":"x","Addrs":7}"#;

    #[test]
    fn a_list_gives_those_providers_that_can_be_understood() {
        let body = format!(r#"{{"Providers":[{PEER},{STRANGE},7,{OLD},{GATEWAY}]}}"#);
        let found = parse_providers(body.as_bytes()).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].addrs.len(), &found[0].transfers), (2, &vec![Transfer::Bitswap]));
        assert_eq!((found[1].addrs.len(), &found[1].transfers), (0, &vec![Transfer::Bitswap]));
        assert_eq!((found[2].addrs.len(), &found[2].transfers), (1, &vec![Transfer::GatewayHttp]));
    }

    #[test]
    fn nobody_is_an_empty_list_however_it_is_spelled() {
        for body in [r#"{"Providers":null}"#, r#"{"Providers":[]}"#, "{}"] {
            assert_eq!(parse_providers(body.as_bytes()), Ok(Vec::new()), "{body}");
        }
        assert!(parse_providers(b"<html>").is_err());
    }

    #[test]
    fn lines_give_the_same_however_they_are_cut() {
        let body = format!("{PEER}\n{STRANGE}\nnot json\n\n{OLD}\n{GATEWAY}");
        for size in [1, 7, 100, 10_000] {
            let mut lines = ProviderLines::default();
            let mut found: Vec<_> = body.as_bytes().chunks(size).flat_map(|part| lines.push(part).unwrap()).collect();
            found.extend(lines.finish());
            assert_eq!(found.len(), 3, "in parts of {size}");
        }
    }

    #[test]
    fn an_endless_line_and_an_endless_list_are_given_up() {
        let mut lines = ProviderLines::default();
        assert_eq!(lines.push(&vec![b' '; MAX_LINE_BYTES + 1]), Err(RoutingError::TooLong(MAX_LINE_BYTES)));
        let mut lines = ProviderLines::default();
        let line = format!("{PEER}\n");
        let many = std::iter::repeat_with(|| lines.push(line.as_bytes())).take(MAX_BODY_BYTES / line.len() + 1);
        let found: Vec<_> = many.collect();
        assert_eq!(found.last(), Some(&Err(RoutingError::TooLong(MAX_BODY_BYTES))));
        assert_eq!(found.iter().flatten().flatten().count(), MAX_PROVIDERS);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(input: Vec<u8>) {
            let _ = parse_providers(&input);
            let _ = ProviderLines::default().push(&input);
        }
    }
}
