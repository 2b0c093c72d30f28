//! Tokens: who may use the API, and content where the operator says so.
//!
//! The gateway keeps the SHA-256 of its token, never the token. A token has 256 random bits, so a fast hash is enough;
//! comparing hashes in constant time tells a guesser nothing. Players cannot send a bearer header but all of them
//! take `http://user:password@host/`, so the token is also accepted as the password of Basic credentials.

use std::net::IpAddr;

use aws_lc_rs::{constant_time, digest};
use data_encoding::BASE64;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::error::Problem;
use crate::state::{Anonymous, HttpOptions};

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Hashes a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }

    /// Takes a hash that was computed earlier.
    #[must_use]
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    fn matches(&self, token: &str) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &Self::of(token).0).is_ok()
    }
}

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// Lets a request to the API pass: with the token, or when none is set.
///
/// # Errors
/// 401 otherwise.
pub fn check_api(options: &HttpOptions, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(expected) = &options.token else { return Ok(()) };
    let Some(presented) = token(headers) else {
        return Err(Problem::unauthorized("send the token as a bearer, or as the password of Basic credentials"));
    };
    if expected.matches(&presented) { Ok(()) } else { Err(Problem::unauthorized("that token is not the gateway's")) }
}

/// Lets a request for content pass: as the API, or where content is open to such clients.
///
/// # Errors
/// 401 otherwise.
pub fn check_content(options: &HttpOptions, headers: &HeaderMap, client: Option<IpAddr>) -> Result<(), Problem> {
    match options.anonymous_content {
        Anonymous::Always => Ok(()),
        Anonymous::Loopback if client.is_some_and(|client| client.to_canonical().is_loopback()) => Ok(()),
        Anonymous::Loopback | Anonymous::Never => check_api(options, headers),
    }
}

/// Whether everybody may read content, so that shared caches may keep it.
#[must_use]
pub fn content_is_open(options: &HttpOptions) -> bool {
    options.token.is_none() || options.anonymous_content == Anonymous::Always
}

/// The token that a request presents.
fn token(headers: &HeaderMap) -> Option<String> {
    let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = String::from_utf8(BASE64.decode(value.trim().as_bytes()).ok()?).ok()?;
    credentials.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(anonymous_content: Anonymous) -> HttpOptions {
        HttpOptions { token: Some(TokenHash::of("secret")), anonymous_content, ..HttpOptions::default() }
    }

    fn with(authorization: &str) -> HeaderMap {
        [(AUTHORIZATION, authorization.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn the_token_is_taken_as_a_bearer_or_a_password_and_nothing_else_is() {
        let options = options(Anonymous::Never);
        let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair.as_bytes()));
        for good in ["Bearer secret".to_owned(), "bearer  secret".to_owned(), basic("me:secret"), basic(":secret")] {
            assert!(check_api(&options, &with(&good)).is_ok(), "{good}");
        }
        for bad in ["Bearer Secret", "Bearer", "Bearer ", "Basic secret", "Digest secret", &basic("secret")] {
            assert!(check_api(&options, &with(bad)).is_err(), "{bad}");
        }
        assert!(check_api(&options, &HeaderMap::new()).is_err());
    }

    #[test]
    fn without_a_token_all_is_open() {
        assert!(check_api(&HttpOptions::default(), &HeaderMap::new()).is_ok());
    }

    #[test]
    fn content_is_as_open_as_the_operator_says() {
        let (nobody, here, there) = (HeaderMap::new(), "127.0.0.1".parse().ok(), "10.0.0.1".parse().ok());
        assert!(check_content(&options(Anonymous::Always), &nobody, there).is_ok());
        assert!(check_content(&options(Anonymous::Loopback), &nobody, here).is_ok());
        assert!(check_content(&options(Anonymous::Loopback), &nobody, there).is_err());
        assert!(check_content(&options(Anonymous::Loopback), &nobody, None).is_err());
        assert!(check_content(&options(Anonymous::Never), &nobody, here).is_err());
        assert!(check_content(&options(Anonymous::Never), &with("Bearer secret"), there).is_ok());
    }

    #[test]
    fn the_hash_does_not_print() {
        assert_eq!(format!("{:?}", TokenHash::of("secret")), "TokenHash(…)");
    }
}
