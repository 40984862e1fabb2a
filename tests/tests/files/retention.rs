//! What kubelet deletes before it was read, with the output away, the agent away, the disk full.

use std::fs;
use std::path::{Path, PathBuf};
use taffrail_tests::agent::{self, Agent};
use taffrail_tests::node::{Container, Node};
use taffrail_tests::{eventually, seconds, verify};

/// A node whose output cannot write: a file lies where its folder should be.
struct Blocked {
    node: Node,
}

impl Blocked {
    fn new() -> Blocked {
        let node = Node::new();
        fs::write(node.path().join("out"), "").expect("a file in the way");
        Blocked { node }
    }

    fn unblock(&self) {
        fs::remove_file(self.node.path().join("out")).expect("to clear the way");
    }

    /// `extra`: keys and tables before the output's.
    fn config(&self, extra: &str) -> String {
        let path = self.node.path().join("out/{namespace}.ndjson");
        self.node.config(&format!("{extra}\n[outputs.local]\ntype = \"file\"\npath = \"{}\"", path.display()))
    }

    fn retained(&self) -> Vec<PathBuf> {
        files_below(&self.node.state().join("retained"))
    }

    /// Waits until so many files have a name in the state directory.
    #[track_caller]
    fn retains(&self, count: usize) {
        eventually(seconds(30), "retained files", || {
            let found = self.retained();
            if found.len() == count { Ok(()) } else { Err(format!("{count} wanted, there are {found:?}")) }
        });
    }

