//! Progress: what a running agent has done so far, for a table that people look at.
//!
//! In: the counters. Out: a copy of them by output and container. Never waits for anybody.

use super::Agent;
use crate::stats::Loss;

/// What one output has done.
#[derive(Debug, Clone)]
pub struct OutputProgress {
    /// Its name.
    pub name: String,
    /// The containers it reads.
    pub containers: Vec<ContainerProgress>,
    /// Requests or items sent again.
    pub retries: u64,
    /// Records refused for good.
    pub refused: u64,
    /// What was lost.
    pub lost: Loss,
    /// What rate limits dropped.
    pub dropped: Loss,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// What one output has done with one container.
#[derive(Debug, Clone)]
pub struct ContainerProgress {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// Bytes taken from its files.
    pub read_bytes: u64,
    /// Bytes not acknowledged yet.
    pub lag_bytes: u64,
    /// Records taken from its files.
    pub records_read: u64,
    /// Records acknowledged.
    pub records_delivered: u64,
}

impl Agent {
    /// What has been done so far; cheap enough to be asked several times a second.
    pub fn progress(&self) -> Vec<OutputProgress> {
        self.outputs
            .iter()
            .map(|(name, stats)| OutputProgress {
                name: name.clone(),
                containers: stats
                    .containers()
                    .iter()
                    .map(|c| {
                        let (namespace, pod, container) = c.origin.place();
                        ContainerProgress {
                            namespace: namespace.to_owned(),
                            pod: pod.to_owned(),
                            container,
                            read_bytes: c.read_bytes.get(),
                            lag_bytes: c.lag_bytes.get(),
                            records_read: c.records_read.get(),
                            records_delivered: c.records_delivered.get(),
                        }
                    })
                    .collect(),
                retries: stats.retries.get(),
                refused: stats.refused.get(),
                lost: stats.losses.lost(),
                dropped: stats.losses.dropped(),
                last_error: stats.last_error(),
            })
            .collect()
    }
}
