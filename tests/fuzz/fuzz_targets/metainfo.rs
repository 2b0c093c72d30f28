//! Any bytes as a `.torrent` and as an `info`: no panic, and what is read keeps its promises.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::metainfo::{Info, Metainfo};

fuzz_target!(|input: &[u8]| {
    let input = Bytes::copy_from_slice(input);
    if let Ok(metainfo) = Metainfo::parse(&input) {
        check(&metainfo.info);
        let again = Metainfo::parse(&metainfo.to_torrent().into()).expect("what was written can be read");
        assert_eq!((again.infohash, again.announce), (metainfo.infohash, metainfo.announce));
    }
    if let Ok(info) = Info::parse(&input) {
        check(&info);
    }
});

fn check(info: &Info) {
    let alone = info.pieces.count() == 0;
    let mut offset = 0;
    for file in &info.files {
        assert!(if alone { file.offset.is_multiple_of(info.piece_len.into()) } else { file.offset == offset });
        assert!(file.offset >= offset, "no two files overlap");
        assert!(!file.path.is_empty());
        for part in &file.path {
            assert!(!matches!(part.as_str(), "" | "." | "..") && !part.contains(['/', '\\', '\0']));
        }
        offset = file.offset + file.len;
    }
    let geometry = info.geometry();
    let pieces = info.piece_count();
    assert_eq!(geometry.pieces(), pieces);
    let real: u64 = (0..pieces).map(|index| u64::from(info.piece_size(index))).sum();
    assert_eq!(real, info.files.iter().map(|file| file.len).sum::<u64>());
    assert!(real <= info.total_len);
    if let Some(tree) = &info.tree {
        assert_eq!(tree.pieces(), pieces);
        assert!(info.roots.as_ref().is_none_or(|roots| tree.accepts(roots)));
    }
}
