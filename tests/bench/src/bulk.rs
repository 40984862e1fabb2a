//! The `_bulk` request and its reply, as Elasticsearch and OpenSearch define them.
//!
//! In: an inflated request body and the query string. Out: the pairs of action and source that the body holds,
//! and the reply that a server which stored them all would give, cut by `filter_path` as a server cuts it.
//! It never parses JSON: it must count millions of documents a second beside the agent that it measures.

use memchr::{memchr, memmem};
use std::io::Write;

/// What an action line asks for; the only two that an agent that ships logs may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Refuses an `_id` that is there already.
    Create,
    /// Overwrites it.
    Index,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Index => "index",
        }
    }
}

/// One document of a request.
#[derive(Debug)]
pub struct Pair<'a> {
    /// Which action.
    pub verb: Verb,
    /// The action line without its newline.
    pub action: &'a [u8],
    /// The source line without its newline.
    pub source: &'a [u8],
}

impl Pair<'_> {
    /// The `_id` that the action names, escaped as it stands.
    pub fn id(&self) -> Option<&[u8]> {
        string_after(self.action, b"\"_id\":")
    }

    /// The `_index` that the action names; without one, that of the path counts.
    pub fn index(&self) -> Option<&[u8]> {
        string_after(self.action, b"\"_index\":")
    }

    /// The text of the document's `@timestamp`. The first such key is taken: an application's own comes later.
    pub fn timestamp(&self) -> Option<&[u8]> {
        string_after(self.source, b"\"@timestamp\":")
    }
}

/// The string value that follows `key`. Ids, index names and times hold no escaped quote.
pub fn string_after<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let after = &line[memmem::find(line, key)? + key.len()..];
    let text = after.trim_ascii_start().strip_prefix(b"\"")?;
    Some(&text[..memchr(b'"', text)?])
}

/// The documents of a request body, in order; ends after the first malformed one.
pub struct Pairs<'a> {
    rest: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// Reads `body`, which is inflated already.
    pub fn new(body: &'a [u8]) -> Pairs<'a> {
        Pairs { rest: body }
    }

    fn line(&mut self) -> Result<&'a [u8], String> {
        let end = memchr(b'\n', self.rest).ok_or("the bulk request must be terminated by a newline")?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(line)
    }

    fn pair(&mut self) -> Result<Pair<'a>, String> {
        let action = self.line()?;
        let verb = if action.starts_with(b"{\"create\"") {
            Verb::Create
        } else if action.starts_with(b"{\"index\"") {
            Verb::Index
        } else {
            return Err(format!("an action line that is neither create nor index: {}", start_of(action)));
        };
        let source = self.line()?;
        // A server would parse it. An agent that cuts or joins documents wrongly shows here without that price.
        if !action.ends_with(b"}") || !source.starts_with(b"{") || !source.ends_with(b"}") {
            return Err(format!(
                "a source that is no object: {} after {}",
                start_of(source),
                start_of(action)
            ));
        }
        Ok(Pair { verb, action, source })
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<Pair<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let pair = self.pair();
        if pair.is_err() {
            self.rest = &[];
        }
        Some(pair)
    }
}

fn start_of(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned()
}

/// The fields of a stored item in the server's order, each with the way to it below the action's name.
const ITEM_FIELDS: [&[&str]; 10] = [
    &["_index"],
    &["_id"],
    &["_version"],
    &["result"],
    &["_shards", "total"],
    &["_shards", "successful"],
    &["_shards", "failed"],
    &["_seq_no"],
    &["_primary_term"],
    &["status"],
];

/// Which parts of a reply the client asked for.
pub struct Shape {
    took: bool,
    errors: bool,
    /// Per verb and field of [`ITEM_FIELDS`].
    create: [bool; ITEM_FIELDS.len()],
    index: [bool; ITEM_FIELDS.len()],
    /// What is said of an error.
    error: bool,
}

/// What a server says of an `_id` that it has.
const CONFLICT: &str = "{\"type\":\"version_conflict_engine_exception\",\"reason\":\"[AAAAAAAAAAAAAAAAAAAAAA-0-265]: \
    version conflict, document already exists (current version [1])\"}";

/// What a server with a full queue says.
const REJECTED: &str = "{\"type\":\"es_rejected_execution_exception\",\"reason\":\"rejected execution of \
    TimedRunnable on EsThreadPoolExecutor[name = n1/write, queue capacity = 10000]\"}";

