//! Records that CloudWatch does not take for their time: 15 days old, three hours ahead.

use super::kit::World;
use taffrail_tests::agent::Agent;
use taffrail_tests::clock;
use taffrail_tests::cloudwatch::Action;
use taffrail_tests::node::Container;
use taffrail_tests::{eventually, seconds};

const HOUR: u64 = 3_600_000_000_000;

/// Five lines of 15 days ago, ten of now, five of three hours ahead.
fn writes(web: &mut Container) {
    let now = clock::now();
    let mut line = |at: u64, text: String| {
        web.writes_raw(format!("{} stdout F {text}\n", clock::rfc3339(at)).as_bytes());
    };
    (0..5).for_each(|n| line(now - 15 * 24 * HOUR + n, format!("old {n}")));
    (0..10).for_each(|n| line(now + n, format!("fresh {n}")));
    (0..5).for_each(|n| line(now + 3 * HOUR + n, format!("ahead {n}")));
}

fn world(rejected: &str, format: &str) -> (World, Container, Agent) {
    let world = World::new(|_| Action::Do);
    let mut web = world.node.pod("web").container("app");
    writes(&mut web);
    let agent =
        world.agent(&format!("max_age = \"2000h\"\nformat = \"{format}\"\nrejected = \"{rejected}\""));
    (world, web, agent)
}

fn texts(world: &World, web: &Container) -> Vec<String> {
    world.stored(web).into_iter().map(|event| event.message).collect()
}

#[test]
fn they_are_dropped_and_counted_by_container() {
    let (world, web, agent) = world("drop", "raw");
    world.takes(10);
    eventually(seconds(30), "to be told", || {
        let said = agent.stderr();
        if said.contains("too_old") && said.contains("too_new") { Ok(()) } else { Err(said) }
    });
    let ended = agent.terminate();
    assert_eq!(texts(&world, &web), (0..10).map(|n| format!("fresh {n}")).collect::<Vec<_>>());
    assert_eq!(
        ended.stderr.matches("rejected a record").count(),
        2,
        "once for each reason: {}",
        ended.stderr
    );
    assert!(ended.stderr.contains("default/web/app"), "{}", ended.stderr);
    // Bytes by reason.
    assert!(ended.stderr.contains("too_old 25, too_new 35"), "{}", ended.stderr);
    world.clean();
}

#[test]
fn they_are_kept_as_dead_letters() {
    let (world, web, agent) = world("dead_letter", "json");
    world.takes(10);
    let letters = world.node.state().join("dead-letters/cw.ndjson");
    eventually(seconds(30), "dead letters", || {
        let kept = std::fs::read_to_string(&letters).unwrap_or_default();
        if kept.lines().count() == 10 { Ok(()) } else { Err(kept) }
    });
    let kept = std::fs::read_to_string(&letters).unwrap();
    for n in 0..5 {
        assert!(
            kept.contains(&format!("\"message\":\"old {n}\"")) && kept.contains(&format!("ahead {n}")),
            "{kept}"
        );
    }
    assert!(kept.contains("\"type\":\"too_old\"") && kept.contains("\"type\":\"too_new\""), "{kept}");
    assert!(kept.contains(&format!("\"index\":\"{}:default/web/app\"", world.group)), "{kept}");
    assert_eq!(texts(&world, &web).len(), 10);
    assert_eq!(agent.terminate().code, Some(0));
    world.clean();
}

#[test]
fn dead_letters_are_listed_and_sent_again_and_what_is_rejected_once_more_stays() {
    for format in ["raw", "compact"] {
        let (world, web, agent) = world("dead_letter", format);
        world.takes(10);
        let letters = || world.runs(&["dead-letter", "list"], "").stdout;
        eventually(seconds(60), "dead letters", || {
            let listed = letters();
            if listed.lines().count() == 10 { Ok(()) } else { Err(listed) }
        });
        assert_eq!(agent.terminate().code, Some(0));
        let before = world.stored(&web).len();
        // Whatever the output does with what is rejected, a replay drops nothing.
        let again = world.runs(&["dead-letter", "replay"], "rejected = \"drop\"");
        assert!(
            again.stdout.contains("10 sent again, 10 refused once more"),
            "{}{}",
            again.stdout,
            again.stderr
        );
        assert!(
            again.code == Some(1) && again.stderr.contains("10 of 10 were refused once more, and are kept"),
            "{}",
            again.stderr
        );
        assert_eq!((letters().lines().count(), world.stored(&web).len()), (10, before));
        let again =
            world.runs(&["dead-letter", "replay"], &format!("format = \"{format}\"\nrejected = \"now\""));
        assert!(
            again.stdout.contains("10 sent again, 0 refused once more"),
            "{}{}",
            again.stdout,
            again.stderr
        );
        assert_eq!(letters(), "");
        let texts = texts(&world, &web);
        for n in 0..5 {
            for kind in ["old", "ahead"] {
                let line = format!("{kind} {n}");
                let found = texts.iter().filter(|text| match format {
                    "raw" => text.starts_with("[2") && text.ends_with(&format!("] {line}")),
                    _ => text.contains(&format!("\"message\":\"{line}\"")),
                });
                assert_eq!(found.count(), 1, "{line}: {texts:?}");
            }
        }
        // Compact ones come with the metadata that they refer to.
        super::kit::documents(&world.stored(&web), &web);
        world.clean();
    }
}

#[test]
fn they_are_sent_with_the_time_now_and_say_their_own() {
    let (world, web, agent) = world("now", "raw");
    world.takes(20);
    let texts = texts(&world, &web);
    assert_eq!(texts.len(), 20);
    for n in 0..5 {
        for kind in ["old", "ahead"] {
            let found = texts.iter().find(|text| text.ends_with(&format!("Z] {kind} {n}")));
            assert!(found.is_some_and(|text| text.starts_with("[2")), "{texts:?}");
        }
    }
    let now = (clock::now() / 1_000_000) as i64;
    assert!(world.stored(&web).iter().all(|event| (event.time - now).abs() < 120_000));
    assert_eq!(agent.terminate().code, Some(0));
    world.clean();
}

#[test]
fn a_document_has_its_own_time_anyway() {
    let (world, web, agent) = world("now", "json");
    world.takes(20);
    let documents = super::kit::documents(&world.stored(&web), &web);
    let old = documents.iter().find(|document| document.message() == "old 3").expect("it is there");
    assert_eq!(old.text("@timestamp")[..10], clock::rfc3339(clock::now() - 15 * 24 * HOUR)[..10]);
    assert_eq!(agent.terminate().code, Some(0));
    world.clean();
}
