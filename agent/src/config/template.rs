//! Names of indices, data streams, files, log groups and log streams, with placeholders.
//!
//! In: `logs-{namespace}-prod`, then the facts of a container. Out: a name that its destination accepts whatever
//! those facts are. The fixed text is checked when the configuration is read and never changed; the values are
//! made safe. A value can never leave the place that the fixed text gives it: no other directory, no other
//! family of indices. It reads no clock: the date is the caller's, and is put in last, so that everything else
//! is worked out once for a container.

use std::collections::BTreeMap;
use std::fmt;

use super::diagnostic::{Refusal, suggestion};
use super::units::quoted;

/// Elasticsearch, "Create index" and "Create data stream", name: at most 255 bytes. A data stream's backing index
/// adds `.ds-`, `-yyyy.MM.dd-` and six digits to it, and must keep to the same limit.
const INDEX_BYTES: usize = 255 - 22;
/// The same two pages: characters that a name cannot have.
const INDEX_FORBIDDEN: &str = "\\/*?\"<>| ,#:";
/// Linux: a name in a directory has at most 255 bytes. What rotation adds to it is left free.
const FILE_NAME_BYTES: usize = 255 - 15;
/// Linux: a path has less than 4096 bytes; far less is enough, and leaves room for the directories above.
const PATH_BYTES: usize = 1024;
/// CloudWatch Logs, CreateLogGroup and CreateLogStream, name: at most 512 letters.
const LOG_NAME_BYTES: usize = 512;
/// CreateLogGroup, name: what it can have besides letters and digits. A value's `/` would be a level of its own.
const LOG_GROUP_MARKS: &str = "_/.#-";
/// The least that a value gets of a name that is too long: seven bytes of its own, a dash and a hash.
const LEAST_VALUE_BYTES: usize = 24;
/// The length of a date such as `2026.11.23`.
const DATE_BYTES: usize = 10;
/// Kubernetes, "Labels and selectors", syntax: a prefix of at most 253 bytes, a slash, a name of at most 63.
const LABEL_KEY_BYTES: usize = 253 + 1 + 63;
/// What stands for a label that is not there, and for the id of a run that is not known.
const NO_LABEL: &str = "none";

/// What a rendered name is for, which decides what it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safe {
    /// The name of an index or a data stream of Elasticsearch or OpenSearch.
    Index,
    /// The absolute path of a file.
    Path,
    /// The name of a log group of CloudWatch.
    LogGroup,
    /// The name of a log stream of CloudWatch, or group and stream with a `:` between them.
    LogStream,
}

/// The facts of a container that a template can name. Any text will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names<'a> {
    /// The cluster, from the configuration.
    pub cluster: &'a str,
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The container's name.
    pub container: &'a str,
    /// The runtime's id of the run that wrote the record; empty if it is not known.
    pub container_id: &'a str,
    /// The node, from the configuration.
    pub node: &'a str,
    /// The pod's uid.
    pub uid: &'a str,
    /// The labels of the pod, or those that a table `[files.NAME]` gives.
    pub labels: &'a BTreeMap<String, String>,
    /// Where the record was read: `pods`, or the `NAME` of a table `[files.NAME]`.
    pub source: &'a str,
}

/// What stands between braces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Placeholder {
    Cluster,
    Namespace,
    Pod,
    Container,
    ContainerId,
    Node,
    Uid,
    Source,
    Date,
    /// `{label:KEY}`.
    Label(String),
}

/// All but labels, which are told by their key.
const PLACEHOLDERS: [(&str, Placeholder); 9] = [
    ("cluster", Placeholder::Cluster),
    ("namespace", Placeholder::Namespace),
    ("pod", Placeholder::Pod),
    ("container", Placeholder::Container),
    ("container_id", Placeholder::ContainerId),
    ("node", Placeholder::Node),
    ("uid", Placeholder::Uid),
    ("source", Placeholder::Source),
    ("date", Placeholder::Date),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Placeholder(Placeholder),
}

/// A name with placeholders: `{cluster}`, `{namespace}`, `{pod}`, `{container}`, `{container_id}` (of the run that wrote the
/// record, so that each restart has a name of its own; `none` where it is not known), `{node}`, `{uid}`, `{source}`,
/// `{label:KEY}` for a label of any key (`none` where it is missing), and `{date}`, at most once. `{{` and `}}` stand for
/// braces. It begins with fixed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

