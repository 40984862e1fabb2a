//! `taffrail run`: the agent, until SIGTERM or ctrl-C; SIGHUP, or a change of the configuration, reloads it.

mod backlog;
pub(super) mod log;
pub(super) mod reload;
mod source;
mod templates;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::BAD_CONFIGURATION;
use super::progress::Progress;
use crate::admin::{self, Admin};
use crate::config::Config;
use crate::health::Health;
use crate::pipeline::{Agent, Outcome, StartError};
use crate::privilege;
use log::Log;
use reload::{Life, Loaded, Reload, Swapped, Wanted};

/// How long before the end of the grace period the agent gives up catching up: what saving takes, and more.
const BEFORE_KILL: Duration = Duration::from_secs(5);

/// Runs the agent by the configuration in `path`, or by the defaults.
pub fn run(path: Option<&Path>) -> ExitCode {
    let loaded = match path.map_or_else(|| Ok(Loaded::default()), Loaded::load) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            eprintln!("{diagnostics}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let log = Log::start(&loaded.config.log, Progress::none());
    // Before any thread is started: those take over what this one has.
    privilege::take_up_and_tell();
    if path.is_none() {
        tracing::info!(
            "no configuration given (--config FILE): the pod logs of this node go to standard output"
        );
    }
    // Listening before anything runs: a signal during the start is heeded as well.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let reloads = Arc::default();
    let admin = match Admin::start(&loaded.config, path, log.told.clone(), Arc::clone(&reloads)) {
        Ok(admin) => admin,
        Err(error) => return fail(&error),
    };
    let mut health = Health::new(log.told.clone());
    runtime.block_on(async {
        let Some(mut signals) = Signals::listen() else { return fail(&"cannot listen for signals") };
        templates::set_up(&loaded.config).await;
        let agent = match start(&loaded, path.is_none()) {
            Ok(agent) => agent,
            Err(code) => return code,
        };
        admin.shows(agent.view(), &loaded.config);
        health.shows(agent.view(), &loaded.config);
        let backlog = tokio::spawn(backlog::tell(agent.stats().to_vec())).abort_handle();
        let reload = match Reload::watch(path, loaded, reloads) {
            Ok(reload) => reload,
            Err(error) => return fail(&error),
        };
        match live(agent, reload, (&log, &admin, &mut health, &backlog), &mut signals).await {
            Ok((agent, grace, config)) => {
                admin.set(admin::Life::Stopping);
                // Before the last look for logs: the outputs take it along.
                health.last().await;
                stop(agent, grace, config, &mut signals).await
            }
            Err(code) => code,
        }
    })
}

fn start(loaded: &Loaded, by_default: bool) -> Result<Agent, ExitCode> {
    let config = &loaded.config;
    let agent = Agent::start(config.clone()).map_err(|error| {
        let code = fail(&error);
        match error {
            StartError::Memory(_) => return ExitCode::from(BAD_CONFIGURATION),
            StartError::State { .. } if by_default => {
                eprintln!("  for a trial without any rights: taffrail demo");
            }
            _ => {}
        }
        code
    })?;
    let outputs: Vec<&str> = config.outputs.keys().map(String::as_str).collect();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pod_logs = %config.pod_logs.display(), outputs = outputs.join(","), "started");
    Ok(agent)
}

/// Lets the agent run, and others in its place as the configuration changes, until a signal says that it is to end.
/// Returns the last one, how long it may go on, and its configuration.
async fn live(
    agent: Agent,
    mut reload: Reload,
    (log, admin, health, backlog): (&Log, &Admin, &mut Health, &AbortHandle),
    signals: &mut Signals,
) -> Result<(Box<Agent>, Duration, Config), ExitCode> {
    let mut life = Life::Agent(Box::new(agent));
    while signals.ends == 0 {
        let wanted = tokio::select! {
            wanted = reload.next(matches!(life, Life::Down(_))) => wanted,
            heard = signals.next() => {
                // Without a file there is nothing to reload: then it is the end of a terminal, as ever.
                if heard == Heard::Reload && !reload.ask() {
                    signals.ends = 1;
                }
                continue;
            }
        };
        let said = reload.running.config.log;
        life = if reload.is_light(&wanted) && matches!(life, Life::Agent(_)) {
            reload.succeeded(wanted);
            admin.listens(&reload.running.config);
            life
        } else {
            admin.set(admin::Life::Changing);
            // What it goes by is another agent's from now on.
            backlog.abort();
            let swapped = swap(life, &reload, &wanted, signals).await?;
            let life = reload.swapped(wanted, swapped);
            match &life {
                Life::Agent(agent) => {
                    admin.shows(agent.view(), &reload.running.config);
                    health.shows(agent.view(), &reload.running.config);
                }
                Life::Down(_) => admin.set(admin::Life::Down),
            }
            life
        };
        if reload.running.config.log != said {
            log.apply(&reload.running.config.log);
        }
    }
    let (grace, drain) = (reload.running.config.grace, reload.running.config.drain.deadline);
    match life {
        Life::Agent(agent) => {
            // What a node that is going away has not sent goes with its disk.
            let grace = if agent.is_leaving() { grace.max(drain) } else { grace };
            Ok((agent, grace - BEFORE_KILL.min(grace / 2), reload.running.config))
        }
        Life::Down(_) => Err(fail(&"ended while no configuration could be started; nothing was read")),
    }
}

