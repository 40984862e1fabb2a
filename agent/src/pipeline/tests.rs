//! An agent follows another, or the other goes on.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let world = World { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(world.log().parent().unwrap()).unwrap();
        world.writes("one");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> PathBuf {
        self.path("pods/a_b_u/app/0.log")
    }

    fn writes(&self, line: &str) {
        let mut log = fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let now = crate::record::time::format_nanos(1_795_449_241_000_000_000);
        writeln!(log, "{now} stdout F {line}").unwrap();
    }

    /// One output, into `NAME.ndjson`.
    fn config(&self, name: &str) -> Config {
        let text = format!(
            "node = \"n\"\npod_logs = \"{}\"\nstate_dir = \"{}\"\n[outputs.{name}]\ntype = \"file\"\n\
             path = \"{}/{name}.ndjson\"\nlinger = \"10ms\"\nmax_age = \"1000000h\"\n",
            self.path("pods").display(),
            self.path("state").display(),
            self.folder.path().display()
        );
        Config::parse(&text, "t.toml").unwrap()
    }

    /// Waits until this output has written these lines.
    #[track_caller]
    fn wait_for(&self, name: &str, lines: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let text = fs::read_to_string(self.path(&format!("{name}.ndjson"))).unwrap_or_default();
            let found: Vec<String> = text
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                .map(|document| document["message"].as_str().unwrap().to_owned())
                .collect();
            if found == lines {
                return;
            }
            assert!(Instant::now() < deadline, "{found:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn gives_way(agent: Agent) -> Carried {
    agent.give_way(Duration::from_secs(30)).map_err(|(_, reason)| reason).unwrap()
}

#[test]
fn an_agent_follows_another_without_letting_go_of_the_lock() {
    let world = World::new();
    let agent = Agent::start(world.config("o")).unwrap();
    world.wait_for("o", &["one"]);
    let carried = gives_way(agent);
    assert!(matches!(Agent::start(world.config("o")), Err(StartError::Locked { .. })));
    world.writes("two");
    let agent = Agent::follow(&world.config("o"), &carried).unwrap();
    drop(carried);
    world.wait_for("o", &["one", "two"]);
    assert_eq!(agent.stats()[0].1.records_delivered.get(), 2, "counters go on");
    assert!(matches!(Agent::start(world.config("o")), Err(StartError::Locked { .. })));
    assert!(agent.stop(Instant::now() + Duration::from_secs(30)).caught_up);
    Agent::start(world.config("o")).unwrap();
}

#[test]
fn what_one_output_wrote_is_not_cut_back_by_another_that_wrote_there_before() {
    let world = World::new();
    let agent = Agent::start(world.config("o")).unwrap();
    world.wait_for("o", &["one"]);
    let carried = gives_way(agent);
    // Another output, which begins anew, goes on in its file; then the first one comes back.
    let mut other = world.config("other");
    other.outputs = [("other".to_owned(), world.config("o").outputs["o"].clone())].into();
    let agent = Agent::follow(&other, &carried).unwrap();
    world.wait_for("o", &["one", "one"]);
    let carried = gives_way(agent);
    let _agent = Agent::follow(&world.config("o"), &carried).unwrap();
    world.writes("two");
    world.wait_for("o", &["one", "one", "two"]);
}

#[test]
fn a_worker_that_does_not_answer_and_positions_that_cannot_be_saved_keep_the_agent_as_it_is() {
    let world = World::new();
    let mut agent = Agent::start(world.config("o")).unwrap();
    world.wait_for("o", &["one"]);
    // As one that hangs in a write.
    let (wake, standing, pulse) = (Arc::default(), Arc::default(), Arc::default());
    agent.seats.push(Seat { output: "hung".into(), wake, standing, pulse });
    agent.hasten().now();
    let (agent, reason) = agent.give_way(Duration::from_secs(3600)).unwrap_err();
    assert!(matches!(reason, PutOff::Hastened), "{reason}");
    let (agent, reason) = agent.give_way(Duration::from_millis(200)).unwrap_err();
    assert!(matches!(&reason, PutOff::Hangs(output) if output == "hung"), "{reason}");
    let mut agent = *agent;
    agent.seats.pop();
    world.writes("two");
    world.wait_for("o", &["one", "two"]);

    // A folder that is a file.
    let (state, aside) = (world.path("state"), world.path("aside"));
    fs::rename(&state, &aside).unwrap();
    fs::write(&state, "").unwrap();
    world.writes("three");
    world.wait_for("o", &["one", "two", "three"]);
    let (_agent, reason) = agent.give_way(Duration::from_secs(30)).unwrap_err();
    assert!(matches!(reason, PutOff::Unsaved(_)), "{reason}");
    fs::remove_file(&state).unwrap();
    fs::rename(&aside, &state).unwrap();
    world.writes("four");
    world.wait_for("o", &["one", "two", "three", "four"]);
}

#[test]
fn an_agent_that_cannot_start_leaves_all_to_the_next_that_can() {
    let world = World::new();
    let carried = gives_way(Agent::start(world.config("o")).unwrap());
    let spoil = |name: &str| world.path("state").join(format!("{name}.positions"));
    let aside = |path: &Path| path.with_extension("aside");
    fs::rename(spoil("o"), aside(&spoil("o"))).unwrap();
    for name in ["o", "other"] {
        fs::create_dir(spoil(name)).unwrap();
        let refused = Agent::follow(&world.config(name), &carried).unwrap_err();
        assert!(matches!(refused, StartError::Positions { .. }), "{refused}");
        fs::remove_dir(spoil(name)).unwrap();
    }
    fs::rename(aside(&spoil("o")), spoil("o")).unwrap();
    let _agent = Agent::follow(&world.config("o"), &carried).unwrap();
    world.wait_for("o", &["one"]);
}
