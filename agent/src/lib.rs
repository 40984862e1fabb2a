//! Taffrail: a node-level logging agent for Kubernetes.
//!
//! The log files on disk are the queue: every output is a reader of its own, which pulls from the files when it has
//! credit to send and moves its position only over what the destination has acknowledged. The modules, in the order of
//! a record's way: [`catalog`] finds files, [`retain`] keeps
//! them until they are read, [`read`] takes records from them, [`record`] turns lines into fields,
//! [`metadata`] and [`route`] know what is the same for all records of a container, [`batch`] makes request bodies,
//! [`output`] delivers them, [`position`] remembers what is acknowledged. [`worker`] is the loop that drives an
//! output; [`pipeline`] puts everything together; [`admin`] tells whoever asks how it all is, and
//! [`health`] those who read the agent's own records.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod admin;
pub mod batch;
pub mod catalog;
pub mod clock;
pub mod command;
pub mod config;
pub mod forward;
pub mod health;
pub mod metadata;
pub mod output;
pub mod pipeline;
pub mod position;
pub mod privilege;
pub mod pulse;
pub mod read;
pub mod record;
pub mod retain;
pub mod route;
pub mod stats;
pub mod tap;
pub mod wake;
pub mod worker;
