//! Records that rotation has cut, over restarts and faults; and what becomes of a rotated file.

use std::io::Write;

use super::*;

const LIVE: &str = "a_b_u/app/0.log";
const ROTATED: &str = "a_b_u/app/0.log.20261123-100000";

fn line(form: char, message: &str) -> String {
    format!("2026-11-23T10:00:00Z stdout {form} {message}\n")
}

impl World {
    /// Lets the worker do all that there is to be done, until it has nothing but the live file left to read.
    fn reads_all(&self, worker: &mut Worker) {
        let until = soon();
        loop {
            self.catalog.refresh(soon());
            worker.take_news();
            worker.cuts_looked = Instant::now() - turns::LOOK_FOR_CUTS;
            while worker.step() {}
            worker.tell_lag();
            let reading = &worker.containers[0];
            if reading.cursors.len() == 1
                && !reading.shelf.has_waiting()
                && reading.cursors[0].file.name.is_live()
            {
                return;
            }
            assert!(until > Instant::now(), "{:?}", self.messages());
        }
    }
}

#[test]
fn a_record_that_rotation_has_cut_is_not_sent_in_pieces_by_the_next_process() {
    for packed in [false, true] {
        let world = World::with(&[(LIVE, &(line('F', "b") + &line('F', "c")))]);
        let rotated = line('P', "a");
        if packed {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(rotated.as_bytes()).unwrap();
            fs::write(world.log(&format!("{ROTATED}.gz")), gz.finish().unwrap()).unwrap();
        } else {
            fs::write(world.log(ROTATED), rotated).unwrap();
        }
        for _ in 0..3 {
            let mut worker = world.worker();
            world.reads_all(&mut worker);
            assert_eq!(world.messages(), ["ab", "c"], "packed: {packed}");
        }
        append(&world.log(LIVE), &line('F', "d"));
        let mut worker = world.worker();
        world.reads_all(&mut worker);
        assert_eq!(world.messages(), ["ab", "c", "d"], "packed: {packed}");
    }
}

#[test]
fn what_is_cut_off_a_rotated_file_before_it_was_read_is_counted_as_lost() {
    let rotated = line('F', "a") + &line('F', "b");
    let world = World::with(&[(ROTATED, &rotated), (LIVE, &line('F', "c"))]);
    let mut worker = world.worker();
    fs::write(world.log(ROTATED), "").unwrap();
    world.reads_all(&mut worker);
    assert_eq!(world.messages(), ["c"]);
    assert_eq!(worker.stats.losses.of(LossReason::Cut).bytes, rotated.len() as u64);
}

#[test]
fn what_is_cut_off_a_rotated_file_while_a_record_of_it_is_open_is_counted_as_lost() {
    let rotated = line('F', "a") + &line('P', "b");
    let world = World::with(&[(ROTATED, &rotated), (LIVE, &line('P', "c"))]);
    let mut worker = world.worker();
    worker.settings.rules.join_gap = Duration::from_secs(3600);
    while worker.containers[0].cursors.first().is_none_or(|cursor| !cursor.is_settled() || !cursor.has_open())
    {
        world.catalog.refresh(soon());
        while worker.step() {}
    }
    fs::write(world.log(ROTATED), "").unwrap();
    append(&world.log(LIVE), &line('F', "d"));
    world.reads_all(&mut worker);
    let messages = world.messages();
    assert_eq!((messages[0].as_str(), messages.last().unwrap().as_str()), ("a", "cd"));
    assert_eq!(worker.stats.losses.of(LossReason::Cut).bytes, line('P', "b").len() as u64);
}

#[test]
fn a_record_whose_end_was_cut_off_with_the_next_file_holds_nothing_back() {
    let world = World::with(&[(ROTATED, &line('P', "a")), (LIVE, &line('P', "b"))]);
    let mut worker = world.worker();
    worker.settings.rules.join_gap = Duration::from_secs(3600);
    // It is looked into, and found to go on there.
    while worker.containers[0].cursors.len() < 2 {
        world.catalog.refresh(soon());
        while worker.step() {}
    }
    fs::write(world.log(LIVE), "").unwrap();
    world.catalog.refresh(soon());
    append(&world.log(LIVE), &(line('F', "c") + &line('F', "d")));
    world.reads_all(&mut worker);
    assert_eq!(world.messages(), ["a", "c", "d"]);
}
