//! The little node: a dozen pods that print, on a thread of their own, into a folder that looks like
//! `/var/log/pods`. Comes in: the folder, a rate, a time. Goes out: log files under
//! `<namespace>_<pod>_<uid>/<container>/`, tallies to watch, and in the end the fingerprint of every record.
//! Pods come and go, and containers crash and are started anew. It never reads what the agent does, save for
//! the tallies' delivered counts.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::clock::Moment;
use super::container::{Log, Tally};
use super::programs::{Paper, Program};
use super::verify::{Written, expected};

/// How often the containers get a turn. What is due is written with one call for each container: 40 times a
/// second looks continuous and costs the writer two percent of a core at the default rate.
const TICK: Duration = Duration::from_millis(25);

/// Average size of a record on disk, to choose the size of rotation by.
const RECORD_BYTES: u64 = 330;

/// A pod of the cast.
struct Role {
    namespace: &'static str,
    /// Each `?` becomes a letter, as in the names that controllers give.
    name: &'static str,
    /// Name, program and share of the records of each container.
    containers: &'static [(&'static str, Program, f64)],
    /// When its containers crash and are started anew, as shares of the run.
    crashes: &'static [f64],
    /// When it starts and ends, as shares of the run. A pod that ends is deleted with its logs.
    life: (f64, f64),
}

const fn service(
    namespace: &'static str,
    name: &'static str,
    containers: &'static [(&'static str, Program, f64)],
    crashes: &'static [f64],
) -> Role {
    Role { namespace, name, containers, crashes, life: (0.0, f64::INFINITY) }
}

const CAST: [Role; 12] = [
    service(
        "shop",
        "storefront-??????????-?????",
        &[("web", Program::Storefront, 13.0), ("proxy", Program::Nginx, 9.0)],
        &[],
    ),
    service("shop", "cart-?????????-?????", &[("cart", Program::Cart, 12.0)], &[]),
    service("shop", "catalog-??????????-?????", &[("catalog", Program::Catalog, 10.0)], &[0.5]),
    service(
        "payments",
        "payments-api-?????????-?????",
        &[("api", Program::PaymentsApi, 9.0), ("exporter", Program::Exporter, 1.0)],
        &[],
    ),
    service("payments", "ledger-0", &[("ledger", Program::Ledger, 6.0)], &[0.3, 0.7]),
    service(
        "ingress-nginx",
        "ingress-nginx-controller-?????????-?????",
        &[("controller", Program::Nginx, 14.0)],
        &[],
    ),
    service(
        "ingress-nginx",
        "ingress-nginx-controller-?????????-?????",
        &[("controller", Program::Nginx, 11.0)],
        &[],
    ),
    service("kube-system", "coredns-?????????-?????", &[("coredns", Program::CoreDns, 7.0)], &[]),
    service("kube-system", "coredns-?????????-?????", &[("coredns", Program::CoreDns, 4.0)], &[]),
    service("kube-system", "kube-proxy-?????", &[("kube-proxy", Program::KubeProxy, 3.0)], &[]),
    service("batch", "importer-??????????-?????", &[("importer", Program::Importer, 0.4)], &[]),
    Role {
        namespace: "batch",
        name: "nightly-report-29381760-?????",
        containers: &[("report", Program::Report, 6.0)],
        crashes: &[],
        life: (0.2, 0.5),
    },
];

/// How the little node is to behave.
#[derive(Debug)]
pub struct Plan {
    /// Folder to write pods' logs to; it must exist.
    pub pods: PathBuf,
    /// Records a second over all pods.
    pub rate: u32,
    /// How long to write.
    pub duration: Duration,
}

/// The little node at work.
#[derive(Debug)]
pub struct World {
    tallies: Vec<Arc<Tally>>,
    events: Arc<Events>,
    thread: JoinHandle<Result<Vec<Written>, WorldError>>,
}

/// What the node's thread shares with whoever watches it.
#[derive(Debug, Default)]
struct Events {
    stop: AtomicBool,
    rotations: AtomicU64,
    restarts: AtomicU64,
}

/// A log could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the demo's node could not write its logs in {}: {source}", path.display())]
pub struct WorldError {
    path: PathBuf,
    source: io::Error,
}

impl World {
    /// Starts the thread that writes. Nothing is written before this call.
    pub fn start(plan: Plan, rng: Rng) -> Result<World, WorldError> {
        let events = Arc::new(Events::default());
        let pods = plan.pods.clone();
        let node = Node::new(plan, rng, events.clone());
        let tallies = node.containers.iter().map(|container| container.tally.clone()).collect();
        let thread = thread::Builder::new().name("demo-node".to_owned()).spawn(move || node.run());
        let thread = thread.map_err(|source| WorldError { path: pods, source })?;
        Ok(World { tallies, events, thread })
    }

