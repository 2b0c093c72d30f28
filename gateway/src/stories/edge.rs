//! What HTTP is spoken over: HTTP/2 with and without TLS, Unix sockets, and what hostile clients make of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Version};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::server::{HttpSocket, ServeLimits, Tls, router, serve};
use crate::state::HttpOptions;
use crate::testing::{Answer, Behaviour, IH, World, eventually};

const KIB: u64 = 1024;
const FILES: &[(&str, u64)] = &[("film.mkv", 8 * 1024 * KIB)];

fn film() -> String {
    format!("/bt/{IH}/film.mkv")
}

async fn with(behaviour: Behaviour) -> World {
    World::start(FILES, behaviour, HttpOptions::default(), ServeLimits::default()).await
}

/// A connection that speaks HTTP/2 from its first byte.
async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn request(method: &str, path: &str) -> Request<()> {
    let uri = format!("http://localhost{path}");
    Request::builder().method(method).uri(uri).version(Version::HTTP_2).body(()).unwrap()
}

/// Asks, and reads the answer to its end: status, bytes, and how it ended.
async fn ask(client: &mut SendRequest<Bytes>, path: &str) -> (u16, Vec<u8>, Result<(), h2::Error>) {
    let (response, _) = client.send_request(request("GET", path), true).unwrap();
    let response = response.await.unwrap();
    let (status, mut body, mut bytes) = (response.status().as_u16(), response.into_body(), Vec::new());
    while let Some(chunk) = body.data().await {
        match chunk {
            Ok(chunk) => {
                body.flow_control().release_capacity(chunk.len()).unwrap();
                bytes.extend_from_slice(&chunk);
            }
            Err(error) => return (status, bytes, Err(error)),
        }
    }
    (status, bytes, Ok(()))
}

#[tokio::test]
async fn who_begins_with_http2_is_answered_in_it_and_many_at_once() {
    let world = with(Behaviour::default()).await;
    let client = http2(TcpStream::connect(world.address).await.unwrap()).await;
    let read = |mut client: SendRequest<Bytes>| async move { ask(&mut client, &film()).await };
    for (status, bytes, ended) in futures_util::future::join_all((0..4).map(|_| read(client.clone()))).await {
        assert!(status == 200 && ended.is_ok() && bytes == world.protocol.file(0));
    }
    let range = Request::builder().uri(format!("http://localhost{}", film())).header("range", "bytes=5-9").body(());
    let (response, _) = client.clone().send_request(range.unwrap(), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["content-length"]), (206, &"5".parse().unwrap()));
    assert_eq!(world.get(&film()).await.status, 200, "HTTP/1.1 goes on beside it");
}

#[tokio::test]
async fn a_body_that_fails_half_way_resets_its_stream_and_no_other() {
    for behaviour in [
        Behaviour { fault_after: Some(100 * KIB), ..Behaviour::default() },
        Behaviour { end_after: Some(100 * KIB), ..Behaviour::default() },
        Behaviour { surplus: true, ..Behaviour::default() },
    ] {
        let world = with(behaviour.clone()).await;
        let mut client = http2(TcpStream::connect(world.address).await.unwrap()).await;
        let (status, bytes, ended) = ask(&mut client, &film()).await;
        assert!(status == 200 && bytes.len() < world.protocol.file(0).len());
        let error = ended.expect_err("a short body does not look whole");
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{behaviour:?}");
        assert_eq!(ask(&mut client, "/healthz").await.0, 200, "the connection goes on");
    }
}

