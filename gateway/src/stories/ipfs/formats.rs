//! The formats that are asked for by name: blocks, CARs, tars, zips, data.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};

use bytes::Bytes;
use swarmgate_content::Cid;
use swarmgate_ipfs_proto::block;
use swarmgate_ipfs_proto::build::{Built, symlink};
use swarmgate_ipfs_proto::car::{CarEvent, CarReader};
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_ipfs_proto::dag_pb::{Link, encode};
use swarmgate_ipfs_proto::unixfs::{Kind, UnixFs};

use super::world::{Dag, PROFILE, noise, world};
use crate::testing::Answer;

const CAR: &str = "application/vnd.ipld.car";

/// The CIDs of a CAR, in order; each block is what its CID says.
fn blocks_of(answer: &Answer) -> Vec<Cid> {
    assert!(answer.clean, "the stream ended as it should");
    let mut reader = CarReader::new();
    reader.push(&answer.body);
    let mut cids = Vec::new();
    while let Some(event) = reader.poll().unwrap() {
        match event {
            CarEvent::Header { version, .. } => assert_eq!(version, 1),
            CarEvent::Block { cid, bytes } => {
                block::check(&cid, bytes).unwrap();
                cids.push(cid);
            }
        }
    }
    reader.finish().unwrap();
    cids
}

#[tokio::test]
async fn a_block_comes_as_it_is() {
    let world = world().await;
    let file = Dag::file(b"hello application/vnd.ipld.raw\n");
    let root = Dag::directory(&[("dir", &Dag::directory(&[("ascii.txt", &file)]))]);
    world.keep(&root).await;
    let (cid, path) = (file.cid(), format!("/ipfs/{}/dir/ascii.txt", root.cid()));
    for answer in [
        world.get(&format!("{path}?format=raw")).await,
        world.accept(&path, "application/vnd.ipld.raw").await,
        world.accept(&format!("{path}?format=raw"), CAR).await,
    ] {
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello application/vnd.ipld.raw\n"));
        assert_eq!(answer.header("content-type"), Some("application/vnd.ipld.raw"));
        assert_eq!(answer.header("etag"), Some(format!("\"{cid}.raw\"").as_str()));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(
            answer.header("content-disposition").unwrap().starts_with(&format!("attachment; filename=\"{cid}.bin\""))
        );
    }
    let negotiated = world.accept(&path, "application/vnd.ipld.raw").await;
    assert_eq!(negotiated.header("content-location"), Some(format!("{path}?format=raw").as_str()));
    assert_eq!(negotiated.header("vary"), Some("accept"));
    let part = world.send("GET", &format!("{path}?format=raw"), &[("Range", "bytes=6-16")]).await;
    assert_eq!((part.status, part.text().as_str()), (206, "application"));
    let directory = world.get(&format!("/ipfs/{}/dir?format=raw", root.cid())).await;
    assert_eq!(directory.status, 200, "a block needs no slash");
    block::check(&Dag::directory(&[("ascii.txt", &file)]).cid(), Bytes::from(directory.body)).unwrap();
}

