//! Lists of addresses that an operator keeps peers from, or exempts: text files in the formats that block lists come in.
//!
//! A line is one of `name:1.2.3.4-1.2.3.9` (P2P), `001.002.003.004 - 001.002.003.009 , 000 , name` (DAT, where a level of
//! 128 or more lets pass), `1.2.3.0/24`, `1.2.3.4-1.2.3.9` or one address; IPv6 in the last three. Lines that are empty, or
//! begin with `#`, `;` or `//`, say nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// Ranges kept of all lists together: 16 MiB for IPv4. The longest list in use has about 400 000.
pub const MAX_RANGES: usize = 2_000_000;
/// DAT: ranges of this level and above are let pass.
const PASSING_LEVEL: u32 = 128;

/// Ranges of addresses, merged and in order, so that one look-up is a binary search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressList {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

/// What reading a list's text found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListCount {
    /// Ranges taken.
    pub ranges: usize,
    /// Lines that make no sense, and those past [`MAX_RANGES`].
    pub refused: usize,
}

/// What one line says.
enum Line {
    Nothing,
    Range(RangeInclusive<IpAddr>),
    Malformed,
}

impl AddressList {
    /// Adds every range that a file's text names. Call [`Self::tidy`] after the last.
    pub fn read(&mut self, text: &str) -> ListCount {
        let mut count = ListCount::default();
        for line in text.lines() {
            match parse(line.trim()) {
                Line::Nothing => {}
                Line::Range(range) if self.len() < MAX_RANGES => {
                    self.insert(&range);
                    count.ranges += 1;
                }
                Line::Range(_) | Line::Malformed => count.refused += 1,
            }
        }
        count
    }

    fn insert(&mut self, range: &RangeInclusive<IpAddr>) {
        match (range.start().to_canonical(), range.end().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.v4.push((from.into(), to.into())),
            (from, to) => self.v6.push((as_v6(from), as_v6(to))),
        }
    }

    /// Puts the ranges in order and joins those that meet.
    pub fn tidy(&mut self) {
        merge(&mut self.v4, |end| end.saturating_add(1));
        merge(&mut self.v6, |end| end.saturating_add(1));
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether no address is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an address is in it. IPv4 written as IPv6 is IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => holds(&self.v4, ip.into()),
            IpAddr::V6(ip) => holds(&self.v6, ip.into()),
        }
    }
}

fn as_v6(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], at: T) -> bool {
    let after = ranges.partition_point(|(from, _)| *from <= at);
    after.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|(_, to)| at <= *to)
}

fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> T) {
    ranges.sort_unstable();
    ranges.dedup_by(|later, earlier| {
        let joined = later.0 <= next(earlier.1);
        if joined {
            earlier.1 = earlier.1.max(later.1);
        }
        joined
    });
    ranges.shrink_to_fit();
}

fn parse(line: &str) -> Line {
    if line.is_empty() || ["#", ";", "//"].iter().any(|mark| line.starts_with(mark)) {
        return Line::Nothing;
    }
    if let Some((addresses, rest)) = line.split_once(',')
        && let Some(range) = range(addresses)
    {
        let level = rest.split(',').next().and_then(|level| level.trim().parse::<u32>().ok());
        return if level.is_some_and(|level| level >= PASSING_LEVEL) { Line::Nothing } else { Line::Range(range) };
    }
    let plain = range(line);
    let named = || line.rsplit_once(':').and_then(|(_, addresses)| range(addresses));
    plain.or_else(named).map_or(Line::Malformed, Line::Range)
}

/// A network, a range, or one address.
fn range(text: &str) -> Option<RangeInclusive<IpAddr>> {
    let text = text.trim();
    if let Ok(net) = text.parse::<IpNet>() {
        return Some(net.network()..=net.broadcast());
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (address(from.trim())?, address(to.trim())?);
    (from.is_ipv4() == to.is_ipv4() && from <= to).then_some(from..=to)
}

/// An address; block lists write IPv4 with leading zeros.
fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> (AddressList, ListCount) {
        let mut list = AddressList::default();
        let count = list.read(text);
        list.tidy();
        (list, count)
    }

    fn has(list: &AddressList, ip: &str) -> bool {
        list.contains(ip.parse().unwrap())
    }

    #[test]
    fn each_format_is_read_and_the_edges_of_a_range_are_in_it() {
        for line in [
            "Some: body, Inc:1.2.3.4-1.2.3.9",
            "001.002.003.004 - 001.002.003.009 , 000 , Some body",
            "1.2.3.4-1.2.3.9",
            " 1.2.3.4 - 1.2.3.9 ",
        ] {
            let (list, count) = list(line);
            assert_eq!((count.ranges, count.refused), (1, 0), "{line}");
            let within = ["1.2.3.3", "1.2.3.4", "1.2.3.9", "1.2.3.10"].map(|ip| has(&list, ip));
            assert_eq!(within, [false, true, true, false], "{line}");
            assert!(has(&list, "::ffff:1.2.3.5"), "however it is written");
        }
        let (list, _) = list("2001:db8::/32\n10.0.0.0/8\n9.9.9.9\n2a00::1-2a00::5");
        for (ip, within) in [("2001:db8:ffff::1", true), ("2001:db9::", false), ("10.255.0.1", true), ("9.9.9.9", true)]
        {
            assert_eq!(has(&list, ip), within, "{ip}");
        }
        assert!(has(&list, "2a00::5") && !has(&list, "2a00::6"));
    }

    #[test]
    fn what_a_dat_file_lets_pass_comments_and_nonsense_block_nobody() {
        let text = "# 1.1.1.1\n; 1.1.1.1\n// 1.1.1.1\n\n1.1.1.1 - 1.1.1.1 , 200 , fine\n";
        assert_eq!(list(text), (AddressList::default(), ListCount::default()));
        let (list, count) =
            list("hello\n1.2.3\n1.2.3.4.5\n9.9.9.9-1.1.1.1\n1.2.3.4-::1\n1.2.3.999\n1.2.3.4/33\n+1.2.3.4\n");
        assert_eq!((list.len(), count.refused), (0, 8));
    }

    #[test]
    fn ranges_that_meet_or_overlap_become_one() {
        let (list, count) = list("1.0.0.0-1.0.0.9\n1.0.0.5-1.0.0.20\n1.0.0.21\n0.0.0.0-0.0.0.3\n255.255.255.255\n");
        assert_eq!((list.len(), count.ranges), (3, 5));
        assert!(has(&list, "1.0.0.21") && !has(&list, "1.0.0.22") && has(&list, "255.255.255.255"));
    }

    #[test]
    fn a_long_list_agrees_with_a_look_at_every_range() {
        let ranges: Vec<(u32, u32)> = (0..2000u32)
            .map(|n| n.wrapping_mul(0x9e37_79b9))
            .map(|from| (from, from.saturating_add(from % 70_000)))
            .collect();
        let text: String =
            ranges.iter().map(|(from, to)| format!("x:{}-{}\n", Ipv4Addr::from(*from), Ipv4Addr::from(*to))).collect();
        let (list, _) = list(&text);
        for probe in (0..20_000u32).map(|n| n.wrapping_mul(0x85eb_ca6b)) {
            let within = ranges.iter().any(|(from, to)| (*from..=*to).contains(&probe));
            assert_eq!(list.contains(Ipv4Addr::from(probe).into()), within);
        }
    }
}
