//! Problems of a configuration, shown where they are.
//!
//! In: the text of a file and a byte range in it. Out: a [`Diagnostic`] that prints the line with a caret
//! under the place, and says what to do. It never decides what is wrong, never cuts through a character, and
//! never shows a password: whatever stands between `://` and `@`, and the value of a key that holds secrets, is starred
//! out, in the source line too.

use std::fmt;
use std::ops::Range;

use unicode::{is_unprintable, width};

/// How many columns of a source line are shown; a longer one is cut around the caret.
const SHOWN_COLUMNS: usize = 100;

/// Why a value is refused, and what to write instead. What every parser of a single value returns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct Refusal {
    /// What is wrong, in one line.
    pub message: String,
    /// What is allowed, in one line.
    pub help: String,
}

impl Refusal {
    /// A refusal from its two lines.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Refusal {
        Refusal { message: message.into(), help: help.into() }
    }
}

/// One problem of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as it is to be named to the user.
    pub file: String,
    /// Where in the file; `None` for what concerns the whole of it.
    pub place: Option<Place>,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, in one line; may be empty.
    pub help: String,
}

/// A place in a file, ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line number, from 1.
    pub line: usize,
    /// Column, from 1, in characters of the line as written.
    pub column: usize,
    /// The line as it is shown: tabs expanded, controls replaced, credentials starred out, cut if long.
    pub text: String,
    /// Display columns of `text`, from 0, that get a caret; never empty.
    pub caret: Range<usize>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        let Some(place) = &self.place else {
            write!(f, "  --> {}", self.file)?;
            return if self.help.is_empty() { Ok(()) } else { write!(f, "\n   = {}", self.help) };
        };
        let number = place.line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(f, "{gutter} --> {}:{}:{}", self.file, place.line, place.column)?;
        writeln!(f, "{gutter}  |")?;
        writeln!(f, " {number} | {}", place.text)?;
        let carets = "^".repeat(place.caret.len());
        write!(f, "{gutter}  | {}{carets}", " ".repeat(place.caret.start))?;
        if self.help.is_empty() { Ok(()) } else { write!(f, " {}", self.help) }
    }
}

/// All that is wrong with one file, in the order of the file. Prints every problem, a blank line between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The text that problems are found in, and the name of its file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The file, as it is to be named to the user.
    pub file: &'a str,
    /// The whole text.
    pub text: &'a str,
}

impl Source<'_> {
    /// A problem of the whole file.
    pub fn nowhere(&self, message: &str, help: &str) -> Diagnostic {
        Diagnostic {
            file: self.file.to_owned(),
            place: None,
            message: without_credentials(message),
            help: without_credentials(help),
        }
    }

    /// A problem at a byte range of the text. Any range will do: it is brought inside the text and its first line.
    pub fn at(&self, span: Range<usize>, message: &str, help: &str) -> Diagnostic {
        Diagnostic { place: self.place(span), ..self.nowhere(message, help) }
    }

    fn place(&self, span: Range<usize>) -> Option<Place> {
        // A problem at the end of the file is one of its last line, not of the nothing after it.
        let last = self.text.trim_end().len();
        if last == 0 {
            return None;
        }
        let start = self.text.floor_char_boundary(span.start.min(last));
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
        let line = self.text[line_start..line_end].trim_end_matches('\r');
        let end = self.text.floor_char_boundary(span.end.clamp(start, line_start.max(line_end)));
        let (text, caret) =
            shown(&without_secrets(&without_credentials(line)), start - line_start..end - line_start);
        Some(Place {
            line: self.text[..line_start].matches('\n').count() + 1,
            column: self.text[line_start..start].trim_start_matches('\u{feff}').chars().count() + 1,
            text,
            caret,
        })
    }
}

/// The line as a terminal may safely show it, and the columns in it that the byte range of the line takes.
fn shown(line: &str, span: Range<usize>) -> (String, Range<usize>) {
    let mut cells: Vec<(char, usize)> = Vec::new();
    let mut column = 0;
    let (mut start, mut end) = (None, None);
    for (at, character) in line.char_indices() {
        if at >= span.start {
            start.get_or_insert(column);
        }
        if at >= span.end {
            end.get_or_insert(column);
        }
        if character == '\t' {
            for _ in 0..4 - column % 4 {
                cells.push((' ', 1));
                column += 1;
            }
        } else {
            let character = if is_unprintable(character) { '\u{fffd}' } else { character };
            cells.push((character, width(character)));
            column += width(character);
        }
    }
    let start = start.unwrap_or(column);
    let end = end.unwrap_or(column).max(start + 1);

    if column <= SHOWN_COLUMNS {
        return (cells.iter().map(|cell| cell.0).collect(), start..end);
    }
    // Keep some of what stands before the caret, and always the caret's own beginning.
    let from = if end <= SHOWN_COLUMNS { 0 } else { start.saturating_sub(SHOWN_COLUMNS / 3) };
    let mut text = String::new();
    let mut shown = 0;
    // Where the first shown cell lies in the whole line, less what the ellipsis before it takes.
    let mut shift = None;
    let mut at = 0;
    for (character, wide) in cells {
        if at >= from {
            if shift.is_none() {
                if from > 0 {
                    text.push('…');
                    shown = 1;
                }
                shift = Some(at - shown.min(at));
            }
            if shown + wide > SHOWN_COLUMNS {
                text.push('…');
                break;
            }
            text.push(character);
            shown += wide;
        }
        at += wide;
    }
    let shift = shift.unwrap_or(0);
    let start = start.saturating_sub(shift).min(SHOWN_COLUMNS);
    (text, start..end.saturating_sub(shift).clamp(start + 1, SHOWN_COLUMNS + 1))
}

