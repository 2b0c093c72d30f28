//! How deep and how many: counted over the bytes, before they are decoded.

use crate::block::{Flaw, MAX_DEPTH};

/// The most values that one block of IPLD data may have; a hundred bytes in memory each. A block of 1 MiB full of links
/// has 26,000.
pub const MAX_VALUES: usize = 1 << 18;

/// Walks over one CBOR value, without indefinite lengths (DAG-CBOR has none), that must fill the block.
pub(super) fn check_cbor(block: &[u8]) -> Result<(), Flaw> {
    let truncated = || Flaw::malformed("dag-cbor", "it ends within a value");
    let mut rest = block;
    // How many values are still missing on each level.
    let mut missing = vec![1_u64];
    let mut values = 0;
    while let Some(count) = missing.last_mut() {
        if *count == 0 {
            missing.pop();
            continue;
        }
        *count -= 1;
        values += 1;
        if values > MAX_VALUES {
            return Err(Flaw::TooManyLinks);
        }
        let (major, argument) = head(&mut rest)?;
        let inner = match major {
            2 | 3 => {
                let len = usize::try_from(argument).map_err(|_| truncated())?;
                rest = rest.get(len..).ok_or_else(truncated)?;
                continue;
            }
            4 => argument,
            5 => argument.checked_mul(2).ok_or_else(truncated)?,
            6 => 1,
            _ => continue,
        };
        if missing.len() > usize::from(MAX_DEPTH) {
            return Err(Flaw::TooDeep);
        }
        missing.push(inner);
    }
    if rest.is_empty() { Ok(()) } else { Err(Flaw::malformed("dag-cbor", "there are bytes after its value")) }
}

/// Takes the head of a value: its major type and argument.
fn head(rest: &mut &[u8]) -> Result<(u8, u64), Flaw> {
    let truncated = || Flaw::malformed("dag-cbor", "it ends within a value");
    let (&first, after) = rest.split_first().ok_or_else(truncated)?;
    let len = match first & 0x1f {
        small @ 0..=23 => {
            *rest = after;
            return Ok((first >> 5, small.into()));
        }
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return Err(Flaw::malformed("dag-cbor", "it has a value of indefinite length")),
    };
    let (bytes, after) = after.split_at_checked(len).ok_or_else(truncated)?;
    *rest = after;
    Ok((first >> 5, bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))))
}

/// Counts brackets and commas outside of strings; whether they are in the right places is for the decoder to see.
pub(super) fn check_json(block: &[u8]) -> Result<(), Flaw> {
    let (mut depth, mut values) = (0_u16, 1);
    let mut quoted = false;
    let mut bytes = block.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => {
                bytes.next();
            }
            _ if quoted => {}
            b'[' | b'{' => {
                depth += 1;
                values += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Flaw::TooDeep);
        }
        if values > MAX_VALUES {
            return Err(Flaw::TooManyLinks);
        }
    }
    Ok(())
}
