//! The worker driven by hand: one step at a time, and settlements that the test makes up.

mod orders;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use super::*;
use crate::batch::Run;
use crate::catalog::beneath::Roots;
use crate::catalog::file::KeyMaker;
use crate::catalog::place::Descriptors;
use crate::catalog::{self, Catalog, Subscriber};
use crate::config::Oversize;
use crate::output::Fate;

mod metadata;
mod rotated;
mod routes;

const LINE: &str = "2026-11-23T10:00:00Z stdout F";

/// A node of which a worker writes everything into one file.
struct World {
    folder: tempfile::TempDir,
    catalog: Catalog,
    ledger: Arc<Ledger>,
    phase: Arc<Phase>,
    table: Option<Arc<Table>>,
    routes: Routes,
}

/// When a listing of a few files is certainly done.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

impl World {
    /// `files`: path below the root of the pod logs, and content.
    fn with(files: &[(&str, &str)]) -> World {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join("pods").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let catalog = Catalog::start(catalog::Settings {
            roots: Arc::new(Roots::new(folder.path().join("pods"), Vec::new())),
            keys: KeyMaker { cluster: "c".into(), node: "n".into() },
            rescan: Duration::from_secs(60),
            tick: Duration::from_millis(10),
            outputs: 1,
            descriptors: Descriptors::new(if files.len() > 3 { 0 } else { 100 }),
            retention: None,
            kept: Vec::new(),
        })
        .unwrap();
        let ledger = Arc::new(Ledger::open(&folder.path().join("state"), "o").unwrap());
        World { folder, catalog, ledger, phase: Arc::default(), table: None, routes: Routes::default() }
    }

    /// A worker that has been told of all the files there are.
    fn worker(&self) -> Worker {
        let (files, files_in) = mpsc::channel();
        let (settle, settled) = mpsc::channel();
        let wake = Arc::new(Wake::default());
        self.catalog.subscribe(Subscriber { files, wake: wake.clone() });
        self.table.iter().for_each(|table| table.subscribe(wake.clone()));
        self.catalog.refresh(soon());
        let template = Template::parse(&self.out().display().to_string()).unwrap();
        let mut worker = Worker::new(
            Settings {
                output: "o".into(),
                shard: (0, 1),
                facts: NodeFacts { cluster: "c".into(), node: "n".into(), names: Default::default() },
                table: self.table.clone(),
                target: Some((template, Safe::Path)),
                routes: self.routes.clone(),
                format: Format::Lines,
                gzip: None,
                rules: Rules {
                    max_record: 1 << 20,
                    oversize: Oversize::Split,
                    join_gap: Duration::ZERO,
                    since: None,
                },
                linger: Duration::ZERO,
                batch: 1 << 20,
                in_flight: 2,
                in_flight_bytes: 1 << 20,
                limits: None,
                max_lag: None,
            },
            Channels {
                files: files_in,
                settled,
                settle,
                wake,
                standing: Arc::default(),
                events: mpsc::channel().0,
                pulse: Arc::default(),
                taps: Arc::default(),
            },
            self.ledger.clone(),
            Arc::default(),
            self.phase.clone(),
            Sink::Files(Files::recover(self.ledger.clone(), 1 << 30, 1).unwrap()),
        );
        worker.take_news();
        worker
    }

    fn log(&self, path: &str) -> PathBuf {
        self.folder.path().join("pods").join(path)
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out.ndjson")
    }

