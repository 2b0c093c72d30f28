//! Permissions to store (BEP 5): who asked from an address may announce from it for 5 to 10 minutes.
//!
//! A token is a hash of the address under a secret that changes every [`ROTATION`]; the one before is still good. So
//! nothing is kept for those who ask, and nobody can have others announced.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;

use super::random::Random;

/// How long a secret makes new tokens; its tokens are good for as long again.
pub(super) const ROTATION: Duration = Duration::from_secs(5 * 60);
/// Bytes of a token.
const TOKEN_BYTES: usize = 8;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Tokens {
    current: hmac::Key,
    previous: hmac::Key,
    rotate: Instant,
}

impl Tokens {
    pub(super) fn new(now: Instant, random: &mut Random) -> Self {
        Self { current: secret(random), previous: secret(random), rotate: now + ROTATION }
    }

    pub(super) fn issue(&mut self, now: Instant, ip: IpAddr, random: &mut Random) -> Vec<u8> {
        self.turn(now, random);
        token(&self.current, ip)
    }

    pub(super) fn accepts(&mut self, now: Instant, ip: IpAddr, given: &[u8], random: &mut Random) -> bool {
        self.turn(now, random);
        given == token(&self.current, ip) || given == token(&self.previous, ip)
    }

    fn turn(&mut self, now: Instant, random: &mut Random) {
        if now < self.rotate {
            return;
        }
        let next = secret(random);
        let missed_one = now >= self.rotate + ROTATION;
        let last = std::mem::replace(&mut self.current, next);
        self.previous = if missed_one { secret(random) } else { last };
        self.rotate = if missed_one { now } else { self.rotate } + ROTATION;
    }
}

fn secret(random: &mut Random) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &random.bytes::<32>())
}

fn token(secret: &hmac::Key, ip: IpAddr) -> Vec<u8> {
    let tag = match ip {
        IpAddr::V4(ip) => hmac::sign(secret, &ip.octets()),
        IpAddr::V6(ip) => hmac::sign(secret, &ip.octets()),
    };
    tag.as_ref()[..TOKEN_BYTES].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    #[test]
    fn a_token_is_good_for_its_address_for_five_minutes_and_for_no_more_than_ten() {
        let (now, mut random) = (start(), Random::new(&[1; 32]));
        let mut tokens = Tokens::new(now, &mut random);
        let (ip, other) = (IpAddr::from([1, 2, 3, 4]), IpAddr::from([1, 2, 3, 5]));
        let token = tokens.issue(now + Duration::from_secs(299), ip, &mut random);
        let mut good = |after: u64, ip| tokens.accepts(now + Duration::from_secs(after), ip, &token, &mut random);
        assert!(good(299, ip) && !good(299, other));
        assert!(good(598, ip));
        assert!(!good(601, ip));
    }

    #[test]
    fn after_a_long_silence_every_token_is_old() {
        let (now, mut random) = (start(), Random::new(&[1; 32]));
        let mut tokens = Tokens::new(now, &mut random);
        let ip = IpAddr::from([1, 2, 3, 4]);
        let token = tokens.issue(now, ip, &mut random);
        assert!(!tokens.accepts(now + Duration::from_secs(601), ip, &token, &mut random));
    }
}
