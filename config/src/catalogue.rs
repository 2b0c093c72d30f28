//! Which options there are, read from the schema of [`Config`]: the one list that unknown keys, the environment, the
//! sample and the redaction of secrets go by.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use crate::Config;
use crate::sources::{ENV_PREFIX, quoted};
use crate::urls;
use crate::values::REDACTED;

/// Every section and option by its dotted key.
#[derive(Debug)]
pub(crate) struct Catalogue {
    sections: BTreeMap<String, String>,
    options: BTreeMap<String, OptionEntry>,
}

/// What is known of one option.
#[derive(Debug)]
pub(crate) struct OptionEntry {
    /// How a text becomes its value.
    pub(crate) shape: Shape,
    /// Whether its value may not be shown.
    pub(crate) secret: bool,
    /// Whether it is a URL or a list of them, of which not all may be shown.
    pub(crate) url: bool,
    /// Its entry in the manual.
    pub(crate) doc: String,
    /// The smallest and largest number it can be, as far as the type says.
    pub(crate) bounds: (Option<u64>, Option<u64>),
    /// A value it could have, where the type knows one.
    example: Option<String>,
    /// What its text stands for, where that is an amount.
    pub(crate) amount: Option<Amount>,
    /// The words it can be, each with its meaning; empty when it is not a choice.
    pub(crate) choices: Vec<(String, String)>,
}

/// What a text stands for that has a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    /// A number of bytes.
    Size,
    /// Bytes a second.
    Rate,
    /// A length of time.
    Span,
}

/// How a text from the environment or a flag becomes an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As it stands: words, sizes, times, addresses.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Comma-separated, or a TOML array.
    List,
}

/// The schema of [`Config`] without references, as the catalogue reads it.
pub(crate) fn inline_schema() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

impl Catalogue {
    pub(crate) fn new() -> Self {
        let mut sections = BTreeMap::new();
        let mut options = BTreeMap::new();
        let schema = inline_schema();
        for (section, section_schema) in properties(&schema) {
            sections.insert(section.clone(), text(section_schema, "description"));
            for (name, option_schema) in properties(section_schema) {
                options.insert(format!("{section}.{name}"), OptionEntry::read(option_schema));
            }
        }
        Self { sections, options }
    }

    pub(crate) fn option(&self, key: &str) -> Option<&OptionEntry> {
        self.options.get(key)
    }

    pub(crate) fn section_doc(&self, section: &str) -> Option<&str> {
        self.sections.get(section).map(String::as_str)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.options.keys().map(String::as_str)
    }

    /// The option that this environment variable sets.
    pub(crate) fn key_of_env(&self, name: &str) -> Option<&str> {
        self.keys().find(|key| env_name(key) == name)
    }

    /// Why a key is unknown, with the likeliest option meant.
    pub(crate) fn unknown_option(&self, key: &str) -> String {
        let same_name = self.keys().find(|known| last_part(known) == last_part(key));
        same_name
            .or_else(|| closest(key, self.keys()))
            .map_or_else(|| "there is no such option".to_owned(), |meant| no_such("option", meant))
    }

    /// Why a section is unknown, with the likeliest one meant.
    pub(crate) fn unknown_section(&self, section: &str) -> String {
        closest(section, self.sections.keys().map(String::as_str))
            .map_or_else(|| "there is no such section".to_owned(), |meant| no_such("section", meant))
    }

    /// Why an environment variable is unknown, with the likeliest one meant.
    pub(crate) fn unknown_env(&self, name: &str) -> String {
        let names: Vec<String> = self.keys().map(env_name).collect();
        closest(name, names.iter().map(String::as_str))
            .map_or_else(|| "no option has this name".to_owned(), |meant| no_such("option", meant))
    }
}

impl OptionEntry {
    fn read(schema: &Json) -> Self {
        let shape = match schema["type"].as_str() {
            Some("boolean") => Shape::Boolean,
            Some("integer") => Shape::Integer,
            Some("number") => Shape::Number,
            Some("array") => Shape::List,
            _ => Shape::Text,
        };
        let choices = schema["oneOf"].as_array().into_iter().flatten();
        Self {
            shape,
            secret: schema["writeOnly"].as_bool().unwrap_or(false),
            url: schema["x-url"].as_bool().unwrap_or(false),
            doc: text(schema, "description"),
            bounds: (schema["minimum"].as_u64(), schema["maximum"].as_u64()),
            example: schema["examples"][0].as_str().map(str::to_owned),
            amount: match schema["format"].as_str() {
                Some("size") => Some(Amount::Size),
                Some("rate") => Some(Amount::Rate),
                Some("duration-in-words") => Some(Amount::Span),
                Some(_) | None => None,
            },
            choices: choices.map(|choice| (text(choice, "const"), text(choice, "description"))).collect(),
        }
    }
}

impl OptionEntry {
    /// What may be shown of a value in a file, as TOML.
    pub(crate) fn shown(&self, value: &toml::Value) -> String {
        match (self.secret, self.url) {
            (true, _) => REDACTED.to_owned(),
            (false, true) => without_keys(value).to_string(),
            (false, false) => value.to_string(),
        }
    }