    /// What has been delivered; of a line that is just being written, nothing yet.
    fn documents(&self) -> Vec<serde_json::Value> {
        let mut text = fs::read_to_string(self.out()).unwrap_or_default();
        text.truncate(text.rfind('\n').map_or(0, |newline| newline + 1));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn messages(&self) -> Vec<String> {
        self.documents().iter().map(|document| document["message"].as_str().unwrap().into()).collect()
    }
}

fn append(path: &Path, text: &str) {
    use std::io::Write;
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Takes the worker's batch as one that has been sent.
fn send(worker: &mut Worker) -> Vec<Run> {
    let sealed = worker.batch.seal(Vec::new()).unwrap();
    worker.in_flight += 1;
    sealed.runs
}

fn land(worker: &mut Worker, runs: Vec<Run>, fate: Fate) {
    let runs = runs.into_iter().map(|run| (run, fate)).collect();
    worker.land(Landed { settled: Some(Settled { runs, spare: Vec::new(), lost: Vec::new() }), bytes: 0 });
}

fn acknowledged(worker: &Worker, cursor: usize) -> u64 {
    let key = worker.containers[0].cursors[cursor].file.key;
    worker.ledger.read(|state| state.entry(key).map_or(0, |entry| entry.position.offset))
}

#[test]
fn a_position_moves_in_the_order_of_the_file_whatever_the_order_of_acknowledgements() {
    let log = "a_b_u/app/0.log";
    let world = World::with(&[(log, &format!("{LINE} one\n"))]);
    let mut worker = world.worker();
    let mut sent = Vec::new();
    for text in ["", "two\n", "three\n"] {
        if !text.is_empty() {
            append(&world.log(log), &format!("{LINE} {text}"));
        }
        world.catalog.refresh(soon());
        assert!(worker.round());
        sent.push(send(&mut worker));
    }
    let ends: Vec<u64> = sent.iter().map(|runs| runs[0].end.offset).collect();
    land(&mut worker, sent.pop().unwrap(), Fate::Acknowledged);
    assert_eq!(acknowledged(&worker, 0), 0);
    land(&mut worker, sent.remove(0), Fate::Acknowledged);
    assert_eq!(acknowledged(&worker, 0), ends[0]);
    land(&mut worker, sent.remove(0), Fate::Acknowledged);
    assert_eq!(acknowledged(&worker, 0), ends[2]);
}

#[test]
fn a_container_that_is_parked_is_read_again_from_what_is_acknowledged_and_late_news_of_it_count_no_more() {
    let log = "a_b_u/app/0.log";
    let world = World::with(&[(log, &format!("{LINE} one\n"))]);
    let mut worker = world.worker();
    assert!(worker.round());
    let first = send(&mut worker);
    append(&world.log(log), &format!("{LINE} two\n"));
    world.catalog.refresh(soon());
    assert!(worker.round());
    let second = send(&mut worker);
    let (start, end) = (first[0].start, second[0].end);
    land(&mut worker, first, Fate::Parked);
    assert!(worker.has_set_aside() && !worker.round());
    land(&mut worker, second, Fate::Acknowledged);
    assert_eq!((acknowledged(&worker, 0), worker.in_flight), (0, 0));
    worker.containers[0].parked = Some(Instant::now());
    assert!(worker.round());
    let again = send(&mut worker);
    assert_eq!((again[0].start, again[0].end, again[0].items, again[0].in_doubt), (start, end, 2, true));
    land(&mut worker, again, Fate::Acknowledged);
    assert_eq!(acknowledged(&worker, 0), end.offset);
}

#[test]
fn a_container_that_was_set_aside_is_said_to_be_taken_again_once_it_is() {
    use crate::admin::told::{Listening, Told};
    use tracing_subscriber::layer::SubscriberExt;

    let world = World::with(&[("a_b_u/app/0.log", &format!("{LINE} one\n"))]);
    let mut worker = world.worker();
    let told = Arc::new(Told::default());
    let subscriber = tracing_subscriber::registry().with(Listening(told.clone()));
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..2 {
            assert!(worker.round());
            let runs = send(&mut worker);
            land(&mut worker, runs, Fate::Parked);
            worker.containers[0].parked = None;
        }
        let said = told.all();
        assert_eq!((said.len(), said[0].count, said[0].over), (1, 1, None));
        assert_eq!(said[0].container.as_deref(), Some("a/b/app"));
        assert!(worker.round());
        let runs = send(&mut worker);
        land(&mut worker, runs, Fate::Acknowledged);
    });
    assert!(told.all()[0].over.is_some(), "{:?}", told.all());
    assert_eq!(worker.containers[0].backoff.tries(), 0);
}

