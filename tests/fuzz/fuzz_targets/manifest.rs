//! Any bytes as a signed manifest and as the payload of one: no panic, nothing is read whose signature is not there, and
//! what is read is spelled in that one way and gives bindings that check.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_hybrid::manifest::{Manifest, ManifestKey, SignedManifest};

fuzz_target!(|input: &[u8]| {
    let key = ManifestKey::from_seed(&[7; 32]);
    if let Ok(read) = SignedManifest::read(input) {
        assert_ne!(read.key, key.public(), "a signature was forged");
    }
    let Ok(manifest) = Manifest::from_payload(input) else { return };
    assert_eq!(manifest.to_payload().as_deref(), Ok(input));
    let Ok(block) = manifest.sign(&key) else { return };
    let read = SignedManifest::read(&block).expect("it was just signed");
    assert_eq!(read.manifest, manifest);
    assert!(read.bindings().all(|binding| binding.check().is_ok()));
});
