//! `swarmgate token …`: who may do what, in the file that `auth.credentials` names.
//!
//! A running gateway reads the file again when it changes, so none of this needs it to be there.

use std::io::{BufRead, Write};
use std::path::Path;

use clap::Subcommand;
use serde_json::json;
use swarmgate_config::Config;

use super::Exit;
use super::args::Output;
use super::source::Failure;
use crate::auth::{Credentials, CredentialsError, Scope, password};

/// Bytes of a password that is read from stdin, at most.
const MAX_PASSWORD_BYTES: u64 = 4096;

/// What to do with credentials.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it: the file has its hash alone, so nobody can print it again
    Create {
        /// What it is called in lists, as kitchen-tv
        name: String,
        /// What it is good for, with commas: content, read, add, manage, admin
        #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "content")]
        scope: Vec<Scope>,
    },
    /// List tokens and users, and what they are good for
    List,
    /// Take a token or user away; a running gateway knows within seconds
    Revoke {
        /// What it is called
        name: String,
    },
    /// Read a password from stdin and print its Argon2id hash, or keep it for a user
    Hash {
        /// Add a user of this name with the password
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// What the user may do, with commas: content, read, add, manage, admin
        #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "content", requires = "user")]
        scope: Vec<Scope>,
    },
}

/// Runs the command; a password is the first line of `input`.
///
/// # Errors
/// [`Failure`] when there is no file for credentials, it cannot be read or written, or a name is taken or unknown.
pub fn run(
    config: &Config,
    command: &TokenCommand,
    output: Output,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { name, scope } => create(config, name, scope, output, out),
        TokenCommand::List => list(config, output, out),
        TokenCommand::Revoke { name } => revoke(config, name, output, out),
        TokenCommand::Hash { user, scope } => hash(config, user.as_deref(), scope, output, input, out),
    }
}

fn create(config: &Config, name: &str, scope: &[Scope], output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let path = file(config)?;
    let mut credentials = Credentials::read(path).map_err(|error| unreadable(&error))?;
    let secret = credentials.create_token(name, scope).map_err(|error| usage(&error))?;
    credentials.write(path).map_err(|error| unreadable(&error))?;
    match output {
        Output::Human => say(out, &secret),
        Output::Json => say(out, &format!("{:#}", json!({ "name": name, "scopes": words(scope), "token": secret }))),
    }
}

fn list(config: &Config, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let credentials = Credentials::read(file(config)?).map_err(|error| unreadable(&error))?;
    match output {
        Output::Human => credentials
            .list()
            .try_for_each(|(name, kind, scopes)| say(out, &format!("{name}  {kind}  {}", words(scopes).join(",")))),
        Output::Json => {
            let row = |(name, kind, scopes): (&str, &str, &[Scope])| json!({ "name": name, "kind": kind, "scopes": words(scopes) });
            say(out, &format!("{:#}", json!(credentials.list().map(row).collect::<Vec<_>>())))
        }
    }
}

fn revoke(config: &Config, name: &str, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let path = file(config)?;
    let mut credentials = Credentials::read(path).map_err(|error| unreadable(&error))?;
    if !credentials.revoke(name) {
        return Err(Failure::new(Exit::NotFound, format!("there is no token or user with the name {name}")));
    }
    credentials.write(path).map_err(|error| unreadable(&error))?;
    match output {
        Output::Human => {
            say(out, &format!("{name} is revoked; links that were made with it work until their time is over"))
        }
        Output::Json => say(out, &format!("{:#}", json!({ "name": name, "revoked": true }))),
    }
}

fn hash(
    config: &Config,
    user: Option<&str>,
    scope: &[Scope],
    output: Output,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let phc = password::hash(&read_password(input)?).map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    let Some(name) = user else {
        return match output {
            Output::Human => say(out, &phc),
            Output::Json => say(out, &format!("{:#}", json!({ "hash": phc }))),
        };
    };
    let path = file(config)?;
    let mut credentials = Credentials::read(path).map_err(|error| unreadable(&error))?;
    credentials.create_user(name, phc, scope).map_err(|error| usage(&error))?;
    credentials.write(path).map_err(|error| unreadable(&error))?;
    match output {
        Output::Human => say(out, &format!("{name} may {}", words(scope).join(", "))),
        Output::Json => say(out, &format!("{:#}", json!({ "name": name, "scopes": words(scope) }))),
    }
}

