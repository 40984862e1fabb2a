//! `taffrail config`: what a configuration may hold, for editors and for people.
//!
//! In: nothing. Out: the JSON Schema, or the reference page, of this version, on standard output. Reads no configuration.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;

use crate::config::{reference, schema};

/// What is to be printed.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Action {
    /// Print the JSON Schema of the configuration, by which editors complete and check it
    Schema,
    /// Print the reference page of the configuration: every key with its type, default and meaning, in Markdown
    Reference,
}

/// Prints it.
pub fn config(action: Action) -> ExitCode {
    let text = match action {
        Action::Schema => schema_text(),
        Action::Reference => reference::page(&schema::schema()),
    };
    // Whoever reads only the beginning of it, as `head` does, has closed it.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// The schema as it is kept in a file.
pub fn schema_text() -> String {
    format!("{:#}\n", schema::schema())
}
