//! What goes over loopback, packet by packet: tcpdump writes it down, and its file is read here.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::process::Process;
use crate::programs::Program;
use crate::wait;

/// Opening the interface, and at the end writing what is left.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Ahead of the first packet in the file; within, what kind of frames there are.
const FILE_HEADER: usize = 24;
/// Ahead of each frame: seconds, microseconds, bytes kept, bytes there were.
const FRAME_HEADER: usize = 16;
/// Ethernet's, which loopback's frames have too.
const LINK_HEADER: usize = 14;
const ETHERNET: u32 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A capture under way; dropped means ended.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

/// A packet of TCP or UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When it was seen.
    pub at: SystemTime,
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// What the transport's header and all behind it are.
    pub bytes: Vec<u8>,
}

impl Capture {
    /// Begins to write down all of TCP and UDP on loopback, in a file below `dir`; `None` when the story is to be skipped.
    pub async fn start(dir: &Path) -> Option<Self> {
        let file = dir.join("loopback.pcap");
        let mut command = Command::new(Program::Tcpdump.find()?);
        // Each packet at once, and as the user who has the folder.
        command
            .args(["-i", "lo", "-n", "-s", "0", "-U", "--immediate-mode", "-B", "65536", "-Z", "root", "-w"])
            .arg(&file);
        let mut process = Process::start("tcpdump", command.args(["tcp or udp"]), dir);
        wait::until("tcpdump to listen", READY_WITHIN, async || {
            process.assert_running();
            process.log().contains("listening on lo").then_some(())
        })
        .await;
        Some(Self { process, file })
    }

    /// Ends it and gives what was seen.
    ///
    /// # Panics
    /// When packets were lost: then nobody can say what was not there.
    pub async fn stop(mut self) -> Vec<Packet> {
        self.process.interrupt();
        self.process.finished(READY_WITHIN).await;
        let log = self.process.log();
        assert!(log.contains("\n0 packets dropped by kernel"), "{log}");
        let bytes = std::fs::read(&self.file).unwrap_or_else(|e| panic!("cannot read {}: {e}", self.file.display()));
        packets(&bytes)
    }
}

impl Packet {
    /// Whether one of these sent it or is to get it.
    pub fn concerns(&self, places: &[SocketAddr]) -> bool {
        places.contains(&self.from) || places.contains(&self.to)
    }

    /// Whether these bytes are somewhere in it.
    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.bytes.windows(bytes.len()).any(|window| window == bytes)
    }
}

/// Reads a capture file (libpcap's, of the machine's own byte order). What is neither TCP nor UDP is left out.
fn packets(file: &[u8]) -> Vec<Packet> {
    assert_eq!(word(file, 0), 0xa1b2_c3d4, "a capture of this machine, in microseconds");
    assert_eq!(word(file, 20), ETHERNET, "what loopback's frames look like");
    let mut found = Vec::new();
    let mut rest = &file[FILE_HEADER..];
    // The last one may have been cut short.
    while let Some(kept) = rest.get(..FRAME_HEADER).map(|header| word(header, 8) as usize) {
        let Some(frame) = rest.get(FRAME_HEADER..FRAME_HEADER + kept) else { break };
        let since = Duration::new(word(rest, 0).into(), word(rest, 4) * 1000);
        found.extend(packet(SystemTime::UNIX_EPOCH + since, &frame[LINK_HEADER..]));
        rest = &rest[FRAME_HEADER + kept..];
    }
    found
}

/// Reads a packet of IPv4 (RFC 791 §3.1) or IPv6 (RFC 8200 §3), the latter without extension headers.
fn packet(at: SystemTime, ip: &[u8]) -> Option<Packet> {
    let (protocol, header, from, to): (_, _, IpAddr, IpAddr) = match ip.first()? >> 4 {
        4 => {
            let address = |at: usize| Some(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?.into());
            (*ip.get(9)?, usize::from(ip[0] & 15) * 4, address(12)?, address(16)?)
        }
        6 => {
            let address = |at: usize| Some(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?.into());
            (*ip.get(6)?, 40, address(8)?, address(24)?)
        }
        _ => return None,
    };
    let bytes = ip.get(header..)?;
    let port = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (from, to) = (SocketAddr::new(from, port(0)?), SocketAddr::new(to, port(2)?));
    matches!(protocol, TCP | UDP).then(|| Packet { at, from, to, bytes: bytes.to_vec() })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    u32::from_ne_bytes(word.unwrap_or_else(|| panic!("{} bytes are no capture", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut file = vec![0; FILE_HEADER];
        file[..4].copy_from_slice(&0xa1b2_c3d4_u32.to_ne_bytes());
        file[20..].copy_from_slice(&ETHERNET.to_ne_bytes());
        for frame in frames {
            let len = u32::try_from(frame.len() + LINK_HEADER).unwrap();
            for word in [7, 5, len, len] {
                file.extend_from_slice(&word.to_ne_bytes());
            }
            file.extend_from_slice(&[0; LINK_HEADER]);
            file.extend_from_slice(frame);
        }
        file
    }

    #[test]
    fn ends_and_content_of_both_families_are_read_and_other_protocols_left_out() {
        let mut v4 = [&[0x45][..], &[0; 8], &[UDP, 0, 0], &[127, 0, 0, 1, 239, 1, 2, 3]].concat();
        let icmp = [&v4[..9], &[1], &v4[10..], &[0; 8]].concat();
        v4.extend([0x1a, 0x73, 0x1a, 0x74, b'h', b'i']);
        let mut v6 = vec![0x60, 0, 0, 0, 0, 0, TCP, 0];
        v6.extend([[0; 15].as_slice(), &[1], &[0; 15], &[1], &[0, 1, 0, 2]].concat());
        let cut = file(&[v4, icmp, v6, vec![0; 40]]);
        let found = packets(&cut[..cut.len() - 1]);
        let at = SystemTime::UNIX_EPOCH + Duration::new(7, 5000);
        let (from, to): (SocketAddr, SocketAddr) =
            ("127.0.0.1:6771".parse().unwrap(), "239.1.2.3:6772".parse().unwrap());
        assert_eq!((found.len(), found[0].at, found[0].from, found[0].to), (2, at, from, to));
        assert!(found[0].contains(b"hi") && found[0].concerns(&[to]) && !found[0].concerns(&[]));
        assert_eq!(found[1].to, "[::1]:2".parse::<SocketAddr>().unwrap());
    }
}