/// The text with every user and password of a URL starred out, byte for byte so that places stay where they are.
pub(super) fn without_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        out.push_str(before);
        let url = after.find(['"', '\'', '\n']).unwrap_or(after.len());
        // The last `@` that could end the user's part: a password may itself hold one.
        let credentials = after[..url].rfind('@').unwrap_or(0);
        out.extend(std::iter::repeat_n('*', credentials));
        rest = &after[credentials..];
    }
    out.push_str(rest);
    out
}

/// A line of the source with the values of `password`, `token`, `key` and the like starred out, byte for byte: they
/// should name a place, but what is written there by mistake is the secret itself. Tables, which name places, stay.
fn without_secrets(line: &str) -> String {
    const KEYS: [&str; 6] = ["password", "token", "key", "secret", "auth", "env"];
    let mut out = line.as_bytes().to_vec();
    for (equals, _) in line.match_indices('=') {
        let name = line[..equals].trim_end().trim_end_matches(['"', '\'']).to_ascii_lowercase();
        let value = line[equals + 1..].trim_start();
        let start = line.len() - value.len();
        if !KEYS.iter().any(|key| name.ends_with(key))
            || value.starts_with('{')
            || value.starts_with("\"aws\"")
        {
            continue;
        }
        let (from, length) = match value.chars().next() {
            // A quote may be escaped, and what has no second one goes on to the end of the line.
            Some(quote @ ('"' | '\'')) => {
                let inner = &value[1..];
                let closing =
                    inner.match_indices(quote).map(|(at, _)| at).find(|&at| !inner[..at].ends_with('\\'));
                (start + 1, closing.unwrap_or(inner.len()))
            }
            _ => (start, value.find([',', '}', '#']).unwrap_or(value.len())),
        };
        // `""` opens a text of several lines: the rest of the line is of it.
        let length = if length == 0 { line.len() - from } else { length };
        // `env` has a name, unless the secret itself was put there.
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if !name.ends_with("env") || !out[from..from + length].iter().all(is_name) {
            out[from..from + length].fill(b'*');
        }
    }
    // Stars were put over whole characters only: the ends are at ASCII letters.
    String::from_utf8(out).unwrap_or_default()
}

