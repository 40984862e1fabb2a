//! An exchange with the server goes wrong, at every moment at which one can: everything arrives, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use taffrail_tests::agent::Agent;
use taffrail_tests::fake_clock::FakeClock;
use taffrail_tests::node::Node;
use taffrail_tests::proxy::{Action, Proxy, Welcome};
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Target;
use taffrail_tests::{eventually, http, lies, seconds, verify};

const QUICK: &str = "in_flight = 1\ntimeout = \"3s\"\nretry_initial = \"20ms\"\nretry_max = \"100ms\"\n";

/// The fault of the n-th request that is read, if there is one.
fn fault(number: usize) -> Option<Action> {
    Some(match number {
        0 => Action::Hangup,
        1 => Action::Reset,
        2 => Action::Vanish,
        3 => Action::LoseReply,
        4 => Action::CutReply(0),
        5 => Action::CutReply(40),
        6 => Action::Drip(200, Duration::from_millis(5)),
        7 => Action::Falsify(lies::as_page),
        8 => Action::Falsify(lies::cut_json),
        9 => Action::Falsify(lies::fewer_items),
        10 => Action::Falsify(lies::more_items),
        11 => Action::Answer(lies::redirect()),
        12 => Action::Answer(lies::page(404)),
        13 => Action::Answer(lies::page(502)),
        14 => Action::Answer(lies::busy(503, None)),
        15 => Action::Answer(lies::busy(503, Some(1))),
        16 => Action::Answer(lies::busy(429, Some(1))),
        17 => Action::Answer(lies::too_large()),
        18 => Action::RefuseItems(Box::new(|document| document.contains("7 of web").then_some(429))),
        19 => Action::Falsify(lies::as_text),
        _ => return None,
    })
}

#[test]
fn whatever_goes_wrong_with_a_request_everything_arrives_once() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(300);
    let proxy = Proxy::open(space.server.address(), |number, _| fault(number).unwrap_or(Action::Forward))
        .welcomes(|number| match number {
            1 => Welcome::Reset,
            3 => Welcome::ResetAfter(100),
            5 => Welcome::Ignore,
            7 => Welcome::ReadSlowly(500, Duration::from_millis(2)),
            _ => Welcome::Read,
        });
    let config = space.config_at(&node, proxy.address(), Target::Indices, "{date}") + "\n" + QUICK;
    let agent = Agent::start(&config, &node);
    // A batch for each fault at least, were each to end well at once.
    for _ in 0..30 {
        web.writes(10);
        let seen = proxy.bulks();
        eventually(seconds(90), "a further request", || {
            if proxy.bulks() > seen { Ok(()) } else { Err(format!("{seen} requests")) }
        });
    }
    verify::exactly_once(seconds(90), || space.documents(), &[&web]);
    assert!(fault(proxy.bulks()).is_none() && proxy.spoilt() >= 24, "{} spoilt", proxy.spoilt());
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    verify::clean(&space.documents().unwrap(), &[&web]);
    assert!(!ended.stderr.contains("never sent before"), "{}", ended.stderr);
}

/// The refused one is to be sent once more in another form, when the rest of its batch is settled: which comes back in
/// halves.
#[test]
fn a_refused_record_is_not_forgotten_when_the_rest_of_its_batch_is_too_large() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(40);
    let proxy = Proxy::open(space.server.address(), |number, _| match number {
        0 => Action::RefuseItems(Box::new(|document| match document {
            _ if document.contains("line 7 of") => Some(400),
            _ if document.contains("3 of web") => Some(429),
            _ => None,
        })),
        1 => Action::Answer(lies::too_large()),
        _ => Action::Forward,
    });
    let config = space.config_at(&node, proxy.address(), Target::Indices, "{date}") + "\n" + QUICK;
    let _agent = Agent::start(&config, &node);
    verify::exactly_once(seconds(30), || space.documents(), &[&web]);
}

/// Before a record in doubt is sent again into a data stream, the agent looks for a rollover. Here one happens when the
/// answer to a bulk request has been lost, and the looks are answered as `answer` says, by their number and their request.
/// Everything arrives once, and more than `spoilt` looks are taken.
fn looks_for_a_rollover(spoilt: usize, answer: fn(usize, &http::Request) -> Action) {
    looks_for_a_rollover_by(&[], &Node::new(), spoilt, answer);
}

