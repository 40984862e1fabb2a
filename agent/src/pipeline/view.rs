//! What of a running agent may be looked at while it works.
//!
//! In: an agent. Out: its counters and pulses, shared with those who write them. Holds up nobody, and keeps nothing of the
//! agent alive but numbers and what is known of pods.

use std::sync::Arc;

use super::Agent;
use crate::catalog::Catalog;
use crate::catalog::host::HostCatalog;
use crate::metadata::Room;
use crate::metadata::table::Table;
use crate::pulse::Pulse;
use crate::retain::{RetainStats, Retainer};
use crate::stats::{Counter, OutputStats};
use crate::tap::Taps;

/// The view.
#[derive(Debug, Clone)]
pub struct View {
    /// The counters of each output, by its name.
    pub outputs: Vec<(String, Arc<OutputStats>)>,
    /// The threads that read for an output, by its name.
    pub workers: Vec<(String, Arc<Pulse>)>,
    /// The threads that look for logs, by what they look for.
    pub catalogs: Vec<(&'static str, Arc<Pulse>)>,
    /// How many files these know.
    pub files: Vec<Arc<Counter>>,
    /// What is kept of logs that were deleted unread, unless nothing is.
    pub retained: Option<Arc<RetainStats>>,
    /// What is known of pods, where anybody is asked.
    pub metadata: Option<Arc<Table>>,
    /// For looking at documents on their way.
    pub taps: Arc<Taps>,
}

impl Agent {
    /// What of it may be looked at.
    pub fn view(&self) -> View {
        let pods = self.catalog.iter().map(|catalog: &Catalog| ("pod logs", catalog.pulse()));
        let host = self.host_files.iter().map(|catalog: &HostCatalog| ("host files", catalog.pulse()));
        View {
            outputs: self.outputs.clone(),
            workers: self.seats.iter().map(|seat| (seat.output.clone(), seat.pulse.clone())).collect(),
            catalogs: pods.chain(host).collect(),
            files: self
                .catalog
                .iter()
                .map(Catalog::files)
                .chain(self.host_files.iter().map(HostCatalog::files))
                .collect(),
            retained: self.retainer.as_ref().map(Retainer::stats),
            metadata: self.metadata.as_ref().map(Room::table),
            taps: self.taps.clone(),
        }
    }
}
