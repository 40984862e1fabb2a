//! Host files against a small folder, step by step: no thread, no waiting.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};

use super::*;
use crate::catalog::file::FileKey;

/// More than what tells one file from another.
fn banner(of: &str) -> String {
    format!("{of} {}\n", "=".repeat(100))
}

struct World {
    folder: tempfile::TempDir,
    scanner: HostScanner,
    files: Receiver<Arc<LogFile>>,
}

impl World {
    fn new(patterns: &[&str]) -> World {
        World::again(tempfile::tempdir().unwrap(), patterns)
    }

    /// A new agent over a folder that is there; `patterns` are below its `log/`.
    fn again(folder: tempfile::TempDir, patterns: &[&str]) -> World {
        fs::create_dir_all(folder.path().join("log")).unwrap();
        fs::create_dir_all(folder.path().join("state")).unwrap();
        let pattern = |below: &&str| {
            glob::Pattern::new(&folder.path().join("log").join(below).display().to_string()).unwrap()
        };
        let (files, found) = mpsc::channel();
        let mut scanner = HostScanner::new(
            Settings {
                sources: vec![Source {
                    name: "app".into(),
                    paths: patterns.iter().map(pattern).collect(),
                    exclude: vec![pattern(&"*.secret")],
                    framing: Framing::Lines,
                    labels: BTreeMap::new(),
                }],
                links: vec![folder.path().join("elsewhere")],
                never: vec![folder.path().join("log/own-").display().to_string()],
                keys: KeyMaker { cluster: "c".into(), node: "n".into() },
                state_dir: folder.path().join("state"),
                rescan: Duration::from_secs(3600),
                tick: Duration::from_millis(10),
                outputs: 1,
                descriptors: Descriptors::new(100),
                retention: None,
                kept: Vec::new(),
            },
            Arc::default(),
        )
        .unwrap();
        scanner.subscribers.push(Subscriber { files, wake: Arc::default() });
        World { folder, scanner, files: found }
    }

