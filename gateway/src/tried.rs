//! What was tried to get a content, as people read it: `kubo at 127.0.0.1:5001: refused the connection, after 12 ms`.
//!
//! Pages and plain text have these sentences, and this is the one place that makes them. Problem documents have the
//! same attempts as data.

use std::time::Duration;

use swarmgate_content::{Attempt, AttemptOutcome};
use url::Url;

/// What the system says, and what it means for whoever asked a server.
const SYSTEM_WORDS: [(&str, &str); 5] = [
    ("Connection refused", "refused the connection"),
    ("Connection reset by peer", "reset the connection"),
    ("Connection timed out", "does not answer"),
    ("Network is unreachable", "its network cannot be reached"),
    ("No route to host", "no way leads to it"),
];
/// What HTTP clients here put in front of what the system says.
const CONNECTION_FAILED: &str = "the connection failed: ";

/// An attempt in a sentence on one line, without a full stop.
#[must_use]
pub fn sentence(attempt: &Attempt) -> String {
    let Attempt { source, target, outcome, took } = attempt;
    let who = match target.as_deref().filter(|target| target != source) {
        Some(target) => format!("{} {}", name(source), place(target)),
        None => name(source),
    };
    let (what, took) = match outcome {
        AttemptOutcome::Ok(gave) => (gave.clone(), took),
        AttemptOutcome::Timeout => ("no answer in time".to_owned(), took),
        AttemptOutcome::Failed(why) => (in_words(why), took),
        AttemptOutcome::Skipped(why) => (format!("not asked, {why}"), &Duration::ZERO),
    };
    // Names, reasons and replies come from strangers.
    let visible = |letter: char| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter };
    format!("{who}: {what}{}", after(*took)).chars().map(visible).collect()
}

/// `webtorrent-tracker` as two words, and abbreviations as such.
fn name(source: &str) -> String {
    match source {
        "dht" | "dns" | "http" => source.to_uppercase(),
        other => other.replace('-', " "),
    }
}

/// A server by its host and port, with the scheme where that is not HTTP; anybody else by the name.
fn place(target: &str) -> String {
    let server = Url::parse(target).ok();
    let server = server.as_ref().and_then(|url| Some((url.scheme(), url.host_str()?, url.port())));
    let Some((scheme, host, port)) = server else { return target.to_owned() };
    let scheme = if matches!(scheme, "http" | "https") { String::new() } else { format!("{scheme}://") };
    format!("at {scheme}{host}{}", port.map_or_else(String::new, |port| format!(":{port}")))
}

fn in_words(why: &str) -> String {
    let said = why.strip_prefix(CONNECTION_FAILED).unwrap_or(why);
    let said = said.split_once(" (os error ").map_or(said, |(said, _)| said);
    let words = SYSTEM_WORDS.iter().find(|(system, _)| *system == said);
    words.map_or_else(|| why.to_owned(), |(_, words)| (*words).to_owned())
}

fn after(took: Duration) -> String {
    match took.as_millis() {
        0 => String::new(),
        millis @ 1..1000 => format!(", after {millis} ms"),
        _ => format!(", after {:.1} s", took.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_a_sentence() {
        let ok = |text: &str| AttemptOutcome::Ok(text.to_owned());
        let failed = |text: &str| AttemptOutcome::Failed(text.to_owned());
        let skipped = AttemptOutcome::Skipped("another tracker of its tier is asked".to_owned());
        for (source, target, outcome, millis, expected) in [
            (
                "kubo",
                Some("http://127.0.0.1:5001"),
                failed("the connection failed: Connection refused (os error 111)"),
                12,
                "kubo at 127.0.0.1:5001: refused the connection, after 12 ms",
            ),
            (
                "gateway",
                Some("https://g.example"),
                failed("HTTP status 502"),
                1500,
                "gateway at g.example: HTTP status 502, after 1.5 s",
            ),
            (
                "gateway",
                Some("https://g.example/"),
                failed("the connection failed: invalid peer certificate: Expired"),
                7,
                "gateway at g.example: the connection failed: invalid peer certificate: Expired, after 7 ms",
            ),
            ("dht", None, ok("12 peers"), 2100, "DHT: 12 peers, after 2.1 s"),
            ("dht", Some("dht"), AttemptOutcome::Timeout, 30_000, "DHT: no answer in time, after 30.0 s"),
            ("peers", None, ok("3 connected now"), 0, "peers: 3 connected now"),
            (
                "tracker",
                Some("udp://t.example:80"),
                skipped,
                9,
                "tracker at udp://t.example:80: not asked, another tracker of its tier is asked",
            ),
            (
                "webtorrent-tracker",
                Some("wss://t.example"),
                failed("no"),
                999,
                "webtorrent tracker at wss://t.example: no, after 999 ms",
            ),
            ("peer", Some("12D3KooW"), ok("connected"), 4, "peer 12D3KooW: connected, after 4 ms"),
            (
                "dns",
                Some("_dnslink.a.example"),
                failed("a\nb\u{1b}[2J"),
                4,
                "DNS _dnslink.a.example: a\u{fffd}b\u{fffd}[2J, after 4 ms",
            ),
        ] {
            let (target, took) = (target.map(str::to_owned), Duration::from_millis(millis));
            assert_eq!(sentence(&Attempt { source, target, outcome, took }), expected);
        }
    }

    #[test]
    fn no_sentence_has_a_password() {
        let target = Some("http://me:hunter2@127.0.0.1:5001/hunter2".to_owned());
        let attempt = Attempt { source: "kubo", target, outcome: AttemptOutcome::Timeout, took: Duration::ZERO };
        assert_eq!(sentence(&attempt), "kubo at 127.0.0.1:5001: no answer in time");
    }
}
