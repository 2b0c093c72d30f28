//! Reads what the command line says.

use super::{Flag, Origin, Setting};
use crate::catalogue::Catalogue;
use crate::mistakes::Mistake;

pub(super) fn read(flags: &[Flag], catalogue: &Catalogue, mistakes: &mut Vec<Mistake>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for flag in flags {
        match read_one(flag, catalogue) {
            Ok(setting) => settings.push(setting),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    settings
}

fn read_one(flag: &Flag, catalogue: &Catalogue) -> Result<Setting, Mistake> {
    let origin = Origin::Flag { name: flag.name.clone() };
    let mistake = |value, reason| Mistake { key: Some(flag.key.clone()), value, origin: origin.clone(), reason };
    let Some(option) = catalogue.option(&flag.key) else {
        // The value is not shown: it may be a secret under a mistyped name.
        return Err(mistake(None, catalogue.unknown_option(&flag.key)));
    };
    Setting::from_text(&flag.key, &flag.value, option, origin.clone())
        .map_err(|reason| mistake(Some(option.shown_text(&flag.value)), reason))
}
