use super::*;

const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
const INFOHASH: &str = "08ada5a7a6183aae1e09d831df6748d566095a10";

fn key() -> ManifestKey {
    ManifestKey::from_seed(&[7; SEED_BYTES])
}

fn film() -> ManifestFile {
    ManifestFile {
        file: 3,
        path: vec!["b".to_owned(), "film ☃.mkv".to_owned()],
        len: 1_000_000,
        cid: CID.parse().unwrap(),
        mirrors: vec!["https://mirror.example/b/film.mkv".to_owned()],
    }
}

fn manifest() -> Manifest {
    Manifest {
        name: "films".to_owned(),
        infohash: INFOHASH.parse().unwrap(),
        root: CID.parse().unwrap(),
        trackers: vec!["udp://tracker.example:6969".to_owned()],
        files: vec![ManifestFile { file: 1, len: 0, ..film() }, film()],
    }
}

#[test]
fn what_was_signed_is_read_and_carries_its_key_into_every_binding() {
    let block = manifest().sign(&key()).unwrap();
    assert_eq!(block, manifest().sign(&key()).unwrap(), "one spelling, one signature");
    let read = SignedManifest::read(&block).unwrap();
    assert_eq!((&read.manifest, read.key), (&manifest(), key().public()));
    let bindings: Vec<_> = read.bindings().collect();
    let [binding] = &bindings[..] else { panic!("{bindings:?}") };
    assert_eq!((binding.names.len(), binding.len), (3, Some(1_000_000)));
    assert_eq!(binding.said_by, Authority::Manifest(HEXLOWER.encode(&key().public())));
    assert_eq!(binding.check(), Ok(()));
}

#[test]
fn no_byte_of_it_can_be_another() {
    let block = manifest().sign(&key()).unwrap();
    for at in 0..block.len() {
        let mut changed = block.clone();
        changed[at] ^= 1;
        assert!(SignedManifest::read(&changed).is_err(), "byte {at}");
        assert!(SignedManifest::read(&block[..at]).is_err(), "cut at {at}");
    }
    assert_eq!(SignedManifest::read(&[&block[..], b"\0"].concat()), Err(ManifestError::Spelling));
}

/// Signs a payload, whatever it is.
fn sign(payload: &Ipld) -> Vec<u8> {
    let payload = encode(payload).unwrap();
    let signature = key().0.sign(&signed(&payload)).as_ref().to_vec();
    let fields = [("key", key().public().to_vec()), ("payload", payload), ("signature", signature)];
    encode(&map(fields.map(|(key, bytes)| (key, Ipld::Bytes(bytes))))).unwrap()
}

#[test]
fn a_sound_signature_makes_no_sound_manifest() {
    let changed = |key: &str, value: Option<Ipld>| {
        let Ipld::Map(mut fields) = manifest().to_ipld() else { panic!("no map") };
        match value {
            Some(value) => fields.insert(key.to_owned(), value),
            None => fields.remove(key),
        };
        SignedManifest::read(&sign(&Ipld::Map(fields)))
    };
    assert!(changed("name", Some(Ipld::String("other".to_owned()))).is_ok());
    assert_eq!(changed("version", Some(Ipld::Integer(2))), Err(ManifestError::Version));
    assert_eq!(changed("infohash", None), Err(ManifestError::Field("infohash")));
    assert_eq!(changed("infohash", Some(Ipld::Bytes(vec![1; 32]))), Err(ManifestError::Field("infohash")));
    assert_eq!(changed("more", Some(Ipld::Null)), Err(ManifestError::Field("payload")));
    assert_eq!(changed("cid", Some(Ipld::String(CID.to_uppercase()))), Err(ManifestError::Field("cid")));
    assert_eq!(changed("trackers", Some(texts(&vec![String::new(); 65]))), Err(ManifestError::Field("trackers")));
    let file = |file: ManifestFile| changed("files", Some(Ipld::List(vec![film().to_ipld(), file.to_ipld()])));
    assert!(file(ManifestFile { file: 9, ..film() }).is_ok());
    assert_eq!(file(film()), Err(ManifestError::Field("file")), "twice");
    assert_eq!(file(ManifestFile { file: 9, path: vec![], ..film() }), Err(ManifestError::Field("path")));
    let http = vec!["http://mirror.example/".to_owned()];
    assert_eq!(file(ManifestFile { file: 9, mirrors: http, ..film() }), Err(ManifestError::Field("mirrors")));
}

#[test]
fn a_payload_that_another_program_wrote_is_read() {
    let payload = include_bytes!("../../../tests/fuzz/corpus/manifest/payload");
    let read = Manifest::from_payload(payload).unwrap();
    assert_eq!((read.infohash, read.files[0].len), (INFOHASH.parse().unwrap(), 1_000_000));
    assert_eq!(read.to_payload().unwrap(), payload);
}

#[test]
fn too_much_is_not_signed() {
    let many = (0..10_001).map(|file| ManifestFile { file, ..film() }).collect();
    assert_eq!(Manifest { files: many, ..manifest() }.sign(&key()), Err(ManifestError::Field("files")));
    let long = vec!["x".repeat(2000); 100];
    let large = (0..10).map(|file| ManifestFile { file, path: long.clone(), ..film() }).collect();
    assert!(matches!(Manifest { files: large, ..manifest() }.sign(&key()), Err(ManifestError::TooLong(_))));
}

#[test]
fn a_key_is_made_once_and_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("publish.key");
    let made = ManifestKey::load_or_make(&path).unwrap();
    assert_eq!(ManifestKey::load_or_make(&path).unwrap().public(), made.public());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    fs::write(&path, "short").unwrap();
    assert!(ManifestKey::load_or_make(&path).is_err());
}
