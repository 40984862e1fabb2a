//! A soak of the agent on a real node: pods come and go, and everything fails, at random; then all lines are counted.
//!
//! What comes in: a seed and a length. What goes out: what was written, delivered, missing and doubled, and what the agent
//! took. Pods lose their logs only while there is an agent: what is deleted while there is none is lost by design.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::counted::Difference;
use super::pods::{workload, workload_with, writes};
use super::schedule::{CRASHING, DEPLOYMENTS, What, schedule};
use super::usage::Group;
use super::witness::Witness;
use super::world::{AGENT, COMMAND, Namespace, Settings, World, folder, kill9};
use crate::server::{Kind, Server};
use crate::torture::mood::{Moods, Way};
use crate::{eventually, seconds};

/// How a soak is.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What all is drawn from.
    pub seed: u64,
    /// How long things happen; then the agent catches up.
    pub length: Duration,
}

/// What came of a soak.
#[derive(Debug)]
pub struct Outcome {
    /// The line to print.
    pub line: String,
    /// Whether a line is missing or doubled, or was never written.
    pub failed: bool,
    /// Where the traces of it are.
    pub folder: PathBuf,
}

/// Lines a second of a writer, by its place. Those of the last namespace go into a file.
const RATES: [u64; DEPLOYMENTS] = [5, 20, 40, 5, 20, 200];

/// How long a Job is there at least: an agent that was down when it ran has come by then.
const JOB_STAYS: Duration = seconds(90);

/// How long the agent may take in the end for what it was kept from.
const PATIENCE: Duration = seconds(600);

/// Runs one.
///
/// # Panics
/// When the node, the server or the agent cannot be had.
pub fn run(options: &Options) -> Outcome {
    let traces = folder("node-soak");
    let server = Server::shared(Kind::OpenSearch);
    let trace = File::create(traces.join("requests.log")).expect("a file for a trace");
    let way = Way::to(server.address(), options.seed, trace);
    let world = World::new(|_, _| Settings { way: Some(way.proxy.address()), ..Settings::default() });
    let namespaces = ["soak-one", "soak-two", "many-soak"].map(|name| world.namespace(name));
    let names: Vec<&str> = namespaces.iter().map(|namespace| &**namespace).collect();
    let witness = Witness::of(&world.node.logs(), &names);
    let watch = Watch::begin(&world);
    let mut soak = Soak {
        world: &world,
        namespaces: &namespaces,
        way: &way,
        server,
        server_is_down: Arc::default(),
        jobs: 0,
        there: VecDeque::new(),
        happened: BTreeMap::new(),
    };
    soak.makes_workloads();
    let begun = Instant::now();
    for event in schedule(options.seed, options.length) {
        // What takes long delays what follows; nothing is left out.
        thread::sleep(event.at.saturating_sub(begun.elapsed()));
        println!("{:7.1} s: {:?}", begun.elapsed().as_secs_f64(), event.what);
        if event.what.lets_go_of_logs() {
            soak.there_is_an_agent();
        }
        soak.applies(event.what);
    }
    soak.calms_down();
    println!("{:7.1} s: calm", begun.elapsed().as_secs_f64());
    let difference = soak.catches_up(&names, &witness);
    let (agents, peak, cpu) = watch.ends();
    if !difference.of.is_empty() {
        let of: Vec<String> = difference.of.iter().map(|of| format!("{of:?}\n")).collect();
        fs::write(traces.join("missing"), of.concat()).expect("to write what is missing");
    }
    let failed = difference.missing + difference.doubled + difference.invented > 0;
    let happened: Vec<String> = soak.happened.iter().map(|(what, times)| format!("{what}={times}")).collect();
    let line = format!(
        "{} seed={} minutes={:.1} {} lives={} written={} delivered={} missing={} doubled={} never_written={} \
         agents={agents} peak_working_set={:.1}MiB cpu={cpu:.1}s spoilt_exchanges={}",
        if failed { "FAILED" } else { "ok" },
        options.seed,
        options.length.as_secs_f64() / 60.0,
        happened.join(" "),
        witness.seen().lives.len(),
        difference.written,
        difference.delivered,
        difference.missing,
        difference.doubled,
        difference.invented,
        peak as f64 / 1_048_576.0,
        way.proxy.spoilt(),
    );
    Outcome { line, failed, folder: traces }
}

