//! Scenarios, each of which ends in a count.

// First, and one after the other: see `kit::alone`. The others run beside each other.
mod alone;
mod changes;
mod lives;
mod programs;
mod workloads;
