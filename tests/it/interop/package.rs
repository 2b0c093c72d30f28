//! The Debian package, as cargo-deb builds it and dpkg installs it.

#![expect(clippy::unwrap_used, reason = "in a story, what fails to be there is the failure, helpers included")]

use std::process::Command;

use swarmgate_tests::programs::Program;

use super::{folder, scratch};
use crate::stories::documents::root;

/// The program, the manual and the rest, packed.
const MAX_PACKAGE_BYTES: u64 = 40 << 20;

/// dpkg installs it below a folder of its own, and takes it away again but for what an operator may have changed.
#[test]
fn the_debian_package_is_built_installed_and_removed() {
    let (Some(binary), Some(cargo_deb)) = (Program::Swarmgate.find(), Program::CargoDeb.find()) else { return };
    let dir = scratch();
    let package = dir.path().join("swarmgate.deb");
    let path = std::env::join_paths(
        std::iter::once(cargo_deb.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let script = root().join("deploy/deb.sh");
    succeeds(Command::new("sh").arg(script).args([&binary, &package]).env("PATH", path.unwrap()));

    let system = folder(dir.path(), "root");
    let admin = folder(&system, "var/lib/dpkg");
    folder(&admin, "info");
    folder(&admin, "updates");
    std::fs::write(admin.join("status"), "").unwrap();
    // Machines that are containers may be set up to leave out manuals.
    let dpkg = |args: &[&str]| {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", system.display())).args(["--log=/dev/null", "--path-include=/usr/share/*"]);
        dpkg.args(args);
        succeeds(&mut dpkg)
    };
    dpkg(&["--install", package.to_str().unwrap()]);
    let at = |path: &str| system.join(path);
    let (program, config) = (at("usr/bin/swarmgate"), at("etc/swarmgate/config.toml"));
    assert!(dpkg(&["--status", "swarmgate"]).contains("Status: install ok installed"));
    succeeds(Command::new(&program).env_clear().args(["config", "check", "--config"]).arg(&config));
    for installed in [
        "usr/lib/systemd/system/swarmgate.service",
        "usr/share/man/man1/swarmgate.1.gz",
        "usr/share/man/man1/swarmgate-serve.1.gz",
        "usr/share/bash-completion/completions/swarmgate",
    ] {
        assert!(std::fs::metadata(at(installed)).unwrap().len() > 0, "{installed}");
    }
    assert!(std::fs::metadata(&package).unwrap().len() < MAX_PACKAGE_BYTES);

    std::fs::write(&config, "[cache]\n").unwrap();
    dpkg(&["--remove", "swarmgate"]);
    assert!(!program.exists() && std::fs::read_to_string(&config).unwrap() == "[cache]\n");
}

/// Runs it to its end; what it printed.
fn succeeds(command: &mut Command) -> String {
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&done.stderr));
    said
}
