//! One idea per file: see the `examples` targets of this crate.
