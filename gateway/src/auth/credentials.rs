//! The file with tokens and users: hashes alone, as TOML, readable by its owner.
//!
//! ```toml
//! [tokens.kitchen-tv]
//! sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! scopes = ["content"]
//!
//! [users.anna]
//! password = "$argon2id$v=19$m=19456,t=2,p=1$…"
//! scopes = ["content", "add"]
//! ```

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

use super::password::{self, BadHash};
use super::scope::{Scope, Scopes};
use super::{TokenHash, private};

/// Bytes of such a file, at most.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// What a token begins with, so that one that was left lying about is known for what it is.
const TOKEN_PREFIX: &str = "sg_";
/// Letters of a name, at most.
const MAX_NAME: usize = 64;

/// Why a file with credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something that it cannot.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What, without the value.
        reason: String,
    },
}

/// Why a credential cannot be put among the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The name is taken.
    #[error("there is a credential with the name {0} already")]
    Taken(String),
    /// The name is none.
    #[error("a name has 1 to 64 letters, digits, - and _")]
    BadName,
    /// It would be good for nothing.
    #[error("a credential needs a scope")]
    NoScope,
    /// The hash is none.
    #[error("the password {0}")]
    BadHash(#[from] BadHash),
}

/// A token in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    sha256: String,
    scopes: Vec<String>,
}

/// A user in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    password: String,
    scopes: Vec<String>,
}

/// The file, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tokens: BTreeMap<String, TokenEntry>,
    users: BTreeMap<String, UserEntry>,
}

/// Tokens and users that are known.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    tokens: BTreeMap<String, (TokenHash, Vec<Scope>)>,
    users: BTreeMap<String, (String, Vec<Scope>)>,
}

impl Credentials {
    /// Reads a file; one that is not there has no credentials in it.
    ///
    /// # Errors
    /// When it cannot be read, or says what it cannot.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let failed = |source| CredentialsError::Io { path: path.to_owned(), source };
        let text = match private::read(path, MAX_FILE_BYTES) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| failed(ErrorKind::InvalidData.into()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        Self::parse(&text).map_err(|reason| CredentialsError::Invalid { path: path.to_owned(), reason })
    }

    /// Reads the text of a file. The reason names the entry and never its value.
    fn parse(text: &str) -> Result<Self, String> {
        // What the parser has to say about a line may repeat it, so the line's number has to do.
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text.get(..span.start).unwrap_or_default().lines().count().max(1));
            format!("line {line} is not as it should be: [tokens.NAME] has sha256 and scopes, [users.NAME] password and scopes")
        })?;
        let mut read = Self::default();
        for (name, entry) in file.tokens {
            let reason = |reason: &dyn std::fmt::Display| format!("tokens.{name}: {reason}");
            let hash = HEXLOWER_PERMISSIVE.decode(entry.sha256.as_bytes()).ok().and_then(|hash| hash.try_into().ok());
            let hash = hash.ok_or_else(|| reason(&"sha256 has 64 hexadecimal digits"))?;
            let scopes = scopes_of(&entry.scopes).map_err(|error| reason(&error))?;
            read.tokens.insert(name, (TokenHash::new(hash), scopes));
        }
        for (name, entry) in file.users {
            let reason = |reason: &dyn std::fmt::Display| format!("users.{name}: {reason}");
            let scopes = scopes_of(&entry.scopes).map_err(|error| reason(&error))?;
            password::check_hash(&entry.password).map_err(|error| reason(&format!("the password {error}")))?;
            read.users.insert(name, (entry.password, scopes));
        }
        Ok(read)
    }

    /// Writes the file: whole or not at all, and for its owner alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CredentialsError> {
        let failed = |source| CredentialsError::Io { path: path.to_owned(), source };
        let words = |scopes: &[Scope]| scopes.iter().map(|scope| scope.word().to_owned()).collect();
        let token = |(name, (hash, scopes)): (&String, &(TokenHash, Vec<Scope>))| {
            (name.clone(), TokenEntry { sha256: hash.to_hex(), scopes: words(scopes) })
        };
        let user = |(name, (phc, scopes)): (&String, &(String, Vec<Scope>))| {
            (name.clone(), UserEntry { password: phc.clone(), scopes: words(scopes) })
        };
        let file =
            File { tokens: self.tokens.iter().map(token).collect(), users: self.users.iter().map(user).collect() };
        let text = toml::to_string(&file).map_err(|error| failed(io::Error::other(error)))?;
        private::replace(path, text.as_bytes()).map_err(failed)
    }

    /// Makes a token, and gives what nobody will see again: 256 random bits.
    ///
    /// # Errors
    /// When the name is taken or none, or there is no scope.
    pub fn create_token(&mut self, name: &str, scopes: &[Scope]) -> Result<String, EntryError> {
        self.check_entry(name, scopes)?;
        let secret = format!("{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>()));
        self.tokens.insert(name.to_owned(), (TokenHash::of(&secret), scopes.to_vec()));
        Ok(secret)
    }

    /// Adds a user with the hash of a password, in the PHC format.
    ///
    /// # Errors
    /// When the name is taken or none, there is no scope, or the hash is none.
    pub fn create_user(&mut self, name: &str, phc: String, scopes: &[Scope]) -> Result<(), EntryError> {
        self.check_entry(name, scopes)?;
        password::check_hash(&phc)?;
        self.users.insert(name.to_owned(), (phc, scopes.to_vec()));
        Ok(())
    }

    fn check_entry(&self, name: &str, scopes: &[Scope]) -> Result<(), EntryError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
            return Err(EntryError::BadName);
        }
        if scopes.is_empty() {
            return Err(EntryError::NoScope);
        }
        let taken = self.tokens.contains_key(name) || self.users.contains_key(name);
        if taken { Err(EntryError::Taken(name.to_owned())) } else { Ok(()) }
    }

    /// Takes a token or user away; `false` when there is none of that name.
    pub fn revoke(&mut self, name: &str) -> bool {
        self.tokens.remove(name).is_some() | self.users.remove(name).is_some()
    }

    /// Each credential: its name, `token` or `user`, and its scopes.
    pub fn list(&self) -> impl Iterator<Item = (&str, &'static str, &[Scope])> {
        let tokens = self.tokens.iter().map(|(name, (_, scopes))| (name.as_str(), "token", scopes.as_slice()));
        tokens.chain(self.users.iter().map(|(name, (_, scopes))| (name.as_str(), "user", scopes.as_slice())))
    }

    /// What a token is good for, if it is one. Every token is compared, in constant time.
    pub(crate) fn token(&self, presented: &str) -> Option<Scopes> {
        let hash = TokenHash::of(presented);
        self.tokens.values().fold(None, |found, (known, scopes)| {
            if known.equals(&hash) { Some(scopes.iter().copied().collect()) } else { found }
        })
    }

    /// The hash of a user's password, and what the user may do.
    pub(crate) fn user(&self, name: &str) -> Option<(&str, Scopes)> {
        self.users.get(name).map(|(phc, scopes)| (phc.as_str(), scopes.iter().copied().collect()))
    }

    /// Whether anybody has a password.
    pub(crate) fn has_users(&self) -> bool {
        !self.users.is_empty()
    }
}

