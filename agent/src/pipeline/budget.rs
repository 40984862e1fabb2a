//! Budgets: what of memory and of descriptors each part of the agent may have.
//!
//! In: a configuration and the process's limits. Out: shares of both. Never measures what is used.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::StartError;
use crate::config::{ByteSize, Config, OutputConfig};

/// Descriptors left for connections, libraries and what is opened for a moment; a quarter of all, if that is more:
/// where logs are too many to be held open, each is opened for as long as it is being read.
const SPARE_DESCRIPTORS: u64 = 128;

/// What a worker needs at least for batches under way: below that, requests become so small that they cost more than
/// what they carry. A record must fit as well.
const LEAST_SHARE: u64 = 1 << 20;

/// How many threads read for an output.
pub(super) fn workers_of(output: &OutputConfig) -> usize {
    match output {
        OutputConfig::Elasticsearch(_) | OutputConfig::CloudWatch(_) => output.reading().workers,
        // One writer keeps one order.
        OutputConfig::File(_) | OutputConfig::Stdout(_) => 1,
    }
}

/// How large a batch may become: of those under way several must fit into the share.
pub(super) fn batch_within(wanted: u64, share: u64) -> u64 {
    wanted.min(share / 4)
}

/// Bytes of batches under way that each worker of each output may have, in the order of the outputs. Half of the
/// budget is for these; the other half is for the batch in hand (which may be held twice, plain and compressed), read
/// buffers and what libraries take.
///
/// # Errors
/// When that is too little to work with: what would be enough.
pub fn memory_shares(config: &Config) -> Result<Vec<u64>, StartError> {
    let outputs = config.outputs.len() as u64;
    let least = LEAST_SHARE.max(config.max_record.bytes());
    let most_workers = config.outputs.values().map(workers_of).max().unwrap_or(1) as u64;
    let needed = 2 * least * outputs * most_workers;
    if config.memory.bytes() < needed {
        // Rounded up: a number to write down.
        let enough = ByteSize::mib(needed.div_ceil(1 << 20));
        return Err(StartError::Memory(format!(
            "`memory = \"{}\"` is too little: each output has an equal share of it, each of its `workers` an equal share of \
             that, and {} is the least that one can work with ({})\n  set `memory` to \"{enough}\" or more, or have fewer \
             outputs or `workers`{}",
            config.memory,
            ByteSize::new(2 * least),
            if least > LEAST_SHARE { "twice `max_record`" } else { "twice a small batch" },
            if least > LEAST_SHARE { ", or a smaller `max_record`" } else { "" },
        )));
    }
    let share = |output| config.memory.bytes() / 2 / outputs.max(1) / workers_of(output) as u64;
    Ok(config.outputs.values().map(share).collect())
}

/// Bytes that a batch of this output may really have, which may be less than its `batch`.
pub fn batch_size(config: &Config, output: &OutputConfig) -> ByteSize {
    let share = config.memory.bytes() / 2 / config.outputs.len().max(1) as u64 / workers_of(output) as u64;
    ByteSize::new(batch_within(output.reading().batch.bytes(), share))
}

/// Raises the limit of open files as far as it goes; how many log files may be held open.
pub(super) fn descriptor_budget() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Nofile, raised);
    let current = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    current.saturating_sub(SPARE_DESCRIPTORS.max(current / 4)).max(current / 2) as usize
}
