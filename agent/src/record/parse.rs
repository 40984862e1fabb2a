//! Parsing: the fields that a line of text has, where its form is known.
//!
//! In: what a program wrote. Out: members of its document, under Elastic's own names for them: numbers as numbers, times
//! that something took in nanoseconds. A line of another form is none of this room's: it keeps its text, all of it. Writes
//! only names that are allowed: never `kubernetes.*`, `orchestrator.*`, `cloud.*`, `container.*`, `taffrail.*` or `_id`.

use regex::bytes::{Captures, Regex};

use super::level::{self, Level};
use super::{Notes, append_level, escape, fields};

/// What the names of fields may begin with. `app` takes any names behind it.
pub const ROOTS: [&str; 18] = [
    "app",
    "client",
    "destination",
    "error",
    "event",
    "http",
    "network",
    "process",
    "rpc",
    "server",
    "service",
    "source",
    "span",
    "tls",
    "trace",
    "transaction",
    "url",
    "user",
];

/// Fields that are numbers wherever Elastic's own schema has them.
pub const NUMBERS: [&str; 12] = [
    "client.port",
    "destination.port",
    "event.duration",
    "http.request.body.bytes",
    "http.request.bytes",
    "http.response.body.bytes",
    "http.response.bytes",
    "http.response.status_code",
    "process.pid",
    "process.thread.id",
    "server.port",
    "source.port",
];

/// A form that lines have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Access logs of nginx, of its Kubernetes ingress and of Apache, in the combined form.
    Combined,
    /// `key=value` with or without quotes.
    Logfmt,
    /// Kubernetes' own components: `I1123 10:00:00.000000       1 file.go:10] message`.
    Klog,
    /// Envoy's default access log.
    Envoy,
    /// Istio's.
    Istio,
}

impl Form {
    /// All there are, by the names that they have in the configuration.
    pub const ALL: [(&str, Form); 6] = [
        ("nginx", Form::Combined),
        ("apache", Form::Combined),
        ("logfmt", Form::Logfmt),
        ("klog", Form::Klog),
        ("envoy", Form::Envoy),
        ("istio", Form::Istio),
    ];

    fn pattern(self) -> Option<&'static str> {
        match self {
            Form::Combined => Some(COMBINED),
            Form::Klog => Some(KLOG),
            Form::Envoy => Some(ENVOY),
            Form::Istio => Some(ISTIO),
            Form::Logfmt => None,
        }
    }
}

/// What `log_format combined` writes, and behind it, where there is more, what the ingress of Kubernetes adds.
const COMBINED: &str = concat!(
    r#"^(?<source.address>\S+) \S+ (?<user.name>.+?) \[(?<timestamp>[^\]]+)\] "(?:(?<http.request.method>[A-Z]+) (?<url.original>\S+)"#,
    r#"(?: HTTP/(?<http.version>[0-9.]+))?|[^"]*)" (?<http.response.status_code>\d{3}) (?:(?<http.response.body.bytes>\d+)|-)"#,
    r#"(?: "(?<http.request.referrer>(?:[^"\\]|\\.)*)" "(?<user_agent.original>(?:[^"\\]|\\.)*)")?"#,
    r#"(?: (?<http.request.bytes>\d+) (?<event.duration.s>[0-9.]+) \[(?<service.name>[^\]]*)\])?"#,
);

const KLOG: &str = concat!(
    r"^(?<log.level>[IWEF])(?<timestamp>\d{4} \d\d:\d\d:\d\d\.\d+) +(?<process.thread.id>\d+) (?<app.file>[^:\]]+):(?<app.line>\d+)\] ",
    r"(?<message>.*)$",
);

