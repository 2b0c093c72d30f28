//! What can be typed. The doc comments are the help texts. Flags that stand for options become [`Flag`]s, so that the
//! configuration treats them as one more source and names them in its mistakes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use swarmgate_config::{Flag, Size, Sources, Span};
use swarmgate_hybrid::publish::TorrentKind;

use super::Pick;
use super::cache::CacheCommand;
use super::items::{Keep, Label, Select};
use super::link::Link;
use super::packed::Form;
use super::play::Play;
use super::pour::Stretch;
use super::token::TokenCommand;

/// An HTTP gateway to BitTorrent and IPFS: ask for a magnet, an infohash or a CID, get a file server.
#[derive(Debug, Clone, Parser)]
#[command(name = "swarmgate", version, after_long_help = super::manual::EXIT_CODES)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command; none is `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Configuration file, stronger than the user's and the system's [env: SWARMGATE_CONFIG]
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory for cached content and the index (cache.dir)
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// off, error, warn, info, debug, trace, or PART=LEVEL with commas (observe.log)
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Any option of the configuration; repeatable
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<Assignment>,
    /// How results are written to stdout
    #[arg(long, global = true, value_name = "FORMAT", default_value = "human")]
    pub output: Output,
}

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run the gateway (also what `swarmgate` alone does)
    Serve(Serve),
    /// Download to a directory; every byte verified, what is there already is kept
    Get(Get),
    /// Play a content: starts a player on it, and a gateway for the player where none runs
    Play(Play),
    /// List the files of a torrent, or the entries of a directory of IPFS
    Ls(Ls),
    /// Write a file of IPFS to stdout
    Cat(Cat),
    /// Put a file or directory into the cache as IPFS has it, and keep it
    Add(Add),
    /// Seed a file or folder on every network, from where it lies
    Publish(Publish),
    /// Put the blocks of a CAR into the cache, and keep its roots
    ImportCar(ImportCar),
    /// Keep contents of IPFS in the cache
    #[command(subcommand)]
    Pin(PinCommand),
    /// Hash all that the cache has of a torrent again, and let go what is wrong
    Recheck(Recheck),
    /// Show, collect, purge or hash again what is cached
    #[command(subcommand)]
    Cache(CacheCommand),
    /// IPNS names
    #[command(subcommand)]
    Ipns(IpnsCommand),
    /// Show how the running gateway fares
    Status(Status),
    /// Show an item of the running gateway; without one, what a torrent or a content of IPFS is
    Info(Info),
    /// Have the running gateway fetch a torrent, or some of its files, and hold it
    Keep(Keep),
    /// Select which files of a torrent the running gateway fetches and holds
    Select(Select),
    /// Show or change the labels of an item of the running gateway
    Label(Label),
    /// Have the running gateway forget an item
    Rm(Rm),
    /// Say whether the running gateway is well, by the exit code: 0 or 1; for probes
    Health(Health),
    /// Look for what keeps a gateway from working well here, or a content from coming, and say what to do
    Diagnose(Diagnose),
    /// Make, list and revoke tokens and users (auth.credentials)
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print the URL of a content at the gateway
    Link(Link),
    /// Check, show or write the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prove that it works: seed a small sample on loopback and stream it back, without internet
    Demo(Demo),
    /// Print the description of the control API, for programs (OpenAPI 3.1)
    Openapi,
    /// Print what this program was built of and for
    Version,
    /// Print completions for a shell
    Completions {
        /// Which
        shell: Shell,
    },
    /// Print the manual page, or write one for each command into a directory
    Man {
        /// The directory; it is made where it is not there
        dir: Option<PathBuf>,
    },
}

/// `serve`.
#[derive(Debug, Clone, Default, Args)]
pub struct Serve {
    /// IP address and port to listen on; repeatable (server.listen)
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Delete cached content at exit (cache.ephemeral)
    #[arg(long)]
    pub ephemeral: bool,
    /// No DHT and no trackers of the configuration; what a magnet or torrent names itself is still asked
    #[arg(long)]
    pub offline: bool,
}

/// `get`.
#[derive(Debug, Clone, Args)]
pub struct Get {
    /// Magnet, infohash, .torrent file, or CID with a path
    pub uri: String,
    /// Directory to download into; - writes one file to stdout
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// File numbers as `ls` shows them, as 0,2-4, or a pattern as '*.mkv'; all when not given
    #[arg(long, value_name = "FILES")]
    pub select: Option<Pick>,
    /// The content as one file: zip or tar of a torrent, car or tar of IPFS
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Form>,
    /// With -o -: the first and the last byte, as 0-499, or 500- for all from there
    #[arg(long, value_name = "BYTES", conflicts_with = "format")]
    pub range: Option<Stretch>,
}