    /// The agent ends, and another begins.
    fn restart(self, patterns: &[&str]) -> World {
        let World { folder, scanner, .. } = self;
        drop(scanner);
        World::again(folder, patterns)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("log").join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// As logrotate does it: a copy, then the file cut to nothing.
    fn copytruncate(&self, name: &str, copy: &str) {
        fs::copy(self.path(name), self.path(copy)).unwrap();
        fs::OpenOptions::new().write(true).open(self.path(name)).unwrap().set_len(0).unwrap();
    }

    fn rescan(&mut self) -> Vec<Arc<LogFile>> {
        self.scanner.rescan();
        self.files.try_iter().collect()
    }

    fn rescan_one(&mut self) -> Arc<LogFile> {
        let mut found = self.rescan();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn read(&self, file: &LogFile) -> String {
        let mut buffer = vec![0; 1 << 16];
        let read = file.open().unwrap().read_at(&mut buffer, 0).unwrap();
        String::from_utf8(buffer[..read].to_vec()).unwrap()
    }
}

#[test]
fn files_are_found_by_patterns_and_only_what_may_be_read() {
    let mut world = World::new(&["*.log", "deep/**/*.txt"]);
    for name in ["a.log", "b.log", ".hidden.log", "own-out.log", "c.log.gz", "d.gz", "e.secret"] {
        world.append(name, "one\n");
    }
    fs::create_dir_all(world.path("deep/x/y")).unwrap();
    world.append("deep/x/y/f.txt", "one\n");
    fs::create_dir(world.path("folder.log")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.path("fifo.log"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    fs::write(world.folder.path().join("outside"), "x\n").unwrap();
    std::os::unix::fs::symlink(world.folder.path().join("outside"), world.path("out.log")).unwrap();
    fs::create_dir(world.folder.path().join("elsewhere")).unwrap();
    fs::write(world.folder.path().join("elsewhere/linked"), "x\n").unwrap();
    std::os::unix::fs::symlink(world.folder.path().join("elsewhere/linked"), world.path("in.log")).unwrap();

    let mut names: Vec<String> = world.rescan().iter().map(|file| file.origin.to_string()).collect();
    names.sort();
    let expected =
        ["a.log", "b.log", "deep/x/y/f.txt", "in.log"].map(|name| world.path(name).display().to_string());
    assert_eq!(names, expected);
    assert_eq!(world.scanner.told_unreadable.len(), 3, "the folder, the FIFO and the link that leads out");
}

#[test]
fn what_the_agent_writes_is_left_out_by_whatever_way_a_pattern_comes_to_it() {
    let mut world = World::new(&["link/*.log"]);
    std::os::unix::fs::symlink(world.folder.path().join("log"), world.path("link")).unwrap();
    for name in ["a.log", "own-out.log"] {
        world.append(name, "one\n");
    }
    std::os::unix::fs::symlink(world.path("own-out.log"), world.path("b.log")).unwrap();
    assert_eq!(world.rescan_one().origin.to_string(), world.path("link/a.log").display().to_string());
    assert!(world.scanner.told_unreadable.is_empty());
}

#[test]
fn a_file_that_grows_and_one_that_comes_are_seen() {
    let mut world = World::new(&["*.log"]);
    world.append("a.log", "one\n");
    let a = world.rescan_one();
    assert_eq!(a.past.map(|past| past.end), Some(4));
    assert!(!world.scanner.tick());
    world.append("a.log", "two\n");
    assert!(!world.scanner.tick(), "nothing but its size changed");
    assert_eq!(a.size(), 8);
    world.append("b.log", "three\n");
    assert!(world.scanner.tick(), "the folder changed");
    assert_eq!(world.rescan_one().past, None, "it was not there at start");
}

#[test]
fn a_rename_goes_on_in_the_same_file_over_a_restart_too() {
    let mut world = World::new(&["app.log"]);
    world.append("app.log", "one\n");
    let first = world.rescan_one();
    fs::rename(world.path("app.log"), world.path("app.log.1")).unwrap();
    world.append("app.log", "three\n");
    let second = world.rescan_one();
    assert_ne!(first.key, second.key);
    // Its writer has not been told yet.
    world.append("app.log.1", "two\n");
    world.scanner.tick();
    assert_eq!((first.size(), first.is_settled()), (8, false));
    let long_ago = Instant::now().checked_sub(LEFT_SILENT * 2).unwrap();
    world.scanner.known.iter_mut().for_each(|known| known.grew_at = long_ago);
    world.scanner.tick();
    assert!(first.is_settled() && first.is_gone() && !second.is_settled());
    assert_eq!(world.read(&first), "one\ntwo\n");

    // Whether a pattern finds it or not.
    for patterns in [["app.log*"], ["app.log"], ["app.log"]] {
        world = world.restart(&patterns);
        let keys: Vec<FileKey> = world.rescan().iter().map(|file| file.key).collect();
        assert_eq!(keys.len(), 2);
        assert!(keys.contains(&first.key) && keys.contains(&second.key));
    }
}

#[test]
fn what_was_copied_and_cut_is_read_on_in_the_copy() {
    let mut world = World::new(&["app.log"]);
    world.append("app.log", &banner("one"));
    let first = world.rescan_one();
    world.append("app.log", "unread\n");
    world.copytruncate("app.log", "app.log.1");
    world.append("app.log", &banner("two"));
    world.append("app.log", "and so much more that it is longer than it was before\n");
    assert!(world.scanner.tick() || first.size() > 0);
    let second = world.rescan_one();
    assert_ne!(first.key, second.key);
    assert_eq!(world.read(&first), banner("one") + "unread\n");
    assert!(first.is_settled() && first.moves() == 1);
    assert!(world.read(&second).starts_with("two"));
    assert!(world.rescan().is_empty(), "all is known");
    fs::remove_file(world.path("app.log.1")).unwrap();
    world.rescan();
    assert_eq!(world.read(&first), banner("one") + "unread\n", "held until it is read");
    first.release();
    world.rescan();
    assert_eq!(world.scanner.known.len(), 1);
    assert_eq!(world.scanner.settings.descriptors.used(), 1);
}

#[test]
fn a_copy_that_a_pattern_finds_too_is_not_read_twice() {
    for agent_is_away in [false, true] {
        let patterns = ["app.log*"];
        let mut world = World::new(&patterns);
        world.append("app.log", &banner("one"));
        let first = world.rescan_one();
        fs::copy(world.path("app.log"), world.path("app.log.1")).unwrap();
        if !agent_is_away {
            assert!(world.rescan().is_empty(), "a copy of what is read");
        }
        fs::OpenOptions::new().write(true).open(world.path("app.log")).unwrap().set_len(0).unwrap();
        world.append("app.log", "two\n");
        let mut keys: Vec<FileKey> = if agent_is_away {
            world = world.restart(&patterns);
            world.rescan().iter().map(|file| file.key).collect()
        } else {
            vec![first.key, world.rescan_one().key]
        };
        assert!(keys.contains(&first.key), "its rest is read");
        keys.dedup();
        assert_eq!(keys.len(), 2);
        // The next rotation: the copy moves on, and another comes.
        fs::rename(world.path("app.log.1"), world.path("app.log.2")).unwrap();
        assert!(world.rescan().is_empty());
    }
}

#[test]
fn a_file_cut_short_without_a_copy_is_another_log_whatever_it_begins_with() {
    let mut world = World::new(&["app.log"]);
    world.append("app.log", "# header\none\n");
    let first = world.rescan_one();
    fs::write(world.path("app.log"), "# header\n").unwrap();
    assert!(world.scanner.tick());
    let second = world.rescan_one();
    assert_ne!(first.key, second.key);
    assert!(first.is_gone() && first.open().is_err());
    // And as long as before, and found by the next agent only.
    fs::write(world.path("app.log"), "another\n\n").unwrap();
    let mut world = world.restart(&["app.log"]);
    let third = world.rescan_one();
    assert!(third.key != first.key && third.key != second.key);
    assert_eq!(world.read(&third), "another\n\n");
}

#[test]
fn without_a_register_on_disk_nobody_is_told_of_a_file() {
    let mut world = World::new(&["app.log"]);
    world.append("app.log", "one\n");
    fs::remove_dir(world.folder.path().join("state")).unwrap();
    assert!(world.rescan().is_empty());
    fs::create_dir(world.folder.path().join("state")).unwrap();
    world.scanner.publish();
    assert_eq!(world.files.try_iter().count(), 1);
    assert!(Path::new(&world.folder.path().join("state/host-files.json")).exists());
}

#[test]
fn the_folder_that_a_pattern_cannot_leave() {
    let cases = [
        ("/var/log/syslog", "/var/log"),
        ("/var/log/*.log", "/var/log"),
        ("/var/log/a*/b.log", "/var/log"),
        ("/var/**/x", "/var"),
        ("/*.log", "/"),
        ("/x", "/"),
    ];
    for (pattern, folder) in cases {
        assert_eq!(fixed_folder(pattern), Path::new(folder), "{pattern}");
    }
}
