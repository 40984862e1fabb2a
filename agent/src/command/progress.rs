//! Progress of work that takes long: one line on the terminal that stderr is, for as long as the work takes.
//!
//! In: how far it is, and what is being done. Out: a line that is drawn anew, and wiped at the end: nothing of it is left
//! among what is worth keeping. Other lines go above it. Where stderr is no terminal not a byte is written.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use super::terminal::{grouped, printable, shows};

/// How often the line is drawn while nothing changes, so that a wait is seen to be one.
const TICK: Duration = Duration::from_millis(120);

/// The line. Its clones are the same one.
#[derive(Debug, Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    /// No line at all.
    pub fn none() -> Progress {
        Progress(ProgressBar::hidden())
    }

    /// Of so many steps.
    pub fn of_steps(steps: usize) -> Progress {
        Progress::open(Some(steps as u64), "{spinner} [{bar:20}] {pos} of {len}, {elapsed}: {wide_msg}")
    }

    /// Of records without a known end, with their rate.
    pub fn of_records() -> Progress {
        Progress::open(None, "{spinner} {records} records delivered, {rate}/s{wide_msg}")
    }

    fn open(length: Option<u64>, template: &str) -> Progress {
        if !shows(&io::stderr()) {
            return Progress::none();
        }
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        // Only the words above are ever given.
        if let Ok(style) = ProgressStyle::with_template(template) {
            let records = |state: &ProgressState, to: &mut dyn std::fmt::Write| {
                let _ = to.write_str(&grouped(state.pos()));
            };
            let rate = |state: &ProgressState, to: &mut dyn std::fmt::Write| {
                let _ = write!(to, "{}", grouped(state.per_sec().round() as u64));
            };
            bar.set_style(style.progress_chars("=> ").with_key("records", records).with_key("rate", rate));
        }
        bar.enable_steady_tick(TICK);
        Progress(bar)
    }

    /// Whether anybody sees it.
    pub fn is_shown(&self) -> bool {
        !self.0.is_hidden()
    }

    /// So much is done.
    pub fn reaches(&self, done: u64) {
        self.0.set_position(done);
    }

    /// What is being done, or waited for. May quote what a server sent.
    pub fn says(&self, what: &str) {
        self.0.set_message(printable(what));
    }

    /// Does something that writes to the terminal, above the line.
    pub fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Wipes the line: the work is done.
    pub fn ends(&self) {
        self.0.finish_and_clear();
    }
}

/// Writes to stderr, above the line.
#[derive(Debug)]
pub struct Above(Progress);

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.above(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for Progress {
    type Writer = Above;

    fn make_writer(&self) -> Above {
        Above(self.clone())
    }
}