struct Soak<'w> {
    world: &'w World,
    namespaces: &'w [Namespace<'w>; 3],
    way: &'w Way,
    server: &'static Server,
    server_is_down: Arc<AtomicBool>,
    jobs: usize,
    /// Jobs that are there, and since when.
    there: VecDeque<(usize, Instant)>,
    happened: BTreeMap<String, usize>,
}

impl Soak<'_> {
    fn makes_workloads(&self) {
        for (place, rate) in RATES.iter().enumerate() {
            let name = format!("writer-{place}");
            let kind = if place % 2 == 0 { "Deployment" } else { "StatefulSet" };
            let pod = writes(&name, 10_000_000, *rate, None);
            let one = json!({ "replicas": 1, "podManagementPolicy": "Parallel" });
            let one = if kind == "Deployment" { json!({ "replicas": 1 }) } else { one };
            self.world.node.apply(&workload_with(kind, self.namespace(place), &name, pod, one));
        }
        for place in 0..CRASHING {
            let name = format!("crash-{place}");
            let none = json!({ "replicas": 0 });
            let pod = writes(&name, 60, 0, Some(1));
            self.world.node.apply(&workload_with("Deployment", self.namespace(place), &name, pod, none));
        }
    }

    fn namespace(&self, place: usize) -> &str {
        &self.namespaces[if place + 1 == DEPLOYMENTS { 2 } else { place % 2 }]
    }

    /// Waits until the agent has looked through the logs.
    fn there_is_an_agent(&self) {
        eventually(PATIENCE, "the agent to be Ready", || {
            let found = self.world.node.try_kubectl(&[
                "-n",
                AGENT,
                "get",
                "daemonset",
                "taffrail",
                "-o",
                "jsonpath={.status.numberReady}",
            ])?;
            let [_] = self.world.node.processes(COMMAND)[..] else { return Err("no process".into()) };
            if found == "1" { Ok(()) } else { Err(found) }
        });
    }

    fn applies(&mut self, what: What) {
        let name = format!("{what:?}").split('(').next().unwrap_or_default().to_lowercase();
        *self.happened.entry(name).or_default() += 1;
        let node = &self.world.node;
        match what {
            What::Scale(place, replicas) => {
                let kind = if place.is_multiple_of(2) { "deployment" } else { "statefulset" };
                self.scales(place, &format!("{kind}/writer-{place}"), replicas);
            }
            What::Crash(place, is_on) => {
                self.scales(place, &format!("deployment/crash-{place}"), usize::from(is_on));
            }
            What::Job(lines, code) => {
                self.jobs += 1;
                let name = format!("job-{}", self.jobs);
                let job = workload(
                    "Job",
                    self.namespace(self.jobs % 2),
                    &name,
                    writes(&name, lines, 0, Some(code)),
                );
                self.tries(|| node.try_apply(&job));
                self.there.push_back((self.jobs, Instant::now()));
                while let Some((old, _)) = self.there.pop_front_if(|(_, since)| since.elapsed() > JOB_STAYS) {
                    self.kubectl(&[
                        "-n",
                        self.namespace(old % 2),
                        "delete",
                        "--wait=false",
                        "job",
                        &format!("job-{old}"),
                    ]);
                }
            }
            What::Kill => {
                // One that is just being started is there in a moment.
                self.there_is_an_agent();
                kill9(self.world.process());
            }
            What::Evict => {
                let agent = self.world.agent();
                node.evicts(AGENT, &agent);
            }
            What::Roll => self.kubectl(&["-n", AGENT, "rollout", "restart", "daemonset/taffrail"]),
            What::Reload => {
                let fields = format!("[metadata]\nlabel_fields = [\"app\", \"team-{}\"]", fastrand::u32(..));
                self.tries(|| self.world.reconfigure(&fields));
            }
            What::Restart(part) => {
                node.stop(part);
                node.start(part);
            }
            What::Reboot => node.reboots(),
            What::Way(moods) => self.way.turns(moods),
            What::ServerDies => self.server_dies(),
        }
    }

    fn scales(&self, place: usize, what: &str, replicas: usize) {
        self.kubectl(&["-n", self.namespace(place), "scale", what, &format!("--replicas={replicas}")]);
    }

    /// Until the API server takes it: it may have just been restarted.
    fn kubectl(&self, arguments: &[&str]) {
        self.tries(|| self.world.node.try_kubectl(arguments).map(drop));
    }

    fn tries(&self, attempt: impl FnMut() -> Result<(), String>) {
        eventually(seconds(120), "the API server to take it", attempt);
    }

    fn server_dies(&self) {
        if self.server_is_down.swap(true, Ordering::SeqCst) {
            return;
        }
        let (server, is_down) = (self.server, Arc::clone(&self.server_is_down));
        thread::spawn(move || {
            server.kill9();
            server.returns();
            is_down.store(false, Ordering::SeqCst);
        });
    }

    /// Nothing goes wrong any more, and nobody writes any more.
    fn calms_down(&self) {
        self.way.turns(Moods::CALM);
        eventually(PATIENCE, "OpenSearch to be back", || {
            if self.server_is_down.load(Ordering::SeqCst) { Err("not yet".into()) } else { Ok(()) }
        });
        self.there_is_an_agent();
        for place in 0..DEPLOYMENTS {
            let kind = if place % 2 == 0 { "deployment" } else { "statefulset" };
            self.scales(place, &format!("{kind}/writer-{place}"), 0);
        }
        (0..CRASHING).for_each(|place| self.scales(place, &format!("deployment/crash-{place}"), 0));
        eventually(PATIENCE, "the pods to end", || {
            let mut running = 0;
            for namespace in self.namespaces {
                let found = self.world.node.try_kubectl(&[
                    "-n",
                    namespace,
                    "get",
                    "pods",
                    "-o",
                    "jsonpath={.items[*].status.phase}",
                ])?;
                running +=
                    found.split(' ').filter(|phase| *phase == "Running" || *phase == "Pending").count();
            }
            if running == 0 { Ok(()) } else { Err(format!("{running} are there")) }
        });
    }

    /// What is missing, doubled or invented in the end.
    fn catches_up(&self, names: &[&str], witness: &Witness) -> Difference {
        let begun = Instant::now();
        let mut pause = seconds(1);
        loop {
            let written = witness.seen();
            let found = match self.world.compares(names, witness) {
                Err(_) if begun.elapsed() >= PATIENCE => self.world.differs(names, &written),
                other => other,
            };
            match found {
                Ok(found) if found.missing == 0 || begun.elapsed() >= PATIENCE => return found,
                Err(error) if begun.elapsed() >= 2 * PATIENCE => panic!("{error}"),
                other => println!("{other:?}"),
            }
            thread::sleep(pause);
            pause = (pause * 2).min(seconds(15));
        }
    }
}

/// Who looks at what the agent takes, every second.
struct Watch {
    ends: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: thread::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    processes: BTreeSet<u32>,
    /// By control group of the agent's pods.
    cpu: BTreeMap<String, f64>,
    peak: u64,
}

impl Watch {
    fn begin(world: &World) -> Watch {
        let (ends, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Seen>>::default());
        let (is_over, told) = (Arc::clone(&ends), Arc::clone(&seen));
        let node = world.node.clone();
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                for process in node.processes(COMMAND) {
                    let Some(pod) = Group::of_container(process).map(|group| group.pod()) else { continue };
                    let mut seen = told.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.processes.insert(process);
                    seen.peak = seen.peak.max(pod.working_set().unwrap_or_default());
                    if let Some(cpu) = pod.cpu_seconds() {
                        seen.cpu.insert(format!("{pod:?}"), cpu);
                    }
                }
                thread::sleep(seconds(1));
            }
        });
        Watch { ends, seen, thread }
    }

    /// How many agents there were, the most memory that one had, in bytes, and the processor time of all, in seconds.
    fn ends(self) -> (usize, u64, f64) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = self.thread.join();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.processes.len(), seen.peak, seen.cpu.values().sum())
    }
}