#[tokio::test]
async fn a_car_has_the_blocks_that_its_scope_says() {
    let world = world().await;
    let (one, many) = (Dag::file(b"hello\n"), Dag::file(&noise(5000)));
    let subdir = Dag::directory(&[("ascii.txt", &one), ("multiblock.txt", &many)]);
    let root = Dag::directory(&[("subdir", &subdir)]);
    world.keep(&root).await;
    let leaves: Vec<_> = many.blocks[..5].iter().map(|block| block.cid).collect();
    let (root_cid, sub, one, many) = (root.cid(), subdir.cid(), one.cid(), many.cid());
    let file = [vec![root_cid, sub, many], leaves.clone()].concat();
    for (below, query, expected) in [
        ("/subdir/ascii.txt", "", vec![root_cid, sub, one]),
        ("/subdir/multiblock.txt", "", file.clone()),
        ("/subdir", "&dag-scope=block", vec![root_cid, sub]),
        ("/subdir", "&dag-scope=entity", vec![root_cid, sub]),
        ("/subdir/multiblock.txt", "&dag-scope=entity", file.clone()),
        ("/subdir/multiblock.txt", "&entity-bytes=1024:2047", vec![root_cid, sub, many, leaves[1]]),
        ("/subdir/multiblock.txt", "&entity-bytes=-5:*", vec![root_cid, sub, many, leaves[4]]),
        ("/subdir", "&dag-scope=all", [vec![root_cid, sub, one, many], leaves.clone()].concat()),
    ] {
        let path = format!("/ipfs/{root_cid}{below}");
        for answer in [
            world.get(&format!("{path}?format=car{query}")).await,
            world.accept(&format!("{path}?x{query}"), CAR).await,
        ] {
            assert_eq!(answer.status, 200, "{below}{query}");
            assert_eq!(blocks_of(&answer), expected, "{below}{query}");
            assert_eq!(answer.header("content-type"), Some("application/vnd.ipld.car; version=1; order=dfs; dups=n"));
            assert_eq!(answer.header("accept-ranges"), Some("none"));
            let disposition = answer.header("content-disposition").unwrap();
            assert!(disposition.starts_with("attachment; filename=\"") && disposition.contains(".car\""));
        }
    }
    assert_eq!(world.get(&format!("/ipfs/{root_cid}/subdir/none?format=car")).await.status, 404);
}

#[tokio::test]
async fn each_way_to_ask_for_a_car_has_its_own_tag() {
    let world = world().await;
    let root = Dag::directory(&[("a", &Dag::file(&noise(3000)))]);
    world.keep(&root).await;
    let tag = async |query: &str| {
        let answer = world.get(&format!("/ipfs/{}/a?format=car{query}", root.cid())).await;
        answer.header("etag").unwrap().to_owned()
    };
    let tags = [tag("").await, tag("&dag-scope=block").await, tag("&entity-bytes=0:1").await, tag("&car-dups=y").await];
    for (index, one) in tags.iter().enumerate() {
        assert!(one.starts_with("W/\"") && !tags[..index].contains(one), "{tags:?}");
    }
    let has = [("If-None-Match", tags[0].as_str())];
    assert_eq!(world.send("GET", &format!("/ipfs/{}/a?format=car", root.cid()), &has).await.status, 304);
}

