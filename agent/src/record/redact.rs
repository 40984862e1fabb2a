//! Redaction: what must not leave the node is replaced in a document's own fields.
//!
//! In: what a program wrote, before anything is made of it. Out: the same with every match replaced by a mark that says
//! what stood there; in a JSON object, in its texts and numbers, wherever they are nested; names of members stay. A match
//! never reaches over the end of such a text, so what is valid JSON stays valid JSON. Costs a look at some bytes where
//! nothing is suspected ([`suspect`]). Never sees what the agent itself says of a record.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use regex::bytes::{Regex, RegexSet};

use super::fields::text_of;
use super::hash::HashKey;
use super::suspect::Suspects;
use super::{escape, json, utf16};

/// What a number or a token may begin behind: also an escape of JSON, where a text is only a part of some, and `\n4111…`
/// would else be one word.
macro_rules! begin {
    ($pattern:literal) => {
        concat!(r"(?:(?-u:\b)|\\(?:[nrtbf]|u[0-9A-Fa-f]{4}))(?P<secret>", $pattern, ")")
    };
}

/// What is looked for without a pattern of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// Mail addresses.
    Email,
    /// Numbers of payment cards, with a right check digit (Luhn).
    Card,
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// JSON web tokens.
    Jwt,
    /// Ids of AWS keys, and secret keys behind their usual name.
    AwsKey,
    /// Tokens behind `Bearer`.
    Bearer,
}

impl Builtin {
    /// All of them.
    pub const ALL: [Builtin; 7] = [
        Builtin::Email,
        Builtin::Card,
        Builtin::Ipv4,
        Builtin::Ipv6,
        Builtin::Jwt,
        Builtin::AwsKey,
        Builtin::Bearer,
    ];

    /// Its name in the configuration, and in the mark that replaces it.
    pub fn as_str(self) -> &'static str {
        match self {
            Builtin::Email => "email",
            Builtin::Card => "card",
            Builtin::Ipv4 => "ipv4",
            Builtin::Ipv6 => "ipv6",
            Builtin::Jwt => "jwt",
            Builtin::AwsKey => "aws_key",
            Builtin::Bearer => "bearer",
        }
    }

    /// What may be one. ASCII throughout, also what a word is: else text in any other script would be searched by a machine that
    /// is ten times slower. Where there is a group `secret`, that is it, and what is in front may stay.
    pub(super) fn pattern(self) -> &'static str {
        match self {
            Builtin::Email => r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+",
            Builtin::Card => concat!(begin!(r"[2-6][0-9]{3}(?:[ -]?[0-9]){9,15}"), r"(?-u:\b)"),
            Builtin::Ipv4 => concat!(
                begin!(
                    r"(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
                ),
                r"(?-u:\b)"
            ),
            Builtin::Ipv6 => {
                r"(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|(?:[0-9A-Fa-f]{1,4}:){1,7}:(?:[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,5})?|::[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,6}"
            }
            Builtin::Jwt => begin!(r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
            Builtin::AwsKey => {
                r#"(?:(?-u:\b)|\\(?:[nrtbf]|u[0-9A-Fa-f]{4}))(?P<id>(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{16})(?-u:\b)|(?:aws_secret_access_key|AWS_SECRET_ACCESS_KEY)[ =:"]{1,4}(?P<secret>[A-Za-z0-9/+]{40})"#
            }
            Builtin::Bearer => r"[Bb]earer +(?P<secret>[A-Za-z0-9._~+/=-]{8,})",
        }
    }

    /// How many bytes of what matched are one, if it is one. `before` and `after`: the bytes beside it.
    fn length(self, found: &[u8], before: Option<u8>, after: Option<u8>) -> Option<usize> {
        match self {
            // Another number may follow it.
            Builtin::Card => (CARD_DIGITS..=found.len()).rev().find(|end| {
                found[end - 1].is_ascii_digit()
                    && !found.get(*end).is_some_and(u8::is_ascii_digit)
                    && is_card(&found[..*end])
            }),
            Builtin::Ipv6 => {
                let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.');
                let alone = !before.is_some_and(inner) && !after.is_some_and(inner);
                let is_address =
                    || std::str::from_utf8(found).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
                (alone && is_address()).then_some(found.len())
            }
            _ => Some(found.len()),
        }
    }
}

