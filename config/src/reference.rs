//! Every option as a page of Markdown, for who looks one up: generated from the same doc comments as the sample.

use crate::catalogue::{Amount, Catalogue, OptionEntry, Shape, env_name};
use crate::live::LIVE_SECTIONS;
use crate::options::Config;
use crate::render::{push_line, sections};

const HEAD: &str = "\
# Configuration

Every option, as `swarmgate config reference` prints it. None has to be set.

The strongest source wins: flags, then the environment, `--config FILE`, the user's file, the system's file
(`/etc/swarmgate/config.toml`), and what is built in. In a file options stand below their section:

```toml
[cache]
max_size = \"50GiB\"
```

In the environment `cache.max_size` is `SWARMGATE_CACHE__MAX_SIZE`, lists have commas, and a variable with `_FILE` at its
end names a file that holds the value, which is how secrets are given. On the command line any option is
`--set cache.max_size=50GiB`.

`swarmgate config check` tells every mistake, `swarmgate config show --origin` where each value comes from,
`swarmgate config init` writes a sample file, `swarmgate config schema` a JSON schema for editors. Options whose change takes
effect *while it runs* follow SIGHUP, `PATCH /api/v1/config`, and their file where `reload.watch` is set; a configuration
with a mistake in it changes nothing.
";

/// The reference of all options, as Markdown.
#[must_use]
pub fn reference() -> String {
    let catalogue = Catalogue::new();
    let mut out = HEAD.to_owned();
    for (section, options) in sections(&Config::default()) {
        push_line(&mut out, &format!("\n## `[{section}]`\n"));
        push_line(&mut out, catalogue.section_doc(&section).unwrap_or_default());
        for (name, default) in options {
            let key = format!("{section}.{name}");
            let Some(option) = catalogue.option(&key) else { continue };
            entry(&mut out, &key, option, &default);
        }
    }
    out
}

fn entry(out: &mut String, key: &str, option: &OptionEntry, default: &toml::Value) {
    push_line(out, &format!("\n### `{key}`\n\n{}\n", option.doc));
    push_line(out, &format!("- Value: {}", kind(option)));
    for (word, meaning) in &option.choices {
        push_line(out, &format!("  - `\"{word}\"`: {meaning}"));
    }
    push_line(out, &format!("- Default: {}", shown_default(option, default)));
    push_line(out, &format!("- Environment: `{}`", env_name(key)));
    push_line(out, &format!("- A change takes effect {}", when(key)));
}

/// What may be written for it, with its unit.
fn kind(option: &OptionEntry) -> String {
    if !option.choices.is_empty() {
        return "one of".to_owned();
    }
    if option.secret {
        return "a text that no output shows".to_owned();
    }
    match (option.amount, option.shape, option.bounds) {
        (Some(Amount::Size), ..) => "a size, as `\"10GiB\"`, `\"512MiB\"` or a number of bytes".to_owned(),
        (Some(Amount::Rate), ..) => {
            "bytes a second, as `\"2MiB/s\"`, `\"500KiB/s\"` or a number; `0` is no limit".to_owned()
        }
        (Some(Amount::Span), ..) => "a length of time, as `\"30s\"`, `\"5m\"`, `\"6h\"`".to_owned(),
        (None, Shape::Boolean, _) => "`true` or `false`".to_owned(),
        (None, Shape::Integer, (Some(min), Some(max))) => format!("a whole number from {min} to {max}"),
        (None, Shape::Integer, _) => "a whole number".to_owned(),
        (None, Shape::Number, _) => "a number".to_owned(),
        (None, Shape::List, _) => "a list of texts".to_owned(),
        (None, Shape::Text, _) => "a text".to_owned(),
    }
}

fn shown_default(option: &OptionEntry, default: &toml::Value) -> String {
    if option.secret {
        return "none".to_owned();
    }
    format!("`{default}`")
}

fn when(key: &str) -> &'static str {
    let is_live = LIVE_SECTIONS.iter().any(|section| key.split('.').next() == Some(section));
    if is_live { "while it runs" } else { "at the next start" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_has_its_meaning_default_variable_and_time_of_effect() {
        let page = reference();
        for key in Catalogue::new().keys() {
            let (_, rest) = page.split_once(&format!("### `{key}`\n\n")).unwrap_or_else(|| panic!("{key} is missing"));
            let entry = rest.split("\n#").next().unwrap();
            assert!(!entry.starts_with("- "), "{key} has a meaning");
            assert!(entry.contains(&format!("- Environment: `{}`\n", env_name(key))), "{key}: {entry}");
            for field in ["- Value: ", "- Default: ", "- A change takes effect "] {
                assert_eq!(entry.matches(field).count(), 1, "{key}, {field}: {entry}");
            }
        }
        let (_, limit) = page.split_once("### `limits.bandwidth`").unwrap();
        assert!(limit.split("###").next().unwrap().contains("while it runs"));
        let (_, dir) = page.split_once("### `cache.max_size`").unwrap();
        let dir = dir.split("###").next().unwrap();
        assert!(
            dir.contains("- Value: a size") && dir.contains("`\"10GiB\"`") && dir.contains("at the next start"),
            "{dir}"
        );
    }

    #[test]
    fn secrets_have_no_default_to_show() {
        let page = reference();
        let (_, token) = page.split_once("### `auth.token`").unwrap();
        assert!(token.split("###").next().unwrap().contains("- Default: none\n"));
    }
}
