//! As much of protobuf as blocks and peers' messages are made of: fields in order, with their numbers and wire types
//! (<https://protobuf.dev/programming-guides/encoding/>).

/// The longest varint of 64 bits, in bytes.
const MAX_VARINT_BYTES: usize = 10;

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Reads a message field by field. After an error it ends.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// How many bytes are not read yet.
    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    fn read(&mut self) -> Result<(u64, Wire<'a>), &'static str> {
        let key = take_varint(&mut self.rest)?;
        if key >> 3 == 0 {
            return Err("a field has the number 0");
        }
        let wire = match key & 7 {
            0 => Wire::Varint(take_varint(&mut self.rest)?),
            1 => self.take(8).map(|_| Wire::Fixed64)?,
            2 => {
                let len = take_varint(&mut self.rest)?;
                Wire::Bytes(self.take(usize::try_from(len).map_err(|_| TRUNCATED)?)?)
            }
            5 => {
                let (bytes, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
                self.rest = rest;
                Wire::Fixed32(u32::from_le_bytes(*bytes))
            }
            _ => return Err("a field has an unknown wire type"),
        };
        Ok((key >> 3, wire))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }
}

const TRUNCATED: &str = "it ends within a field";

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The varint at the front and how many bytes it takes; `None` when it goes on behind the last byte.
pub(crate) fn peek_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, &'static str> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().enumerate().take(MAX_VARINT_BYTES) {
        let part = u64::from(byte & 0x7f);
        if at == MAX_VARINT_BYTES - 1 && part > 1 {
            break;
        }
        value |= part << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < MAX_VARINT_BYTES { Ok(None) } else { Err("a number has more than 64 bits") }
}

/// Takes a varint off the front.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    let (value, len) = peek_varint(bytes)?.ok_or(TRUNCATED)?;
    *bytes = &bytes[len..];
    Ok(value)
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    u8::try_from(value & 0x7f).expect("seven bits are left")
}

/// How many bytes [`put_varint`] appends.
pub(crate) const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Appends a field of that number that is a varint.
pub(crate) fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3);
    put_varint(out, value);
}

/// Appends a field of that number that is a varint, unless it is 0: proto3 leaves out what is the default.
pub(crate) fn put_nonzero(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        put_number(out, field, value);
    }
}

/// Appends a field of that number that is bytes or a message.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes [`put_bytes`] appends for a field below 16.
pub(crate) const fn bytes_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_ends_at_its_first_error() {
        for (message, why) in [
            (&[0x0a, 5, 1][..], TRUNCATED),
            (&[0x0b], "a field has an unknown wire type"),
            (&[0x02, 0], "a field has the number 0"),
            (&[0x80], TRUNCATED),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], "a number has more than 64 bits"),
        ] {
            let mut fields = Fields::new(message);
            assert_eq!(fields.next(), Some(Err(why)), "{message:?}");
            assert_eq!(fields.next(), None);
        }
    }

    proptest! {
        #[test]
        fn numbers_survive(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let mut rest = &out[..];
            prop_assert_eq!(take_varint(&mut rest), Ok(value));
            prop_assert!(rest.is_empty());
            prop_assert_eq!(peek_varint(&out[..out.len() - 1]), Ok(None));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Fields::new(&bytes).count();
        }
    }
}
