//! What this process costs: memory, descriptors, threads, sockets. For stories that run alone in a process, since all
//! of it is shared by all tests of one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Tells the story that it is the only one in its process.
const ALONE: &str = "SWARMGATE_STORY_ALONE";

/// Bytes of a page of memory, as `/proc/self/statm` counts them on all machines that CI has.
const PAGE: u64 = 4096;

/// Whether this process runs the story `name` and nothing else. If not, runs it in a process of its own, panics if it
/// fails there, and says no. `name` is the test's full path. Elsewhere than on Linux the story is skipped.
pub fn alone(name: &str) -> bool {
    if is_alone(name) {
        return true;
    }
    if !cfg!(target_os = "linux") {
        eprintln!("SKIPPED: {name} reads /proc");
        return false;
    }
    told_alone(name, this_test(name));
    false
}

/// Whether this process was started for the story `name` alone.
pub(crate) fn is_alone(name: &str) -> bool {
    std::env::var(ALONE).is_ok_and(|it| it == name)
}

/// Runs the story `name` by a command that runs it and nothing else, and panics if it fails.
pub(crate) fn told_alone(name: &str, mut command: Command) {
    let output = command.env(ALONE, name).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{name}, alone: {}\n{said}", output.status);
    eprint!("{said}");
}

/// The command that runs one test of this program in a process of its own.
pub fn this_test(name: &str) -> Command {
    // Where there is one, the link to the very program that runs: its file may have been replaced by a newer build.
    let own = Path::new("/proc/self/exe");
    let program = if own.exists() { own.to_owned() } else { std::env::current_exe().unwrap_or_default() };
    let mut command = Command::new(program);
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).stdin(Stdio::null());
    command
}

/// Bytes of memory that are resident.
pub fn resident_bytes() -> u64 {
    let statm = read("/proc/self/statm");
    let pages: u64 = statm.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{statm}"));
    pages * PAGE
}

/// Time that all threads together have spent on a processor, in the kernel too.
pub fn cpu_time() -> Duration {
    /// What `/proc` counts in, on all machines that CI has.
    const TICK: Duration = Duration::from_millis(10);
    let stat = read("/proc/self/stat");
    // The name before may have spaces in it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<u32> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    assert_eq!(ticks.len(), 2, "{stat}");
    TICK * ticks.iter().sum::<u32>()
}

/// Open descriptors.
pub fn descriptors() -> usize {
    links("self").len()
}

/// Open descriptors of another process that are no files: sockets, timers, pipes. Its store keeps files open that it
/// has read, as many as it reads from disk rather than from memory.
pub fn descriptors_of(pid: u32) -> Vec<String> {
    let links = links(&pid.to_string());
    links.into_iter().filter(|link| !link.starts_with('/')).collect()
}

/// Where another process's UDP sockets are bound, one entry a socket.
pub fn udp_sockets_of(pid: u32) -> Vec<SocketAddr> {
    let mut found = sockets(&pid.to_string(), &[("udp", "udp", ""), ("udp", "udp6", "")]);
    found.sort_unstable();
    found.into_iter().map(|(_, address)| address).collect()
}

/// Threads.
pub fn threads() -> usize {
    let status = read("/proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|it| it.trim().parse().ok()).unwrap_or_else(|| panic!("{status}"))
}

/// Every socket of this process that others can reach: TCP that listens, and UDP that is bound and not connected.
pub fn listening() -> BTreeSet<(&'static str, SocketAddr)> {
    const TCP_LISTEN: &str = "0A";
    const UDP_UNCONNECTED: &str = "07";
    let tables = [
        ("tcp", "tcp", TCP_LISTEN),
        ("tcp", "tcp6", TCP_LISTEN),
        ("udp", "udp", UDP_UNCONNECTED),
        ("udp", "udp6", UDP_UNCONNECTED),
    ];
    sockets("self", &tables).into_iter().collect()
}

/// The sockets of a process: of tables of `/proc`, each with its transport and the state that counts, or any if empty.
fn sockets(process: &str, tables: &[(&'static str, &str, &str)]) -> Vec<(&'static str, SocketAddr)> {
    let own: BTreeSet<String> = links(process).into_iter().collect();
    let mut found = Vec::new();
    for (transport, table, wanted) in tables {
        // A machine without IPv6 lacks its tables.
        let text = std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (Some(local), Some(state), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else {
                continue;
            };
            if (wanted.is_empty() || state == wanted) && own.contains(&format!("socket:[{inode}]")) {
                found.push((*transport, address(local)));
            }
        }
    }
    found
}

/// What a process's descriptors lead to.
fn links(process: &str) -> Vec<String> {
    let folder = format!("/proc/{process}/fd");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder}: {e}"));
    // The directory's own descriptor is gone when its link is read, and is not counted.
    let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.map(|link| link.display().to_string()).filter(|link| !link.ends_with("/fd")).collect()
}

/// Reads `0100007F:1F90`: an address in words of the machine's byte order, and a port.
fn address(text: &str) -> SocketAddr {
    let parsed = text.split_once(':').and_then(|(ip, port)| {
        let words: Option<Vec<u8>> = (0..ip.len() / 8)
            .map(|word| u32::from_str_radix(ip.get(word * 8..word * 8 + 8)?, 16).ok())
            .map(|word| word.map(u32::to_ne_bytes))
            .collect::<Option<Vec<_>>>()
            .map(|words| words.concat());
        let octets = words?;
        let ip = match (<[u8; 4]>::try_from(&*octets), <[u8; 16]>::try_from(&*octets)) {
            (Ok(v4), _) => IpAddr::V4(Ipv4Addr::from(v4)),
            (_, Ok(v6)) => IpAddr::V6(Ipv6Addr::from(v6)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
    });
    parsed.unwrap_or_else(|| panic!("{text} is no socket address"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_this_process_is_found_and_its_end_too() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let row = ("tcp", listener.local_addr().unwrap());
        assert!(listening().contains(&row));
        drop(listener);
        assert!(!listening().contains(&row));
    }

    #[test]
    fn the_kernels_spelling_of_addresses_is_read() {
        if cfg!(target_endian = "little") {
            assert_eq!(address("0100007F:1F90"), "127.0.0.1:8080".parse::<SocketAddr>().unwrap());
            assert_eq!(address("00000000000000000000000001000000:0050"), "[::1]:80".parse::<SocketAddr>().unwrap());
        }
    }

    #[test]
    fn this_process_has_memory_threads_and_descriptors() {
        assert!(resident_bytes() > 1 << 20);
        assert!(threads() >= 1);
        assert!(descriptors() >= 3);
    }
}