/// Digits that a card's number has at least.
const CARD_DIGITS: usize = 13;

/// Bytes of a secret key of AWS.
const SECRET_KEY: usize = 40;

/// Whether it has enough digits and the check digit is right: every second digit from the right is doubled (Luhn).
fn is_card(number: &[u8]) -> bool {
    let digits = number.iter().rev().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0'));
    let sum: u32 = digits
        .clone()
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => digit,
            (_, twice) if twice > 9 => twice - 9,
            (_, twice) => twice,
        })
        .sum();
    digits.count() >= CARD_DIGITS && sum.is_multiple_of(10)
}

#[derive(Debug)]
struct Rule {
    name: String,
    regex: Regex,
    builtin: Option<Builtin>,
}

/// Everything that is looked for.
#[derive(Debug)]
pub struct Redactor {
    rules: Vec<Rule>,
    /// The kinds that are known among them.
    kinds: Suspects,
    /// Finds whether any pattern of one's own matches; none where there are none.
    own: Option<RegexSet>,
    /// With a key, a mark bears a keyed hash of what it replaces: equal values have equal marks, and nobody can guess them.
    key: Option<HashKey>,
}

impl Redactor {
    /// What is looked for: kinds that are known, and patterns with names of their own. `key`: for hashes in the marks.
    ///
    /// # Errors
    /// Of a pattern that is none.
    pub fn new(
        builtins: &[Builtin],
        own: &[(String, String)],
        key: Option<HashKey>,
    ) -> Result<Redactor, regex::Error> {
        let any_own = match own {
            [] => None,
            own => Some(RegexSet::new(own.iter().map(|(_, pattern)| pattern))?),
        };
        let known =
            builtins.iter().map(|kind| (kind.as_str().to_owned(), kind.pattern().to_owned(), Some(*kind)));
        let own = own.iter().map(|(name, pattern)| (name.clone(), pattern.clone(), None));
        let rules = known
            .chain(own)
            .map(|(name, pattern, builtin)| Ok(Rule { name, regex: Regex::new(&pattern)?, builtin }))
            .collect::<Result<_, regex::Error>>()?;
        Ok(Redactor { rules, kinds: Suspects::of(builtins), own: any_own, key })
    }

