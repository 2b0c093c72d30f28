//! How fast bytes may pass.
//!
//! A [`Limit`] is a number of bytes a second that can be changed at any time. A [`Gate`] lets bytes pass no faster than
//! its limit, in the order in which they were asked for ([`bucket`] has the rules, without a clock). A [`Line`] is gates
//! one after another, the narrowest circle first: a client's, its content's, everybody's. Several gates may go by one
//! limit, as each client's does, and one gate may be in many lines, as everybody's is.
//!
//! # Why does nobody take more than a small piece at a time?
//! Because that is what makes it fair. Whoever waits at a gate waits behind one piece of each of the others, however many
//! bytes they have; so all get the same, and who wants less than that gets what it wants.
//!
//! # Why are the gates passed one after another, and not at once?
//! What waits for a narrow gate must not hold a place at the wide one behind it. In this order the last gate sees what
//! really passes, and its rate is kept to the byte.

pub mod bucket;
mod gate;

pub use gate::{Gate, Limit, Line};
