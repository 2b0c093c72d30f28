//! The index of references against a plain map, and what it tells the disk against what it knows itself.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use swarmgate_content::HashKind;

use super::*;
use crate::verify::{VerifiedBlock, Verifier};

const BLOCKS: u8 = 6;
const FILES: u8 = 4;

/// Files of 2^56 bytes that nobody opens.
fn origin(number: u8) -> Arc<Origin> {
    let mut row = vec![0; 36];
    row[0] = 1;
    row.extend_from_slice(format!("/file {number}").as_bytes());
    Arc::new(Origin::from_row(&row).unwrap())
}

/// Blocks of 4 bytes and more, each of a kind of its own.
fn blocks() -> Vec<VerifiedBlock> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let kinds = [HashKind::Sha1, HashKind::Sha2_256, HashKind::Blake3].into_iter().cycle();
    let numbers = (0..BLOCKS).zip(kinds);
    let blocks = numbers.map(|(number, kind)| {
        let bytes = vec![number; 4 + usize::from(number)];
        runtime.block_on(Verifier::new(1).verify(kind.hash(&bytes), bytes.into())).unwrap()
    });
    blocks.collect()
}

/// A block in one file after the other: a byte in each, and the rest in the last. Of an odd number of files, the block's
/// last byte is said to be padding.
fn reference(block: &VerifiedBlock, files: &[u8]) -> Reference {
    let zeros = u32::try_from(files.len() % 2).unwrap();
    let mut left = u32::try_from(block.bytes().len()).unwrap() - zeros;
    let mut parts = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let len = if at + 1 == files.len() { left } else { 1 };
        left -= len;
        parts.push(Part { origin: origin(*file), offset: 7 * at as u64, len });
    }
    Reference::make(*block.hash(), block.bytes().len() as u64, parts, zeros).unwrap()
}

#[derive(Default)]
struct OnDisk {
    files: BTreeMap<u64, Arc<Origin>>,
    rows: BTreeMap<Key, Box<[Span]>>,
}

impl OnDisk {
    fn apply(&mut self, edit: Edit) {
        self.files.extend(edit.new_files);
        self.rows.extend(edit.rows);
        edit.dropped.iter().for_each(|key| assert!(self.rows.remove(key).is_some()));
        edit.gone_files.iter().for_each(|number| assert!(self.files.remove(number).is_some()));
    }

    fn opened_again(&self) -> (References, Edit) {
        let (mut references, mut edit) = (References::default(), Edit::default());
        for (number, origin) in &self.files {
            references.found_file(*number, Origin::from_row(&origin.to_row()).unwrap());
        }
        for (key, spans) in &self.rows {
            assert!(references.found(*key, 0, Span::from_row(&Span::to_row(spans)).unwrap()));
        }
        references.drop_idle_files(&mut edit);
        (references, edit)
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Insert(u8, Vec<u8>),
    Remove(u8),
    /// Of a reference that is not there any more.
    RemoveLate(u8),
    SetAside(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..BLOCKS, vec(0..FILES, 1..4)).prop_map(|(block, files)| Deed::Insert(block, files)),
        2 => (0..BLOCKS).prop_map(Deed::Remove),
        1 => (0..BLOCKS).prop_map(Deed::RemoveLate),
        1 => (0..FILES).prop_map(Deed::SetAside),
    ]
}