    /// What a program wrote, redacted. Text in UTF-16 becomes UTF-8 where something is replaced.
    pub fn apply<'a>(&self, content: &'a [u8]) -> Cow<'a, [u8]> {
        if let Some(text) = utf16::read(content) {
            return self.redacted(text.as_bytes()).map_or(Cow::Borrowed(content), Cow::Owned);
        }
        self.redacted(content).map_or(Cow::Borrowed(content), Cow::Owned)
    }

    /// The same for what is not UTF-16; none where nothing matches.
    fn redacted(&self, content: &[u8]) -> Option<Vec<u8>> {
        let suspects = self.kinds.in_text(content);
        let may_be_json = content.trim_ascii_start().first() == Some(&b'{');
        let own = || self.own.as_ref().is_some_and(|own| own.is_match(content));
        if suspects.is_empty() && !own() && !(may_be_json && self.may_hide(content)) {
            return None;
        }
        let is_json = may_be_json
            && std::str::from_utf8(content).is_ok_and(|text| json::read(text.trim_ascii()).is_some());
        let (redacted, count) = if is_json {
            self.rebuild(content, suspects)
        } else {
            let (redacted, count) = self.replace(content, suspects);
            (redacted.into_owned(), count)
        };
        (count > 0).then_some(redacted)
    }

    /// Whether escapes of JSON may hide something: of a letter or sign that is part of a match, or anything of which
    /// patterns of one's own speak.
    fn may_hide(&self, content: &[u8]) -> bool {
        memchr::memchr_iter(b'\\', content)
            .any(|at| self.own.is_some() || matches!(content.get(at + 1), Some(b'u' | b'/')))
    }

    #[cold]
    fn rebuild(&self, members: &[u8], suspects: Suspects) -> (Vec<u8>, u32) {
        let (mut out, mut count, mut at, mut copied) = (Vec::with_capacity(members.len() + 64), 0, 0, 0);
        let mut name: &[u8] = b"";
        while let Some(byte) = members.get(at) {
            let begin = at;
            at = match byte {
                b'"' => end_of_string(members, at),
                b'-' | b'0'..=b'9' => end_of_number(members, at),
                _ => at + 1,
            };
            let token = &members[begin..at];
            let is_name = || members[at..].trim_ascii_start().first() == Some(&b':');
            let found = match byte {
                b'"' if is_name() => {
                    name = token;
                    None
                }
                b'"' => self.secret_key(name, token).or_else(|| self.text(token, suspects)),
                b'-' | b'0'..=b'9' => self.found(token, suspects),
                _ => None,
            };
            // A number becomes a text.
            if let Some((redacted, matches)) = found {
                out.extend_from_slice(&members[copied..begin]);
                out.push(b'"');
                escape::append_escaped(&mut out, &redacted);
                out.push(b'"');
                (copied, count) = (at, count + matches);
            }
        }
        out.extend_from_slice(&members[copied..]);
        (out, count)
    }

    /// A secret key of AWS as the value of its usual name: there is no more of the pattern in it.
    fn secret_key(&self, name: &[u8], token: &[u8]) -> Option<(Vec<u8>, u32)> {
        let is_named = matches!(
            name,
            br#""aws_secret_access_key""#
                | br#""AWS_SECRET_ACCESS_KEY""#
                | br#""SecretAccessKey""#
                | br#""secretAccessKey""#
        );
        let rule = self.rules.iter().find(|rule| is_named && rule.builtin == Some(Builtin::AwsKey))?;
        let value = text_of(token);
        let of_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+');
        (value.len() == SECRET_KEY && value.bytes().all(of_key)).then(|| {
            let mut mark = Vec::new();
            self.append_mark(&mut mark, &rule.name, value.as_bytes());
            (mark, 1)
        })
    }

    /// What a JSON text says, redacted and without escapes; none where nothing matches.
    fn text(&self, token: &[u8], suspects: Suspects) -> Option<(Vec<u8>, u32)> {
        let inner = &token[1..token.len() - 1];
        if memchr::memchr(b'\\', inner).is_none() {
            return self.found(inner, suspects);
        }
        // What escapes hid was not suspected.
        self.found(text_of(token).as_bytes(), self.kinds)
    }

    /// A text, redacted; none where nothing matches. Only kinds that are suspected in the whole are looked for, and all
    /// patterns of one's own, which may speak of the beginning or the end of a text.
    fn found(&self, text: &[u8], suspects: Suspects) -> Option<(Vec<u8>, u32)> {
        let suspects = suspects.in_text(text);
        if suspects.is_empty() && self.own.is_none() {
            return None;
        }
        match self.replace(text, suspects) {
            (Cow::Owned(redacted), count) => Some((redacted, count)),
            (Cow::Borrowed(_), _) => None,
        }
    }

    fn replace<'a>(&self, text: &'a [u8], suspects: Suspects) -> (Cow<'a, [u8]>, u32) {
        let (mut text, mut count) = (Cow::Borrowed(text), 0);
        for rule in &self.rules {
            if rule.builtin.is_some_and(|kind| !suspects.contains(kind)) {
                continue;
            }
            let (mut fresh, mut copied) = (Vec::new(), 0);
            for found in rule.regex.captures_iter(&text) {
                // What the name in front of a secret says may stay.
                let named = rule.builtin.and_then(|_| found.name("secret").or_else(|| found.name("id")));
                let Some(found) = named.or_else(|| found.get(0)) else { continue };
                let (before, after) = (before(&text[..found.start()]), text.get(found.end()).copied());
                let length = match rule.builtin {
                    Some(kind) => kind.length(found.as_bytes(), before, after).unwrap_or(0),
                    None => found.len(),
                };
                if length == 0 {
                    continue;
                }
                fresh.extend_from_slice(&text[copied..found.start()]);
                self.append_mark(&mut fresh, &rule.name, &found.as_bytes()[..length]);
                (copied, count) = (found.start() + length, count + 1);
            }
            if copied > 0 {
                fresh.extend_from_slice(&text[copied..]);
                text = Cow::Owned(fresh);
            }
        }
        (text, count)
    }

    fn append_mark(&self, out: &mut Vec<u8>, name: &str, value: &[u8]) {
        out.push(b'[');
        out.extend_from_slice(name.as_bytes());
        if let Some(key) = &self.key {
            out.push(b':');
            key.append_of_mark(out, value);
        }
        out.push(b']');
    }
}