    /// The tallies of all containers, those that have not yet started included.
    pub fn tallies(&self) -> &[Arc<Tally>] {
        &self.tallies
    }

    /// Rotations completed so far.
    pub fn rotations(&self) -> u64 {
        self.events.rotations.load(Ordering::Relaxed)
    }

    /// Containers started anew so far.
    pub fn restarts(&self) -> u64 {
        self.events.restarts.load(Ordering::Relaxed)
    }

    /// Asks the pods to stop before their time.
    pub fn stop(&self) {
        self.events.stop.store(true, Ordering::Relaxed);
    }

    /// Whether nothing will be written any more, because the time is over or because of an error.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end and returns what was written.
    pub fn finish(self) -> Result<Vec<Written>, WorldError> {
        // The thread's panic is a bug in the demo, and goes on as one.
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// The thread's own part of the world.
struct Node {
    plan: Plan,
    rng: Rng,
    events: Arc<Events>,
    containers: Vec<Container>,
}

struct Container {
    tally: Arc<Tally>,
    program: Program,
    weight: f64,
    /// When it crashes, the next crash last.
    crashes: Vec<Duration>,
    starts: Duration,
    ends: Duration,
    state: State,
    /// The pod's folder.
    pod: PathBuf,
    /// Its log, once it has started and until it is deleted.
    log: Option<Log>,
    paper: Paper,
    fingerprints: Vec<u64>,
    /// Records that are due by the rate but not yet printed. Below zero after a turn of many lines.
    credit: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Waiting,
    Up,
    /// Crashed, until the back-off is over.
    Down(Duration),
    /// Ended for good; its folder is deleted when all is delivered.
    Ended,
}

impl Node {
    fn new(plan: Plan, mut rng: Rng, events: Arc<Events>) -> Node {
        let mut containers = Vec::new();
        for role in &CAST {
            let pod: String =
                role.name.chars().map(|c| if c == '?' { letter(&mut rng) } else { c }).collect();
            let uid = uid(&mut rng);
            // An end that never comes is cut to ten runs, which fits a Duration.
            let when = |share: f64| plan.duration.mul_f64(share.min(10.0));
            for &(name, program, weight) in role.containers {
                containers.push(Container {
                    tally: Arc::new(Tally {
                        namespace: role.namespace,
                        pod: pod.clone(),
                        uid: uid.clone(),
                        container: name,
                        ..Tally::default()
                    }),
                    program,
                    weight,
                    crashes: role.crashes.iter().rev().map(|&share| when(share)).collect(),
                    starts: when(role.life.0),
                    ends: when(role.life.1),
                    state: State::Waiting,
                    pod: plan.pods.join(format!("{}_{pod}_{uid}", role.namespace)),
                    log: None,
                    paper: Paper::default(),
                    fingerprints: Vec::new(),
                    credit: 0.0,
                });
            }
        }
        Node { plan, rng, events, containers }
    }

    fn run(mut self) -> Result<Vec<Written>, WorldError> {
        let begin = Instant::now();
        let (mut last, mut last_sweep) = (Duration::ZERO, Duration::ZERO);
        loop {
            let now = begin.elapsed().min(self.plan.duration);
            self.tick(now, now - last)?;
            last = now;
            if now - last_sweep >= Duration::from_millis(500) {
                self.each(Container::sweep)?;
                last_sweep = now;
            }
            if now >= self.plan.duration || self.events.stop.load(Ordering::Relaxed) {
                break;
            }
            thread::sleep((now + TICK).saturating_sub(begin.elapsed()));
        }
        self.each(Container::settle)?;
        let written =
            |container: Container| Written { tally: container.tally, fingerprints: container.fingerprints };
        Ok(self.containers.into_iter().map(written).collect())
    }

    /// Gives every container its turn at time `now`, `passed` after the turn before.
    fn tick(&mut self, now: Duration, passed: Duration) -> Result<(), WorldError> {
        let limit = rotation_limit(&self.plan);
        let back_off = (self.plan.duration / 20).min(Duration::from_secs(1));
        let (rng, events) = (&mut self.rng, &*self.events);
        let up = |container: &&Container| container.state == State::Up;
        let weights: f64 = self.containers.iter().filter(up).map(|container| container.weight).sum();
        let due = f64::from(self.plan.rate) * passed.as_secs_f64();
        for container in &mut self.containers {
            let turn = |container: &mut Container| {
                container.print(due / weights, rng, events)?;
                container.live(now, back_off, limit, rng, events)
            };
            container.guarded(turn)?;
        }
        Ok(())
    }

    fn each(&mut self, act: fn(&mut Container, &Events) -> io::Result<()>) -> Result<(), WorldError> {
        let events = &*self.events;
        self.containers.iter_mut().try_for_each(|container| container.guarded(|it| act(it, events)))
    }
}

impl Container {
    /// Does `act`, and says of an error which pod's it is.
    fn guarded(&mut self, act: impl FnOnce(&mut Container) -> io::Result<()>) -> Result<(), WorldError> {
        act(self).map_err(|source| WorldError { path: self.pod.clone(), source })
    }

    /// Prints what is due, `due` being the records for a weight of one, and writes it.
    fn print(&mut self, due: f64, rng: &mut Rng, events: &Events) -> io::Result<()> {
        if self.state != State::Up {
            return Ok(());
        }
        self.credit += due * self.weight;
        while self.credit >= 1.0 {
            self.program.print(&mut self.paper, rng, &Moment::now());
            self.credit -= self.paper.lines.len() as f64;
            self.hand_over();
        }
        self.flush(events)
    }

    /// Starts, crashes, restarts or ends the container, if it is time.
    fn live(
        &mut self,
        now: Duration,
        back_off: Duration,
        limit: u64,
        rng: &mut Rng,
        events: &Events,
    ) -> io::Result<()> {
        match self.state {
            State::Waiting if now >= self.starts => {
                self.log = Some(Log::create(self.pod.join(self.tally.container), limit)?);
                self.state = State::Up;
            }
            State::Up if now >= self.ends => self.state = State::Ended,
            State::Up if self.crashes.pop_if(|crash| now >= *crash).is_some() => {
                self.program.last_words(&mut self.paper, rng, &Moment::now());
                self.hand_over();
                self.flush(events)?;
                self.state = State::Down(now + back_off);
            }
            State::Down(until) if now >= until => {
                if let Some(log) = &mut self.log {
                    log.restart(&self.tally)?;
                }
                events.restarts.fetch_add(1, Ordering::Relaxed);
                self.state = State::Up;
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives the lines on the paper to the log, and notes their fingerprints. Whole turns, for the pieces of
    /// long lines within one turn are mixed.
    fn hand_over(&mut self) {
        let lines = &mut self.paper.lines;
        self.fingerprints.extend(lines.iter().map(|line| expected(line.stream.name(), &line.text)));
        self.tally.lines.fetch_add(lines.len() as u64, Ordering::Relaxed);
        if let Some(log) = &mut self.log {
            log.append(lines);
        }
        lines.clear();
    }

    fn flush(&mut self, events: &Events) -> io::Result<()> {
        if let Some(log) = &mut self.log {
            let (bytes, rotated) = log.flush(&self.tally)?;
            self.tally.bytes.fetch_add(bytes, Ordering::Relaxed);
            events.rotations.fetch_add(u64::from(rotated), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Completes what was begun, so that the node is left in order.
    fn settle(&mut self, events: &Events) -> io::Result<()> {
        if let Some(log) = &mut self.log
            && self.state == State::Up
        {
            let rotated = log.reopen(&self.tally)?;
            events.rotations.fetch_add(u64::from(rotated), Ordering::Relaxed);
        }
        Ok(())
    }

    /// kubelet's housekeeping: deletes what it would have deleted and what is delivered.
    fn sweep(&mut self, _: &Events) -> io::Result<()> {
        if self.state == State::Ended && self.log.is_some() && self.tally.delivered() >= self.tally.lines() {
            self.log = None;
            // Of several containers of a pod, the last one to be delivered would have to do this.
            return fs::remove_dir_all(&self.pod);
        }
        self.log.as_mut().map_or(Ok(()), |log| log.sweep(&self.tally))
    }
}

/// Size in bytes at which logs are rotated: kubelet's 10 MiB, or so much less that a short run sees a dozen
/// rotations.
fn rotation_limit(plan: &Plan) -> u64 {
    let total = (f64::from(plan.rate) * plan.duration.as_secs_f64()) as u64 * RECORD_BYTES;
    (total / 24).clamp(16 * 1024, 10 * 1024 * 1024)
}

/// A letter such as controllers put into names: no vowels, so that no words appear.
fn letter(rng: &mut Rng) -> char {
    char::from(b"bcdfghjklmnpqrstvwxz2456789"[rng.usize(..27)])
}

/// A random uid, version 4.
fn uid(rng: &mut Rng) -> String {
    let (a, b) = (rng.u64(..), rng.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        0x8000 | b >> 48 & 0x3fff,
        b & 0xffff_ffff_ffff
    )
}
