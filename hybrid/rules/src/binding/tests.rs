use proptest::prelude::*;

use super::*;

const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
const INFOHASH: &str = "08ada5a7a6183aae1e09d831df6748d566095a10";

fn torrent(file: u32) -> Name {
    Name::Torrent { id: INFOHASH.parse().unwrap(), file }
}

fn ipfs() -> Name {
    Name::Ipfs(CID.parse().unwrap())
}

fn mirror(n: u32) -> Name {
    Name::Mirror(format!("https://mirror.example/{n}"))
}

fn binding(names: impl IntoIterator<Item = Name>, said_by: Authority) -> ContentBinding {
    ContentBinding { names: names.into_iter().collect(), len: Some(5), path: vec!["film.mkv".to_owned()], said_by }
}

#[test]
fn each_name_leads_to_the_others_the_most_trusted_first() {
    let mut table = Bindings::default();
    table.insert(binding([torrent(0), mirror(1)], Authority::Hint)).unwrap();
    table.insert(binding([torrent(0), ipfs()], Authority::Published)).unwrap();
    table.insert(binding([torrent(0), ipfs()], Authority::Hint)).unwrap();
    assert_eq!(table.others(&torrent(0)), [(ipfs(), Authority::Published), (mirror(1), Authority::Hint)]);
    assert_eq!(table.others(&ipfs()), [(torrent(0), Authority::Published)]);
    assert_eq!(table.others(&torrent(1)), []);
    assert_eq!(table.about(&ipfs()).count(), 2);
}

#[test]
fn a_pair_that_gave_wrong_bytes_is_not_believed_again_and_the_other_pairs_are() {
    let mut table = Bindings::default();
    let said = binding([torrent(0), ipfs(), mirror(1)], Authority::Operator);
    table.insert(said.clone()).unwrap();
    table.refute(&torrent(0), &mirror(1));
    assert_eq!(table.others(&torrent(0)), [(ipfs(), Authority::Operator)]);
    assert_eq!(table.others(&mirror(1)), [(ipfs(), Authority::Operator)]);
    table.insert(binding([torrent(0), mirror(1)], Authority::Published)).unwrap();
    assert_eq!(table.others(&torrent(0)), [(ipfs(), Authority::Operator)], "whoever says it");
    table.refute(&ipfs(), &torrent(0));
    table.refute(&ipfs(), &mirror(1));
    assert!(table.is_empty(), "nothing is left of it");
    table.insert(said).unwrap();
    assert!(table.is_empty());
}

#[test]
fn what_a_key_said_can_be_forgotten() {
    let mut table = Bindings::default();
    let key = |n: &str| Authority::Manifest(n.to_owned());
    table.insert(binding([torrent(0), ipfs()], key("aa"))).unwrap();
    table.insert(binding([torrent(0), mirror(1)], key("bb"))).unwrap();
    table.forget(&key("aa"));
    assert_eq!(table.others(&torrent(0)), [(mirror(1), key("bb"))]);
}

#[test]
fn what_is_no_binding_is_refused() {
    let wrong = |name| binding([torrent(0), name], Authority::Hint).check();
    assert_eq!(binding([torrent(0)], Authority::Hint).check(), Err(BindingError::Count(1)));
    assert_eq!(binding((0..17).map(mirror), Authority::Hint).check(), Err(BindingError::Count(17)));
    assert_eq!(wrong(Name::Ipfs(INFOHASH.parse().unwrap())), Err(BindingError::Name));
    assert_eq!(wrong(Name::Torrent { id: CID.parse().unwrap(), file: 0 }), Err(BindingError::Name));
    for url in ["ftp://x/", "https://x/ y", "file:///etc/passwd", &format!("https://x/{}", "y".repeat(2048))] {
        assert_eq!(wrong(Name::Mirror(url.to_owned())), Err(BindingError::Name), "{url}");
    }
    assert_eq!(wrong(ipfs()), Ok(()));
}

#[test]
fn the_table_is_bounded_and_hints_go_first() {
    let mut table = Bindings::default();
    table.insert(binding([torrent(0), ipfs()], Authority::Published)).unwrap();
    for n in 0..u32::try_from(MAX_BINDINGS).unwrap() + 5 {
        table.insert(binding([torrent(n), mirror(n)], Authority::Hint)).unwrap();
    }
    assert_eq!(table.len(), MAX_BINDINGS);
    assert_eq!(table.others(&ipfs()).len(), 1);
    assert_eq!(table.others(&mirror(0)), [], "the oldest hint has gone");
}

proptest! {
    #[test]
    fn what_is_kept_in_the_index_is_what_is_read_from_it(
        said in proptest::collection::vec((0_u32..4, 0_u32..4, 0_u8..4, any::<bool>()), 0..40)
    ) {
        let mut table = Bindings::default();
        for (file, other, who, refute) in said {
            let who = match who {
                0 => Authority::Hint,
                1 => Authority::Manifest("ab".to_owned()),
                2 => Authority::Operator,
                _ => Authority::Published,
            };
            let other = if other == 0 { ipfs() } else { mirror(other) };
            if refute {
                table.refute(&torrent(file), &other);
                prop_assert!(table.others(&torrent(file)).iter().all(|(name, _)| *name != other));
            } else {
                table.insert(binding([torrent(file), other], who)).unwrap();
            }
        }
        let read: Bindings = serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
        prop_assert_eq!(read.len(), table.len());
        for name in (0..4).map(torrent).chain((0..4).map(mirror)).chain([ipfs()]) {
            prop_assert_eq!(read.others(&name), table.others(&name));
        }
    }
}
