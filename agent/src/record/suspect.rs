//! Which kinds of secrets a text may hold, by a look at some of its bytes.
//!
//! In: a text. Out: the kinds of which it may hold one: often one too many, never one too few, so that the patterns
//! themselves are searched for in few texts. Never decides that something is one.

use std::sync::LazyLock;

use memchr::memmem;

use super::redact::Builtin;

static BEARER: LazyLock<memmem::Finder> = LazyLock::new(|| memmem::Finder::new(b"earer "));
static COLONS: LazyLock<memmem::Finder> = LazyLock::new(|| memmem::Finder::new(b"::"));

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspects(u8);

impl Suspects {
    /// These.
    pub fn of(kinds: &[Builtin]) -> Suspects {
        Suspects(kinds.iter().fold(0, |set, kind| set | bit(*kind)))
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this kind is among them.
    pub fn contains(self, kind: Builtin) -> bool {
        self.0 & bit(kind) != 0
    }

    /// Those of which the text may hold one.
    pub fn in_text(self, text: &[u8]) -> Suspects {
        let asked = |kind, shortest| self.contains(kind) && text.len() >= shortest;
        let mut found = 0;
        if asked(Builtin::Ipv4, "1.1.1.1".len()) || asked(Builtin::Jwt, "eyJ12345678.eyJ12345678.".len()) {
            found |= by_dots(text);
        }
        if asked(Builtin::Email, "a@b.c".len()) && may_be_email(text) {
            found |= bit(Builtin::Email);
        }
        if asked(Builtin::Ipv6, "::1".len()) && may_be_ipv6(text) {
            found |= bit(Builtin::Ipv6);
        }
        if asked(Builtin::Card, 13) && may_be_card(text) {
            found |= bit(Builtin::Card);
        }
        if asked(Builtin::AwsKey, 20) && may_be_key(text) {
            found |= bit(Builtin::AwsKey);
        }
        if asked(Builtin::Bearer, "bearer 12345678".len()) && BEARER.find(text).is_some() {
            found |= bit(Builtin::Bearer);
        }
        Suspects(found & self.0)
    }
}

fn bit(kind: Builtin) -> u8 {
    1 << kind as u8
}

/// Addresses have a dot, up to three digits and a dot; of a token's two first parts, the second begins as the first.
fn by_dots(text: &[u8]) -> u8 {
    let mut found = 0;
    for dot in memchr::memchr_iter(b'.', text) {
        match text[dot + 1..] {
            [b'0'..=b'9', b'.', ..]
            | [b'0'..=b'9', b'0'..=b'9', b'.', ..]
            | [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b'.', ..] => found |= bit(Builtin::Ipv4),
            [b'e', b'y', b'J', ..] => found |= bit(Builtin::Jwt),
            _ => {}
        }
    }
    found
}

fn may_be_email(text: &[u8]) -> bool {
    let is_part = |at: usize, classes: u8| text.get(at).is_some_and(|byte| class_of(*byte) & classes != 0);
    memchr::memchr_iter(b'@', text).any(|at| {
        at > 0
            && is_part(at - 1, UPPER | LOWER | DIGIT | LOCAL)
            && is_part(at + 1, UPPER | LOWER | DIGIT | BREAK)
    })
}

fn may_be_ipv6(text: &[u8]) -> bool {
    COLONS.find(text).is_some()
        || has_run(text, "1:1:1:1:1:1:1:1".len(), HEX | COLON, |run| {
            run.iter().filter(|byte| **byte == b':').count() >= 7
        })
}

fn may_be_card(text: &[u8]) -> bool {
    has_run(text, 13, DIGIT | BREAK, |run| {
        let first = run.iter().position(|byte| matches!(byte, b'2'..=b'6'));
        first.is_some_and(|first| run[first..].iter().filter(|byte| byte.is_ascii_digit()).count() >= 13)
    })
}

fn may_be_key(text: &[u8]) -> bool {
    has_run(text, 20, UPPER | DIGIT, |run| {
        run.windows(4).any(|id| matches!(id, b"AKIA" | b"ASIA" | b"AIDA" | b"AROA"))
    }) || has_run(text, 40, UPPER | LOWER | DIGIT | BASE64, |_| true)
}

const DIGIT: u8 = 1;
const UPPER: u8 = 2;
const LOWER: u8 = 4;
const HEX: u8 = 8;
const COLON: u8 = 16;
/// What may stand between two digits of a card's number.
const BREAK: u8 = 32;
/// What is in base64 beside letters and digits.
const BASE64: u8 = 64;
/// What is in front of a mail address's `@` beside letters and digits.
const LOCAL: u8 = 128;

fn class_of(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// What each byte is.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT | HEX,
            b'A'..=b'F' => UPPER | HEX,
            b'G'..=b'Z' => UPPER,
            b'a'..=b'f' => LOWER | HEX,
            b'g'..=b'z' => LOWER,
            b':' => COLON,
            b'-' => BREAK | LOCAL,
            b' ' => BREAK,
            b'/' => BASE64,
            b'+' => BASE64 | LOCAL,
            b'.' | b'_' | b'%' => LOCAL,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// Whether somewhere at least `length` bytes in a row are of these classes, and `is_one` says yes to all that are. Looks
/// at every `length`th byte only, and around it where that is of them.
fn has_run(text: &[u8], length: usize, classes: u8, is_one: impl Fn(&[u8]) -> bool) -> bool {
    let is_of = |byte: &&u8| class_of(**byte) & classes != 0;
    let mut at = length - 1;
    while let Some(byte) = text.get(at) {
        let mut end = at;
        if is_of(&byte) {
            let begin = at - text[..at].iter().rev().take_while(is_of).count();
            end = at + text[at..].iter().take_while(is_of).count();
            if end - begin >= length && is_one(&text[begin..end]) {
                return true;
            }
        }
        at = end + length;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::bytes::Regex;

    use super::*;

    const NOISE: &str = "[0-9A-Za-f:.@ _%+/\\\\nu{}\",=-]{0,24}";
    const SECRETS: &str = "([a-z.]{1,9}@[a-z-]{1,9}\\.[a-z]{1,3})|([2-6][0-9]{3}([ -]?[0-9]){9,15})|([0-9]{1,3}\\.){3}[0-9]{1,3}|\
        ([0-9a-f]{1,4}:){1,7}:?[0-9a-f]{0,4}|::[0-9a-f]{0,4}|eyJ[A-Z]{7,9}\\.eyJ[a-z]{7,9}\\.[a-z]{0,3}|(AKIA|ASIA|AIDA|AROA)[A-Z0-9]{15,17}|\
        aws_secret_access_key[ =:]{1,2}[A-Za-z0-9/+]{39,41}|[Bb]earer {1,2}[a-z=.]{7,9}";

    proptest! {
        #[test]
        fn whatever_a_pattern_finds_is_suspected(
            before in NOISE, secret in SECRETS, between in NOISE, other in SECRETS, after in NOISE,
        ) {
            let text = [before, secret, between, other, after].concat();
            for kind in Builtin::ALL {
                let found = Regex::new(kind.pattern()).expect("a pattern").is_match(text.as_bytes());
                let suspected = Suspects::of(&[kind]).in_text(text.as_bytes());
                let among_all = Suspects::of(&Builtin::ALL).in_text(text.as_bytes());
                let both = suspected.contains(kind) && among_all.contains(kind);
                prop_assert!(!found || both, "{}: {}", kind.as_str(), text);
            }
        }
    }

    #[test]
    fn the_shortest_of_each_kind_is_suspected_where_it_is_asked_for_alone() {
        for (kind, text) in [
            (Builtin::Email, "a@b.c"),
            (Builtin::Card, "4222222222222"),
            (Builtin::Ipv4, "1.1.1.1"),
            (Builtin::Ipv6, "::1"),
            (Builtin::Ipv6, "1::"),
            (Builtin::Ipv6, "1:1:1:1:1:1:1:1"),
            (Builtin::Jwt, "eyJ12345678.eyJ12345678."),
            (Builtin::AwsKey, "AKIAIOSFODNN7EXAMPLE"),
            (Builtin::AwsKey, "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            (Builtin::Bearer, "bearer 12345678"),
        ] {
            assert!(Regex::new(kind.pattern()).expect("a pattern").is_match(text.as_bytes()), "{text}");
            assert!(Suspects::of(&[kind]).in_text(text.as_bytes()).contains(kind), "{text}");
        }
    }

    #[test]
    fn ordinary_lines_are_above_suspicion() {
        for line in [
            r#"{"@timestamp":"2026-11-30T08:41:54.121Z","message":"completed in 1.25 s","logger_name":"example.shop.Service"}"#,
            r#"{"level":30,"time":1796028114598,"hostname":"web-0","req":{"url":"/api/v1/orders/5664360"}}"#,
            "I1130 08:41:54.121937       1 controller.go:117] \"Synced\" pod=\"shop/web-0\" duration=\"12.5ms\"",
            "2026-11-30 08:41:54,121 INFO [main] example.Service: trace=b30a543f7ab71e16a0501822546119fa",
        ] {
            let suspected = Suspects::of(&Builtin::ALL).in_text(line.as_bytes());
            assert!(suspected.is_empty(), "{suspected:?} in {line}");
        }
    }
}
