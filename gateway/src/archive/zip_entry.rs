//! What stands around the files of a zip (PKWARE's APPNOTE 6.3.10), for files that are stored as they are, and what
//! directories and symlinks are in it.
//!
//! A file's sum stands behind it (§4.3.9), since it is not known before the file was sent. Sizes and places that four bytes
//! do not hold get the fields of ZIP64 (§4.5.3). Nothing depends on the time or the machine.

use std::fmt;

/// The sum of a file's bytes.
#[derive(Clone, Default)]
pub struct Crc(crc32fast::Hasher);

impl Crc {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

impl fmt::Debug for Crc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc({:08x})", self.0.clone().finalize())
    }
}

/// Names are UTF-8 (bit 11).
const NAMED: u16 = 0x0800;
/// The same, and sums stand behind (bit 3).
const SUMMED_BEHIND: u16 = 0x0808;
/// The first day that a zip can name.
const DATE: u16 = (1 << 5) | 1;
/// The version that a reader needs: of ZIP64, and of the rest.
const NEEDS_64: u16 = 45;
const NEEDS: u16 = 20;
/// What stands where a field is too narrow, and the fields of ZIP64 hold it.
const ELSEWHERE_32: u32 = u32::MAX;
const ELSEWHERE_16: u16 = u16::MAX;
/// The extra field of ZIP64.
const ZIP64: u16 = 0x0001;
/// What an entry is and who may do what, as UNIX says it, above what DOS does: a plain file that its owner may write and
/// all may read, a directory in which all may look, a symlink.
const PLAIN: u32 = 0o100_644 << 16;
const DIRECTORY: u32 = (0o040_755 << 16) | 0x10;
const SYMLINK: u32 = 0o120_777 << 16;

/// An entry that is no file. It is known in full before it is sent, so nothing stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special<'a> {
    /// Names below it.
    Directory,
    /// A symlink to there.
    Symlink(&'a [u8]),
}

/// Makes what stands around the files, in their order: [`begin`](Self::begin), the file, [`end`](Self::end), and so on.
#[derive(Debug, Default)]
pub struct ZipWriter {
    /// Bytes of all that was made, files included.
    at: u64,
    files: u64,
    directory: Vec<u8>,
    open: Option<Open>,
}

/// The file that is being sent.
#[derive(Debug)]
struct Open {
    name: Vec<u8>,
    len: u64,
    begins: u64,
    flags: u16,
    attributes: u32,
}

impl Open {
    fn is_wide(&self) -> bool {
        self.len >= u64::from(ELSEWHERE_32)
    }
}

impl ZipWriter {
    /// What stands before a file of `len` bytes. Names of more than 65 535 bytes are cut.
    pub fn begin(&mut self, name: &str, len: u64) -> Vec<u8> {
        let (name, begins) = (cut(name), self.at);
        let open = Open { name, len, begins, flags: SUMMED_BEHIND, attributes: PLAIN };
        let wide = open.is_wide();
        let mut out = Fields::default();
        out.u32(0x0403_4b50).u16(if wide { NEEDS_64 } else { NEEDS }).u16(open.flags).u16(0).u16(0).u16(DATE);
        // Sum and sizes stand behind the file.
        let size = if wide { ELSEWHERE_32 } else { 0 };
        out.u32(0).u32(size).u32(size).len16(&open.name).u16(if wide { 20 } else { 0 }).bytes(&open.name);
        if wide {
            out.u16(ZIP64).u16(16).u64(0).u64(0);
        }
        self.at = self.at.saturating_add(out.0.len() as u64).saturating_add(len);
        self.open = Some(open);
        out.0
    }

    /// What stands behind the file that was begun last; nothing, when none was.
    pub fn end(&mut self, crc: Crc) -> Vec<u8> {
        let Some(open) = self.open.take() else { return Vec::new() };
        let crc = crc.0.finalize();
        let mut out = Fields::default();
        out.u32(0x0807_4b50).u32(crc);
        if open.is_wide() {
            out.u64(open.len).u64(open.len);
        } else {
            out.narrow(open.len).narrow(open.len);
        }
        self.at = self.at.saturating_add(out.0.len() as u64);
        self.files += 1;
        self.list(&open, crc);
        out.0
    }

