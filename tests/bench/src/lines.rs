//! What applications write.
//!
//! In: a style, a seed and a time. Out: the body of one log line after another, without the runtime's head.
//! The same seed gives the same bodies but for the times in them. It knows nothing of CRI, files or pods.

use crate::clock::{Nanos, Stamp};
use fastrand::Rng;
use std::io::Write;

/// How a program logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// JSON by Go's zap.
    Zap,
    /// JSON by Java's logstash-logback-encoder.
    Logstash,
    /// JSON by Node's pino, nested, level and time as numbers.
    Pino,
    /// JSON by Python's structlog: blanks after colons, arrays, escapes, some non-ASCII.
    Structlog,
    /// An access log in nginx's combined format.
    Nginx,
    /// Java text, with stack traces.
    Logback,
    /// Kubernetes' own components, all on stderr.
    Klog,
    /// Go's `log` package, with panics.
    GoLog,
}

impl Style {
    /// The style of the container number `index`: four of five write JSON, the fifth one of the text styles.
    pub fn of(index: u64) -> Style {
        const JSON: [Style; 4] = [Style::Zap, Style::Logstash, Style::Pino, Style::Structlog];
        const TEXT: [Style; 4] = [Style::Nginx, Style::Logback, Style::Klog, Style::GoLog];
        match index % 5 {
            4 => TEXT[(index / 5 % 4) as usize],
            json => JSON[json as usize],
        }
    }

    /// Whether its lines are JSON objects.
    pub fn is_json(self) -> bool {
        matches!(self, Style::Zap | Style::Logstash | Style::Pino | Style::Structlog)
    }

    /// The container's name in the path.
    pub fn container(self) -> &'static str {
        match self {
            Style::Nginx => "nginx",
            Style::Klog => "controller",
            Style::Logback | Style::Logstash => "service",
            _ => "app",
        }
    }
}

/// What is said of a line beside its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// On stderr, else on stdout.
    pub stderr: bool,
    /// A line of a stack trace (its first one too).
    pub trace: bool,
}

/// One program's log, line by line.
pub struct LineMaker {
    style: Style,
    random: Rng,
    stamp: Stamp,
    /// The lines of a stack trace that are still to be written, last first.
    trace: Vec<String>,
}

const METHODS: [&str; 6] = ["GET", "GET", "GET", "POST", "PUT", "DELETE"];
const PATHS: [&str; 8] =
    ["orders", "carts", "users", "products", "payments", "search", "sessions", "invoices"];
const STATUS: [u16; 10] = [200, 200, 200, 200, 201, 204, 304, 404, 409, 500];
const WORDS: [&str; 16] = [
    "request",
    "completed",
    "cache",
    "refreshed",
    "order",
    "accepted",
    "payment",
    "authorised",
    "session",
    "renewed",
    "upstream",
    "connection",
    "retry",
    "scheduled",
    "inventory",
    "updated",
];
const LEVELS: [&str; 10] =
    ["info", "info", "info", "info", "info", "info", "debug", "debug", "warn", "error"];
const AGENTS: [&str; 3] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15",
    "kube-probe/1.37",
];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// One in this many events of the two styles that fail begins a trace. A trace is about twelve lines, so that a
/// fifth of their lines, or 2% of all lines of twenty containers, belong to traces.
const TRACE_EVERY: u32 = 49;

macro_rules! put {
    ($out:expr, $($text:tt)*) => { write!($out, $($text)*).expect("a vector takes whatever is written") };
}

