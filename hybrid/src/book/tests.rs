use std::path::Path;

use swarmgate_hybrid_rules::MAX_BINDINGS;
use swarmgate_store::StoreOptions;

use super::*;

const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
const INFOHASH: &str = "08ada5a7a6183aae1e09d831df6748d566095a10";

fn torrent(file: u32) -> Name {
    Name::Torrent { id: INFOHASH.parse().unwrap(), file }
}

fn ipfs() -> Name {
    Name::Ipfs(CID.parse().unwrap())
}

fn binding(names: [Name; 2], said_by: Authority) -> ContentBinding {
    ContentBinding { names: names.into(), len: Some(5), path: vec!["film.mkv".to_owned()], said_by }
}

async fn store(dir: &Path) -> Store {
    let options = StoreOptions { dir: Some(dir.to_owned()), ..StoreOptions::in_memory(16 << 20) };
    Store::open(options).await.unwrap()
}

async fn records(store: &Store) -> (usize, usize) {
    let count = async |table| store.list_records(table).await.unwrap().len();
    (count(BINDINGS).await, count(REFUTED).await)
}

#[tokio::test]
async fn what_was_said_is_known_after_a_restart_and_is_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let open = store(dir.path()).await;
    let book = BindingBook::open(open.clone()).await.unwrap();
    let mirror = Name::Mirror("https://mirror.example/film".to_owned());
    let (published, hinted) = (Authority::Published, Authority::Hint);
    book.add(binding([torrent(0), ipfs()], published.clone())).await.unwrap();
    book.add(binding([torrent(0), ipfs()], published.clone())).await.unwrap();
    book.add(binding([torrent(0), mirror.clone()], hinted.clone())).await.unwrap();
    assert_eq!(records(&open).await, (2, 0));
    assert_eq!(*book.writing.lock().await, 2, "what is known is not written again");
    drop(book);
    open.close().await;

    let book = BindingBook::open(store(dir.path()).await).await.unwrap();
    assert_eq!(book.others(&torrent(0)), [(ipfs(), published), (mirror, hinted)]);
    assert_eq!(book.about(&ipfs()).len(), 1);
}

#[tokio::test]
async fn what_was_refuted_stays_so_after_a_restart_whoever_says_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = store(dir.path()).await;
    let book = BindingBook::open(open.clone()).await.unwrap();
    book.add(binding([torrent(0), ipfs()], Authority::Hint)).await.unwrap();
    book.refute(&torrent(0), &ipfs()).await;
    assert_eq!(records(&open).await, (0, 1), "nothing is left of the binding");
    drop(book);
    open.close().await;

    let open = store(dir.path()).await;
    let book = BindingBook::open(open.clone()).await.unwrap();
    book.add(binding([ipfs(), torrent(0)], Authority::Published)).await.unwrap();
    assert_eq!(book.others(&ipfs()), []);
    assert_eq!(records(&open).await, (0, 1));
}

#[tokio::test]
async fn a_damaged_record_is_left_out_and_the_others_are_read() {
    let open = Store::open(StoreOptions::in_memory(1 << 20)).await.unwrap();
    let book = BindingBook::open(open.clone()).await.unwrap();
    book.add(binding([torrent(0), ipfs()], Authority::Published)).await.unwrap();
    let (_, whole) = open.list_records(BINDINGS).await.unwrap().remove(0);
    open.put_record(BINDINGS, b"cut", whole.slice(..whole.len() - 1)).await.unwrap();
    open.put_record(BINDINGS, b"under another's key", whole).await.unwrap();
    // Sound JSON under its own key, that is no binding: it has one name.
    let mut hollow = binding([torrent(1), ipfs()], Authority::Hint);
    hollow.names.pop_last();
    let row = Row { number: 9, said: hollow };
    open.put_record(BINDINGS, &key_of(&row.said), serde_json::to_vec(&row).unwrap().into()).await.unwrap();

    let book = BindingBook::open(open.clone()).await.unwrap();
    assert_eq!(book.others(&torrent(0)), [(ipfs(), Authority::Published)]);
    assert_eq!(records(&open).await, (1, 0));
}

#[tokio::test]
async fn what_is_no_binding_is_not_kept() {
    let open = Store::open(StoreOptions::in_memory(1 << 20)).await.unwrap();
    let book = BindingBook::open(open.clone()).await.unwrap();
    let wrong = Name::Mirror("file:///etc/passwd".to_owned());
    assert!(matches!(book.add(binding([torrent(0), wrong], Authority::Hint)).await, Err(BookError::Binding(_))));
    assert_eq!(records(&open).await, (0, 0));
}

#[tokio::test]
async fn what_the_rules_push_out_leaves_the_index_too() {
    let open = Store::open(StoreOptions::in_memory(1 << 20)).await.unwrap();
    let book = BindingBook::open(open.clone()).await.unwrap();
    let many = u32::try_from(MAX_BINDINGS).unwrap() + 3;
    book.add_all((0..many).map(|file| binding([torrent(file), ipfs()], Authority::Hint)).collect()).await.unwrap();
    assert_eq!(records(&open).await, (MAX_BINDINGS, 0));
    assert_eq!(book.others(&torrent(0)), [], "the oldest has gone");
    let again = BindingBook::open(open).await.unwrap();
    assert_eq!(again.others(&torrent(2)), []);
    assert_eq!(again.others(&torrent(3)).len(), 1);
    again.add(binding([torrent(0), ipfs()], Authority::Hint)).await.unwrap();
    assert_eq!(again.others(&torrent(3)), [], "the oldest goes first, after a restart too");
}
