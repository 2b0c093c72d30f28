//! IPFS as the configuration wants it: what each option means for the parts that are started.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use swarmgate_config::{Config, IpfsMode, SeedingPolicy, ServerUrl};
use swarmgate_content::{Cid, SHA1_CODE};
use swarmgate_ipfs::delivery::{Delivery, DeliveryError, DeliveryOptions};
use swarmgate_ipfs::names::NamesOptions;
use swarmgate_ipfs::patience::Patience;
use swarmgate_ipfs::{IpfsParts, IpfsProtocol};
use swarmgate_ipfs_proto::content_path::ContentPath;
use swarmgate_ipfs_proto::dnslink::HostName;
use swarmgate_store::Store;
use url::Url;

use crate::policy::Denylists;

/// The bootstrap nodes that the IPFS network's maintainers run for everybody.
const PUBLIC_BOOTSTRAP: [&str; 4] = [
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvhUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
];
/// Their delegated routing server.
const PUBLIC_ROUTER: &str = "https://delegated-ipfs.dev";
/// How long one name of a chain may take: a DHT needs some seconds for a record.
const NAME_TIMEOUT: Duration = Duration::from_secs(10);

/// An option that cannot be read in full.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ipfs.dnslinks: `{text}`: {why}")]
pub struct BadLink {
    /// The link as it was written.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// What the options amount to: whom to listen for and whom to ask.
#[must_use]
pub fn delivery_options(config: &Config) -> DeliveryOptions {
    let public = config.ipfs.public;
    let (node, gateways) = match config.ipfs.mode {
        IpfsMode::Both => (true, true),
        IpfsMode::P2p => (true, false),
        IpfsMode::TrustlessHttp => (false, true),
    };
    let introducers = PUBLIC_BOOTSTRAP.iter().filter(|_| public).map(|peer| (*peer).to_owned());
    let url = |server: &ServerUrl| Url::clone(server);
    let router = public.then(|| PUBLIC_ROUTER.parse().ok()).flatten();
    DeliveryOptions {
        listen: node.then(|| listen(config.ipfs.listen_ip, config.ipfs.listen_port)),
        peers: config.ipfs.bootstrap.clone(),
        introducers: introducers.collect(),
        gateways: config.ipfs.gateways.iter().filter(|_| gateways).map(url).collect(),
        found_gateways: gateways,
        routers: config.ipfs.routers.iter().map(url).chain(router).collect(),
        kubo_api: config.ipfs.kubo_api.as_ref().map(url),
        egress: crate::app::egress(config),
    }
}

/// Starts what delivers blocks. Peers are given what the operator uploads at all and has not denied, and never a piece
/// of a torrent: it may be a private one.
///
/// # Errors
/// [`DeliveryError`].
pub async fn start_delivery(config: &Config, store: &Store, denylists: &Denylists) -> Result<Delivery, DeliveryError> {
    let (uploads, denylists) = (config.seeding.policy != SeedingPolicy::Off, denylists.clone());
    let here = store.clone();
    let may_serve = move |cid: &Cid| {
        let is_served = || denylists.admitted().may_give(cid, &here) && denylists.may_serve(cid);
        uploads && cid.hash().code() != SHA1_CODE && is_served()
    };
    Delivery::start(&delivery_options(config), store, Arc::new(may_serve)).await
}

/// Starts the protocol over what delivers.
///
/// # Errors
/// [`BadLink`].
pub fn start(config: &Config, store: Store, delivery: &Delivery) -> Result<Arc<IpfsProtocol>, BadLink> {
    let (names, patience) = (names_options(config)?, patience(config));
    let (sources, routers) = (delivery.sources(), delivery.routers());
    Ok(IpfsProtocol::start(IpfsParts { store, sources, routers, names, patience }))
}

/// Every address takes two: libp2p's sockets for IPv6 take no IPv4 along.
fn listen(ip: IpAddr, port: u16) -> Vec<String> {
    let all = ip.is_unspecified() && ip.is_ipv6();
    let ips = if all { every_ip() } else { vec![ip] };
    let of = |ip: IpAddr| {
        let family = if ip.is_ipv6() { "ip6" } else { "ip4" };
        [format!("/{family}/{ip}/tcp/{port}"), format!("/{family}/{ip}/udp/{port}/quic-v1")]
    };
    ips.into_iter().flat_map(of).collect()
}

/// The unspecified address of each family that this machine has.
fn every_ip() -> Vec<IpAddr> {
    let v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let has_v6 = if_addrs::get_if_addrs().is_ok_and(|all| all.iter().any(|interface| interface.ip().is_ipv6()));
    if has_v6 { vec![v4, IpAddr::V6(Ipv6Addr::UNSPECIFIED)] } else { vec![v4] }
}

pub(crate) fn patience(config: &Config) -> Patience {
    Patience {
        first_byte: config.deadlines.first_byte.duration(),
        stall: config.deadlines.stall.duration(),
        total: config.ipfs.total_wait.duration(),
    }
}

pub(crate) fn names_options(config: &Config) -> Result<NamesOptions, BadLink> {
    Ok(NamesOptions {
        max_ttl: config.ipfs.ipns_max_ttl.duration(),
        dnslinks: config.ipfs.dnslinks.iter().map(|text| read_link(text)).collect::<Result<BTreeMap<_, _>, _>>()?,
        dns: config.ipfs.dns || config.ipfs.public,
        timeout: NAME_TIMEOUT,
    })
}

/// Reads `host:/ipfs/…`.
fn read_link(text: &str) -> Result<(HostName, ContentPath), BadLink> {
    let bad = |why: String| BadLink { text: text.to_owned(), why };
    let (host, link) = text.split_once(':').ok_or_else(|| bad("has no `:`".to_owned()))?;
    let host = host.parse().map_err(|error: swarmgate_ipfs_proto::dnslink::HostError| bad(error.to_string()))?;
    let link = ContentPath::from_plain(link).map_err(|error| bad(error.to_string()))?;
    Ok((host, link))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use swarmgate_content::{HashKind, VerifiedBytes};
    use swarmgate_ipfs::source::{SessionId, SourceError, Want};
    use swarmgate_ipfs_proto::block;
    use swarmgate_ipfs_proto::codec::Codec;
    use swarmgate_ipfs_proto::denylist::Denylist;
    use swarmgate_store::StoreOptions;

    use super::*;

    const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

    #[test]
    fn nobody_is_asked_unless_named_or_public() {
        let mut config = Config::default();
        let plan = delivery_options(&config);
        assert!(plan.peers.is_empty() && plan.introducers.is_empty());
        assert!(plan.routers.is_empty() && plan.gateways.is_empty());
        assert!(!names_options(&config).unwrap().dns);
        config.ipfs.public = true;
        let plan = delivery_options(&config);
        assert_eq!((plan.introducers.len(), plan.routers.len()), (4, 1));
        assert!(names_options(&config).unwrap().dns);
    }

    #[test]
    fn a_mode_leaves_out_what_it_does_not_name() {
        let mut config = Config::default();
        config.ipfs.gateways = vec!["https://g.example".parse().unwrap()];
        for (mode, node, gateways) in
            [(IpfsMode::Both, true, true), (IpfsMode::P2p, true, false), (IpfsMode::TrustlessHttp, false, true)]
        {
            config.ipfs.mode = mode;
            let plan = delivery_options(&config);
            let has = (plan.listen.is_some(), !plan.gateways.is_empty(), plan.found_gateways);
            assert_eq!(has, (node, gateways, gateways), "{mode:?}");
        }
    }

    async fn keep(store: &Store, bytes: &'static [u8]) -> Cid {
        let cid = block::name(Codec::Raw, bytes);
        let block = store.verifier().verify(block::hash_of(&cid).unwrap(), bytes.into()).await.unwrap();
        store.put(block).await.unwrap();
        cid
    }

    async fn fetch(delivery: &Delivery, cid: Cid, patience: Duration) -> Result<VerifiedBytes, SourceError> {
        let deadline = Instant::now() + patience;
        let want = Want { cid, session: SessionId(1), expected_len: None, priority: 0, deadline, within: None };
        delivery.sources()[0].fetch(want).await
    }

    #[tokio::test]
    async fn peers_are_not_given_what_is_denied() {
        let [here, there] = [8 << 20; 2].map(|bytes| Store::open(StoreOptions::in_memory(bytes)));
        let (here, there) = (here.await.unwrap(), there.await.unwrap());
        let (fine, denied, hashed) =
            (keep(&here, b"fine").await, keep(&here, b"denied").await, keep(&here, b"hashed").await);
        let double = HashKind::Sha2_256.hash(format!("{hashed}/").as_bytes());
        let double: String = double.digest().iter().map(|byte| format!("{byte:02x}")).collect();
        let (rules, bad, _) = Denylist::parse(format!("/ipfs/{denied}\n//{double}\n").as_bytes());
        assert!(bad.is_empty(), "{bad:?}");
        let denylists = Denylists::new(vec![("test".to_owned(), rules)], false);

        let mut config = Config::default();
        config.network.allow_private = true;
        (config.ipfs.listen_ip, config.ipfs.listen_port) = (Ipv4Addr::LOCALHOST.into(), 0);
        let ours = start_delivery(&config, &here, &denylists).await.unwrap();
        let node = ours.node().unwrap();
        config.ipfs.bootstrap = vec![format!("{}/p2p/{}", node.listeners()[0], node.peer_id())];
        let theirs = start_delivery(&config, &there, &Denylists::default()).await.unwrap();

        let (patient, brief) = (Duration::from_secs(20), Duration::from_secs(1));
        assert_eq!(fetch(&theirs, fine, patient).await.unwrap().as_ref(), b"fine");
        let other_codec = |cid: Cid| Cid::new_v1(Codec::DagCbor.code(), *cid.hash());
        for cid in [denied, other_codec(denied), hashed, other_codec(hashed)] {
            assert!(fetch(&theirs, cid, brief).await.is_err(), "{cid}");
        }
        assert_eq!(fetch(&theirs, other_codec(fine), patient).await.unwrap().as_ref(), b"fine");
        let goodbye = Instant::now() + Duration::from_secs(5);
        theirs.shutdown(goodbye).await;
        ours.shutdown(goodbye).await;
    }

    #[test]
    fn links_are_read_in_full() {
        let mut config = Config::default();
        config.ipfs.dnslinks = vec![format!("Docs.example.org:/ipfs/{CID}/a")];
        let links = names_options(&config).unwrap().dnslinks;
        assert_eq!(links[&"docs.example.org".parse().unwrap()].segments(), ["a"]);
        config.ipfs.dnslinks = vec!["docs.example.org:/ipfs/nocid".to_owned()];
        assert!(names_options(&config).unwrap_err().to_string().contains("not a CID"));
    }
}
