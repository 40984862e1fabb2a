//! Multiline: which lines of a log belong to one record.
//!
//! In: a line, and what is known of the lines before it. Out: whether it begins a record that others may follow, or goes on
//! with the one that is open. Depends on the lines alone, never on when they are read. Never keeps a line, and never waits:
//! an ordinary line, which nothing can follow, is told to be one at once.

use std::sync::LazyLock;
use std::time::Duration;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::bytes::Regex;

/// How far into a line it is looked for what makes it the head of a trace.
const LOOK_AT: usize = 512;

/// How the lines of a log are joined.
#[derive(Debug)]
pub struct Multiline {
    /// By what.
    pub rule: Rule,
    /// A line that was written later than this after the one before it begins a record of its own.
    pub timeout: Duration,
    /// Lines that a record may have; what goes on after that is a part of its own.
    pub max_lines: u32,
}

/// What tells that a line begins a record.
#[derive(Debug)]
pub enum Rule {
    /// Traces of Java, .NET, Python, Go, Node, Ruby, PHP and Rust, with the line of the log before them.
    Auto,
    /// The lines that match, and no others.
    Start(Regex),
    /// The lines that do not match.
    Continue(Regex),
}

/// How far a record has come, line by line; kept with positions, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State(u8);

impl State {
    /// Its number: never 0, nor another one in a later version.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The one of this number. One that is not known is followed by nothing.
    pub fn of(number: u8) -> State {
        State(number)
    }
}

/// A line that is not known to have anything to do with a trace, but could stand before one.
const LOG: State = State(1);
/// The name of an exception, and its message.
const EXCEPTION: State = State(2);
/// Frames of a trace.
const FRAMES: State = State(3);
/// A cause, whose message may have lines of its own: frames will follow.
const CAUSE: State = State(4);
/// In Python's traceback, before its exception.
const PYTHON: State = State(5);
/// Its exception.
const PYTHON_END: State = State(6);
/// Between two tracebacks of which one caused the other.
const PYTHON_CHAIN: State = State(7);
/// What Go prints at a panic.
const GO: State = State(8);
/// Where a thread of Rust's panicked: its message follows.
const RUST: State = State(9);
/// The place that Node prints before the line of the program.
const NODE_PLACE: State = State(10);
/// That line, and what points into it.
const NODE_SOURCE: State = State(11);
/// Node's error after it.
const NODE: State = State(12);
/// An exception of Ruby's, which may quote a line of the program behind an empty one.
const RUBY: State = State(13);
/// That line.
const RUBY_SOURCE: State = State(14);
/// The empty line before it.
const RUBY_BLANK: State = State(16);
/// A record of which a rule of one's own says that it may go on.
const OWN: State = State(15);

/// What a line is that something may follow.
#[derive(Debug, Clone, Copy)]
enum Word {
    Traceback,
    Panicked,
    In,
    /// Anything that is said of a failure.
    Failure,
}

const WORDS: [(&str, Word); 22] = [
    ("Traceback (most recent call last)", Word::Traceback),
    ("panicked at ", Word::Panicked),
    (":in '", Word::In),
    (":in `", Word::In),
    ("Exception", Word::Failure),
    ("exception", Word::Failure),
    ("Throwable", Word::Failure),
    ("Error", Word::Failure),
    ("ERROR", Word::Failure),
    ("error", Word::Failure),
    ("Fatal", Word::Failure),
    ("FATAL", Word::Failure),
    ("fatal", Word::Failure),
    ("Panic", Word::Failure),
    ("panic", Word::Failure),
    ("SEVERE", Word::Failure),
    ("CRITICAL", Word::Failure),
    ("CRIT", Word::Failure),
    ("WARN", Word::Failure),
    ("Uncaught", Word::Failure),
    ("Unhandled", Word::Failure),
    ("goroutine ", Word::Failure),
];

static SEARCH: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = WORDS.iter().map(|(word, _)| word);
    match AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(words) {
        Ok(search) => search,
        // They are the same ones each time, and a test searches with them.
        Err(error) => unreachable!("the words that traces begin with: {error}"),
    }
});

impl Multiline {
    /// What a line begins that stands alone so far; `None` if nothing can follow it.
    #[inline]
    pub fn begin(&self, line: &[u8]) -> Option<State> {
        match &self.rule {
            Rule::Auto => begin(line),
            Rule::Start(_) | Rule::Continue(_) => Some(OWN),
        }
    }

    /// What a record is with this line; `None` if the line does not go on with it.
    pub fn go_on(&self, state: State, line: &[u8]) -> Option<State> {
        let goes_on = match &self.rule {
            Rule::Auto => return go_on(state, line),
            Rule::Start(regex) => !regex.is_match(line),
            Rule::Continue(regex) => regex.is_match(line),
        };
        goes_on.then_some(OWN)
    }
}

#[inline]
fn begin(line: &[u8]) -> Option<State> {
    match line.first()? {
        // An object in one line has its trace in a string.
        b'{' => return None,
        b'/' | b'f' | b'n' if is_node_place(line) => return Some(NODE_PLACE),
        b' ' | b'\t' if is_frame(line.trim_ascii_start()) => return Some(FRAMES),
        _ => {}
    }
    let looked_at = &line[..line.len().min(LOOK_AT)];
    let found = SEARCH.find(looked_at)?;
    Some(head(line, WORDS[found.pattern().as_usize()].1))
}

