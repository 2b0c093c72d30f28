//! Blocks that are not copied into the store but lie in files of somebody else's: which block, in which parts of which
//! files. [`origin`] knows a file and how to open it, [`refer`] how references come and go, [`read`] how their bytes
//! come out.
//!
//! A reference lives as long as something pins its block. It takes nothing of the budget, and is never evicted.
//!
//! This index is pure: no I/O, no clock. What the index on disk has to learn is written into an [`Edit`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::key::Key;

mod origin;
pub(crate) mod read;
mod refer;

pub use origin::Origin;
pub(crate) use refer::drop_reference;
pub use refer::{MAX_PARTS, MAX_REFERENCES, Part, Reference};

/// A part of a block, in a file that is known by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) file: u64,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// How many bytes a [`Span`] takes in the index on disk.
const SPAN_BYTES: usize = 8 + 8 + 4;
/// The number that no file has: a span of it is zeros, which lie nowhere.
const NO_FILE: u64 = u64::MAX;

impl Span {
    /// The zeros at the end of a block.
    const fn zeros(len: u32) -> Self {
        Self { file: NO_FILE, offset: 0, len }
    }

    const fn is_zeros(&self) -> bool {
        self.file == NO_FILE
    }

    /// Spans as a row of the index.
    pub(crate) fn to_row(spans: &[Self]) -> Vec<u8> {
        let mut row = Vec::with_capacity(spans.len() * SPAN_BYTES);
        for span in spans {
            row.extend_from_slice(&span.file.to_be_bytes());
            row.extend_from_slice(&span.offset.to_be_bytes());
            row.extend_from_slice(&span.len.to_be_bytes());
        }
        row
    }

    /// Reads [`Self::to_row`] back, or `None` when it is damaged.
    pub(crate) fn from_row(row: &[u8]) -> Option<Box<[Self]>> {
        if row.is_empty() || !row.len().is_multiple_of(SPAN_BYTES) {
            return None;
        }
        row.chunks_exact(SPAN_BYTES).map(Self::read).collect()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (file, rest) = bytes.split_first_chunk()?;
        let (offset, len) = rest.split_first_chunk()?;
        let len = u32::from_be_bytes(len.try_into().ok()?);
        Some(Self { file: u64::from_be_bytes(*file), offset: u64::from_be_bytes(*offset), len })
    }
}

/// What is known of a referenced block besides its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Referenced {
    pub(crate) len: u32,
    /// Different for each time the block was referenced, so that a late reader cannot take the new for the old.
    pub(crate) generation: u64,
}

/// What the index on disk has to learn. New files and rows go before what is dropped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) new_files: Vec<(u64, Arc<Origin>)>,
    pub(crate) rows: Vec<(Key, Box<[Span]>)>,
    pub(crate) dropped: Vec<Key>,
    pub(crate) gone_files: Vec<u64>,
}

impl Edit {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The index of all references.
#[derive(Debug, Default)]
pub(crate) struct References {
    blocks: HashMap<Key, Block>,
    files: BTreeMap<u64, Lender>,
    /// The number of each file; one that was changed and added again is another file.
    numbers: HashMap<Arc<Origin>, u64>,
    /// Numbers are not used twice while the store is open.
    next_file: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Block {
    known: Referenced,
    spans: Box<[Span]>,
}

/// A file that blocks are referenced in.
#[derive(Debug)]
struct Lender {
    origin: Arc<Origin>,
    /// How many spans of blocks are in it; with the last it goes.
    spans: usize,
    /// The path leads to no file that can be read. Its blocks are not here until the next start, or until it is added
    /// again.
    away: bool,
    /// Somebody was told that it is not what it was.
    told: bool,
}

impl References {
    /// Takes up a file found at start.
    pub(crate) fn found_file(&mut self, number: u64, origin: Origin) {
        self.next_file = self.next_file.max(number.saturating_add(1));
        self.enter(number, Arc::new(origin));
    }

    /// Takes up a reference found at start; `false` when it names a file that was not found.
    pub(crate) fn found(&mut self, key: Key, generation: u64, spans: Box<[Span]>) -> bool {
        let Some(len) = length(&spans) else { return false };
        if spans.iter().any(|span| !span.is_zeros() && !self.files.contains_key(&span.file)) {
            return false;
        }
        for span in &spans {
            self.count_in(span.file);
        }
        self.bytes += u64::from(len);
        self.blocks.insert(key, Block { known: Referenced { len, generation }, spans });
        true
    }

    /// Lets files go in which nothing is referenced; at start, after the references were found.
    pub(crate) fn drop_idle_files(&mut self, edit: &mut Edit) {
        let idle: Vec<u64> = self.files.iter().filter(|(_, file)| file.spans == 0).map(|(number, _)| *number).collect();
        for number in idle {
            self.let_go(number, edit);
        }
    }