/// `ls`.
#[derive(Debug, Clone, Args)]
pub struct Ls {
    /// Magnet, infohash, .torrent file, or CID with a path
    pub uri: String,
}

/// `cat`.
#[derive(Debug, Clone, Args)]
pub struct Cat {
    /// CID with a path, /ipfs/…, /ipns/…, or ipfs://…
    pub uri: String,
}

/// `add`.
#[derive(Debug, Clone, Args)]
pub struct Add {
    /// The file or directory
    pub path: PathBuf,
    /// Version of the CIDs; 0 also means the smaller chunks of its time
    #[arg(long, value_name = "VERSION", default_value = "1", value_parser = clap::value_parser!(u8).range(0..=1))]
    pub cid_version: u8,
    /// How files are cut, as size-262144; 1 MiB with CIDs of version 1 and 256 KiB with 0 when not given
    #[arg(long, value_name = "CHUNKER")]
    pub chunker: Option<String>,
    /// Leave the bytes of files where they are, and serve them from there as long as they stay the same
    #[arg(long, visible_alias = "nocopy")]
    pub in_place: bool,
    /// The gateway's own address, as http://HOST:PORT or unix:/PATH; when not given, that of the configuration is asked
    /// where it holds the cache
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// `publish`.
#[derive(Debug, Clone, Args)]
pub struct Publish {
    /// The file or folder
    pub path: PathBuf,
    /// The torrent's name; that of the file or folder when not given
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Which torrent is made of it: a hybrid is v1 and v2 in one
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    pub torrent: Torrent,
    /// Length of a piece, as 1MiB: a power of two from 16KiB to 16MiB; by size when not given
    #[arg(long, value_name = "SIZE")]
    pub piece_length: Option<Size>,
    /// A tracker to announce to; repeatable
    #[arg(long, value_name = "URL")]
    pub tracker: Vec<String>,
    /// Where an HTTP server has the same file or folder (BEP 19); repeatable
    #[arg(long, value_name = "URL")]
    pub web_seed: Vec<String>,
    /// Copy the bytes into the cache rather than serve them from where they lie
    #[arg(long)]
    pub copy: bool,
    /// As --output json
    #[arg(long)]
    pub json: bool,
    /// The gateway's own address, as http://HOST:PORT or unix:/PATH; when not given, that of the configuration is asked
    /// where it holds the cache
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// The torrents that `publish` makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Torrent {
    /// v1 and v2 in one, for peers of both kinds
    #[default]
    Hybrid,
    /// v1 alone: less to hash, and no padding between the files
    V1,
}

impl From<Torrent> for TorrentKind {
    fn from(torrent: Torrent) -> Self {
        match torrent {
            Torrent::Hybrid => Self::Hybrid,
            Torrent::V1 => Self::V1,
        }
    }
}

/// `import-car`.
#[derive(Debug, Clone, Args)]
pub struct ImportCar {
    /// The CAR, of version 1 or 2; - is stdin
    pub file: PathBuf,
    /// Keep what there is of a DAG whose blocks are not all there
    #[arg(long)]
    pub allow_missing: bool,
    /// The gateway's own address, as http://HOST:PORT or unix:/PATH; when not given, that of the configuration is asked
    /// where it holds the cache
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// `pin`.
#[derive(Debug, Clone, Subcommand)]
pub enum PinCommand {
    /// Fetch all of a DAG and keep it
    Add {
        /// Its root
        cid: String,
        /// The gateway's own address, as http://HOST:PORT or unix:/PATH; when not given, that of the configuration is
        /// asked where it holds the cache
        #[arg(long, value_name = "URL")]
        api: Option<String>,
    },
    /// No longer keep a DAG; what is cached stays until the room is needed
    Rm {
        /// Its root
        cid: String,
        /// The gateway's own address, as http://HOST:PORT or unix:/PATH; when not given, that of the configuration is
        /// asked where it holds the cache
        #[arg(long, value_name = "URL")]
        api: Option<String>,
    },
    /// List what is kept, and what is being fetched for that
    Ls {
        /// The gateway's own address, as http://HOST:PORT or unix:/PATH; when not given, that of the configuration is
        /// asked where it holds the cache
        #[arg(long, value_name = "URL")]
        api: Option<String>,
    },
}

/// `recheck`.
#[derive(Debug, Clone, Args)]
pub struct Recheck {
    /// Magnet or infohash
    pub uri: String,
    /// The gateway's own address, as http://HOST:PORT or unix:/PATH; when not given, that of the configuration is asked
    /// where it holds the cache
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// `ipns`.
#[derive(Debug, Clone, Subcommand)]
pub enum IpnsCommand {
    /// Keep a signed record, which says where a name points
    ImportRecord {
        /// The record, as gateways give it for ?format=ipns-record
        file: PathBuf,
        /// Whose it is; the file's name up to its first _ or . when not given
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
}

/// `status`.
#[derive(Debug, Clone, Default, Args)]
pub struct Status {
    /// Go on, a line each time, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Seconds between two lines
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// List the items that bear this label instead
    #[arg(long, value_name = "LABEL", conflicts_with = "watch")]
    pub label: Option<String>,
    /// The gateway's own address, as http://HOST:PORT or unix:/PATH; that of the configuration when not given
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// `info`.
#[derive(Debug, Clone, Args)]
pub struct Info {
    /// Magnet, infohash, .torrent file or the URL of one, or CID with a path
    pub uri: String,
    /// Ask nobody, neither the gateway nor a network: tell what the name, the file or the cache says
    #[arg(long)]
    pub offline: bool,
    /// The gateway's own address, as http://HOST:PORT or unix:/PATH; that of the configuration when not given
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// `rm`.
#[derive(Debug, Clone, Args)]
pub struct Rm {
    /// Magnet or infohash
    pub uri: String,
    /// Delete what is cached of it too
    #[arg(long)]
    pub purge: bool,
    /// The gateway's own address, as http://HOST:PORT or unix:/PATH; that of the configuration when not given
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// `health`.
#[derive(Debug, Clone, Default, Args)]
pub struct Health {
    /// Ask whether a network works (/readyz), not only whether the process lives (/healthz)
    #[arg(long)]
    pub ready: bool,
    /// The gateway's own address, as http://HOST:PORT or unix:/PATH; that of the configuration when not given
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// `diagnose`.
#[derive(Debug, Clone, Default, Args)]
pub struct Diagnose {
    /// Magnet, infohash, .torrent file or the URL of one, or CID with a path, that does not come or is slow
    pub uri: Option<String>,
    /// Ask nobody outside of this machine; without it the hosts of bittorrent.dht_bootstrap are asked for a sign of life
    #[arg(long, conflicts_with = "uri")]
    pub offline: bool,
    /// How long the content is looked for, as 1m; 30s when not given
    #[arg(long, value_name = "TIME", requires = "uri")]
    pub timeout: Option<Span>,
}

/// `demo`.
#[derive(Debug, Clone, Default, Args)]
pub struct Demo {
    /// Go on serving the sample until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// `config`.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Tell every mistake, each with its place
    Check,
    /// Print the values in force; secrets are redacted
    Show {
        /// Also where each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Write a commented sample; an existing file is left alone
    Init {
        /// Where to; `-` is stdout, and without it the user's configuration file
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print the JSON schema of the file, for editors
    Schema,
    /// Print the reference of all options, as Markdown
    Reference,
}

/// `KEY=VALUE`. The value may be a secret, so `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The option, as `cache.max_size`.
    pub key: String,
    /// Its value; lists with commas.
    pub value: String,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("has no `=`; write it as cache.max_size=20GiB")?;
        Ok(Self { key: key.trim().to_owned(), value: value.to_owned() })
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.key)
    }
}

impl Cli {
    /// The command, where none is `serve` without flags.
    #[must_use]
    pub fn command_or_serve(&self) -> Command {
        self.command.clone().unwrap_or_else(|| Command::Serve(Serve::default()))
    }

