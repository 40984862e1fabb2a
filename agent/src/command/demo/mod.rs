//! `taffrail demo`: the true agent over a little node in a folder of its own, and the proof that nothing was
//! lost. Comes in: a rate, a time and a destination. Goes out: a live table, a verdict, an exit code, and the
//! documents to look at. It never touches a file outside its folder, nor a log of the machine that it runs
//! on.
//!
//! `programs` is what the pods print, `container` how the runtime and kubelet treat it, `world` the node as a
//! whole; `folder` is where it all lies; `table` shows what happens; `verify` judges, for a search cluster
//! with what `search` reads back.

mod clock;
mod container;
mod folder;
mod programs;
mod search;
mod table;
#[cfg(test)]
mod tests;
mod verify;
mod world;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use self::container::Tally;
use self::folder::{Folder, shell_quoted};
use self::search::{INDEX, Search};
use self::table::{ContainerRow, Screen, View};
use self::verify::{Checker, Verdict, Written};
use self::world::{Plan, World};
use super::terminal::{Guard, counted, grouped, say, size};
use crate::config::{Config, MetadataSource};
use crate::pipeline::{Agent, OutputProgress};

/// Time between two looks at the agent.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long the agent may make no headway at the end before it is stopped as it is.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time for the agent to flush and save when it is told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Run the agent over a little node of its own and verify that nothing was lost.
///
/// A dozen pods print JSON, nginx, Java, Go and Kubernetes logs into a temporary folder, with rotations and
/// restarts. The agent reads them as it would on a real node. At the end every line written is looked for in
/// what was delivered.
#[derive(clap::Args, Debug, Clone)]
pub struct DemoArgs {
    /// Records a second over all pods.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub rate: u32,
    /// How long the pods write, in seconds.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Where to deliver to: `file`, or `elasticsearch=http://host:port` (OpenSearch as well).
    #[arg(long, value_name = "OUTPUT", default_value = "file", value_parser = destination)]
    pub output: Destination,
    /// Keep the pods' logs, the agent's state and its configuration, not only the documents.
    #[arg(long)]
    pub keep: bool,
    /// Folder to work in, new or empty [default: a new one among the system's temporary files].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Where the demo delivers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// NDJSON files in the demo's folder.
    File,
    /// Dated indices of an Elasticsearch or OpenSearch at this address.
    Elasticsearch(String),
}

