use std::time::{Duration, SystemTime};

use libp2p::identity::Keypair;

use super::*;
use crate::testing::{Signpost, store};

const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

fn path(text: &str) -> ContentPath {
    text.parse().unwrap()
}

fn record(key: &Keypair, value: &str, sequence: u64, expires_in: i64, ttl: u64) -> Record {
    let now = SystemTime::now();
    let span = Duration::from_secs(expires_in.unsigned_abs());
    let expires = if expires_in < 0 { now - span } else { now + span };
    Record::sign(key, &path(value), sequence, expires, Duration::from_secs(ttl)).unwrap()
}

async fn names(routers: Vec<Arc<dyn Router>>, links: &[(&str, &str)]) -> Names {
    let dnslinks = links.iter().map(|(host, link)| (host.parse().unwrap(), path(link))).collect();
    Names::new(store(1 << 20).await, routers, NamesOptions { dnslinks, ..NamesOptions::default() })
}

#[tokio::test]
async fn an_imported_record_leads_to_its_path_with_the_rest_behind_it() {
    let key = Keypair::generate_ed25519();
    let names = names(Vec::new(), &[]).await;
    let record = record(&key, &format!("/ipfs/{CID}/a"), 1, 3600, 60);
    names.import(record.name(), record.as_bytes().clone()).await.unwrap();
    let named = names.resolve(&path(&format!("/ipns/{}/b", record.name()))).await.unwrap();
    assert_eq!(named.path, path(&format!("/ipfs/{CID}/a/b")));
    assert!(named.valid_for <= Duration::from_secs(60) && named.valid_for > Duration::from_secs(50));
    assert_eq!(named.record, Some(record));
}

#[tokio::test]
async fn a_ttl_is_no_longer_than_the_operator_lets_it_be() {
    let key = Keypair::generate_ed25519();
    let names = names(Vec::new(), &[]).await;
    let record = record(&key, &format!("/ipfs/{CID}"), 1, 86_400, 86_400);
    names.import(record.name(), record.as_bytes().clone()).await.unwrap();
    let named = names.resolve(&path(&format!("/ipns/{}", record.name()))).await.unwrap();
    assert_eq!(named.valid_for, Duration::from_secs(300));
}

#[tokio::test]
async fn expired_and_foreign_records_are_refused_with_the_reason() {
    let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let names = names(Vec::new(), &[]).await;
    let old = record(&key, &format!("/ipfs/{CID}"), 1, -60, 60);
    let error = names.import(old.name(), old.as_bytes().clone()).await.unwrap_err();
    assert_eq!(error.kind, NameErrorKind::Expired);
    assert!(error.to_string().contains("expired at"), "{error}");
    let foreign = record(&other, &format!("/ipfs/{CID}"), 1, 60, 60);
    let error = names.import(old.name(), foreign.as_bytes().clone()).await.unwrap_err();
    assert_eq!(error.kind, NameErrorKind::Invalid, "{error}");
    assert_eq!(names.record(old.name()).await.unwrap_err().kind, NameErrorKind::NotFound);
}

#[tokio::test]
async fn an_older_record_does_not_replace_a_newer_one_and_a_newer_one_is_seen_at_once() {
    let key = Keypair::generate_ed25519();
    let names = names(Vec::new(), &[]).await;
    let [first, second] = [1, 2].map(|number| record(&key, &format!("/ipfs/{CID}/{number}"), number, 3600, 3600));
    for (given, kept) in [(&first, &first), (&second, &second), (&first, &second)] {
        assert_eq!(names.import(given.name(), given.as_bytes().clone()).await.unwrap(), *kept);
        assert_eq!(names.record(given.name()).await.unwrap(), *kept);
    }
}

#[tokio::test]
async fn the_newest_of_what_routers_have_wins_and_what_is_broken_is_passed_over() {
    let key = Keypair::generate_ed25519();
    let [first, second] = [1, 2].map(|number| record(&key, &format!("/ipfs/{CID}/{number}"), number, 3600, 60));
    let signpost = |bytes: &[u8]| -> Arc<dyn Router> {
        Arc::new(Signpost { record: Some(Bytes::copy_from_slice(bytes)), ..Signpost::default() })
    };
    let routers = vec![signpost(b"broken"), signpost(second.as_bytes())];
    let names = names(routers, &[]).await;
    names.import(first.name(), first.as_bytes().clone()).await.unwrap();
    assert_eq!(names.record(first.name()).await.unwrap(), second);
}

#[tokio::test]
async fn only_broken_records_are_no_record() {
    let key = Keypair::generate_ed25519();
    let name = *record(&key, &format!("/ipfs/{CID}"), 1, 60, 60).name();
    let signpost = Signpost { record: Some(Bytes::from_static(b"broken")), ..Signpost::default() };
    let error = names(vec![Arc::new(signpost)], &[]).await.record(&name).await.unwrap_err();
    assert_eq!(error.kind, NameErrorKind::Invalid);
    assert_eq!(error.attempts.len(), 1);
}

#[tokio::test]
async fn hosts_lead_where_the_operator_says_through_names_and_never_in_circles() {
    let key = Keypair::generate_ed25519();
    let record = record(&key, &format!("/ipfs/{CID}"), 1, 3600, 60);
    let to_key = format!("/ipns/{}/docs", record.name());
    let links = [("a.example", "/ipns/b.example/x"), ("b.example", &to_key), ("c.example", "/ipns/c.example")];
    let names = names(Vec::new(), &links).await;
    names.import(record.name(), record.as_bytes().clone()).await.unwrap();
    let named = names.resolve(&path("/ipns/a.example/y/")).await.unwrap();
    assert_eq!(named.path, path(&format!("/ipfs/{CID}/docs/x/y/")));
    assert_eq!(named.record, None, "the name that was asked for has no record");
    let error = names.resolve(&path("/ipns/c.example")).await.unwrap_err();
    assert_eq!(error.kind, NameErrorKind::Loop);
    let error = names.resolve(&path("/ipns/d.example")).await.unwrap_err();
    assert_eq!(error.kind, NameErrorKind::Disabled);
}