/// The same by an agent that is started in a way of its own.
fn looks_for_a_rollover_by(
    way: &[String],
    node: &Node,
    spoilt: usize,
    answer: impl Fn(usize, &http::Request) -> Action + Send + 'static,
) {
    let server = Server::shared(Kind::OpenSearch);
    let space = server.space().takes_data_streams();
    let mut web = node.pod("web").container("app");
    web.writes(50);
    let agent = Agent::start(&space.stream(node), node);
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
    assert_eq!(agent.terminate().code, Some(0));

    let (address, rollover) = (server.address(), format!("/{}-default/_rollover", space.prefix));
    let (bulks, looks) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&looks);
    let proxy = Proxy::open(address, move |_, request| {
        if request.target.starts_with("/_bulk") {
            return if bulks.fetch_add(1, Ordering::SeqCst) == 0 {
                Action::LoseReply
            } else {
                Action::Forward
            };
        }
        let look = count.fetch_add(1, Ordering::SeqCst);
        if look == 1 {
            // The answer to the bulk request was lost just now.
            let reply = http::send(address, "POST", &rollover, b"").expect("a server that answers");
            assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        }
        answer(look, request)
    })
    .spoils_all();
    web.writes(50);
    let config = space.config_at(node, proxy.address(), Target::DataStreams, "{namespace}") + "\n" + QUICK;
    // What is there at a start is in doubt: the first look comes before anything is sent.
    let agent = Agent::start_by(way, &config, node);
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
    eventually(seconds(60), "looks that went well", || {
        let looks = looks.load(Ordering::SeqCst);
        if looks > spoilt { Ok(()) } else { Err(looks.to_string()) }
    });
    web.writes(50);
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
    let ended = agent.terminate();
    assert!(!ended.stderr.contains("cannot ask the backing indices"), "{}", ended.stderr);
}

/// An answer that is none is no reason to go on without having looked.
#[test]
fn a_look_for_a_rollover_that_is_not_answered_truly_is_taken_again() {
    looks_for_a_rollover(24, |look, request| {
        // The indices are asked for first, and again from the beginning when they cannot be asked for the documents.
        let is_spoilt = look < 12 || (request.method == "POST" && look < 24);
        match look % 6 {
            _ if look == 0 || !is_spoilt => Action::Forward,
            0 => Action::Falsify(lies::as_page),
            1 => Action::Answer(lies::redirect()),
            2 => Action::Falsify(lies::cut_json),
            3 => Action::CutReply(20),
            4 => Action::Answer(lies::page(502)),
            _ => Action::Reset,
        }
    });
}

/// A server that has just begun knows of no index yet, then of indices whose documents it cannot get. It says so of each
/// index, or of each document, under statuses that say of themselves that all is well.
#[test]
fn a_server_that_has_just_begun_is_asked_for_a_rollover_until_it_knows() {
    looks_for_a_rollover(16, has_just_begun);
}

fn has_just_begun(look: usize, request: &http::Request) -> Action {
    let asks_for_documents = request.target.contains("/_mget");
    match look {
        0 => Action::Forward,
        1..8 if asks_for_documents => Action::Answer(lies::not_recovered()),
        1..8 => Action::Answer(lies::no_such_index()),
        8..16 if asks_for_documents => Action::Falsify(lies::no_shards),
        _ => Action::Forward,
    }
}

/// How long it is asked is no matter of what the wall clock says, which is set meanwhile.
#[test]
fn a_clock_that_is_set_gives_no_index_up_that_is_about_to_be_served() {
    for hours in [1, -1] {
        let node = Node::new();
        let Some(clock) = FakeClock::new(&node, "a_clock_that_is_set_gives_no_index_up") else { return };
        let way = clock.way();
        looks_for_a_rollover_by(&way, &node, 16, move |look, request| {
            if look == 8 {
                clock.jumps(hours);
            }
            has_just_begun(look, request)
        });
    }
}

/// What is left of a batch waits for its next try, even if that is long in coming, and the only request that may be in
/// flight is another's meanwhile.
#[test]
fn a_few_records_that_are_refused_for_now_keep_nobody_waiting() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let (mut web, mut api) = (node.pod("web").container("app"), node.pod("api").container("app"));
    let refuses = |document: &str| document.contains("line 7 of web").then_some(429);
    let proxy = Proxy::open(space.server.address(), move |_, _| Action::RefuseItems(Box::new(refuses)));
    let slow = "in_flight = 1\nretry_initial = \"1h\"\nretry_max = \"1h\"\n";
    let config = space.config_at(&node, proxy.address(), Target::Indices, "{date}") + "\n" + slow;
    web.writes(50);
    let agent = Agent::start(&config, &node);
    let stored = |count: usize| {
        eventually(seconds(60), "all but one", || match space.documents()?.len() {
            found if found == count => Ok(()),
            found => Err(found.to_string()),
        });
    };
    stored(49);
    api.writes(50);
    stored(99);
    drop(agent);
}