fn destination(text: &str) -> Result<Destination, String> {
    if text == "file" {
        return Ok(Destination::File);
    }
    let url = text.strip_prefix("elasticsearch=").ok_or("say `file` or `elasticsearch=http://host:port`")?;
    let parsed = reqwest::Url::parse(url).map_err(|error| format!("`{url}` is not an address: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err("the address must begin with http:// or https://".to_owned());
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        // It would be shown with the configuration.
        return Err(
            "the demo takes no credentials: use a server that needs none, or `taffrail run`".to_owned()
        );
    }
    Ok(Destination::Elasticsearch(url.trim_end_matches('/').to_owned()))
}

/// Why the demo did not come to a verdict.
enum Failure {
    /// Something in the arguments: exit code 2.
    Usage(String),
    /// Something in the world: exit code 1.
    Trouble(String),
}

/// Runs the demo. Exit code 0: every line was delivered exactly once; 1: it was not, or could not be
/// verified; 2: the arguments are of no use.
///
/// Blocks until the end and starts a runtime of its own: not to be called from asynchronous code.
pub fn demo(args: DemoArgs) -> ExitCode {
    let (message, code) = match run(&args) {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => return ExitCode::from(1),
        Err(Failure::Usage(message)) => (message, 2),
        Err(Failure::Trouble(message)) => (message, 1),
    };
    eprintln!("error: {message}");
    ExitCode::from(code)
}

/// The plot. Returns whether every line was delivered exactly once.
fn run(args: &DemoArgs) -> Result<bool, Failure> {
    let folder = Folder::make(args.dir.as_deref()).map_err(Failure::Usage)?;
    let search = match &args.output {
        Destination::File => None,
        Destination::Elasticsearch(endpoint) => Some(reach(endpoint).inspect_err(|_| folder.remove())?),
    };

    let text = configuration(&folder, &args.output);
    say(&format!("A little node writes its logs to {}.", folder.pods().display()));
    say("This is the configuration that the agent runs with:\n");
    text.lines().for_each(|line| say(format!("    {line}").trim_end()));
    say("");
    let agent = start(&text, &folder).inspect_err(|_| folder.remove())?;
    let plan =
        Plan { pods: folder.pods(), rate: args.rate, duration: Duration::from_secs(args.seconds.into()) };
    let world =
        World::start(plan, fastrand::Rng::new()).map_err(|error| Failure::Trouble(error.to_string()))?;
    let (tallies, begin) = (world.tallies().to_vec(), Instant::now());

    let mut screen = Screen::open();
    let interrupted = watch_signals(screen.guard(), &folder);
    let mut view = View { duration: Duration::from_secs(args.seconds.into()), ..View::default() };
    watch_writing(&agent, &world, &mut screen, &mut view, begin, &interrupted);
    let written = world.finish().map_err(|error| Failure::Trouble(error.to_string()))?;
    watch_catching_up(&agent, &tallies, &mut screen, &mut view, begin);
    view.phase = "stopping the agent";
    screen.show(&view, true);
    let outcome = agent.stop(Instant::now() + STOP_WITHIN);
    drop(screen);

    say(&format!("\n{}", table::summary(&view)));
    if !outcome.caught_up {
        say("The agent was stopped before it had delivered everything.");
    }
    if let Some(error) = view.last_error.as_deref().filter(|_| !outcome.caught_up) {
        say(&format!("Its output's last error: {error}"));
    }
    let (verdict, indices) = verify(written, &folder, search.as_ref()).map_err(|message| {
        Failure::Trouble(format!(
            "it could not be verified what was delivered: {message}; {}",
            folder.stays()
        ))
    })?;
    Ok(conclude(&verdict, &indices, &view, &folder, args))
}

/// Starts the agent with the configuration in `text`, which also goes to the folder.
fn start(text: &str, folder: &Folder) -> Result<Agent, Failure> {
    let mut config =
        Config::parse(text, "the demo's configuration").map_err(|error| Failure::Usage(error.to_string()))?;
    // Its pods are of no cluster, whatever the environment says.
    config.metadata.source = MetadataSource::Path;
    let path = folder.config();
    fs::write(&path, text).map_err(|error| Failure::Trouble(format!("{}: {error}", path.display())))?;
    Agent::start(config).map_err(|error| Failure::Trouble(error.to_string()))
}

/// Sees to it that the cluster answers, before anybody waits for twenty seconds.
fn reach(endpoint: &str) -> Result<Search, Failure> {
    let search = Search::new(endpoint).and_then(|search| search.prepare().map(|()| search));
    search.map_err(|error| Failure::Trouble(error.to_string()))
}

/// The configuration, as a user would write it.
fn configuration(folder: &Folder, output: &Destination) -> String {
    // JSON's escapes are TOML's as well.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let output = match output {
        Destination::File => {
            let files = folder.out().join("{namespace}.ndjson");
            format!("[outputs.local]\ntype = \"file\"\npath = {}\n", path(&files))
        }
        Destination::Elasticsearch(endpoint) => format!(
            "[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [{}]\nindex = \"{INDEX}-{{date}}\"\n",
            quoted(endpoint)
        ),
    };
    format!(
        "cluster = \"demo\"\nnode = \"demo-node\"\npod_logs = {}\nstate_dir = {}\n\n{output}",
        path(&folder.pods()),
        path(&folder.state())
    )
}

