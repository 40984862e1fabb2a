//! Templates at the start of an agent, for outputs with `setup = true`.
//!
//! In: the configuration. Out: what the outputs need on their servers is there, if it can be. The agent's start waits for that
//! a little, since the first record makes the first index. A server that is away holds nothing back for longer: it is asked again
//! every other second, but may get its first records before its templates.

use std::time::Duration;

use crate::command::setup::elasticsearch::at_start;
use crate::config::{Config, OutputConfig};

/// So long the start waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries.
const AGAIN: Duration = Duration::from_secs(2);

/// Sets up what is wanted, and goes on trying in the background.
pub async fn set_up(config: &Config) {
    let wants = |output: &OutputConfig| matches!(output, OutputConfig::Elasticsearch(output) if output.setup.at_start);
    if !config.outputs.values().any(wants) {
        return;
    }
    let config = config.clone();
    let trying = tokio::spawn(async move {
        let mut told = String::new();
        while let Err(error) = at_start(&config).await {
            if error != told {
                tracing::warn!("setting up index templates failed, and is tried again: {error}");
                told = error;
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
    // Dropping the handle leaves it running.
    let _ = tokio::time::timeout(PATIENCE, trying).await;
}
