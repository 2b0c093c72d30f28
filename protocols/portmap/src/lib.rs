//! Has the router of a house forward ports to this machine: by PCP (RFC 6887), NAT-PMP (RFC 6886) or UPnP, whichever it
//! knows, in this order.
//!
//! [`wire`] and [`igd`] are codecs, [`leases`] says what to ask when; none of these has a socket or reads a clock.
//! [`PortMapper`] is the task around them. Only the router is asked, by the system's own word for where it is, and only
//! what comes from its address is read; every answer has a bound.
//!
//! # Why is this not a crate that exists?
//! The one that knows all three, `portmapper`, maps one port at a time, brings its own sockets, its own watch over the
//! system's interfaces and its own counters, and some fifty crates of its application; those that know one or two read
//! whatever whoever answers sends. What is needed here is a table of a few ports, over one socket that was bound at the
//! start, with the renewals as rules.

mod exchange;
pub mod igd;
pub mod leases;
mod mapper;
mod router;
pub mod wire;

pub use leases::{Forwarding, Transport, Wanted, Way};
pub use mapper::{MapperOptions, MappingStatus, PortMapper};
pub use router::Router;
