//! Judging a torture: every byte of every line once, and as it was written.
//!
//! What comes in: what the containers wrote, and documents one by one, in any order. What goes out: how many lines are
//! missing, doubled, wrong or invented, with examples. A document is known by its container and its time, which is that
//! of its first piece: so a line that was cut into several records is put together again, whoever cut it. It keeps a few
//! words of each document, not the document.

use super::lines::Ledger;
use crate::clock;
use crate::verify::Document;
use serde_json::Value;
use std::collections::HashMap;

/// How many faults of a kind are told.
const EXAMPLES: usize = 8;

/// A document: from which byte of which line on it holds how many, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    line: u32,
    offset: u32,
    length: u32,
    index: u32,
}

/// What became of the lines of one destination.
#[derive(Debug, Default, Clone)]
pub struct Verdict {
    /// Documents.
    pub stored: u64,
    /// Lines of which something is missing.
    pub missing: u64,
    /// Lines of which something stands twice in one index.
    pub doubled: u64,
    /// Lines of which something stands twice in a data stream, in two of its indices.
    pub across: u64,
    /// Documents that do not hold what was written.
    pub wrong: u64,
    /// Lines that follow a later one of their stream, in a file.
    pub out_of_order: u64,
    /// Some of the faults, in words.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Whether nothing is missing, doubled or wrong.
    pub fn is_clean(&self) -> bool {
        self.missing + self.doubled + self.wrong == 0
    }

    fn example(&mut self, count: u64, text: impl FnOnce() -> String) {
        if count <= EXAMPLES as u64 {
            self.examples.push(text());
        }
    }
}

/// Collects what one destination holds.
pub struct Judge<'l> {
    name: &'static str,
    ledgers: Vec<&'l Ledger>,
    places: HashMap<(String, String), usize>,
    indices: Vec<String>,
    claims: Vec<Vec<Claim>>,
    /// Of each container's streams the last line, in a file.
    last: Vec<[u32; 2]>,
    verdict: Verdict,
}

impl<'l> Judge<'l> {
    /// For what these containers, each with its pod's uid and its name, wrote.
    pub fn new(
        name: &'static str,
        containers: impl Iterator<Item = (String, String, &'l Ledger)>,
    ) -> Judge<'l> {
        let (mut ledgers, mut places) = (Vec::new(), HashMap::new());
        for (uid, container, ledger) in containers {
            places.insert((uid, container), ledgers.len());
            ledgers.push(ledger);
        }
        let count = ledgers.len();
        Judge {
            name,
            ledgers,
            places,
            indices: Vec::new(),
            claims: vec![Vec::new(); count],
            last: vec![[0; 2]; count],
            verdict: Verdict::default(),
        }
    }

    /// Takes a document. One of a container that is not ours is passed over.
    pub fn take(&mut self, document: &Document) {
        let key =
            ["kubernetes.pod.uid", "kubernetes.container.name"].map(|name| document.text(name).to_owned());
        let Some(&place) = self.places.get(&key.into()) else { return };
        self.verdict.stored += 1;
        match self.claim(place, document) {
            Ok(claim) => {
                let stderr = self.ledgers[place].lines[claim.line as usize].stderr;
                let last = &mut self.last[place][usize::from(stderr)];
                self.verdict.out_of_order += u64::from(document.index.is_empty() && claim.line < *last);
                *last = claim.line.max(*last);
                self.claims[place].push(claim);
            }
            Err(what) => {
                self.verdict.wrong += 1;
                let name = self.name;
                self.verdict.example(self.verdict.wrong, || {
                    let text: String = document.source.to_string().chars().take(600).collect();
                    format!("{name}: {what}: {} in {}: {text}", document.id, document.index)
                });
            }
        }
    }

