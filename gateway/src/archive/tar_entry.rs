//! The heads of a tar's entries (POSIX.1-2017, pax Interchange Format).
//!
//! What fits goes into a ustar header; longer names, names that are not ASCII and larger files get a pax header before
//! it. Nothing in them depends on the time or the machine.

use bytes::Bytes;

/// A tar is made of blocks of so many bytes.
pub const BLOCK_BYTES: u64 = 512;

/// Largest size that ustar's eleven octal digits hold.
const MAX_OCTAL_SIZE: u64 = 0o777_7777_7777;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// So many bytes.
    File(u64),
    /// Names below it.
    Directory,
    /// A symlink to there.
    Symlink(&'a [u8]),
}

/// What stands before an entry's bytes.
#[must_use]
pub fn head(name: &str, kind: Kind<'_>) -> Bytes {
    let name = if matches!(kind, Kind::Directory) { format!("{name}/") } else { name.to_owned() };
    let (size, target, flag, mode) = match kind {
        Kind::File(size) => (size, &b""[..], b'0', 0o644),
        Kind::Directory => (0, &b""[..], b'5', 0o755),
        Kind::Symlink(target) => (0, target, b'2', 0o777),
    };
    let mut records = Vec::new();
    if !fits(name.as_bytes()) {
        push_record(&mut records, "path", name.as_bytes());
    }
    if !fits(target) {
        push_record(&mut records, "linkpath", target);
    }
    if size > MAX_OCTAL_SIZE {
        push_record(&mut records, "size", size.to_string().as_bytes());
    }
    let mut out = Vec::new();
    if !records.is_empty() {
        out.extend_from_slice(&ustar(b"pax", b"", records.len() as u64, b'x', 0o644));
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(records.len() as u64).len(), 0);
    }
    out.extend_from_slice(&ustar(name.as_bytes(), target, size.min(MAX_OCTAL_SIZE), flag, mode));
    out.into()
}

/// What stands behind an entry of so many bytes.
#[must_use]
pub fn padding(size: u64) -> &'static [u8] {
    const ZEROS: &[u8] = &[0; 512];
    let over = size.next_multiple_of(BLOCK_BYTES) - size;
    &ZEROS[..usize::try_from(over).unwrap_or(0)]
}

/// What stands behind all entries.
#[must_use]
pub const fn end() -> &'static [u8] {
    &[0; 1024]
}

/// Whether a text has its place in a ustar header. The first 100 bytes of a longer one are there for old readers.
fn fits(text: &[u8]) -> bool {
    text.len() <= 100 && text.is_ascii()
}

fn ustar(name: &[u8], target: &[u8], size: u64, flag: u8, mode: u32) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name[..name.len().min(100)]);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[flag]);
    put(157, &target[..target.len().min(100)]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// A record is its own length, a key and a value.
fn push_record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(format!("{len} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Where an entry of a directory lies in the archive: its name below `directory`, with what is folded in it unfolded.
/// `None` when that would be the archive's root, or outside of it.
#[must_use]
pub fn join(directory: &[String], name: &str) -> Option<Vec<String>> {
    let mut path = directory.to_vec();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            part => path.push(part.to_owned()),
        }
        if path.is_empty() {
            return None;
        }
    }
    // The first component is the root's own name.
    (path.len() > 1).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn octal(field: &[u8]) -> u64 {
        let text = std::str::from_utf8(field).unwrap().trim_end_matches(['\0', ' ']);
        u64::from_str_radix(text, 8).unwrap()
    }

    #[test]
    fn a_header_has_its_fields_in_their_places_and_its_sum() {
        let head = head("a/b.txt", Kind::File(5));
        assert_eq!(head.len(), 512);
        assert!(head.starts_with(b"a/b.txt\0"));
        assert_eq!((octal(&head[100..108]), octal(&head[124..136]), head[156]), (0o644, 5, b'0'));
        assert_eq!(&head[257..265], b"ustar\x0000");
        let without: u64 = head
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        assert_eq!(octal(&head[148..156]), without);
    }

    #[test]
    fn directories_end_in_a_slash_and_symlinks_have_a_target() {
        assert!(head("a", Kind::Directory).starts_with(b"a/\0"));
        let link = head("a", Kind::Symlink(b"../b"));
        assert_eq!((&link[157..162], link[156]), (&b"../b\0"[..], b'2'));
    }

    #[test]
    fn what_does_not_fit_goes_before() {
        let head = head("ą", Kind::File(1 << 40));
        assert_eq!((head.len(), head[156]), (1536, b'x'));
        let records = std::str::from_utf8(&head[512..1024]).unwrap().trim_end_matches('\0');
        assert_eq!(records, "11 path=ą\n22 size=1099511627776\n");
        let mut records = Vec::new();
        push_record(&mut records, "path", &[b'x'; 91]);
        assert!(records.starts_with(b"101 path=") && records.len() == 101);
    }

    #[test]
    fn entries_are_padded_to_whole_blocks() {
        assert_eq!([0, 1, 511, 512, 513].map(|size| padding(size).len()), [0, 511, 1, 0, 511]);
    }

    #[test]
    fn no_entry_leaves_the_archive() {
        let directory = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        let joined = |at: &str, name: &str| join(&directory(at), name).map(|path| path.join("/"));
        assert_eq!(joined("r", "a").as_deref(), Some("r/a"));
        assert_eq!(joined("r/a/b", "../c").as_deref(), Some("r/a/c"));
        for (at, name) in
            [("r", "../a"), ("r", ".."), ("r", "."), ("r/a", "../../r/x/../../y"), ("r/a", "../.."), ("r", "")]
        {
            assert_eq!(joined(at, name), None, "{at} {name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_joined_lies_below_the_root(name in "[a./]{0,20}") {
            if let Some(path) = join(&["r".to_owned(), "s".to_owned()], &name) {
                prop_assert!(path.len() > 1 && path[0] == "r" && path.iter().all(|part| !part.is_empty() && part != ".."));
            }
        }
    }
}
