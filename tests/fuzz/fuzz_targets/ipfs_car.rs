//! Any bytes as a CAR, in pieces of any size: no panic, and the pieces change nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_ipfs_proto::car::{CarError, CarEvent, CarReader, header, section_head};

fn read(car: &[u8], step: usize) -> (Vec<CarEvent>, Result<(), CarError>) {
    let mut reader = CarReader::new();
    let mut events = Vec::new();
    for part in car.chunks(step) {
        reader.push(part);
        loop {
            match reader.poll() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            }
        }
    }
    let end = reader.finish();
    (events, end)
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, car)) = input.split_first() else { return };
    let whole = read(car, car.len().max(1));
    assert_eq!(read(car, usize::from(step).max(1)), whole);
    let (events, Ok(())) = whole else { return };
    let mut written = Vec::new();
    for event in &events {
        match event {
            CarEvent::Header { roots, .. } => written.extend(header(roots)),
            CarEvent::Block { cid, bytes } => {
                written.extend(section_head(cid, bytes.len()));
                written.extend_from_slice(bytes);
            }
        }
    }
    let (again, end) = read(&written, 7);
    assert_eq!(end, Ok(()));
    assert_eq!(again.len(), events.len());
    assert_eq!(again.get(1..), events.get(1..));
});
