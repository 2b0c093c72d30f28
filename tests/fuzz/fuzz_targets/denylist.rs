//! Any list, in one part and in two: no panic, the same rules and the same bad lines; and what a plain line names is
//! blocked, unless a later line says otherwise.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_ipfs_proto::content_path::ContentPath;
use swarmgate_ipfs_proto::denylist::{Denylist, MAX_REPORTED, Parser};

fuzz_target!(|input: &[u8]| {
    let (list, errors, bad) = Denylist::parse(input);
    assert!(errors.len() <= MAX_REPORTED && errors.len() <= bad);
    let mut parser = Parser::default();
    let (head, tail) = input.split_at(input.len() / 3);
    parser.push(head);
    parser.push(tail);
    let (again, again_errors, again_bad) = parser.finish();
    assert_eq!((again.len(), again_errors, again_bad), (list.len(), errors, bad));
    let Ok(text) = std::str::from_utf8(input) else { return };
    let last = text.lines().last().unwrap_or_default();
    if !last.contains(['*', ' ', '\t', '\r'])
        && last.len() < 1000
        && text.ends_with(last)
        && let Ok(path) = ContentPath::from_url_path(last)
    {
        assert!(list.check(&path).is_some(), "{last}");
    }
});
