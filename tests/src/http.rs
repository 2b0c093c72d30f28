//! What a viewer does: whole files and ranges over HTTP, with the answer kept whole for a story to look at.

use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Client, StatusCode};
use serde_json::Value;

/// No story waits longer for one answer: a cold magnet, a peer that unchokes late, and the gateway's own 30 s for the
/// first byte, after which it says what went wrong.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);

/// One whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Response headers.
    pub headers: HeaderMap,
    /// The complete body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A response header as text; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The body as text, for messages of failing stories.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client for stories: no proxy of the environment, redirects followed.
pub fn client() -> Client {
    Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build().expect("the built-in TLS set-up has no bad input")
}

/// GET of the whole.
pub async fn get(url: &str) -> Answer {
    send(client().get(url), url).await
}

/// GET of `first..=last`, as a Range request (RFC 9110 §14.2).
pub async fn get_range(url: &str, first: usize, last: usize) -> Answer {
    send(client().get(url).header(RANGE, format!("bytes={first}-{last}")), url).await
}

/// Asks for `first..=last` and insists on exactly these bytes of `whole`.
pub async fn assert_range(url: &str, whole: &[u8], first: usize, last: usize) {
    let answer = get_range(url, first, last).await;
    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{url}: {}", answer.text());
    let expected = format!("bytes {first}-{last}/{}", whole.len());
    assert_eq!(answer.header(CONTENT_RANGE.as_str()), expected, "{url}");
    assert!(answer.body == whole[first..=last], "{url}: bytes {first}-{last} differ from the payload's");
}

/// POST of a body with its media type.
pub async fn post(url: &str, media_type: &str, body: Vec<u8>) -> Answer {
    send(client().post(url).header("content-type", media_type).body(body), url).await
}

/// Sends a prepared request and reads the answer to its end.
pub async fn send(request: reqwest::RequestBuilder, url: &str) -> Answer {
    let response = request.send().await.unwrap_or_else(|e| panic!("{url}: {e:?}"));
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await.unwrap_or_else(|e| panic!("{url}: {status}, then {e:?}"));
    Answer { status, headers, body: body.into() }
}
