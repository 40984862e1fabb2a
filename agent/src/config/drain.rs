//! `[drain]`: what the agent does once its node is going away.
//!
//! In: one table of the configuration. Out: its checked values. Never asks what becomes of the node.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::units;

/// What the agent does once its node is going away. A node that goes takes its disk along, and with it what was not delivered: then records no longer wait to
/// fill a batch, the oldest are read first, and the agent has longer to end. A plain update of the agent ends it within
/// `grace`, as ever.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrainConfig {
    /// Whether the agent watches its node at the API server for marks of Karpenter, the cluster autoscaler, the AWS node
    /// termination handler, cloud providers and kubelet's shutdown. It needs the right to `watch` nodes. Default `false`.
    pub enabled: bool,
    /// How long the agent may go on after SIGTERM on a node that is going away, 1 s to 1 h: the pod's
    /// `terminationGracePeriodSeconds` must be at least that, and at least `grace`. Default `"90s"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub deadline: Duration,
    /// The output to whose destination others hand over what is left of them, by name: those that have delivered nothing for
    /// half of that time. Of type `elasticsearch` or `cloudwatch`. Default none.
    pub fallback: Option<String>,
}

impl Default for DrainConfig {
    fn default() -> DrainConfig {
        DrainConfig { enabled: false, deadline: Duration::from_secs(90), fallback: None }
    }
}
