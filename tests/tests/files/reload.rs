//! Another configuration while the agent runs: swapped in whole, or refused with a reason, and no line lost or doubled.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use taffrail_tests::agent::{self, Agent};
use taffrail_tests::config_map::ConfigMap;
use taffrail_tests::node::{Container, Node};
use taffrail_tests::{eventually, let_pass, seconds, seed, verify};

const RELOADED: &str = "reloaded the configuration";

/// A configuration of the node in a file, which each call writes anew.
fn file(node: &Node, text: &str) -> PathBuf {
    let path = node.path().join("taffrail.toml");
    fs::write(&path, text).unwrap();
    path
}

/// A table `[outputs.NAME]` of type `file` that writes below `folder` of the node.
fn output(node: &Node, name: &str, folder: &str) -> String {
    let path = node.path().join(folder).join("{namespace}.ndjson");
    format!("[outputs.{name}]\ntype = \"file\"\npath = \"{}\"\n", path.display())
}

fn delivered(node: &Node, folder: &str) -> Result<Vec<verify::Document>, String> {
    verify::read_ndjson(&node.path().join(folder))
}

/// Does something at the end, also where the test fails: a thread may wait for it.
struct AtTheEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtTheEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Writes to these containers as fast as it can, rotating now and then: 5,000 lines for each of the `swaps` there have
/// been, and once as many before the first. Ends after ten.
fn write_through(swaps: &AtomicU64, containers: &mut [Container], random: &mut fastrand::Rng) {
    let mut written = 0;
    loop {
        let allowed = 5_000 * (swaps.load(Ordering::Relaxed) + 1);
        if written >= allowed {
            if allowed > 50_000 {
                return;
            }
            // The agent is slower than the disk, above all where others share the machine.
            let_pass(Duration::from_millis(1));
            continue;
        }
        let (at, lines) = (random.usize(..containers.len()), random.u64(1..100));
        containers[at].writes(lines);
        written += lines;
        if random.u32(..100) == 0 {
            containers[at].rotate();
        }
    }
}

#[test]
fn reloaded_ten_times_at_full_rate_nothing_is_missing_and_nothing_twice() {
    let mut random = fastrand::Rng::with_seed(seed());
    let node = Node::new();
    let mut containers: Vec<Container> =
        ["web", "api", "db"].map(|name| node.pod(name).namespace("shop").container("app").keeps(50)).into();
    // There and back: an output more, and other options of the one that stays.
    let local = output(&node, "local", "out");
    let plain = node.config(&local);
    let other = node
        .config(&format!("{local}linger = \"20ms\"\nmax_size = \"8MiB\"\n{}", output(&node, "more", "more")));
    let map = ConfigMap::mounted(&node.path().join("map"), &plain);
    let agent = Agent::start_at(&[], &map.path(), &node);
    agent.has_said("started", 1);
    let swaps = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let _end = AtTheEnd(|| {
            swaps.fetch_max(10, Ordering::Relaxed);
        });
        scope.spawn(|| write_through(&swaps, &mut containers, &mut random));
        for swap in 0..10 {
            map.swap(if swap % 2 == 0 { &other } else { &plain });
            // Noticed by itself, or hurried.
            if swap % 3 == 0 {
                agent.hang_up();
            }
            agent.has_said(RELOADED, swap + 1);
            swaps.fetch_add(1, Ordering::Relaxed);
        }
    });
    let all: Vec<&Container> = containers.iter().collect();
    verify::exactly_once(seconds(60), || node.delivered(), &all);
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    verify::clean(&node.delivered().unwrap(), &all);
    println!("{} lines", all.iter().map(|container| container.written().len()).sum::<usize>());
    assert!(ended.stderr.contains("output more added (file)"), "{}", ended.stderr);
    assert!(ended.stderr.contains("output local changed (linger, max_size)"), "{}", ended.stderr);
    // The other output came and went five times, and went on where it was.
    let twice = verify::faults(&delivered(&node, "more").unwrap(), all[0]).doubled;
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn a_broken_configuration_is_told_once_and_the_old_one_goes_on() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(10);
    let good = node.to_file();
    let path = file(&node, &good);
    let agent = Agent::start_at(&[], &path, &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let cases = [
        (format!("{good}\nkeeep = 3\n"), "did you mean `keep`?"),
        (format!("memory = \"16MiB\"\nmax_record = \"64MiB\"\n{good}"), "is too little"),
        (
            good.replace("\"test\"", "\"other\""),
            "only a restart of the agent can change `cluster` from `test` to `other`",
        ),
        (good.replace("state\"\n", "state2\"\n"), "`state_dir` from"),
        (String::new(), "no output is configured"),
    ];
    for (number, (text, said)) in cases.iter().enumerate() {
        fs::write(&path, text).unwrap();
        agent.has_said("the old one is kept", number + 1);
        let stderr = agent.stderr();
        assert!(stderr.contains(said), "{said} in {stderr}");
        web.writes(10);
        verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    }
    // Told once, but whoever asks is answered.
    agent.hang_up();
    agent.has_said("still the one that was refused", 1);
    fs::write(&path, &good).unwrap();
    agent.has_said("the one that runs again", 1);
    agent.hang_up();
    agent.has_said("has not changed", 1);
    let ended = agent.terminate();
    assert_eq!(ended.stderr.matches("is refused").count(), cases.len(), "{}", ended.stderr);
    assert!(!ended.stderr.contains(RELOADED), "{}", ended.stderr);
}

