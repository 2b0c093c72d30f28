//! Who may do what: credentials and their scopes ([`scope`]), who presents which ([`keyring`]), and links that need none
//! ([`link`]).
//!
//! The gateway keeps the SHA-256 of tokens, never a token. A token has 256 random bits, so a fast hash is enough;
//! comparing hashes in constant time tells a guesser nothing. Passwords of people are hashed with Argon2id.
//! What a request's sender may do is found out once, at the edge, and goes along with the request as its [`Access`].

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use data_encoding::HEXLOWER;
use http::Extensions;

use crate::auth::link::{Place, Ticket};
use crate::error::{Problem, ProblemKind};
use crate::state::{Anonymous, Gateway, HttpOptions};

pub mod credentials;
pub mod keyring;
pub mod link;
pub mod password;
pub(crate) mod private;
pub mod scope;
pub(crate) mod throttle;

pub use credentials::{Credentials, CredentialsError, EntryError};
pub use keyring::Keyring;
pub use link::{Clock, LinkKey};
pub use scope::{Scope, Scopes};

/// Letters of a token that nobody guesses, whoever made it up, at least.
const LONG_TOKEN: usize = 32;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash {
    hash: [u8; 32],
    /// Whether the token is so short that it may be guessed, given time.
    may_be_guessed: bool,
}

impl TokenHash {
    /// Hashes a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self { hash, may_be_guessed: token.len() < LONG_TOKEN }
    }

    /// Takes the hash of a token with enough random bits, which was computed earlier.
    #[must_use]
    pub const fn new(hash: [u8; 32]) -> Self {
        Self { hash, may_be_guessed: false }
    }

    /// Whether it is the hash of a token.
    #[must_use]
    pub fn matches(&self, token: &str) -> bool {
        self.equals(&Self::of(token))
    }

    /// Whether it is the same as another, in constant time.
    fn equals(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.hash, &other.hash).is_ok()
    }

    /// Its hexadecimal digits, for a file.
    fn to_hex(self) -> String {
        HEXLOWER.encode(&self.hash)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// What the sender of a request may do: an extension of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It presents nothing.
    Nobody,
    /// What it presents is known, or nobody is asked for anything.
    Known(Scopes),
    /// What it presents is not known.
    Wrong,
    /// It has presented what is not known too often, or too many present something at once.
    Later(Duration),
}

impl Access {
    /// The access that the edge has put into a request's extensions.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self::Nobody)
    }

    /// Whether it is good for something.
    #[must_use]
    pub const fn allows(self, scope: Scope) -> bool {
        match self {
            Self::Known(scopes) => scopes.allow(scope),
            Self::Nobody | Self::Wrong | Self::Later(_) => false,
        }
    }

    /// Lets a request pass that needs a scope.
    ///
    /// # Errors
    /// 401 for who presents nothing, or what is not known; 403 for whom the scope is not given; 429 for who has to wait.
    pub fn require(self, scope: Scope) -> Result<(), Problem> {
        match self {
            Self::Known(scopes) if scopes.allow(scope) => Ok(()),
            Self::Known(_) => Err(Problem::new(
                ProblemKind::MissingScope,
                format!("these credentials are not good for what needs the scope {scope}"),
            )),
            Self::Nobody => {
                Err(Problem::unauthorized("send the token as a bearer, or as the password of Basic credentials"))
            }
            Self::Wrong => Err(Problem::unauthorized("those credentials are not known here")),
            Self::Later(wait) => {
                let seconds = wait.as_secs().max(1);
                Err(Problem::new(ProblemKind::TooManyAttempts, format!("try again in {seconds} s")))
            }
        }
    }
}

/// By what right a request reads content: an extension of each that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Content is open to such clients.
    Open,
    /// By its credentials.
    Credentials,
    /// By a signed link.
    Link {
        /// When it ends, in seconds since 1970.
        expires: u64,
    },
}

impl Entry {
    /// The right that a request was let in by.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self::Open)
    }
}

/// Lets a request for content pass: with the scope, where content is open to such clients, or by a link that is signed
/// for it. `path` is the URL's, without the base path.
///
/// # Errors
/// As [`Access::require`]; 403 for a link that is for something else, or over.
pub fn check_content(
    gateway: &Gateway,
    access: Access,
    client: Option<IpAddr>,
    path: &str,
    query: Option<&str>,
) -> Result<Entry, Problem> {
    let options = &gateway.options;
    if options.asks_for_credentials() && access.allows(Scope::Content) {
        return Ok(Entry::Credentials);
    }
    if !options.asks_for_credentials() || is_open_to(options, client) {
        return Ok(Entry::Open);
    }
    let ticket = gateway.link_key.check(Place::of(path, query).as_ref(), query, options.clock.seconds());
    match (ticket, ticket.problem()) {
        (Ticket::Good { expires }, _) => Ok(Entry::Link { expires }),
        (_, Some(problem)) => Err(problem),
        (_, None) => access.require(Scope::Content).map(|()| Entry::Credentials),
    }
}

/// Whether such clients read without credentials.
fn is_open_to(options: &HttpOptions, client: Option<IpAddr>) -> bool {
    match options.anonymous_content {
        Anonymous::Always => true,
        Anonymous::Loopback => client.is_some_and(|client| client.to_canonical().is_loopback()),
        Anonymous::Never => false,
    }
}

/// Whether everybody may read content, so that shared caches may keep it.
#[must_use]
pub const fn content_is_open(options: &HttpOptions) -> bool {
    !options.asks_for_credentials() || matches!(options.anonymous_content, Anonymous::Always)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_as_open_as_the_operator_says() {
        let (here, there) = ("127.0.0.1".parse().ok(), "10.0.0.1".parse().ok());
        let open = |anonymous_content, client| {
            is_open_to(&HttpOptions { anonymous_content, ..HttpOptions::default() }, client)
        };
        assert!(open(Anonymous::Always, there) && open(Anonymous::Always, None));
        assert!(open(Anonymous::Loopback, here));
        assert!(!open(Anonymous::Loopback, there) && !open(Anonymous::Loopback, None));
        assert!(!open(Anonymous::Never, here));
    }

    #[test]
    fn who_is_not_let_in_learns_what_to_do() {
        let kind = |access: Access| access.require(Scope::Manage).unwrap_err().kind();
        assert_eq!(kind(Access::Nobody), ProblemKind::Unauthorized);
        assert_eq!(kind(Access::Wrong), ProblemKind::Unauthorized);
        assert_eq!(kind(Access::Known(Scopes::from_iter([Scope::Add]))), ProblemKind::MissingScope);
        assert_eq!(kind(Access::Later(Duration::from_secs(3))), ProblemKind::TooManyAttempts);
        assert!(Access::Known(Scopes::from_iter([Scope::Manage])).require(Scope::Manage).is_ok());
    }

    #[test]
    fn the_hash_does_not_print() {
        assert_eq!(format!("{:?}", TokenHash::of("secret")), "TokenHash(…)");
    }
}
