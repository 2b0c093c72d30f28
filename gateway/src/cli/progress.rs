//! Progress of a download, on stderr: a bar on a terminal, else a plain line now and then, so that a log stays readable.
//! The bar's library obeys `NO_COLOR`.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// 5 s between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// 40 characters of the label are shown. It is a name that a stranger chose.
const MAX_LABEL_CHARS: usize = 40;

const BAR: &str =
    "{prefix} [{bar:30.cyan/dim}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta} {msg}";

/// The progress of one download.
pub struct Progress {
    view: View,
}

enum View {
    Bar(ProgressBar),
    Lines { lines: Lines, out: Box<dyn Write + Send> },
}

/// When a plain line is due, and what it says.
#[derive(Debug)]
struct Lines {
    label: String,
    total_bytes: u64,
    /// The last line: when, and how far it was.
    last: (Instant, u64),
}

impl Progress {
    /// Starts to show a download of so many bytes.
    #[must_use]
    pub fn new(total_bytes: u64, label: &str) -> Self {
        if io::stderr().is_terminal() {
            Self::bar(total_bytes, label)
        } else {
            Self::lines(total_bytes, label, Box::new(io::stderr()))
        }
    }

    /// Shows how many bytes are there, and how many peers are connected, where that means anything.
    pub fn set(&mut self, position: u64, peers: impl Into<Option<usize>>) {
        let peers = peers.into();
        match &mut self.view {
            View::Bar(bar) => {
                bar.set_position(position);
                bar.set_message(peers_text(peers));
            }
            View::Lines { lines, out } => {
                if let Some(line) = lines.due(Instant::now(), position, peers) {
                    say(out.as_mut(), &line);
                }
            }
        }
    }

    /// Ends with a last line.
    pub fn finish(self, message: &str) {
        match self.view {
            View::Bar(bar) => {
                bar.finish_and_clear();
                say(&mut io::stderr(), message);
            }
            View::Lines { mut out, .. } => say(out.as_mut(), message),
        }
    }

    fn bar(total_bytes: u64, label: &str) -> Self {
        let style = ProgressStyle::with_template(BAR).expect("the template is a constant that a test draws");
        let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::stderr());
        Self { view: View::Bar(bar.with_style(style.progress_chars("=> ")).with_prefix(printable(label))) }
    }

    fn lines(total_bytes: u64, label: &str, out: Box<dyn Write + Send>) -> Self {
        let lines = Lines { label: printable(label), total_bytes, last: (Instant::now(), 0) };
        Self { view: View::Lines { lines, out } }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.view {
            View::Bar(bar) => f.debug_tuple("Bar").field(&bar.position()).finish(),
            View::Lines { lines, .. } => lines.fmt(f),
        }
    }
}

impl Lines {
    /// The line to print now, when the last one is old enough.
    fn due(&mut self, now: Instant, position: u64, peers: impl Into<Option<usize>>) -> Option<String> {
        let (last_time, last_position) = self.last;
        let passed = now.saturating_duration_since(last_time);
        if passed < LINE_EVERY {
            return None;
        }
        self.last = (now, position);
        let peers = peers.into();
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let rate = position.saturating_sub(last_position).saturating_mul(1000) / millis;
        Some(format!(
            "{}: {}, {}/s{}{}",
            self.label,
            self.how_far(position),
            BinaryBytes(rate),
            if peers.is_some() { ", " } else { "" },
            peers_text(peers)
        ))
    }
}

impl Lines {
    /// How much is there, and of how much where that is known.
    fn how_far(&self, position: u64) -> String {
        match self.total_bytes {
            0 => BinaryBytes(position).to_string(),
            total => format!("{}% ({} of {})", percent(position, total), BinaryBytes(position), BinaryBytes(total)),
        }
    }
}

/// Whole per cent, rounded down: 100 is said only when all is there. Nothing to fetch is all of it.
fn percent(position: u64, total_bytes: u64) -> u128 {
    if total_bytes == 0 { 100 } else { u128::from(position) * 100 / u128::from(total_bytes) }
}

fn peers_text(peers: Option<usize>) -> String {
    match peers {
        None => String::new(),
        Some(1) => "1 peer".to_owned(),
        Some(peers) => format!("{peers} peers"),
    }
}

/// A name without what a terminal would obey.
fn printable(label: &str) -> String {
    let replace = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    label.chars().take(MAX_LABEL_CHARS).map(replace).collect()
}

/// Progress that nobody can read, as with stderr closed, is no reason to end a download.
fn say(out: &mut dyn Write, line: &str) {
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_comes_every_five_seconds_at_most() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut lines = Lines { label: "film.mp4".to_owned(), total_bytes: 10 << 20, last: (start, 0) };
        assert_eq!(lines.due(after(4999), 1 << 20, 3), None);
        assert_eq!(
            lines.due(after(5000), 5 << 20, 3).as_deref(),
            Some("film.mp4: 50% (5.00 MiB of 10.00 MiB), 1.00 MiB/s, 3 peers")
        );
        assert_eq!(lines.due(after(9000), 6 << 20, 1), None);
        assert_eq!(
            lines.due(after(10_000), 10 << 20, 1).as_deref(),
            Some("film.mp4: 100% (10.00 MiB of 10.00 MiB), 1.00 MiB/s, 1 peer")
        );
    }

    #[test]
    fn nothing_to_fetch_and_the_last_byte_are_told_apart() {
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(999, 1000), 99);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(printable(&"x".repeat(100)).len(), MAX_LABEL_CHARS);
    }

    #[test]
    fn the_template_of_the_bar_is_valid() {
        let mut progress = Progress::bar(10, "film.mp4");
        progress.set(3, 1);
        assert_eq!(format!("{progress:?}"), "Bar(3)");
    }
}
