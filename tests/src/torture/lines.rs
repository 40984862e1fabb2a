//! The lines of a torture, and what was written of them.
//!
//! What comes in: how many lines, of which form and length. What goes out: pieces in a container's log, and a
//! [`Ledger`] of them, from which the text of each line can be made again. It never keeps the text.

use crate::node::{Container, PIECE};
use serde_json::{Value, json};

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `line 17 of web`, longer if need be.
    Text,
    /// The same with characters that trip up the careless.
    Odd,
    /// `{"n":17,"msg":"line 17 of web","level":"info"}`, longer if need be.
    Json,
}

/// A line. Its number is its place in the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Its form.
    pub form: Form,
    /// Bytes that it has, or would have had if its container had not ended before.
    pub length: u32,
    /// Bytes that were written.
    pub written: u32,
    /// Whether it went to stderr.
    pub stderr: bool,
}

/// A piece of a line, as a runtime writes it.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// The time before it: no other piece of the container has the same.
    pub time: u64,
    /// The line that it is of.
    pub line: u32,
    /// Where in the line it begins.
    pub offset: u32,
}

/// All that a container wrote, in the order of writing.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Name of the pod, which its lines speak of.
    pub pod: String,
    /// Its lines by number.
    pub lines: Vec<Line>,
    /// Their pieces, in the order of their times.
    pub pieces: Vec<Piece>,
}

impl Ledger {
    /// The whole text of a line.
    pub fn text(&self, number: u32) -> String {
        let Line { form, length, .. } = self.lines[number as usize];
        text(&self.pod, number, form, length as usize)
    }

    /// The fields that a whole JSON line becomes: its message, and what stands under `app`.
    pub fn fields(&self, number: u32) -> (String, Value) {
        let mut app: Value = serde_json::from_str(&self.text(number)).unwrap_or_default();
        let message = app["msg"].as_str().unwrap_or_default().to_owned();
        if let Some(members) = app.as_object_mut() {
            members.remove("msg");
        }
        (message, app)
    }

    /// The part of it that was written by when it had so many pieces.
    pub fn up_to(&self, pieces: usize) -> Ledger {
        let pieces = self.pieces[..pieces].to_vec();
        // A line has a piece as soon as it has a number.
        let mut ends = Vec::new();
        for piece in &pieces {
            ends.resize(ends.len().max(piece.line as usize + 1), 0);
            ends[piece.line as usize] = piece.offset + PIECE as u32;
        }
        let cut = |(line, end): (&Line, u32)| Line { written: line.written.min(end), ..*line };
        let lines = self.lines.iter().zip(ends).map(cut).collect();
        Ledger { pod: self.pod.clone(), lines, pieces }
    }
}