impl Template {
    /// Reads a template; whether its fixed text suits an index or a file is for [`Template::check`] to say.
    ///
    /// # Errors
    /// An unknown placeholder, unbalanced braces, `{date}` twice, or no fixed text to begin with.
    pub fn parse(text: &str) -> Result<Template, Refusal> {
        let template = Template::parse_unanchored(text)?;
        if !matches!(template.parts.first(), Some(Part::Literal(_))) {
            return Err(Refusal::new(
                format!("{} does not begin with fixed text", quoted(text)),
                "begin with some text of your own, such as `logs-`: the values can then not choose any name they like",
            ));
        }
        Ok(template)
    }

    /// The same for a name that may begin with a value, since it is of no weight by itself: a log stream lies in its group.
    ///
    /// # Errors
    /// As [`Template::parse`], but for how it begins; and a name without anything in it.
    pub fn parse_unanchored(text: &str) -> Result<Template, Refusal> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            let after = &rest[at + 1..];
            if let Some(doubled) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = doubled;
                continue;
            }
            let Some((name, after)) = after.split_once('}').filter(|_| brace == "{") else {
                return Err(Refusal::new(
                    format!("{} has a `{brace}` without its partner", quoted(text)),
                    format!("write `{brace}{brace}` for a brace that is meant as it stands"),
                ));
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Placeholder(placeholder(name)?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if parts.iter().filter(|part| **part == Part::Placeholder(Placeholder::Date)).count() > 1 {
            return Err(Refusal::new(
                format!("{} has `{{date}}` twice", quoted(text)),
                "leave one of them out",
            ));
        }
        Ok(Template { text: text.to_owned(), parts })
    }

    /// This name, `between`, and another: each keeps to its own limits where `between` can be in neither.
    pub fn joined(&self, between: &str, other: &Template) -> Template {
        let text = [&self.text, between, &other.text].concat();
        let between = Part::Literal(between.to_owned());
        let parts = self.parts.iter().cloned().chain([between]).chain(other.parts.iter().cloned()).collect();
        Template { text, parts }
    }

    /// Whether the fixed text can be part of such a name. A template that passes renders to legal names only.
    ///
    /// # Errors
    /// What in the fixed text the destination would refuse, or that it leaves too little room for the values.
    pub fn check(&self, safe: Safe) -> Result<(), Refusal> {
        match safe {
            Safe::Index => self.check_index(),
            Safe::Path => self.check_path(),
            Safe::LogGroup => self.check_log_group(),
            Safe::LogStream => self.check_log_stream(),
        }?;
        let total: usize = self.parts.iter().map(least_bytes).sum();
        let longest = match safe {
            Safe::Index => INDEX_BYTES,
            Safe::Path => PATH_BYTES,
            Safe::LogGroup | Safe::LogStream => LOG_NAME_BYTES,
        };
        if total > longest || self.groups(safe).iter().any(|group| group.room < LEAST_VALUE_BYTES) {
            return Err(Refusal::new(
                format!("{} is too long", quoted(&self.text)),
                format!(
                    "shorten its fixed text: {LEAST_VALUE_BYTES} bytes are kept free for each placeholder"
                ),
            ));
        }
        Ok(())
    }

    fn check_index(&self) -> Result<(), Refusal> {
        for character in self.literals().flat_map(str::chars) {
            if !character.to_lowercase().eq([character]) {
                return Err(Refusal::new(
                    format!("the name of an index cannot have the capital letter `{character}`"),
                    format!("write {}", quoted(&self.text.to_lowercase())),
                ));
            }
            if is_forbidden_in_index(character) {
                return Err(Refusal::new(
                    format!("the name of an index cannot have {}", quoted(&character.to_string())),
                    "leave out spaces, controls and any of \\ / * ? \" < > | , # :",
                ));
            }
        }
        match self.text.chars().next() {
            Some(first @ ('-' | '_' | '+' | '.')) => Err(Refusal::new(
                format!("the name of an index cannot begin with `{first}`"),
                "begin with a small letter or a digit",
            )),
            _ => Ok(()),
        }
    }

    fn check_log_group(&self) -> Result<(), Refusal> {
        let is_legal =
            |character: char| character.is_ascii_alphanumeric() || LOG_GROUP_MARKS.contains(character);
        if let Some(character) = self.literals().flat_map(str::chars).find(|character| !is_legal(*character))
        {
            return Err(Refusal::new(
                format!("the name of a log group cannot have {}", quoted(&character.to_string())),
                "use letters, digits and any of _ / . # -",
            ));
        }
        if self.text.starts_with("aws/") {
            return Err(Refusal::new(
                "the name of a log group cannot begin with `aws/`",
                "that is kept for AWS; begin with a name of your own, as in \"/eks/{cluster}\"",
            ));
        }
        Ok(())
    }

    fn check_log_stream(&self) -> Result<(), Refusal> {
        let is_illegal = |character: &char| matches!(character, ':' | '*') || character.is_control();
        if let Some(character) = self.literals().flat_map(str::chars).find(is_illegal) {
            return Err(Refusal::new(
                format!("the name of a log stream cannot have {}", quoted(&character.to_string())),
                "leave out `:`, `*` and control characters",
            ));
        }
        if self.text.is_empty() {
            return Err(Refusal::new(
                "the name of a log stream cannot be empty",
                "write one, as in \"{node}\"",
            ));
        }
        Ok(())
    }

    fn check_path(&self) -> Result<(), Refusal> {
        let text = quoted(&self.text);
        if !self.text.starts_with('/') {
            return Err(Refusal::new(format!("{text} is not an absolute path"), "begin with `/`"));
        }
        if self.literals().flat_map(str::chars).any(char::is_control) {
            return Err(Refusal::new(format!("{text} has a control character"), "leave it out"));
        }
        // A value is never empty and never dots alone, so any letter can stand for it here.
        let shape: String = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Literal(literal) => literal.as_str(),
                Part::Placeholder(_) => "x",
            })
            .collect();
        if shape.ends_with('/') {
            return Err(Refusal::new(
                format!("{text} names no file"),
                "end with a file's name, as `all.ndjson`",
            ));
        }
        if shape.split('/').skip(1).any(|name| matches!(name, "" | "." | "..")) {
            return Err(Refusal::new(
                format!("{text} has an empty, `.` or `..` directory"),
                "write the path without such detours",
            ));
        }
        if self.directory() == "/" {
            return Err(Refusal::new(
                format!("{text} has no fixed directory"),
                "name one before the first placeholder, as in \"/var/log/taffrail-out/{namespace}.ndjson\"",
            ));
        }
        Ok(())
    }

    /// The template as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether names change with the date.
    pub fn has_date(&self) -> bool {
        self.parts.contains(&Part::Placeholder(Placeholder::Date))
    }

    /// Whether names change with each run of a container.
    pub fn has_container_id(&self) -> bool {
        self.parts.contains(&Part::Placeholder(Placeholder::ContainerId))
    }

    /// Whether every pod gets a name of its own.
    pub fn is_per_pod(&self) -> bool {
        let per_pod = [Placeholder::Pod, Placeholder::Uid, Placeholder::ContainerId].map(Part::Placeholder);
        self.parts.iter().any(|part| per_pod.contains(part))
    }

    /// The keys of the labels that names hold.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(Placeholder::Label(key)) => Some(key.as_str()),
            _ => None,
        })
    }

    /// What every name begins with.
    pub fn fixed_beginning(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(literal)) => literal,
            _ => "",
        }
    }

    /// What the names of log groups in a cluster begin with, whatever the container, and whether that is all of them.
    pub fn known_of(&self, cluster: &str) -> (String, bool) {
        let mut known = String::new();
        for group in self.groups(Safe::LogGroup) {
            for part in group.parts {
                match part {
                    Piece::Literal(literal) => known.push_str(literal),
                    Piece::Placeholder(Placeholder::Cluster) => {
                        known.push_str(&cut(&made_safe(cluster, Safe::LogGroup), cluster, group.room));
                    }
                    Piece::Placeholder(_) => return (known, false),
                }
            }
        }
        (known, true)
    }

    /// What stands for all names of this template in a cluster, with `*` for what is not known. Dates are of this century, which
    /// keeps `logs-{date}` from being every name that begins with `logs-`.
    pub fn pattern(&self, cluster: &str, safe: Safe) -> String {
        let mut pattern = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => pattern.push_str(literal),
                Part::Placeholder(Placeholder::Cluster) => pattern.push_str(&made_safe(cluster, safe)),
                Part::Placeholder(Placeholder::Date) => pattern.push_str("20*"),
                Part::Placeholder(_) if pattern.ends_with('*') => {}
                Part::Placeholder(_) => pattern.push('*'),
            }
        }
        pattern
    }

    /// Whether it could be the name of a log group of this template in a cluster. A value has no `/`.
    pub fn recognises(&self, cluster: &str, name: &str) -> bool {
        let pattern: String = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Literal(literal) => regex::escape(literal),
                Part::Placeholder(Placeholder::Cluster) => regex::escape(&made_safe(cluster, Safe::LogGroup)),
                Part::Placeholder(_) => "[A-Za-z0-9_.#-]+".to_owned(),
            })
            .collect();
        regex::Regex::new(&format!("^{pattern}$")).is_ok_and(|pattern| pattern.is_match(name))
    }

    /// Of a path: the directory that no value can lead out of, with its last `/`.
    pub fn directory(&self) -> &str {
        let fixed = self.fixed_beginning();
        &fixed[..fixed.rfind('/').map_or(0, |slash| slash + 1)]
    }

    /// The name for a container and a day. `date` is ten bytes such as `2026.11.23`; it is unused without `{date}`.
    pub fn render(&self, names: Names<'_>, date: &str, safe: Safe) -> String {
        self.prepare(names, safe).on(&cut(&made_safe(date, safe), date, DATE_BYTES))
    }

    /// Everything of the name but its date, which is put in for each record. The template must have passed
    /// [`Template::check`] for the same use.
    pub fn prepare(&self, names: Names<'_>, safe: Safe) -> Prepared {
        let mut prepared = Prepared { text: String::with_capacity(self.text.len()), date_at: None };
        for group in self.groups(safe) {
            for part in group.parts {
                let value = match part {
                    Piece::Literal(literal) => {
                        prepared.text.push_str(literal);
                        continue;
                    }
                    Piece::Placeholder(Placeholder::Date) => {
                        prepared.date_at = Some(prepared.text.len());
                        continue;
                    }
                    Piece::Placeholder(Placeholder::Cluster) => names.cluster,
                    Piece::Placeholder(Placeholder::Namespace) => names.namespace,
                    Piece::Placeholder(Placeholder::Pod) => names.pod,
                    Piece::Placeholder(Placeholder::Container) => names.container,
                    Piece::Placeholder(Placeholder::ContainerId) if names.container_id.is_empty() => NO_LABEL,
                    Piece::Placeholder(Placeholder::ContainerId) => names.container_id,
                    Piece::Placeholder(Placeholder::Node) => names.node,
                    Piece::Placeholder(Placeholder::Uid) => names.uid,
                    Piece::Placeholder(Placeholder::Source) => names.source,
                    Piece::Placeholder(Placeholder::Label(key)) => {
                        names.labels.get(key).map_or(NO_LABEL, String::as_str)
                    }
                };
                prepared.text.push_str(&cut(&made_safe(value, safe), value, group.room));
            }
        }
        prepared
    }

    fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(literal) => Some(literal.as_str()),
            Part::Placeholder(_) => None,
        })
    }

    /// The template cut into what has a length limit of its own: an index as a whole, a path at each `/`.
    fn groups(&self, safe: Safe) -> Vec<Group<'_>> {
        let mut groups = vec![Vec::new()];
        for part in &self.parts {
            let pieces: Vec<Piece<'_>> = match part {
                Part::Placeholder(placeholder) => vec![Piece::Placeholder(placeholder)],
                Part::Literal(literal) if safe == Safe::Path => {
                    literal.split_inclusive('/').map(Piece::Literal).collect()
                }
                Part::Literal(literal) if safe == Safe::LogStream && literal == ":" => {
                    groups.push(Vec::new());
                    if let Some(before) = groups.iter_mut().rev().nth(1) {
                        before.push(Piece::Literal(literal));
                    }
                    continue;
                }
                Part::Literal(literal) => vec![Piece::Literal(literal)],
            };
            for piece in pieces {
                let ends = safe == Safe::Path && matches!(piece, Piece::Literal(text) if text.ends_with('/'));
                if let Some(group) = groups.last_mut() {
                    group.push(piece);
                }
                if ends {
                    groups.push(Vec::new());
                }
            }
        }
        let limit = match safe {
            Safe::Index => INDEX_BYTES,
            Safe::Path => FILE_NAME_BYTES,
            Safe::LogGroup | Safe::LogStream => LOG_NAME_BYTES,
        };
        groups.into_iter().map(|parts| Group::new(parts, limit)).collect()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A name that lacks at most its date. An index name made of it needs no escaping within JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    text: String,
    date_at: Option<usize>,
}

