//! Where a configuration comes from: files, the environment, flags. Each is read into [`Setting`]s, one an option, that
//! remember their origin; what cannot be read becomes a mistake and the rest goes on.

mod env;
mod file;
mod flags;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use crate::catalogue::{Catalogue, OptionEntry, Shape};
use crate::mistakes::Mistake;

/// What every environment variable of the program starts with.
pub const ENV_PREFIX: &str = "SWARMGATE_";

/// The variable that names a file as `--config` does.
const CONFIG_VARIABLE: &str = "SWARMGATE_CONFIG";

/// Everything a configuration is read from. [`Sources::default`] is nothing at all, which is what a test starts from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The system file; it may be missing.
    pub system: Option<PathBuf>,
    /// The user file; it may be missing.
    pub user: Option<PathBuf>,
    /// The file of `--config`; it has to be there. Without one, `SWARMGATE_CONFIG` is looked up in `env`.
    pub explicit: Option<PathBuf>,
    /// The environment. Variables without [`ENV_PREFIX`] are ignored.
    pub env: Vec<(String, OsString)>,
    /// What the command line says.
    pub flags: Vec<Flag>,
    /// Where the cache lies when nothing names a place.
    pub platform_cache_dir: Option<PathBuf>,
}

/// An option given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The flag as typed, for its origin: `--listen`.
    pub name: String,
    /// The option it sets: `server.listen`.
    pub key: String,
    /// Its value, written as in the environment: lists with commas.
    pub value: String,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The program itself.
    BuiltIn,
    /// A line of a file; line 0 is the file as a whole.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Env {
        /// Its name.
        name: String,
    },
    /// A flag on the command line.
    Flag {
        /// The flag as typed.
        name: String,
    },
}

/// One option's value from one source.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: Value,
    /// What may be shown of the value as the operator wrote it, or nearly so.
    pub(crate) written: String,
    pub(crate) origin: Origin,
}

impl Sources {
    /// The platform's files and directories, and the environment of this process.
    #[must_use]
    pub fn from_process() -> Self {
        let platform = ProjectDirs::from("", "", "swarmgate");
        Self {
            system: cfg!(unix).then(|| PathBuf::from("/etc/swarmgate/config.toml")),
            user: platform.as_ref().map(|dirs| dirs.config_dir().join("config.toml")),
            explicit: None,
            // A name that is not UTF-8 cannot start with the prefix.
            env: std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect(),
            flags: Vec::new(),
            platform_cache_dir: platform.map(|dirs| dirs.cache_dir().to_owned()),
        }
    }

    /// Reads every source, weakest first.
    pub(crate) fn read(&self, catalogue: &Catalogue, mistakes: &mut Vec<Mistake>) -> Vec<Setting> {
        let mut settings = Vec::new();
        for optional in [&self.system, &self.user].into_iter().flatten() {
            settings.extend(file::read(optional, file::Missing::IsFine, catalogue, mistakes));
        }
        if let Some(explicit) = self.explicit_file() {
            settings.extend(file::read(&explicit, file::Missing::IsAMistake, catalogue, mistakes));
        }
        settings.extend(env::read(&self.env, catalogue, mistakes));
        settings.extend(flags::read(&self.flags, catalogue, mistakes));
        settings
    }

    /// The files that a configuration is read from, weakest first, whether or not they are there.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.system.clone().into_iter().chain(self.user.clone()).chain(self.explicit_file()).collect()
    }

    fn explicit_file(&self) -> Option<PathBuf> {
        let from_env = || self.env.iter().find(|(name, value)| name == CONFIG_VARIABLE && !value.is_empty());
        self.explicit.clone().or_else(|| from_env().map(|(_, path)| PathBuf::from(path)))
    }
}

impl Flag {
    /// A flag that sets an option.
    pub fn new(name: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), key: key.into(), value: value.into() }
    }
}

impl Origin {
    fn file(path: &Path, line: usize) -> Self {
        Self::File { path: path.to_owned(), line }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::File { path, line: 0 } => write!(f, "file {}", path.display()),
            Self::File { path, line } => write!(f, "file {}, line {line}", path.display()),
            Self::Env { name } => write!(f, "env {name}"),
            Self::Flag { name } => write!(f, "flag {name}"),
        }
    }
}

impl Setting {
    /// Reads a text from the environment or a flag in the shape of its option.
    fn from_text(key: &str, text: &str, option: &OptionEntry, origin: Origin) -> Result<Self, String> {
        let wrong = || option.expectation();
        let value = match option.shape {
            Shape::Text => Value::from(text),
            Shape::Boolean => Value::from(text.parse::<bool>().map_err(|_| wrong())?),
            Shape::Integer => Value::from(text.parse::<i64>().map_err(|_| wrong())?),
            Shape::Number => Value::from(text.parse::<f64>().map_err(|_| wrong())?),
            Shape::List => list(text)?,
        };
        let is_toml = match option.shape {
            Shape::Text => false,
            Shape::Boolean | Shape::Integer | Shape::Number => true,
            Shape::List => text.starts_with('['),
        };
        let written = if is_toml && !option.url { text.to_owned() } else { option.shown_text(text) };
        Ok(Self { key: key.to_owned(), value, written, origin })
    }
}

fn list(text: &str) -> Result<Value, String> {
    if !text.trim_start().starts_with('[') {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        return Ok(Value::from(parts.collect::<Vec<_>>()));
    }
    // An IPv6 address starts with a bracket too, so what is no TOML array is tried as a plain list.
    let array: Option<toml::Value> = text.trim().parse().ok();
    match array {
        Some(array) => Value::serialize(array).map_err(|why| why.to_string()),
        None if text.contains("]:") => Ok(Value::from(text.split(',').map(str::trim).collect::<Vec<_>>())),
        None => Err("is neither a comma-separated list nor a TOML array".to_owned()),
    }
}

/// A text as TOML writes it.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.key, self.value.clone());
        Ok(Map::from([(Profile::Default, nested.into_dict().unwrap_or_default())]))
    }
}
