//! Directories that vanish and appear while they are looked at and read.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use taffrail_tests::agent::Agent;
use taffrail_tests::node::Node;
use taffrail_tests::{let_pass, seconds, verify};

#[test]
fn directories_that_vanish_while_they_are_looked_at_stop_nothing() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let agent = Agent::start(&("rescan = \"50ms\"\n".to_owned() + &node.to_file()), &node);
    let stop = AtomicBool::new(false);
    let lived = thread::scope(|scope| {
        let churn = scope.spawn(|| {
            // Pods that live for a moment: deleted whole, container by container, and file by file.
            let mut lived = Vec::new();
            for n in 0.. {
                if stop.load(Ordering::SeqCst) {
                    return lived;
                }
                let pod = node.pod(&format!("moment-{n}"));
                let mut app = pod.container("app");
                app.writes(20).restart().writes(20);
                let_pass(std::time::Duration::from_micros(fastrand::u64(0..3_000)));
                match n % 3 {
                    0 => fs::remove_file(app.current()).unwrap(),
                    1 => fs::remove_dir_all(&app.folder).unwrap(),
                    _ => {}
                }
                app.delete();
                lived.push(app);
            }
            lived
        });
        for _ in 0..20 {
            web.writes(50).rotate();
            verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
        }
        stop.store(true, Ordering::SeqCst);
        churn.join().unwrap()
    });
    web.writes(50);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("bug in Taffrail"), "{}", ended.stderr);
    let documents = node.delivered().unwrap();
    verify::clean(&documents, &[&web]);
    // Of those that were seen before they went, every line that was seen is there once and in its order.
    for pod in &lived {
        let faults = verify::faults(&documents, pod);
        assert!(faults.doubled.is_empty() && faults.out_of_order.is_empty(), "{}: {faults}", pod.pod.name);
    }
    println!("{} pods came and went", lived.len());
}