/// The last byte of what stands in front; none where that is an escape.
fn before(text: &[u8]) -> Option<u8> {
    match text {
        [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f'] => None,
        [.., last] => Some(*last),
        [] => None,
    }
}

/// Where a JSON text that begins at `at` ends, behind its quote.
fn end_of_string(json: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(found) = json.get(end..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        end += found;
        if json[end] == b'"' {
            return end + 1;
        }
        end += 2;
    }
    json.len()
}

fn end_of_number(json: &[u8], at: usize) -> usize {
    let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    at + json[at..].iter().take_while(is_part).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn redacted(redactor: &Redactor, content: &str) -> String {
        String::from_utf8(redactor.apply(content.as_bytes()).into_owned()).expect("text")
    }

    #[test]
    fn every_kind_is_found_and_what_only_looks_like_it_stays() {
        let all = Redactor::new(&Builtin::ALL, &[], None).expect("patterns");
        for (text, expected) in [
            ("mail to jane.doe+x@mail.example.com now", "mail to [email] now"),
            ("not@home, @jane, a@b", "not@home, @jane, a@b"),
            ("paid with 4111 1111 1111 1111.", "paid with [card]."),
            ("paid with 4111-1111-1111-1112", "paid with 4111-1111-1111-1112"),
            ("4111111111111111 2 times, 4111111111111111 4111111111111111", "[card] 2 times, [card] [card]"),
            ("order 1234567890123456", "order 1234567890123456"),
            ("from 10.0.0.255:8080 to 256.1.1.1", "from [ipv4]:8080 to 256.1.1.1"),
            ("peer 2001:db8::1, local ::1, fe80::a:b", "peer [ipv6], local [ipv6], [ipv6]"),
            ("at 12:34:56 std::io d::e::f", "at 12:34:56 std::io d::e::f"),
            ("t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-_1", "t=[jwt]"),
            ("key AKIAIOSFODNN7EXAMPLE!", "key [aws_key]!"),
            (
                "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                "AWS_SECRET_ACCESS_KEY=[aws_key]",
            ),
            ("Authorization: Bearer abc.def-123", "Authorization: Bearer [bearer]"),
            ("bearer of news", "bearer of news"),
            // A part of a long line of JSON: its escapes are text.
            (
                r#"\n4111111111111111\t10.0.0.1\u003cAKIAIOSFODNN7EXAMPLE\n::1"#,
                r#"\n[card]\t[ipv4]\u003c[aws_key]\n[ipv6]"#,
            ),
        ] {
            assert_eq!(redacted(&all, text), expected);
            let json = |text: &str| serde_json::json!({ "n": 1, "msg": [text] }).to_string();
            assert_eq!(redacted(&all, &json(text)), json(expected));
        }
    }

    #[test]
    fn values_are_redacted_wherever_they_are_and_names_are_not() {
        let all = Redactor::new(&Builtin::ALL, &[], None).expect("patterns");
        let object =
            r#" {"msg":"a\n\"b@c.de\"","card":4111111111111111,"b@c.de":["x",{"b":"b@c.de"}],"n":1.5} "#;
        let expected = r#" {"msg":"a\n\"[email]\"","card":"[card]","b@c.de":["x",{"b":"[email]"}],"n":1.5} "#;
        assert_eq!(redacted(&all, object), expected);
    }

    #[test]
    fn escapes_hide_nothing() {
        let all = Redactor::new(&Builtin::ALL, &[], None).expect("patterns");
        for (object, expected) in [
            (r#"{"msg":"jane\u0040example.com"}"#, r#"{"msg":"[email]"}"#),
            (r#"{"msg":"\u0034111111\u003111111111"}"#, r#"{"msg":"[card]"}"#),
            (r#"{"msg":"lines\n4111111111111111"}"#, r#"{"msg":"lines\n[card]"}"#),
            (
                r#"{"aws_secret_access_key":"wJalrXUtnFEMI\/K7MDENG/bPxRfiCYEXAMPLEKEY","n":1}"#,
                r#"{"aws_secret_access_key":"[aws_key]","n":1}"#,
            ),
            (r#"{"msg":"Bearer abc\/defgh"}"#, r#"{"msg":"Bearer [bearer]"}"#),
        ] {
            assert_eq!(redacted(&all, object), expected);
        }
    }

    #[test]
    fn text_in_utf16_is_seen() {
        let all = Redactor::new(&Builtin::ALL, &[], None).expect("patterns");
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        assert_eq!(&*all.apply(&utf16("to jane@example.com")), b"to [email]");
        assert!(matches!(all.apply(&utf16("to jane")), Cow::Borrowed(_)));
    }

    #[test]
    fn patterns_of_ones_own_see_the_text_and_not_its_escapes() {
        let own = [
            ("line".to_owned(), "one\ntwo".to_owned()),
            ("ssn".to_owned(), r"\b\d{3}-\d{2}-\d{4}\b".to_owned()),
        ];
        let redactor = Redactor::new(&[], &own, None).expect("patterns");
        assert_eq!(redacted(&redactor, r#"{"msg":"one\ntwo 078-05-1120"}"#), r#"{"msg":"[line] [ssn]"}"#);
        assert_eq!(redacted(&redactor, "one\ntwo 078-05-1120"), "[line] [ssn]");
        assert!(redacted(&redactor, r#"{"msg":"\ud800 078-05-1120"}"#).contains("[ssn]"));
    }

    #[test]
    fn a_keyed_hash_is_the_same_for_the_same_value_only() {
        let redactor =
            |key: &[u8]| Redactor::new(&[Builtin::Email], &[], Some(HashKey::new(key))).expect("patterns");
        let mark = |key: &[u8], text: &str| redacted(&redactor(key), text);
        assert_eq!(mark(b"k", "a@b.de"), mark(b"k", "a@b.de"));
        assert_ne!(mark(b"k", "a@b.de"), mark(b"k", "a@b.dee"));
        assert_ne!(mark(b"k", "a@b.de"), mark(b"l", "a@b.de"));
        assert!(mark(b"k", "a@b.de").starts_with("[email:"));
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_stays_json(
            texts in prop::collection::vec("( a@b\\.de | 4111111111111111 | ::1 | 1\\.2\\.3\\.4 |[^0-9]|\"|\\\\|\n){0,8}", 1..4),
            number: i64,
        ) {
            let own = [("own".to_owned(), r#"["\\a-z@]+"#.to_owned())];
            let redactor = Redactor::new(&Builtin::ALL, &own, None).expect("patterns");
            let object = serde_json::json!({ "message": texts[0], "texts": texts, "number": number,
                "nested": { "a": [4_111_111_111_111_111_u64] } });
            let out = redacted(&redactor, &object.to_string());
            let read: Value = serde_json::from_str(&out).expect(&out);
            prop_assert!(read["texts"].as_array().is_some_and(|found| found.len() == texts.len()));
            prop_assert!(!out.contains("a@b.de") && !out.contains("4111111111111111"), "{}", out);
        }
    }
}
