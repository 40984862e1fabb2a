//! Which records are sent, and what is left of them.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::record::condition::{Condition, Field, Test};
use crate::record::level::Level;
use crate::record::redact::Builtin;

fn written(content: &[u8], first: u64) -> Written<'_> {
    let (stream, time) = (Some(Stream::Stdout), Time::Text(b"2026-11-23T15:54:01.5Z"));
    Written { content, stream, time, place: (b"KEY-", first, first + 9), cut: (false, false) }
}

/// The fields that a record has in the end.
fn fields(treatment: &Treatment, record: Written<'_>) -> Option<(String, Notes)> {
    let (mut scratch, mut out) = (b"left from before".to_vec(), b"{".to_vec());
    let notes = treatment.of(record, &mut scratch)?.append(&mut out);
    out.push(b'}');
    Some((String::from_utf8(out).expect("text"), notes))
}

fn text(treatment: &Treatment, content: &str) -> Option<String> {
    fields(treatment, written(content.as_bytes(), 0)).map(|(text, _)| text)
}

fn redacting() -> Option<Redactor> {
    Some(Redactor::new(&Builtin::ALL, &[], None).expect("patterns"))
}

fn level(levels: &[Level]) -> Option<Conditions> {
    let any = vec![Test::LevelIn(levels.to_vec())];
    Some(Conditions::new(vec![vec![Condition { field: Field::Level, any, negated: false }]]))
}

fn message(contains: &str) -> Option<Conditions> {
    let any = vec![Test::contains(contains)];
    Some(Conditions::new(vec![vec![Condition { field: Field::Message, any, negated: false }]]))
}

#[test]
fn a_missing_level_is_neither_reason_to_drop_nor_not_to_keep() {
    let keep = Treatment { keep: level(&[Level::Error]), ..Treatment::default() };
    let drop = Treatment { drop: level(&[Level::Error]), ..Treatment::default() };
    for (content, kept, dropped) in
        [("ERROR x", true, true), ("INFO x", false, false), ("no level", true, false)]
    {
        assert_eq!(text(&keep, content).is_some(), kept, "{content}");
        assert_eq!(text(&drop, content).is_none(), dropped, "{content}");
    }
}

#[test]
fn what_decides_is_what_was_written_and_what_is_sent_is_redacted() {
    let treatment = Treatment { keep: message("@example"), redactor: redacting(), ..Treatment::default() };
    assert_eq!(text(&treatment, "to a@example.com").as_deref(), Some(r#"{"message":"to [email]"}"#));
    assert_eq!(text(&treatment, "to nobody"), None);
    let object = r#"{"level":"warn","msg":"to a@example.com","to":"a@example.com"}"#;
    let expected = r#"{"message":"to [email]","log":{"level":"warn"},"app":{"level":"warn","to":"[email]"}}"#;
    assert_eq!(text(&treatment, object).as_deref(), Some(expected));
    let as_text = Treatment { as_text: true, ..treatment };
    assert_eq!(
        text(&as_text, r#"{"to":"a@example.com"}"#).as_deref(),
        Some(r#"{"message":"{\"to\":\"[email]\"}"}"#)
    );
}

#[test]
fn a_sample_is_the_same_whenever_it_is_drawn_and_about_as_large_as_it_says() {
    for rate in [0.01, 0.1, 0.5, 1.0] {
        let treatment = Treatment { sample: Some(Sample::new(rate, None)), ..Treatment::default() };
        let draw = || -> Vec<u64> {
            let of = |first: &u64| fields(&treatment, written(b"x", *first * 120)).is_some();
            (0..20_000).filter(of).collect()
        };
        let (drawn, share) = (draw(), draw().len() as f64 / 20_000.0);
        assert_eq!(drawn, draw());
        assert!((share - rate).abs() < 0.01, "{share} for {rate}");
    }
}

#[test]
fn records_of_one_trace_are_in_or_out_together() {
    let by = Some(vec!["app".to_owned(), "trace".to_owned()]);
    let treatment = Treatment { sample: Some(Sample::new(0.3, by)), ..Treatment::default() };
    let mut kept = 0;
    for trace in 0..2000 {
        let of = |first| {
            let content = format!(r#"{{"trace":"t{trace}","n":{first}}}"#);
            fields(&treatment, written(content.as_bytes(), first)).is_some()
        };
        let all: Vec<bool> = (0..5).map(of).collect();
        assert!(all.iter().all(|kept| *kept == all[0]), "{trace}: {all:?}");
        kept += usize::from(all[0]);
    }
    assert!((500..700).contains(&kept), "{kept}");
    // Who has none is drawn by itself.
    let alone = (0..2000).filter(|n| fields(&treatment, written(b"x", *n)).is_some()).count();
    assert!((500..700).contains(&alone), "{alone}");
}

#[test]
fn beside_a_cut_nothing_is_left_of_what_was_cut_in_two() {
    let treatment = Treatment { redactor: redacting(), ..Treatment::default() };
    let line = format!("{} pays with 4111 1111 1111 1111 now {}", "a".repeat(200), "é ".repeat(200));
    for at in 200..250 {
        let (one, two) = line.as_bytes().split_at(at);
        let of =
            |content, cut| fields(&treatment, Written { cut, ..written(content, 0) }).expect("a record").0;
        let (one, two) = (of(one, (false, true)), of(two, (true, false)));
        assert!(!one.contains("4111 1") && !two.contains("1111"), "{at}: {one} {two}");
        assert!(one.contains("[cut]\"") && two.contains(":\"[cut]"), "{at}: {one} {two}");
        assert!(two.contains("é é"), "{two}");
    }
}

#[test]
fn text_in_utf16_is_told_as_such_though_it_is_redacted() {
    let treatment = Treatment { redactor: redacting(), ..Treatment::default() };
    let content: Vec<u8> = "to a@example.com".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (text, notes) = fields(&treatment, written(&content, 0)).expect("a record");
    assert_eq!((text.as_str(), notes.utf16), (r#"{"message":"to [email]"}"#, true));
}

proptest! {
    #[test]
    fn whatever_is_written_and_done_with_it_the_fields_are_json(
        bytes: Vec<u8>,
        text in super::super::tests::nearly_json(),
        pieces in prop::collection::vec(prop::sample::select(vec!["a@b.de ", "\\u0040", " 4111111111111111 ", "\\n", "\"", "{", "}", "é", " "]), 0..12),
        as_text: bool,
        cut: (bool, bool),
        own: bool,
    ) {
        let patterns = [("own".to_owned(), r#"["\\a-z{}:]+"#.to_owned())];
        let own = if own { &patterns[..] } else { &[] };
        let redactor = Some(Redactor::new(&Builtin::ALL, own, None).expect("patterns"));
        let treatment = Treatment { drop: message("never there"), as_text, redactor, ..Treatment::default() };
        for content in [bytes, text.into_bytes(), pieces.concat().into_bytes()] {
            let (text, _) = fields(&treatment, Written { cut, ..written(&content, 0) }).expect("a record");
            let read: Result<Value, _> = serde_json::from_str(&text);
            let is_json = match &read {
                Ok(_) => true,
                Err(error) => error.to_string().starts_with("number out of range"),
            };
            prop_assert!(is_json && !text.contains('\n'), "{text}");
            prop_assert!(!text.contains("4111111111111111") && !text.contains("a@b.de"), "{text}");
            for field in read.iter().filter_map(Value::as_object).flat_map(|object| object.keys()) {
                prop_assert!(["message", "log", "app"].contains(&field.as_str()), "{text}");
            }
        }
    }
}