/// Swaps one agent for another, on a thread of its own: the main one goes on hearing signals.
async fn swap(
    life: Life,
    reload: &Reload,
    wanted: &Wanted,
    signals: &mut Signals,
) -> Result<Swapped, ExitCode> {
    let hasten = life.hasten();
    let (old, new) = (reload.running.config.clone(), wanted.new.config.clone());
    let (done, mut swapped) = oneshot::channel();
    std::thread::spawn(move || {
        // Nobody listens when a third signal has ended everything.
        let _ = done.send(reload::swap(life, &old, &new));
    });
    loop {
        let heard = tokio::select! {
            swapped = &mut swapped => {
                return swapped.map_err(|_| fail(&"reloading failed; this is a bug in Taffrail"));
            }
            heard = signals.next() => heard,
        };
        match heard {
            Heard::Reload => {
                reload.ask();
            }
            Heard::End if signals.ends > 2 => return Err(third_signal()),
            Heard::End => hasten.iter().for_each(|hasten| hasten.now()),
        }
    }
}

/// Reads on until everything is delivered, or for `grace`; saves and ends.
async fn stop(agent: Box<Agent>, grace: Duration, config: Config, signals: &mut Signals) -> ExitCode {
    let begun = signals.first_end.unwrap_or_else(Instant::now);
    tracing::info!(
        seconds = grace.as_secs_f32(),
        "stopping: reading on until everything is delivered, or that long"
    );
    let (stats, hasten) = (agent.stats().to_vec(), agent.hasten());
    if signals.ends > 1 {
        hasten.now();
    }
    // A thread that nobody joins: if the disk hangs, a third signal still ends the process.
    let (done, mut stopped) = oneshot::channel();
    std::thread::spawn(move || done.send(agent.stop_by(&config, begun + grace)));
    let outcome = loop {
        let heard = tokio::select! {
            outcome = &mut stopped => break outcome,
            heard = signals.next() => heard,
        };
        match heard {
            Heard::Reload => {}
            Heard::End if signals.ends > 2 => return third_signal(),
            Heard::End => {
                tracing::info!(
                    "stopping at once, by a second signal: what is not delivered yet comes with the next start"
                );
                hasten.now();
            }
        }
    };
    for (output, stats) in stats {
        tracing::info!(
            output,
            delivered = stats.records_delivered.get(),
            duplicates = stats.duplicates.get(),
            refused = stats.refused.get(),
            too_old = stats.records_too_old.get(),
            filtered = stats.records_filtered.get(),
            lost_bytes = stats.losses.lost().bytes,
            dropped = stats.losses.dropped().records,
            lost = %stats.losses,
            in_doubt = stats.in_doubt.get(),
            retries = stats.retries.get(),
            "stopped"
        );
    }
    let Ok(Outcome { caught_up }) = outcome else {
        return fail(&"stopping failed; this is a bug in Taffrail");
    };
    tracing::info!(caught_up, seconds = begun.elapsed().as_secs_f32(), "ended");
    ExitCode::SUCCESS
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    End,
    Reload,
}

/// The signals of the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Those that other collectors flush or reopen by: unheard they would end the process at once.
    user: [Signal; 2],
    /// How often the end was asked for.
    ends: u32,
    first_end: Option<Instant>,
}

impl Signals {
    fn listen() -> Option<Signals> {
        let [terminate, interrupt, hangup, first, second] = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ]
        .map(|kind| signal(kind).ok());
        let (terminate, interrupt, hangup, user) = (terminate?, interrupt?, hangup?, [first?, second?]);
        Some(Signals { terminate, interrupt, hangup, user, ends: 0, first_end: None })
    }

    async fn next(&mut self) -> Heard {
        let [first, second] = &mut self.user;
        loop {
            let unused = tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => return Heard::Reload,
                _ = first.recv() => "SIGUSR1",
                _ = second.recv() => "SIGUSR2",
            };
            tracing::info!(
                signal = unused,
                "this signal asks for nothing here: what lingers is sent by itself, SIGHUP reloads the configuration, SIGTERM ends"
            );
        }
        self.ends += 1;
        self.first_end.get_or_insert_with(Instant::now);
        Heard::End
    }
}

fn third_signal() -> ExitCode {
    fail(&"ended by a third signal; positions may not be saved, and some records will be sent again")
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