#[test]
fn a_delivery_that_failed_gives_its_credit_back_and_is_read_again() {
    let world = World::with(&[("a_b_u/app/0.log", &format!("{LINE} one\n"))]);
    let mut worker = world.worker();
    assert!(worker.round());
    send(&mut worker);
    worker.in_flight_bytes = 77;
    worker.land(Landed { settled: None, bytes: 77 });
    assert_eq!((worker.in_flight, worker.in_flight_bytes, worker.has_set_aside()), (0, 0, true));
    worker.containers[0].parked = None;
    assert!(worker.round());
    assert_eq!(worker.batch.items, 1);
}

#[test]
fn nobody_spins_while_there_is_no_room_to_read() {
    let world = World::with(&[("a_b_u/app/0.log", &format!("{LINE} one\n{LINE} two\n"))]);
    let mut worker = world.worker();
    // The batch is full and there is no credit; the time of a parked container has come.
    worker.settings.batch = 1;
    worker.settings.in_flight = 0;
    assert!(worker.step());
    worker.containers[0].parked = Some(Instant::now());
    assert!(!worker.step());
    assert!(worker.next_event() > Duration::from_secs(1), "{:?}", worker.next_event());
}

#[test]
fn a_file_that_cannot_be_read_holds_back_neither_the_next_nor_the_end_which_says_so() {
    let text = |n| format!("{LINE} of {n}\n");
    let (a, b, c, d) = (text(0), text(1), text(2), text(3));
    let files = ["a_b_u/app/0.log", "a_b_u/app/1.log", "a_b_u/app/2.log", "a_b_u/app/3.log"];
    let world = World::with(&[(files[0], &a), (files[1], &b), (files[2], &c), (files[3], &d)]);
    let mut worker = world.worker();
    // Nobody says that the first is gone.
    world.catalog.halt();
    fs::remove_file(world.log(files[0])).unwrap();
    world.phase.drain();
    assert!(!worker.run(), "not everything was delivered");
    assert_eq!(world.messages(), ["of 1", "of 2", "of 3"]);
}

#[test]
fn a_silent_partial_line_is_ended_though_others_are_busy_and_its_end_is_saved_first() {
    let piece = "2026-11-23T10:00:00Z stdout P half";
    let world = World::with(&[
        ("a_quiet_u/app/0.log", &format!("{piece}\n")),
        ("a_busy_u/app/0.log", &format!("{LINE} one\n").repeat(1000)),
    ]);
    let mut worker = world.worker();
    worker.settings.batch = 1 << 30;
    worker.settings.linger = Duration::from_secs(60);
    worker.cuts_looked = Instant::now() - turns::LOOK_FOR_CUTS;
    assert!(worker.step());
    let saved = Ledger::open(&world.folder.path().join("state"), "o").unwrap();
    let quiet = worker.containers.iter().find(|c| c.stats.origin.to_string() == "a/quiet/app").unwrap();
    let end = piece.len() as u64 + 1;
    assert_eq!(
        saved.read(|s| s.entry(quiet.cursors[0].file.key).unwrap().cuts.clone()),
        [crate::position::Cut { first: 0, end }]
    );
    assert_eq!(quiet.cursors[0].at.open, [None; 3]);
    // And where there is no room nothing is ended.
    append(&world.log("a_quiet_u/app/0.log"), &format!("{piece}\n"));
    world.catalog.refresh(soon());
    assert!(worker.step());
    worker.settings.batch = 1;
    worker.cuts_looked = Instant::now() - turns::LOOK_FOR_CUTS;
    assert!(!worker.cut_silent_groups());
}

