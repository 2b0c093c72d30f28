//! The `swarmgate` program: reads the command line, starts what it names, and stops it in order.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use swarmgate_config::{Config, ENV_PREFIX, Loaded, LogFormat, Sources};
use swarmgate_gateway::app::App;
use swarmgate_gateway::cli::args::{Cli, Command};
use swarmgate_gateway::cli::config_command;
use swarmgate_gateway::cli::get::{self, GetOptions};
use swarmgate_gateway::cli::play::{self, Surroundings};
use swarmgate_gateway::cli::source::Failure;
use swarmgate_gateway::cli::{
    Exit, add, cache, diagnose, fetch, health, import, info, items, link, ls, manual, openapi, packed, pour, publish,
    recheck, running_commands, token, version,
};
use swarmgate_gateway::demo;
use swarmgate_gateway::listeners::Listeners;
use swarmgate_gateway::reload::{self, Files};
use swarmgate_webtorrent::rtc::QUIET_LIBRARY;
use tracing_subscriber::EnvFilter;

/// How long running responses may go on after SIGTERM or Ctrl-C.
const DRAIN: Duration = Duration::from_secs(10);

/// How many descriptors it takes for itself where it may: one a peer, client and tracker's socket, and some to spare.
const OPEN_FILES: u64 = 65_536;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = run(&cli);
    if let Err(failure) = &outcome {
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(io::stderr(), "swarmgate: {failure}");
    }
    outcome.err().map_or(Exit::Ok, |failure| failure.exit).into()
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let sources = cli.sources(Sources::from_process());
    let command = cli.command_or_serve();
    if let Command::Config(command) = &command {
        let done = config_command::run(command, &sources, cli.global.output, &mut io::stdout());
        return done.map_err(|error| Failure::new(error.exit(), error.to_string()));
    }
    if let Command::Completions { shell } = &command {
        return manual::completions(*shell, &mut io::stdout());
    }
    if matches!(command, Command::Openapi) {
        return openapi::run(&mut io::stdout());
    }
    if matches!(command, Command::Version) {
        return version::run(cli.global.output, &mut io::stdout());
    }
    if let Command::Man { dir } = &command {
        return manual::man(dir.as_deref(), &mut io::stdout());
    }
    // Shells and services often lend 1024 at first. Where there are no more to be had, `diagnose` says so.
    let _ = rlimit::increase_nofile_limit(OPEN_FILES);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Error, format!("no runtime: {error}")))?;
    if let Command::Demo(demo) = &command {
        start_log("warn", LogFormat::Auto);
        let shown = runtime.block_on(demo::run(demo.keep, interrupted(), &mut io::stdout()));
        return shown.map_err(|error| Failure::new(Exit::Error, error.to_string()));
    }
    let output = cli.global.output;
    if let Command::Diagnose(wanted) = &command {
        let loaded = Config::load(&sources);
        return runtime.block_on(diagnose::run(&loaded, wanted, output, interrupted(), &mut io::stdout()));
    }
    let files = Files::of(&sources);
    let loaded = Config::load(&sources).map_err(|errors| {
        // Container engines keep other codes of a health check for themselves.
        let exit = if matches!(command, Command::Health(_)) { Exit::Error } else { Exit::Usage };
        Failure::new(exit, errors.to_string())
    })?;
    let config = loaded.config.clone();
    let one_shot = !matches!(command, Command::Serve(_));
    let quiet = one_shot && config.observe.log == Config::default().observe.log;
    start_log(if quiet { "warn" } else { &config.observe.log }, config.observe.log_format);
    match command {
        Command::Get(get) => {
            if let Some(form) = get.format {
                let (select, out) = (get.select.as_ref(), &mut io::stdout());
                return runtime.block_on(packed::run(&config, &get.uri, form, select, &get.out, interrupted(), out));
            }
            if get.out.as_os_str() == "-" {
                let (select, part) = (get.select.as_ref(), get.range);
                return runtime.block_on(pour::run(&config, &get.uri, select, part, interrupted(), &mut io::stdout()));
            }
            if get.range.is_some() {
                let message = "--range is for `-o -`: into a directory all of a file is got";
                return Err(Failure::new(Exit::Usage, message));
            }
            let options = GetOptions { uri: get.uri, out: get.out, select: get.select };
            runtime.block_on(get::run(&config, options, interrupted(), &mut io::stdout()))
        }
        Command::Play(wanted) => {
            let surroundings = surroundings(&sources);
            runtime.block_on(play::run(&config, &wanted, &surroundings, output, interrupted(), &mut io::stdout()))
        }
        Command::Ls(list) => runtime.block_on(ls::run(&config, &list.uri, output, interrupted(), &mut io::stdout())),
        Command::Cat(cat) => runtime.block_on(fetch::cat(&config, &cat.uri, interrupted(), &mut io::stdout())),
        Command::Add(add) => runtime.block_on(add::run(&config, &add, output, interrupted(), &mut io::stdout())),
        Command::Publish(publish) => {
            runtime.block_on(publish::run(&config, &publish, output, interrupted(), &mut io::stdout()))
        }
        Command::ImportCar(car) => {
            runtime.block_on(import::run_import(&config, &car, output, interrupted(), &mut io::stdout()))
        }
        Command::Pin(pin) => runtime.block_on(import::run_pin(&config, &pin, output, interrupted(), &mut io::stdout())),
        Command::Recheck(wanted) => {
            runtime.block_on(recheck::run(&config, &wanted, output, interrupted(), &mut io::stdout()))
        }
        Command::Cache(command) => {
            runtime.block_on(cache::run(&config, &command, output, interrupted(), &mut io::stdout()))
        }
        Command::Token(command) => token::run(&config, &command, output, &mut io::stdin().lock(), &mut io::stdout()),
        Command::Link(wanted) => link::run(&config, &wanted, output, &mut io::stdout()),
        Command::Ipns(ipns) => runtime.block_on(import::run_ipns(&config, &ipns, &mut io::stdout())),
        Command::Status(status) => {
            runtime.block_on(running_commands::status(&config, &status, output, interrupted(), &mut io::stdout()))
        }
        Command::Info(wanted) => {
            runtime.block_on(info::run(&config, &wanted, output, interrupted(), &mut io::stdout()))
        }
        Command::Keep(wanted) => runtime.block_on(items::keep(&config, &wanted, output, &mut io::stdout())),
        Command::Select(wanted) => runtime.block_on(items::select(&config, &wanted, output, &mut io::stdout())),
        Command::Label(wanted) => runtime.block_on(items::label(&config, &wanted, output, &mut io::stdout())),
        Command::Rm(rm) => runtime.block_on(running_commands::rm(&config, &rm, output, &mut io::stdout())),
        Command::Health(wanted) => runtime.block_on(health::run(&config, &wanted, output, &mut io::stdout())),
        Command::Serve(_)
        | Command::Config(_)
        | Command::Demo(_)
        | Command::Diagnose(_)
        | Command::Openapi
        | Command::Completions { .. }
        | Command::Version
        | Command::Man { .. } => runtime.block_on(serve(&loaded, &sources, files)),
    }
}