impl Prepared {
    /// What stands before the date and, if there is a date, what stands behind it.
    pub fn split_at_date(&self) -> (&str, Option<&str>) {
        match self.date_at {
            Some(at) => (&self.text[..at], Some(&self.text[at..])),
            None => (&self.text, None),
        }
    }

    /// The name on a day; `date` is ten bytes such as `2026.11.23`, safe as they stand.
    pub fn on(&self, date: &str) -> String {
        match self.split_at_date() {
            (before, Some(after)) => [before, date, after].concat(),
            (whole, None) => whole.to_owned(),
        }
    }

    /// Appends the name on a day to a body, without allocating for it.
    pub fn append_to(&self, body: &mut Vec<u8>, date: &[u8; DATE_BYTES]) {
        let (before, after) = self.split_at_date();
        body.extend_from_slice(before.as_bytes());
        if let Some(after) = after {
            body.extend_from_slice(date);
            body.extend_from_slice(after.as_bytes());
        }
    }
}

/// A part of a template within one [`Group`].
#[derive(Debug, Clone, Copy)]
enum Piece<'a> {
    Literal(&'a str),
    Placeholder(&'a Placeholder),
}

/// Parts that share a length limit, and how many bytes of it each of their values can have.
struct Group<'a> {
    parts: Vec<Piece<'a>>,
    room: usize,
}

