//! The last way out: on a node that is going away, what an output cannot deliver goes to another destination.
//!
//! In: an agent that was told to end, and `drain.fallback`. Out: how it ended. Half of the time is every output's own; one that
//! has delivered nothing in it, and has something to deliver, goes on from its own positions with the fallback's destination
//! in place of its own. Whether its server took what was under way just then cannot be known: that is sent as well.

use std::time::{Duration, Instant};

use super::{Agent, Outcome};
use crate::config::Config;

/// How long what is under way may take to come back before the change.
const SETTLE: Duration = Duration::from_secs(1);

impl Agent {
    /// Ends as [`stop`](Agent::stop) does, by way of the fallback if there is one and it is needed.
    pub fn stop_by(mut self, config: &Config, deadline: Instant) -> Outcome {
        let Some(fallback) = config.drain.fallback.as_ref().filter(|_| self.is_leaving()) else {
            return self.stop(deadline);
        };
        let delivered = |agent: &Agent| -> Vec<u64> {
            agent.outputs.iter().map(|(_, stats)| stats.records_delivered.get()).collect()
        };
        let before = delivered(&self);
        self.read_on(Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2);
        let mut config = config.clone();
        let Some(destination) = config.outputs.get(fallback).cloned() else { return self.stop(deadline) };
        let mut stuck = Vec::new();
        for ((name, stats), (before, now)) in
            self.outputs.iter().zip(before.into_iter().zip(delivered(&self)))
        {
            let lags = stats.containers().iter().any(|container| container.lag_bytes.get() > 0);
            if name != fallback && lags && before == now {
                stuck.push(name.clone());
                config.outputs.insert(name.clone(), destination.clone());
            }
        }
        if stuck.is_empty() {
            return self.stop(deadline);
        }
        tracing::warn!(
            outputs = stuck.join(","),
            fallback,
            "outputs deliver nothing, and the node is going away: what is left of them goes to the fallback"
        );
        let carried = match self.give_way(SETTLE) {
            Ok(carried) => carried,
            Err((agent, reason)) => {
                tracing::warn!(%reason, "the fallback cannot take over");
                return agent.stop(deadline);
            }
        };
        match Agent::follow(&config, &carried) {
            Ok(agent) => agent.stop(deadline),
            Err(error) => {
                tracing::error!(%error, "the fallback cannot take over: what is left is not delivered");
                Outcome { caught_up: false }
            }
        }
    }
}