    /// Adds what was typed to the sources of the configuration.
    #[must_use]
    pub fn sources(&self, mut base: Sources) -> Sources {
        base.explicit = self.global.config.clone().or(base.explicit);
        base.flags.extend(self.global.flags());
        if let Some(Command::Serve(serve)) = &self.command {
            base.flags.extend(serve.flags());
        }
        base
    }
}

impl Global {
    fn flags(&self) -> Vec<Flag> {
        let set = self.set.iter().map(|assignment| Flag::new("--set", &assignment.key, &assignment.value));
        let data_dir = self.data_dir.iter().map(|dir| Flag::new("--data-dir", "cache.dir", dir));
        let log_level = self.log_level.iter().map(|level| Flag::new("--log-level", "observe.log", level));
        set.chain(data_dir).chain(log_level).collect()
    }
}

impl Serve {
    fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        if !self.listen.is_empty() {
            flags.push(Flag::new("--listen", "server.listen", self.listen.join(",")));
        }
        if self.ephemeral {
            flags.push(Flag::new("--ephemeral", "cache.ephemeral", "true"));
        }
        if self.offline {
            flags.push(Flag::new("--offline", "bittorrent.dht", "false"));
            flags.push(Flag::new("--offline", "bittorrent.trackers", ""));
            flags.push(Flag::new("--offline", "bittorrent.port_mapping", "false"));
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use swarmgate_config::Config;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn config(line: &str) -> Config {
        let base = Sources { platform_cache_dir: Some("/cache".into()), ..Sources::default() };
        Config::load(&parse(line).unwrap().sources(base)).unwrap().config
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_says_what_there_is() {
        let mut command = Cli::command().term_width(100);
        insta::assert_snapshot!(command.render_help());
    }

    #[test]
    fn alone_it_serves() {
        assert!(matches!(parse("swarmgate").unwrap().command_or_serve(), Command::Serve(_)));
        assert!(matches!(parse("swarmgate --log-level debug").unwrap().command_or_serve(), Command::Serve(_)));
    }

    #[test]
    fn flags_become_options_of_the_configuration() {
        let config = config(
            "swarmgate --data-dir /data serve --listen 127.0.0.1:1 --listen [::1]:2 --ephemeral --offline \
             --log-level warn --set bittorrent.max_peers=7 --set auth.token=ab==",
        );
        assert_eq!(config.cache.dir, PathBuf::from("/data"));
        assert!(config.cache.ephemeral);
        assert_eq!(config.server.listen.len(), 2);
        assert!(!config.bittorrent.dht && config.bittorrent.trackers.is_empty());
        assert_eq!(config.observe.log, "warn");
        assert_eq!(config.bittorrent.max_peers, 7);
        assert_eq!(config.auth.token.expose(), "ab==");
    }

    #[test]
    fn a_flag_with_a_wrong_value_is_named_by_the_configuration() {
        let cli = parse("swarmgate serve --listen somewhere").unwrap();
        let errors = Config::load(&cli.sources(Sources::default())).unwrap_err().to_string();
        assert!(
            errors.contains("server.listen = \"somewhere\" (flag --listen): `somewhere` is not an IP address"),
            "{errors}"
        );
    }

    #[test]
    fn get_takes_a_directory_and_file_numbers() {
        let Command::Get(get) = parse("swarmgate get magnet:?x -o films --select 0,2-4").unwrap().command_or_serve()
        else {
            panic!("not get");
        };
        assert_eq!((get.uri.as_str(), get.out), ("magnet:?x", PathBuf::from("films")));
        assert_eq!(get.select, Some("0,2-4".parse().unwrap()));
    }

    #[test]
    fn a_selection_names_files_or_all_of_them() {
        let Command::Select(select) = parse("swarmgate select x *.mkv").unwrap().command_or_serve() else {
            panic!("not select");
        };
        assert_eq!((select.files, select.all), (Some("*.mkv".parse().unwrap()), false));
        let Command::Select(select) = parse("swarmgate select x --all").unwrap().command_or_serve() else {
            panic!("not select");
        };
        assert_eq!((select.files, select.all), (None, true));
    }

    #[test]
    fn adding_in_place_also_goes_by_the_name_that_kubo_has_for_it() {
        for (line, expected) in [("add x", false), ("add --in-place x", true), ("add x --nocopy", true)] {
            let Command::Add(add) = parse(&format!("swarmgate {line}")).unwrap().command_or_serve() else {
                panic!("not add");
            };
            assert_eq!(add.in_place, expected, "{line}");
        }
    }

    #[test]
    fn mistyped_commands_and_lists_are_usage_errors() {
        for line in [
            "swarmgate serv",
            "swarmgate get",
            "swarmgate get x --select b",
            "swarmgate select x",
            "swarmgate select x 0 --all",
            "swarmgate status --watch --label a",
            "swarmgate --set nokey",
            "swarmgate config",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_secret_given_with_set_is_not_debugged() {
        let cli = parse("swarmgate --set auth.token=hunter2").unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"));
    }
}