impl<'a> Group<'a> {
    fn new(parts: Vec<Piece<'a>>, limit: usize) -> Group<'a> {
        let (mut fixed, mut values) = (0, 0);
        for part in &parts {
            match part {
                Piece::Literal(literal) => fixed += literal.len(),
                Piece::Placeholder(Placeholder::Date) => fixed += DATE_BYTES,
                Piece::Placeholder(_) => values += 1,
            }
        }
        // Without a value the room matters only as a sign of whether the fixed text fits.
        let room = match limit.checked_sub(fixed) {
            None => 0,
            Some(_) if values == 0 => limit,
            Some(left) => left / values,
        };
        Group { parts, room }
    }
}

/// The bytes that a part has at least.
fn least_bytes(part: &Part) -> usize {
    match part {
        Part::Literal(literal) => literal.len(),
        Part::Placeholder(Placeholder::Date) => DATE_BYTES,
        Part::Placeholder(_) => LEAST_VALUE_BYTES,
    }
}

fn placeholder(name: &str) -> Result<Placeholder, Refusal> {
    if let Some((_, known)) = PLACEHOLDERS.into_iter().find(|(known, _)| *known == name) {
        return Ok(known);
    }
    if let Some(key) = name.strip_prefix("label:") {
        let strange = |character: char| character.is_whitespace() || character.is_control();
        if key.is_empty() || key.len() > LABEL_KEY_BYTES || key.contains(strange) {
            return Err(Refusal::new(
                format!("{} names no label", quoted(&format!("{{{name}}}"))),
                format!(
                    "write a label's whole key without spaces, at most {LABEL_KEY_BYTES} bytes, as in `{{label:app.kubernetes.io/name}}`"
                ),
            ));
        }
        return Ok(Placeholder::Label(key.to_owned()));
    }
    let known: Vec<&str> = PLACEHOLDERS.iter().map(|(known, _)| *known).chain(["label:KEY"]).collect();
    let help = if name.starts_with("label") {
        "a label is written `{label:KEY}`, as in `{label:app}`".to_owned()
    } else {
        suggestion(name, &known)
    };
    Err(Refusal::new(format!("unknown placeholder {}", quoted(&format!("{{{name}}}"))), help))
}

fn is_forbidden_in_index(character: char) -> bool {
    INDEX_FORBIDDEN.contains(character) || character.is_whitespace() || character.is_control()
}

/// The value with everything replaced that such a name cannot hold; never empty, as a path never dots alone.
fn made_safe(value: &str, safe: Safe) -> String {
    let made: String = match safe {
        Safe::Index => value
            .chars()
            .flat_map(char::to_lowercase)
            .map(|character| if is_forbidden_in_index(character) { '_' } else { character })
            .collect(),
        Safe::Path if value.bytes().all(|byte| byte == b'.') => "_".repeat(value.len()),
        Safe::Path => value
            .chars()
            .map(|character| if character == '/' || character.is_control() { '_' } else { character })
            .collect(),
        Safe::LogGroup | Safe::LogStream => value
            .chars()
            .map(|character| {
                let is_legal =
                    character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '#' | '-');
                if is_legal { character } else { '_' }
            })
            .collect(),
    };
    if made.is_empty() { "_".to_owned() } else { made }
}

/// The value as it is, or cut to the room it has and told apart from others with that beginning by a hash.
fn cut(safe: &str, value: &str, room: usize) -> String {
    if safe.len() <= room {
        return safe.to_owned();
    }
    let hash = format!("{:016x}", fnv1a(value.as_bytes()));
    match room.checked_sub(hash.len() + 1) {
        Some(kept) => format!("{}-{hash}", &safe[..safe.floor_char_boundary(kept)]),
        // Only a date that is none comes here.
        None => hash[..room.min(hash.len())].to_owned(),
    }
}

/// FNV-1a, 64 bits: the same in every build and on every node, unlike the standard library's hash.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