    /// All of an entry that is no file.
    pub fn special(&mut self, name: &str, what: Special<'_>) -> Vec<u8> {
        let (name, bytes, attributes) = match what {
            Special::Directory => (cut(&format!("{name}/")), &b""[..], DIRECTORY),
            Special::Symlink(target) => (cut(name), target, SYMLINK),
        };
        let mut crc = Crc::default();
        crc.update(bytes);
        let crc = crc.0.finalize();
        let open = Open { name, len: bytes.len() as u64, begins: self.at, flags: NAMED, attributes };
        let mut out = Fields::default();
        out.u32(0x0403_4b50).u16(NEEDS).u16(open.flags).u16(0).u16(0).u16(DATE).u32(crc);
        out.narrow(open.len).narrow(open.len).len16(&open.name).u16(0).bytes(&open.name).bytes(bytes);
        self.at = self.at.saturating_add(out.0.len() as u64);
        self.files += 1;
        self.list(&open, crc);
        out.0
    }

    /// Bytes that are kept until the end: what the central directory has so far.
    #[must_use]
    pub const fn directory_bytes(&self) -> usize {
        self.directory.len()
    }

    /// Puts a file into the central directory (§4.3.12).
    fn list(&mut self, open: &Open, crc: u32) {
        let mut wide = Fields::default();
        if open.is_wide() {
            wide.u64(open.len).u64(open.len);
        }
        if open.begins >= u64::from(ELSEWHERE_32) {
            wide.u64(open.begins);
        }
        let (extra, needs) = if wide.0.is_empty() { (0, NEEDS) } else { (4 + wide.0.len(), NEEDS_64) };
        let mut out = Fields(std::mem::take(&mut self.directory));
        // Made by this version on UNIX.
        out.u32(0x0201_4b50).u16((3 << 8) | NEEDS_64).u16(needs).u16(open.flags).u16(0).u16(0).u16(DATE).u32(crc);
        out.narrow(open.len).narrow(open.len).len16(&open.name).u16(u16::try_from(extra).unwrap_or(0)).u16(0).u16(0);
        out.u16(0).u32(open.attributes).narrow(open.begins).bytes(&open.name);
        if !wide.0.is_empty() {
            out.u16(ZIP64).len16(&wide.0).bytes(&wide.0);
        }
        self.directory = out.0;
    }

    /// What stands behind all files.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let Self { at, files, directory, .. } = self;
        let len = directory.len() as u64;
        let mut out = Fields(directory);
        let narrow_files = u16::try_from(files).unwrap_or(ELSEWHERE_16);
        if narrow_files == ELSEWHERE_16 || at >= u64::from(ELSEWHERE_32) || len >= u64::from(ELSEWHERE_32) {
            out.u32(0x0606_4b50).u64(44).u16((3 << 8) | NEEDS_64).u16(NEEDS_64).u32(0).u32(0);
            out.u64(files).u64(files).u64(len).u64(at);
            out.u32(0x0706_4b50).u32(0).u64(at.saturating_add(len)).u32(1);
        }
        out.u32(0x0605_4b50).u16(0).u16(0).u16(narrow_files).u16(narrow_files).narrow(len).narrow(at).u16(0);
        out.0
    }
}

/// A name of no more bytes than its length has room for.
fn cut(name: &str) -> Vec<u8> {
    let mut name = name.as_bytes().to_vec();
    name.truncate(usize::from(u16::MAX));
    name
}