/// What a line is in which this was found.
#[cold]
fn head(line: &[u8], word: Word) -> State {
    match word {
        Word::Traceback => PYTHON,
        Word::Panicked => RUST,
        Word::In => RUBY,
        Word::Failure if is_traceback(line) => PYTHON,
        Word::Failure if begins_with(line, &["panic: ", "fatal error: ", "goroutine "]) => GO,
        Word::Failure if line.starts_with(b"Exception in thread ") => CAUSE,
        Word::Failure if is_exception(line) => EXCEPTION,
        Word::Failure => LOG,
    }
}

fn go_on(state: State, line: &[u8]) -> Option<State> {
    let text = line.trim_ascii_start();
    let is_indented = text.len() < line.len();
    if is_traceback(line) {
        return matches!(state, LOG | PYTHON_CHAIN).then_some(PYTHON);
    }
    if text.is_empty() {
        return match state {
            PYTHON_END | PYTHON_CHAIN => Some(PYTHON_CHAIN),
            GO | NODE_SOURCE | NODE => Some(state),
            RUBY => Some(RUBY_BLANK),
            _ => None,
        };
    }
    if begins_with(text, &["Caused by: ", "Suppressed: "]) {
        return Some(CAUSE);
    }
    if is_indented {
        return match state {
            PYTHON | PYTHON_END | GO | NODE_SOURCE | NODE | RUBY_SOURCE => Some(state),
            NODE_PLACE => Some(NODE_SOURCE),
            RUBY_BLANK => Some(RUBY_SOURCE),
            PYTHON_CHAIN => None,
            LOG | EXCEPTION | FRAMES | CAUSE | RUST | RUBY => Some(FRAMES),
            _ => None,
        };
    }
    // An object in one line is a record of its own, also where any line could follow.
    if line.starts_with(b"{\"") {
        return None;
    }
    match state {
        LOG if is_exception(line) => Some(EXCEPTION),
        LOG if begins_with(line, &["panic: ", "fatal error: ", "goroutine "]) => Some(GO),
        LOG | EXCEPTION | FRAMES if is_unindented_frame(line) => Some(FRAMES),
        CAUSE => Some(CAUSE),
        PYTHON => Some(PYTHON_END),
        PYTHON_CHAIN
            if begins_with(line, &["During handling of the above exception", "The above exception was"]) =>
        {
            Some(PYTHON_CHAIN)
        }
        GO if is_of_go(line) => Some(GO),
        RUST => Some(FRAMES),
        NODE_PLACE => Some(NODE_SOURCE),
        NODE_SOURCE if is_exception(line) || begins_with(line, &["Uncaught", "[", "Error"]) => Some(NODE),
        NODE_SOURCE if line.starts_with(b"^") => Some(NODE_SOURCE),
        NODE if line == b"}" || line.starts_with(b"Node.js v") => Some(NODE),
        RUBY_BLANK if !is_head_of_ruby(line) => Some(RUBY_SOURCE),
        _ => None,
    }
}

fn begins_with(line: &[u8], any: &[&str]) -> bool {
    any.iter().any(|begin| line.starts_with(begin.as_bytes()))
}

fn contains(line: &[u8], word: &str) -> bool {
    memchr::memmem::find(&line[..line.len().min(LOOK_AT)], word.as_bytes()).is_some()
}

fn is_traceback(line: &[u8]) -> bool {
    contains(line, "Traceback (most recent call last)")
}

fn is_frame(text: &[u8]) -> bool {
    begins_with(text, &["at ", "... "])
}

fn is_unindented_frame(line: &[u8]) -> bool {
    let numbered = line.strip_prefix(b"#").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit));
    let known =
        ["at ", "--- End of ", "---> ", "Stack trace:", "[stacktrace]", "stack backtrace:", "note: ", "... "];
    numbered || line == b"}" || begins_with(line, &known)
}

fn is_head_of_ruby(line: &[u8]) -> bool {
    contains(line, ":in '") || contains(line, ":in `")
}

/// Whether it is what a program names an exception by: `java.io.IOException: no such file`, `Error`.
fn is_exception(line: &[u8]) -> bool {
    let prefixes: [&[u8]; 3] = [b"Unhandled exception. ", b"Uncaught ", b"PHP Fatal error:  Uncaught "];
    let line = prefixes.iter().find_map(|prefix| line.strip_prefix(*prefix)).unwrap_or(line);
    let is_of_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'$' | b'\\' | b':');
    let end = line.iter().position(|b| !is_of_name(b)).unwrap_or(line.len());
    // What follows the name: a colon, of which it may have some of its own, a message in brackets, a space, or nothing.
    let name = line[..end].strip_suffix(b":").unwrap_or(&line[..end]);
    ["Exception", "Error", "Throwable", "Failure", "Fault", "Interrupt", "Warning"]
        .iter()
        .any(|ending| name.ends_with(ending.as_bytes()))
}

/// `/srv/app.js:10`, `file:///srv/app.mjs:3`, `node:internal/errors:540`.
fn is_node_place(line: &[u8]) -> bool {
    let digits = line.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    (1..=7).contains(&digits)
        && line.len() < LOOK_AT
        && line[..line.len() - digits].ends_with(b":")
        && (begins_with(line, &["node:", "file://"]) || (line[0] == b'/' && contains(line, "js:")))
}

/// What stands at the beginning of a line of Go's: a function with its arguments, or one of the few sentences.
fn is_of_go(line: &[u8]) -> bool {
    let known =
        ["goroutine ", "[signal ", "created by ", "exit status ", "runtime.", "runtime: ", "panic: ", "..."];
    let is_call = || {
        let bracket = memchr::memchr(b'(', line);
        line.ends_with(b")") && bracket.is_some_and(|at| at > 0 && !line[..at].contains(&b' '))
    };
    begins_with(line, &known) || is_call()
}

#[cfg(test)]
#[path = "multiline_tests.rs"]
mod tests;