proptest! {
    #[test]
    fn the_index_agrees_with_a_plain_map_and_the_disk_with_the_index(deeds in vec(deed(), 0..60)) {
        let blocks = blocks();
        let key = |block: u8| Key::from(blocks[usize::from(block)].hash());
        let (mut references, mut disk) = (References::default(), OnDisk::default());
        let mut model: BTreeMap<u8, (u64, Reference, Vec<u8>)> = BTreeMap::new();
        let mut away = BTreeSet::new();
        for (generation, deed) in (1..).zip(deeds) {
            let mut edit = Edit::default();
            match deed {
                Deed::Insert(block, files) => {
                    let reference = reference(&blocks[usize::from(block)], &files);
                    references.insert(generation, &reference, &mut edit);
                    away.retain(|file| !files.contains(file));
                    model.insert(block, (generation, reference, files));
                }
                Deed::Remove(block) => {
                    let there = model.remove(&block).is_some();
                    prop_assert_eq!(references.remove(&key(block), None, &mut edit), there);
                }
                Deed::RemoveLate(block) => prop_assert!(!references.remove(&key(block), Some(0), &mut edit)),
                Deed::SetAside(file) => {
                    references.set_aside(&origin(file));
                    away.insert(file);
                }
            }
            disk.apply(edit);
            // A file in which nothing is left is forgotten, and with it that it was away.
            let used: BTreeSet<u8> = model.values().flat_map(|(_, _, files)| files.iter().copied()).collect();
            away.retain(|file| used.contains(file));
            prop_assert_eq!((references.files.len(), references.numbers.len()), (used.len(), used.len()));
            prop_assert_eq!(references.len(), model.len());
            let bytes: u64 = model.values().map(|(_, reference, _)| u64::from(reference.len())).sum();
            prop_assert_eq!(references.bytes(), bytes);
            for block in 0..BLOCKS {
                let expected = model.get(&block);
                let here = expected.filter(|(_, _, files)| files.iter().all(|file| !away.contains(file)));
                let here = here.map(|(generation, reference, _)| (reference.len(), *generation));
                let found = references.get(&key(block)).map(|found| (found.len, found.generation));
                prop_assert_eq!(found, here);
                let parts = expected.map(|(_, reference, _)| reference.parts().to_vec());
                let generation = expected.map_or(0, |(generation, ..)| *generation);
                prop_assert_eq!(references.parts(&key(block), generation), parts);
            }
        }
        let (again, edit) = disk.opened_again();
        prop_assert!(edit.is_empty());
        for (block, (_, reference, _)) in &model {
            let parts = again.parts(&key(*block), 0);
            prop_assert_eq!(parts.as_deref(), Some(reference.parts()));
        }
        prop_assert_eq!((again.len(), again.bytes()), (references.len(), references.bytes()));
    }
}

#[test]
fn a_row_that_names_no_file_or_is_cut_is_no_reference() {
    let block = blocks().remove(0);
    let mut references = References::default();
    let span = Span { file: 3, offset: 0, len: 4 };
    assert!(!references.found(Key::from(block.hash()), 1, [span].into()));
    references.found_file(3, Origin::clone(&origin(0)));
    assert!(references.found(Key::from(block.hash()), 1, [span].into()));
    let row = Span::to_row(&[span, span]);
    assert_eq!(Span::from_row(&row).as_deref(), Some(&[span, span][..]));
    for cut in [0, 1, SPAN_BYTES - 1, SPAN_BYTES + 1] {
        assert_eq!(Span::from_row(&row[..cut]), None);
    }
    let mut edit = Edit::default();
    references.found_file(9, Origin::clone(&origin(1)));
    references.drop_idle_files(&mut edit);
    assert_eq!(edit.gone_files, [9]);
}

#[test]
fn a_file_is_told_of_once_until_it_is_added_again() {
    let block = blocks().remove(0);
    let (mut references, mut edit) = (References::default(), Edit::default());
    references.insert(1, &reference(&block, &[0]), &mut edit);
    assert!(references.tell_once(&origin(0)));
    assert!(!references.tell_once(&origin(0)));
    assert!(!references.tell_once(&origin(1)), "nobody knows it");
    references.insert(2, &reference(&block, &[0]), &mut edit);
    assert!(references.tell_once(&origin(0)));
}

#[test]
fn parts_that_are_not_the_block_make_no_reference() {
    let block = blocks().remove(0);
    let part = |offset, len| Part { origin: origin(0), offset, len };
    for parts in [
        vec![],
        vec![part(0, 3)],
        vec![part(0, 3), part(9, 2)],
        vec![part((1 << 56) - 3, 4)],
        vec![part(u64::MAX, 4)],
        vec![part(0, u32::MAX), part(0, 5)],
        [vec![part(0, 0); MAX_PARTS], vec![part(0, 4)]].concat(),
    ] {
        assert_eq!(Reference::new(&block, parts), None);
    }
    assert!(Reference::new(&block, vec![part((1 << 56) - 4, 4)]).is_some());
    assert!(Reference::new(&block, [vec![part(0, 0); MAX_PARTS - 1], vec![part(0, 4)]].concat()).is_some());
}
