//! A stand-in of the reading side of Kinesis, as AWS documents it, for what moto leaves out: closed shards that end,
//! iterators that expire, and five calls a second for a shard.
//!
//! What comes in: records and splits of a test, and the calls of a reader. What goes out: what is in the shards; and as a
//! violation, whatever no reader may do: a child read before its parent was read to its end, more calls than are allowed.

use crate::http::{self, Reply, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// GetRecords: "five transactions per second, per shard".
const A_SECOND: usize = 5;

/// The stream.
pub struct Kinesis {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    shards: Vec<Shard>,
    sequence: u64,
    iterators: BTreeMap<String, (usize, u64)>,
    given: u64,
    violations: Vec<String>,
    throttled: usize,
    expired: usize,
}

#[derive(Default)]
struct Shard {
    parent: Option<usize>,
    records: Vec<(u64, String)>,
    closed: bool,
    /// A reader was told that it is at its end.
    ended: bool,
    calls: Vec<Instant>,
}

fn name(shard: usize) -> String {
    format!("shardId-{shard:012}")
}

impl Kinesis {
    /// Begins to listen, with one shard.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn open() -> Kinesis {
        Kinesis::open_with(1)
    }

    /// The same with so many shards.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn open_with(shards: usize) -> Kinesis {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port's number");
        let shards = (0..shards).map(|_| Shard::default()).collect();
        let state = Arc::new(Mutex::new(State { shards, ..State::default() }));
        let served = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = served.clone();
                // The end of a connection is an error here and nobody's concern.
                thread::spawn(move || serve(&stream, &state));
            }
        });
        Kinesis { address, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts a record, in base64, on an open shard.
    ///
    /// # Panics
    /// When the shard is closed.
    pub fn put(&self, shard: usize, data: &str) {
        let mut state = lock(&self.state);
        state.sequence += 1;
        let sequence = state.sequence;
        assert!(!state.shards[shard].closed, "nothing comes into a closed shard");
        state.shards[shard].records.push((sequence, data.to_owned()));
    }

    /// Splits a shard: it is closed, and has two children from now on, whose numbers are given.
    pub fn split(&self, shard: usize) -> [usize; 2] {
        let mut state = lock(&self.state);
        state.shards[shard].closed = true;
        [(); 2].map(|()| {
            state.shards.push(Shard { parent: Some(shard), ..Shard::default() });
            state.shards.len() - 1
        })
    }

    /// No iterator that was given out is valid any more.
    pub fn expire(&self) {
        lock(&self.state).iterators.clear();
    }

    /// What no reader may do and one did; and how many calls were throttled, or came with an expired iterator.
    pub fn seen(&self) -> (Vec<String>, usize, usize) {
        let state = lock(&self.state);
        (state.violations.clone(), state.throttled, state.expired)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread panicked")
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = http::read_request(&mut reader, &mut &*stream)? {
        let reply = lock(state).answer(&request);
        (&*stream).write_all(&http::message_of(&reply))?;
    }
    Ok(())
}

fn refusal(code: &str) -> Reply {
    Reply::json(400, &json!({ "__type": code, "message": code }))
}

impl State {
    fn answer(&mut self, request: &Request) -> Reply {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let action = request.header("x-amz-target").unwrap_or_default();
        match action.strip_prefix("Kinesis_20131202.").unwrap_or_default() {
            "ListShards" => self.list(),
            "GetShardIterator" => self.iterator(&body),
            "GetRecords" => self.records(&body),
            _ => refusal("UnknownOperationException"),
        }
    }

    fn list(&self) -> Reply {
        let shard = |(at, shard): (usize, &Shard)| {
            let mut shown = json!({ "ShardId": name(at), "HashKeyRange": { "StartingHashKey": "0", "EndingHashKey": "1" },
                "SequenceNumberRange": { "StartingSequenceNumber": "0" } });
            if let Some(parent) = shard.parent {
                shown["ParentShardId"] = name(parent).into();
            }
            if shard.closed {
                shown["SequenceNumberRange"]["EndingSequenceNumber"] = "999999".into();
            }
            shown
        };
        let shards: Vec<Value> = self.shards.iter().enumerate().map(shard).collect();
        Reply::json(200, &json!({ "Shards": shards }))
    }

    fn iterator(&mut self, body: &Value) -> Reply {
        let wanted = body["ShardId"].as_str().unwrap_or_default();
        let Some(shard) = (0..self.shards.len()).find(|at| name(*at) == wanted) else {
            return refusal("ResourceNotFoundException");
        };
        let parent = self.shards[shard].parent;
        if parent.is_some_and(|parent| !self.shards[parent].ended) {
            self.violations.push(format!("{wanted} is read before its parent's end"));
        }
        let after = body["StartingSequenceNumber"].as_str().and_then(|number| number.parse().ok());
        let iterator = self.give(shard, after.unwrap_or(0));
        Reply::json(200, &json!({ "ShardIterator": iterator }))
    }

    fn give(&mut self, shard: usize, after: u64) -> String {
        self.given += 1;
        let iterator = format!("iterator-{}", self.given);
        self.iterators.insert(iterator.clone(), (shard, after));
        iterator
    }

    fn records(&mut self, body: &Value) -> Reply {
        let Some((at, after)) = self.iterators.remove(body["ShardIterator"].as_str().unwrap_or_default())
        else {
            self.expired += 1;
            return refusal("ExpiredIteratorException");
        };
        let shard = &mut self.shards[at];
        shard.calls.retain(|call| call.elapsed() < Duration::from_secs(1));
        if shard.calls.len() >= A_SECOND {
            self.throttled += 1;
            // It may be used again.
            self.iterators.insert(body["ShardIterator"].as_str().unwrap_or_default().to_owned(), (at, after));
            return refusal("ProvisionedThroughputExceededException");
        }
        shard.calls.push(Instant::now());
        let limit = body["Limit"].as_u64().unwrap_or(10_000).min(7) as usize;
        let some: Vec<_> = shard.records.iter().filter(|(n, _)| *n > after).take(limit).cloned().collect();
        let last = some.last().map_or(after, |(number, _)| *number);
        let is_end = shard.closed && shard.records.iter().all(|(number, _)| *number <= last);
        shard.ended |= is_end;
        let next = if is_end { Value::Null } else { self.give(at, last).into() };
        let shown: Vec<Value> = some
            .iter()
            .map(|(number, data)| json!({ "SequenceNumber": number.to_string(), "Data": data, "PartitionKey": "p" }))
            .collect();
        Reply::json(200, &json!({ "Records": shown, "NextShardIterator": next, "MillisBehindLatest": 0 }))
    }
}
