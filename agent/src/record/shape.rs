//! Shaping: single fields of a record are renamed, removed, hashed, cut, or given.
//!
//! In: the fields that were made of a record, as an object that is not closed yet. Out: those that it is to have, in the same
//! form. In this order: `rename`, `remove`, `hash`, `truncate`, `add`; what was renamed answers to both of its names. A field
//! is named by the names on the way to it with dots between; whether a document has the dots in its names or members within
//! members is one, and so is how names are escaped. Lists are looked through. What is asked for and not there is no error.
//! Never writes a name that is the agent's own, or one name twice.

use super::fields::{is_programs, is_within, overlap, text_of};
use super::hash::HashKey;
use super::json::{Member, Scanner};
use super::{escape, separate};

/// Where a program's own fields are.
const APP: &str = "app";

/// What is done with fields.
#[derive(Debug, Default)]
pub struct Shape {
    /// Fields, and what they are called from now on.
    renames: Vec<(String, String)>,
    edits: Vec<(Pattern, Edit)>,
    /// Fields under `app`, by their names there, and their values as JSON.
    given: Vec<(String, Vec<u8>)>,
    /// What hashes are made with.
    key: Option<HashKey>,
    /// A program's fields are at the top or under `app`: their names are the same ones.
    merged: bool,
}

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// It is left out.
    Remove,
    /// A keyed hash stands for each text, number and truth value in it.
    Hash,
    /// Each text in it is cut to so many bytes, the mark of it included.
    Truncate(usize),
}

/// Which fields: one, or, with `.*` behind it, all beneath it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// Empty for `app` where JSON is merged: all that is a program's.
    path: String,
    beneath: bool,
}

/// What is done with a value, and with all in it.
#[derive(Debug, Clone, Copy, Default)]
struct Todo {
    remove: bool,
    hash: bool,
    truncate: Option<usize>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shaped {
    /// Something of what the program wrote was removed, hashed or cut.
    pub changed: bool,
    /// Texts that were cut.
    pub truncated: u32,
}

impl Pattern {
    fn new(text: &str, merged: bool) -> Pattern {
        let (path, beneath) = text.strip_suffix(".*").map_or((text, false), |path| (path, true));
        Pattern { path: plain(path, merged).to_owned(), beneath }
    }

    fn matches(&self, path: &Path) -> bool {
        if self.path.is_empty() {
            // Under `app` names that are the agent's elsewhere are a program's too.
            return path.in_app || path.names().any(is_programs);
        }
        let mut names = path.names();
        names.any(|name| is_within(name, &self.path) && !(self.beneath && name.len() == self.path.len()))
    }

    /// Whether it may match something beneath a path.
    fn is_beneath(&self, path: &str) -> bool {
        is_within(&self.path, path)
    }
}

/// The name under which a field is looked for: the same at the top and under `app` where a program's fields may be at both.
fn plain(name: &str, merged: bool) -> &str {
    let within = name.strip_prefix(APP).and_then(|rest| rest.strip_prefix('.'));
    within.filter(|_| merged).unwrap_or(if merged && name == APP { "" } else { name })
}

impl Shape {
    /// That does nothing yet. `merged`: a program's JSON is merged into the document. `key`: for hashes.
    pub fn new(merged: bool, key: Option<HashKey>) -> Shape {
        Shape { key, merged, ..Shape::default() }
    }

    /// A field has another name.
    pub fn rename(&mut self, from: &str, to: &str) {
        self.renames.push((plain(from, self.merged).to_owned(), to.to_owned()));
    }

    /// Something is done with a field, or with those beneath it.
    pub fn edit(&mut self, name: &str, edit: Edit) {
        self.edits.push((Pattern::new(name, self.merged), edit));
    }

    /// A field is given, whatever the program says of it; `name` is the one under `app`.
    pub fn give(&mut self, name: &str, json: Vec<u8>) {
        self.given.push((name.to_owned(), json));
    }

    /// Whether it does nothing.
    pub fn is_nothing(&self) -> bool {
        self.renames.is_empty() && self.edits.is_empty() && self.given.is_empty()
    }