#[tokio::test]
async fn an_operator_ends_one_stream_of_a_connection() {
    let world = with(Behaviour { hang_after: Some(100 * KIB), ..Behaviour::default() }).await;
    let mut client = http2(TcpStream::connect(world.address).await.unwrap()).await;
    let reading = tokio::spawn({
        let mut client = client.clone();
        async move { ask(&mut client, &film()).await }
    });
    let streams = async || world.get("/api/v1/streams").await.json()["streams"].as_array().cloned().unwrap_or_default();
    while streams().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let id = streams().await[0]["id"].to_string();
    let ended = world.send("DELETE", &format!("/api/v1/streams/{}", id.trim_matches('"')), &[], b"").await;
    assert!(ended.status < 300, "{}", ended.text());
    let (_, _, ended) = tokio::time::timeout(Duration::from_secs(2), reading).await.unwrap().unwrap();
    assert!(ended.is_err());
    assert_eq!(ask(&mut client, "/healthz").await.0, 200);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_read_little_for() {
    const STREAMS: usize = 4;
    let world = with(Behaviour::default()).await;
    let mut client = http2(TcpStream::connect(world.address).await.unwrap()).await;
    let mut held = Vec::new();
    for _ in 0..STREAMS {
        let (response, _) = client.send_request(request("GET", &film()), true).unwrap();
        held.push(response.await.unwrap().into_body());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let read = world.protocol.seen.chunks.load(Ordering::SeqCst) * 16 * 1024;
    // The connection's window (64 KiB, as the protocol has it), and for each stream its buffer and a chunk or two.
    let bound = 64 * 1024 + STREAMS * (64 * 1024 + 2 * 16 * 1024);
    assert!(read <= bound, "{read} bytes were read for a client that takes none");
    drop(held);
    drop(client);
    eventually("its readers are gone with it", Duration::from_secs(2), || world.readers() == 0).await;
}

#[tokio::test]
async fn a_connection_has_so_many_streams_and_headers_so_many_bytes() {
    let world = with(Behaviour::default()).await;
    let mut client = http2(TcpStream::connect(world.address).await.unwrap()).await;
    assert_eq!(ask(&mut client, "/healthz").await.0, 200);
    assert_eq!(client.current_max_send_streams(), 64);
    let long = Request::builder().uri("http://localhost/healthz").header("x-long", "x".repeat(40 * 1024)).body(());
    let (response, _) = client.send_request(long.unwrap(), true).unwrap();
    let refused = response.await.map(|response| response.status().as_u16());
    assert!(refused.is_err() || refused.as_ref().is_ok_and(|status| *status == 431), "{refused:?}");
    assert_eq!(world.get("/healthz").await.status, 200);
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// What a connection begins with, and `GET /` at `localhost` in HPACK.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HEADERS: &[u8] = b"\x82\x86\x84\x41\x09localhost";

/// Sends bytes as long as somebody takes them, and waits for the end of the connection.
async fn is_let_go(world: &World, sent: &[Vec<u8>]) -> bool {
    let (mut reader, mut writer) = TcpStream::connect(world.address).await.unwrap().into_split();
    let sending = async {
        if writer.write_all(BEGIN).await.is_ok() {
            for bytes in sent {
                if writer.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let ended = async { tokio::time::timeout(Duration::from_secs(5), reader.read_to_end(&mut answer)).await.is_ok() };
    tokio::select! {
        ended = ended => ended,
        () = sending => true,
    }
}

#[tokio::test]
async fn floods_of_resets_and_of_header_frames_end_the_connection() {
    let world = with(Behaviour::default()).await;
    let resets = (0..2000).map(|n| {
        let stream = 2 * n + 1;
        [frame(1, 0x05, stream, HEADERS), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    let rapid_reset = vec![resets.flatten().collect::<Vec<_>>()];
    assert!(is_let_go(&world, &rapid_reset).await, "resets");
    let mut continued = vec![frame(1, 0x01, 1, HEADERS)];
    continued.extend((0..1000).map(|_| frame(9, 0, 1, &[0; 16 * 1024])));
    assert!(is_let_go(&world, &continued).await, "header frames without an end");
    assert_eq!(world.get("/healthz").await.status, 200);
    eventually("nothing is left of them", Duration::from_secs(2), || world.readers() == 0).await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_ends() {
    let limits = ServeLimits { header_read_timeout: Duration::from_millis(100), ..ServeLimits::default() };
    let world = World::start(FILES, Behaviour::default(), HttpOptions::default(), limits).await;
    for sent in [Vec::new(), frame(1, 0x01, 1, HEADERS), frame(1, 0x05, 1, HEADERS)] {
        assert!(is_let_go(&world, std::slice::from_ref(&sent)).await, "{sent:?}");
    }
    let mut half = TcpStream::connect(world.address).await.unwrap();
    half.write_all(&BEGIN[..10]).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(2), half.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "half of how it begins");
}

#[tokio::test]
async fn a_tunnel_is_of_http1_alone() {
    let world = with(Behaviour::default()).await;
    let mut client = http2(TcpStream::connect(world.address).await.unwrap()).await;
    let connect = Request::builder().method("CONNECT").uri("localhost:80").body(()).unwrap();
    let (response, _) = client.send_request(connect, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 405);
}

#[tokio::test]
async fn http2_ends_in_order_when_the_gateway_stops() {
    let world = with(Behaviour { chunk: 4096, ..Behaviour::default() }).await;
    let mut client = http2(TcpStream::connect(world.address).await.unwrap()).await;
    let (response, _) = client.send_request(request("GET", &film()), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    world.shutdown.cancel();
    let mut len = 0;
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("what runs is delivered");
        body.flow_control().release_capacity(chunk.len()).unwrap();
        len += chunk.len();
    }
    assert_eq!(len, world.protocol.file(0).len());
    drop(client);
    tokio::time::timeout(Duration::from_secs(5), world.server).await.unwrap().unwrap();
}

/// A certificate in a directory, and what trusts it.
fn certificate(dir: &std::path::Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

async fn greeted(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The same gateway behind TLS.
async fn behind_tls(world: &World, tls: &Tls, limits: ServeLimits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = HttpSocket::from(listener).with_tls(Some(tls.clone()));
    tokio::spawn(serve(socket, router(world.state.clone()), world.shutdown.clone(), limits));
    address
}

async fn over_http1(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> Answer {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let orderly = stream.read_to_end(&mut bytes).await.is_ok();
    Answer::parse(&bytes, false, orderly)
}

#[tokio::test]
async fn over_tls_both_kinds_of_http_are_spoken_as_the_client_wants() {
    let dir = tempfile::tempdir().unwrap();
    let trusted = certificate(dir.path());
    let tls = Tls::load(&dir.path().join("cert.pem"), &dir.path().join("key.pem")).unwrap();
    let options = HttpOptions { tls: true, ..HttpOptions::default() };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    let address = behind_tls(&world, &tls, ServeLimits::default()).await;
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let mut stream = greeted(address, &trusted, alpn).await.unwrap();
        let answer = over_http1(&mut stream, &film()).await;
        assert!(answer.status == 200 && answer.clean && answer.body == world.protocol.file(0));
    }
    let stream = greeted(address, &trusted, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = http2(stream).await;
    let (status, bytes, ended) = ask(&mut client, &film()).await;
    assert!(status == 200 && ended.is_ok() && bytes == world.protocol.file(0));

    // What it says of itself begins with https, whatever a client says.
    let mut stream = greeted(address, &trusted, &[]).await.unwrap();
    let body = format!("{{\"path\": \"/bt/{IH}/film.mkv\"}}");
    let head = format!(
        "POST /api/v1/links HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: http\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let made = Answer::parse(&bytes, false, true).json();
    assert!(made["url"].as_str().unwrap().starts_with("https://localhost/bt/"), "{made}");
}

#[tokio::test]
async fn a_body_that_fails_over_tls_never_looks_whole() {
    let dir = tempfile::tempdir().unwrap();
    let trusted = certificate(dir.path());
    let tls = Tls::load(&dir.path().join("cert.pem"), &dir.path().join("key.pem")).unwrap();
    let world = with(Behaviour { fault_after: Some(100 * KIB), ..Behaviour::default() }).await;
    let address = behind_tls(&world, &tls, ServeLimits::default()).await;
    let mut stream = greeted(address, &trusted, &[]).await.unwrap();
    stream.write_all(format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", film()).as_bytes()).await.unwrap();
    let ended = stream.read_to_end(&mut Vec::new()).await;
    assert!(ended.is_err(), "no word of TLS that this was the end: {ended:?}");
}

#[tokio::test]
async fn a_new_certificate_is_used_once_it_is_read_and_a_broken_one_never() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let old = certificate(dir.path());
    let tls = Tls::load(&cert, &key).unwrap();
    let world = with(Behaviour::default()).await;
    let address = behind_tls(&world, &tls, ServeLimits::default()).await;
    let mut before = greeted(address, &old, &[]).await.unwrap();
    let new = certificate(dir.path());
    assert!(greeted(address, &new, &[]).await.is_err(), "nobody has asked for it to be read");
    tls.reload().unwrap();
    assert!(greeted(address, &new, &[]).await.is_ok() && greeted(address, &old, &[]).await.is_err());
    assert_eq!(over_http1(&mut before, "/healthz").await.status, 200, "who was there stays");
    for broken in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&cert, broken).unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("server.tls_cert"), "{error}");
        assert!(greeted(address, &new, &[]).await.is_ok());
    }
    let other = tempfile::tempdir().unwrap();
    certificate(other.path());
    certificate(dir.path());
    assert!(Tls::load(&cert, &other.path().join("key.pem")).is_err(), "another's key");
}

#[tokio::test]
async fn who_speaks_no_tls_or_never_ends_greeting_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let trusted = certificate(dir.path());
    let tls = Tls::load(&dir.path().join("cert.pem"), &dir.path().join("key.pem")).unwrap();
    let world = with(Behaviour::default()).await;
    let limits = ServeLimits { header_read_timeout: Duration::from_millis(200), ..ServeLimits::default() };
    let address = behind_tls(&world, &tls, limits).await;
    for sent in [&b""[..], b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "after {sent:?}");
    }
    assert!(greeted(address, &trusted, &[]).await.is_ok());
}

#[cfg(unix)]
#[tokio::test]
async fn over_a_unix_socket_a_client_is_on_this_machine() {
    use crate::auth::TokenHash;
    use crate::server::UnixSocket;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gate.sock");
    let options = HttpOptions { token: Some(TokenHash::of("secret")), ..HttpOptions::default() };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    let socket = HttpSocket::Unix(UnixSocket::bind(&path).unwrap());
    let server =
        tokio::spawn(serve(socket, router(world.state.clone()), world.shutdown.clone(), ServeLimits::default()));
    let connect = async || tokio::net::UnixStream::connect(&path).await.unwrap();
    let answer = over_http1(&mut connect().await, &film()).await;
    assert!(answer.status == 200 && answer.clean && answer.body == world.protocol.file(0));
    assert_eq!(over_http1(&mut connect().await, "/api/v1/status").await.status, 401);
    let mut client = http2(connect().await).await;
    assert_eq!(ask(&mut client, &film()).await.0, 200);
    drop(client);
    world.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
    assert!(!path.exists());
}
