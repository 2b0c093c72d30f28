//! A WebSocket tracker behind TLS, as public ones are: trusted by its certificate, or not spoken to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivateKeyDer;
use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::torrent::{Torrent, escape};
use swarmgate_tests::webtorrent::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::{film, folder, scratch};

/// The first byte of TLS: a record of its handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;

#[tokio::test]
async fn that_is_trusted_brings_peers_and_one_that_is_not_is_told_why_and_hears_nothing() {
    let dir = scratch();
    let (payload, torrent) = film(71, None);
    let Some(holder) = Gateway::start(&folder(dir.path(), "holder")).await else { return };
    let Some(source) = Client::Libtorrent.start(dir.path()).await else { return };
    source.seed(&payload, &torrent, &[]).await;
    let peer = source.tcp_address().expect("libtorrent listens");
    http::get(&holder.magnet_url(&torrent.info_hash, &[peer])).await;
    source.crash().await;

    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let rows = [
        (&others, "localhost", Some("UnknownIssuer")),
        (&ours, "tracker.example", Some("not valid for name")),
        (&ours, "localhost", None),
    ];
    for (authority, name, refusal) in rows {
        let front = Front::start(authority, name, holder.url("")).await;
        let dir = folder(dir.path(), &format!("reader-{name}-{}", refusal.unwrap_or_default()));
        let trusted = ours.write_to(&dir);
        let trust = [("SSL_CERT_FILE", trusted.to_str().expect("a plain path")), ("SSL_CERT_DIR", "")];
        let Some(reader) = Gateway::start_with(&dir, &trust).await else { return };
        let url = film_url(&reader, &torrent, &front);
        match refusal {
            None => {
                let answer = http::get(&url).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert!(answer.body == payload.joined(), "{} bytes", answer.body.len());
                assert_eq!(front.handshakes(), 1);
            }
            Some(refusal) => {
                let answer = http::get(&format!("{url}&wait=2")).await;
                let text = answer.text();
                assert_eq!(answer.status, 504, "{text}");
                assert!(text.contains(&front.label()) && text.contains(refusal), "{text}");
                assert_eq!(front.handshakes(), 0);
            }
        }
        assert!(front.reached() > 0 && front.without_tls() == 0, "{} without TLS", front.without_tls());
    }
}

fn film_url(reader: &Gateway, torrent: &Torrent, front: &Front) -> String {
    format!("{}&tr={}", reader.magnet_url(&torrent.info_hash, &[]), escape(&format!("{}/announce", front.label())))
}

/// Who vouches for servers.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are no bad names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, key()).expect("a key that was just made signs"))
    }

    /// Its certificate in a file, for who is to trust it.
    fn write_to(&self, dir: &Path) -> PathBuf {
        let path = dir.join("trusted.pem");
        std::fs::write(&path, self.0.pem()).expect("the story's folder can be written");
        path
    }

    /// TLS as a server of this name has it.
    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = key();
        let params = CertificateParams::new([name.to_owned()]).expect("a name of a host");
        let leaf = params.signed_by(&key, &self.0).expect("the authority's key signs");
        let secret = PrivateKeyDer::try_from(key.serialize_der()).expect("rcgen writes PKCS #8");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], secret));
        Arc::new(config.expect("a certificate and its key")).into()
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the machine has randomness")
}

/// What stands before a tracker and speaks TLS for it, as a reverse proxy does.
struct Front {
    address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    reached: AtomicUsize,
    without_tls: AtomicUsize,
    handshakes: AtomicUsize,
}

impl Front {
    async fn start(authority: &Authority, name: &str, tracker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let (address, seen) = (listener.local_addr().expect("it is bound"), Arc::new(Seen::default()));
        let (tls, counted) = (authority.acceptor(name), Arc::clone(&seen));
        let tracker = tracker.trim_start_matches("http://").to_owned();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, tls.clone(), tracker.clone(), Arc::clone(&counted)));
            }
        });
        Self { address, seen, accepting }
    }

    /// The tracker's URL without its path.
    fn label(&self) -> String {
        format!("wss://localhost:{}", self.address.port())
    }

    fn reached(&self) -> usize {
        self.seen.reached.load(Ordering::Relaxed)
    }

    fn without_tls(&self) -> usize {
        self.seen.without_tls.load(Ordering::Relaxed)
    }

    fn handshakes(&self) -> usize {
        self.seen.handshakes.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, tls: TlsAcceptor, tracker: String, seen: Arc<Seen>) {
    seen.reached.fetch_add(1, Ordering::Relaxed);
    let mut first = [0];
    if client.peek(&mut first).await.is_ok_and(|count| count == 1) && first != [TLS_HANDSHAKE] {
        seen.without_tls.fetch_add(1, Ordering::Relaxed);
    }
    let Ok(mut inside) = tls.accept(client).await else { return };
    seen.handshakes.fetch_add(1, Ordering::Relaxed);
    let mut tracker = TcpStream::connect(tracker).await.expect("the tracker is there");
    // Ends as one of them does.
    let _ = tokio::io::copy_bidirectional(&mut inside, &mut tracker).await;
}
