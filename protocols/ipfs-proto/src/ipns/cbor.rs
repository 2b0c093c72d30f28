//! The DAG-CBOR map that a record's signature covers. Other fields than the five of the specification are allowed, and
//! passed over.

use std::collections::BTreeMap;

use ipld_core::ipld::Ipld;

use super::RecordError;
use crate::codec::Codec;

/// What is signed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) value: Vec<u8>,
    pub(super) validity: Vec<u8>,
    pub(super) validity_type: u64,
    pub(super) sequence: u64,
    /// In nanoseconds.
    pub(super) ttl: u64,
}

impl Data {
    pub(super) fn decode(signed: &[u8]) -> Result<Self, RecordError> {
        let Ok(value) = Codec::DagCbor.decode(signed) else { return Err(RecordError::Data("is not DAG-CBOR")) };
        let Ipld::Map(mut fields) = value else { return Err(RecordError::Data("is not a map")) };
        Ok(Self {
            value: take_bytes(&mut fields, "Value")?,
            validity: take_bytes(&mut fields, "Validity")?,
            validity_type: take_number(&mut fields, "ValidityType")?,
            sequence: take_number(&mut fields, "Sequence")?,
            ttl: take_number(&mut fields, "TTL")?,
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let fields = [
            ("Value", Ipld::Bytes(self.value.clone())),
            ("Validity", Ipld::Bytes(self.validity.clone())),
            ("ValidityType", Ipld::Integer(self.validity_type.into())),
            ("Sequence", Ipld::Integer(self.sequence.into())),
            ("TTL", Ipld::Integer(self.ttl.into())),
        ];
        let map = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Codec::DagCbor.encode(&Ipld::Map(map)).expect("bytes and numbers of 64 bits have a spelling")
    }
}

fn take(fields: &mut BTreeMap<String, Ipld>, name: &str) -> Result<Ipld, RecordError> {
    fields.remove(name).ok_or(RecordError::Data("lacks a field"))
}

fn take_bytes(fields: &mut BTreeMap<String, Ipld>, name: &str) -> Result<Vec<u8>, RecordError> {
    let Ipld::Bytes(bytes) = take(fields, name)? else {
        return Err(RecordError::Data("has something else where bytes belong"));
    };
    Ok(bytes)
}

fn take_number(fields: &mut BTreeMap<String, Ipld>, name: &str) -> Result<u64, RecordError> {
    let no_number = RecordError::Data("has something else where a number belongs");
    let Ipld::Integer(number) = take(fields, name)? else { return Err(no_number) };
    u64::try_from(number).map_err(|_| no_number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_map_is_written_as_the_specification_orders_it() {
        let data =
            Data { value: b"/ipfs/x".to_vec(), validity: b"then".to_vec(), ttl: 7, sequence: 24, validity_type: 0 };
        let wire = b"\xa5\x63TTL\x07\x65Value\x47/ipfs/x\x68Sequence\x18\x18\x68Validity\x44then\x6cValidityType\x00";
        assert_eq!(data.encode(), wire);
        assert_eq!(Data::decode(wire), Ok(data));
    }

    #[test]
    fn fields_that_are_not_known_are_passed_over() {
        let data = Data { value: b"/ipfs/x".to_vec(), ttl: 7, ..Data::default() };
        let mut wire = data.encode();
        wire[0] = 0xa6;
        wire.extend_from_slice(b"\x6dValidityTypes\x82\xa1\x61a\xf6\x07");
        assert_eq!(Data::decode(&wire), Ok(data));
    }

    #[test]
    fn what_is_not_the_map_is_refused() {
        const NOT_CBOR: RecordError = RecordError::Data("is not DAG-CBOR");
        let whole = Data::default().encode();
        let twice = [&[0xa6], &whole[1..], &b"\x63TTL\x00"[..]].concat();
        let more = [&whole[..], &[0]].concat();
        let deep = [&[0xa1, 0x61, b'a'][..], &[0x81; 400], &[0]].concat();
        for (wire, why) in [
            (&b""[..], NOT_CBOR),
            (b"\xa0", RecordError::Data("lacks a field")),
            (b"\x80", RecordError::Data("is not a map")),
            (b"\xa1\x65Value\x00", RecordError::Data("has something else where bytes belong")),
            (b"\xbf\xff", NOT_CBOR),
            (b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff", NOT_CBOR),
            (&twice, NOT_CBOR),
            (&more, NOT_CBOR),
            (&deep, NOT_CBOR),
        ] {
            assert_eq!(Data::decode(wire), Err(why), "{wire:x?}");
        }
    }

    proptest! {
        #[test]
        fn data_round_trips(value: Vec<u8>, validity: Vec<u8>, validity_type: u64, sequence: u64, ttl: u64) {
            let data = Data { value, validity, validity_type, sequence, ttl };
            prop_assert_eq!(Data::decode(&data.encode()), Ok(data));
        }

        #[test]
        fn any_bytes_are_read_or_refused(input: Vec<u8>) {
            let _ = Data::decode(&input);
        }
    }
}
