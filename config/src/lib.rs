//! Configuration: every option with its unit, default and origin.
