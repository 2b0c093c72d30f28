//! What a credential lets its holder do.
//!
//! Content is a thing of its own; what is done over the API is a ladder: who may manage may add, who may add may read.

use std::fmt;
use std::str::FromStr;

use http::Method;

/// One thing that a credential may be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Reading content, and making links to it for others.
    Content,
    /// Reading what the API and the metrics tell.
    Read,
    /// Adding contents; and reading.
    Add,
    /// Changing and removing contents, streams, bans, breakers, what is cached; and adding.
    Manage,
    /// Everything.
    Admin,
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u8);

/// A word that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope; those are content, read, add, manage and admin")]
pub struct NoScope(String);

impl Scope {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [Self::Content, Self::Read, Self::Add, Self::Manage, Self::Admin];

    /// Its word in files and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Read => "read",
            Self::Add => "add",
            Self::Manage => "manage",
            Self::Admin => "admin",
        }
    }

    /// What a request to the API needs, `path` being what stands behind `/api/v1/`. What is not listed here changes
    /// something that nobody has thought of yet, and needs all.
    #[must_use]
    pub fn of_api(method: &Method, path: &str) -> Self {
        let (part, rest) = path.split_once('/').unwrap_or((path, ""));
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Self::Read;
        }
        match part {
            // It only asks.
            "denylists" if rest == "check" && *method == Method::POST => Self::Read,
            "links" => Self::Content,
            "items" if rest.is_empty() && *method == Method::POST => Self::Add,
            "items" | "pins" | "publish" | "btpk" | "streams" | "bans" | "breakers" | "cache" => Self::Manage,
            _ => Self::Admin,
        }
    }

    /// Its own bit, and those of what it includes.
    const fn bits(self) -> u8 {
        match self {
            Self::Content => 0b0_0001,
            Self::Read => 0b0_0010,
            Self::Add => 0b0_0110,
            Self::Manage => 0b0_1110,
            Self::Admin => 0b1_1111,
        }
    }
}

impl Scopes {
    /// Everything.
    pub const ALL: Self = Self(Scope::Admin.bits());

    /// Whether they are good for something.
    #[must_use]
    pub const fn allow(self, scope: Scope) -> bool {
        self.0 & scope.bits() == scope.bits()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bits()))
    }
}

impl FromStr for Scope {
    type Err = NoScope;

    fn from_str(word: &str) -> Result<Self, NoScope> {
        Self::ALL.into_iter().find(|scope| scope.word() == word).ok_or_else(|| NoScope(word.to_owned()))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_of_the_ladder_includes_those_below_and_content_is_beside_it() {
        let allowed = |scope: Scope| {
            let scopes = Scopes::from_iter([scope]);
            Scope::ALL.into_iter().filter(|it| scopes.allow(*it)).map(Scope::word).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(allowed(Scope::Content), "content");
        assert_eq!(allowed(Scope::Read), "read");
        assert_eq!(allowed(Scope::Add), "read add");
        assert_eq!(allowed(Scope::Manage), "read add manage");
        assert_eq!(allowed(Scope::Admin), "content read add manage admin");
        let player = Scopes::from_iter([Scope::Content, Scope::Add]);
        assert!(player.allow(Scope::Content) && player.allow(Scope::Read) && !player.allow(Scope::Manage));
        assert!(!Scopes::default().allow(Scope::Content));
    }

    #[test]
    fn what_changes_something_unheard_of_needs_everything() {
        let needed = |method: &str, path: &str| Scope::of_api(&method.parse().unwrap(), path);
        assert_eq!(needed("GET", "config"), Scope::Read);
        assert_eq!(needed("POST", "items"), Scope::Add);
        assert_eq!(needed("POST", "links"), Scope::Content);
        assert_eq!(needed("POST", "denylists/check"), Scope::Read);
        assert_eq!(needed("PUT", "denylists"), Scope::Admin);
        for manage in [
            "items/ab",
            "items/ab/recheck",
            "items/ab/pin",
            "items/ab/pause",
            "items/ab/peers",
            "pins",
            "pins/ab",
            "publish",
            "btpk",
            "streams/1",
            "bans/10.0.0.1",
            "breakers/x/reset",
            "cache/gc",
        ] {
            assert_eq!(needed("POST", manage), Scope::Manage, "{manage}");
        }
        assert_eq!((needed("DELETE", "items"), needed("DELETE", "cache")), (Scope::Manage, Scope::Manage));
        for admin in ["config", "networks/bt", "denylists", "denylists/check", "unheard/of", "", "itemsx", "links2"] {
            assert_eq!(needed("PATCH", admin), Scope::Admin, "{admin}");
        }
    }

    #[test]
    fn a_word_that_is_no_scope_is_answered_with_those_that_are() {
        assert_eq!("manage".parse(), Ok(Scope::Manage));
        assert!("Admin".parse::<Scope>().unwrap_err().to_string().contains("content, read, add"));
    }
}
