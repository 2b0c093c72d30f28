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
    let mut offset = 0;
    for file in &info.files {
        assert_eq!(file.offset, offset);
        assert!(!file.path.is_empty());
        for part in &file.path {
            assert!(!matches!(part.as_str(), "" | "." | "..") && !part.contains(['/', '\\', '\0']));
        }
        offset += file.len;
    }
    let pieces = u32::try_from(info.pieces.count()).expect("the hashes fit the input");
    assert_eq!((0..pieces).map(|index| u64::from(info.piece_size(index))).sum::<u64>(), offset);
    assert_eq!(info.total_len, offset);
}