    /// What may be shown of a text in the environment or a flag, as TOML.
    pub(crate) fn shown_text(&self, text: &str) -> String {
        let is_array = self.shape == Shape::List && text.trim_start().starts_with('[');
        match (self.secret, self.url, text.trim().parse::<toml::Value>()) {
            (true, ..) => REDACTED.to_owned(),
            (false, true, Ok(array)) if is_array => without_keys(&array).to_string(),
            (false, true, _) => {
                let parts = text.split(',').map(|part| urls::shown(part.trim()));
                quoted(&if self.shape == Shape::List { parts.collect::<Vec<_>>().join(",") } else { urls::shown(text) })
            }
            (false, false, _) => quoted(text),
        }
    }

    /// What a value of another kind is answered with.
    pub(crate) fn expectation(&self) -> String {
        if !self.choices.is_empty() {
            let words: Vec<&str> = self.choices.iter().map(|(word, _)| word.as_str()).collect();
            return format!("has to be one of {}", words.join(", "));
        }
        match (self.shape, self.bounds) {
            (Shape::Text, _) => match &self.example {
                Some(example) => format!("has to be a text as \"{example}\""),
                None => "has to be a text in quotes".to_owned(),
            },
            (Shape::Boolean, _) => "has to be true or false".to_owned(),
            (Shape::Integer, (Some(min), Some(max))) => format!("has to be a whole number from {min} to {max}"),
            (Shape::Integer, (Some(min), None)) => format!("has to be a whole number of at least {min}"),
            (Shape::Integer, (None, _)) => "has to be a whole number".to_owned(),
            (Shape::Number, _) => "has to be a number".to_owned(),
            (Shape::List, _) => "has to be a list of texts".to_owned(),
        }
    }
}

/// The same value with what may be shown of each URL in it.
fn without_keys(value: &toml::Value) -> toml::Value {
    match value {
        toml::Value::String(text) => toml::Value::String(urls::shown(text)),
        toml::Value::Array(values) => toml::Value::Array(values.iter().map(without_keys).collect()),
        toml::Value::Table(_) => toml::Value::String(REDACTED.to_owned()),
        other @ (toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)) => other.clone(),
    }
}

/// The environment variable of an option: `SWARMGATE_CACHE__MAX_SIZE` for `cache.max_size`.
pub(crate) fn env_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

fn no_such(what: &str, meant: &str) -> String {
    format!("there is no such {what}; did you mean `{meant}`?")
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// The known word that is near enough to be meant: a third of its letters may be wrong.
fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

fn properties(schema: &Json) -> impl Iterator<Item = (&String, &Json)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn text(schema: &Json, field: &str) -> String {
    schema[field].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_an_entry_in_the_manual() {
        let catalogue = Catalogue::new();
        assert!(catalogue.keys().count() > 30);
        for key in catalogue.keys() {
            let option = catalogue.option(key).unwrap();
            assert!(!option.doc.is_empty(), "{key}");
            assert!(option.choices.iter().all(|(word, doc)| !word.is_empty() && !doc.is_empty()), "{key}");
        }
    }

    #[test]
    fn the_schema_says_how_a_text_is_read_and_what_is_secret() {
        let catalogue = Catalogue::new();
        let shape = |key| catalogue.option(key).unwrap().shape;
        assert_eq!(shape("server.listen"), Shape::List);
        assert_eq!(shape("bittorrent.listen_port"), Shape::Integer);
        assert_eq!(shape("bittorrent.dht"), Shape::Boolean);
        assert_eq!(shape("cache.max_size"), Shape::Text);
        assert_eq!(shape("auth.mode"), Shape::Text);
        let secrets: Vec<_> = catalogue.keys().filter(|key| catalogue.option(key).unwrap().secret).collect();
        assert_eq!(secrets, ["auth.link_key", "auth.token", "webtorrent.turn_password"]);
        let urls: Vec<_> = catalogue.keys().filter(|key| catalogue.option(key).unwrap().url).collect();
        assert_eq!(
            urls,
            [
                "bittorrent.proxy",
                "bittorrent.trackers",
                "ipfs.gateways",
                "ipfs.kubo_api",
                "ipfs.routers",
                "observe.otlp_endpoint",
                "server.public_url",
                "webtorrent.stun",
                "webtorrent.tracker_origins",
                "webtorrent.trackers",
                "webtorrent.turn",
            ]
        );
    }

    #[test]
    fn a_mistyped_key_is_answered_with_the_one_meant() {
        let catalogue = Catalogue::new();
        for (typed, meant) in [
            ("cache.maxsize", "cache.max_size"),
            ("cache.max_sise", "cache.max_size"),
            ("server.max_peers", "bittorrent.max_peers"),
            ("max_size", "cache.max_size"),
        ] {
            let reason = catalogue.unknown_option(typed);
            assert!(reason.contains(&format!("`{meant}`")), "{typed}: {reason}");
        }
        assert_eq!(catalogue.unknown_option("plumbing.pressure"), "there is no such option");
        assert!(catalogue.unknown_env("SWARMGATE_CACHE_MAX_SIZE").contains("`SWARMGATE_CACHE__MAX_SIZE`"));
    }
}