fn read_password(input: &mut dyn BufRead) -> Result<String, Failure> {
    let mut line = String::new();
    let read = std::io::Read::take(input, MAX_PASSWORD_BYTES).read_line(&mut line);
    read.map_err(|error| Failure::new(Exit::from(&error), format!("the password cannot be read: {error}")))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::new(Exit::Usage, "give the password as a line on stdin"));
    }
    Ok(password.to_owned())
}

fn file(config: &Config) -> Result<&Path, Failure> {
    let path = &config.auth.credentials;
    if path.as_os_str().is_empty() {
        let message = "name a file for the credentials first, in the configuration: \
                       auth.credentials = \"/etc/swarmgate/credentials.toml\"";
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(path)
}

fn words(scopes: &[Scope]) -> Vec<&'static str> {
    scopes.iter().map(|scope| scope.word()).collect()
}

fn usage(error: &crate::auth::EntryError) -> Failure {
    Failure::new(Exit::Usage, error.to_string())
}

fn unreadable(error: &CredentialsError) -> Failure {
    let exit = match &error {
        CredentialsError::Io { source, .. } => Exit::from(source),
        CredentialsError::Invalid { .. } => Exit::Error,
    };
    Failure::new(exit, error.to_string())
}

fn say(out: &mut dyn Write, line: &str) -> Result<(), Failure> {
    writeln!(out, "{line}").map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
        let mut config = Config::default();
        config.auth.credentials = dir.join("credentials.toml");
        config
    }

    fn output(config: &Config, command: &TokenCommand, input: &str) -> Result<String, Failure> {
        let mut out = Vec::new();
        run(config, command, Output::Human, &mut input.as_bytes(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn a_token_is_printed_once_listed_without_it_and_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let create = TokenCommand::Create { name: "tv".to_owned(), scope: vec![Scope::Content, Scope::Read] };
        let secret = output(&config, &create, "").unwrap();
        let known = Credentials::read(&config.auth.credentials).unwrap();
        assert!(known.token(secret.trim()).is_some_and(|scopes| scopes.allow(Scope::Read)));
        assert_eq!(output(&config, &TokenCommand::List, "").unwrap(), "tv  token  content,read\n");
        assert_eq!(output(&config, &create, "").unwrap_err().exit, Exit::Usage, "the name is taken");
        let revoke = TokenCommand::Revoke { name: "tv".to_owned() };
        assert!(output(&config, &revoke, "").is_ok());
        assert_eq!(output(&config, &revoke, "").unwrap_err().exit, Exit::NotFound);
        assert_eq!(output(&config, &TokenCommand::List, "").unwrap(), "");
    }

    #[test]
    fn a_password_comes_from_stdin_and_goes_into_a_hash() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let alone = TokenCommand::Hash { user: None, scope: Vec::new() };
        let phc = output(&Config::default(), &alone, "hunter2\n").unwrap();
        assert!(phc.starts_with("$argon2id$") && !phc.contains("hunter2"), "{phc}");
        assert_eq!(output(&config, &alone, "\n").unwrap_err().exit, Exit::Usage);
        let user = TokenCommand::Hash { user: Some("anna".to_owned()), scope: vec![Scope::Content] };
        assert_eq!(output(&config, &user, "hunter2\r\n").unwrap(), "anna may content\n");
        assert!(Credentials::read(&config.auth.credentials).unwrap().user("anna").is_some());
    }

    #[test]
    fn without_a_file_it_says_what_to_do() {
        let failure = output(&Config::default(), &TokenCommand::List, "").unwrap_err();
        assert!(failure.exit == Exit::Usage && failure.message.contains("auth.credentials = "), "{failure}");
    }
}
