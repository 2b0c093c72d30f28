//! Passwords of people: Argon2id (RFC 9106), and how much of it may run.
//!
//! Hashing one costs tens of milliseconds and MiBs on purpose. So few run at once, few wait, and what was right a moment
//! ago is not hashed again: a player that asks for a thousand ranges costs one hash.

use std::collections::HashMap;
use std::num::NonZero;
use std::time::{Duration, Instant};

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Argon2, Params};
use aws_lc_rs::hmac;
use tokio::sync::Semaphore;

use super::scope::Scopes;

/// Memory of one hash of a user in the file, in KiB, at most: what an operator writes there runs at each log-in.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// Passes of one hash, at most.
const MAX_PASSES: u32 = 16;
/// Threads of one hash, at most.
const MAX_LANES: u32 = 16;
/// Log-ins that wait for their turn, at most: a second or two of work. More are told to come back.
const MAX_WAITING: usize = 16;
/// How long a password that was right is not hashed again.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Passwords that are remembered.
const MAX_REMEMBERED: usize = 256;

/// Why a text is no hash of a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHash {
    /// It cannot be read.
    #[error("is no Argon2 hash as `swarmgate token hash` prints it")]
    Unreadable,
    /// It would cost too much at each log-in.
    #[error("asks for more than {MAX_MEMORY_KIB} KiB, {MAX_PASSES} passes or {MAX_LANES} threads")]
    TooDear,
}

/// Hashes a password with a fresh salt, in the PHC format: 19 MiB, two passes, one thread, as OWASP has it.
///
/// # Errors
/// When the password is longer than Argon2 takes, which is 4 GiB.
pub fn hash(password: &str) -> Result<String, argon2::password_hash::Error> {
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>())?;
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string())
}

/// Checks that a hash in a file can be used.
pub(crate) fn check_hash(phc: &str) -> Result<(), BadHash> {
    let parsed = PasswordHash::new(phc).map_err(|_| BadHash::Unreadable)?;
    if !parsed.algorithm.as_str().starts_with("argon2") || parsed.hash.is_none() || parsed.salt.is_none() {
        return Err(BadHash::Unreadable);
    }
    let params = Params::try_from(&parsed).map_err(|_| BadHash::Unreadable)?;
    let dear = params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES || params.p_cost() > MAX_LANES;
    if dear { Err(BadHash::TooDear) } else { Ok(()) }
}

/// Whether a password is that of a hash. Takes long.
fn verify(password: &str, phc: &str) -> bool {
    PasswordHash::new(phc).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// The hash that the password of a user who is not there is compared with, so that the time tells nobody who is.
pub(crate) const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c3dhcm1nYXRlLW5vYm9keQ$2bS2nPqYw0Z5sVq8bXo0p0mCw9G7sY2bq6QvN3Q1t5E";

/// The line that log-ins stand in.
#[derive(Debug)]
pub(crate) struct Turns {
    running: Semaphore,
    waiting: Semaphore,
}

/// What became of hashing a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// Too many wait already.
    Crowded,
}

impl Turns {
    /// Half the cores, at least one: content is served meanwhile.
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { running: Semaphore::new((cores / 2).max(1)), waiting: Semaphore::new(MAX_WAITING) }
    }

    /// Hashes a password when it is its turn.
    pub(crate) async fn verify(&self, password: String, phc: String) -> Verdict {
        let Ok(_place) = self.waiting.try_acquire() else { return Verdict::Crowded };
        let Ok(_turn) = self.running.acquire().await else { return Verdict::Crowded };
        match tokio::task::spawn_blocking(move || verify(&password, &phc)).await {
            Ok(true) => Verdict::Right,
            Ok(false) | Err(_) => Verdict::Wrong,
        }
    }
}

/// Passwords that were right of late, by a hash with a key that lives as long as the process. What lies in memory is so
/// no fast hash of a password that anybody could guess against.
pub(crate) struct Remembered {
    key: hmac::Key,
    right: HashMap<[u8; 32], (Scopes, Instant)>,
}

