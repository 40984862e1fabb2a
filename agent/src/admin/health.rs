//! Health: whether the agent's threads get on, and whether it has begun.
//!
//! In: how far the agent is, and the pulses of its threads. Out: well, or what is stuck. An output whose server is away is
//! well: its worker waits, and its logs are on disk. A thread that hangs (in a write to a pipe that nobody reads, on a disk
//! that is away) is not, nor one that has ended: only a restart helps. Never looks at anything but numbers.

use std::time::Duration;

use super::Life;
use crate::pulse::Pulse;

/// How long a turn may take.
pub const STUCK: Duration = Duration::from_secs(60);

/// The same of the first look at all logs there are.
const FIRST_LOOK: Duration = Duration::from_secs(900);

/// Whether it is alive.
///
/// # Errors
/// What is stuck.
pub fn live(life: &Life) -> Result<(), String> {
    let Life::Running(shown) = life else { return Ok(()) };
    let workers = shown.view.workers.iter().map(|(name, pulse)| (format!("output {name}"), pulse));
    let catalogs = shown.view.catalogs.iter().map(|(what, pulse)| (format!("the search for {what}"), pulse));
    let stuck: Vec<String> =
        workers.chain(catalogs).filter_map(|(what, pulse)| trouble(&what, pulse)).collect();
    if stuck.is_empty() { Ok(()) } else { Err(stuck.join("\n")) }
}

fn trouble(what: &str, pulse: &Pulse) -> Option<String> {
    let is_first = what.starts_with("the search") && !pulse.is_begun();
    let (busy, allowed) = (pulse.busy(), if is_first { FIRST_LOOK } else { STUCK });
    if pulse.is_ended() {
        return Some(format!("{what} has ended"));
    }
    (busy >= allowed).then(|| format!("{what} is stuck for {} s", busy.as_secs()))
}

/// Whether it does its work.
///
/// # Errors
/// Why not.
pub fn ready(life: &Life) -> Result<(), String> {
    let shown = match life {
        Life::Running(shown) => shown,
        Life::Starting => return Err("starting".to_owned()),
        Life::Changing => return Err("another configuration is taking over".to_owned()),
        Life::Down => return Err("no configuration could be started; its log says why".to_owned()),
        Life::Stopping => return Err("stopping".to_owned()),
    };
    match shown.view.catalogs.iter().find(|(_, pulse)| !pulse.is_begun()) {
        Some((what, _)) => Err(format!("looking for {what} for the first time")),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::admin::Shown;
    use crate::pipeline::View;

    /// An agent with a worker for `search`, and a catalog.
    pub fn shown() -> Arc<Shown> {
        let view = View {
            outputs: vec![("search".to_owned(), Arc::default())],
            workers: vec![("search".to_owned(), Arc::default())],
            files: Vec::new(),
            catalogs: vec![("pod logs", Arc::default())],
            retained: None,
            metadata: None,
            taps: Arc::default(),
        };
        let outputs = [("search".to_owned(), ("elasticsearch", "http://a:1 logs".to_owned()))];
        Arc::new(Shown { view, cluster: "c".into(), node: "n".into(), outputs: outputs.into() })
    }

    #[test]
    fn it_is_ready_once_it_has_looked_and_alive_until_a_thread_is_no_more() {
        for life in [Life::Starting, Life::Changing, Life::Down, Life::Stopping] {
            assert!(live(&life).is_ok() && ready(&life).is_err(), "{life:?}");
        }
        let shown = shown();
        let life = Life::Running(shown.clone());
        assert_eq!(ready(&life), Err("looking for pod logs for the first time".to_owned()));
        shown.view.catalogs[0].1.has_begun();
        assert_eq!((ready(&life), live(&life)), (Ok(()), Ok(())));
        shown.view.workers[0].1.beat();
        assert_eq!(live(&life), Ok(()));
        shown.view.workers[0].1.end();
        assert_eq!(live(&life), Err("output search has ended".to_owned()));
    }
}