fn text(pod: &str, number: u32, form: Form, length: usize) -> String {
    let plain = format!("line {number} of {pod}");
    match form {
        Form::Text => filled(plain, number, length),
        Form::Odd => filled(plain + r#" "said" \n 	 {"é":漢} </script> %s"#, number, length),
        Form::Json => {
            let head = json!({"n": number, "msg": plain, "level": "info"}).to_string();
            let open = &head[..head.len() - 1];
            let pad = length.saturating_sub(head.len() + r#","pad":"""#.len());
            if pad == 0 {
                head
            } else {
                format!(r#"{open},"pad":"{}"}}"#, filled(String::new(), number, pad))
            }
        }
    }
}

/// Brings a text to its length, by words of which no two are the same.
fn filled(mut text: String, number: u32, length: usize) -> String {
    let mut word = 0;
    while text.len() < length {
        text.push_str(&format!(" {number}.{word}"));
        word += 1;
        // An odd character is not cut in two: it is before the first word.
        if text.len() > length {
            text.truncate(length.max(1));
        }
    }
    text
}

/// A container that writes.
pub struct Writer {
    /// Its files.
    pub container: Container,
    /// What it has written.
    pub ledger: Ledger,
    /// The line of each stream that is not ended yet.
    open: [Option<u32>; 2],
}

impl Writer {
    /// A writer to this container.
    pub fn new(container: Container) -> Writer {
        let ledger = Ledger { pod: container.pod.name.clone(), ..Ledger::default() };
        Writer { container, ledger, open: [None; 2] }
    }

    /// Writes so many lines, each whole. Nothing if the stream is in the middle of a line.
    pub fn writes(&mut self, lines: u32, form: Form, length: usize, stderr: bool) {
        for _ in 0..lines {
            if self.begins(form, length, stderr) {
                self.goes_on(usize::MAX, stderr, true);
            }
        }
    }

    /// Begins a long line, and writes so many pieces of it. It has a few more.
    pub fn opens(&mut self, pieces: usize, stderr: bool) {
        // Of a length that tells pieces apart from lines.
        let length = (pieces + 1) * PIECE + 100 + self.ledger.lines.len() % 1_000;
        if self.begins(Form::Text, length, stderr) {
            self.goes_on(pieces, stderr, false);
        }
    }

    fn begins(&mut self, form: Form, length: usize, stderr: bool) -> bool {
        let open = &mut self.open[usize::from(stderr)];
        if open.is_some() {
            return false;
        }
        let number = self.ledger.lines.len() as u32;
        let length = text(&self.ledger.pod, number, form, length).len() as u32;
        self.ledger.lines.push(Line { form, length, written: 0, stderr });
        *open = Some(number);
        true
    }

    /// Writes so many more whole pieces of the stream's open line, if there are as many, and ends it if so said.
    pub fn goes_on(&mut self, pieces: usize, stderr: bool, ends: bool) {
        let Some(number) = self.open[usize::from(stderr)] else { return };
        let text = self.ledger.text(number);
        let stream = if stderr { "stderr" } else { "stdout" };
        let mut left = pieces;
        loop {
            let begun = self.ledger.lines[number as usize].written as usize;
            let rest = &text.as_bytes()[begun..];
            let is_last = rest.len() <= PIECE;
            if (is_last || left == 0) && !ends {
                return;
            }
            let piece = &rest[..rest.len().min(PIECE)];
            self.container.writes_piece(stream, if is_last { 'F' } else { 'P' }, piece);
            self.ledger.pieces.push(Piece {
                time: self.container.last_time(),
                line: number,
                offset: begun as u32,
            });
            self.ledger.lines[number as usize].written += piece.len() as u32;
            if is_last {
                self.open[usize::from(stderr)] = None;
                return;
            }
            left = left.saturating_sub(1);
        }
    }

    /// Its container dies: what is open stays without an end.
    pub fn dies(&mut self) {
        self.open = [None; 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Node;

    #[test]
    fn every_line_has_its_length_and_its_number() {
        for (form, length) in
            [(Form::Text, 0), (Form::Text, 40_000), (Form::Odd, 0), (Form::Json, 0), (Form::Json, 40_000)]
        {
            let text = text("web", 17, form, length);
            assert!(length == 0 || text.len() == length, "{form:?} {length}: {}", text.len());
            assert!(text.contains("line 17 of web"));
            assert_eq!(serde_json::from_str::<Value>(&text).is_ok(), form == Form::Json);
        }
    }

    #[test]
    fn the_pieces_of_the_ledger_are_those_of_the_file() {
        let node = Node::new();
        let mut writer = Writer::new(node.pod("web").container("app"));
        writer.writes(2, Form::Json, 0, false);
        writer.opens(2, false);
        writer.writes(1, Form::Text, 0, false);
        writer.writes(1, Form::Odd, 0, true);
        writer.goes_on(0, false, true);
        writer.opens(1, true);
        let file = std::fs::read_to_string(writer.container.current()).unwrap();
        let lines: Vec<Vec<&str>> = file.lines().map(|line| line.splitn(4, ' ').collect()).collect();
        assert_eq!(lines.len(), writer.ledger.pieces.len());
        for (line, piece) in lines.iter().zip(&writer.ledger.pieces) {
            assert_eq!(line[0], crate::clock::rfc3339(piece.time));
            let text = writer.ledger.text(piece.line);
            assert!(text[piece.offset as usize..].starts_with(line[3]));
            let is_end = piece.offset as usize + line[3].len() == text.len();
            assert_eq!(line[2] == "F", is_end);
        }
        assert_eq!(writer.ledger.lines.len(), 5, "none was begun in the middle of another");
        let written = |ledger: &Ledger| ledger.lines.iter().map(|line| line.written).collect::<Vec<_>>();
        let whole = written(&writer.ledger);
        assert_eq!(whole[2], writer.ledger.lines[2].length);
        assert_eq!(whole[4] as usize, PIECE);
        assert_eq!(written(&writer.ledger.up_to(writer.ledger.pieces.len())), whole);
        assert_eq!(written(&writer.ledger.up_to(3)), [whole[0], whole[1], PIECE as u32]);
    }
}
