//! What the way to a server is like, and the faults that follow from it.
//!
//! What comes in: a mood, which the schedule changes, and a seed. What goes out: a proxy that spoils exchanges
//! accordingly: which of them is drawn by the seed and the number of the request. It never changes a document.

use crate::clock;
use crate::http::Request;
use crate::lies;
use crate::proxy::{Action, Proxy, Welcome};
use fastrand::Rng;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How exchanges go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// They do not.
    Calm,
    /// Connections are reset, before, while or after a request is read.
    Resetting,
    /// Requests are not read, or not answered, and connections stay open.
    Silent,
    /// What is asked is done, and the answer is lost.
    Lossy,
    /// Bytes drip.
    Slow,
    /// Answers are cut short, or false.
    Lying,
    /// A gateway answers: pages, redirects.
    Gateway,
    /// 429 and 503, with and without Retry-After.
    Busy,
    /// Items are answered 429.
    Refusing,
    /// Large requests are answered 413.
    TooLarge,
}

impl Mood {
    /// All that are bad.
    pub const ALL: [Mood; 9] = [
        Mood::Resetting,
        Mood::Silent,
        Mood::Lossy,
        Mood::Slow,
        Mood::Lying,
        Mood::Gateway,
        Mood::Busy,
        Mood::Refusing,
        Mood::TooLarge,
    ];
}

/// A mood, and how many of a hundred exchanges it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moods {
    /// How they go wrong.
    pub mood: Mood,
    /// How many of a hundred do.
    pub percent: u32,
}

impl Moods {
    /// Nothing goes wrong.
    pub const CALM: Moods = Moods { mood: Mood::Calm, percent: 0 };
}

/// Above this a request is too large, where that is the mood.
const TOO_LARGE: usize = 64 << 10;

/// A proxy of changing moods.
pub struct Way {
    /// The proxy.
    pub proxy: Proxy,
    mood: Arc<Mutex<Moods>>,
}

impl Way {
    /// A way to this server. Into `trace` goes a line for each request that was read.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn to(upstream: SocketAddr, seed: u64, mut trace: File) -> Way {
        let mood = Arc::new(Mutex::new(Moods::CALM));
        let (before, after) = (Arc::clone(&mood), Arc::clone(&mood));
        // A draw of its own for each request: what threads are quicker than others changes none of them.
        let draw = move |side: u64, number: usize| {
            Rng::with_seed(seed ^ side << 62 ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        };
        let proxy = Proxy::open(upstream, move |number, request| {
            let moods = *after.lock().expect("no thread panicked");
            let mut random = draw(1, number);
            let action = if random.u32(..100) < moods.percent {
                action(moods.mood, request, &mut random)
            } else {
                Action::Forward
            };
            let _ = writeln!(trace, "{}", traced(number, request, &action));
            action
        });
        let proxy = proxy.spoils_all().welcomes(move |number| {
            let moods = *before.lock().expect("no thread panicked");
            let mut random = draw(2, number);
            if random.u32(..100) < moods.percent { welcome(moods.mood, &mut random) } else { Welcome::Read }
        });
        Way { proxy, mood }
    }

    /// Changes the mood.
    ///
    /// # Panics
    /// When a rule of the proxy's has.
    pub fn turns(&self, moods: Moods) {
        *self.mood.lock().expect("no thread panicked") = moods;
    }
}

/// What people want to know of a request that a run shows to have gone wrong: when, what, how it ended, and its `_id`s.
fn traced(number: usize, request: &Request, action: &Action) -> String {
    let fate = match action {
        Action::Forward => "forward",
        Action::LoseReply | Action::CutReply(_) => "carried out, reply lost",
        Action::Drip(..) => "carried out, reply slow",
        Action::Falsify(_) => "carried out, reply false",
        Action::RefuseItems(_) => "items refused",
        Action::Answer(_) | Action::Hangup | Action::Reset | Action::Vanish => "not carried out",
    };
    let body = String::from_utf8_lossy(&request.plain_body().unwrap_or_default()).into_owned();
    let ids: Vec<&str> = body.split("\"_id\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let (now, path) = (clock::rfc3339(clock::now()), request.target.split('?').next().unwrap_or_default());
    format!("{now} #{number} {path} {fate}: {} items {}", ids.len(), ids.join(" "))
}

fn welcome(mood: Mood, random: &mut Rng) -> Welcome {
    match (mood, random.u32(..4)) {
        (Mood::Resetting, 0) => Welcome::Reset,
        (Mood::Resetting, 1) => Welcome::ResetAfter(random.usize(1..5_000)),
        (Mood::Silent, 0) => Welcome::Ignore,
        (Mood::Slow, 0 | 1) => {
            Welcome::ReadSlowly(random.usize(500..20_000), Duration::from_millis(random.u64(1..40)))
        }
        _ => Welcome::Read,
    }
}

fn action(mood: Mood, request: &Request, random: &mut Rng) -> Action {
    let dice = random.u32(..6);
    match mood {
        Mood::Calm => Action::Forward,
        Mood::Resetting if dice < 3 => Action::Reset,
        Mood::Resetting => Action::Hangup,
        Mood::Silent => Action::Vanish,
        Mood::Lossy => Action::LoseReply,
        Mood::Slow => Action::Drip(random.usize(20..2_000), Duration::from_millis(random.u64(1..60))),
        Mood::Lying => match dice {
            0 => Action::CutReply(random.usize(..200)),
            1 => Action::Falsify(lies::cut_json),
            2 => Action::Falsify(lies::fewer_items),
            3 => Action::Falsify(lies::more_items),
            4 => Action::Falsify(lies::as_page),
            _ => Action::Falsify(lies::as_text),
        },
        // Not 403 and 404, which say that a look for rollovers is not permitted: the agent then goes on without.
        Mood::Gateway => Action::Answer(match dice {
            0 => lies::redirect(),
            1 => lies::page(200),
            _ => lies::page([500, 502, 503, 504][dice as usize - 2]),
        }),
        Mood::Busy => {
            let asked = if random.bool() { Some(random.u32(..3)) } else { None };
            Action::Answer(lies::busy(if random.bool() { 429 } else { 503 }, asked))
        }
        Mood::Refusing => {
            let (salt, share) = (random.u64(..), random.u64(1..100));
            Action::RefuseItems(Box::new(move |document| {
                let sum = document.bytes().fold(salt, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
                (sum % 100 < share).then_some(429)
            }))
        }
        Mood::TooLarge => {
            let plain = request.plain_body().unwrap_or_default();
            // A single item that is too large would be a dead letter.
            let items = plain.iter().filter(|byte| **byte == b'\n').count() / 2;
            if plain.len() > TOO_LARGE && items > 1 {
                Action::Answer(lies::too_large())
            } else {
                Action::Forward
            }
        }
    }
}
