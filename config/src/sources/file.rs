//! Reads a TOML file. The text is parsed twice: once for values, once for the places they stand at.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use figment::value::Value;
use toml::de::DeTable;

use super::{Origin, Setting};
use crate::catalogue::Catalogue;
use crate::mistakes::Mistake;

/// 1 MiB. The full sample has about 6 KiB; a larger file is a wrong path, as a video given to `--config`.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What it means that a file is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    IsFine,
    IsAMistake,
}

pub(super) fn read(path: &Path, missing: Missing, catalogue: &Catalogue, mistakes: &mut Vec<Mistake>) -> Vec<Setting> {
    let text = match read_bounded(path, MAX_FILE_BYTES) {
        Ok(text) => text,
        Err(why) if why.kind() == ErrorKind::NotFound && missing == Missing::IsFine => return Vec::new(),
        Err(why) => {
            mistakes.push(Mistake::of_source(Origin::file(path, 0), format!("cannot be read: {why}")));
            return Vec::new();
        }
    };
    match parse(&text) {
        Ok((places, table)) => FileReader { path, text: &text, places, catalogue, mistakes }.settings(table),
        Err(why) => {
            let line = why.span().map_or(0, |span| line_at(&text, span.start));
            mistakes.push(Mistake::of_source(Origin::file(path, line), format!("is not TOML: {}", why.message())));
            Vec::new()
        }
    }
}

fn parse(text: &str) -> Result<(DeTable<'_>, toml::Table), toml::de::Error> {
    let places = DeTable::parse(text)?.into_inner();
    Ok((places, toml::from_str(text)?))
}

/// Reads a text file that is not longer than the bound.
pub(super) fn read_bounded(path: &Path, max_bytes: u64) -> std::io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(max_bytes + 1).read_to_string(&mut text)?;
    if read as u64 > max_bytes {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {max_bytes} bytes")));
    }
    Ok(text)
}

struct FileReader<'a> {
    path: &'a Path,
    text: &'a str,
    places: DeTable<'a>,
    catalogue: &'a Catalogue,
    mistakes: &'a mut Vec<Mistake>,
}

impl FileReader<'_> {
    fn settings(mut self, table: toml::Table) -> Vec<Setting> {
        let mut settings = Vec::new();
        for (section, content) in table {
            match (self.catalogue.section_doc(&section).is_some(), content) {
                (true, toml::Value::Table(options)) => settings
                    .extend(options.into_iter().filter_map(|(name, value)| self.setting(&section, &name, value))),
                (true, _) => self.refuse(&section, None, format!("is a section with options, as [{section}]")),
                (false, toml::Value::Table(_)) => self.refuse(&section, None, self.catalogue.unknown_section(&section)),
                (false, _) => self.refuse(&section, None, self.catalogue.unknown_option(&section)),
            }
        }
        settings
    }

    fn setting(&mut self, section: &str, name: &str, value: toml::Value) -> Option<Setting> {
        let key = format!("{section}.{name}");
        let Some(option) = self.catalogue.option(&key) else {
            self.refuse(section, Some(name), self.catalogue.unknown_option(&key));
            return None;
        };
        let written = option.shown(&value);
        let value = Value::serialize(value).expect("a TOML value has only shapes that figment's values have");
        Some(Setting { key, value, written, origin: self.origin(section, Some(name)) })
    }

    /// Notes an unknown key. Its value is not shown: it may be a secret under a mistyped name.
    fn refuse(&mut self, section: &str, option: Option<&str>, reason: String) {
        let key = option.map_or_else(|| section.to_owned(), |option| format!("{section}.{option}"));
        let origin = self.origin(section, option);
        self.mistakes.push(Mistake { key: Some(key), value: None, origin, reason });
    }

    /// The line that an option, or the section when no option is named, stands at.
    fn origin(&self, section: &str, option: Option<&str>) -> Origin {
        Origin::file(self.path, self.line_of(section, option).unwrap_or(0))
    }

    fn line_of(&self, section: &str, option: Option<&str>) -> Option<usize> {
        let (section_key, content) = self.places.get_key_value(section)?;
        let start = match option {
            None => section_key.span().start,
            Some(option) => content.get_ref().as_table()?.get_key_value(option)?.0.span().start,
        };
        Some(line_at(self.text, start))
    }
}

/// The line of a byte position, counted from 1.
fn line_at(text: &str, position: usize) -> usize {
    1 + text.bytes().take(position).filter(|byte| *byte == b'\n').count()
}