#[test]
fn what_cannot_be_started_is_told_and_the_old_configuration_runs_again() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(1_000);
    let good = node.to_file();
    let path = file(&node, &good);
    let agent = Agent::start_at(&[], &path, &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    // Positions that no agent can read.
    fs::create_dir(node.state().join("more.positions")).unwrap();
    web.writes(1_000);
    fs::write(&path, format!("{good}\n{}", output(&node, "more", "more"))).unwrap();
    agent.has_said("cannot read or write", 1);
    web.writes(1_000);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    // Mended, it is taken by who asks.
    fs::remove_dir(node.state().join("more.positions")).unwrap();
    agent.hang_up();
    agent.has_said(RELOADED, 1);
    verify::exactly_once(seconds(40), || delivered(&node, "more"), &[&web]);
    assert_eq!(agent.terminate().code, Some(0));
    verify::clean(&node.delivered().unwrap(), &[&web]);
}

#[test]
fn what_lacks_a_secret_or_a_folder_to_write_to_waits_for_it_while_the_old_configuration_runs() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(10);
    let good = node.to_file();
    let path = file(&node, &good);
    let agent = Agent::start_at(&[], &path, &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    fs::write(node.path().join("more"), "a file where a folder belongs").unwrap();
    let secret = node.path().join("password");
    let search = format!(
        "[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://127.0.0.1:9\"]\nindex = \"x\"\n\
         auth = {{ type = \"basic\", username = \"u\", password = {{ file = \"{}\" }} }}\n",
        secret.display()
    );
    fs::write(&path, format!("{good}\n{}{search}", output(&node, "more", "more"))).unwrap();
    agent.has_said("cannot run yet", 1);
    let said = agent.stderr();
    assert!(said.contains("more is not a folder") && said.contains("password cannot be read"), "{said}");
    web.writes(10);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    fs::remove_file(node.path().join("more")).unwrap();
    fs::write(&secret, "hunter2").unwrap();
    // By itself, within ten seconds.
    agent.has_said(RELOADED, 1);
    verify::exactly_once(seconds(40), || delivered(&node, "more"), &[&web]);
    let said = agent.stderr();
    assert!(said.matches("cannot run yet").count() == 1 && !said.contains("hunter2"), "{said}");
}

