//! Stories of whole stores, told of both homes wherever it makes no difference.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod budget;
mod crash;
mod in_place;
mod killed;
mod kit;
mod records;
mod serving;
