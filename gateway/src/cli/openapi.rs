//! `swarmgate openapi`: the description of the control API, as a gateway without a base path has it at
//! `/api/v1/openapi.json`.

use std::io::Write;

use super::Exit;
use super::source::Failure;
use crate::api;

/// Prints it. No configuration is read.
///
/// # Errors
/// When nothing can be written.
pub fn run(out: &mut dyn Write) -> Result<(), Failure> {
    let described = serde_json::to_value(api::describe(""));
    let document = described.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    writeln!(out, "{document:#}").map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}
