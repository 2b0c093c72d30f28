//! The program that plays: which it is, and its life.
//!
//! It is started as a program with arguments, never through a shell, since names in a URL are a stranger's. What the
//! environment says to swarmgate is kept from it: there may be a token in it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::cli::Exit;
use crate::cli::source::Failure;

/// What stands for the URL in a command.
const URL: &str = "{url}";
/// How long a player may take to end after Ctrl-C, which reaches it too where both have one terminal.
const GOODBYE: Duration = Duration::from_secs(2);

/// The players that are looked for, in this order, with what has them end at the end of the film.
const KNOWN: [(&str, &[&str]); 3] =
    [("mpv", &["--", URL]), ("vlc", &["--play-and-exit", URL]), ("ffplay", &["-autoexit", URL])];

/// What of the process's surroundings matters to a player.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Where programs are looked for: `PATH`.
    pub path: Option<OsString>,
    /// Names of variables that are not handed on.
    pub hidden: Vec<String>,
}

/// A player, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Player {
    program: PathBuf,
    arguments: Vec<String>,
    hidden: Vec<String>,
}

impl Player {
    /// The player that is wanted, or the first known one that there is.
    ///
    /// # Errors
    /// [`Exit::Usage`] when there is none, or the command cannot be read.
    pub(super) fn choose(wanted: Option<&str>, surroundings: &Surroundings) -> Result<Self, Failure> {
        let usage = |why: String| Failure::new(Exit::Usage, why);
        let path = surroundings.path.as_deref();
        let hidden = surroundings.hidden.clone();
        let Some(text) = wanted else {
            let found = KNOWN.iter().find_map(|(name, arguments)| Some((find(name, path)?, arguments)));
            let (program, arguments) = found.ok_or_else(|| usage(nobody()))?;
            return Ok(Self { program, arguments: owned(arguments), hidden });
        };
        let words = words(text).ok_or_else(|| usage(format!("--player {text}: a quote is not closed")))?;
        let Some((name, rest)) = words.split_first() else { return Err(usage("--player names no program".to_owned())) };
        let program = find(name, path).ok_or_else(|| usage(format!("--player: there is no program {name}")))?;
        let mut arguments = match KNOWN.iter().find(|(known, _)| known == name) {
            Some((_, arguments)) if rest.is_empty() => owned(arguments),
            Some(_) | None => rest.to_vec(),
        };
        if !arguments.iter().any(|argument| argument.contains(URL)) {
            arguments.push(URL.to_owned());
        }
        Ok(Self { program, arguments, hidden })
    }

    /// What it is called.
    pub(super) fn name(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }

    /// Plays until it ends, or ends it when `interrupted` resolves.
    ///
    /// # Errors
    /// When it cannot be started, ends with anything but success, or was ended.
    pub(super) async fn play(&self, url: &str, interrupted: impl Future<Output = ()>) -> Result<(), Failure> {
        let mut command = Command::new(&self.program);
        command.args(self.arguments.iter().map(|argument| argument.replace(URL, url))).kill_on_drop(true);
        for name in &self.hidden {
            command.env_remove(name);
        }
        let complain =
            |error: &std::io::Error| Failure::new(Exit::Error, format!("{}: {error}", self.program.display()));
        let mut player = command.spawn().map_err(|error| complain(&error))?;
        tokio::select! {
            ended = player.wait() => self.judge(ended.map_err(|error| complain(&error))?),
            () = interrupted => {
                end(&mut player).await;
                Err(Failure::new(Exit::Interrupted, "interrupted"))
            }
        }
    }

    fn judge(&self, ended: ExitStatus) -> Result<(), Failure> {
        if ended.success() {
            return Ok(());
        }
        Err(Failure::new(Exit::Error, format!("the player {} ended with {ended}", self.name())))
    }
}

async fn end(player: &mut Child) {
    if tokio::time::timeout(GOODBYE, player.wait()).await.is_err() {
        // It fails only where the player is gone already.
        let _ = player.kill().await;
    }
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

fn nobody() -> String {
    let names: Vec<_> = KNOWN.iter().map(|(name, _)| *name).collect();
    format!("there is no player on PATH: looked for {}; install one, or name another with --player", names.join(", "))
}

/// The program of that name: as the path that it is, or in the first directory of `path` that has it.
fn find(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    if Path::new(name).components().count() > 1 {
        return is_program(Path::new(name)).then(|| PathBuf::from(name));
    }
    let dirs = path.map(std::env::split_paths).into_iter().flatten();
    let suffix = std::env::consts::EXE_SUFFIX;
    dirs.map(|dir| dir.join(format!("{name}{suffix}"))).find(|program| is_program(program))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt as _;
    match path.metadata() {
        Ok(metadata) => metadata.is_file() && metadata.permissions().mode() & 0o111 != 0,
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// The words of a command: apart by spaces, of which those between quotes are none. `None` when a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in text.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => word.get_or_insert_default().push(letter),
            None if letter == '\'' || letter == '"' => {
                quote = Some(letter);
                word = Some(word.take().unwrap_or_default());
            }
            None if letter.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_words_and_never_as_more() {
        let read = |text: &str| words(text).map(|words| words.join("|"));
        assert_eq!(read("mpv --fs {url}").as_deref(), Some("mpv|--fs|{url}"));
        assert_eq!(read(" 'my player' --title=\"a  b\" '' ").as_deref(), Some("my player|--title=a  b|"));
        assert_eq!(read("sh -c 'echo \"$1\"'").as_deref(), Some("sh|-c|echo \"$1\""));
        assert_eq!(read("mpv; rm $HOME `x`").as_deref(), Some("mpv;|rm|$HOME|`x`"));
        assert_eq!(read("mpv 'x"), None);
        assert_eq!(read("").as_deref(), Some(""));
    }

    #[cfg(unix)]
    #[test]
    fn the_first_known_player_that_there_is_plays() {
        use std::os::unix::fs::PermissionsExt as _;
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = std::env::join_paths([one.path(), two.path()]).unwrap();
        let surroundings = Surroundings { path: Some(path), hidden: Vec::new() };
        let choose = |wanted| Player::choose(wanted, &surroundings);
        let failure = choose(None).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("looked for mpv, vlc, ffplay"), "{failure}");
        assert_eq!(choose(Some("mpv")).unwrap_err().exit, Exit::Usage);
        let install = |dir: &Path, name: &str, mode: u32| {
            std::fs::write(dir.join(name), "").unwrap();
            std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        install(one.path(), "ffplay", 0o755);
        assert_eq!(choose(None).unwrap().name(), "ffplay");
        install(one.path(), "vlc", 0o644);
        install(two.path(), "vlc", 0o755);
        let vlc = choose(None).unwrap();
        assert_eq!(vlc.program, two.path().join("vlc"), "a file that is no program is passed by");
        assert_eq!(vlc.arguments, ["--play-and-exit", URL]);
        assert_eq!(choose(Some("vlc")).unwrap(), vlc);
        assert_eq!(choose(Some("vlc --fullscreen")).unwrap().arguments, ["--fullscreen", URL]);
        assert_eq!(choose(Some("vlc '{url}#t=60' -v")).unwrap().arguments, ["{url}#t=60", "-v"]);
        let by_path = two.path().join("vlc").display().to_string();
        assert_eq!(choose(Some(&by_path)).unwrap().arguments, [URL]);
        assert_eq!(choose(Some("  ")).unwrap_err().exit, Exit::Usage);
    }
}
