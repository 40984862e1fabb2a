//! The reply to a bulk request, judged item by item without building a tree.
//!
//! In: the reply's bytes, cut by `filter_path` to `errors` and, of each item, status and error. Out: for each item that
//! was not simply created, its place in the request and what the server said. The order of items is that of the
//! request; a reply with another number of them is not believed.

/// The `filter_path` that a request asks with: some 26 bytes for an item that went well, where the full reply has 200.
pub const FILTER_PATH: &str = "errors,items.*.status,items.*.error.type,items.*.error.reason";

/// An item that was not created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its place in the request, from 0.
    pub index: u32,
    /// Its HTTP status.
    pub status: u16,
    /// Type of the error, such as `mapper_parsing_exception`; empty if none was told.
    pub kind: String,
    /// What the server says of it, for people; bounded.
    pub reason: String,
}

/// Longest `reason` that is kept, in bytes.
const REASON_LIMIT: usize = 400;

/// Judges a reply to a request of `expected` items: those not answered with 200 or 201.
///
/// # Errors
/// What is wrong with the reply: not JSON of the documented shape, or another number of items.
pub fn judge(reply: &[u8], expected: u32) -> Result<Vec<Item>, String> {
    let mut scan = Scan { bytes: reply, at: 0 };
    let mut items = None;
    scan.object(|scan, key| {
        if key == b"items" {
            items = Some(judge_items(scan)?);
            Ok(())
        } else {
            scan.skip()
        }
    })
    .map_err(|what| format!("{what} at byte {}", scan.at))?;
    let (count, failed) = items.ok_or("it has no `items`")?;
    if count != expected {
        return Err(format!("it speaks of {count} items, the request had {expected}"));
    }
    Ok(failed)
}