impl Shape {
    /// Reads `filter_path` from a query string. Exclusions (`-items`) are not done here and are an error.
    pub fn from_query(query: Option<&str>) -> Result<Shape, String> {
        let filters: Vec<String> = query
            .unwrap_or("")
            .split('&')
            .filter_map(|part| part.strip_prefix("filter_path="))
            .flat_map(|value| percent_decoded(value).split(',').map(str::to_owned).collect::<Vec<_>>())
            .filter(|filter| !filter.is_empty())
            .collect();
        if let Some(exclusion) = filters.iter().find(|filter| filter.starts_with('-')) {
            return Err(format!("filter_path {exclusion}: exclusions are not supported by this sink"));
        }
        let wanted =
            |path: &[&str]| filters.is_empty() || filters.iter().any(|filter| includes(filter, path));
        let fields = |verb: Verb| {
            ITEM_FIELDS.map(|field| wanted(&[["items", verb.name()].as_slice(), field].concat()))
        };
        Ok(Shape {
            took: wanted(&["took"]),
            errors: wanted(&["errors"]),
            create: fields(Verb::Create),
            index: fields(Verb::Index),
            error: wanted(&["items", "create", "error", "type"]),
        })
    }

    fn fields(&self, verb: Verb) -> &[bool; ITEM_FIELDS.len()] {
        match verb {
            Verb::Create => &self.create,
            Verb::Index => &self.index,
        }
    }

    /// Begins a reply to which items are added one by one.
    pub fn begin(&self) -> Reply<'_> {
        Reply { shape: self, items: Vec::new(), count: 0, errors: false }
    }
}

/// A reply being written.
pub struct Reply<'a> {
    shape: &'a Shape,
    items: Vec<u8>,
    count: u64,
    errors: bool,
}

impl Reply<'_> {
    /// Adds the item of a document that was stored in `index` (the path's, if the action names none).
    pub fn stored(&mut self, pair: &Pair<'_>, index: &str) {
        self.count += 1;
        let wanted = self.shape.fields(pair.verb);
        // An object of which nothing is left is left out altogether, as a server does.
        if !wanted.contains(&true) {
            return;
        }
        if !self.items.is_empty() {
            self.items.push(b',');
        }
        if wanted[9] && !wanted[..9].contains(&true) {
            // What an agent that cares asks for: a constant, so that the sink is not the bottleneck.
            self.items.extend_from_slice(match pair.verb {
                Verb::Create => b"{\"create\":{\"status\":201}}",
                Verb::Index => b"{\"index\":{\"status\":201}}",
            });
            return;
        }
        self.full_item(pair, index, wanted);
    }

    /// Adds the item of a document that a server with a full queue refused for now.
    pub fn refused(&mut self, pair: &Pair<'_>) {
        self.failed(pair, 429, REJECTED);
    }

    /// Adds the item of a document that the server holds already.
    pub fn held(&mut self, pair: &Pair<'_>) {
        self.failed(pair, 409, CONFLICT);
    }

    /// Of the error all is told, whatever was asked for, but where only the status was.
    fn failed(&mut self, pair: &Pair<'_>, status: u16, error: &str) {
        self.errors = true;
        if !self.items.is_empty() {
            self.items.push(b',');
        }
        let verb = pair.verb.name();
        if self.shape.error {
            put(&mut self.items, format_args!("{{\"{verb}\":{{\"status\":{status},\"error\":{error}}}}}"));
        } else {
            put(&mut self.items, format_args!("{{\"{verb}\":{{\"status\":{status}}}}}"));
        }
    }

    fn full_item(&mut self, pair: &Pair<'_>, index: &str, wanted: &[bool; ITEM_FIELDS.len()]) {
        let index = pair.index().unwrap_or(index.as_bytes());
        let made_up = format!("sink{:016x}", self.count);
        let id = pair.id().unwrap_or(made_up.as_bytes());
        let out = &mut self.items;
        out.extend_from_slice(b"{\"");
        out.extend_from_slice(pair.verb.name().as_bytes());
        out.extend_from_slice(b"\":{");
        let count = self.count;
        let mut object = "";
        for (field, _) in ITEM_FIELDS.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
            let (parent, name) = if field.len() == 2 { (field[0], field[1]) } else { ("", field[0]) };
            if parent != object && !object.is_empty() {
                out.push(b'}');
            }
            if !out.ends_with(b"{") {
                out.push(b',');
            }
            if parent != object && !parent.is_empty() {
                put(out, format_args!("\"{parent}\":{{"));
            }
            object = parent;
            put(out, format_args!("\"{name}\":"));
            match name {
                "_index" | "_id" => {
                    out.push(b'"');
                    out.extend_from_slice(if name == "_id" { id } else { index });
                    out.push(b'"');
                }
                "result" => out.extend_from_slice(b"\"created\""),
                "status" => out.extend_from_slice(b"201"),
                "failed" => out.push(b'0'),
                "total" => out.push(b'2'),
                "_seq_no" => put(out, format_args!("{count}")),
                _ => out.push(b'1'),
            }
        }
        out.extend_from_slice(if object.is_empty() { b"}}" } else { b"}}}" });
    }

    /// The body of the whole reply.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.items.len() + 64);
        out.push(b'{');
        if self.shape.took {
            out.extend_from_slice(b"\"took\":7,");
        }
        if self.shape.errors {
            put(&mut out, format_args!("\"errors\":{},", self.errors));
        }
        if !self.items.is_empty() {
            out.extend_from_slice(b"\"items\":[");
            out.extend_from_slice(&self.items);
            out.extend_from_slice(b"],");
        }
        if out.ends_with(b",") {
            out.pop();
        }
        out.push(b'}');
        out
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes whatever is written");
}

