//! `[health]`: what the agent tells of itself, as records beside those of the pods.
//!
//! In: one table of the configuration. Out: its checked values. Never says what is in such a record.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::units;

/// Records of the agent's own health: what each output delivers, how far it lags, what was lost, and how much each namespace
/// writes. Dashboards are made of them. They go by no route, their `{namespace}` is `taffrail`, and no log line can pass for one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthConfig {
    /// The outputs that send them, by name. Required.
    pub outputs: Vec<String>,
    /// Time between two of them, 1 s to 1 h. Default `"1m"`.
    #[serde(deserialize_with = "units::duration", default = "HealthConfig::default_interval")]
    #[schemars(with = "units::Time")]
    pub interval: Duration,
}

impl Default for HealthConfig {
    /// Nobody sends any.
    fn default() -> HealthConfig {
        HealthConfig { outputs: Vec::new(), interval: Self::default_interval() }
    }
}

impl HealthConfig {
    fn default_interval() -> Duration {
        Duration::from_secs(60)
    }

    /// Whether there are any.
    pub fn is_wanted(&self) -> bool {
        !self.outputs.is_empty()
    }
}
