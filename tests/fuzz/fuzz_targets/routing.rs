//! Any answer of a delegated router, at once or line by line in two parts: no panic, and the bounds hold.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_ipfs_proto::routing::{MAX_ADDRS, MAX_PROVIDERS, ProviderLines, parse_providers};

fuzz_target!(|input: &[u8]| {
    let mut found = parse_providers(input).unwrap_or_default();
    assert!(found.len() <= MAX_PROVIDERS);
    let mut lines = ProviderLines::default();
    let (head, tail) = input.split_at(input.len() / 2);
    let parts = [head, tail].map(|part| lines.push(part).unwrap_or_default());
    found.extend(parts.into_iter().flatten().chain(lines.finish()));
    assert!(found.iter().all(|provider| provider.addrs.len() <= MAX_ADDRS && provider.transfers.len() <= 2));
});
