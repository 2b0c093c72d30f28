//! Where the router is: where the system sends what is for nobody near. Read of the system, without a packet.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// A router, and this machine's address as the router knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Router {
    /// The router's address in the house.
    pub address: Ipv4Addr,
    /// Ours.
    pub local: Ipv4Addr,
}

/// The kernel's table of routes.
const ROUTES: &str = "/proc/net/route";
/// The flag of a route that leads by a router.
const BY_ROUTER: u32 = 2;

impl Router {
    /// The one that the system names, if it says.
    #[must_use]
    pub fn of_system() -> Option<Self> {
        let address = default_router(&std::fs::read_to_string(ROUTES).ok()?)?;
        Some(Self { address, local: local_towards(address)? })
    }
}

/// The address that packets to there leave by. Nothing is sent.
fn local_towards(address: Ipv4Addr) -> Option<Ipv4Addr> {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    probe.connect((address, 1)).ok()?;
    match probe.local_addr().ok()? {
        SocketAddr::V4(local) => Some(*local.ip()).filter(|ip| !ip.is_unspecified()),
        SocketAddr::V6(_) => None,
    }
}

/// The router of the default route with the least metric. The table has a line a route, its numbers in hex, addresses as the
/// processor keeps them.
fn default_router(table: &str) -> Option<Ipv4Addr> {
    let of = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, destination, router, flags, _, _, metric, mask, ..] = fields[..] else { return None };
        let hex = |text: &str| u32::from_str_radix(text, 16).ok();
        let default = hex(destination)? == 0 && hex(mask)? == 0 && hex(flags)? & BY_ROUTER != 0;
        let address = Ipv4Addr::from(hex(router)?.to_ne_bytes());
        default.then_some((metric.parse::<u32>().ok()?, address))
    };
    table.lines().skip(1).filter_map(of).min().map(|(_, address)| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    fn line(destination: &str, router: [u8; 4], flags: &str, metric: u32, mask: &str) -> String {
        format!("eth0\t{destination}\t{:08X}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n", u32::from_ne_bytes(router))
    }

    #[test]
    fn the_router_is_that_of_the_nearest_default_route() {
        let table = [
            HEAD.to_owned(),
            line("0000000A", [0; 4], "0001", 0, "00FFFFFF"),
            line("00000000", [10, 0, 0, 9], "0003", 600, "00000000"),
            line("00000000", [10, 0, 0, 1], "0003", 100, "00000000"),
        ];
        assert_eq!(default_router(&table.concat()), Some([10, 0, 0, 1].into()));
    }

    #[test]
    fn without_a_default_route_there_is_none() {
        let tunnel = line("00000000", [0; 4], "0001", 0, "00000000");
        for table in ["", HEAD, &format!("{HEAD}{tunnel}"), "x y z\n1 2 3\n"] {
            assert_eq!(default_router(table), None, "{table}");
        }
    }
}