impl Remembered {
    pub(crate) fn new() -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()), right: HashMap::new() }
    }

    /// What these credentials were good for when they were last hashed, unless that is too long ago.
    pub(crate) fn get(&self, user: &str, password: &str, now: Instant) -> Option<Scopes> {
        let (scopes, at) = self.right.get(&self.name(user, password))?;
        (now.saturating_duration_since(*at) < REMEMBERED).then_some(*scopes)
    }

    /// Remembers credentials that are right.
    pub(crate) fn put(&mut self, user: &str, password: &str, scopes: Scopes, now: Instant) {
        if self.right.len() >= MAX_REMEMBERED {
            self.right.retain(|_, (_, at)| now.saturating_duration_since(*at) < REMEMBERED);
        }
        if self.right.len() >= MAX_REMEMBERED {
            self.right.clear();
        }
        self.right.insert(self.name(user, password), (scopes, now));
    }

    /// Forgets all: the file with the users is another.
    pub(crate) fn clear(&mut self) {
        self.right.clear();
    }

    fn name(&self, user: &str, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        // The length keeps `ab` + `c` from being `a` + `bc`.
        context.update(&user.len().to_be_bytes());
        context.update(user.as_bytes());
        context.update(password.as_bytes());
        let mut name = [0; 32];
        name.copy_from_slice(context.sign().as_ref());
        name
    }
}

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remembered").field("right", &self.right.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::scope::Scope;
    use super::*;

    #[test]
    fn a_hash_is_argon2id_with_a_salt_of_its_own_and_knows_its_password() {
        let (one, two) = (hash("correct horse").unwrap(), hash("correct horse").unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && one != two, "{one}");
        assert!(check_hash(&one).is_ok());
        assert!(verify("correct horse", &one) && !verify("correct horsf", &one) && !verify("", &one));
        assert!(check_hash(NOBODYS).is_ok() && !verify("", NOBODYS), "it costs as much as one of somebody");
    }

    #[test]
    fn a_hash_that_would_eat_the_machine_is_none() {
        let good = hash("x").unwrap();
        assert_eq!(check_hash(&good.replace("m=19456", "m=4000000")), Err(BadHash::TooDear));
        assert_eq!(check_hash(&good.replace("t=2", "t=1000")), Err(BadHash::TooDear));
        for bad in ["", "hunter2", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=19456,t=2,p=1"] {
            assert_eq!(check_hash(bad), Err(BadHash::Unreadable), "{bad}");
        }
    }

    #[test]
    fn what_was_right_is_remembered_for_a_while_and_by_nothing_else() {
        let (mut remembered, now) = (Remembered::new(), Instant::now());
        let scopes = Scopes::from_iter([Scope::Read]);
        remembered.put("anna", "pass", scopes, now);
        assert_eq!(remembered.get("anna", "pass", now), Some(scopes));
        assert_eq!(remembered.get("annap", "ass", now), None);
        assert_eq!(remembered.get("anna", "Pass", now), None);
        assert_eq!(remembered.get("anna", "pass", now + REMEMBERED), None);
        for n in 0..MAX_REMEMBERED * 2 {
            remembered.put("eve", &n.to_string(), scopes, now);
        }
        assert!(remembered.right.len() <= MAX_REMEMBERED);
        assert!(!format!("{remembered:?}").contains("anna"));
    }

    #[tokio::test]
    async fn a_flood_of_log_ins_is_a_short_line() {
        let turns = Turns::new();
        let phc = hash("right").unwrap();
        let flood = (0..100).map(|n| turns.verify(format!("guess {n}"), phc.clone()));
        let verdicts = futures_util::future::join_all(flood).await;
        let crowded = verdicts.iter().filter(|verdict| **verdict == Verdict::Crowded).count();
        assert_eq!((verdicts.len() - crowded, crowded), (MAX_WAITING, 100 - MAX_WAITING));
        assert_eq!(turns.verify("right".to_owned(), phc).await, Verdict::Right, "the line is free again");
    }
}