#[test]
fn where_our_clock_ended_a_partial_line_nothing_is_read_on_before_that_is_saved() {
    let log = "a_b_u/app/0.log";
    let world = World::with(&[(log, "2026-11-23T10:00:00Z stdout P half\n")]);
    let mut worker = world.worker();
    let look = |worker: &mut Worker| {
        worker.cuts_looked = Instant::now() - turns::LOOK_FOR_CUTS;
        worker.round() | worker.cut_silent_groups()
    };
    // A folder where the state is to be written.
    let in_the_way = world.folder.path().join("state/o.tmp");
    fs::create_dir(&in_the_way).unwrap();
    assert!(look(&mut worker) && !look(&mut worker));
    append(&world.log(log), &format!("{LINE} rest\n"));
    world.catalog.refresh(soon());
    assert!(!look(&mut worker) && !look(&mut worker));
    // Nor when it is set aside meanwhile.
    worker.containers[0].cursors[0].set_back();
    assert!(!look(&mut worker) && worker.has_held());
    assert!(worker.next_event() < Duration::from_secs(1), "it is tried again soon");
    assert_eq!(worker.batch.items, 0);
    fs::remove_dir(&in_the_way).unwrap();
    while look(&mut worker) {}
    worker.dispatch();
    assert_eq!(world.messages(), ["half", "rest"]);
    let saved = Ledger::open(&world.folder.path().join("state"), "o").unwrap();
    let key = worker.containers[0].cursors[0].file.key;
    assert_eq!(saved.read(|state| state.entry(key).unwrap().cuts.len()), 1);
}

/// Nothing should be added to a file that has a successor; if something is after all, and we are killed meanwhile, its
/// beginning must not come twice.
#[test]
fn where_the_end_of_a_file_ends_a_partial_line_is_saved_before_it_is_sent() {
    let piece = "2026-11-23T10:00:00Z stdout P half\n";
    let world = World::with(&[("a_b_u/app/0.log", piece), ("a_b_u/app/1.log", &format!("{LINE} one\n"))]);
    let mut worker = world.worker();
    worker.settings.linger = Duration::from_secs(60);
    worker.take_up_all(0);
    while !worker.containers[0].cursors[0].file.is_settled() {
        assert!(world.catalog.refresh(soon()));
    }
    let reads_all = |worker: &mut Worker| {
        worker.cuts_looked = Instant::now() - turns::LOOK_FOR_CUTS;
        while worker.round() | worker.cut_silent_groups() {}
        worker.batch.items
    };
    let in_the_way = world.folder.path().join("state/o.tmp");
    fs::create_dir(&in_the_way).unwrap();
    assert_eq!((reads_all(&mut worker), worker.has_held()), (1, true));
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!((reads_all(&mut worker), worker.has_held()), (2, false));
    let saved = Ledger::open(&world.folder.path().join("state"), "o").unwrap();
    let key = worker.containers[0].cursors[0].file.key;
    let cut = crate::position::Cut { first: 0, end: piece.len() as u64 };
    assert_eq!(saved.read(|state| state.entry(key).unwrap().cuts.clone()), [cut]);
}

#[test]
fn a_partial_line_that_may_have_been_sent_before_is_in_doubt_when_it_ends() {
    let log = "a_b_u/app/0.log";
    let world = World::with(&[(log, "2026-11-23T10:00:00Z stdout P half\n")]);
    let mut worker = world.worker();
    assert!(worker.round());
    // What was read so far holds no record.
    let run = send(&mut worker);
    land(&mut worker, run, Fate::Acknowledged);
    worker.cuts_looked = Instant::now() - turns::LOOK_FOR_CUTS;
    assert!(worker.cut_silent_groups());
    let run = send(&mut worker);
    assert_eq!((run[0].items, run[0].in_doubt), (1, true));
}