/// Little-endian fields, one behind the other.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A value, or the word that it stands elsewhere.
    fn narrow(&mut self, value: u64) -> &mut Self {
        self.u32(u32::try_from(value).unwrap_or(ELSEWHERE_32))
    }

    /// How many bytes these are.
    fn len16(&mut self, of: &[u8]) -> &mut Self {
        self.u16(u16::try_from(of.len()).unwrap_or(ELSEWHERE_16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Cursor, Read as _};

    fn zipped(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let (mut zip, mut out) = (ZipWriter::default(), Vec::new());
        for (name, bytes) in files {
            out.extend(zip.begin(name, bytes.len() as u64));
            out.extend(bytes);
            let mut crc = Crc::default();
            crc.update(bytes);
            out.extend(zip.end(crc));
        }
        out.extend(zip.finish());
        out
    }

    proptest! {
        #[test]
        fn another_reader_finds_every_file(
            files in prop::collection::btree_map("[a-zé/]{1,40}", prop::collection::vec(any::<u8>(), 0..300), 0..20),
        ) {
            let files: Vec<_> = files.into_iter().filter(|(name, _)| !name.ends_with('/')).collect();
            let mut read = zip::ZipArchive::new(Cursor::new(zipped(&files))).unwrap();
            prop_assert_eq!(read.len(), files.len());
            for (index, (name, bytes)) in files.iter().enumerate() {
                let mut file = read.by_index(index).unwrap();
                prop_assert_eq!(file.name(), name);
                let mut found = Vec::new();
                // Reading to the end compares the sum.
                file.read_to_end(&mut found).unwrap();
                prop_assert_eq!(&found, bytes);
            }
        }
    }

    #[test]
    fn directories_and_symlinks_are_what_they_are_to_another_reader() {
        let (mut zip, mut out) = (ZipWriter::default(), Vec::<u8>::new());
        out.extend(zip.special("a", Special::Directory));
        out.extend(zip.begin("a/b", 2));
        out.extend(b"hi");
        let mut crc = Crc::default();
        crc.update(b"hi");
        out.extend(zip.end(crc));
        out.extend(zip.special("a/c", Special::Symlink(b"b")));
        assert!(zip.directory_bytes() > 3 * 46);
        out.extend(zip.finish());
        let mut read = zip::ZipArchive::new(Cursor::new(out)).unwrap();
        assert_eq!(read.len(), 3);
        for (index, name, mode, bytes) in
            [(0, "a/", 0o040_755, ""), (1, "a/b", 0o100_644, "hi"), (2, "a/c", 0o120_777, "b")]
        {
            let mut entry = read.by_index(index).unwrap();
            assert_eq!((entry.name(), entry.unix_mode(), entry.is_dir()), (name, Some(mode), index == 0));
            let mut found = String::new();
            entry.read_to_string(&mut found).unwrap();
            assert_eq!(found, bytes);
        }
    }

    #[test]
    fn many_files_need_the_wide_fields() {
        let files: Vec<_> = (0..70_000).map(|number| (number.to_string(), Vec::new())).collect();
        let read = zip::ZipArchive::new(Cursor::new(zipped(&files))).unwrap();
        assert_eq!(read.len(), 70_000);
    }

    #[test]
    fn a_large_file_and_what_is_behind_it_are_found_by_the_wide_fields() {
        const LARGE: u64 = 5 << 30;
        let mut zip = ZipWriter::default();
        let head = zip.begin("large", LARGE).len() as u64;
        let behind = zip.end(Crc::default()).len() as u64;
        zip.begin("small", 3);
        zip.end(Crc::default());
        let (at, end) = (zip.at, zip.finish());
        let mut sparse = Sparse { before: at, end, position: 0 };
        let read = zip::ZipArchive::new(&mut sparse).unwrap();
        assert_eq!(read.file_names().collect::<Vec<_>>(), ["large", "small"]);
        drop(read);
        let place = (head + LARGE + behind).to_le_bytes();
        assert!(sparse.end.windows(8).any(|field| field == place), "where the second begins");
    }

    /// A zip of which only the end is there; what is before it reads as zeros.
    struct Sparse {
        before: u64,
        end: Vec<u8>,
        position: u64,
    }

    impl std::io::Read for Sparse {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let byte = |at: u64| match at.checked_sub(self.before) {
                Some(at) => usize::try_from(at).ok().and_then(|at| self.end.get(at)).copied(),
                None => Some(0),
            };
            let bytes: Vec<u8> = (self.position..self.position + out.len() as u64).map_while(byte).collect();
            out[..bytes.len()].copy_from_slice(&bytes);
            self.position += bytes.len() as u64;
            Ok(bytes.len())
        }
    }

    impl std::io::Seek for Sparse {
        fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
            let end = self.before + self.end.len() as u64;
            self.position = match to {
                std::io::SeekFrom::Start(at) => at,
                std::io::SeekFrom::End(by) => end.saturating_add_signed(by),
                std::io::SeekFrom::Current(by) => self.position.saturating_add_signed(by),
            };
            Ok(self.position)
        }
    }
}
