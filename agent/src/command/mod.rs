//! The subcommands of `taffrail`: each takes its arguments and returns the process's exit code.
//!
//! Codes: 0 it worked, 1 it did not, 2 the configuration or the command line is at fault.

pub mod check;
pub mod cleanup;
mod client;
pub mod config;
pub mod dead_letter;
pub mod demo;
pub mod explain;
pub mod forward;
pub mod prepare;
mod progress;
pub mod run;
pub mod setup;
pub mod tap;
pub(crate) mod terminal;
pub mod test;
pub mod top;
mod trial;

use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;

/// The exit code where the configuration or the command line is at fault.
const BAD_CONFIGURATION: u8 = 2;

/// The configuration in a file, or the default one; what is wrong with it is told.
fn configured(path: Option<&Path>) -> Result<Config, ExitCode> {
    path.map_or_else(|| Ok(Config::default()), Config::load).map_err(|diagnostics| {
        eprintln!("{diagnostics}");
        ExitCode::from(BAD_CONFIGURATION)
    })
}