#[test]
fn a_worker_that_failed_begins_again_and_nothing_is_lost_or_doubled() {
    let log = "a_b_u/app/0.log";
    let lines =
        |numbers: std::ops::Range<u32>| -> String { numbers.map(|n| format!("{LINE} {n}\n")).collect() };
    let world = World::with(&[(log, &lines(0..5000)), ("a_b_u/app/1.log", "")]);
    let mut worker = world.worker();
    let settle = worker.channels.settle.clone();
    let wake = worker.channels.wake.clone();
    let thread = std::thread::spawn(move || run_guarded(&mut worker).unwrap());
    while world.messages().len() < 5000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    append(&world.log("a_b_u/app/1.log"), &lines(5000..9000));
    // More comes back than was sent: a fault as good as any.
    settle.send(Landed { settled: None, bytes: 1 }).unwrap();
    wake.wake();
    world.catalog.refresh(soon());
    append(&world.log("a_b_u/app/1.log"), &lines(9000..9500));
    while world.messages().len() < 9500 {
        std::thread::sleep(Duration::from_millis(5));
    }
    world.catalog.refresh(soon());
    world.phase.drain();
    wake.wake();
    assert!(thread.join().unwrap());
    assert_eq!(world.messages(), (0..9500).map(|n: u32| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_file_that_comes_back_is_not_forgotten() {
    let log = "a_b_u/app/0.log";
    let world = World::with(&[(log, &format!("{LINE} one\n"))]);
    let mut worker = world.worker();
    while worker.step() {}
    // The whole directory goes out of sight, and comes back, such as by an unmount.
    let (pods, aside) = (world.folder.path().join("pods/a_b_u"), world.folder.path().join("aside"));
    fs::rename(&pods, &aside).unwrap();
    world.catalog.refresh(soon());
    while worker.step() {}
    worker.tell_lag();
    world.catalog.refresh(soon());
    worker.tell_lag();
    assert!(worker.containers.is_empty());
    fs::rename(&aside, &pods).unwrap();
    world.catalog.refresh(soon());
    worker.take_news();
    worker.take_up_next(0);
    let key = worker.containers[0].cursors[0].file.key;
    assert_eq!(world.ledger.read(|state| state.entry(key).unwrap().gone), 0);
    append(&world.log(log), &format!("{LINE} two\n"));
    world.catalog.refresh(soon());
    while worker.step() {}
    assert_eq!(world.messages(), ["one", "two"]);
}

#[test]
fn of_many_files_only_the_one_that_is_read_has_a_cursor_and_what_is_delivered_is_still_looked_after() {
    let logs = ["a_b_u/app/0.log", "a_b_u/app/1.log", "a_b_u/app/2.log"];
    let texts = [0, 1, 2].map(|n| format!("{LINE} of {n}\n"));
    let world = World::with(&[0, 1, 2].map(|n| (logs[n], texts[n].as_str())));
    let mut worker = world.worker();
    assert_eq!(worker.containers[0].shelf.lag(), 3 * texts[0].len() as u64);
    let mut most = 0;
    // The first two have settled after a second, and are done with then.
    while worker.containers[0].shelf.has_waiting() || worker.containers[0].cursors.len() > 1 {
        world.catalog.refresh(soon());
        while worker.step() {}
        most = most.max(worker.containers[0].cursors.len());
        worker.tell_lag();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((most, world.messages()), (3, vec!["of 0".into(), "of 1".into(), "of 2".into()]));
    assert_eq!(worker.containers[0].cursors[0].file.name.restart, 2);
    // One grows after all, which is seen when the directory is listed again; another goes.
    append(&world.log(logs[0]), &format!("{LINE} late\n"));
    fs::remove_file(world.log(logs[1])).unwrap();
    fs::write(world.log("a_b_u/app/3.log"), format!("{LINE} of 3\n")).unwrap();
    world.phase.drain();
    for _ in 0..2 {
        world.catalog.refresh(soon());
    }
    worker.take_news();
    while worker.step() || worker.tell_lag() {}
    let mut messages = world.messages();
    messages.sort();
    assert_eq!(messages, ["late", "of 0", "of 1", "of 2", "of 3"]);
    world.ledger.save().unwrap();
    let saved = fs::read_to_string(world.folder.path().join("state/o.positions")).unwrap();
    assert_eq!(saved.matches("\"g\":").count(), 1, "the one that went is marked: {saved}");
}
