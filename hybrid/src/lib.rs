//! `HybridProtocol`: one content over every network that has it.
//!
//! * [`book`]: which names are the same bytes, kept in the index.

pub mod book;

pub use book::BindingBook;
