//! Who asks: from the headers of a request to what its sender may do.
//!
//! Tokens are compared at once. Passwords are hashed, each in its turn ([`super::password`]); who presents what is wrong
//! too often waits (`auth/throttle.rs`). Clients on this machine do not: behind a proxy that is not trusted to say who
//! asks, they are everybody, and one could shut out all.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use data_encoding::BASE64;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;

use super::password::{NOBODYS, Remembered, Turns, Verdict};
use super::throttle::{REFILL, Throttle};
use super::{Access, Credentials, Scopes, TokenHash};
use crate::admission::household;

/// How often the file with credentials is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What a gateway knows of who may do what.
#[derive(Debug)]
pub struct Keyring {
    /// The token of the configuration, good for everything.
    token: Option<TokenHash>,
    file: Option<Watched>,
    credentials: Mutex<Arc<Credentials>>,
    throttle: Mutex<Throttle>,
    remembered: Mutex<Remembered>,
    turns: Turns,
}

/// A file that is read again when it changes.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    looked: Mutex<(Instant, Option<SystemTime>)>,
}

/// What can be said of a request without hashing anything.
#[derive(Debug)]
pub enum AtOnce {
    /// What its sender may do.
    Known(Access),
    /// A password has to be hashed.
    Hash(LogIn),
}

/// A user's name and password, to be checked.
pub struct LogIn {
    user: String,
    password: String,
    phc: String,
    /// What the user may do; none when there is no such user.
    scopes: Option<Scopes>,
    client: Option<IpAddr>,
}

/// What a request presents.
struct Presented {
    user: Option<String>,
    secret: String,
}

impl Keyring {
    /// Knows a token of the configuration and the credentials of a file, as they were read.
    #[must_use]
    pub fn new(token: Option<TokenHash>, file: Option<(PathBuf, Credentials)>) -> Self {
        let (path, credentials) = file.unzip();
        let watched = |path: PathBuf| Watched { looked: Mutex::new((Instant::now(), modified(&path))), path };
        Self {
            token,
            file: path.map(watched),
            credentials: Mutex::new(Arc::new(credentials.unwrap_or_default())),
            throttle: Mutex::default(),
            remembered: Mutex::new(Remembered::new()),
            turns: Turns::new(),
        }
    }

    /// Whether anybody is asked for anything.
    #[must_use]
    pub const fn asks(&self) -> bool {
        self.token.is_some() || self.file.is_some()
    }

    /// What the sender of a request may do.
    pub async fn identify(&self, headers: &HeaderMap, client: Option<IpAddr>) -> Access {
        let now = Instant::now();
        match self.at_once(headers, client, now) {
            AtOnce::Known(Access::Wrong) => self.wrong(outside(client), now),
            AtOnce::Known(access) => access,
            AtOnce::Hash(log_in) => self.hash(log_in).await,
        }
    }

    /// The same, as far as it can be said without hashing a password. What is wrong is not held against the client here.
    #[must_use]
    pub fn at_once(&self, headers: &HeaderMap, client: Option<IpAddr>, now: Instant) -> AtOnce {
        if !self.asks() {
            return AtOnce::Known(Access::Known(Scopes::ALL));
        }
        let Some(presented) = Presented::of(headers) else { return AtOnce::Known(Access::Nobody) };
        let credentials = self.credentials(now);
        let client = outside(client);
        let wait = client.and_then(|client| self.throttle.lock().wait(client, now));
        // 256 random bits are not guessed, so who has such a token never waits for those who guess at the same address.
        if let Some(scopes) = credentials.token(&presented.secret) {
            return AtOnce::Known(Access::Known(scopes));
        }
        let is_operator = self.token.is_some_and(|token| token.matches(&presented.secret));
        let may_be_guessed = self.token.is_some_and(|token| token.may_be_guessed);
        match wait {
            Some(wait) if !is_operator || may_be_guessed => return AtOnce::Known(Access::Later(wait)),
            Some(_) | None if is_operator => return AtOnce::Known(Access::Known(Scopes::ALL)),
            Some(_) | None => {}
        }
        let Some(user) = presented.user.filter(|_| credentials.has_users()) else {
            return AtOnce::Known(Access::Wrong);
        };
        if let Some(scopes) = self.remembered.lock().get(&user, &presented.secret, now) {
            return AtOnce::Known(Access::Known(scopes));
        }
        let (phc, scopes) = credentials.user(&user).map_or((NOBODYS, None), |(phc, scopes)| (phc, Some(scopes)));
        AtOnce::Hash(LogIn { password: presented.secret, phc: phc.to_owned(), scopes, client, user })
    }