fn judge_items(scan: &mut Scan<'_>) -> Result<(u32, Vec<Item>), &'static str> {
    let (mut count, mut failed) = (0, Vec::new());
    scan.array(|scan| {
        let mut item = Item { index: count, status: 0, kind: String::new(), reason: String::new() };
        // { "create": { "status": 400, "error": { "type": …, "reason": … } } }
        scan.object(|scan, _action| {
            scan.object(|scan, key| match key {
                b"status" => {
                    item.status = scan.number()?;
                    Ok(())
                }
                b"error" => scan.error(&mut item),
                _ => scan.skip(),
            })
        })?;
        if item.status != 201 && item.status != 200 {
            failed.push(item);
        }
        count += 1;
        Ok(())
    })?;
    Ok((count, failed))
}

/// A place in JSON text that moves over values.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Step = Result<(), &'static str>;

impl<'a> Scan<'a> {
    fn peek(&mut self) -> Option<u8> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Step {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(what)
        }
    }

    fn object(&mut self, mut member: impl FnMut(&mut Scan<'a>, &'a [u8]) -> Step) -> Step {
        self.expect(b'{', "expected an object")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':', "expected a colon")?;
            member(self, key)?;
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            return self.expect(b'}', "expected the end of an object");
        }
    }

    fn array(&mut self, mut element: impl FnMut(&mut Scan<'a>) -> Step) -> Step {
        self.expect(b'[', "expected an array")?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            return self.expect(b']', "expected the end of an array");
        }
    }

    /// A string's inside, escapes as they stand.
    fn string(&mut self) -> Result<&'a [u8], &'static str> {
        self.expect(b'"', "expected a string")?;
        let begin = self.at;
        loop {
            let rest = &self.bytes[self.at..];
            let stop = memchr::memchr2(b'"', b'\\', rest).ok_or("a string without end")?;
            if rest[stop] == b'"' {
                let inside = &self.bytes[begin..self.at + stop];
                self.at += stop + 1;
                return Ok(inside);
            }
            self.at += stop + 2;
            if self.at > self.bytes.len() {
                return Err("a string without end");
            }
        }
    }

    fn number(&mut self) -> Result<u16, &'static str> {
        self.peek();
        let digits = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let text = std::str::from_utf8(&self.bytes[self.at..self.at + digits]).unwrap_or("");
        self.at += digits;
        text.parse().map_err(|_| "expected a status")
    }

    fn error(&mut self, item: &mut Item) -> Step {
        // Old servers give the error as a plain string.
        if self.peek() == Some(b'"') {
            item.reason = readable(self.string()?);
            return Ok(());
        }
        self.object(|scan, key| match key {
            b"type" => {
                item.kind = readable(scan.string()?);
                Ok(())
            }
            b"reason" if scan.peek() == Some(b'"') => {
                item.reason = readable(scan.string()?);
                Ok(())
            }
            _ => scan.skip(),
        })
    }

    /// Moves over any value. Nesting is followed by counting, not by recursion: a reply cannot exhaust the stack.
    fn skip(&mut self) -> Step {
        let mut depth = 0_u32;
        loop {
            match self.peek().ok_or("it ends too early")? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or("expected a value")?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                b',' | b':' => return Err("expected a value"),
                _ => {
                    let literal = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
                    let length = self.bytes[self.at..].iter().take_while(|b| literal(b)).count();
                    if length == 0 {
                        return Err("expected a value");
                    }
                    self.at += length;
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// The inside of a JSON string as text for people.
fn readable(inside: &[u8]) -> String {
    let quoted = [b"\"", inside, b"\""].concat();
    let mut text =
        serde_json::from_slice(&quoted).unwrap_or_else(|_| String::from_utf8_lossy(inside).into_owned());
    if text.len() > REASON_LIMIT {
        let end = (0..=REASON_LIMIT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn created_items_are_passed_over_and_others_keep_their_place() {
        let reply = br#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":409,"error":{"type":
            "version_conflict_engine_exception","reason":"[a\"b]: exists"}}} , {"create":{"_id":"x","status":429,
            "error":{"caused_by":{"type":"x","list":[1,{"a":[]}]},"type":"rejected_execution_exception"}}}]}"#;
        let items = judge(reply, 3).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!((items[0].index, items[0].status, items[0].reason.as_str()), (1, 409, "[a\"b]: exists"));
        assert_eq!((items[1].index, items[1].status), (2, 429));
        assert_eq!(items[1].kind, "rejected_execution_exception");
    }

    #[test]
    fn a_reply_that_is_not_one_is_not_believed() {
        for (reply, expected) in [
            (&br#"{"errors":false,"items":[{"create":{"status":201}}]}"#[..], 2),
            (br#"{"errors":false}"#, 1),
            (br#"{"errors":false,"items":[{"create":{"status":201}}"#, 1),
            (b"<html>bad gateway</html>", 1),
            (b"", 0),
            (br#"{"items":[{"create":{"status":"x"}}]}"#, 1),
            (br#"{"items":[{"create":"#, 1),
        ] {
            assert!(judge(reply, expected).is_err(), "{}", String::from_utf8_lossy(reply));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_tree(statuses in prop::collection::vec((200u16..600, ".{0,20}"), 0..50), pretty: bool) {
            let items: Vec<_> = statuses.iter().map(|(status, reason)| serde_json::json!({
                "create": { "status": status, "error": { "type": "t", "reason": reason } } })).collect();
            let tree = serde_json::json!({ "took": 3, "errors": true, "items": items });
            let text = if pretty { serde_json::to_vec_pretty(&tree) } else { serde_json::to_vec(&tree) }.unwrap();
            let failed = judge(&text, statuses.len() as u32).unwrap();
            let expected: Vec<_> = statuses.iter().enumerate().filter(|(_, (s, _))| *s > 201).collect();
            prop_assert_eq!(failed.len(), expected.len());
            for (item, (index, (status, reason))) in failed.iter().zip(expected) {
                prop_assert_eq!((item.index as usize, item.status, &item.reason), (index, *status, reason));
            }
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, text in r#"[\{\}\[\]",:a0\\ ]{0,40}"#) {
            let _ = judge(&bytes, 1);
            let _ = judge(text.as_bytes(), 1);
        }
    }
}