/// The nearest of the known names, if any is so near that it was probably meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.chars().take(64).flat_map(char::to_lowercase).collect();
    known
        .into_iter()
        .map(|candidate| (distance(&wanted, &candidate.chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(wanted.len()) / 3).max(1))
        .filter(|(distance, candidate)| *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What to say of a name that is none of the known ones: the nearest, else all of them.
pub fn suggestion(name: &str, known: &[&str]) -> String {
    // `elastic` is too short to be near what it is the beginning of.
    let mut longer = known.iter().copied().filter(|known| name.len() >= 3 && known.starts_with(name));
    let beginning = longer.next().filter(|_| longer.next().is_none());
    match nearest(name, known.iter().copied()).or(beginning) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("allowed here: {}", listed(known)),
    }
}

/// Names in a row: `` `a`, `b` or `c` ``.
pub fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// How many letters must be added, left out, changed or swapped with their neighbour to make one name the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// What a terminal makes of a character.
mod unicode {
    /// Controls, and the marks that turn the direction of writing: they would make a line read other than it is.
    pub fn is_unprintable(character: char) -> bool {
        character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    }

    /// Columns a character takes: 2 for East Asian and emoji, 0 for what joins the letter before it. The common
    /// blocks only: a caret that is one off under rare writing does no harm.
    pub fn width(character: char) -> usize {
        match character {
            '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => 0,
            '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' => 2,
            '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' => 2,
            '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}' => 2,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str, wanted: &str) -> String {
        let start = text.find(wanted).expect("the test names a part of its text");
        Source { file: "f.toml", text }.at(start..start + wanted.len(), "wrong", "right").to_string()
    }

    #[test]
    fn a_caret_stands_under_what_is_wrong() {
        assert_eq!(
            at("a = 1\nb = 22\n", "22"),
            "error: wrong\n  --> f.toml:2:5\n   |\n 2 | b = 22\n   |     ^^ right"
        );
    }

    #[test]
    fn the_gutter_grows_with_the_line_number() {
        let text = format!("{}x = 1\r\n", "\n".repeat(99));
        assert_eq!(
            at(&text, "x"),
            "error: wrong\n    --> f.toml:100:1\n     |\n 100 | x = 1\n     | ^ right"
        );
    }

    #[test]
    fn tabs_wide_letters_and_controls_keep_the_caret_in_place() {
        assert!(at("\ta\t= 1", "1").ends_with(" 1 |     a   = 1\n   |           ^ right"));
        assert!(at("a = \"東京\" # x", "#").ends_with(" 1 | a = \"東京\" # x\n   |            ^ right"));
        assert!(at("a = \u{1b}[2J", "[").ends_with(" 1 | a = \u{fffd}[2J\n   |      ^ right"));
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("a = [{} bad, {}]", "1, ".repeat(100), "2, ".repeat(100));
        let shown = at(&text, "bad");
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() < 120), "{shown}");
        let caret = lines[4].find('^').expect("a caret");
        assert_eq!(lines[3].chars().skip(caret).take(3).collect::<String>(), "bad");
    }

    #[test]
    fn a_span_over_several_lines_marks_the_first() {
        assert!(at("a = [1,\n2]\n", "[1,\n2]").ends_with(" 1 | a = [1,\n   |     ^^^ right"));
    }

    #[test]
    fn the_end_of_the_file_is_its_last_line() {
        let source = Source { file: "f.toml", text: "a = [\n\n" };
        assert!(source.at(7..7, "m", "").to_string().ends_with("f.toml:1:6\n   |\n 1 | a = [\n   |      ^"));
        assert_eq!(
            Source { file: "f", text: "" }.at(0..0, "m", "h").to_string(),
            "error: m\n  --> f\n   = h"
        );
    }

    #[test]
    fn passwords_are_never_shown() {
        let shown = at("endpoints = [\"https://me:p@ss@host:1\", 5]", "5");
        assert!(shown.contains("https://*******@host:1\", 5]"), "{shown}");
        assert!(!shown.contains("me"), "{shown}");
        assert_eq!(without_credentials("'http://a:b c@d' 'http://e' f@g"), "'http://*****@d' 'http://e' f@g");
    }

    #[test]
    fn values_of_secret_keys_are_never_shown() {
        for (line, shown) in [
            ("password = \"hunter2\"", "password = \"*******\""),
            (
                "auth = { type = \"bearer\", token = 'a b', x = 1 }",
                "auth = { type = \"bearer\", token = '***', x = 1 }",
            ),
            ("auth = { password=hunter2, x = 1 }", "auth = { password=*******, x = 1 }"),
            ("\"API_KEY\" = \"a\\\"b\" # c", "\"API_KEY\" = \"****\" # c"),
            ("auth.password = [\"hunter2\"]", "auth.password = ***********"),
            ("password = \"\"\"hunter2", "password = \"*********"),
            ("password = \"東", "password = \"***"),
            ("token = { file = \"/a\" }", "token = { file = \"/a\" }"),
            ("token.env = \"TOKEN_1\"", "token.env = \"TOKEN_1\""),
            ("token.env = \"hunter-2\"", "token.env = \"********\""),
            ("auth = \"aws\"", "auth = \"aws\""),
            ("client_key_file = \"/a\"", "client_key_file = \"/a\""),
        ] {
            assert_eq!(without_secrets(line), shown);
        }
    }

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["endpoints", "index", "data_stream", "linger"];
        for (name, expected) in [
            ("endpoint", Some("endpoints")),
            ("Index", Some("index")),
            ("idnex", Some("index")),
            ("datastream", Some("data_stream")),
            ("data-stream", Some("data_stream")),
            ("buffer", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        let types = ["elasticsearch", "opensearch", "file"];
        assert_eq!(suggestion("elastic", &types), "did you mean `elasticsearch`?");
        assert!(suggestion("el", &types).starts_with("allowed here"));
        assert_eq!(suggestion("zzz", &["a", "b", "c"]), "allowed here: `a`, `b` or `c`");
    }

    proptest! {
        #[test]
        fn any_range_of_any_text_can_be_shown(text in "\\PC*|(.|\n|\t|\r){0,300}", a in 0usize..400, b in 0usize..400) {
            let shown = Source { file: "f", text: &text }.at(a..b, "m", "h");
            let _ = shown.to_string();
            if let Some(place) = shown.place {
                prop_assert!(!place.caret.is_empty() && place.caret.end <= 2 * SHOWN_COLUMNS);
            }
        }
    }
}
