//! What the machine lends a process: UDP buffers, open files, IPv6.

use std::net::IpAddr;
use std::path::Path;

use swarmgate_config::Config;
use swarmgate_webtorrent::rtc::{RtcOptions, outbound_addresses};

use super::{Check, Verdict};

/// Descriptors besides those of peers and clients: the index, files of the cache, listeners, trackers, the log.
const OTHER_FILES: u64 = 256;

/// Looks at this machine.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    vec![
        udp_buffers(sysctl("net/core/rmem_max"), wanted_buffer()),
        open_files(open_files_limit(), config),
        ipv6(config, &outbound_addresses()),
    ]
}

fn sysctl(name: &str) -> Option<u64> {
    std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().parse().ok()
}

fn wanted_buffer() -> u64 {
    RtcOptions::default().receive_buffer_bytes as u64
}

/// uTP, QUIC and WebRTC lose datagrams that come while a small buffer is full.
fn udp_buffers(max: Option<u64>, wanted: u64) -> Check {
    match max {
        None => Check::new("udp buffers", Verdict::Skipped, "this system does not say how large they may be"),
        Some(max) if max < wanted => {
            let found = format!("UDP sockets get {max} bytes of buffer at most, and want {wanted}");
            let advice = format!("sysctl -w net.core.rmem_max={wanted}, and the same in /etc/sysctl.d/swarmgate.conf");
            Check::new("udp buffers", Verdict::Warn, found).advice(advice)
        }
        Some(max) => Check::new("udp buffers", Verdict::Ok, format!("UDP sockets may have {max} bytes")),
    }
}

fn open_files_limit() -> Option<u64> {
    soft_limit(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

/// The soft limit in the words of proc(5).
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// One for each client and peer there may be.
fn open_files(limit: Option<u64>, config: &Config) -> Check {
    let peers =
        if config.bittorrent.enabled { config.bittorrent.max_peers + config.bittorrent.max_half_open } else { 0 };
    let sockets = if config.webtorrent.enabled && config.webtorrent.builtin_tracker {
        config.webtorrent.tracker_sockets
    } else {
        0
    };
    let least = (peers + config.server.max_streams) as u64 + OTHER_FILES;
    let most = least + sockets as u64;
    let advice = |number: u64| {
        format!(
            "LimitNOFILE={number} in the systemd unit, --ulimit nofile={number} for a container, else `ulimit -n {number}`"
        )
    };
    match limit {
        None => Check::new("open files", Verdict::Skipped, "this system does not say how many there may be"),
        Some(limit) if limit < least => {
            let found = format!("{limit} may be open, and the limits on peers and streams add up to {least}");
            Check::new("open files", Verdict::Warn, found).advice(advice(most))
        }
        Some(limit) if limit < most => {
            let found = format!("{limit} may be open; with all of webtorrent.tracker_sockets it would be {most}");
            Check::new("open files", Verdict::Warn, found)
                .advice(format!("{}; or lower webtorrent.tracker_sockets", advice(most)))
        }
        Some(limit) => {
            Check::new("open files", Verdict::Ok, format!("{limit} may be open, {most} are the most that is needed"))
        }
    }
}

/// Whether the world is reached over IPv6 too. Nothing is sent.
fn ipv6(config: &Config, outbound: &[IpAddr]) -> Check {
    let listens = config.bittorrent.listen_ip.is_ipv6() || config.ipfs.listen_ip.is_ipv6();
    let has = outbound.iter().any(IpAddr::is_ipv6);
    match (listens, has) {
        (_, true) => Check::new("ipv6", Verdict::Ok, "this machine reaches the world over IPv6"),
        (false, false) => Check::new("ipv6", Verdict::Skipped, "the gateway listens on IPv4 alone"),
        (true, false) => {
            let found = "this machine has no route for IPv6: peers that have nothing else are not reached";
            Check::new("ipv6", Verdict::Warn, found)
                .advice("nothing has to be done; containers need IPv6 switched on in their network")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_udp_buffers_are_told_with_the_sysctl_that_helps() {
        let check = udp_buffers(Some(212_992), wanted_buffer());
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(check.advice.unwrap().contains("net.core.rmem_max=4194304"));
        assert_eq!(udp_buffers(Some(wanted_buffer()), wanted_buffer()).verdict, Verdict::Ok);
        assert_eq!(udp_buffers(None, 1).verdict, Verdict::Skipped);
    }

    #[test]
    fn the_limit_on_open_files_is_weighed_against_the_options() {
        let config = Config::default();
        assert_eq!(open_files(Some(1024), &config).verdict, Verdict::Warn);
        let between = open_files(Some(8192), &config);
        assert!(between.verdict == Verdict::Warn && between.advice.unwrap().contains("tracker_sockets"));
        assert_eq!(open_files(Some(65_536), &config).verdict, Verdict::Ok);
        assert_eq!(open_files(None, &config).verdict, Verdict::Skipped);
    }

    #[test]
    fn the_soft_limit_is_read_as_the_kernel_writes_it() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit(&limits.replace("1024  ", "unlimited")), Some(u64::MAX));
        assert_eq!(soft_limit(""), None);
    }

    #[test]
    fn ipv6_is_missed_where_it_is_listened_on() {
        let mut config = Config::default();
        let (v4, v6) = ("10.0.0.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
        assert_eq!(ipv6(&config, &[v4, v6]).verdict, Verdict::Ok);
        assert_eq!(ipv6(&config, &[v4]).verdict, Verdict::Warn);
        config.bittorrent.listen_ip = v4;
        config.ipfs.listen_ip = v4;
        assert_eq!(ipv6(&config, &[v4]).verdict, Verdict::Skipped);
    }
}