const ENVOY: &str = concat!(
    r#"^\[(?<timestamp>[^\]]+)\] "(?<http.request.method>\S+) (?<url.original>\S+) HTTP/(?<http.version>[0-9.]+)" "#,
    r"(?<http.response.status_code>\d+) (?<app.response_flags>\S+) (?<http.request.body.bytes>\d+) ",
    r"(?<http.response.body.bytes>\d+) (?<event.duration.ms>\d+) \S+ ",
    r#""(?<source.address>[^"]*)" "(?<user_agent.original>(?:[^"\\]|\\.)*)" "(?<trace.id>[^"]*)" "(?<url.domain>[^"]*)" "#,
    r#""(?<server.address>[^"]*)""#,
);

const ISTIO: &str = concat!(
    r#"^\[(?<timestamp>[^\]]+)\] "(?<http.request.method>\S+) (?<url.original>\S+) HTTP/(?<http.version>[0-9.]+)" "#,
    r"(?<http.response.status_code>\d+) (?<app.response_flags>\S+) (?<app.response_code_details>\S+) \S+ ",
    r#""(?:[^"\\]|\\.)*" (?<http.request.body.bytes>\d+) (?<http.response.body.bytes>\d+) (?<event.duration.ms>\d+) \S+ "#,
    r#""(?<source.address>[^"]*)" "(?<user_agent.original>(?:[^"\\]|\\.)*)" "(?<trace.id>[^"]*)" "(?<url.domain>[^"]*)" "#,
    r#""(?<server.address>[^"]*)""#,
);

/// What lines are read by.
#[derive(Debug)]
pub struct Parser(Kind);

#[derive(Debug)]
enum Kind {
    Logfmt,
    Pattern(Regex, Vec<(usize, Field)>),
}

/// What becomes of one group of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Message,
    Level,
    /// The time, for a route that takes it from there: no field of the document.
    Time,
    /// A path and what follows it.
    Url,
    /// A field of the document: its name, and whether it is a number.
    Top(String, Number),
    /// A member of `app`.
    App(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Number {
    No,
    Yes,
    /// A time, in this many nanoseconds.
    Of(u64),
}

impl Parser {
    /// For lines of a known form.
    ///
    /// # Errors
    /// None: the patterns are ours, and tests compile each.
    pub fn known(form: Form) -> Result<Parser, String> {
        form.pattern().map_or(Ok(Parser(Kind::Logfmt)), Parser::pattern)
    }

    /// For lines that match a pattern: each of its named groups is the field of that name.
    ///
    /// # Errors
    /// A pattern that is none, or without names, or with one that no field may have.
    pub fn pattern(pattern: &str) -> Result<Parser, String> {
        let regex = Regex::new(pattern).map_err(|error| {
            let said = error.to_string();
            said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })?;
        let mut fields = Vec::new();
        for (number, name) in regex.capture_names().enumerate() {
            let Some(name) = name else { continue };
            fields.push((number, field(name)?));
        }
        if fields.is_empty() {
            return Err("it has no named group, such as (?<http.request.method>[A-Z]+)".to_owned());
        }
        fields.sort_by(|one, other| one.1.cmp(&other.1));
        Ok(Parser(Kind::Pattern(regex, fields)))
    }

    /// What a line says is its time, where the form has one.
    pub fn time<'a>(&self, content: &'a [u8]) -> Option<&'a [u8]> {
        let Kind::Pattern(regex, fields) = &self.0 else { return None };
        let (number, _) = fields.iter().find(|(_, field)| *field == Field::Time)?;
        of_a_form(content)?;
        regex.captures(content)?.get(*number).map(|group| group.as_bytes())
    }

    /// Whether lines of the form have a time.
    pub fn has_time(&self) -> bool {
        matches!(&self.0, Kind::Pattern(_, fields) if fields.iter().any(|(_, field)| *field == Field::Time))
    }

    /// The fields at the top of a document that it may make, besides the message and the level.
    pub fn fields(&self) -> Vec<&str> {
        let Kind::Pattern(_, fields) = &self.0 else { return Vec::new() };
        let names = fields.iter().flat_map(|(_, field)| match field {
            Field::Url => vec!["url.original", "url.path", "url.query"],
            Field::Top(name, _) => vec![name.as_str()],
            Field::Message | Field::Level | Field::Time | Field::App(_) => Vec::new(),
        });
        names.collect()
    }

    /// Appends the fields of a line, as [`append_body`](super::append_body) does. None, with nothing appended, if it is of
    /// another form.
    pub fn append(&self, out: &mut Vec<u8>, content: &[u8]) -> Option<Notes> {
        let text = of_a_form(content)?;
        match &self.0 {
            Kind::Logfmt => append_logfmt(out, text),
            Kind::Pattern(regex, fields) => {
                let captures = regex.captures(content)?;
                Some(append_captures(out, content, &captures, fields))
            }
        }
    }
}

