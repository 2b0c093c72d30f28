//! The `swarmgate` program.
fn main() {}