#[tokio::test]
async fn duplicates_come_when_they_are_wanted() {
    let world = world().await;
    let file = Dag::file(b"hello\n");
    let root = Dag::directory(&[("a", &file), ("b", &file)]);
    world.keep(&root).await;
    let path = format!("/ipfs/{}", root.cid());
    let with = world.accept(&path, "application/vnd.ipld.car; version=1; order=dfs; dups=y").await;
    assert_eq!(blocks_of(&with), [root.cid(), file.cid(), file.cid()]);
    assert!(with.header("content-type").unwrap().ends_with("dups=y"));
    assert_eq!(
        with.header("content-location"),
        Some(format!("{path}?format=car&car-version=1&car-order=dfs&car-dups=y").as_str())
    );
    let without = world.accept(&format!("{path}?format=car&car-dups=n"), "application/vnd.ipld.car; dups=y").await;
    assert_eq!(blocks_of(&without), [root.cid(), file.cid()]);
    let identity = world.accept("/ipfs/bafkqabtimvwgy3yk", "application/vnd.ipld.car; dups=y").await;
    assert_eq!((identity.status, blocks_of(&identity).len()), (200, 0), "nobody needs what a CID says itself");
    for (query, status) in
        [("car-version=2", 406), ("car-order=bfs", 406), ("dag-scope=x", 400), ("entity-bytes=1", 400)]
    {
        assert_eq!(world.get(&format!("{path}?format=car&{query}")).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn data_comes_as_what_it_is_and_as_nothing_else() {
    let world = world().await;
    let dag_json = Dag::data(Codec::DagJson, &br#"{"hello":"this is not a link"}"#[..]);
    let dag_cbor = Dag::data(Codec::DagCbor, &b"\xa1\x65hello\x65world"[..]);
    let json = Dag::data(Codec::Json, &br#"{"plain":true}"#[..]);
    let cbor = Dag::data(Codec::Cbor, &b"\xa1\x65plain\xf5"[..]);
    let file = Dag::file(b"hello\n");
    for dag in [&dag_json, &dag_cbor, &json, &cbor, &file] {
        world.keep(dag).await;
    }
    for (dag, format, content_type, disposition) in [
        (&dag_json, "", "application/vnd.ipld.dag-json", "inline; filename=\"CID.json\""),
        (&dag_json, "dag-json", "application/vnd.ipld.dag-json", "inline; filename=\"CID.json\""),
        (&dag_json, "json", "application/json", "inline; filename=\"CID.json\""),
        (&dag_cbor, "", "application/vnd.ipld.dag-cbor", "attachment; filename=\"CID.cbor\""),
        (&dag_cbor, "cbor", "application/cbor", "attachment; filename=\"CID.cbor\""),
        (&json, "", "application/json", "inline; filename=\"CID.json\""),
        (&cbor, "cbor", "application/cbor", "attachment; filename=\"CID.cbor\""),
    ] {
        let query = if format.is_empty() { String::new() } else { format!("?format={format}") };
        let answer = world.get(&format!("/ipfs/{}{query}", dag.cid())).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)), "{format}");
        assert!(answer.body == dag.blocks[0].bytes, "{format}");
        let expected = disposition.replace("CID", &dag.cid().to_string());
        assert!(answer.header("content-disposition").unwrap().starts_with(&expected), "{format}");
    }
    for (dag, format) in [
        (&dag_json, "dag-cbor"),
        (&dag_cbor, "dag-json"),
        (&dag_cbor, "json"),
        (&json, "dag-json"),
        (&file, "dag-json"),
        (&file, "dag-cbor"),
        (&file, "json"),
        (&dag_json, "tar"),
        (&file, "nonsense"),
    ] {
        let answer = world.get(&format!("/ipfs/{}?format={format}", dag.cid())).await;
        assert_eq!(answer.status, 406, "{} as {format}", dag.cid());
    }
    let lenient = world.accept(&format!("/ipfs/{}", file.cid()), "application/json, text/plain, */*").await;
    assert_eq!((lenient.status, lenient.text().as_str()), (200, "hello\n"), "who takes anything gets it as it is");
    assert_eq!(lenient.header("content-location"), None);
}

#[tokio::test]
async fn people_get_a_page_about_data() {
    let world = world().await;
    let data = Dag::data(Codec::DagCbor, &b"\xa1\x63<b>\x65world"[..]);
    world.keep(&data).await;
    let answer = world.accept(&format!("/ipfs/{}/", data.cid()), "text/html,*/*;q=0.8").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(
        answer.header("etag").unwrap().starts_with("\"DagIndex-") && answer.header("content-disposition").is_none()
    );
    assert!(answer.text().contains("&lt;b&gt;") && answer.text().contains("</html>"));
}

#[tokio::test]
async fn paths_lead_through_data_to_blocks_and_not_into_them() {
    let world = world().await;
    let end = Dag::data(Codec::DagJson, &br#"{"hello":"this is not a link"}"#[..]);
    let link = format!(r#"{{"foo":{{"link":{{"bar":{{"/":"{}"}}}},"x":1}}}}"#, end.cid());
    let start = Dag::data(Codec::DagJson, link);
    world.keep(&end).await;
    world.keep(&start).await;
    let get = async |below: &str| world.get(&format!("/ipfs/{}{below}", start.cid())).await;
    assert_eq!(get("/foo/link/bar?format=dag-json").await.text(), r#"{"hello":"this is not a link"}"#);
    assert_eq!(get("/foo?format=dag-json").await.status, 501);
    assert_eq!(get("/foo/none").await.status, 404);
    assert_eq!(blocks_of(&get("/foo/link/bar?format=car").await), [start.cid(), end.cid()]);
}

#[tokio::test]
async fn a_tar_has_every_file_where_it_belongs() {
    let world = world().await;
    let (small, large) = (Dag::file(b"I am a txt file on path with utf8\n"), Dag::file(&noise(5000)));
    let inner = Dag::directory(&[("file-źł.txt", &small), ("large.bin", &large)]);
    let root = Dag::directory(&[("ą", &inner)]);
    world.keep(&root).await;
    let answer = world.get(&format!("/ipfs/{}?format=tar", root.cid())).await;
    assert_eq!((answer.status, answer.clean), (200, true));
    assert_eq!(answer.header("etag"), Some(format!("W/\"{}.x-tar\"", root.cid()).as_str()));
    let entries = untar(&answer.body);
    let cid = root.cid();
    let names: Vec<_> = entries.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(
        names,
        [format!("{cid}/"), format!("{cid}/ą/"), format!("{cid}/ą/file-źł.txt"), format!("{cid}/ą/large.bin")]
    );
    assert!(entries[2].1 == b"I am a txt file on path with utf8\n" && entries[3].1 == noise(5000));
    let named = world.get(&format!("/ipfs/{cid}?format=tar&filename=test%D1%82%D0%B5%D1%81%D1%82.tar")).await;
    let expected = "attachment; filename=\"test____.tar\"; filename*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.tar";
    assert_eq!(named.header("content-disposition"), Some(expected));
    let one = world.get(&format!("/ipfs/{}?format=tar", small.cid())).await;
    assert_eq!(untar(&one.body)[0].0, small.cid().to_string());
}

#[tokio::test]
async fn a_zip_has_every_file_where_it_belongs() {
    let world = world().await;
    let (small, large, empty) = (Dag::file("zażółć\n".as_bytes()), Dag::file(&noise(5000)), Dag::file(b""));
    let (built, block) = symlink(&PROFILE, b"large.bin");
    let link = Dag { blocks: vec![block], built };
    let inner = Dag::directory(&[("file-źł.txt", &small), ("large.bin", &large), ("link", &link)]);
    let names: Vec<_> = (0..40).map(|number| format!("{number:02}.txt")).collect();
    let shards = Dag::sharded(&names.iter().map(|name| (name.as_str(), &small)).collect::<Vec<_>>());
    let none = Dag::directory(&[]);
    let root = Dag::directory(&[("empty", &empty), ("many", &shards), ("none", &none), ("ą", &inner)]);
    world.keep(&root).await;
    let (cid, path) = (root.cid(), format!("/ipfs/{}?format=zip", root.cid()));

    let answer = world.get(&path).await;
    assert_eq!((answer.status, answer.clean), (200, true));
    assert_eq!(answer.header("content-type"), Some("application/zip"));
    let tag = format!("W/\"{cid}.zip\"");
    assert_eq!(answer.header("etag"), Some(tag.as_str()));
    assert!(answer.header("x-ipfs-path").unwrap().starts_with(&format!("/ipfs/{cid}")));
    let disposition = answer.header("content-disposition").unwrap();
    assert!(disposition.starts_with(&format!("attachment; filename=\"{cid}.zip\"")), "{disposition}");
    let (directory, file) = (0o040_000, 0o100_000);
    let mut expected: BTreeMap<_, _> =
        ["", "many/", "none/", "ą/"].iter().map(|name| (format!("{cid}/{name}"), (directory, Vec::new()))).collect();
    expected.extend(names.iter().map(|name| (format!("{cid}/many/{name}"), (file, "zażółć\n".as_bytes().to_vec()))));
    expected.insert(format!("{cid}/empty"), (file, Vec::new()));
    expected.insert(format!("{cid}/ą/file-źł.txt"), (file, "zażółć\n".as_bytes().to_vec()));
    expected.insert(format!("{cid}/ą/large.bin"), (file, noise(5000)));
    expected.insert(format!("{cid}/ą/link"), (0o120_000, b"large.bin".to_vec()));
    let found = unzip(&answer.body);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(found == expected);

    let head = world.send("HEAD", &path, &[]).await;
    assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, Some(tag.as_str())));
    assert_eq!(world.send("GET", &path, &[("If-None-Match", tag.as_str())]).await.status, 304);
    let one = world.get(&format!("/ipfs/{}?format=zip", large.cid())).await;
    assert!(unzip(&one.body)[&large.cid().to_string()].1 == noise(5000));
    let page = world.accept(&format!("/ipfs/{cid}/"), "text/html").await.text();
    assert!(page.contains("href=\"?format=zip\""), "people find it: {page}");
}

#[tokio::test]
async fn names_that_would_leave_an_archive_stop_it() {
    let world = world().await;
    let file = Dag::file(b"Hello, world!\n");
    world.keep(&file).await;
    let odd = |name: &str, entry: &Dag| {
        let link = Link { cid: entry.cid(), name: Some(name.as_bytes()), tsize: None };
        let bytes = encode([link], Some(&UnixFs::new(Kind::Directory).encode()));
        let dag = Dag::data(Codec::DagPb, bytes);
        Dag { built: Built { cid: dag.cid(), file_bytes: 0, dag_bytes: 0 }, ..dag }
    };
    let outside = odd("../foo", &file);
    let directory = odd("../file", &file);
    let inside = odd("foobar", &odd("directory", &directory));
    for dag in [&outside, &directory, &odd("directory", &directory), &inside] {
        world.keep(dag).await;
    }
    for format in ["tar", "zip"] {
        assert_eq!(world.get(&format!("/ipfs/{}?format={format}", outside.cid())).await.status, 502, "{format}");
    }
    let answer = world.get(&format!("/ipfs/{}?format=tar", inside.cid())).await;
    let expected = format!("{}/foobar/file", inside.cid());
    assert_eq!(untar(&answer.body).last().unwrap().0, expected);
    let answer = world.get(&format!("/ipfs/{}?format=zip", inside.cid())).await;
    let names: Vec<_> = unzip(&answer.body).into_keys().collect();
    assert!(names.contains(&expected) && names.iter().all(|name| !name.contains("..")), "{names:?}");
}

/// Names of a zip's entries, each with what kind it is and its bytes, as another reader finds them.
fn unzip(body: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(Cursor::new(body)).unwrap();
    let mut found = BTreeMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        // Reading to the end compares the sum.
        entry.read_to_end(&mut bytes).unwrap();
        found.insert(entry.name().to_owned(), (entry.unix_mode().unwrap() & 0o170_000, bytes));
    }
    found
}

/// Names and bytes of a tar's entries.
fn untar(mut rest: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut long = None;
    while rest.len() >= 512 && rest[0] != 0 {
        let (head, after) = rest.split_at(512);
        let text =
            |field: &[u8]| String::from_utf8(field.iter().copied().take_while(|byte| *byte != 0).collect()).unwrap();
        let size = usize::from_str_radix(&text(&head[124..135]), 8).unwrap();
        let bytes = after[..size].to_vec();
        rest = &after[size.next_multiple_of(512)..];
        if head[156] == b'x' {
            let record = String::from_utf8(bytes).unwrap();
            long = record.lines().find_map(|line| line.split_once("path=")).map(|(_, path)| path.to_owned());
        } else {
            entries.push((long.take().unwrap_or_else(|| text(&head[..100])), bytes));
        }
    }
    assert!(rest.len() == 1024 && rest.iter().all(|byte| *byte == 0), "two empty blocks end it");
    entries
}
