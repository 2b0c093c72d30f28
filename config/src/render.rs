//! Writes a configuration for people and editors: the annotated sample, the values in force, the JSON schema. The sample
//! and the schema come from the doc comments of the options, so there is no second text to keep in step.

use std::fmt::Write;

use serde_json::Value as Json;

use crate::catalogue::{Catalogue, inline_schema};
use crate::options::Config;
use crate::{Loaded, Origin};

/// Columns of the sample's comments.
const COMMENT_WIDTH: usize = 100;

const SAMPLE_HEAD: &str = "\
# swarmgate configuration. Every line that sets an option is commented out and shows the built-in value.
#
# The strongest source wins: flags, then the environment, --config FILE, the user's file, the system's file. In the
# environment cache.max_size is SWARMGATE_CACHE__MAX_SIZE; with _FILE added it names a file that holds the value.
# `swarmgate config check` finds mistakes, `swarmgate config show --origin` says where each value comes from.
";

/// An annotated TOML file with every option at its default.
#[must_use]
pub fn sample() -> String {
    let catalogue = Catalogue::new();
    let mut out = SAMPLE_HEAD.to_owned();
    for (section, options) in sections(&Config::default()) {
        out.push('\n');
        comment(&mut out, catalogue.section_doc(&section).unwrap_or_default(), "");
        push_line(&mut out, &format!("[{section}]"));
        for (name, value) in options {
            out.push('\n');
            describe(&mut out, &catalogue, &format!("{section}.{name}"));
            push_line(&mut out, &format!("#{name} = {value}"));
        }
    }
    out
}

/// The JSON schema of the configuration file.
#[must_use]
pub fn schema() -> Json {
    inline_schema()
}

/// Every option and its value as TOML with dotted keys, on request with its origin. Secrets are redacted.
#[must_use]
pub fn show(loaded: &Loaded, with_origin: bool) -> String {
    let mut out = String::new();
    for (section, options) in sections(&loaded.config) {
        for (name, value) in options {
            let key = format!("{section}.{name}");
            match loaded.origins.get(&key).filter(|_| with_origin) {
                Some(Origin::BuiltIn) => push_line(&mut out, &format!("{key} = {value}  # built in")),
                Some(origin) => push_line(&mut out, &format!("{key} = {value}  # from {origin}")),
                None => push_line(&mut out, &format!("{key} = {value}")),
            }
        }
    }
    out
}

/// The sections and their options in the order they are declared in; the values are TOML, secrets redacted.
pub(crate) fn sections(config: &Config) -> Vec<(String, toml::Table)> {
    let table = toml::Table::try_from(config).expect("every option is a text, a number, a switch or a list of texts");
    let as_section = |(name, content)| {
        let toml::Value::Table(options) = content else { return None };
        Some((name, options))
    };
    table.into_iter().filter_map(as_section).collect()
}

fn describe(out: &mut String, catalogue: &Catalogue, key: &str) {
    let Some(option) = catalogue.option(key) else { return };
    comment(out, &option.doc, "");
    for (word, meaning) in &option.choices {
        comment(out, &format!("\"{word}\": {meaning}"), "  ");
    }
}

/// Writes a text as comment lines, wrapped between words.
fn comment(out: &mut String, text: &str, indent: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > COMMENT_WIDTH {
            push_line(out, &format!("# {indent}{line}"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push_line(out, &format!("# {indent}{line}"));
}

pub(crate) fn push_line(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Flag, Sources};

    #[test]
    fn the_sample_is_the_manual() {
        insta::assert_snapshot!(sample());
    }

    #[test]
    fn the_values_in_force_name_their_origin() {
        let flags =
            vec![Flag::new("--set", "auth.token", "hunter2"), Flag::new("--listen", "server.listen", "[::1]:1")];
        let sources = Sources { flags, platform_cache_dir: Some("/var/cache/swarmgate".into()), ..Sources::default() };
        let loaded = Config::load(&sources).unwrap();
        insta::assert_snapshot!(show(&loaded, true));
        assert!(!show(&loaded, false).contains("built in"));
    }

    #[test]
    fn the_schema_refuses_unknown_keys() {
        let schema = schema();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["cache"]["additionalProperties"], false);
        assert_eq!(schema["properties"]["cache"]["properties"]["max_size"]["default"], "10GiB");
    }
}
