//! The world of a torture: a node, an agent, two ways to one server, two small disks, and what happens to them.
//!
//! What comes in: events. What goes out: counts, verdicts, and what was wrong with the agent itself. Events are applied by
//! one thread; what takes long (a server's death, a rollover, a look whether lines are delivered) is left to others.

use super::Options;
use super::attendant::Attendant;
use super::delivered::{Destinations, Part, judge};
use super::judge::Verdict;
use super::mood::{Moods, Way};
use super::schedule::{Event, Life, NAMESPACES, What};
use super::stage::Stage;
use crate::disk::SmallDisks;
use crate::node::{Node, Pod};
use crate::server::Server;
use crate::space::Target;
use crate::{clock, eventually, seconds};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Containers' clocks begin so far behind, and come nearer by a day at a time.
const DAYS_BEHIND: u64 = 12;

/// How long after its look for a rollover an agent has sent.
const QUIET: Duration = Duration::from_millis(800);

const DAY: u64 = 86_400_000_000_000;

/// What a look at the destinations is for.
enum Errand {
    /// To remove the oldest file of a container.
    Oldest(usize),
    /// To delete a pod.
    Pod(usize, usize),
}

/// An errand, and whether it may be carried out.
type Answer = (Errand, bool);

/// See the module.
pub(super) struct World<'w, 's> {
    options: Options,
    threads: &'w Scope<'w, 's>,
    node: Node,
    disks: Option<Arc<SmallDisks>>,
    server: &'s Server,
    server_is_down: Arc<AtomicBool>,
    destinations: Arc<Destinations<'s>>,
    ways: [Arc<Way>; 2],
    pods: BTreeMap<(usize, usize), Pod>,
    lives: Vec<Life>,
    stages: BTreeMap<usize, Stage>,
    agent: Attendant,
    errands: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    on_errand: bool,
    last_errand: Instant,
    rolled: Arc<AtomicUsize>,
    counted: BTreeMap<&'static str, usize>,
    begun: Instant,
    log: File,
    /// What went wrong on our side, at the end.
    failure: Option<String>,
}