    /// Adds a reference, in place of the one that the block had. Its files are looked at again, whatever was thought of
    /// them.
    pub(crate) fn insert(&mut self, generation: u64, reference: &Reference, edit: &mut Edit) {
        let key = Key::from(reference.hash());
        let parts = reference.parts().iter().map(|part| self.span(part, edit));
        let zeros = Some(reference.zeros()).filter(|zeros| *zeros > 0).map(Span::zeros);
        let spans: Box<[Span]> = parts.chain(zeros).collect();
        // The old one goes last, so that a file which both are in stays.
        self.take_out(&key, edit);
        edit.rows.push((key, spans.clone()));
        self.bytes += u64::from(reference.len());
        self.blocks.insert(key, Block { known: Referenced { len: reference.len(), generation }, spans });
    }

    /// Whether a block is referenced, be its files there or not.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        self.blocks.contains_key(key)
    }

    /// Looks at a reference whose files may be there.
    pub(crate) fn get(&self, key: &Key) -> Option<Referenced> {
        let block = self.blocks.get(key)?;
        let mut in_files = block.spans.iter().filter(|span| !span.is_zeros());
        let away = in_files.any(|span| self.files.get(&span.file).is_none_or(|file| file.away));
        (!away).then_some(block.known)
    }

    /// Where a block lies, if it is still the reference of that generation. What it is longer than its parts is zeros.
    pub(crate) fn parts(&self, key: &Key, generation: u64) -> Option<Vec<Part>> {
        let block = self.blocks.get(key).filter(|block| block.known.generation == generation)?;
        let part = |span: &Span| {
            let origin = Arc::clone(&self.files.get(&span.file)?.origin);
            Some(Part { origin, offset: span.offset, len: span.len })
        };
        block.spans.iter().filter(|span| !span.is_zeros()).map(part).collect()
    }

    /// Drops a reference, of this generation if one is given; whether there was one.
    pub(crate) fn remove(&mut self, key: &Key, generation: Option<u64>, edit: &mut Edit) -> bool {
        let wanted = |block: &Block| generation.is_none_or(|generation| generation == block.known.generation);
        if !self.blocks.get(key).is_some_and(wanted) {
            return false;
        }
        self.take_out(key, edit);
        edit.dropped.push(*key);
        true
    }

    /// Notes that a file cannot be had.
    pub(crate) fn set_aside(&mut self, origin: &Origin) {
        if let Some(file) = self.file_mut(origin) {
            file.away = true;
        }
    }

    /// Whether this is the first to be told of a file that it is not what it was.
    pub(crate) fn tell_once(&mut self, origin: &Origin) -> bool {
        self.file_mut(origin).is_some_and(|file| !std::mem::replace(&mut file.told, true))
    }

    /// How many blocks are referenced.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The lengths of all referenced blocks together.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn file_mut(&mut self, origin: &Origin) -> Option<&mut Lender> {
        self.files.get_mut(self.numbers.get(origin)?)
    }

    /// A part by its file's number, which the file is given if it has none.
    fn span(&mut self, part: &Part, edit: &mut Edit) -> Span {
        let known = self.numbers.get(&part.origin).copied();
        let file = known.unwrap_or_else(|| {
            let number = self.next_file;
            self.next_file += 1;
            self.enter(number, Arc::clone(&part.origin));
            edit.new_files.push((number, Arc::clone(&part.origin)));
            number
        });
        if let Some(lender) = self.files.get_mut(&file) {
            lender.away = false;
            lender.told = false;
        }
        self.count_in(file);
        Span { file, offset: part.offset, len: part.len }
    }

    fn enter(&mut self, number: u64, origin: Arc<Origin>) {
        self.numbers.insert(Arc::clone(&origin), number);
        self.files.insert(number, Lender { origin, spans: 0, away: false, told: false });
    }

    fn count_in(&mut self, file: u64) {
        if let Some(lender) = self.files.get_mut(&file) {
            lender.spans += 1;
        }
    }

    fn take_out(&mut self, key: &Key, edit: &mut Edit) {
        let Some(block) = self.blocks.remove(key) else { return };
        self.bytes -= u64::from(block.known.len);
        for span in &block.spans {
            let Some(lender) = self.files.get_mut(&span.file) else { continue };
            lender.spans -= 1;
            if lender.spans == 0 {
                self.let_go(span.file, edit);
            }
        }
    }

    fn let_go(&mut self, number: u64, edit: &mut Edit) {
        let Some(lender) = self.files.remove(&number) else { return };
        // Another file's, when two rows of the index have named the same.
        if self.numbers.get(&lender.origin) == Some(&number) {
            self.numbers.remove(&lender.origin);
        }
        edit.gone_files.push(number);
    }
}

fn length(spans: &[Span]) -> Option<u32> {
    spans.iter().try_fold(0, |sum: u32, span| sum.checked_add(span.len))
}

#[cfg(test)]
mod tests;