fn scopes_of(words: &[String]) -> Result<Vec<Scope>, String> {
    let scopes = words.iter().map(|word| word.parse()).collect::<Result<Vec<Scope>, _>>();
    let scopes = scopes.map_err(|error| error.to_string())?;
    if scopes.is_empty() { Err("has no scopes".to_owned()) } else { Ok(scopes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_created_is_found_again_after_the_file_was_written_and_no_secret_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/credentials.toml");
        let mut made = Credentials::read(&path).unwrap();
        let secret = made.create_token("kitchen-tv", &[Scope::Content]).unwrap();
        let phc = password::hash("hunter2").unwrap();
        made.create_user("anna", phc.clone(), &[Scope::Content, Scope::Add]).unwrap();
        made.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&secret) && !text.contains("hunter2"), "{text}");

        let mut read = Credentials::read(&path).unwrap();
        assert_eq!(read.token(&secret), Some(Scopes::from_iter([Scope::Content])));
        assert_eq!(read.token("sg_guess"), None);
        assert_eq!(read.user("anna"), Some((phc.as_str(), Scopes::from_iter([Scope::Content, Scope::Add]))));
        assert_eq!(
            read.list().map(|(name, kind, _)| (name, kind)).collect::<Vec<_>>(),
            [("kitchen-tv", "token"), ("anna", "user")]
        );
        assert!(read.revoke("kitchen-tv") && !read.revoke("kitchen-tv"));
        assert_eq!(read.token(&secret), None);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        Credentials::default().write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_name_is_one_credentials() {
        let mut some = Credentials::default();
        some.create_token("a", &[Scope::Read]).unwrap();
        assert_eq!(some.create_token("a", &[Scope::Read]), Err(EntryError::Taken("a".to_owned())));
        let phc = password::hash("x").unwrap();
        assert_eq!(some.create_user("a", phc, &[Scope::Read]), Err(EntryError::Taken("a".to_owned())));
        for bad in ["", "a b", "ä", "a.b", &"x".repeat(65)] {
            assert_eq!(some.create_token(bad, &[Scope::Read]), Err(EntryError::BadName), "{bad}");
        }
        assert_eq!(some.create_token("b", &[]), Err(EntryError::NoScope));
    }

    #[test]
    fn a_mistake_names_its_entry_and_no_value() {
        for (text, expected) in [
            ("[tokens.x]\nsha256 = \"beef\"\nscopes = [\"read\"]\n", "tokens.x: sha256"),
            ("[tokens.x]\nsha256 = \"secret\"\n", "line 1"),
            ("[users.y]\npassword = \"secret\"\nscopes = [\"read\"]\n", "users.y: the password is no Argon2"),
            ("[users.y]\npassword = \"secret\"\nscopes = [\"root\"]\n", "users.y: `root` is no scope"),
            ("[users.y]\npassword = \"secret\"\nscopes = []\n", "users.y: has no scopes"),
            ("\n\nsecret = 1\n", "line"),
        ] {
            let reason = Credentials::parse(text).unwrap_err();
            assert!(reason.contains(expected) && !reason.contains("secret"), "{text}: {reason}");
        }
    }
}