/// Shows the table while the pods write, which began at `begin`, until the time is over or the user has had
/// enough.
fn watch_writing(
    agent: &Agent,
    world: &World,
    screen: &mut Screen,
    view: &mut View,
    begin: Instant,
    interrupted: &AtomicBool,
) {
    view.phase = "writing";
    loop {
        let finished = world.is_finished();
        view.elapsed = begin.elapsed();
        view.written_for = view.elapsed.min(view.duration);
        view.rotations = world.rotations();
        view.restarts = world.restarts();
        look(view, world.tallies(), &agent.progress());
        screen.show(view, false);
        if finished {
            return;
        }
        if interrupted.load(Ordering::Relaxed) {
            world.stop();
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Shows the table until the agent has delivered everything, or makes no headway any more.
fn watch_catching_up(
    agent: &Agent,
    tallies: &[Arc<Tally>],
    screen: &mut Screen,
    view: &mut View,
    begin: Instant,
) {
    view.phase = "waiting for the agent to catch up";
    let state = |view: &View| {
        let sum = |of: fn(&ContainerRow) -> u64| view.rows.iter().map(of).sum::<u64>();
        (sum(|row| row.lag), sum(|row| row.delivered))
    };
    let (mut last, mut since, mut first) = (state(view), Instant::now(), true);
    loop {
        view.elapsed = begin.elapsed();
        look(view, tallies, &agent.progress());
        screen.show(view, first);
        first = false;
        let now = state(view);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        let delivered = view.rows.iter().all(|row| row.delivered >= row.lines);
        // An agent that has forgotten a deleted file may count less than was delivered. The verification will
        // tell.
        let patience = if now.0 == 0 { PATIENCE / 5 } else { PATIENCE };
        if (delivered && now.0 == 0) || since.elapsed() > patience {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Brings `view` up to date, and the tallies' counts of what was delivered.
fn look(view: &mut View, tallies: &[Arc<Tally>], outputs: &[OutputProgress]) {
    let progress: HashMap<_, _> = outputs
        .iter()
        .flat_map(|output| &output.containers)
        .map(|one| ((one.namespace.as_str(), one.pod.as_str(), one.container.as_str()), one))
        .collect();
    view.rows.clear();
    for tally in tallies.iter().filter(|tally| tally.lines() > 0) {
        let progress = progress.get(&(tally.namespace, tally.pod.as_str(), tally.container));
        if let Some(progress) = progress {
            tally.note_delivered(progress.records_delivered);
        }
        let (lines, delivered) = (tally.lines(), tally.delivered());
        let lag = match progress {
            Some(progress) => progress.lag_bytes,
            // Not yet found, or already forgotten.
            None if delivered < lines => tally.bytes(),
            None => 0,
        };
        let pod = format!("{}/{}", tally.namespace, tally.pod);
        view.rows.push(ContainerRow {
            pod,
            container: tally.container,
            lines,
            bytes: tally.bytes(),
            lag,
            delivered,
        });
    }
    view.retries = outputs.iter().map(|output| output.retries).sum();
    view.refused = outputs.iter().map(|output| output.refused).sum();
    view.last_error = outputs.iter().find_map(|output| output.last_error.clone());
}

/// Turns ctrl-C and SIGTERM into a flag: the first stops the writing, the second leaves at once.
fn watch_signals(guard: Option<Guard>, folder: &Folder) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (flag, stays) = (interrupted.clone(), folder.stays());
    let wait = async move {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if flag.swap(true, Ordering::Relaxed) {
                if let Some(guard) = &guard {
                    guard.give_back();
                }
                eprintln!("Left without verifying; {stays}.");
                std::process::exit(130);
            }
        }
    };
    // Without it ctrl-C ends the demo as it ends any program, which is bearable.
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        let _ = thread::Builder::new().name("demo-signals".to_owned()).spawn(move || runtime.block_on(wait));
    }
    interrupted
}

/// Compares everything that was delivered with what was written. Returns the verdict, and of a search cluster
/// the names of the indices that hold this run's documents.
fn verify(
    written: Vec<Written>,
    folder: &Folder,
    search: Option<&Search>,
) -> Result<(Verdict, BTreeSet<String>), String> {
    let mut uids: Vec<_> = written.iter().map(|written| written.tally.uid.clone()).collect();
    uids.dedup();
    let mut checker = Checker::new(written);
    let mut indices = BTreeSet::new();
    match search {
        None => verify::read_folder(&folder.out(), &mut checker).map_err(|error| error.to_string())?,
        Some(search) => indices = search.read(&uids, &mut checker).map_err(|error| error.to_string())?,
    }
    Ok((checker.finish(), indices))
}

/// Says what came of it, and what to do next. Returns whether all is well.
fn conclude(
    verdict: &Verdict,
    indices: &BTreeSet<String>,
    view: &View,
    folder: &Folder,
    args: &DemoArgs,
) -> bool {
    if verdict.lines == 0 {
        say("Nothing was written, so nothing was verified.");
        folder.remove();
        return false;
    }
    let numbers = format!(
        "{} lines, {}, {}, {}.",
        grouped(verdict.lines),
        counted(verdict.pods, "pod"),
        counted(view.rotations, "rotation"),
        counted(view.restarts, "restart")
    );
    if !verdict.exact() {
        say(&format!("Not every line written was delivered exactly once: {numbers}"));
        say(&format!("{} documents were found. What is wrong:", grouped(verdict.documents)));
        say(verdict.to_string().trim_end());
        say(&format!("For a closer look, {}.", folder.stays()));
        return false;
    }
    say(&format!("Every line written was delivered exactly once: {numbers}\n"));
    if !args.keep {
        folder.remove_inputs();
    }
    match &args.output {
        Destination::File => {
            let out = shell_quoted(&folder.out());
            say(&format!(
                "documents:  {out} ({} of NDJSON, a file for each namespace)",
                size(folder.out_bytes())
            ));
            say(&format!("try:        {}", suggestion(&out)));
            say(&format!("clean up:   rm -r {}", shell_quoted(&folder.root)));
        }
        Destination::Elasticsearch(endpoint) => {
            // By name: servers may be set not to delete by a pattern.
            let index = indices.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            say(&format!("documents:  {endpoint}/{index}"));
            say(&format!("try:        curl -s '{endpoint}/{index}/_search?q=log.level:error&size=3&pretty'"));
            say(&format!(
                "clean up:   curl -X DELETE '{endpoint}/{index}' '{endpoint}/_index_template/{INDEX}'"
            ));
        }
    }
    if args.keep {
        say(&format!("kept:       {} (logs, state, configuration)", shell_quoted(&folder.root)));
    }
    say("go on:      README.md says how to run it on your nodes; configs/ has configurations to start from");
    true
}

/// A command that shows something worth seeing in the NDJSON files under `out`, with what is installed.
fn suggestion(out: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join("jq").is_file()) {
        let filter = "select(.log.level == \"error\") | [.kubernetes.pod.name, .message] | @tsv";
        return format!("jq -r '{filter}' {out}/*.ndjson | head");
    }
    format!("grep -h '\"level\":\"error\"' {out}/*.ndjson | head -n 3")
}
