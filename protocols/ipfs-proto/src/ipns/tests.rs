use super::*;
use aws_lc_rs::encoding::AsDer as _;
use proptest::prelude::*;
use swarmgate_content::Cid;

const HOUR: Duration = Duration::from_secs(3600);
const TARGET: &str = "/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy/a b";

fn target() -> ContentPath {
    ContentPath::from_plain(TARGET).unwrap()
}

fn ed25519() -> Keypair {
    Keypair::ed25519_from_bytes([7; 32]).unwrap()
}

fn secp256k1() -> Keypair {
    let secret = libp2p_identity::secp256k1::SecretKey::try_from_bytes([7; 32]).unwrap();
    libp2p_identity::secp256k1::Keypair::from(secret).into()
}

fn rsa() -> Keypair {
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
    Keypair::rsa_from_pkcs8(&mut der.as_ref().to_vec()).unwrap()
}

fn record(key: &Keypair, sequence: u64, expires: u64) -> Record {
    Record::sign(key, &target(), sequence, UNIX_EPOCH + Duration::from_secs(expires), HOUR).unwrap()
}

#[test]
fn records_of_every_kind_of_key_are_made_and_read() {
    for key in [ed25519(), secp256k1(), rsa()] {
        let made = record(&key, 3, 2_000_000_000);
        let read = Record::parse(made.name(), made.as_bytes().clone()).unwrap();
        assert_eq!(read, made);
        assert_eq!((read.path().unwrap().to_plain().as_str(), read.sequence()), (TARGET, 3));
        let other = Name::of_key(&Keypair::ed25519_from_bytes([8; 32]).unwrap().public());
        let refused = Record::parse(&other, made.as_bytes().clone());
        assert!(matches!(refused, Err(RecordError::Signature(_) | RecordError::OtherKey(_))), "{refused:?}");
    }
}

#[test]
fn a_record_ends_and_is_cached_no_longer_than_that() {
    let record = record(&ed25519(), 1, 10_000);
    let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
    assert!(record.is_valid(at(9_999)) && !record.is_valid(at(10_000)));
    assert_eq!(record.cache_for(at(0)), HOUR);
    assert_eq!(record.cache_for(at(9_990)), Duration::from_secs(10));
    assert_eq!(record.cache_for(at(10_001)), Duration::ZERO);
}

#[test]
fn of_several_the_highest_sequence_then_the_latest_end_counts() {
    let key = ed25519();
    let records = [record(&key, 2, 50), record(&key, 1, 900), record(&key, 2, 70), record(&key, 3, 9)];
    let best = Record::best(records.clone(), UNIX_EPOCH + Duration::from_secs(10)).unwrap();
    assert_eq!((best.sequence(), best.expires()), (2, UNIX_EPOCH + Duration::from_secs(70)));
    assert_eq!(Record::best(records, UNIX_EPOCH + Duration::from_secs(1000)), None);
}

/// The record with some fields of its protobuf replaced or taken out.
fn tampered(record: &Record, field: u64, value: Option<&[u8]>) -> Bytes {
    let mut out = Vec::new();
    for (number, read) in Fields::new(record.as_bytes()).flatten().filter(|(number, _)| *number != field) {
        match read {
            Wire::Bytes(bytes) => put_bytes(&mut out, number, bytes),
            Wire::Varint(varint) => put_nonzero(&mut out, number, varint),
            Wire::Fixed32(_) | Wire::Fixed64 => panic!("no record has such a field"),
        }
    }
    if let Some(value) = value {
        put_bytes(&mut out, field, value);
    }
    out.into()
}

#[test]
fn only_what_the_v2_signature_covers_counts() {
    let record = record(&ed25519(), 1, 10_000);
    let parse = |bytes| Record::parse(record.name(), bytes);
    let name = *record.name();
    assert_eq!(parse(tampered(&record, 8, None)), Err(RecordError::Signature(name)));
    assert_eq!(parse(tampered(&record, 9, None)), Err(RecordError::Data("is missing")));
    assert_eq!(parse(tampered(&record, 1, Some(b"/ipfs/other"))), Err(RecordError::Mismatch("value")));
    assert_eq!(parse(tampered(&record, 4, Some(b"2999-01-01T00:00:00Z"))), Err(RecordError::Mismatch("validity")));
    assert_eq!(parse(tampered(&record, 6, None)), Err(RecordError::Mismatch("TTL")));
    // The V1 signature proves nothing, so it need not be right.
    assert!(parse(tampered(&record, 2, Some(b"broken"))).is_ok());
    let long = tampered(&record, 15, Some(&[0; MAX_RECORD_BYTES]));
    assert!(matches!(parse(long), Err(RecordError::TooLong(_))));
}

#[test]
fn a_name_is_read_from_every_spelling_and_prints_as_one() {
    let name = Name::of_key(&ed25519().public());
    let cid = name.to_cid();
    let mut spellings = vec![name.to_string(), name.peer_id().to_base58()];
    for base in [multibase::Base::Base32Lower, multibase::Base::Base16Lower, multibase::Base::Base58Btc] {
        spellings.push(cid.to_string_of_base(base).unwrap());
    }
    spellings.push(Cid::new_v1(0x70, *cid.hash()).to_string());
    for text in spellings {
        assert_eq!(text.parse(), Ok(name), "{text}");
    }
    assert!(name.to_string().starts_with("k51qzi5uqu5d") && name.to_string().len() == 62);
    assert_eq!(name.public_key(), Some(ed25519().public()));
    for text in ["", "k", "example.org", "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", "1x"] {
        assert_eq!(text.parse::<Name>(), Err(NameError), "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(input: Vec<u8>) {
        let _ = Record::parse(&Name::of_key(&ed25519().public()), input.into());
    }
}
