//! Which texts are times.

use super::*;
use crate::record::time::format_nanos;

/// 2026-11-23T15:54:01Z.
const WRITTEN: i64 = 1_795_449_241_000_000_000;

const DAY: Duration = Duration::from_secs(86_400);

fn stamp(field: Option<&str>, format: &str) -> Stamp {
    Stamp::new(field, Format::parse(format).expect("a format"), 0, (14 * DAY, DAY))
}

fn of(stamp: &Stamp, document: &str) -> Option<String> {
    stamp.of(document.as_bytes(), false, None, WRITTEN).map(format_nanos)
}

#[test]
fn a_time_is_read_however_it_is_written() {
    let noon = "2026-11-23T12:00:00.000000000Z";
    for (text, expected) in [
        ("2026-11-23T12:00:00Z", noon),
        ("2026-11-23T21:00:00+09:00", noon),
        ("2026-11-23 12:00:00", noon),
        ("2026-11-23 13:00:00 +0100 x", noon),
        ("2026-11-23 12:00:00,5", "2026-11-23T12:00:00.500000000Z"),
        ("2026-11-23T12:00:00.123456789123Z", "2026-11-23T12:00:00.123456789Z"),
        ("2026/11/23 12:00:00 [error] x", noon),
        ("2026/11/23 12:00:00.25 x", "2026-11-23T12:00:00.250000000Z"),
        ("[2026-11-23T12:00:00Z] x", noon),
        ("<34>1 2026-11-23T12:00:00Z host", noon),
        ("<34>Nov 23 12:00:00 host x: y", noon),
        ("Nov 23 12:00:00 host x: y", noon),
        ("23/Nov/2026:13:00:00 +0100", noon),
        ("I1123 12:00:00.500000       1 x.go:1] y", "2026-11-23T12:00:00.500000000Z"),
        ("Mon, 23 Nov 2026 12:00:00 GMT", noon),
        ("1795435200", noon),
        ("1795435200.25", "2026-11-23T12:00:00.250000000Z"),
        ("1795435200000", noon),
        ("1795435200000000", noon),
        ("1795435200000000000", noon),
        // None, or none that is meant.
        ("", ""),
        ("yesterday", ""),
        ("2026-11-31T12:00:00Z", ""),
        ("2026-11-23T24:00:00Z", ""),
        ("2026-11-23T12:00:00x", ""),
        ("1e9", ""),
        ("-1", ""),
        ("12", ""),
        ("99999999999999999999999", ""),
        ("2026-11-09T15:54:00Z", ""),
        ("2026-11-24T15:54:02Z", ""),
        ("9999-12-31T23:59:59Z", ""),
    ] {
        let document = format!(r#"{{"message":"m","app":{{"ts":{}}}"#, serde_json::Value::from(text));
        let found = of(&stamp(Some("app.ts"), "auto"), &document).unwrap_or_default();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn it_is_where_it_is_said_or_usually_is() {
    let noon = Some("2026-11-23T12:00:00.000000000Z".to_owned());
    for (field, document, is_found) in [
        (None, r#"{"message":"2026-11-23 12:00:00 x""#, true),
        (None, r#"{"message":"1795435200 x""#, false),
        (None, r#"{"message":"1795435200""#, false),
        (None, r#"{"message":"m","app":{"time":1795435200000}"#, true),
        (None, r#"{"message":"m","app":{"time":"x","ts":1795435200}"#, true),
        (None, r#"{"app":{"@timestamp":"2026-11-23T12:00:00Z"}"#, true),
        (Some("message"), r#"{"message":"1795435200""#, true),
        (Some("app.a.b"), r#"{"app":{"a":{"b":1795435200}}"#, true),
        (Some("app.a.b"), r#"{"app":{"a.b":1795435200}"#, true),
        (Some("event.start"), r#"{"message":"m","event.start":"2026-11-23T12:00:00Z""#, true),
        (Some("app.a"), r#"{"app":{"a":{"b":1}}"#, false),
        (Some("app.a"), r#"{"app":{"a":null}"#, false),
        (Some("app.a"), r#"{"message":"m""#, false),
    ] {
        assert_eq!(of(&stamp(field, "auto"), document), noon.clone().filter(|_| is_found), "{document}");
    }
    for (parsed, document) in [
        ("23/Nov/2026:12:00:00 +0000", r#"{"message":"2026-11-23 13:00:00 x""#),
        // What the form takes for a time is none.
        ("-", r#"{"message":"2026-11-23 12:00:00 x""#),
        ("-", r#"{"message":"m","app":{"ts":1795435200}"#),
    ] {
        let found = stamp(None, "auto").of(document.as_bytes(), false, Some(parsed.as_bytes()), WRITTEN);
        assert_eq!(found.map(format_nanos), noon, "{document}");
    }
}

#[test]
fn where_json_is_merged_a_time_is_looked_for_at_the_top_and_under_app() {
    for (field, document) in [
        ("ts", r#"{"message":"m","app":{"ts":1795435200}"#),
        ("app.ts", r#"{"message":"m","app":{"ts":1795435200}"#),
        ("a.b", r#"{"app":{"a":{"b":1795435200}}"#),
        ("a.b", r#"{"app":{"a.b":1795435200}"#),
        ("event.start", r#"{"message":"m","event.start":1795435200"#),
        ("app.event.start", r#"{"message":"m","event.start":1795435200"#),
    ] {
        let found = |merged| stamp(Some(field), "auto").of(document.as_bytes(), merged, None, WRITTEN);
        assert_eq!(found(true), Some(1_795_435_200_000_000_000), "{field} of {document}");
        // Elsewhere a name says where.
        let is_there = field.starts_with("app.") == document.contains("\"app\"");
        assert_eq!(found(false).is_some(), is_there, "{field} of {document}");
    }
}

#[test]
fn patterns_are_those_of_strptime() {
    for (pattern, text, expected) in [
        ("%d.%m.%Y %H:%M:%S", "23.11.2026 12:00:01", "2026-11-23T12:00:01.000000000Z"),
        ("%d.%m.%y %I:%M %p", "23.11.26  1:30 pm", "2026-11-23T13:30:00.000000000Z"),
        ("%I %p %d %B %Y", "12 AM 23 November 2026", "2026-11-23T00:00:00.000000000Z"),
        ("%F %T.%f %z", "2026-11-23 12:00:00.5 -0130", "2026-11-23T13:30:00.500000000Z"),
        ("%a %b %e %T %Y", "Mon Nov 23 12:00:00 2026", "2026-11-23T12:00:00.000000000Z"),
        ("at %s", "at 1795435200", "2026-11-23T12:00:00.000000000Z"),
        ("%m-%d %H:%M", "11-23 12:00", "2026-11-23T12:00:00.000000000Z"),
        ("%d.%m.%Y %H", "23.11.2026 25", ""),
        ("%d.%m.%Y %H", "23-11-2026 12", ""),
        ("%F %T%z", "2026-11-23 12:00:00", ""),
        ("%F %I %p", "2026-11-23 0 am", ""),
        ("epoch_ms", "1795435200500.5", "2026-11-23T12:00:00.500500000Z"),
        ("epoch_s", "1795435200000", ""),
        ("rfc3339", "2026-11-23T12:00:00Z", "2026-11-23T12:00:00.000000000Z"),
        ("rfc3339", "2026-11-23 12:00:00Z", ""),
    ] {
        let document = format!(r#"{{"app":{{"t":"{text}"}}"#);
        assert_eq!(
            of(&stamp(Some("app.t"), pattern), &document).unwrap_or_default(),
            expected,
            "{pattern}: {text}"
        );
    }
    for (pattern, said) in
        [("%Q", "`%Q`"), ("%", "ends with"), ("%.x", "`%.x`"), ("%H:%M", "month, day"), ("iso", "neither")]
    {
        let error = Format::parse(pattern).expect_err(pattern);
        assert!(error.contains(said), "{pattern}: {error}");
    }
    for (zone, minutes) in
        [("+09:00", Some(540)), ("-0130", Some(-90)), ("Z", Some(0)), ("+09:00x", None), ("JST", None)]
    {
        assert_eq!(parse_zone(zone), minutes, "{zone}");
    }
}

#[test]
fn a_year_that_is_not_written_is_the_nearest() {
    // 2027-01-01T00:00:10Z: the line is of the year before.
    let written = 1_798_761_610_000_000_000;
    let of = |text: &str, written| {
        let document = format!(r#"{{"message":"{text} host x""#);
        let found = stamp(None, "auto").of(document.as_bytes(), false, None, written);
        found.map(format_nanos).unwrap_or_default()
    };
    assert_eq!(of("Dec 31 23:59:59", written), "2026-12-31T23:59:59.000000000Z");
    assert_eq!(of("Jan  1 00:00:09", written), "2027-01-01T00:00:09.000000000Z");
    assert_eq!(of("Feb 29 00:00:00", written), "");
    assert_eq!(of("Jan  1 00:00:00", written - 20_000_000_000), "2027-01-01T00:00:00.000000000Z");
}

#[test]
fn a_time_without_a_zone_is_of_the_zone_that_is_said() {
    let format = Format::parse("auto").expect("a format");
    let stamp = Stamp::new(Some("message"), format, 540, (DAY, DAY));
    let of = |text: &str| of(&stamp, &format!(r#"{{"message":"{text}""#)).unwrap_or_default();
    assert_eq!(of("2026-11-23 21:00:00 x"), "2026-11-23T12:00:00.000000000Z");
    assert_eq!(of("2026-11-23 12:00:00Z x"), "2026-11-23T12:00:00.000000000Z");
    assert_eq!(of("2026-11-23 12:00:00 GMT x"), "2026-11-23T12:00:00.000000000Z");
    // What follows is a word that begins as a zone does.
    for word in ["Zookeeper", "zeroed", "UTCnow", "GMTime"] {
        assert_eq!(
            of(&format!("2026-11-23 21:00:00 {word} started")),
            "2026-11-23T12:00:00.000000000Z",
            "{word}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_fail(text: String, bytes in "[0-9:/ TZ.+-]{0,40}", written: i64) {
        for text in [text, bytes] {
            let document = format!(r#"{{"message":{}"#, serde_json::Value::from(text));
            for format in ["auto", "epoch_s", "epoch_ns", "%F %T%.f%?z", "%b %e %I:%M:%S %p", "%s"] {
                let stamp = stamp(Some("message"), format);
                if let Some(time) = stamp.of(document.as_bytes(), false, None, written) {
                    proptest::prop_assert!(time.abs_diff(written) <= 14 * 86_400 * 1_000_000_000);
                }
            }
        }
    }
}