    /// Hashes a password when it is its turn.
    pub async fn hash(&self, log_in: LogIn) -> Access {
        let LogIn { user, password, phc, scopes, client } = log_in;
        let before = Arc::clone(&self.credentials.lock());
        let verdict = self.turns.verify(password.clone(), phc).await;
        let now = Instant::now();
        match (verdict, scopes) {
            (Verdict::Right, Some(scopes)) => {
                // Unless the file changed meanwhile, and with it perhaps this user.
                let current = self.credentials.lock();
                if Arc::ptr_eq(&before, &current) {
                    self.remembered.lock().put(&user, &password, scopes, now);
                }
                Access::Known(scopes)
            }
            (Verdict::Right | Verdict::Wrong, _) => self.wrong(client, now),
            (Verdict::Crowded, _) => Access::Later(REFILL),
        }
    }

    fn wrong(&self, client: Option<IpAddr>, now: Instant) -> Access {
        if let Some(client) = client {
            self.throttle.lock().failed(client, now);
        }
        Access::Wrong
    }

    /// The credentials in force; those of the file, when it has changed since it was looked at last.
    fn credentials(&self, now: Instant) -> Arc<Credentials> {
        if let Some(file) = &self.file
            && file.has_changed(now)
        {
            match Credentials::read(&file.path) {
                Ok(credentials) => {
                    let mut current = self.credentials.lock();
                    *current = Arc::new(credentials);
                    self.remembered.lock().clear();
                    tracing::info!("the credentials were read again");
                }
                // The reason names entries and no values.
                Err(error) => tracing::error!(%error, "the credentials stay as they were"),
            }
        }
        Arc::clone(&self.credentials.lock())
    }
}

impl Watched {
    /// Whether it is another than when it was looked at last; it is looked at once a second.
    fn has_changed(&self, now: Instant) -> bool {
        let mut looked = self.looked.lock();
        if now.saturating_duration_since(looked.0) < LOOK {
            return false;
        }
        let (before, current) = (looked.1, modified(&self.path));
        *looked = (now, current);
        before != current
    }
}

/// Who counts as one client, unless it is on this machine.
fn outside(client: Option<IpAddr>) -> Option<IpAddr> {
    client.map(household).filter(|client| !client.is_loopback())
}

fn modified(path: &std::path::Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

impl Presented {
    /// Reads a bearer token, or the name and password of Basic credentials: players take no headers, and all of them take
    /// `http://user:password@host/`.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self { user: None, secret: value.trim().to_owned() });
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let credentials = String::from_utf8(BASE64.decode(value.trim().as_bytes()).ok()?).ok()?;
        let (user, secret) = credentials.split_once(':')?;
        Some(Self { user: Some(user.to_owned()), secret: secret.to_owned() })
    }
}

