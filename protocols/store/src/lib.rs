//! One content-addressed store for every network: memory and disk, verified in, bounded.
