//! Hosts that stand for content: an origin for each.

use swarmgate_ipfs_proto::content_path::Root;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::world::{Dag, IpfsWorld, Setting, subdomains};
use crate::state::HttpOptions;
use crate::testing::Answer;

async fn with(options: HttpOptions) -> IpfsWorld {
    IpfsWorld::start(Setting { options, ..Setting::default() }).await
}

fn host(dag: &Dag) -> String {
    format!("{}.ipfs.dweb.example", Root::Ipfs(dag.cid()).subdomain_label().unwrap())
}

#[tokio::test]
async fn paths_are_sent_to_an_origin_of_their_own() {
    let world = with(subdomains()).await;
    let cid = Dag::file(b"hello\n").cid();
    for (path, headers, location) in [
        (format!("/ipfs/{cid}/a%20b?x=1"), &[][..], format!("http://{cid}.ipfs.dweb.example/a%20b?x=1")),
        (format!("/ipfs/{cid}"), &[("X-Forwarded-Proto", "https")][..], format!("https://{cid}.ipfs.dweb.example/")),
        ("/ipns/en.wiki-x.example/w/".to_owned(), &[], "http://en-wiki--x-example.ipns.dweb.example/w/".to_owned()),
        (format!("/ipfs/?uri=ipfs://{cid}/x"), &[], format!("/ipfs/{cid}/x")),
    ] {
        let mut all = vec![("Host", "dweb.example")];
        all.extend_from_slice(headers);
        let answer = world.send("GET", &path, &all).await;
        assert_eq!((answer.status, answer.header("location")), (301, Some(location.as_str())), "{path}");
    }
    let forwarded = [("Host", "fake.example"), ("X-Forwarded-Host", "dweb.example")];
    let answer = world.send("GET", &format!("/ipfs/{cid}"), &forwarded).await;
    assert_eq!(answer.header("location"), Some(format!("http://{cid}.ipfs.dweb.example/").as_str()));
    let bad = world.at("dweb.example", "/ipfs/QmInvalidCID").await;
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("invalid path \"/ipfs/QmInvalidCID\""));
    let answer = world.at("dweb.example", "/healthz").await;
    assert_eq!(answer.status, 200, "the rest of the gateway is there too");
}

#[tokio::test]
async fn a_subdomain_is_its_content_and_nothing_else() {
    let world = with(subdomains()).await;
    let hello = Dag::file(b"hello\n");
    let page = Dag::file(b"<script>1</script>");
    let ipfs = Dag::directory(&[("file.txt", &hello)]);
    let root = Dag::directory(&[("ipfs", &ipfs), ("healthz", &page), ("page.html", &page)]);
    world.keep(&root).await;
    let host = host(&root);
    assert_eq!(world.at(&host, "/ipfs/file.txt").await.text(), "hello\n");
    assert_eq!(world.at(&host, "/healthz").await.text(), "<script>1</script>", "no route of ours stands there");
    let page = world.at(&host, "/page.html").await;
    assert_eq!((page.status, page.header("content-security-policy")), (200, None), "it may do what pages do");
    assert_eq!(page.header("x-ipfs-path"), Some(format!("/ipfs/{}/page.html", root.cid()).as_str()));
    let slash = world.at(&host, "/ipfs").await;
    assert_eq!((slash.status, slash.header("location")), (301, Some("/ipfs/")));
    let listing = world.at(&host, "/").await;
    assert!(listing.text().contains("<a href=\"/ipfs\">ipfs</a>"), "{}", listing.text());
    let nested = world.at(&host, &format!("/ipfs/{}/", hello.cid())).await;
    assert_eq!(nested.status, 404);
    assert_eq!(world.send("POST", "/", &[("Host", &host)]).await.status, 405);
    assert_eq!(world.send("OPTIONS", "/", &[("Host", &host)]).await.status, 204);
}

#[tokio::test]
async fn a_file_is_the_root_of_its_subdomain() {
    let world = with(subdomains()).await;
    let hello = Dag::file(b"hello\n");
    world.keep(&hello).await;
    assert_eq!(world.at(&host(&hello), "/").await.text(), "hello\n");
}

#[tokio::test]
async fn a_cid_too_long_for_a_label_says_so() {
    let world = with(subdomains()).await;
    let cid = swarmgate_content::HashKind::Sha2_512.hash(b"hello\n").to_cid(0x55);
    for (host, path) in
        [("dweb.example".to_owned(), format!("/ipfs/{cid}/")), (format!("{cid}.ipfs.dweb.example"), "/".to_owned())]
    {
        let answer = world.at(&host, &path).await;
        assert_eq!(answer.status, 400, "{host}");
        assert!(answer.text().contains("CID incompatible with DNS label length limit of 63"));
    }
}

#[tokio::test]
async fn without_subdomain_hosts_a_strange_name_reaches_nothing() {
    let world = with(HttpOptions::default()).await;
    for host in ["evil.example", "bafkqabtimvwgy3yk.ipfs.dweb.example"] {
        assert_eq!(world.at(host, "/ipfs/bafkqabtimvwgy3yk").await.status, 421, "{host}");
    }
    let world = with(HttpOptions { allowed_hosts: vec!["*".to_owned()], ..HttpOptions::default() }).await;
    assert_eq!(world.at("fake.example", "/ipfs/bafkqabtimvwgy3yk").await.text(), "hello\n");
}

#[tokio::test]
async fn only_a_proxy_on_this_machine_may_name_the_content_by_a_header() {
    let world = with(subdomains()).await;
    let hello = Dag::file(b"hello\n");
    world.keep(&hello).await;
    let forwarded = [("Host", "127.0.0.1"), ("X-Forwarded-Host", &host(&hello))];
    assert_eq!(world.send("GET", "/", &forwarded).await.text(), "hello\n", "the client here is on this machine");
}

#[tokio::test]
async fn clients_that_take_the_gateway_for_their_proxy_get_content() {
    let world = with(subdomains()).await;
    let hello = Dag::file(b"hello\n");
    world.keep(&hello).await;
    let host = host(&hello);
    let whole = world.send("GET", &format!("http://{host}"), &[("Host", &host)]).await;
    assert_eq!(whole.text(), "hello\n");
    let mut socket = TcpStream::connect(world.address).await.unwrap();
    socket.write_all(format!("CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    socket.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert_eq!(Answer::parse(&answer, false, true).text(), "hello\n");
}

#[tokio::test]
async fn a_tunnel_leads_nowhere_but_here_and_into_no_other() {
    let world = with(HttpOptions::default()).await;
    let mut socket = TcpStream::connect(world.address).await.unwrap();
    let connect = b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for expected in [&b"HTTP/1.1 200"[..], b"HTTP/1.1 40"] {
        socket.write_all(connect).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        assert!(head.starts_with(expected), "{}", String::from_utf8_lossy(&head));
    }
}
