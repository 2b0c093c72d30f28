//! One request without a body, and its answer as it comes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::http_client::{HttpError, explain};

/// How a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMethod {
    /// To be given something.
    Get,
    /// To have something done. A redirect of kind 301, 302 or 303 makes it a GET (RFC 9110 §15.4).
    Post,
}

/// A request without a body.
#[derive(Debug, Clone, Copy)]
pub struct HttpRequest<'a> {
    /// How it asks.
    pub method: HttpMethod,
    /// What for. A user and a password in it are sent as RFC 7617 says, and not to another host that it redirects to.
    pub url: &'a str,
    /// The media types that are understood, best first; without, anything is.
    pub accept: Option<&'a str>,
    /// The first and the last byte that are asked for (RFC 9110 §14.2); without, all. The server may send all the same.
    pub bytes: Option<(u64, u64)>,
    /// How long all of it may take, the body of the answer included.
    pub timeout: Duration,
}

impl<'a> HttpRequest<'a> {
    /// A GET for anything that is there.
    #[must_use]
    pub const fn get(url: &'a str, timeout: Duration) -> Self {
        Self { method: HttpMethod::Get, url, accept: None, bytes: None, timeout }
    }
}

/// An answer whose body is yet to be read. Dropping it closes its connection unless all was read.
#[derive(Debug)]
pub struct HttpAnswer {
    response: reqwest::Response,
    timeout: Duration,
}

impl HttpAnswer {
    pub(crate) const fn new(response: reqwest::Response, timeout: Duration) -> Self {
        Self { response, timeout }
    }

    /// The status code, of the last answer if there were redirects.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.response.status().is_success()
    }

    /// The first value of a header, when it is visible ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The length of the body in bytes, when the head says it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next part of the body, as large as the network made it, some 16 KiB; `None` at its end. May be dropped and
    /// called again.
    ///
    /// # Errors
    /// When the connection breaks, or the body ends before its declared length or after the request's time.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        self.response.chunk().await.map_err(|error| explain(&error, self.timeout))
    }

    /// The rest of the body, at most `max_bytes`.
    ///
    /// # Errors
    /// [`HttpError::TooLarge`], as soon as it is known; otherwise as [`Self::chunk`].
    pub async fn read(mut self, max_bytes: usize) -> Result<Bytes, HttpError> {
        if self.content_length().is_some_and(|len| len > max_bytes as u64) {
            return Err(HttpError::TooLarge(max_bytes));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if chunk.len() > max_bytes - body.len() {
                return Err(HttpError::TooLarge(max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}
