//! People who look at the gateway's pages in Chromium: what they paste, press and see.
//!
//! One browser runs in a process of tests at a time, as with [`crate::webtorrent`]. Each [`Visitor`] has a window and a
//! profile of their own. A browser also makes the films that are played in it, since nothing else here can.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::payload::PayloadFile;
use crate::wait;
use crate::webtorrent::Running;

/// A page that is asked for something that it has, on a machine that is busy with other stories.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// The longest that a page looks for something before it says what it has tried: 30 s.
const APPEARS_WITHIN: Duration = Duration::from_secs(45);

/// Filming a minute, which takes a few seconds on an idle machine.
const FILMED_WITHIN: Duration = Duration::from_secs(90);

/// A browser for visitors.
#[derive(Debug)]
pub struct Browser {
    running: Arc<Running>,
    visitors: AtomicU64,
}

/// Somebody with a window.
#[derive(Debug)]
pub struct Visitor {
    running: Arc<Running>,
    number: u64,
}

/// What a window is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// That of a desktop.
    Desktop,
    /// The same of somebody who likes it dark.
    Dark,
    /// A phone, upright.
    Phone,
}

impl Browser {
    /// Starts one with its profile below `dir`; `None` when the story is to be skipped.
    pub async fn start(dir: &Path) -> Option<Self> {
        let running = Running::browser("visitor.mjs", dir).await?;
        Some(Self { running: Arc::new(running), visitors: AtomicU64::new(0) })
    }

    /// Makes a film of so many seconds, of about 130 KB each, as a file of a payload.
    ///
    /// # Panics
    /// When this browser has no encoder.
    pub async fn film(&self, dir: &Path, name: &str, seconds: u32) -> PayloadFile {
        let path = dir.join("film.webm");
        let command = json!({
            "do": "film", "path": path, "seconds": seconds,
            "width": 480, "height": 270, "rate": 15, "bitrate": 1_500_000,
        });
        let from = self.running.driver.heard();
        self.running.driver.tell(&command);
        self.running.driver.wait_for("filmed", from, FILMED_WITHIN, |_| true).await;
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        PayloadFile { path: vec![name.to_owned()], bytes }
    }

    /// Opens a window.
    pub async fn visitor(&self, window: Window) -> Visitor {
        let number = self.visitors.fetch_add(1, Ordering::Relaxed);
        let visitor = Visitor { running: Arc::clone(&self.running), number };
        let how = match window {
            Window::Desktop => json!({}),
            Window::Dark => json!({ "dark": true }),
            Window::Phone => json!({ "width": 390, "height": 780 }),
        };
        visitor.does("open", how, "opened").await;
        visitor
    }
}

impl Visitor {
    /// Goes to an address.
    pub async fn visits(&self, url: &str) {
        self.does("visit", json!({ "url": url }), "visited").await;
    }

    /// Writes into a field, in the place of what was there.
    pub async fn types(&self, into: &str, text: &str) {
        self.does("type", json!({ "into": into, "text": text }), "typed").await;
    }

    /// Clicks on the first thing that a selector of Playwright names.
    pub async fn clicks(&self, on: &str) {
        self.does("click", json!({ "on": on }), "clicked").await;
    }

    /// Presses keys, as `Enter` or `Shift+Tab`.
    pub async fn presses(&self, keys: &str) {
        self.does("press", json!({ "keys": keys }), "pressed").await;
    }

    /// Pastes a link on the start page and opens it.
    pub async fn opens(&self, link: &str) {
        self.sees("the field for links", "return document.querySelector('#uri') !== null").await;
        self.types("#uri", link).await;
        self.presses("Enter").await;
    }

    /// Drops a file on the page.
    pub async fn drops(&self, file: &Path) {
        self.does("drop", json!({ "file": file }), "dropped").await;
    }

    /// The value of a function's body, evaluated in the page.
    pub async fn finds(&self, script: &str) -> Value {
        self.does("run", json!({ "script": script }), "ran").await["value"].take()
    }

    /// Waits until a function's body gives something that is neither false nor null, and gives that.
    ///
    /// # Panics
    /// When it does not within three quarters of a minute; then with what the page shows.
    pub async fn sees(&self, what: &str, script: &str) -> Value {
        let mut found = Value::Null;
        let is_there = wait::comes_true(APPEARS_WITHIN, async || {
            found = self.finds(script).await;
            !matches!(found, Value::Null | Value::Bool(false))
        });
        if is_there.await {
            return found;
        }
        let page = self.finds("return document.body.innerText").await;
        panic!("{what} does not appear: {}\n{:?}", page.as_str().unwrap_or_default(), self.complaints().await)
    }

    /// Waits until the page shows a text.
    ///
    /// # Panics
    /// As [`Self::sees`].
    pub async fn reads(&self, text: &str) {
        self.sees(text, &format!("return document.body.innerText.includes({})", json!(text))).await;
    }

    /// What keeps people from using the page, by axe: the rules that are broken seriously, and where.
    pub async fn barriers(&self) -> Vec<String> {
        let audit = self.does("audit", json!({}), "audited").await;
        let all = audit["violations"].as_array().expect("axe lists them");
        let serious = all.iter().filter(|it| it["impact"] == "serious" || it["impact"] == "critical");
        serious.map(ToString::to_string).collect()
    }

    /// What the browser has complained of since the window was opened: scripts that failed, what a policy refused.
    pub async fn complaints(&self) -> Vec<String> {
        let told = self.does("heard", json!({}), "told").await;
        let all = told["complaints"].as_array().expect("they are a list");
        all.iter().map(ToString::to_string).collect()
    }

    async fn does(&self, what: &str, mut how: Value, done: &str) -> Value {
        how["do"] = what.into();
        how["peer"] = self.number.into();
        let from = self.running.driver.heard();
        self.running.driver.tell(&how);
        self.running.driver.wait_for(done, from, ANSWERS_WITHIN, |event| event["peer"] == self.number).await
    }
}
