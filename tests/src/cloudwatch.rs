//! A strict CloudWatch Logs: refuses exactly what AWS documents as refused, and misbehaves on demand.
//!
//! What comes in: signed calls of the JSON protocol. What goes out: what is legal goes on to [`crate::moto`] (or is only
//! counted, where there is none); everything else is refused as AWS would and entered as a violation, which no test may
//! have. A test's rule throttles, fails, delays, resets and loses answers. It never changes an event. What set-up calls beside,
//! of other services too, is answered by [`setup`].

mod setup;

use crate::http::{self, Reply, Request};
use crate::sigv4;
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The key that calls must be signed with.
pub const KEY: (&str, &str) = ("AKIDTAFFRAIL", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");

/// The region that they must be signed for.
pub const REGION: &str = "us-east-1";

/// PutLogEvents: bytes and events of a call, bytes that each event counts besides its text, the span of a call.
const CALL_BYTES: usize = 1_048_576;
const CALL_EVENTS: usize = 10_000;
const OVERHEAD: usize = 26;
const DAY: i64 = 24 * 3_600_000;

/// Quota: CreateLogStream a second.
const STREAMS_A_SECOND: usize = 50;

/// What the service does with a call that is legal.
#[derive(Debug, Clone)]
pub enum Action {
    /// What was asked.
    Do,
    /// It says ThrottlingException.
    Throttle,
    /// It says AccessDeniedException, as IAM words it.
    Deny,
    /// It says this code with these words.
    Say(&'static str, String),
    /// It says that it is unavailable (503).
    Fail,
    /// It does what was asked, and the connection closes before the answer.
    LoseReply,
    /// It does nothing, and resets the connection.
    Reset,
    /// It does what was asked, later.
    Delay(Duration),
}

/// A call, for a test's rule.
#[derive(Debug)]
pub struct Call<'a> {
    /// Such as `PutLogEvents`.
    pub action: &'a str,
    /// Its number among all calls.
    pub number: usize,
    /// `logGroupName`.
    pub group: &'a str,
    /// `logStreamName`, if it has one.
    pub stream: &'a str,
}

type Rule = Box<dyn FnMut(&Call<'_>) -> Action + Send>;

/// What has been seen.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// What no client may do.
    pub violations: Vec<String>,
    /// Calls that were carried out, by action.
    pub calls: BTreeMap<String, usize>,
    /// Events that were taken.
    pub events: u64,
    /// Of these, those of calls whose answer was lost.
    pub lost: u64,
    /// Events that were rejected for their time.
    pub rejected: u64,
    /// Calls that the rule throttled, failed or reset.
    pub spoilt: u64,
    /// Calls of a stream that came while another of it was under way: allowed, but their order would be lost. What a killed
    /// agent has left under way counts too.
    pub overlaps: u64,
    /// Calls that were carried out, in their order: `logs:CreateLogGroup`, `iam:CreateRole`. Without PutLogEvents.
    pub log: Vec<String>,
    /// Bodies of calls that make or change groups.
    pub made: Vec<Value>,
}

struct Shared {
    moto: Option<SocketAddr>,
    rule: Mutex<(usize, Rule)>,
    seen: Mutex<Seen>,
    /// Without moto: the streams of each group.
    held: Mutex<HashMap<String, HashSet<String>>>,
    /// Retention of groups, in days.
    retention: Mutex<HashMap<String, i64>>,
    /// Streams with a call under way: their order would be lost.
    busy: Mutex<HashSet<(String, String)>>,
    /// What stand-ins keep.
    beside: Mutex<setup::Beside>,
    /// When streams were made lately.
    made: Mutex<VecDeque<Instant>>,
    closed: AtomicBool,
}

/// The service.
pub struct CloudWatch {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A refusal: status, code and words.
type Refusal = (u16, &'static str, String);

impl CloudWatch {
    /// Begins to listen.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn open(
        moto: Option<SocketAddr>,
        rule: impl FnMut(&Call<'_>) -> Action + Send + 'static,
    ) -> CloudWatch {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port's number");
        let shared = Arc::new(Shared {
            moto,
            rule: Mutex::new((0, Box::new(rule))),
            seen: Mutex::default(),
            held: Mutex::default(),
            retention: Mutex::default(),
            busy: Mutex::default(),
            beside: Mutex::default(),
            made: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let served = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.closed.load(Ordering::SeqCst) {
                    return;
                }
                let shared = served.clone();
                // The end of a connection, by whichever side, is an error here and nobody's concern.
                thread::spawn(move || shared.serve(&stream));
            }
        });
        CloudWatch { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        lock(&self.shared.seen).clone()
    }

    /// Another rule from now on.
    pub fn obeys(&self, rule: impl FnMut(&Call<'_>) -> Action + Send + 'static) {
        lock(&self.shared.rule).1 = Box::new(rule);
    }
}

impl Drop for CloudWatch {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(1 << 16, stream);
        while let Some(request) = http::read_request(&mut reader, &mut &*stream)? {
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
            let (group, name) = (text("logGroupName"), text("logStreamName"));
            let target = request.header("x-amz-target").unwrap_or_default();
            let mut action = target.strip_prefix("Logs_20140328.").unwrap_or_default().to_owned();
            let scope = request.header("authorization").unwrap_or_default();
            let service = scope.split('/').nth(3).unwrap_or_default();
            if ["iam", "lambda"].contains(&service) {
                action = setup::action_of(service, &request);
            }
            let call = |number| Call { action: &action, number, group: &group, stream: &name };
            let decided = {
                let mut rule = lock(&self.rule);
                rule.0 += 1;
                let number = rule.0 - 1;
                (rule.1)(&call(number))
            };
            if !matches!(decided, Action::Do | Action::LoseReply | Action::Delay(_)) {
                lock(&self.seen).spoilt += 1;
            }
            let reply = match &decided {
                Action::Throttle => refusal((400, "ThrottlingException", "Rate exceeded".into())),
                Action::Say(code, what) => refusal((400, code, what.clone())),
                Action::Fail => refusal((503, "ServiceUnavailableException", "The service cannot".into())),
                Action::Deny => refusal((
                    400,
                    "AccessDeniedException",
                    format!(
                        "User: arn:aws:sts::123456789012:assumed-role/node/i-1 is not authorized to perform: logs:{action} on resource: arn:aws:logs:{REGION}:123456789012:log-group:{group}:log-stream:{name} because no identity-based policy allows the logs:{action} action"
                    ),
                )),
                Action::Reset => {
                    set_socket_linger(stream, Some(Duration::ZERO))?;
                    return Ok(());
                }
                Action::Do | Action::LoseReply | Action::Delay(_) => {
                    if let Action::Delay(time) = decided {
                        crate::let_pass(time);
                    }
                    let before = lock(&self.seen).events;
                    let reply = self.carry_out(&request, &action, &body, (&group, &name));
                    if matches!(decided, Action::LoseReply) {
                        let mut seen = lock(&self.seen);
                        seen.lost += if reply.status == 200 { seen.events - before } else { 0 };
                        return Ok(());
                    }
                    reply
                }
            };
            (&*stream).write_all(&http::message_of(&reply))?;
        }
        Ok(())
    }

    fn violation(&self, code: &'static str, what: String) -> Refusal {
        lock(&self.seen).violations.push(what.clone());
        (400, code, what)
    }

    fn carry_out(&self, request: &Request, action: &str, body: &Value, (group, name): (&str, &str)) -> Reply {
        if let Err(refused) = self.check(request, action, body, (group, name)) {
            return refusal(refused);
        }
        if action.contains(':') {
            let reply = self.other_service(request, action);
            if reply.status < 300 {
                lock(&self.seen).log.push(action.to_owned());
            }
            return reply;
        }
        if action != "PutLogEvents" {
            if action == "PutRetentionPolicy" {
                let days = body["retentionInDays"].as_i64().unwrap_or_default();
                lock(&self.retention).insert(group.to_owned(), days);
            }
            if ["CreateLogGroup", "PutRetentionPolicy"].contains(&action) {
                lock(&self.seen).made.push(body.clone());
            }
            let reply = match (self.stand_in(action, body), self.moto) {
                (Some(reply), _) => reply,
                (None, Some(address)) => self.completed(action, body, forward(address, request)),
                (None, None) => self.keep(action, group, name),
            };
            if reply.status == 200 {
                let mut seen = lock(&self.seen);
                *seen.calls.entry(action.to_owned()).or_default() += 1;
                seen.log.push(format!("logs:{action}"));
            }
            return reply;
        }
        let stream = (group.to_owned(), name.to_owned());
        if !lock(&self.busy).insert(stream.clone()) {
            lock(&self.seen).overlaps += 1;
        }
        let reply = self.put(request, body, (group, name));
        lock(&self.busy).remove(&stream);
        reply
    }

    /// Takes what is of the right time, and says what is not.
    fn put(&self, request: &Request, body: &Value, (group, name): (&str, &str)) -> Reply {
        let events = body["logEvents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let time = |event: &Value| event["timestamp"].as_i64().unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let days = lock(&self.retention).get(group).copied().unwrap_or(i64::MAX / DAY);
        let old = events.partition_point(|event| time(event) < now - 14 * DAY);
        let expired =
            events.partition_point(|event| time(event) < now.saturating_sub(days.saturating_mul(DAY)));
        let new = events.partition_point(|event| time(event) <= now + DAY / 12);
        let accepted = old.max(expired).min(new)..new;
        let mut reply = match self.moto {
            Some(address) => {
                let mut legal = body.clone();
                legal["logEvents"] = json!(events[accepted.clone()]);
                forward(address, &Request { body: legal.to_string().into_bytes(), ..request.clone() })
            }
            None if lock(&self.held).get(group).is_some_and(|streams| streams.contains(name)) => {
                Reply::json(200, &json!({}))
            }
            None => missing(),
        };
        if reply.status != 200 {
            return reply;
        }
        let mut info = json!({});
        if old > 0 {
            info["tooOldLogEventEndIndex"] = json!(old);
        }
        if expired > 0 && days < 14 {
            info["expiredLogEventEndIndex"] = json!(expired);
        }
        if new < events.len() {
            info["tooNewLogEventStartIndex"] = json!(new);
        }
        let mut answer = json!({ "nextSequenceToken": "0" });
        if info.as_object().is_some_and(|info| !info.is_empty()) {
            answer["rejectedLogEventsInfo"] = info;
        }
        reply = Reply::json(200, &answer);
        let mut seen = lock(&self.seen);
        *seen.calls.entry("PutLogEvents".to_owned()).or_default() += 1;
        seen.events += accepted.len() as u64;
        seen.rejected += (events.len() - accepted.len()) as u64;
        reply
    }

    /// What AWS documents for each action.
    fn check(
        &self,
        request: &Request,
        action: &str,
        body: &Value,
        (group, name): (&str, &str),
    ) -> Result<(), Refusal> {
        let Request { method, target, headers, body: bytes } = request;
        let signed = sigv4::verify(&sigv4::Request { method, target, headers, body: bytes }, |key| {
            (key == KEY.0).then(|| KEY.1.to_owned())
        });
        match signed {
            Ok(signed) if (&*signed.region, &*signed.service) == (REGION, "logs") => {}
            Ok(signed) if action.starts_with(&format!("{}:", signed.service)) => return Ok(()),
            Ok(other) => {
                return Err(self.violation("InvalidSignatureException", format!("signed as {other:?}")));
            }
            Err(what) => return Err(self.violation("InvalidSignatureException", what)),
        }
        let illegal = |what: String| Err(self.violation("InvalidParameterException", what));
        if request.header("content-type") != Some("application/x-amz-json-1.1") || method != "POST" {
            return illegal(format!("{method} with {:?}", request.header("content-type")));
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || "_/.#-".contains(c);
        let grouped = !body["logGroupName"].is_null()
            || ["PutLogEvents", "CreateLogStream", "CreateLogGroup"].contains(&action);
        if grouped
            && (!(1..=512).contains(&group.len()) || !group.chars().all(legal) || group.starts_with("aws/"))
        {
            return illegal(format!("the name of a group: {group:?}"));
        }
        let named = ["PutLogEvents", "CreateLogStream"].contains(&action);
        if named && (!(1..=512).contains(&name.chars().count()) || name.contains([':', '*'])) {
            return illegal(format!("the name of a stream: {name:?}"));
        }
        match action {
            "PutLogEvents" => self.check_events(body, &format!("{group}:{name}")),
            "CreateLogStream" => {
                let mut made = lock(&self.made);
                while made.front().is_some_and(|at| at.elapsed() > Duration::from_secs(1)) {
                    made.pop_front();
                }
                if made.len() >= STREAMS_A_SECOND {
                    return Err((400, "ThrottlingException", "Rate exceeded".into()));
                }
                made.push_back(Instant::now());
                Ok(())
            }
            "PutRetentionPolicy" => {
                let days = body["retentionInDays"].as_i64().unwrap_or_default();
                let list = [
                    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557,
                    2922, 3288, 3653,
                ];
                if list.contains(&days) { Ok(()) } else { illegal(format!("retention of {days} days")) }
            }
            "CreateLogGroup" => Ok(()),
            other => self.check_setup(other, body),
        }
    }

    fn check_events(&self, body: &Value, target: &str) -> Result<(), Refusal> {
        let illegal =
            |what: String| Err(self.violation("InvalidParameterException", format!("{target}: {what}")));
        let Some(events) = body["logEvents"].as_array().filter(|events| !events.is_empty()) else {
            return illegal("no events".into());
        };
        if events.len() > CALL_EVENTS {
            return illegal(format!("{} events", events.len()));
        }
        let (mut bytes, mut last) = (0, 0);
        for event in events {
            let (Some(time), Some(text)) = (event["timestamp"].as_i64(), event["message"].as_str()) else {
                return illegal(format!("not an event: {event}"));
            };
            if text.is_empty() || text.len() > CALL_BYTES {
                return illegal(format!("an event of {} bytes", text.len()));
            }
            if time < last {
                return illegal(format!("not in the order of time: {time} after {last}"));
            }
            (bytes, last) = (bytes + text.len() + OVERHEAD, time);
        }
        if bytes > CALL_BYTES {
            return illegal(format!("a call of {bytes} bytes"));
        }
        let first = events[0]["timestamp"].as_i64().unwrap_or_default();
        if last - first > DAY {
            return illegal(format!("a call that spans {} ms", last - first));
        }
        Ok(())
    }

    /// Without moto: names only.
    fn keep(&self, action: &str, group: &str, name: &str) -> Reply {
        let mut held = lock(&self.held);
        let exists = || refusal((400, "ResourceAlreadyExistsException", "It exists already".into()));
        match (action, held.get_mut(group)) {
            ("CreateLogGroup", Some(_)) => return exists(),
            ("CreateLogGroup", None) => {
                held.insert(group.to_owned(), HashSet::new());
            }
            ("CreateLogStream", Some(streams)) => {
                let new = streams.insert(name.to_owned());
                if !new {
                    return exists();
                }
            }
            (_, None) => return missing(),
            _ => {}
        }
        Reply { status: 200, headers: Vec::new(), body: Vec::new() }
    }
}

fn forward(address: SocketAddr, request: &Request) -> Reply {
    http::forward(address, request)
        .unwrap_or_else(|error| refusal((500, "InternalFailure", error.to_string())))
}

fn missing() -> Reply {
    refusal((400, "ResourceNotFoundException", "The specified log stream does not exist.".into()))
}

fn refusal((status, code, what): Refusal) -> Reply {
    let mut reply = Reply::json(status, &json!({ "__type": code, "message": what }));
    reply.headers = vec![("content-type".into(), "application/x-amz-json-1.1".into())];
    reply
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked")
}
