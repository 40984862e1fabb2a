//! A small fleet restarts as a large one does.

use taffrail_fleet::{Fleet, Restart};

#[test]
fn agents_that_restart_together_ask_once_each_and_not_together() {
    let fleet = Fleet::new(30, 2);
    let [known, unknown, in_step] =
        [Restart::Known, Restart::Unknown, Restart::InStep].map(|how| fleet.restart(how));
    println!("{known:?}\n{unknown:?}\n{in_step:?}");
    for outcome in [known, unknown, in_step] {
        assert_eq!((outcome.requests, outcome.failures), (30, 0), "one request brings everything");
    }
    // Over ten seconds at most where nobody waits, over two and a half where somebody does.
    assert!(known.peak <= 15 && known.peak < in_step.peak, "{known:?} {in_step:?}");
    assert!(unknown.peak <= in_step.peak && unknown.half < known.all, "{unknown:?} {known:?}");
}