    /// Appends the fields of a document as they are to be: `document` and `out` begin with a brace, and end behind a field.
    pub fn apply(&self, document: &[u8], out: &mut Vec<u8>) -> Shaped {
        let begin = out.len();
        let mut walk = Walk { shape: self, document, moved: Vec::new(), shaped: Shaped::default() };
        let mut app = None;
        Scanner { bytes: document, repair: false }.members(|_, member| {
            let value = &document[member.value.0..member.value.1];
            if value[0] == b'{' && document[member.name.0..member.name.1] == *b"\"app\"" {
                app = Some(value);
            } else {
                walk.member(out, begin, &Path::default(), document, member, Todo::default());
            }
            false
        });
        walk.app(out, begin, app);
        for (rename, value) in std::mem::take(&mut walk.moved) {
            append_named(out, begin, &self.renames[rename].1, &value);
        }
        if out.len() == begin {
            // A document has a field of its own, whatever was removed.
            out.extend_from_slice(b"\"message\":\"\"");
        }
        walk.shaped
    }

    /// What is to be done with a field of this name, besides what is done with all that it lies in.
    fn todo(&self, path: &Path, mut todo: Todo) -> Todo {
        let of_it = self.edits.iter().filter(|(pattern, _)| pattern.matches(path));
        for (_, edit) in of_it {
            match edit {
                Edit::Remove => todo.remove = true,
                Edit::Hash => todo.hash = true,
                Edit::Truncate(most) => {
                    todo.truncate = Some(todo.truncate.map_or(*most, |least| least.min(*most)))
                }
            }
        }
        todo
    }

    /// Whether something beneath a path may be meant.
    fn reaches_beneath(&self, path: &Path) -> bool {
        let mut patterns = self.edits.iter().map(|(pattern, _)| pattern);
        patterns.any(|pattern| path.names().any(|name| pattern.is_beneath(name)))
            || self.renames.iter().any(|(from, _)| is_within(from, &path.own))
            || path.in_app && self.given.iter().any(|(given, _)| is_within(given, self.under_app(path)))
    }

    /// The name that a field has under `app`.
    fn under_app<'p>(&self, path: &'p Path) -> &'p str {
        path.own.strip_prefix(if self.merged { "" } else { "app." }).unwrap_or_default()
    }
}

/// What leads to a field.
#[derive(Debug, Clone, Default)]
struct Path {
    own: String,
    /// By its other name, if it or what it lies in was renamed.
    new: Option<String>,
    in_app: bool,
    in_list: bool,
}

impl Path {
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.own.as_str()).chain(self.new.as_deref())
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

struct Walk<'a> {
    shape: &'a Shape,
    document: &'a [u8],
    /// Values of fields that have another place now, by the numbers of their renames.
    moved: Vec<(usize, Vec<u8>)>,
    shaped: Shaped,
}

