//! What is made of what was found: one sentence, with what to do.

use swarmgate_content::AttemptOutcome;

use super::Found;
use crate::cli::Exit;

/// A first byte within this is as fast as it gets over networks of strangers, in milliseconds.
const QUICK_MS: u64 = 2000;

/// Why it is slow, or does not come.
pub(super) fn why(found: &Found) -> String {
    match found.first_byte_ms {
        Some(ms) if ms <= QUICK_MS => {
            "it is not slow: what is slow now is on the way from here to the player".to_owned()
        }
        Some(_) if found.metadata_ms.is_some_and(|ms| ms > QUICK_MS) => {
            "it took long to learn what it is: a .torrent file, or a magnet with trackers, says so at once".to_owned()
        }
        Some(_) => "the first piece took long: those who have it send slowly, or were long in coming".to_owned(),
        None => missing(found),
    }
}

/// Why no byte came: the first thing that is wrong on the way from nobody to a byte.
fn missing(found: &Found) -> String {
    let of = |source: &'static str| found.attempts.iter().filter(move |attempt| attempt.source == source);
    let failed = |outcome: &AttemptOutcome| matches!(outcome, AttemptOutcome::Failed(_) | AttemptOutcome::Timeout);
    let (dialled, trackers) = (of("peer").count(), of("tracker").count());
    let unheard = of("tracker").filter(|attempt| failed(&attempt.outcome)).count();
    if found.peers > 0 && found.metadata_ms.is_none() {
        "peers are connected and none has sent its metadata: they are looking for it themselves".to_owned()
    } else if found.peers > 0 && found.seeds == 0 {
        "peers are connected and none of them has everything: what is missing may be with nobody".to_owned()
    } else if found.peers > 0 {
        "peers that have everything are connected and send nothing: they have others to send to; wait, or ask later"
            .to_owned()
    } else if dialled > 0 && of("peer").all(|attempt| failed(&attempt.outcome)) {
        "peers are known and none can be reached: have the firewall let this program out, or let peers in \
         (`swarmgate diagnose`, bittorrent.port_mapping)"
            .to_owned()
    } else if found.attempts.is_empty() && !found.dht && found.exit != Some(Exit::Timeout) {
        "there is nobody to ask: name a tracker, a peer or a provider, or switch on what finds them (bittorrent.dht, \
         ipfs.public, ipfs.gateways)"
            .to_owned()
    } else if trackers > 0 && unheard == trackers && !found.dht {
        "no tracker answers, and the DHT is off: see to the way out of this network, or switch on bittorrent.dht"
            .to_owned()
    } else if found.attempts.iter().all(|attempt| failed(&attempt.outcome)) {
        "nobody who was asked has it or answers: `swarmgate diagnose` says whether the way out of this network is open"
            .to_owned()
    } else {
        "nobody who was asked knows of anybody who has it: it may be gone".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use swarmgate_content::Attempt;

    use super::*;

    fn attempt(source: &'static str, outcome: AttemptOutcome) -> Attempt {
        Attempt { source, target: None, outcome, took: Duration::ZERO }
    }

    #[test]
    fn the_first_thing_that_is_wrong_is_told() {
        let refused = || AttemptOutcome::Failed("refused".to_owned());
        let told = || AttemptOutcome::Ok("0 peers".to_owned());
        let none = Found::default;
        for (found, words) in [
            (Found { metadata_ms: Some(90), first_byte_ms: Some(200), ..none() }, "it is not slow"),
            (Found { metadata_ms: Some(9000), first_byte_ms: Some(9200), ..none() }, "to learn what it is"),
            (Found { metadata_ms: Some(90), first_byte_ms: Some(9200), ..none() }, "the first piece"),
            (Found { peers: 3, ..none() }, "its metadata"),
            (Found { peers: 3, metadata_ms: Some(90), ..none() }, "none of them has everything"),
            (Found { peers: 3, seeds: 1, metadata_ms: Some(90), ..none() }, "send nothing"),
            (Found { attempts: vec![attempt("peer", refused())], ..none() }, "none can be reached"),
            (none(), "nobody to ask"),
            (Found { attempts: vec![attempt("tracker", AttemptOutcome::Timeout)], ..none() }, "no tracker answers"),
            (Found { attempts: vec![attempt("gateway", refused())], ..none() }, "has it or answers"),
            (Found { dht: true, attempts: vec![attempt("tracker", told())], ..none() }, "it may be gone"),
        ] {
            assert!(why(&found).contains(words), "{words}: {}", why(&found));
        }
    }
}
