use proptest::prelude::*;

use super::*;
use crate::block;
use crate::codec::Codec;

fn write(roots: &[Cid], blocks: &[&[u8]]) -> Vec<u8> {
    let mut car = header(roots);
    for bytes in blocks {
        car.extend(section_head(&block::name(Codec::Raw, bytes), bytes.len()));
        car.extend_from_slice(bytes);
    }
    car
}

/// Wraps a CAR of version 1 in one of version 2, with padding before it and an index behind.
fn wrap(car: &[u8], padding: u64) -> Vec<u8> {
    let mut out = b"\x0a\xa1\x67version\x02".to_vec();
    out.extend_from_slice(&[0; 16]);
    for number in [51 + padding, car.len() as u64, 51 + padding + car.len() as u64] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend(std::iter::repeat_n(0, usize::try_from(padding).unwrap()));
    out.extend_from_slice(car);
    out.extend_from_slice(b"\x81\x08index");
    out
}

fn read(car: &[u8], step: usize) -> Result<Vec<CarEvent>, CarError> {
    let mut reader = CarReader::new();
    let mut events = Vec::new();
    for part in car.chunks(step.max(1)) {
        reader.push(part);
        while let Some(event) = reader.poll()? {
            events.push(event);
        }
    }
    reader.finish().map(|()| events)
}

/// From the CARv1 specification's example: one root, in DAG-CBOR.
#[test]
fn a_header_is_the_map_that_the_specification_says() {
    let root: Cid = "bafyreihyrpefhacm6kkp4ql6j6udakdit7g3dmkzfriqfykhjw6cad5lrm".parse().unwrap();
    let bytes = header(&[root]);
    assert_eq!(data_encoding::HEXLOWER.encode(&bytes[..18]), "3aa265726f6f747381d82a58250001711220");
    assert!(bytes.ends_with(b"\x67version\x01"));
    assert_eq!(read(&bytes, 100).unwrap(), [CarEvent::Header { version: 1, roots: vec![root] }]);
}

#[test]
fn many_roots_are_written_as_they_are_read() {
    for count in [0, 23, 24, 300] {
        let roots = vec![block::name(Codec::DagPb, b"root"); count];
        assert_eq!(read(&header(&roots), 1000).unwrap(), [CarEvent::Header { version: 1, roots }]);
    }
}

#[test]
fn what_is_no_car_says_where_and_why() {
    let good = write(&[], &[b"one"]);
    let len = good.len() as u64;
    let with = |tail: &[u8]| [&good[..], tail].concat();
    for (car, offset, why) in [
        (Vec::new(), 0, "too early"),
        (good[..good.len() - 1].to_vec(), len - 1, "too early"),
        (with(&[0]), len, "a section of 0 bytes"),
        (with(&[0xff, 0xff, 0xff, 0x7f]), len, "a section of 268435455 bytes"),
        (with(&[0xff; 10]), len, "more than 64 bits"),
        (with(&[2, 7, 7]), len, "does not begin with a CID"),
        (b"\x01\x80".to_vec(), 0, "not a map"),
        (b"\x0a\xa1\x67version\x03".to_vec(), 0, "neither 1 nor 2"),
        (b"\x0a\xa1\x67version\x01".to_vec(), 0, "no roots"),
        (b"\xff\xff\x7f".to_vec(), 0, "a section of"),
        (wrap(&good, 0)[..60].to_vec(), 60, "too early"),
        (wrap(&wrap(&good, 0), 0), 51, "neither 1 nor 2"),
        (wrap(b"", 0), 11, "no place"),
    ] {
        for step in [1, 1000] {
            let error = read(&car, step).unwrap_err();
            assert!(error.why.contains(why), "{error} instead of {why}");
            assert_eq!(error.offset, offset, "{error}");
        }
    }
    let mut short = wrap(&good, 0);
    short[35] -= 1;
    assert!(read(&short, 1).unwrap_err().why.contains("out of the data"));
}

#[test]
fn padding_that_never_ends_takes_no_memory() {
    let mut reader = CarReader::new();
    let mut car = wrap(&write(&[], &[]), 0);
    car[27..35].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    reader.push(&car[..51]);
    for _ in 0..100 {
        reader.push(&[0; 1000]);
        assert_eq!(reader.poll(), Ok(None));
    }
    assert_eq!(reader.finish().unwrap_err().offset, 51 + 100_000);
}

proptest! {
    #[test]
    fn blocks_survive_in_both_versions_however_they_are_cut(
        blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        step in 1..200_usize,
        padding in 0..100_u64,
    ) {
        let blocks: Vec<_> = blocks.iter().map(Vec::as_slice).collect();
        let root = block::name(Codec::DagPb, b"root");
        let car = write(&[root], &blocks);
        for (version, car) in [(1, car.clone()), (2, wrap(&car, padding))] {
            let events = read(&car, step).unwrap();
            prop_assert_eq!(&events[0], &CarEvent::Header { version, roots: vec![root] });
            prop_assert_eq!(events.len(), blocks.len() + 1);
            for (event, block) in events[1..].iter().zip(&blocks) {
                let CarEvent::Block { cid, bytes } = event else { panic!("a second header") };
                prop_assert!(block::check(cid, bytes.clone()).is_ok_and(|bytes| bytes.as_ref() == *block));
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), step in 1..50_usize) {
        let _ = read(&bytes, step);
        let _ = read(&[&header(&[])[..], &bytes].concat(), step);
        let _ = read(&[&wrap(&[], 3)[..51], &bytes].concat(), step);
    }
}
