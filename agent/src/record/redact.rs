//! Redaction: what must not leave the node is replaced in a document's own fields.
//!
//! In: the members that a record's body became (`"message":"…","app":{…}`), valid JSON. Out: the same with every match
//! replaced by a mark that says what stood there, in texts and in numbers, wherever they are nested; names of members stay. A
//! match never reaches over the end of a text, so what is valid JSON stays valid JSON. Costs one search where nothing
//! matches. Never touches what the agent itself says of a record.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use aws_lc_rs::hmac;
use regex::bytes::Regex;

use super::escape;

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

    /// What may be one. ASCII throughout, and without quotes and backslashes: what it matches is the same in a JSON text.
    fn pattern(self) -> &'static str {
        match self {
            Builtin::Email => r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+",
            Builtin::Card => r"\b[2-6][0-9]{3}(?:[ -]?[0-9]){9,15}\b",
            Builtin::Ipv4 => {
                r"\b(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\b"
            }
            Builtin::Ipv6 => {
                r"(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|(?:[0-9A-Fa-f]{1,4}:){1,7}:(?:[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,5})?|::[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,6}"
            }
            Builtin::Jwt => r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
            Builtin::AwsKey => {
                r"\b(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{16}\b|(?:aws_secret_access_key|AWS_SECRET_ACCESS_KEY)[ =:]{1,3}(?P<secret>[A-Za-z0-9/+]{40})\b"
            }
            Builtin::Bearer => r"\b[Bb]earer +(?P<secret>[A-Za-z0-9._~+/=-]{8,})",
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
    /// Finds whether there is anything to do at all.
    any: Regex,
    /// With a key, a mark bears a keyed hash of what it replaces: equal values have equal marks, and nobody can guess them.
    key: Option<hmac::Key>,
}