impl LineMaker {
    /// The log of the container number `index`.
    pub fn new(index: u64, seed: u64) -> LineMaker {
        LineMaker {
            style: Style::of(index),
            random: Rng::with_seed(seed ^ (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            stamp: Stamp::new(),
            trace: Vec::new(),
        }
    }

    /// Whether the next line belongs to the trace of the last one.
    pub fn in_trace(&self) -> bool {
        !self.trace.is_empty()
    }

    /// Appends the next line, written at `now`, without a newline.
    pub fn next(&mut self, now: Nanos, out: &mut Vec<u8>) -> Line {
        if let Some(line) = self.trace.pop() {
            out.extend_from_slice(line.as_bytes());
            return Line { stderr: true, trace: true };
        }
        if matches!(self.style, Style::Logback | Style::GoLog) && self.random.u32(0..TRACE_EVERY) == 0 {
            return self.begin_trace(now, out);
        }
        match self.style {
            Style::Zap => self.zap(now, out),
            Style::Logstash => self.logstash(now, out),
            Style::Pino => self.pino(now, out),
            Style::Structlog => self.structlog(now, out),
            Style::Nginx => self.nginx(now, out),
            Style::Logback => self.logback(now, out, None),
            Style::Klog => self.klog(now, out),
            Style::GoLog => self.go_log(now, out, None),
        }
        // klog is one container of twenty, traces are 2%: with 3% of the rest a tenth of all lines is on stderr.
        Line { stderr: self.style == Style::Klog || self.random.u32(0..31) == 0, trace: false }
    }

    /// Appends a JSON line of 20 to 60 KB, such as a dumped request; the runtime cuts it into pieces.
    pub fn next_long(&mut self, now: Nanos, out: &mut Vec<u8>) -> Line {
        let size = out.len() + self.random.usize(20_000..60_000);
        let request = self.random.u64(..);
        put!(
            out,
            "{{\"level\":\"debug\",\"ts\":\"{}\",\"msg\":\"upstream response dumped\"",
            self.stamp.text(now)
        );
        put!(out, ",\"request_id\":\"{request:016x}\",\"rows\":[");
        while out.len() < size {
            let (id, price) = (self.random.u32(..), self.random.u32(..100_000));
            let word = self.random.choice(WORDS).unwrap_or("");
            put!(out, "{{\"sku\":\"{id:08x}\",\"name\":\"{word}\",\"price\":{price}}},");
        }
        out.pop();
        out.extend_from_slice(b"]}");
        Line { stderr: false, trace: false }
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.random.usize(..from.len())]
    }

    fn status(&mut self) -> u16 {
        STATUS[self.random.usize(..STATUS.len())]
    }

    /// Milliseconds with a long tail.
    fn latency(&mut self) -> f64 {
        let unit = self.random.f64();
        0.2 + 40.0 * unit * unit * unit / (1.02 - unit)
    }

    fn zap(&mut self, now: Nanos, out: &mut Vec<u8>) {
        let (level, method, path) = (self.pick(&LEVELS), self.pick(&METHODS), self.pick(&PATHS));
        let (status, latency) = (self.status(), self.latency());
        let (id, request, user) =
            (self.random.u32(..900_000), self.random.u64(..), self.random.u32(..50_000));
        let line = self.random.u32(20..400);
        let stamp = &self.stamp.text(now)[..23];
        put!(out, "{{\"level\":\"{level}\",\"ts\":\"{stamp}Z\"");
        put!(
            out,
            ",\"caller\":\"http/{path}.go:{line}\",\"msg\":\"request completed\",\"method\":\"{method}\""
        );
        put!(out, ",\"path\":\"/api/v1/{path}/{id}\",\"status\":{status},\"latency_ms\":{latency:.3}");
        put!(out, ",\"request_id\":\"{request:016x}\",\"user\":{{\"id\":{user}}}}}");
    }

    fn logstash(&mut self, now: Nanos, out: &mut Vec<u8>) {
        let level = self.pick(&LEVELS).to_ascii_uppercase();
        let (first, second, class) = (self.pick(&WORDS), self.pick(&WORDS), self.pick(&PATHS));
        let (thread, order) = (self.random.u32(1..64), self.random.u32(..9_000_000));
        let (trace, span) = (self.random.u128(..), self.random.u64(..));
        let stamp = &self.stamp.text(now)[..23];
        put!(out, "{{\"@timestamp\":\"{stamp}Z\",\"message\":\"{first} {second} for {order}\"");
        put!(out, ",\"logger_name\":\"example.shop.{class}.Service\"");
        put!(out, ",\"thread_name\":\"http-8080-exec-{thread}\",\"level\":\"{level}\"");
        put!(out, ",\"traceId\":\"{trace:032x}\",\"spanId\":\"{span:016x}\"}}");
    }

    fn pino(&mut self, now: Nanos, out: &mut Vec<u8>) {
        let (method, path, status) = (self.pick(&METHODS), self.pick(&PATHS), self.status());
        let (latency, request, id) = (self.latency(), self.random.u32(..), self.random.u32(..900_000));
        let (level, a, b) = (self.random.u32(2..6) * 10, self.random.u8(..), self.random.u8(..));
        put!(out, "{{\"level\":{level},\"time\":{},\"hostname\":\"web-0\"", now.millis());
        put!(
            out,
            ",\"reqId\":\"req-{request:x}\",\"req\":{{\"method\":\"{method}\",\"url\":\"/{path}/{id}\""
        );
        put!(out, ",\"remoteAddress\":\"10.0.{a}.{b}\"}},\"res\":{{\"statusCode\":{status}}}");
        put!(out, ",\"responseTime\":{latency:.6},\"msg\":\"request completed\"}}");
    }

    fn structlog(&mut self, now: Nanos, out: &mut Vec<u8>) {
        let (level, first, second) = (self.pick(&LEVELS), self.pick(&WORDS), self.pick(&WORDS));
        let (order, amount) = (self.random.u32(..9_000_000), self.random.u32(100..90_000));
        let (sku_a, sku_b, worker) = (self.random.u16(..), self.random.u16(..), self.random.u32(..16));
        let customer =
            self.pick(&["Ana López", "Jürgen Groß", "Smith \\\"Joe\\\"", "高橋", "O\\u2019Neil", "Lee"]);
        let stamp = &self.stamp.text(now)[..26];
        put!(out, "{{\"event\": \"{first} {second}\", \"level\": \"{level}\", \"timestamp\": \"{stamp}Z\"");
        put!(out, ", \"logger\": \"shop.tasks\", \"order_id\": {order}, \"customer\": \"{customer}\"");
        put!(out, ", \"items\": [\"{sku_a:04x}\", \"{sku_b:04x}\"], \"total\": {{\"amount\": {amount}");
        put!(out, ", \"currency\": \"EUR\"}}, \"worker\": {worker}}}");
    }

    fn nginx(&mut self, now: Nanos, out: &mut Vec<u8>) {
        let (a, b, path, id) =
            (self.random.u8(..), self.random.u8(..), self.pick(&PATHS), self.random.u32(..900_000));
        let (method, status, size) = (self.pick(&METHODS), self.status(), self.random.u32(100..90_000));
        let (agent, latency) = (self.pick(&AGENTS), self.latency() / 1_000.0);
        let stamp = self.stamp.text(now);
        let month = MONTHS[stamp[5..7].parse::<usize>().map_or(0, |month| (month - 1) % 12)];
        let (day, year, clock) = (&stamp[8..10], &stamp[0..4], &stamp[11..19]);
        put!(out, "10.{a}.{b}.7 - - [{day}/{month}/{year}:{clock} +0000] \"{method} /{path}/{id} HTTP/1.1\"");
        put!(out, " {status} {size} \"https://shop.example/{path}\" \"{agent}\" {latency:.3}");
    }

    fn logback(&mut self, now: Nanos, out: &mut Vec<u8>, level: Option<&str>) {
        let level = match level {
            Some(level) => level.to_owned(),
            None => self.pick(&LEVELS).to_ascii_uppercase(),
        };
        let (first, second, class) = (self.pick(&WORDS), self.pick(&WORDS), self.pick(&PATHS));
        let (thread, order, millis) =
            (self.random.u32(1..64), self.random.u32(..9_000_000), self.random.u32(..900));
        let stamp = self.stamp.text(now);
        let (date, clock) = (&stamp[..10], &stamp[11..23]);
        put!(
            out,
            "{date} {clock} {level:5} 1 --- [http-nio-8080-exec-{thread}] com.example.shop.{class}.Service"
        );
        put!(out, " : {first} {second} for order {order} in {millis} ms");
    }

    fn klog(&mut self, now: Nanos, out: &mut Vec<u8>) {
        let severity = ["I", "I", "I", "I", "I", "W", "E"][self.random.usize(..7)];
        let (word, path, line) = (self.pick(&WORDS), self.pick(&PATHS), self.random.u32(40..900));
        let (pod, took) = (self.random.u32(..), self.latency());
        let stamp = self.stamp.text(now);
        let (month, day, clock) = (&stamp[5..7], &stamp[8..10], &stamp[11..26]);
        put!(
            out,
            "{severity}{month}{day} {clock}       1 reconciler.go:{line}] \"Sync {word}\" controller=\"{path}\""
        );
        put!(out, " object=\"shop/{path}-{pod:08x}\" took=\"{took:.3}ms\" resourceVersion=\"{pod}\"");
    }

    fn go_log(&mut self, now: Nanos, out: &mut Vec<u8>, text: Option<&str>) {
        let (first, second, path) = (self.pick(&WORDS), self.pick(&WORDS), self.pick(&PATHS));
        let (id, took, line) = (self.random.u32(..9_000_000), self.latency(), self.random.u32(20..400));
        let stamp = self.stamp.text(now);
        let (year, month, day, clock) = (&stamp[..4], &stamp[5..7], &stamp[8..10], &stamp[11..26]);
        put!(out, "{year}/{month}/{day} {clock} {path}.go:{line}: ");
        match text {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => {
                put!(out, "[INFO] {first} {second} path=/{path}/{id} took={took:.3}ms peer=10.1.2.3:5432")
            }
        }
    }

    /// Writes the line that heads a trace and lays the rest of it ready.
    fn begin_trace(&mut self, now: Nanos, out: &mut Vec<u8>) -> Line {
        let frames = self.random.usize(7..15);
        let mut lines = Vec::with_capacity(frames + 2);
        if self.style == Style::Logback {
            self.logback(now, out, Some("ERROR"));
            lines.push("java.lang.IllegalStateException: Connection is closed".to_owned());
            for _ in 0..frames {
                let (class, word, line) = (self.pick(&PATHS), self.pick(&WORDS), self.random.u32(20..900));
                lines.push(format!("\tat com.example.shop.{class}.Service.{word}(Service.java:{line})"));
            }
            lines.push("Caused by: java.io.EOFException: null".to_owned());
        } else {
            self.go_log(
                now,
                out,
                Some("http: panic serving 10.1.2.3:41234: runtime error: index out of range"),
            );
            lines.push("goroutine 4711 [running]:".to_owned());
            for _ in 0..frames / 2 {
                let (class, word, line) = (self.pick(&PATHS), self.pick(&WORDS), self.random.u32(20..900));
                lines
                    .push(format!("example.com/shop/{class}.(*Server).{word}(0xc000{line:06x}, 0x{line:x})"));
                lines.push(format!("\t/src/shop/{class}/server.go:{line} +0x{line:x}"));
            }
        }
        lines.reverse();
        self.trace = lines;
        Line { stderr: true, trace: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Nanos = Nanos(1_764_000_000_123_456_789);

    #[test]
    fn json_styles_write_json_and_text_styles_do_not() {
        for index in 0..20 {
            let mut maker = LineMaker::new(index, 7);
            for _ in 0..500 {
                let mut body = Vec::new();
                maker.next(NOON, &mut body);
                let json = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body);
                assert_eq!(json.is_ok(), Style::of(index).is_json(), "{}", String::from_utf8_lossy(&body));
                assert!(!body.contains(&b'\n') && !body.is_empty());
            }
        }
    }

    #[test]
    fn long_lines_are_json_too() {
        let mut body = Vec::new();
        LineMaker::new(0, 7).next_long(NOON, &mut body);
        assert!((20_000..61_000).contains(&body.len()));
        serde_json::from_slice::<serde_json::Value>(&body).unwrap();
    }

    #[test]
    fn the_same_seed_writes_the_same_log() {
        let log = |seed| {
            let (mut maker, mut body) = (LineMaker::new(9, seed), Vec::new());
            for _ in 0..200 {
                maker.next(NOON, &mut body);
            }
            body
        };
        assert_eq!(log(1), log(1));
        assert_ne!(log(1), log(2));
    }
}