    fn claim(&mut self, place: usize, document: &Document) -> Result<Claim, &'static str> {
        let ledger = self.ledgers[place];
        let time = clock::parse(document.text("@timestamp")).ok_or("not a time of ours")?;
        let piece = ledger.pieces.binary_search_by_key(&time, |piece| piece.time);
        let piece = ledger.pieces[piece.map_err(|_| "nothing was written at that time")?];
        let line = ledger.lines[piece.line as usize];
        if (document.text("stream") == "stderr") != line.stderr {
            return Err("of another stream");
        }
        let length = if document.get("app").is_some() || document.get("taffrail.error").is_some() {
            let (message, app) = ledger.fields(piece.line);
            // In the safe form of what the server had refused, such as a field that is too long, its JSON is text.
            let rest = document.text("message").strip_prefix(&message).unwrap_or("not the message");
            let is_as_written = match document.get("app") {
                Some(found) => rest.is_empty() && *found == app,
                None => serde_json::from_str::<Value>(rest).is_ok_and(|found| found == app),
            };
            if piece.offset > 0 || !is_as_written {
                return Err("other fields than were written");
            }
            line.length
        } else {
            let message = document.text("message");
            let written = &ledger.text(piece.line)[piece.offset as usize..];
            if message.is_empty() || !written.starts_with(message) {
                return Err("another text than was written");
            }
            message.len() as u32
        };
        let index = match self.indices.iter().position(|index| *index == document.index) {
            Some(at) => at,
            None => {
                self.indices.push(document.index.clone());
                self.indices.len() - 1
            }
        };
        Ok(Claim { line: piece.line, offset: piece.offset, length, index: index as u32 })
    }

    /// What became of all that was written.
    pub fn verdict(mut self) -> Verdict {
        for place in 0..self.ledgers.len() {
            self.claims[place].sort_unstable();
            let claims = std::mem::take(&mut self.claims[place]);
            let mut claims = claims.as_slice();
            for number in 0..self.ledgers[place].lines.len() as u32 {
                let own = claims.partition_point(|claim| claim.line == number);
                self.line(place, number, &claims[..own]);
                claims = &claims[own..];
            }
        }
        self.verdict
    }

    /// Judges one line by what is claimed of it, in the order of offsets.
    fn line(&mut self, place: usize, number: u32, claims: &[Claim]) {
        let line = self.ledgers[place].lines[number as usize];
        let (mut end, mut missing, mut doubled, mut across) = (0, false, false, false);
        for (at, claim) in claims.iter().enumerate() {
            missing |= claim.offset > end;
            let overlapping = claims[..at].iter().filter(|other| other.offset + other.length > claim.offset);
            for other in overlapping {
                doubled |= other.index == claim.index;
                across |= other.index != claim.index;
            }
            end = end.max(claim.offset + claim.length);
        }
        missing |= end < line.written;
        let verdict = &mut self.verdict;
        let told = [
            (missing, "is missing", &mut verdict.missing),
            (doubled, "is doubled", &mut verdict.doubled),
            (across, "stands on both sides of a rollover", &mut verdict.across),
        ]
        .map(|(is, what, count)| {
            *count += u64::from(is);
            (is, what, *count)
        });
        for (_, what, count) in told.into_iter().filter(|(is, ..)| *is) {
            let (ledger, name) = (self.ledgers[place], self.name);
            let first = ledger.pieces.iter().find(|piece| piece.line == number).map_or(0, |piece| piece.time);
            let found: Vec<String> = claims
                .iter()
                .map(|c| format!("{}+{} in {:?}", c.offset, c.length, self.indices[c.index as usize]))
                .collect();
            let uid = self.places.iter().find(|(_, at)| **at == place).map(|(key, _)| key.clone());
            self.verdict.example(count, || {
                format!(
                    "{name}: line {number} of {} {uid:?} at {} {what}: {} of {} bytes were written; found: {}",
                    ledger.pod,
                    clock::rfc3339(first),
                    line.written,
                    line.length,
                    found.join(", ")
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Node, PIECE};
    use crate::torture::lines::{Form, Writer};
    use serde_json::json;

    fn writer(node: &Node) -> Writer {
        let mut writer = Writer::new(node.pod("web").container("app"));
        writer.writes(1, Form::Json, 0, false);
        writer.writes(1, Form::Text, 0, false);
        writer.opens(2, true);
        writer
    }

    /// The document of so many bytes from the n-th piece on.
    fn document(writer: &Writer, piece: usize, length: usize, index: &str) -> Document {
        let piece = writer.ledger.pieces[piece];
        let line = writer.ledger.lines[piece.line as usize];
        let (message, app) = if line.form == Form::Json {
            let (message, app) = writer.ledger.fields(piece.line);
            (message, Some(app))
        } else {
            let text = writer.ledger.text(piece.line);
            (text[piece.offset as usize..piece.offset as usize + length].to_owned(), None)
        };
        let mut source = json!({
            "@timestamp": clock::rfc3339(piece.time), "message": message,
            "stream": if line.stderr { "stderr" } else { "stdout" },
            "kubernetes": {"pod": {"uid": writer.container.pod.uid}, "container.name": "app"},
        });
        if let Some(app) = app {
            source["app"] = app;
        }
        Document { id: String::new(), index: index.into(), source }
    }

    fn judged(writer: &Writer, documents: &[Document]) -> Verdict {
        let one = (writer.container.pod.uid.clone(), "app".to_owned(), &writer.ledger);
        let mut judge = Judge::new("test", [one].into_iter());
        documents.iter().for_each(|document| judge.take(document));
        judge.verdict()
    }

    #[test]
    fn a_line_may_be_cut_anywhere_between_its_pieces() {
        let node = Node::new();
        let writer = writer(&node);
        let text = writer.ledger.lines[1].length as usize;
        let whole = [document(&writer, 0, 0, "a"), document(&writer, 1, text, "a")];
        for long in [vec![(2, 2 * PIECE)], vec![(2, PIECE), (3, PIECE)]] {
            let mut documents = whole.to_vec();
            documents.extend(long.iter().map(|(piece, length)| document(&writer, *piece, *length, "a")));
            let verdict = judged(&writer, &documents);
            assert!(verdict.is_clean() && verdict.across == 0, "{verdict:?}");
            assert_eq!(verdict.stored as usize, documents.len());
        }
    }

    #[test]
    fn each_fault_is_found() {
        let node = Node::new();
        let writer = writer(&node);
        let text = writer.ledger.lines[1].length as usize;
        let sound = [
            document(&writer, 0, 0, "a"),
            document(&writer, 1, text, "a"),
            document(&writer, 2, 2 * PIECE, "a"),
        ];
        let with = |more: &[Document]| judged(&writer, &[&sound[..], more].concat());
        let counts = |v: Verdict| (v.missing, v.doubled, v.across, v.wrong);
        assert_eq!(counts(judged(&writer, &sound[1..])), (1, 0, 0, 0));
        assert_eq!(
            counts(judged(&writer, &[&sound[..2], &[document(&writer, 2, PIECE, "a")]].concat())),
            (1, 0, 0, 0)
        );
        assert_eq!(counts(with(&sound[..1])), (0, 1, 0, 0));
        assert_eq!(counts(with(&[document(&writer, 3, PIECE, "a")])), (0, 1, 0, 0));
        assert_eq!(counts(with(&[document(&writer, 1, text, "b")])), (0, 0, 1, 0));
        let mut wrong = sound[1].clone();
        wrong.source["message"] = json!("line 1 of other");
        assert_eq!(counts(judged(&writer, &[sound[0].clone(), wrong, sound[2].clone()])), (1, 0, 0, 1));
        let mut early = sound[1].clone();
        early.source["@timestamp"] = json!("2020-01-01T00:00:00.000000000Z");
        assert_eq!(counts(with(&[early])), (0, 0, 0, 1));
    }
}