impl Redactor {
    /// What is looked for: kinds that are known, and patterns with names of their own. `key`: for hashes in the marks.
    ///
    /// # Errors
    /// Of a pattern that is none.
    pub fn new(
        builtins: &[Builtin],
        own: &[(String, String)],
        key: Option<&[u8]>,
    ) -> Result<Redactor, regex::Error> {
        let known =
            builtins.iter().map(|kind| (kind.as_str().to_owned(), kind.pattern().to_owned(), Some(*kind)));
        let own = own.iter().map(|(name, pattern)| (name.clone(), pattern.clone(), None));
        let all: Vec<_> = known.chain(own).collect();
        // Names of groups may not stand twice in one pattern.
        let any = all
            .iter()
            .map(|(_, pattern, _)| format!("(?:{})", pattern.replace("(?P<secret>", "(?:")))
            .collect::<Vec<_>>();
        let rules = all
            .into_iter()
            .map(|(name, pattern, builtin)| Ok(Rule { name, regex: Regex::new(&pattern)?, builtin }))
            .collect::<Result<_, regex::Error>>()?;
        let key = key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key));
        Ok(Redactor { rules, any: Regex::new(&any.join("|"))?, key })
    }

    /// Redacts the members that begin at `start`; how many places were replaced.
    pub fn apply(&self, out: &mut Vec<u8>, start: usize) -> u32 {
        let members = &out[start..];
        // Patterns of one's own may speak of what is escaped in JSON: then the texts themselves must be asked.
        let is_escaped = || self.has_own() && memchr::memchr(b'\\', members).is_some();
        if !self.any.is_match(members) && !is_escaped() {
            return 0;
        }
        let (redacted, count) = self.rebuild(members);
        if count > 0 {
            out.truncate(start);
            out.extend_from_slice(&redacted);
        }
        count
    }

    fn has_own(&self) -> bool {
        self.rules.iter().any(|rule| rule.builtin.is_none())
    }

    #[cold]
    fn rebuild(&self, members: &[u8]) -> (Vec<u8>, u32) {
        let (mut out, mut count, mut at) = (Vec::with_capacity(members.len() + 64), 0, 0);
        while let Some(byte) = members.get(at) {
            let end = match byte {
                b'"' => end_of_string(members, at),
                b'-' | b'0'..=b'9' => end_of_number(members, at),
                _ => {
                    out.push(*byte);
                    at += 1;
                    continue;
                }
            };
            let token = &members[at..end];
            let is_name = *byte == b'"' && members[end..].trim_ascii_start().first() == Some(&b':');
            at = end;
            if is_name {
                out.extend_from_slice(token);
            } else if *byte == b'"' {
                count += self.text(&mut out, token);
            } else {
                count += self.number(&mut out, token);
            }
        }
        (out, count)
    }

    /// A text with its quotes.
    fn text(&self, out: &mut Vec<u8>, token: &[u8]) -> u32 {
        let inner = &token[1..token.len() - 1];
        let plain: Cow<'_, [u8]> = if memchr::memchr(b'\\', inner).is_some() {
            match serde_json::from_slice::<String>(token) {
                Ok(text) => Cow::Owned(text.into_bytes()),
                // An escape of half a surrogate stands for no text: taken as it is written.
                Err(_) => Cow::Borrowed(inner),
            }
        } else {
            Cow::Borrowed(inner)
        };
        let (redacted, count) = self.replace(&plain);
        if count == 0 {
            out.extend_from_slice(token);
            return 0;
        }
        out.push(b'"');
        escape::append_escaped(out, &redacted);
        out.push(b'"');
        count
    }

    /// A number becomes a text where it is replaced.
    fn number(&self, out: &mut Vec<u8>, token: &[u8]) -> u32 {
        let (redacted, count) = self.replace(token);
        if count == 0 {
            out.extend_from_slice(token);
            return 0;
        }
        out.push(b'"');
        escape::append_escaped(out, &redacted);
        out.push(b'"');
        count
    }

    fn replace(&self, text: &[u8]) -> (Vec<u8>, u32) {
        let (mut text, mut count) = (Cow::Borrowed(text), 0);
        for rule in &self.rules {
            let (mut fresh, mut copied) = (Vec::new(), 0);
            for found in rule.regex.captures_iter(&text) {
                // What the name in front of a secret says may stay.
                let Some(found) = found.name("secret").or_else(|| found.get(0)) else { continue };
                let (before, after) =
                    (found.start().checked_sub(1).map(|at| text[at]), text.get(found.end()).copied());
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
        (text.into_owned(), count)
    }

    fn append_mark(&self, out: &mut Vec<u8>, name: &str, value: &[u8]) {
        out.push(b'[');
        out.extend_from_slice(name.as_bytes());
        if let Some(key) = &self.key {
            out.push(b':');
            for byte in &hmac::sign(key, value).as_ref()[..8] {
                out.extend_from_slice(format!("{byte:02x}").as_bytes());
            }
        }
        out.push(b']');
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

    fn redacted(redactor: &Redactor, members: &str) -> (String, u32) {
        let mut out = format!("x{members}").into_bytes();
        let count = redactor.apply(&mut out, 1);
        (String::from_utf8(out).expect("text")[1..].to_owned(), count)
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
        ] {
            let (out, _) = redacted(&all, &format!("\"message\":{}", Value::from(text)));
            assert_eq!(out, format!("\"message\":{}", Value::from(expected)), "{text}");
        }
    }

    #[test]
    fn values_are_redacted_wherever_they_are_and_names_are_not() {
        let all = Redactor::new(&Builtin::ALL, &[], None).expect("patterns");
        let members =
            r#""message":"a\n\"b@c.de\"","app":{"card":4111111111111111,"b@c.de":["x","b@c.de"],"n":1.5}"#;
        let expected =
            r#""message":"a\n\"[email]\"","app":{"card":"[card]","b@c.de":["x","[email]"],"n":1.5}"#;
        assert_eq!(redacted(&all, members), (expected.to_owned(), 3));
    }

    #[test]
    fn patterns_of_ones_own_see_the_text_and_not_its_escapes() {
        let own = [
            ("line".to_owned(), "one\ntwo".to_owned()),
            ("ssn".to_owned(), r"\b\d{3}-\d{2}-\d{4}\b".to_owned()),
        ];
        let redactor = Redactor::new(&[], &own, None).expect("patterns");
        let (out, count) = redacted(&redactor, r#""message":"one\ntwo 078-05-1120""#);
        assert_eq!((out.as_str(), count), (r#""message":"[line] [ssn]""#, 2));
        assert_eq!(redacted(&redactor, r#""message":"\ud800 078-05-1120""#).1, 1);
    }

    #[test]
    fn a_keyed_hash_is_the_same_for_the_same_value_only() {
        let redactor = |key: &[u8]| Redactor::new(&[Builtin::Email], &[], Some(key)).expect("patterns");
        let mark = |key: &[u8], text: &str| redacted(&redactor(key), &format!("\"message\":\"{text}\"")).0;
        assert_eq!(mark(b"k", "a@b.de"), mark(b"k", "a@b.de"));
        assert_ne!(mark(b"k", "a@b.de"), mark(b"k", "a@b.dee"));
        assert_ne!(mark(b"k", "a@b.de"), mark(b"l", "a@b.de"));
        assert!(mark(b"k", "a@b.de").starts_with("\"message\":\"[email:"));
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_stays_json(
            texts in prop::collection::vec("( a@b\\.de | 4111111111111111 | ::1 | 1\\.2\\.3\\.4 |[^0-9]|\"|\\\\|\n){0,8}", 1..4),
            number: i64,
        ) {
            let own = [("own".to_owned(), r#"["\\a-z@]+"#.to_owned())];
            let redactor = Redactor::new(&Builtin::ALL, &own, None).expect("patterns");
            let app = serde_json::json!({ "texts": texts, "number": number, "nested": { "a": [4_111_111_111_111_111_u64] } });
            let members = format!("\"message\":{},\"app\":{app}", Value::from(texts[0].as_str()));
            let (out, _) = redacted(&redactor, &members);
            let read: Value = serde_json::from_str(&format!("{{{out}}}")).expect(&out);
            prop_assert!(read["app"]["texts"].as_array().is_some_and(|found| found.len() == texts.len()));
            prop_assert!(!out.contains("a@b.de") && !out.contains("4111111111111111"), "{}", out);
        }
    }
}
