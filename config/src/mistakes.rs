//! What is wrong with a configuration, all of it at once.

use std::fmt;

use crate::Origin;

/// One mistake: where, what, and why it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The option, or `None` when a whole file or variable is at fault.
    pub key: Option<String>,
    /// The value given, as TOML; a secret is redacted.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// Why it cannot be, and what can.
    pub reason: String,
}

/// Every mistake in a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// File by file and line by line, then the environment, then flags.
    pub mistakes: Vec<Mistake>,
}

impl Mistake {
    /// A file or a variable that cannot be read at all.
    pub(crate) fn of_source(origin: Origin, reason: impl Into<String>) -> Self {
        Self { key: None, value: None, origin, reason: reason.into() }
    }
}

impl ConfigErrors {
    /// A change that a running gateway cannot take.
    pub(crate) fn needs_restart(key: &str, value: &str) -> Self {
        let (key, value) = (Some(key.to_owned()), Some(crate::sources::quoted(value)));
        let reason = "can be changed in the configuration only, and needs a restart".to_owned();
        Self { mistakes: vec![Mistake { key, value, origin: Origin::Flag { name: "request".to_owned() }, reason }] }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.key, &self.value) {
            (Some(key), Some(value)) => write!(f, "{key} = {value} ({}): {}", self.origin, self.reason),
            (Some(key), None) => write!(f, "{key} ({}): {}", self.origin, self.reason),
            (None, _) => write!(f, "{}: {}", self.origin, self.reason),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mistakes = if self.mistakes.len() == 1 { "mistake" } else { "mistakes" };
        write!(f, "the configuration has {} {mistakes}:", self.mistakes.len())?;
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}