    #[track_caller]
    fn delivers(&self, containers: &[&Container]) {
        verify::exactly_once(seconds(40), || self.node.delivered(), containers);
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// How many bytes an agent that ended says are lost.
fn lost_bytes(stderr: &str) -> u64 {
    let told = stderr.lines().rfind(|line| line.contains("stopped")).expect("a last word");
    let number = told.split("lost_bytes=").nth(1).expect("what is lost").split(' ').next();
    number.and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_pod_deleted_while_no_agent_runs_is_delivered_if_its_file_had_been_seen() {
    let world = Blocked::new();
    let mut web = world.node.pod("web").container("app");
    web.writes(1_000);
    let agent = Agent::start(&world.config(""), &world.node);
    world.retains(1);
    agent.kill9();
    // The same file, and nobody looks.
    web.writes(500);
    web.delete();
    world.unblock();
    let agent = Agent::start(&world.config(""), &world.node);
    world.delivers(&[&web]);
    world.retains(0);
    assert_eq!(agent.terminate().code, Some(0));
    assert_eq!(files_below(&world.node.state().join("retained")), [] as [PathBuf; 0]);
}

#[test]
fn an_output_that_is_away_for_longer_than_kubelet_keeps_files_gets_every_line_in_order() {
    let world = Blocked::new();
    let mut web = world.node.pod("web").container("app");
    let config = world.config("");
    let agent = Agent::start(&config, &world.node);
    for file in 1..=20 {
        web.writes(200);
        world.retains(file);
        web.rotate();
    }
    agent.kill9();
    let agent = Agent::start(&config, &world.node);
    web.writes(100);
    world.retains(21);
    world.unblock();
    world.delivers(&[&web]);
    let delivered = world.node.delivered().expect("whole documents");
    let numbers: Vec<u64> = delivered.iter().filter_map(verify::Document::number).collect();
    assert!(numbers.is_sorted(), "in the order of writing, over a restart as well");
    // What is still written to keeps its name.
    world.retains(1);
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn over_its_budget_the_namespace_that_has_most_loses_its_oldest_and_it_is_counted() {
    let world = Blocked::new();
    let mut loud = world.node.pod("loud").namespace("loud").container("app");
    let mut quiet = world.node.pod("quiet").namespace("quiet").container("app");
    let config = world.config("[retain]\nmax_bytes = \"1MiB\"\nmin_free = \"0%\"\nmin_free_inodes = \"0%\"");
    let agent = Agent::start(&config, &world.node);
    quiet.writes(500);
    let mut written = 0;
    for file in 1..=8 {
        loud.writes_text(10_000);
        written += fs::metadata(loud.current()).expect("the log").len();
        world.retains(file + 1);
        loud.rename().reopen();
    }
    quiet.delete();
    for file in loud.rotated() {
        fs::remove_file(file).expect("to delete a log as kubelet does");
    }
    eventually(seconds(30), "something to go", || {
        let said = agent.stderr();
        if said.contains("unread logs had to go") { Ok(()) } else { Err(said) }
    });
    world.unblock();
    world.delivers(&[&quiet]);
    loud.writes_text(1);
    let last = loud.written().len() as u64 - 1;
    eventually(seconds(30), "the last line", || {
        let delivered = world.node.delivered()?;
        let mut of_loud = delivered.iter().filter(|document| document.is_of(&loud));
        of_loud
            .find(|document| document.message().starts_with(&format!("line {last} ")))
            .map(|_| ())
            .ok_or_else(String::new)
    });
    let ended = agent.terminate();
    let kept: u64 = 1 << 20;
    let lost = lost_bytes(&ended.stderr);
    // The batch that waited for the output had been read before.
    assert!(lost > 0 && lost <= written, "{lost} of {written} bytes");
    assert!(written - lost >= kept / 2, "no more went than had to: {lost} of {written} bytes");
    assert!(
        ended.stderr.contains("reason=\"budget\"") || ended.stderr.contains("reason=budget"),
        "{}",
        ended.stderr
    );
    let delivered = world.node.delivered().expect("whole documents");
    let here: u64 = delivered.iter().filter(|document| document.is_of(&loud)).count() as u64;
    let missing = loud.written().len() as u64 - here;
    let a_line = written / 80_000;
    assert!(lost.abs_diff(missing * a_line) <= written / 50, "{lost} bytes told, {missing} lines missing");
}

#[test]
fn below_the_floor_of_free_disk_unread_files_go_and_it_is_told() {
    let world = Blocked::new();
    let mut web = world.node.pod("web").container("app");
    web.writes(100);
    // No disk is so empty.
    let config = world.config("[retain]\nmin_free = \"95%\"");
    let agent = Agent::start(&config, &world.node);
    world.retains(1);
    web.rotate().writes(100);
    for file in web.rotated() {
        fs::remove_file(file).expect("to delete a log as kubelet does");
    }
    eventually(seconds(30), "the loss", || {
        let said = agent.stderr();
        if said.contains("unread logs had to go") && said.contains("disk_floor") { Ok(()) } else { Err(said) }
    });
    world.unblock();
    eventually(seconds(30), "what is left", || {
        let delivered = world.node.delivered()?;
        if delivered.iter().any(|document| document.number() == Some(199)) {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn where_no_link_can_be_made_a_deleted_file_is_copied() {
    let world = Blocked::new();
    let state = tempfile::tempdir_in("/dev/shm").expect("a folder on another file system");
    let mut web = world.node.pod("web").container("app");
    let mut job = world.node.pod("job").container("app");
    let config =
        world.config("[retain]\ncopy_after = \"1s\"\nmin_free = \"0%\"\nmin_free_inodes = \"0%\"").replace(
            &format!("state_dir = \"{}\"", world.node.state().display()),
            &format!("state_dir = \"{}\"", state.path().display()),
        );
    web.writes(400).rotate().writes(100);
    let running = Agent::start(&config, &world.node);
    eventually(seconds(30), "a warning", || {
        let said = running.stderr();
        if said.contains("cannot be linked into `state_dir`") { Ok(()) } else { Err(said) }
    });
    web.delete();
    let retained = state.path().join("retained");
    eventually(seconds(30), "both copies", || {
        if files_below(&retained).len() == 2 { Ok(()) } else { Err(format!("{:?}", files_below(&retained))) }
    });
    running.kill9();
    // And at SIGTERM, without waiting.
    let running = Agent::start(&format!("grace = \"2s\"\n{config}"), &world.node);
    job.writes(300).rotate().writes(100);
    eventually(seconds(30), "the job to be held", || {
        let open = fs::read_dir(format!("/proc/{}/fd", running.pid)).map_err(|error| error.to_string())?;
        let held = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        let of_job = held.filter(|path| path.starts_with(&job.folder)).count();
        if of_job >= 2 { Ok(()) } else { Err(format!("{of_job} held")) }
    });
    job.delete();
    running.terminate();
    assert_eq!(files_below(&retained).len(), 4);
    world.unblock();
    let _running = Agent::start(&config, &world.node);
    world.delivers(&[&web, &job]);
    eventually(seconds(30), "the copies to go", || {
        let left = files_below(&retained);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn a_copy_holds_only_what_was_unread_and_keeps_its_offsets() {
    let world = Blocked::new();
    world.unblock();
    let state = tempfile::tempdir_in("/dev/shm").expect("a folder on another file system");
    let mut web = world.node.pod("web").container("app");
    let config =
        world.config("[retain]\ncopy_after = \"1s\"\nmin_free = \"0%\"\nmin_free_inodes = \"0%\"").replace(
            &format!("state_dir = \"{}\"", world.node.state().display()),
            &format!("state_dir = \"{}\"", state.path().display()),
        );
    let running = Agent::start(&config, &world.node);
    web.writes(1_000);
    world.delivers(&[&web]);
    // From now on nothing can be written: the file is renamed away under its writer.
    let (out, aside) = (world.node.path().join("out"), world.node.path().join("aside"));
    fs::rename(&out, &aside).expect("to take the output's folder away");
    fs::write(&out, "").expect("a file in the way");
    web.writes(1_000);
    web.delete();
    let copy = eventually(seconds(30), "a copy", || {
        let files = files_below(&state.path().join("retained"));
        let copied = files.iter().find(|file| file.to_string_lossy().contains(".from-"));
        copied.cloned().ok_or_else(|| format!("{files:?}"))
    });
    assert!(fs::read(&copy).expect("the copy").starts_with(&[0; 1000]), "a hole stands for what was read");
    running.kill9();
    fs::remove_file(&out).expect("to clear the way");
    fs::rename(&aside, &out).expect("to bring the output's folder back");
    let running = Agent::start(&config, &world.node);
    world.delivers(&[&web]);
    assert_eq!(running.terminate().code, Some(0));
}

#[test]
fn cleanup_leaves_nothing_and_asks_first() {
    let world = Blocked::new();
    let mut web = world.node.pod("web").container("app");
    web.writes(100);
    let config = world.config("grace = \"2s\"");
    let file = world.node.path().join("taffrail.toml");
    fs::write(&file, &config).expect("a configuration");
    let file = file.to_str().expect("a plain path");
    let running = Agent::start(&config, &world.node);
    world.retains(1);
    let refused = agent::run(&["cleanup", "--yes", "--config", file], &world.node);
    assert!(refused.code == Some(1) && refused.stderr.contains("an agent runs over"), "{refused:?}");
    assert!(!refused.stderr.contains("send everything twice"), "{refused:?}");
    running.terminate();
    let letters = world.node.state().join("dead-letters");
    fs::create_dir_all(&letters).expect("a folder");
    for (name, text) in [("search.ndjson", "{}\n{}\n"), ("search.ndjson.1", "{}\n"), ("search.lock", "")] {
        fs::write(letters.join(name), text).expect("dead letters");
    }
    web.delete();
    let asked = agent::run(&["cleanup", "--config", file], &world.node);
    assert!(asked.code == Some(2) && asked.stderr.contains("say --yes"), "{asked:?}");
    assert!(asked.stdout.contains("3 records that destinations refused"), "{asked:?}");
    assert_eq!(world.retained().len(), 1);
    // Something else in the folder is nobody's to remove.
    let other = world.node.state().join("notes.txt");
    fs::write(&other, "").expect("somebody's file");
    let kept = agent::run(&["cleanup", "--yes", "--config", file], &world.node);
    assert!(kept.code == Some(0) && kept.stdout.contains("holds something else"), "{kept:?}");
    assert_eq!(files_below(&world.node.state()), std::slice::from_ref(&other));
    fs::remove_file(other).expect("to remove it");
    assert_eq!(agent::run(&["cleanup", "--yes", "--config", file], &world.node).code, Some(0));
    assert!(!world.node.state().exists());
    let nothing = agent::run(&["cleanup", "--config", file], &world.node);
    assert!(nothing.code == Some(0) && nothing.stdout.contains("nothing to remove"), "{nothing:?}");
}

#[test]
fn a_host_file_that_is_rotated_away_and_deleted_is_delivered_after_a_kill() {
    let world = Blocked::new();
    let (log, away) = (world.node.path().join("app.log"), world.node.path().join("old/app.log.1"));
    fs::create_dir(away.parent().expect("a folder")).expect("a folder");
    let lines: String = (0..500).map(|n| format!("line {n} of app\n")).collect();
    fs::write(&log, &lines).expect("a host file");
    let config = world.config(&format!("[files.app]\npaths = [\"{}\"]", log.display()));
    let running = Agent::start(&format!("rescan = \"100ms\"\ngrace = \"2s\"\n{config}"), &world.node);
    eventually(seconds(30), "the file to be held", || {
        let open = fs::read_dir(format!("/proc/{}/fd", running.pid)).map_err(|error| error.to_string())?;
        let mut held = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        if held.any(|path| path == log) { Ok(()) } else { Err("not yet".to_owned()) }
    });
    fs::rename(&log, &away).expect("to rotate it away");
    fs::remove_file(&away).expect("to delete it");
    running.terminate();
    assert_eq!(world.retained().len(), 1, "only a descriptor had it");
    world.unblock();
    let _running = Agent::start(&config, &world.node);
    eventually(seconds(30), "every line", || {
        let delivered = world.node.delivered()?;
        if delivered.len() == 500 { Ok(()) } else { Err(format!("{}", delivered.len())) }
    });
    world.retains(0);
}