async fn serve(loaded: &Loaded, sources: &Sources, files: Files) -> Result<(), Failure> {
    let config = &loaded.config;
    let fail = |error: &dyn std::error::Error| Failure::new(Exit::Error, error.to_string());
    let listeners = Listeners::bind(config).map_err(|error| fail(&error))?;
    let app = App::build_loaded(loaded, Some(sources), listeners).await.map_err(|error| fail(&error))?;
    greet(config, &app);
    tokio::select! {
        () = interrupted() => {}
        () = follow(&app, config.reload.watch.then_some(files)) => {}
    }
    tracing::info!("stopping");
    app.shutdown(DRAIN).await;
    Ok(())
}

async fn follow(app: &App, files: Option<Files>) {
    match app.reloader() {
        Some(reloader) => reload::follow(reloader, files).await,
        None => std::future::pending().await,
    }
}

/// Three lines for a newcomer: where it is, what to try, what it may take of the disk.
fn greet(config: &Config, app: &App) {
    let Some(address) = app.addresses().first() else { return };
    let mut err = io::stderr();
    let size = config.cache.max_size;
    let dir = config.cache.dir.display();
    let scheme = if config.server.has_tls() { "https" } else { "http" };
    let lines = format!(
        "swarmgate is at {scheme}://{address}/\n  curl -r 0-1023 '{scheme}://{address}/magnet?xt=urn:btih:<infohash>'\n  cache: {dir}, at most {size}\n"
    );
    // A closed stderr is the operator's choice.
    let _ = err.write_all(lines.as_bytes());
    for (transport, address) in app.sockets() {
        tracing::info!(transport, %address, "listening");
    }
}

/// What a player is started with: all but what is said to swarmgate, which may be secret.
fn surroundings(sources: &Sources) -> Surroundings {
    let path = sources.env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
    let ours = sources.env.iter().map(|(name, _)| name).filter(|name| name.starts_with(ENV_PREFIX));
    Surroundings { path, hidden: ours.cloned().collect() }
}

fn start_log(filter: &str, format: LogFormat) {
    // These libraries come last, so that nobody can ask for them: they log session descriptions, passwords and passkeys.
    let filter = format!("{filter},{QUIET_LIBRARY}");
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(format!("info,{QUIET_LIBRARY}")));
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if json {
        log.json().init();
    } else {
        log.init();
    }
}

/// Resolves at Ctrl-C or SIGTERM.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without signals there is nothing to wait for but the end.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