impl<'w, 's: 'w> World<'w, 's> {
    pub fn new(options: &Options, lives: Vec<Life>, server: &'s Server, threads: &'w Scope<'w, 's>) -> Self {
        let node = Node::new();
        let out = node.path().join("out");
        let disks = SmallDisks::mount(&[&node.state(), &out]).map(Arc::new);
        let inside = |path: PathBuf| disks.as_ref().map_or(path.clone(), |disks| disks.inside(&path));
        let kubernetes =
            json!({"kubernetes": {"properties": {"pod": {"properties": {"uid": {"type": "keyword"}}}}}});
        let spaces = [Target::Indices, Target::DataStreams]
            .map(|target| server.space().takes(target, kubernetes.clone()));
        let ways = [("dated", 0), ("rolled", 1)].map(|(name, output)| {
            let trace = File::create(node.path().join(format!("{name}.trace"))).expect("a file for a trace");
            Arc::new(Way::to(server.address(), options.seed ^ output, trace))
        });
        let elasticsearch = |name: &str, place: usize, key: &str, more: &str| {
            format!(
                "[outputs.{name}]\ntype = \"elasticsearch\"\nendpoints = [\"http://{}\"]\n{key}\nlinger = \"100ms\"\n\
                 batch = \"512KiB\"\nmax_age = \"480h\"\nretry_initial = \"50ms\"\nretry_max = \"1s\"\n{more}\n",
                ways[place].proxy.address(),
            )
        };
        let config = node.config(&format!(
            "rescan = \"2s\"\ngrace = \"8s\"\njoin_timeout = \"500ms\"\nmax_record = \"64KiB\"\n{}{}\
             [outputs.archive]\ntype = \"file\"\npath = \"{}/{{namespace}}.ndjson\"\nmax_age = \"480h\"\n\
             max_size = \"1MiB\"\nkeep = 1000\n",
            elasticsearch(
                "dated",
                0,
                &format!("index = \"{}-{{date}}\"", spaces[0].prefix),
                "timeout = \"3s\""
            ),
            elasticsearch(
                "rolled",
                1,
                &format!("data_stream = \"{}-{{namespace}}\"", spaces[1].prefix),
                "timeout = \"10s\"\nworkers = 2"
            ),
            out.display(),
        ));
        let positions = inside(node.state()).join("archive.positions");
        let destinations = Arc::new(Destinations { spaces, folder: inside(out), positions });
        let log = File::create(node.path().join("events.log")).expect("a file for the events");
        let way = disks.as_ref().map(|disks| disks.entry()).unwrap_or_default();
        World {
            options: *options,
            threads,
            disks,
            server,
            server_is_down: Arc::default(),
            destinations,
            ways,
            pods: BTreeMap::new(),
            lives,
            stages: BTreeMap::new(),
            agent: Attendant::new(way, config),
            errands: mpsc::channel(),
            on_errand: false,
            last_errand: Instant::now(),
            rolled: Arc::default(),
            counted: BTreeMap::new(),
            begun: Instant::now(),
            log,
            failure: None,
            node,
        }
    }

    /// Lets time go by, and does meanwhile what is due by itself.
    pub fn wait_until(&mut self, until: Instant) {
        loop {
            self.agent.looks(&self.node);
            self.runs_errands();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    /// Makes an event happen.
    pub fn applies(&mut self, event: &Event) {
        self.notes(&format!("{:?}", event.what));
        match event.what {
            What::Begin(life) => self.begins(life),
            What::Write(life, lines, form, length, stderr) => {
                self.stage(life).writes(lines, form, length, stderr);
            }
            What::Open(life, pieces, stderr) => self.stage(life).opens(pieces, stderr),
            What::GoOn(life, pieces, stderr, ends) => self.stage(life).goes_on(pieces, stderr, ends),
            What::Pack(life, step) => self.stage(life).packs(step),
            What::Rename(life) => {
                self.count("rotations");
                self.stage(life).renames();
            }
            What::Reopen(life) => self.stage(life).reopens(),
            What::Restart(life) => {
                self.count("restarts");
                self.stage(life).restarts();
            }
            What::NewDay(life) => {
                let container = &mut self.stage(life).writer.container;
                let time = container.last_time().max(clock::now() - DAYS_BEHIND * DAY);
                let midnight = (time / DAY + 1) * DAY;
                // Behind for as long as there are days left.
                container.lives_behind(clock::now().saturating_sub(midnight - 200_000_000));
            }
            What::End(life) => self.stage(life).ends(),
            What::Start => self.agent.starts(&self.node),
            What::Kill => self.agent.kills(&self.node),
            What::Terminate => self.agent.asks_to_end(),
            What::Way(output, moods) => self.ways[output].turns(moods),
            What::RollOver(namespace) => self.rolls_over(NAMESPACES[namespace]),
            What::FillState(full) => self.fills_state(full),
            What::FillOutput(full) => self.fills(full, "out"),
            What::ServerDies => self.server_dies(),
        }
    }

    fn stage(&mut self, life: usize) -> &mut Stage {
        self.stages.get_mut(&life).expect("a container begins before anything else happens to it")
    }

    fn begins(&mut self, number: usize) {
        let life = self.lives[number];
        let pod = self.pods.entry((life.slot, life.generation)).or_insert_with(|| {
            self.node.pod(&format!("pod-{}", life.slot)).namespace(NAMESPACES[life.slot % NAMESPACES.len()])
        });
        let mut container = pod.container(["app", "sidecar"][life.container]);
        container.lives_behind(DAYS_BEHIND * DAY);
        self.stages.insert(number, Stage::new(life, container));
    }

    fn rolls_over(&mut self, namespace: &str) {
        if self.server_is_down.load(Ordering::SeqCst) {
            return;
        }
        let (server, rolled) = (self.server, Arc::clone(&self.rolled));
        let way = Arc::clone(&self.ways[1]);
        let target = format!("/{}-{namespace}/_rollover", self.destinations.spaces[1].prefix);
        self.threads.spawn(move || {
            // Between an agent's look for a rollover and what it then sends it could not see one, by design.
            let _still = way.proxy.stands_still(QUIET);
            // A stream without a document does not exist yet.
            if server.try_send("POST", &target, "").is_ok_and(|reply| reply.status == 200) {
                rolled.fetch_add(1, Ordering::SeqCst);
            }
        });
    }

    fn server_dies(&mut self) {
        if self.server_is_down.swap(true, Ordering::SeqCst) {
            return;
        }
        self.count("server_deaths");
        let (server, is_down) = (self.server, Arc::clone(&self.server_is_down));
        self.threads.spawn(move || {
            server.kill9();
            server.returns();
            is_down.store(false, Ordering::SeqCst);
        });
    }

    fn fills_state(&mut self, full: bool) {
        self.agent.state_is_full(full);
        self.fills(full, "state");
    }

    fn fills(&mut self, full: bool, folder: &str) {
        let Some(disks) = self.disks.clone() else { return };
        let folder = self.node.path().join(folder);
        if full {
            self.count("full_disks");
            disks.fill(&folder);
        } else {
            disks.free(&folder);
        }
    }

    /// Lets go of files as kubelet does: where they need not be delivered, as soon as the agent has seen them.
    fn runs_errands(&mut self) {
        while let Ok((errand, done)) = self.errands.1.try_recv() {
            self.on_errand = false;
            if done {
                self.carries_out(errand);
            }
        }
        let seen = |since: Option<Instant>| {
            self.options.any_time && self.agent.seen_until.is_some_and(|at| since < Some(at))
        };
        let oldest = self.stages.iter().filter_map(|(life, stage)| Some((*life, stage.excess()?)));
        let mut oldest: Vec<_> = oldest.collect();
        if let Some(&(life, _)) = oldest.iter().find(|(_, (_, since))| seen(*since)) {
            return self.carries_out(Errand::Oldest(life));
        }
        let pods = self.pods.keys().copied();
        let ended: Vec<_> = pods.filter(|pod| self.of(*pod).all(|(_, s)| s.ended && !s.deleted)).collect();
        let youngest = |pod| self.of(pod).filter_map(|(_, stage)| stage.youngest()).max();
        if let Some(&(slot, generation)) = ended.iter().find(|pod| seen(youngest(**pod))) {
            return self.carries_out(Errand::Pod(slot, generation));
        }
        if self.on_errand
            || self.last_errand.elapsed() < seconds(1)
            || self.server_is_down.load(Ordering::SeqCst)
        {
            return;
        }
        self.last_errand = Instant::now();
        let turn = self.count("looks");
        let part = |life: usize, pieces: usize| -> Part {
            let writer = &self.stages[&life].writer;
            let container = &writer.container;
            (container.pod.uid.clone(), container.name.clone(), writer.ledger.up_to(pieces))
        };
        oldest.sort_by_key(|(life, _)| (life + turn) % 17);
        let (errand, parts) = match (oldest.first(), ended.get(turn % ended.len().max(1))) {
            (Some(&(life, (pieces, _))), _) if turn.is_multiple_of(2) => {
                (Errand::Oldest(life), vec![part(life, pieces)])
            }
            (_, Some(&pod)) => {
                let parts = self.of(pod).map(|(life, stage)| part(life, stage.writer.ledger.pieces.len()));
                (Errand::Pod(pod.0, pod.1), parts.collect())
            }
            (Some(&(life, (pieces, _))), None) => (Errand::Oldest(life), vec![part(life, pieces)]),
            (None, None) => return,
        };
        self.on_errand = true;
        let (destinations, answer) = (Arc::clone(&self.destinations), self.errands.0.clone());
        self.threads.spawn(move || {
            // An answer that does not come is none: it is asked for again.
            let _ = answer.send((errand, destinations.hold(&parts).unwrap_or(false)));
        });
    }

    fn of(&self, pod: (usize, usize)) -> impl Iterator<Item = (usize, &Stage)> {
        let of_pod = move |stage: &Stage| (stage.life.slot, stage.life.generation) == pod;
        self.stages.iter().filter(move |(_, stage)| of_pod(stage)).map(|(life, stage)| (*life, stage))
    }

    fn carries_out(&mut self, errand: Errand) {
        match errand {
            Errand::Oldest(life) => {
                self.count("removed");
                self.notes(&format!("the oldest file of {life} is removed"));
                self.stage(life).removes_oldest();
            }
            Errand::Pod(slot, generation) => {
                self.count("deleted");
                self.notes(&format!("pod {slot} of generation {generation} is deleted"));
                let lives: Vec<usize> = self.of((slot, generation)).map(|(life, _)| life).collect();
                self.stages[&lives[0]].writer.container.delete();
                lives.into_iter().for_each(|life| self.stage(life).deleted = true);
            }
        }
    }

    /// Nothing goes wrong any more.
    pub fn calms_down(&mut self) {
        self.notes("calm");
        self.ways.iter().for_each(|way| way.turns(Moods::CALM));
        self.fills_state(false);
        self.fills(false, "out");
        self.agent.starts(&self.node);
    }

    /// Waits until everything is there, or as long as it is worth it.
    pub fn catches_up(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let parts = self.parts();
        let lines: u64 = parts.iter().map(|(.., ledger)| ledger.lines.len() as u64).sum();
        let (mut pause, mut last) = (seconds(1), Err("nothing".to_owned()));
        while Instant::now() < deadline {
            self.wait_until(Instant::now() + pause);
            if self.server_is_down.load(Ordering::SeqCst) {
                continue;
            }
            let space = &self.destinations.spaces;
            let counts = space.iter().map(|space| space.try_count(json!({"match_all": {}})));
            if !counts.into_iter().all(|count| count.is_ok_and(|count| count >= lines)) {
                continue;
            }
            last = self.verdicts(&parts);
            if last.as_ref().is_ok_and(|all| all.iter().all(|(_, verdict)| verdict.missing == 0)) {
                return;
            }
            pause = (pause * 2).min(seconds(10));
        }
        self.notes(&format!("not everything came: {:?}", last.err()));
    }

    /// Ends the agent, and judges.
    pub fn ends(&mut self) -> Vec<(&'static str, Verdict)> {
        // A server that has just returned says so a moment later.
        eventually(seconds(180), "the server", || {
            if self.server_is_down.load(Ordering::SeqCst) { Err("down".to_owned()) } else { Ok(()) }
        });
        self.agent.asks_to_end();
        let deadline = Instant::now() + seconds(60);
        while self.agent.runs() && Instant::now() < deadline {
            self.wait_until(Instant::now() + Duration::from_millis(50));
        }
        let parts = self.parts();
        match self.verdicts(&parts) {
            Ok(verdicts) => verdicts,
            Err(error) => {
                self.failure = Some(error);
                Vec::new()
            }
        }
    }

    fn parts(&self) -> Vec<Part> {
        let part = |stage: &Stage| {
            let container = &stage.writer.container;
            (container.pod.uid.clone(), container.name.clone(), stage.writer.ledger.clone())
        };
        self.stages.values().map(part).collect()
    }

    fn verdicts(&self, parts: &[Part]) -> Result<Vec<(&'static str, Verdict)>, String> {
        let mut verdicts = Vec::new();
        for (name, space) in ["dated", "rolled"].into_iter().zip(&self.destinations.spaces) {
            let mut found = judge(name, parts);
            space.each(json!({"match_all": {}}), |document| found.take(&document))?;
            verdicts.push((name, found.verdict()));
        }
        let mut found = judge("archive", parts);
        self.destinations.each_in_files(false, |document| found.take(&document))?;
        verdicts.push(("archive", found.verdict()));
        Ok(verdicts)
    }

    /// What was wrong beside the lines.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.agent.faults(&self.node);
        faults.extend(self.failure.clone());
        if self.agent.runs() {
            faults.push("the agent did not end".to_owned());
        }
        faults
    }

    /// The counts, for the last line.
    pub fn counts(&self) -> String {
        let written: usize = self.stages.values().map(|stage| stage.writer.ledger.lines.len()).sum();
        let spoilt: usize = self.ways.iter().map(|way| way.proxy.spoilt()).sum();
        let rolled = self.rolled.load(Ordering::SeqCst);
        let mut text =
            format!("written={written} containers={} faults={spoilt} rollovers={rolled}", self.stages.len());
        let agent = &self.agent;
        for (what, count) in [
            ("starts", agent.starts),
            ("kills", agent.kills),
            ("terms", agent.terms),
            ("refused_starts", agent.refused),
        ] {
            text.push_str(&format!(" {what}={count}"));
        }
        for (what, count) in self.counted.iter().filter(|(what, _)| **what != "looks") {
            text.push_str(&format!(" {what}={count}"));
        }
        text
    }

    /// Keeps the node's folder, and gives its path.
    pub fn keeps(self) -> PathBuf {
        let folder = self.node.keep();
        // What lies on small disks goes with them.
        for name in ["state", "out"] {
            let Some(disks) = &self.disks else { break };
            let from = disks.inside(&folder.join(name));
            let _ = std::process::Command::new("cp")
                .arg("-a")
                .arg(from)
                .arg(folder.join(format!("{name}-kept")))
                .status();
        }
        folder
    }

    fn count(&mut self, what: &'static str) -> usize {
        let count = self.counted.entry(what).or_default();
        *count += 1;
        *count
    }

    fn notes(&mut self, what: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        let now = clock::rfc3339(clock::now());
        let _ = writeln!(self.log, "{at:>9.3} {now} {what}");
    }
}