impl Walk<'_> {
    /// `app`, with what is given there or comes there.
    fn app(&mut self, out: &mut Vec<u8>, begin: usize, app: Option<&[u8]>) {
        let start = out.len();
        separate(out, begin);
        out.extend_from_slice(b"\"app\":{");
        let inside = out.len();
        let own = if self.shape.merged { String::new() } else { APP.to_owned() };
        let path = Path { own, in_app: true, ..Path::default() };
        if let Some(app) = app {
            Scanner { bytes: app, repair: false }.members(|_, member| {
                self.member(out, inside, &path, app, member, Todo::default());
                false
            });
        }
        let name_there = |rename: usize| {
            let to: &str = &self.shape.renames[rename].1;
            to.strip_prefix(APP).and_then(|rest| rest.strip_prefix('.'))
        };
        self.moved.retain(|(rename, value)| match name_there(*rename) {
            Some(name) => {
                append_named(out, inside, name, value);
                false
            }
            None => true,
        });
        for (name, value) in &self.shape.given {
            append_named(out, inside, name, value);
        }
        if out.len() == inside {
            out.truncate(start);
        } else {
            out.push(b'}');
        }
    }

    /// One member of an object, whose first member is appended at `begin`.
    fn member(
        &mut self,
        out: &mut Vec<u8>,
        begin: usize,
        path: &Path,
        object: &[u8],
        member: Member,
        todo: Todo,
    ) {
        let shape = self.shape;
        let token = &object[member.name.0..member.name.1];
        let value = &object[member.value.0..member.value.1];
        let name = text_of(token);
        let own = joined(&path.own, &name);
        let renamed = shape.renames.iter().position(|(from, _)| *from == own);
        let new = match (&path.new, renamed) {
            (_, Some(rename)) => Some(plain(&shape.renames[rename].1, shape.merged).to_owned()),
            (Some(new), None) => Some(joined(new, &name)),
            (None, None) => None,
        };
        let here = Path { own, new, ..*path };
        if path.in_app && shape.given.iter().any(|(given, _)| is_within(shape.under_app(&here), given)) {
            return;
        }
        let todo = shape.todo(&here, todo);
        if todo.remove {
            self.shaped.changed = true;
            return;
        }
        if let Some(rename) = renamed.filter(|rename| !path.in_list && self.may_move(*rename)) {
            let mut moved = Vec::with_capacity(value.len());
            if self.value(&mut moved, &here, value, todo) {
                self.moved.push((rename, moved));
            }
            return;
        }
        let start = out.len();
        separate(out, begin);
        out.extend_from_slice(token);
        out.push(b':');
        if !self.value(out, &here, value, todo) {
            out.truncate(start);
        }
    }

    /// Appends a value; false if nothing is left of it.
    fn value(&mut self, out: &mut Vec<u8>, path: &Path, value: &[u8], todo: Todo) -> bool {
        let is_meant = todo.hash || todo.truncate.is_some() || self.shape.reaches_beneath(path);
        match value[0] {
            b'{' if is_meant => {
                out.push(b'{');
                let (begin, mut members) = (out.len(), 0);
                Scanner { bytes: value, repair: false }.members(|_, member| {
                    members += 1;
                    self.member(out, begin, path, value, member, todo);
                    false
                });
                let is_empty = out.len() == begin;
                out.push(b'}');
                !is_empty || members == 0 || path.in_list
            }
            b'[' if is_meant => {
                let path = Path { in_list: true, ..path.clone() };
                out.push(b'[');
                let begin = out.len();
                Scanner { bytes: value, repair: false }.elements(|_, (from, to)| {
                    separate(out, begin);
                    self.value(out, &path, &value[from..to], todo);
                });
                out.push(b']');
                true
            }
            b'{' | b'[' => {
                out.extend_from_slice(value);
                true
            }
            _ => {
                self.scalar(out, value, todo);
                true
            }
        }
    }

    fn scalar(&mut self, out: &mut Vec<u8>, value: &[u8], todo: Todo) {
        match (&self.shape.key, todo.truncate) {
            (Some(key), _) if todo.hash && value != b"null" => {
                out.push(b'"');
                key.append_of_field(out, text_of(value).as_bytes());
                out.push(b'"');
                self.shaped.changed = true;
            }
            // Of a text no more bytes than are written.
            (_, Some(most)) if value[0] == b'"' && value.len() - 2 > most => self.cut(out, value, most),
            _ => out.extend_from_slice(value),
        }
    }

    /// A text, cut at a character and marked if it is too long.
    fn cut(&mut self, out: &mut Vec<u8>, value: &[u8], most: usize) {
        let text = text_of(value);
        if text.len() <= most {
            return out.extend_from_slice(value);
        }
        let mark = format!(" [taffrail: cut, of {} bytes]", text.len());
        let end = text.floor_char_boundary(most.saturating_sub(mark.len()));
        out.push(b'"');
        escape::append_str(out, &text[..end]);
        out.extend_from_slice(mark.as_bytes());
        out.push(b'"');
        self.shaped.truncated += 1;
        self.shaped.changed = true;
    }

    /// Whether a field may have its new name: nothing is there.
    fn may_move(&self, rename: usize) -> bool {
        let to = &self.shape.renames[rename].1;
        let is_taken = |(other, _): &(usize, Vec<u8>)| overlap(&self.shape.renames[*other].1, to);
        !self.moved.iter().any(is_taken) && !has(self.document, "", to)
    }
}

/// Whether a field is in an object, or something of it, or something in its way. `path` leads to the object.
fn has(object: &[u8], path: &str, wanted: &str) -> bool {
    let mut found = false;
    Scanner { bytes: object, repair: false }.members(|_, member| {
        let name = joined(path, &text_of(&object[member.name.0..member.name.1]));
        let value = &object[member.value.0..member.value.1];
        let is_way = name.len() < wanted.len() && value[0] == b'{';
        found = if is_way {
            is_within(wanted, &name) && has(value, &name, wanted)
        } else {
            overlap(&name, wanted)
        };
        found
    });
    found
}

fn append_named(out: &mut Vec<u8>, begin: usize, name: &str, value: &[u8]) {
    separate(out, begin);
    out.push(b'"');
    escape::append_str(out, name);
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value);
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
