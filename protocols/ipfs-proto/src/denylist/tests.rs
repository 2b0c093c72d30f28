use super::*;
use proptest::prelude::*;

const A: &str = "bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq";
const B: &str = "QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK";
const KEY: &str = "k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf";
const HASH: &str = "08ada5a7a6183aae1e09d831df6748d566095a10";

fn list(text: &str) -> Denylist {
    let (list, errors, bad) = Denylist::parse(text.as_bytes());
    assert_eq!((errors, bad), (Vec::new(), 0), "{text}");
    list
}

fn line_for(list: &Denylist, path: &str) -> Option<u32> {
    list.check(&path.parse().unwrap()).map(|blocked| blocked.line)
}

#[test]
fn a_list_with_a_header_blocks_what_its_lines_say() {
    let list = list(&format!(
        "version: 1\nname: A list of mine\nhints:\n  gateway_status: 410\n---\n# by multihash\n/ipfs/{A} reason=x\n\n\
         /ipfs/{B}/blocked*\n!/ipfs/{B}/blockednot\n!/ipfs/{B}/blocked/exceptions/*\n\
         /ipns/Domain.example\n/ipns/domain2.example/path\n/ipns/{KEY}\n"
    ));
    assert_eq!((list.name(), list.len()), (Some("A list of mine"), 7));
    let blocked = list.check_cid(&A.parse().unwrap()).unwrap();
    assert_eq!(blocked, Blocked { line: 7, hints: Some("reason=x".to_owned()) });
    let same_bytes = Cid::new_v1(0x55, *Cid::try_from(A).unwrap().hash());
    assert!(list.check_cid(&same_bytes).is_some(), "whatever its codec");
    for (path, line) in [
        (format!("/ipfs/{A}/x"), None),
        (format!("/ipfs/{B}"), None),
        (format!("/ipfs/{B}/blocked"), Some(9)),
        (format!("/ipfs/{B}/blocked2/deep"), Some(9)),
        (format!("/ipfs/{B}/blockednot"), None),
        (format!("/ipfs/{B}/blockednot/deep"), Some(9)),
        (format!("/ipfs/{B}/blocked/exceptions/1"), None),
        ("/ipns/domain.example".to_owned(), Some(12)),
        ("/ipns/domain.example/x".to_owned(), None),
        ("/ipns/domain2.example/path/".to_owned(), Some(13)),
        (format!("/ipns/{KEY}"), Some(14)),
    ] {
        assert_eq!(line_for(&list, &path), line, "{path}");
    }
}

#[test]
fn a_star_alone_blocks_the_root_and_all_below() {
    let list = list(&format!("/ipfs/{A}/*\n/ipfs/{B}/a%20b/*"));
    for (path, line) in
        [(format!("/ipfs/{A}"), Some(1)), (format!("/ipfs/{A}/x/y"), Some(1)), (format!("/ipfs/{B}/a%20b"), Some(2))]
    {
        assert_eq!(line_for(&list, &path), line, "{path}");
    }
}

#[test]
fn double_hashes_of_the_specification_block_what_it_says() {
    let list = list(
        "//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM\n\
         //d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7\n\
         //3f8b9febd851873b3774b937cce126910699ceac56e72e64b866f8e258d09572\n\
         //c555c4de78827ba42527dd3dc5398db38d6c0a8c345a88e0158b2d100f317e50\n",
    );
    let legacy = "bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e";
    for (path, line) in [
        ("/ipfs/QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR".to_owned(), Some(1)),
        ("/ipfs/bafybeidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja".to_owned(), Some(1)),
        (format!("/ipfs/{legacy}"), Some(2)),
        (format!("/ipfs/{legacy}/path"), Some(3)),
        (format!("/ipfs/{legacy}/path2"), None),
        ("/ipns/bad-domain-name.tld".to_owned(), Some(4)),
    ] {
        assert_eq!(line_for(&list, &path), line, "{path}");
    }
}

#[test]
fn a_block_is_blocked_under_whichever_codec_it_is_asked_for() {
    let under = |cid: &str, codec| Cid::new_v1(codec, *Cid::try_from(cid).unwrap().hash());
    let named = list(&format!("/ipfs/{A}/*\n/ipfs/{B}/below\n"));
    // The two spellings of double hashes, of the specification.
    let double = list(
        "//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM\n\
         //d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7\n",
    );
    for codec in [0x55, 0x70, 0x71] {
        assert_eq!(named.check_block(&under(A, codec)).map(|blocked| blocked.line), Some(1), "{codec}");
        assert_eq!(named.check_block(&under(B, codec)), None, "{codec}: a path is no block");
        for (cid, line) in [
            ("QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR", 1),
            ("bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e", 2),
        ] {
            assert_eq!(double.check_block(&under(cid, codec)).map(|blocked| blocked.line), Some(line), "{cid} {codec}");
        }
        assert_eq!(double.check_block(&under(A, codec)), None);
    }
}

#[test]
fn torrents_are_blocked_by_infohash_and_path() {
    let list = list(&format!("/bt/{}\n/bt/{}/film.mkv\n!/bt/{HASH}/readme*", HASH, "ab".repeat(32)));
    let (v1, v2): (ContentId, ContentId) = (HASH.parse().unwrap(), "ab".repeat(32).parse().unwrap());
    assert_eq!(list.check_content(&v1, "").map(|blocked| blocked.line), Some(1));
    assert_eq!(list.check_content(&v1, "readme.txt"), None);
    assert_eq!(list.check_content(&v2, ""), None);
    assert_eq!(list.check_content(&v2, "/film.mkv").map(|blocked| blocked.line), Some(2));
}

#[test]
fn bad_lines_are_told_with_their_numbers_and_the_rest_holds() {
    let text = format!("/ipfs/nocid\n/ipfs/{A}\n/mime/image\n//zz\n/bt/12\n/ipfs/{B}/../x\n{}\n", "x".repeat(20_000));
    let (list, errors, bad) = Denylist::parse(text.as_bytes());
    assert_eq!((list.len(), bad), (1, 6));
    assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 3, 4, 5, 6, 7]);
    assert_eq!(errors[1].to_string(), "line 3: not a rule: it begins with neither /ipfs/, /ipns/, /bt/ nor //");
    assert_eq!(errors[5].why, Why::TooLong);
}

#[test]
fn many_bad_lines_are_counted() {
    let (_, errors, bad) = Denylist::parse("x\n".repeat(5_000).as_bytes());
    assert_eq!((errors.len(), bad), (MAX_REPORTED, 5_000));
}

#[test]
fn another_version_is_told() {
    let (_, errors, _) = Denylist::parse(b"version: 2\n---\n");
    assert_eq!(errors, [LineError { line: 2, why: Why::Version }]);
}

proptest! {
    #[test]
    fn any_bytes_give_a_list_however_they_are_cut(input: Vec<u8>, at: prop::sample::Index) {
        let at = at.index(input.len() + 1);
        let mut parser = Parser::default();
        parser.push(&input[..at]);
        parser.push(&input[at..]);
        let (list, errors, bad) = parser.finish();
        let (whole, whole_errors, whole_bad) = Denylist::parse(&input);
        prop_assert_eq!((list.len(), errors, bad), (whole.len(), whole_errors, whole_bad));
    }
}