impl std::fmt::Debug for LogIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogIn(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Scope, password};

    const STRANGER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9)));

    fn with(authorization: &str) -> HeaderMap {
        [(AUTHORIZATION, authorization.parse().unwrap())].into_iter().collect()
    }

    fn basic(pair: &str) -> HeaderMap {
        with(&format!("Basic {}", BASE64.encode(pair.as_bytes())))
    }

    fn operator(token: &str) -> Keyring {
        Keyring::new(Some(TokenHash::of(token)), None)
    }

    fn ask(keyring: &Keyring, headers: &HeaderMap, now: Instant) -> Access {
        match keyring.at_once(headers, STRANGER, now) {
            AtOnce::Known(access) => access,
            AtOnce::Hash(_) => panic!("a password is to be hashed"),
        }
    }

    #[test]
    fn the_token_is_taken_as_a_bearer_or_a_password_and_nothing_else_is() {
        let (keyring, now) = (operator("secret"), Instant::now());
        for good in [with("Bearer secret"), with("bearer  secret"), basic("me:secret"), basic(":secret")] {
            assert_eq!(ask(&keyring, &good, now), Access::Known(Scopes::ALL), "{good:?}");
        }
        for bad in [with("Bearer Secret"), with("Bearer "), basic("secret:x")] {
            assert_eq!(ask(&keyring, &bad, now), Access::Wrong, "{bad:?}");
        }
        for none in [with("Bearer"), with("Basic secret"), with("Digest secret"), basic("secret"), HeaderMap::new()] {
            assert_eq!(ask(&keyring, &none, now), Access::Nobody, "{none:?}");
        }
    }

    #[test]
    fn without_a_token_all_is_open() {
        assert_eq!(ask(&Keyring::new(None, None), &HeaderMap::new(), Instant::now()), Access::Known(Scopes::ALL));
    }

    #[tokio::test]
    async fn who_guesses_waits_even_when_the_guess_is_right_unless_nobody_could_have_guessed() {
        let (short, long) = ("hunter2", "0123456789abcdef0123456789abcdef");
        for (token, right_one_waits) in [(short, true), (long, false)] {
            let keyring = operator(token);
            let bearer = async |secret: &str| keyring.identify(&with(&format!("Bearer {secret}")), STRANGER).await;
            for n in 0..10 {
                assert_eq!(bearer(&format!("guess{n}")).await, Access::Wrong);
            }
            assert!(matches!(bearer("guess").await, Access::Later(_)));
            assert_eq!(matches!(bearer(token).await, Access::Later(_)), right_one_waits, "{token}");
            let nothing = keyring.identify(&HeaderMap::new(), STRANGER).await;
            assert_eq!(nothing, Access::Nobody, "who presents nothing does not wait");
        }
    }

    #[tokio::test]
    async fn a_password_is_hashed_once_and_then_known() {
        let mut credentials = Credentials::default();
        credentials.create_user("anna", password::hash("pass").unwrap(), &[Scope::Read]).unwrap();
        let keyring = Keyring::new(None, Some(("/nowhere".into(), credentials)));
        let now = Instant::now();
        assert!(matches!(keyring.at_once(&basic("anna:pass"), STRANGER, now), AtOnce::Hash(_)));
        let known = Access::Known(Scopes::from_iter([Scope::Read]));
        assert_eq!(keyring.identify(&basic("anna:pass"), STRANGER).await, known);
        assert_eq!(ask(&keyring, &basic("anna:pass"), now), known, "no hash a second time");
        for wrong in ["anna:Pass", "bert:pass", "anna:", ":pass"] {
            assert_eq!(keyring.identify(&basic(wrong), STRANGER).await, Access::Wrong, "{wrong}");
        }
        assert_eq!(keyring.identify(&with("Bearer pass"), STRANGER).await, Access::Wrong, "no password is a token");
    }

    #[test]
    fn a_token_that_is_revoked_is_none_a_second_later_and_a_broken_file_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        let mut credentials = Credentials::default();
        let secret = credentials.create_token("tv", &[Scope::Content]).unwrap();
        credentials.write(&path).unwrap();
        let keyring = Keyring::new(None, Some((path.clone(), Credentials::read(&path).unwrap())));
        let (bearer, start) = (with(&format!("Bearer {secret}")), Instant::now());
        let at = |seconds| ask(&keyring, &bearer, start + Duration::from_secs(seconds));
        let touch = |text: &str, age: u64| {
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        let known = Access::Known(Scopes::from_iter([Scope::Content]));
        assert_eq!(at(0), known);
        touch("tokens = 3", 50);
        assert_eq!(at(2), known, "broken");
        touch("", 40);
        assert_eq!(at(4), Access::Wrong);
    }
}