/// What may be a line of some form: none of JSON, or of what is no text, is.
fn of_a_form(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    (!text.trim_ascii_start().starts_with('{')).then_some(text)
}

fn field(name: &str) -> Result<Field, String> {
    let (base, unit) = match name.strip_prefix("event.duration.") {
        Some("ns") => ("event.duration", Number::Of(1)),
        Some("us") => ("event.duration", Number::Of(1_000)),
        Some("ms") => ("event.duration", Number::Of(1_000_000)),
        Some("s") => ("event.duration", Number::Of(1_000_000_000)),
        Some(_) => return Err(format!("`{name}`: the unit is one of ns, us, ms and s")),
        None if NUMBERS.contains(&name) => (name, Number::Yes),
        None => (name, Number::No),
    };
    match base {
        "message" => return Ok(Field::Message),
        "log.level" | "level" => return Ok(Field::Level),
        "timestamp" => return Ok(Field::Time),
        "url.original" => return Ok(Field::Url),
        "user_agent.original" => return Ok(Field::Top(base.to_owned(), unit)),
        _ => {}
    }
    let (root, rest) = base.split_once('.').unwrap_or((base, ""));
    if rest.is_empty()
        || rest.split('.').any(str::is_empty)
        || rest.contains(['[', ']'])
        || !ROOTS.contains(&root)
        || fields::is_own(base)
    {
        let roots = ROOTS.map(|root| format!("{root}.*")).join(", ");
        return Err(format!(
            "`{name}` is no field that may be written; there are message, level, timestamp, {roots}"
        ));
    }
    Ok(if root == "app" { Field::App(rest.to_owned()) } else { Field::Top(base.to_owned(), unit) })
}

fn append_captures(
    out: &mut Vec<u8>,
    content: &[u8],
    captures: &Captures<'_>,
    fields: &[(usize, Field)],
) -> Notes {
    let found = |wanted: &Field| {
        let own = fields.iter().find(|(_, field)| field == wanted);
        own.and_then(|(number, _)| captures.get(*number)).map(|group| group.as_bytes())
    };
    let message = found(&Field::Message).unwrap_or(content);
    append_text(out, "\"message\":", message);
    let level = found(&Field::Level).and_then(Level::from_name).or_else(|| level::from_text(message));
    if let Some(level) = level {
        out.push(b',');
        append_level(out, level);
    }
    let mut app = false;
    for (number, field) in fields {
        let Some(value) = captures.get(*number).map(|group| group.as_bytes()) else { continue };
        // What stands for nothing in access logs.
        if value.is_empty() || value == b"-" {
            continue;
        }
        match field {
            Field::Message | Field::Level | Field::Time => {}
            Field::Url => append_url(out, value),
            Field::Top(name, number) => append_field(out, name, *number, value),
            Field::App(name) => {
                append_member(out, &mut app, name.as_bytes(), value);
            }
        }
    }
    out.extend_from_slice(if app { b"}" } else { b"" });
    Notes { level, ..Notes::default() }
}

fn append_text(out: &mut Vec<u8>, name: &str, text: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
    // A group of a pattern may end within a character, if the pattern says so.
    if std::str::from_utf8(text).is_ok() {
        escape::append_escaped(out, text);
    } else {
        escape::append_lossy(out, text);
    }
    out.push(b'"');
}

