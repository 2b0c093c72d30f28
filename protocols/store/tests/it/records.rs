//! Records and pins are there when the process comes back.

use bytes::Bytes;
use swarmgate_store::{MAX_RECORD_BYTES, RecordError, Store};

use crate::kit::{both, data, intact, name, options, put, reopen};

const MAX: u64 = 1 << 20;

#[tokio::test]
async fn a_record_is_written_read_listed_and_deleted() {
    for store in both(MAX).await {
        for (key, value) in [("b", "2"), ("a", "1"), ("", "0"), ("b", "two")] {
            store.put_record("items", key.as_bytes(), Bytes::from_static(value.as_bytes())).await.unwrap();
        }
        store.put_record("item", b"sa", Bytes::from_static(b"other table")).await.unwrap();
        assert_eq!(store.get_record("items", b"b").await.unwrap().unwrap(), "two");
        store.delete_record("items", b"a").await.unwrap();
        store.delete_record("items", b"never there").await.unwrap();
        assert_eq!(store.get_record("items", b"a").await.unwrap(), None);
        let all = store.list_records("items").await.unwrap();
        let all: Vec<_> = all.iter().map(|(key, value)| (&key[..], &value[..])).collect();
        assert_eq!(all, [(&b""[..], &b"0"[..]), (b"b", b"two")]);
        assert!(store.list_records("none").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_record_beyond_the_bounds_is_refused_by_name() {
    for store in both(MAX).await {
        let put = |key: usize, value: usize| {
            let store = Store::clone(&store);
            async move { store.put_record("table", &vec![1; key], vec![0; value].into()).await }
        };
        put(1024, MAX_RECORD_BYTES).await.unwrap();
        let error = put(1, MAX_RECORD_BYTES + 1).await.unwrap_err();
        assert_eq!(error.to_string(), "a record's value of 65537 bytes is longer than 65536");
        assert!(matches!(put(1025, 1).await, Err(RecordError::TooLarge { what: "key", .. })));
    }
}

#[tokio::test]
async fn records_and_pins_survive_a_stop_without_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path(), MAX)).await.unwrap();
    store.put_record("items", b"key", Bytes::from_static(b"value")).await.unwrap();
    let hash = put(&store, 1, 400_000).await;
    store.pin("film", [hash, name(&data(2, 100))]);
    store.pin("gone", [hash]);
    store.unpin("gone");
    store.flush().await.unwrap();
    drop(store);
    let store = reopen(dir.path(), MAX).await;
    assert_eq!(store.get_record("items", b"key").await.unwrap().unwrap(), "value");
    assert_eq!(store.pinned_roots(), ["film"]);
    put(&store, 2, 100).await;
    for number in 3..10 {
        put(&store, number, 400_000).await;
    }
    assert!(intact(&store, 1, 400_000).await && intact(&store, 2, 100).await);
    assert_eq!(store.usage().pinned_bytes, 400_100);
}

#[tokio::test]
async fn closing_alone_is_enough_for_pins() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path(), MAX)).await.unwrap();
    (0..50).for_each(|number| store.pin(&format!("root {number:02}"), [name(&data(number, 10))]));
    (0..49).for_each(|number| store.unpin(&format!("root {number:02}")));
    store.close().await;
    assert_eq!(reopen(dir.path(), MAX).await.pinned_roots(), ["root 49"]);
}
