//! Network namespaces of a story's own: machines that have nothing but loopback.

use std::process::Command;

use crate::measure::{is_alone, this_test, told_alone};
use crate::programs::skip;

/// Brings loopback up, with multicast, and runs what is wanted.
const SCRIPT: &str = r#"ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo && exec "$0" "$@""#;

/// A program in a network namespace of its own, as root or as who has no rights at all; `None` when the story is to be
/// skipped.
pub fn in_a_namespace() -> Option<Command> {
    let unshare = |flags: &str| {
        let mut command = Command::new("unshare");
        command.arg(flags);
        command
    };
    let works = |flags: &&str| {
        let tried = unshare(flags).args(["ip", "link", "set", "lo", "up"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let found = ["-n", "-rn"].into_iter().find(works).map(unshare);
    if found.is_none() {
        skip("network namespaces are not permitted here, or `unshare` or `ip` is missing");
    }
    found
}

/// Whether this process runs the story `name`, alone and in a namespace of its own, with loopback and multicast on it. If
/// not, runs it so, panics if it fails there, and says no. `name` is the test's full path.
pub fn alone_in_a_namespace(name: &str) -> bool {
    if is_alone(name) {
        return true;
    }
    let Some(mut command) = in_a_namespace() else { return false };
    // Not what `this_test` would run: where that is a link to the program itself, the shell would be meant.
    let own = std::env::current_exe().ok().filter(|own| own.exists());
    let own = own.unwrap_or_else(|| format!("/proc/{}/exe", std::process::id()).into());
    command.args(["sh", "-c", SCRIPT]).arg(own).args(this_test(name).get_args());
    told_alone(name, command);
    false
}
