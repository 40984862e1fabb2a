//! Trying out: what would become of lines, without an agent, a file or a server.
//!
//! In: a configuration, whose lines they are, what is known of the pod, and the lines. Out: for each output what the routes
//! say and the records as they would be sent, made by the same rooms that an agent's pass. Sends nothing, saves nothing.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::MemfdFlags;

use crate::batch::{Batch, Format, Pushed, Sealed, each_record};
use crate::catalog::file::Source;
use crate::catalog::origin::Origin;
use crate::config::Config;
use crate::metadata::facts::Known;
use crate::metadata::{Extent, NodeFacts};
use crate::pipeline::{Form, facts_for, form_of, hash_key, rules_of};
use crate::position::Position;
use crate::read::{End, Framing, Manner, Reader, Turn};
use crate::record::hash::HashKey;
use crate::record::time;
use crate::route::{Course, Plan, Routes, Verdict, verdicts};

/// Whose lines are tried out, and which.
#[derive(Debug)]
pub struct Subject {
    /// Whose they are.
    pub origin: Origin,
    /// What is known of the pod, if anything is.
    pub known: Option<Known>,
    /// How the lines are told apart.
    pub framing: Framing,
    /// Which of the container's runs wrote them.
    pub restart: u32,
    /// What their ids begin with.
    pub key: String,
    /// The lines, and where they begin in it.
    pub log: File,
    /// Offset of the first line.
    pub begin: u64,
}

/// What would become of them at one output.
#[derive(Debug)]
pub struct Tried {
    /// What the routes say.
    pub course: Course,
    /// The records.
    pub sent: Vec<Sent>,
    /// How many the route does not send.
    pub filtered: u32,
}

/// A record as it would be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// To which index, stream or file; empty where there is but one place.
    pub target: String,
    /// Its id, where it has one.
    pub id: String,
    /// The document, or the text.
    pub text: String,
}

/// Lines as a runtime would have written them, each with a time a nanosecond after the one before, from `nanos` on.
///
/// # Errors
/// What the system says: there is no memory for them.
pub fn framed(lines: &[String], stream: &str, nanos: i64) -> io::Result<File> {
    let mut log = Vec::new();
    for (at, line) in (nanos..).zip(lines) {
        writeln!(log, "{} {stream} F {line}", time::format_nanos(at))?;
    }
    in_memory(&log, 0)
}

/// Bytes as they would stand at `offset` of a file, in one that has no name.
///
/// # Errors
/// What the system says.
pub fn in_memory(bytes: &[u8], offset: u64) -> io::Result<File> {
    let file = File::from(rustix::fs::memfd_create("taffrail", MemfdFlags::CLOEXEC)?);
    file.write_all_at(bytes, offset)?;
    Ok(file)
}

impl Subject {
    fn extent<'a>(&'a self, config: &'a Config) -> Extent<'a> {
        self.known.as_ref().map_or(Extent::Path, |known| Extent::Known(&config.metadata, known))
    }

    /// What each route says of them.
    pub fn verdicts(&self, config: &Config) -> Vec<Verdict> {
        let names = Default::default();
        let facts = NodeFacts { cluster: config.cluster.clone(), node: config.node.clone(), names };
        verdicts(config, &facts, &self.origin, self.extent(config))
    }

    /// What would become of them at the output of this name.
    ///
    /// # Errors
    /// What the system says of reading them.
    pub fn at(&self, config: &Config, output: &str) -> io::Result<Tried> {
        let none = |course| Tried { course, sent: Vec::new(), filtered: 0 };
        let Some(settings) = config.outputs.get(output) else { return Ok(none(Course::Nowhere)) };
        let (facts, extent) = (facts_for(config, settings), self.extent(config));
        // Where the secret is not, hashes are made up: they have the form that they will have.
        let key = hash_key(config).unwrap_or_else(|_| Some(HashKey::new(b"")));
        let course = Routes::of(config, output, key).course(&facts, &self.origin, extent);
        let Course::Sent(treatment) = &course else { return Ok(none(course)) };
        let Form { format, target } = form_of(settings);
        let to = target.as_ref().map(|(template, safe)| (template, *safe));
        let plan = Plan::new(&facts, &self.origin, extent, to).treating(treatment.clone());
        let mut batch = Batch::new(format, None);
        let (mut at, mut filtered) = (Position { offset: self.begin, ..Position::default() }, 0);
        let mut source = Source::Plain(Arc::new(self.log.try_clone()?));
        let mut reader = Reader::new(rules_of(config, settings, None));
        let id = format!("{}-", self.key);
        loop {
            let (framing, multiline) = (self.framing, plan.multiline());
            let manner = Manner { framing, cuts: &[], multiline, end: End::Final };
            let turn = reader.turn(&mut source, &mut at, manner, |record| {
                let pushed = batch.push(plan.of_run(self.restart), id.as_bytes(), &record, |_| true);
                filtered += u32::from(pushed == Pushed::Filtered);
                ControlFlow::Continue(())
            })?;
            if turn != Turn::More {
                break;
            }
        }
        Ok(Tried { course, sent: sent(format, &batch.seal(Vec::new())?), filtered })
    }
}

fn sent(format: Format, sealed: &Sealed) -> Vec<Sent> {
    let mut all = Vec::new();
    let events = (&*sealed.events.list, &*sealed.events.targets);
    each_record(format, &sealed.body, events, &sealed.segments, |target, id, text| {
        let of = |name: Option<&str>| name.unwrap_or_default().to_owned();
        let text = String::from_utf8_lossy(text).into_owned();
        all.push(Sent { target: of(target), id: of(id), text });
    });
    all
}

impl fmt::Display for Tried {
    /// Why nothing is sent, if nothing is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records =
            |count: usize| if count == 1 { "1 record".to_owned() } else { format!("{count} records") };
        match (&self.course, self.sent.len(), self.filtered) {
            (Course::Sent(_), 0, 0) => f.write_str("nothing to send"),
            (Course::Sent(_), 0, filtered) => {
                write!(f, "dropped by the route: {}", records(filtered as usize))
            }
            (Course::Sent(_), sent, 0) => f.write_str(&records(sent)),
            (Course::Sent(_), sent, filtered) => {
                write!(f, "{}, and {filtered} that the route drops", records(sent))
            }
            (Course::Elsewhere, ..) => f.write_str("not sent: the routes send it elsewhere"),
            (Course::Excluded, ..) => f.write_str("not sent: an annotation of the pod excludes it"),
            (Course::Nowhere, ..) => f.write_str("not sent: no route matches"),
            (Course::Unknown, ..) => f.write_str("it waits: that depends on what is not known of the pod"),
        }
    }
}
