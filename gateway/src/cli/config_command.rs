//! `swarmgate config …`: checks, shows and writes the configuration.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use swarmgate_config::{Config, ConfigErrors, Loaded, Sources, reference, sample, schema, show};

use super::Exit;
use super::args::{ConfigCommand, Output};

/// Why a `config` command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ConfigCommandError {
    /// The configuration is wrong.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
    /// There is a file already.
    #[error("{0} exists and is left alone")]
    Exists(PathBuf),
    /// This system has no place for a user's configuration.
    #[error("this system names no configuration directory for the user; give a file")]
    NoPlace,
    /// The file cannot be written.
    #[error("cannot write {0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl ConfigCommandError {
    /// The exit code it ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Invalid(_) => Exit::Usage,
            Self::Exists(_) | Self::NoPlace => Exit::Error,
            Self::File(_, why) | Self::Output(why) => Exit::from(why),
        }
    }
}

/// Runs a `config` command, writing its result to `out`.
///
/// # Errors
/// When the configuration is wrong, or something cannot be written. A reader that went away is not an error.
pub fn run(
    command: &ConfigCommand,
    sources: &Sources,
    output: Output,
    out: &mut dyn Write,
) -> Result<(), ConfigCommandError> {
    let done = match command {
        ConfigCommand::Check => check(sources, output, out),
        ConfigCommand::Show { origin } => Config::load(sources)
            .map_err(ConfigCommandError::from)
            .and_then(|loaded| Ok(out.write_all(shown(&loaded, *origin, output).as_bytes())?)),
        ConfigCommand::Init { file } => init(file.as_deref(), sources, out),
        ConfigCommand::Reference => out.write_all(reference().as_bytes()).map_err(ConfigCommandError::from),
        ConfigCommand::Schema => writeln!(out, "{:#}", schema()).map_err(ConfigCommandError::from),
    };
    match done {
        Err(ConfigCommandError::Output(why)) if why.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn check(sources: &Sources, output: Output, out: &mut dyn Write) -> Result<(), ConfigCommandError> {
    let loaded = Config::load(sources);
    match output {
        Output::Json => writeln!(out, "{:#}", verdict(loaded.as_ref().err()))?,
        Output::Human if loaded.is_ok() => writeln!(out, "the configuration is valid")?,
        // The mistakes are the error itself, which the caller prints.
        Output::Human => {}
    }
    loaded?;
    Ok(())
}

fn verdict(errors: Option<&ConfigErrors>) -> Json {
    let mistakes: Vec<Json> = errors
        .iter()
        .flat_map(|errors| &errors.mistakes)
        .map(|mistake| {
            json!({
                "key": mistake.key,
                "value": mistake.value,
                "origin": mistake.origin.to_string(),
                "reason": mistake.reason,
            })
        })
        .collect();
    json!({ "valid": mistakes.is_empty(), "mistakes": mistakes })
}

fn shown(loaded: &Loaded, with_origin: bool, output: Output) -> String {
    match output {
        Output::Human => show(loaded, with_origin),
        Output::Json => format!("{:#}\n", shown_as_json(loaded, with_origin)),
    }
}

/// An object of dotted keys, so that a script reads `.["cache.max_size"]` with and without origins alike.
fn shown_as_json(loaded: &Loaded, with_origin: bool) -> Json {
    let values = serde_json::to_value(&loaded.config).expect("a configuration is texts, numbers, switches and lists");
    let entry = |(key, origin): (&String, &swarmgate_config::Origin)| {
        let value = values.pointer(&format!("/{}", key.replace('.', "/"))).cloned().unwrap_or_default();
        let shown = if with_origin { json!({ "value": value, "origin": origin.to_string() }) } else { value };
        (key.clone(), shown)
    };
    Json::Object(loaded.origins.iter().map(entry).collect())
}

fn init(file: Option<&Path>, sources: &Sources, out: &mut dyn Write) -> Result<(), ConfigCommandError> {
    if file == Some(Path::new("-")) {
        return Ok(out.write_all(sample().as_bytes())?);
    }
    let path = file.or(sources.user.as_deref()).ok_or(ConfigCommandError::NoPlace)?;
    write_new(path, &sample()).map_err(|why| match why.kind() == ErrorKind::AlreadyExists {
        true => ConfigCommandError::Exists(path.to_owned()),
        false => ConfigCommandError::File(path.to_owned(), why),
    })?;
    Ok(writeln!(out, "wrote {}", path.display())?)
}

/// Writes a file that must not be there yet; its directory may be missing.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use swarmgate_config::Flag;

    use super::*;

    fn sources(flags: &[(&str, &str)]) -> Sources {
        let flags = flags.iter().map(|(key, value)| Flag::new("--set", *key, *value)).collect();
        Sources { flags, platform_cache_dir: Some("/cache".into()), ..Sources::default() }
    }

    fn output_of(command: &ConfigCommand, sources: &Sources, output: Output) -> (String, Option<Exit>) {
        let mut out = Vec::new();
        let result = run(command, sources, output, &mut out);
        (String::from_utf8(out).unwrap(), result.err().map(|error| error.exit()))
    }

    #[test]
    fn check_says_valid_or_ends_as_a_usage_error() {
        let check = ConfigCommand::Check;
        let (text, exit) = output_of(&check, &sources(&[]), Output::Human);
        assert_eq!((text.as_str(), exit), ("the configuration is valid\n", None));

        let wrong = sources(&[("cache.memory", "lots")]);
        assert_eq!(output_of(&check, &wrong, Output::Human), (String::new(), Some(Exit::Usage)));
        let (text, exit) = output_of(&check, &wrong, Output::Json);
        let verdict: Json = serde_json::from_str(&text).unwrap();
        assert_eq!((verdict["valid"].as_bool(), exit), (Some(false), Some(Exit::Usage)));
        assert_eq!(verdict["mistakes"][0]["key"], "cache.memory");
    }

    #[test]
    fn show_prints_values_and_on_request_their_origin() {
        let set = sources(&[("cache.max_size", "1GiB"), ("auth.token", "hunter2")]);
        let (plain, _) = output_of(&ConfigCommand::Show { origin: false }, &set, Output::Human);
        assert!(plain.contains("cache.max_size = \"1GiB\"\n"), "{plain}");
        let (with_origin, _) = output_of(&ConfigCommand::Show { origin: true }, &set, Output::Human);
        assert!(with_origin.contains("cache.max_size = \"1GiB\"  # from flag --set\n"), "{with_origin}");

        let (json, _) = output_of(&ConfigCommand::Show { origin: true }, &set, Output::Json);
        let values: Json = serde_json::from_str(&json).unwrap();
        assert_eq!(values["cache.max_size"], json!({ "value": "1GiB", "origin": "flag --set" }));
        assert!(!format!("{plain}{with_origin}{json}").contains("hunter2"));
    }

    #[test]
    fn init_writes_a_file_that_loads_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/config.toml");
        let init = ConfigCommand::Init { file: None };
        let user = Sources { user: Some(file.clone()), ..sources(&[]) };
        assert_eq!(output_of(&init, &user, Output::Human).1, None);
        assert!(Config::load(&user).is_ok());

        std::fs::write(&file, "# mine").unwrap();
        assert_eq!(output_of(&init, &user, Output::Human).1, Some(Exit::Error));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "# mine");
        assert_eq!(output_of(&init, &sources(&[]), Output::Human).1, Some(Exit::Error));
    }

    #[test]
    fn a_sample_and_a_schema_go_to_stdout() {
        let (text, _) = output_of(&ConfigCommand::Init { file: Some("-".into()) }, &sources(&[]), Output::Human);
        assert!(text.contains("[cache]"));
        let (text, _) = output_of(&ConfigCommand::Schema, &sources(&[]), Output::Human);
        assert!(serde_json::from_str::<Json>(&text).unwrap()["properties"]["cache"].is_object());
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        struct Gone;

        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        assert!(run(&ConfigCommand::Schema, &sources(&[]), Output::Human, &mut Gone).is_ok());
    }
}
