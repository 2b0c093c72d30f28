//! Any bytes as the record of a name, as a name and as a content path: no panic, and what is read prints to what reads the
//! same. Signatures are not found by chance, so the record is also tried with the input as its signed data.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use swarmgate_ipfs_proto::content_path::ContentPath;
use swarmgate_ipfs_proto::dnslink::{choose, host_of_label, label_of_host};
use swarmgate_ipfs_proto::ipns::{Name, Record};

fuzz_target!(|input: &[u8]| {
    let name: Name = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8".parse().expect("a name");
    assert!(Record::parse(&name, Bytes::copy_from_slice(input)).is_err(), "a signature was forged");
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(name) = text.parse::<Name>() {
        assert_eq!(name.to_string().parse(), Ok(name));
        assert_eq!(name.peer_id().to_base58().parse(), Ok(name));
    }
    if let Ok(path) = text.parse::<ContentPath>() {
        assert!(
            path.segments().iter().all(|name| !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']))
        );
        let printed = path.to_string();
        // Escaping may lengthen it past the limit, which is the one way to fail.
        if printed.len() < 16 << 10 {
            assert_eq!(ContentPath::from_url_path(&printed).as_ref(), Ok(&path));
        }
        assert_eq!(ContentPath::from_plain(&path.to_plain()).as_ref(), Ok(&path));
    }
    if let Some(host) = host_of_label(text) {
        assert!(!label_of_host(&host).contains('.'));
    }
    let _ = choose(text.lines());
});
