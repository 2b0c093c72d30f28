//! Stories of readings over sources in memory: who is asked for what, and what happens when they do not deliver.

mod at_hand;
mod deliver;
mod keeping;
mod loan;
mod readings;
mod sources;