#[test]
fn an_output_that_comes_back_goes_on_where_it_was_and_one_that_is_renamed_begins_by_its_start() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(500);
    let (local, more) = (output(&node, "local", "out"), output(&node, "more", "more"));
    let path = file(&node, &node.config(&format!("{local}{more}")));
    let agent = Agent::start_at(&[], &path, &node);
    verify::exactly_once(seconds(40), || delivered(&node, "more"), &[&web]);
    file(&node, &node.config(&local));
    agent.has_said(RELOADED, 1);
    web.writes(500);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    assert_eq!(delivered(&node, "more").unwrap().len(), 500);
    assert!(node.state().join("more.positions").exists());
    // Back, with a name beside it that has never been: that one wants only what comes.
    let named = format!("{}start = \"now\"\n", output(&node, "named", "named"));
    file(&node, &node.config(&format!("{local}{more}{named}")));
    agent.has_said(RELOADED, 2);
    verify::exactly_once(seconds(40), || delivered(&node, "more"), &[&web]);
    let before = web.written().len();
    web.writes(200);
    verify::exactly_once(seconds(40), || delivered(&node, "more"), &[&web]);
    eventually(seconds(40), "what was written since", || {
        let faults = verify::faults(&delivered(&node, "named")?, &web);
        if faults.missing.iter().all(|number| *number < before as u64) {
            Ok(())
        } else {
            Err(faults.to_string())
        }
    });
    let named = delivered(&node, "named").unwrap();
    assert_eq!(named.len(), 200, "{:?}", verify::faults(&named, &web));
    assert_eq!(agent.terminate().code, Some(0));
    for folder in ["out", "more"] {
        verify::clean(&delivered(&node, folder).unwrap(), &[&web]);
    }
}

#[test]
fn a_file_that_was_deleted_before_it_was_read_outlives_the_reload() {
    let node = Node::new();
    let mut pods: Vec<Container> = ["web", "api"].map(|name| node.pod(name).container("app")).into();
    // Nothing can be written there, so that nothing is acknowledged.
    fs::write(node.path().join("out"), "a file where a folder belongs").unwrap();
    let path = file(&node, &node.to_file());
    pods[0].writes(20_000);
    pods[1].writes(5_000).rotate().writes(5_000);
    let agent = Agent::start_at(&[], &path, &node);
    agent.has_said("cannot write", 1);
    // One goes with its pod; of the other, kubelet takes the oldest file.
    pods[0].delete();
    fs::remove_file(&pods[1].rotated()[0]).unwrap();
    pods[1].writes(5_000);
    file(&node, &node.config(&output(&node, "local", "elsewhere")));
    agent.has_said(RELOADED, 1);
    let all: Vec<&Container> = pods.iter().collect();
    verify::exactly_once(seconds(60), || delivered(&node, "elsewhere"), &all);
    let ended = agent.terminate();
    assert!(ended.stderr.contains("lost_bytes=0"), "{}", ended.stderr);
}

#[test]
fn host_files_outlive_a_reload_too() {
    let node = Node::new();
    let log = node.path().join("syslog");
    let text =
        |range: std::ops::Range<u64>| -> String { range.map(|n| format!("line {n} of syslog\n")).collect() };
    fs::write(&log, text(0..2_000)).unwrap();
    fs::write(node.path().join("out"), "a file where a folder belongs").unwrap();
    let files = format!("[files.system]\npaths = [\"{}\"]\n", log.display());
    let path = file(&node, &node.config(&format!("{files}{}", output(&node, "local", "out"))));
    let agent = Agent::start_at(&[], &path, &node);
    agent.has_said("cannot write", 1);
    // Renamed to where no pattern looks, and its writer goes on in it; then deleted.
    let renamed = node.path().join("old-log");
    fs::rename(&log, &renamed).unwrap();
    let mut writer = fs::OpenOptions::new().append(true).open(&renamed).unwrap();
    fs::remove_file(&renamed).unwrap();
    let labelled = format!("{files}labels = {{ team = \"infra\" }}\n");
    file(&node, &node.config(&format!("{labelled}{}", output(&node, "local", "elsewhere"))));
    agent.has_said(RELOADED, 1);
    std::io::Write::write_all(&mut writer, text(2_000..2_100).as_bytes()).unwrap();
    let documents = eventually(seconds(40), "every line", || {
        let documents = delivered(&node, "elsewhere")?;
        if documents.len() >= 2_100 { Ok(documents) } else { Err(format!("{} lines", documents.len())) }
    });
    let messages: Vec<String> = documents.iter().map(verify::Document::message).collect();
    assert_eq!(messages.join("\n") + "\n", text(0..2_100));
    assert!(documents.iter().all(|document| document.text("labels.team") == "infra"));
}

