use super::*;
use crate::testing::{Blocks, any_cid, verified};
use proptest::prelude::*;

fn in_json(codec: Codec, block: &[u8]) -> String {
    let cid = crate::block::name(codec, block);
    String::from_utf8(convert(&cid, &verified(block), Codec::DagJson).unwrap().to_vec()).unwrap()
}

#[test]
fn dag_cbor_is_written_as_dag_json_and_back() {
    let block = [0xa2, 0x61, b'a', 0x18, 0x2a, 0x62, b'b', b'b', 0x43, 1, 2, 3];
    let json = in_json(Codec::DagCbor, &block);
    assert_eq!(json, r#"{"a":42,"bb":{"/":{"bytes":"AQID"}}}"#);
    let cid = crate::block::name(Codec::DagJson, json.as_bytes());
    assert_eq!(convert(&cid, &verified(json.as_bytes()), Codec::DagCbor).unwrap().as_ref(), block);
}

#[test]
fn a_node_of_unixfs_is_written_as_its_data_and_links() {
    let mut blocks = Blocks::default();
    let leaf = blocks.put(Codec::Raw, &b"x"[..]);
    let block =
        crate::dag_pb::encode([crate::dag_pb::Link { cid: leaf, name: Some(b"name"), tsize: Some(1) }], Some(&[8, 1]));
    let json = in_json(Codec::DagPb, &block);
    assert_eq!(
        json,
        format!(
            r#"{{"Data":{{"/":{{"bytes":"CAE"}}}},"Links":[{{"Hash":{{"/":"{leaf}"}},"Name":"name","Tsize":1}}]}}"#
        )
    );
    let value = Codec::DagJson.decode(json.as_bytes()).unwrap();
    assert_eq!(Codec::DagPb.encode(&value).unwrap(), block);
    let cid = blocks.put(Codec::DagJson, json.clone());
    assert_eq!(links(&cid, &verified(json.as_bytes())).unwrap(), [leaf]);
}

#[test]
fn what_is_in_the_codec_already_stays_byte_for_byte() {
    let spaced = br#"{ "a" : 1 }"#;
    for (from, to) in [(Codec::DagJson, Codec::Json), (Codec::Json, Codec::Json)] {
        let cid = crate::block::name(from, spaced);
        assert_eq!(convert(&cid, &verified(spaced), to).unwrap().as_ref(), spaced);
    }
    assert_eq!(in_json(Codec::Json, spaced), r#"{"a":1}"#);
    let raw = crate::block::name(Codec::Raw, spaced);
    assert!(matches!(convert(&raw, &verified(spaced), Codec::Json).unwrap_err().flaw, Flaw::Kind { .. }));
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    let depth = usize::from(crate::block::MAX_DEPTH);
    let nested = |levels: usize| (vec![0x81; levels], format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    let (mut cbor, json) = nested(depth);
    cbor.push(0x80);
    assert!(Codec::DagCbor.decode(&cbor[1..]).is_ok());
    assert!(Codec::DagJson.decode(json.as_bytes()).is_ok());
    let (mut cbor, json) = nested(depth + 1);
    cbor.push(0x80);
    assert_eq!(Codec::DagCbor.decode(&cbor).unwrap_err(), Flaw::TooDeep);
    assert_eq!(Codec::DagJson.decode(json.as_bytes()).unwrap_err(), Flaw::TooDeep);
    let many = [&[0x9a, 0, 4, 0, 0][..], &vec![0; MAX_VALUES]].concat();
    assert_eq!(Codec::DagCbor.decode(&many).unwrap_err(), Flaw::TooManyLinks);
    let many = format!("[{}1]", "1,".repeat(MAX_VALUES));
    assert_eq!(Codec::DagJson.decode(many.as_bytes()).unwrap_err(), Flaw::TooManyLinks);
}

#[test]
fn a_length_that_lies_takes_no_memory() {
    for block in
        [&[0x9b, 0xff, 0, 0, 0, 0, 0, 0, 0][..], &[0x5b, 0x7f, 0, 0, 0, 0, 0, 0, 0], &[0x9f, 0xff], &[0x01, 0x01]]
    {
        assert!(matches!(Codec::DagCbor.decode(block).unwrap_err(), Flaw::Malformed { .. }), "{block:x?}");
    }
}

#[test]
fn a_path_goes_through_maps_and_lists() {
    let value = Codec::DagJson.decode(br#"{"a":[{"b":true}],"0":null}"#).unwrap();
    let walk = |path: &[&str]| path.iter().try_fold(&value, |value, part| step(value, part.as_bytes()));
    assert_eq!(walk(&["a", "0", "b"]), Some(&Ipld::Bool(true)));
    assert_eq!(walk(&["0"]), Some(&Ipld::Null));
    for path in [&["b"][..], &["a", "1"], &["a", "+0"], &["a", "0", "b", "c"]] {
        assert_eq!(walk(path), None, "{path:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for codec in [Codec::DagPb, Codec::DagCbor, Codec::DagJson] {
            if let Ok(value) = codec.decode(&bytes) {
                let _ = Codec::DagJson.encode(&value);
            }
        }
    }

    #[test]
    fn links_survive_every_codec(cids in proptest::collection::vec(any_cid(), 0..5)) {
        let list = cids.iter().map(|cid| Ipld::Link(cid.to_bytes().as_slice().try_into().unwrap())).collect::<Vec<_>>();
        for codec in [Codec::DagCbor, Codec::DagJson] {
            let block = codec.encode(&Ipld::List(list.clone())).unwrap();
            let name = crate::block::name(codec, &block);
            prop_assert_eq!(links(&name, &verified(&block)).unwrap(), cids.clone());
        }
    }
}

#[test]
fn a_map_that_would_be_read_back_as_a_link_is_not_written_as_json() {
    let cbor = Codec::DagJson.decode(br#"{"az":1,"/":"c"}"#).map(|value| Codec::DagCbor.encode(&value).unwrap());
    let value = Codec::DagCbor.decode(&cbor.unwrap()).unwrap();
    for codec in [Codec::DagJson, Codec::Json] {
        assert!(matches!(codec.encode(&value), Err(Flaw::Malformed { .. })), "{codec:?}");
    }
}
