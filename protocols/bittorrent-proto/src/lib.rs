//! BitTorrent as rules: codecs and state machines, no I/O, no clock.