fn append_name(out: &mut Vec<u8>, name: &str) {
    // With dots in its name, as `log.file.path` is: `log` and `event` may be there already.
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn append_field(out: &mut Vec<u8>, name: &str, number: Number, value: &[u8]) {
    match number {
        Number::No => {
            append_name(out, name);
            append_text(out, "", value);
        }
        Number::Yes if is_number(value) => {
            append_name(out, name);
            out.extend_from_slice(value);
        }
        Number::Of(unit) => {
            if let Some(nanos) = nanos(value, unit) {
                append_name(out, name);
                out.extend_from_slice(itoa::Buffer::new().format(nanos).as_bytes());
            }
        }
        Number::Yes => {}
    }
}

/// `url.original`, and the path and the query that it consists of.
fn append_url(out: &mut Vec<u8>, url: &[u8]) {
    append_field(out, "url.original", Number::No, url);
    let (path, query) = match memchr::memchr(b'?', url) {
        Some(at) => (&url[..at], &url[at + 1..]),
        None => (url, &[][..]),
    };
    if path.starts_with(b"/") {
        append_field(out, "url.path", Number::No, path);
        if !query.is_empty() {
            append_field(out, "url.query", Number::No, query);
        }
    }
}

fn append_member(out: &mut Vec<u8>, begun: &mut bool, name: &[u8], value: &[u8]) {
    out.extend_from_slice(if std::mem::replace(begun, true) { b"," } else { b",\"app\":{" });
    append_text(out, "", name);
    out.push(b':');
    if is_number(value) || value == b"true" || value == b"false" {
        out.extend_from_slice(value);
    } else {
        append_text(out, "", value);
    }
}

/// Whether it is a number as JSON writes one, and short enough to be one to everybody.
fn is_number(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let (whole, fraction) = match memchr::memchr(b'.', digits) {
        Some(at) => (&digits[..at], Some(&digits[at + 1..])),
        None => (digits, None),
    };
    let all = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    value.len() <= 16 && all(whole) && (whole.len() == 1 || whole[0] != b'0') && fraction.is_none_or(all)
}

/// A time in nanoseconds; none of one that is over 100 years.
fn nanos(value: &[u8], unit: u64) -> Option<u64> {
    let number: f64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    let nanos = number * unit as f64;
    // It is a whole number of nanoseconds after rounding, and small enough for one.
    (0.0..3.2e18).contains(&nanos).then(|| nanos.round() as u64)
}

/// `level=info msg="it is done" took=12ms`: its message and level where they belong, the rest under `app`.
fn append_logfmt(out: &mut Vec<u8>, text: &str) -> Option<Notes> {
    let pairs = logfmt(text)?;
    let of = |names: &[&str]| pairs.iter().position(|(key, _)| names.contains(key));
    let message = of(&["msg", "message"]);
    append_text(out, "\"message\":", message.map_or(text, |at| &pairs[at].1).as_bytes());
    let named = of(&["level", "lvl", "severity"]).and_then(|at| Level::from_name(pairs[at].1.as_bytes()));
    let level = named.or_else(|| level::from_text(text.as_bytes()));
    if let Some(level) = level {
        out.push(b',');
        append_level(out, level);
    }
    let mut app = false;
    for (at, (key, value)) in pairs.iter().enumerate() {
        if Some(at) != message {
            append_member(out, &mut app, key.as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(if app { b"}" } else { b"" });
    Some(Notes { level, ..Notes::default() })
}

/// The pairs of a line of which every word is one; none of a line that is something else.
fn logfmt(text: &str) -> Option<Vec<(&str, String)>> {
    let (mut pairs, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let end = rest.find(['=', ' ', '"'])?;
        let (key, behind) = rest.split_at(end);
        let value = behind.strip_prefix('=').filter(|_| !key.is_empty())?;
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = value.find(' ').unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        pairs.push((key, value));
        if !behind.is_empty() && !behind.starts_with(' ') {
            return None;
        }
        rest = behind.trim_start();
    }
    (!pairs.is_empty()).then_some(pairs)
}

/// What stands up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let (mut value, mut characters) = (String::new(), quoted.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
