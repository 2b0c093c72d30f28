//! Finds where a padding of unknown length ends.

use super::{MAX_PAD, MseError};

/// Looks for `mark` behind a padding of at most [`MAX_PAD`] bytes. `None`: not yet; else the padding's length.
pub(super) fn find(input: &[u8], mark: &[u8]) -> Result<Option<usize>, MseError> {
    let within = &input[..input.len().min(MAX_PAD + mark.len())];
    if let Some(at) = within.windows(mark.len()).position(|window| window == mark) {
        return Ok(Some(at));
    }
    if within.len() == MAX_PAD + mark.len() { Err(MseError::NoSync) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_behind_the_longest_padding_and_not_behind_a_longer_one() {
        let behind = |pad: usize| [vec![0; pad], b"mark".to_vec(), vec![0; 9]].concat();
        assert_eq!(find(&behind(0), b"mark"), Ok(Some(0)));
        assert_eq!(find(&behind(MAX_PAD), b"mark"), Ok(Some(MAX_PAD)));
        assert_eq!(find(&behind(MAX_PAD + 1), b"mark"), Err(MseError::NoSync));
        assert_eq!(find(&behind(MAX_PAD)[..MAX_PAD + 3], b"mark"), Ok(None));
        assert_eq!(find(b"", b"mark"), Ok(None));
    }
}