#[test]
fn a_reload_and_sigterm_at_the_same_moment_end_in_order() {
    let mut random = fastrand::Rng::with_seed(seed());
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    let local = output(&node, "local", "out");
    for round in 0..6 {
        let path = file(&node, &node.config(&format!("{local}linger = \"{}ms\"\n", 50 + round)));
        let agent = Agent::start_at(&[], &path, &node);
        web.writes(3_000);
        agent.has_said("started", 1);
        file(&node, &node.config(&format!("{local}linger = \"{}ms\"\n", 100 + round)));
        agent.hang_up();
        let_pass(Duration::from_micros(random.u64(..3_000)));
        let ended = agent.terminate();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
        verify::clean(&node.delivered().unwrap(), &[&web]);
    }
}

#[test]
fn two_hangups_at_once_are_one_reload_and_remarks_are_none() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let path = file(&node, &node.to_file());
    let agent = Agent::start_at(&[], &path, &node);
    agent.has_said("started", 1);
    file(&node, &format!("{}\nlinger = \"100ms\"", node.to_file()));
    agent.hang_up();
    agent.hang_up();
    agent.has_said(RELOADED, 1);
    file(&node, &format!("{}\nlinger = \"100ms\" # as quick as that", node.to_file()));
    agent.hang_up();
    agent.has_said("says the same", 1);
    // Of its own log the form and the level change without a stop.
    file(&node, &format!("{}\nlinger = \"100ms\"\n[log]\nformat = \"json\"\n", node.to_file()));
    agent.hang_up();
    agent.has_said("reloaded the configuration", 2);
    agent.hang_up();
    agent.has_said("\"message\":\"the configuration has not changed\"", 1);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let ended = agent.terminate();
    assert_eq!((ended.code, ended.stderr.matches(RELOADED).count()), (Some(0), 2), "{}", ended.stderr);
}

#[test]
fn an_output_that_hangs_in_a_write_puts_the_reload_off_until_it_does_not() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    // More than a pipe holds, to a pipe that nobody reads yet.
    web.writes(3_000);
    let pipe = node.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let way = ["sh", "-c", &format!("exec \"$@\" >{}", pipe.display()), "sh"].map(str::to_owned);
    let outputs = format!("{}[outputs.terminal]\ntype = \"stdout\"\n", output(&node, "local", "out"));
    let path = file(&node, &node.config(&outputs));
    let agent = Agent::start_at(&way, &path, &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    file(&node, &node.config(&format!("{outputs}{}", output(&node, "more", "more"))));
    agent.has_said("cannot run yet", 1);
    assert!(agent.stderr().contains("output `terminal` hangs"), "{}", agent.stderr());
    web.writes(100);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    // Somebody reads: then it is not long until the reload succeeds.
    let printed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut chunk = [0; 65_536];
            loop {
                let read = std::io::Read::read(&mut reader, &mut chunk).unwrap();
                let mut printed = printed.lock().unwrap();
                printed.extend_from_slice(&chunk[..read]);
                if printed.ends_with(b"the end\n") {
                    return;
                }
            }
        });
        let _end = AtTheEnd(|| fs::write(&pipe, "the end\n").unwrap());
        agent.has_said(RELOADED, 1);
        verify::exactly_once(seconds(40), || delivered(&node, "more"), &[&web]);
        assert_eq!(agent.terminate().code, Some(0));
    });
    let printed = String::from_utf8(printed.into_inner().unwrap()).unwrap();
    let numbers: Vec<usize> = printed
        .lines()
        .filter_map(|line| line.split("line ").nth(1)?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(numbers, (0..3_100).collect::<Vec<_>>());
}

#[test]
fn check_tells_what_a_reload_would_change() {
    let node = Node::new();
    let good = node.to_file();
    let path = file(&node, &good);
    assert!(!agent::check(&good, &node).stdout.contains("against what"));
    let running = Agent::start_at(&[], &path, &node);
    running.has_said("started", 1);
    eventually(seconds(10), "the configuration that runs", || {
        let said = agent::check(&good, &node).stdout;
        if said.contains("  nothing changed\n") { Ok(()) } else { Err(said) }
    });
    let other = good.replace("\"test\"", "\"tokyo\"") + "\nkeep = 9\n" + &output(&node, "more", "more");
    let said = agent::check(&other, &node).stdout;
    for line in [
        "  output local changed (keep)\n",
        "  output more added (file)\n",
        "  `cluster` from `test` to `tokyo`: only a restart of the agent can change that, a reload is refused\n",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(running.terminate().code, Some(0));
}