/// Whether the pattern `filter` includes the field at `path`: it names the field or something that holds it.
fn includes(filter: &str, path: &[&str]) -> bool {
    fn walk(filter: &[&str], path: &[&str]) -> bool {
        match (filter.split_first(), path.split_first()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some((&"**", rest)), Some((_, deeper))) => walk(rest, path) || walk(filter, deeper),
            (Some((name, rest)), Some((key, deeper))) => {
                let same = match name.strip_suffix('*') {
                    Some(start) => key.starts_with(start),
                    None => name == key,
                };
                same && walk(rest, deeper)
            }
        }
    }
    walk(&filter.split('.').collect::<Vec<_>>(), path)
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                out.push(decoded);
                rest = &tail[2..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] =
        b"{\"create\":{\"_index\":\"a\",\"_id\":\"k-0-9\"}}\n{\"@timestamp\":\"2024-02-29T12:34:56Z\"}\n\
                          {\"index\":{}}\n{\"m\":1}\n";

    fn reply(query: Option<&str>) -> String {
        let shape = Shape::from_query(query).unwrap();
        let mut reply = shape.begin();
        for pair in Pairs::new(BODY) {
            reply.stored(&pair.unwrap(), "path");
        }
        String::from_utf8(reply.finish()).unwrap()
    }

    #[test]
    fn pairs_are_counted_with_what_they_say() {
        let pairs: Vec<_> = Pairs::new(BODY).map(Result::unwrap).collect();
        assert_eq!(pairs.len(), 2);
        assert_eq!(pairs[0].id(), Some(b"k-0-9".as_slice()));
        assert_eq!(pairs[0].index(), Some(b"a".as_slice()));
        assert_eq!(pairs[0].timestamp(), Some(b"2024-02-29T12:34:56Z".as_slice()));
        assert_eq!((pairs[1].verb, pairs[1].id()), (Verb::Index, None));
    }

    #[test]
    fn what_a_server_would_refuse_is_refused() {
        for body in [
            "{\"create\":{}}\n{\"m\":1}",
            "{\"create\":{}}\n",
            "{\"create\":{}}\n{\"m\":1\n",
            "{\"m\":1}\n{\"create\":{}}\n",
            "{\"delete\":{\"_id\":\"1\"}}\n",
        ] {
            assert!(Pairs::new(body.as_bytes()).any(|pair| pair.is_err()), "{body}");
        }
    }

    #[test]
    fn replies_are_cut_by_filter_path() {
        let slim =
            "{\"errors\":false,\"items\":[{\"create\":{\"status\":201}},{\"index\":{\"status\":201}}]}";
        assert_eq!(reply(Some("filter_path=errors,items.*.status,items.*.error.type")), slim);
        assert_eq!(reply(Some("refresh=false&filter_path=errors%2Citems.%2A.status")), slim);
        assert_eq!(reply(Some("filter_path=errors,items.*.error")), "{\"errors\":false}");
        assert_eq!(reply(Some("filter_path=took")), "{\"took\":7}");
        assert_eq!(
            reply(Some("filter_path=items.create._id,items.create._shards.t*,**.result")),
            "{\"items\":[{\"create\":{\"_id\":\"k-0-9\",\"result\":\"created\",\"_shards\":{\"total\":2}}},\
             {\"index\":{\"result\":\"created\"}}]}"
        );
        assert!(Shape::from_query(Some("filter_path=-items")).is_err());
    }

    #[test]
    fn without_filter_path_the_reply_is_whole_and_valid() {
        let whole: serde_json::Value = serde_json::from_str(&reply(None)).unwrap();
        assert_eq!(whole["items"][0]["create"]["_index"], "a");
        assert_eq!(whole["items"][1]["index"]["_index"], "path");
        assert_eq!(whole["items"][1]["index"]["_shards"]["successful"], 1);
        assert_eq!(whole["items"][0]["create"]["status"], 201);
    }
}
