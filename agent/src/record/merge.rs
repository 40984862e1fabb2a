//! JSON bodies whose members go to the top of the document.
//!
//! In: text that may be one JSON object, and names that are taken. Out: its message and level as for every body, its members
//! beside them, and under `app` those that cannot be there: whose name is the agent's own, is taken, is written with escapes,
//! or has come before, the whole of it or a part ([`fields::is_free`]). Never loses a member, writes one name twice at
//! the top, or looks into the members.

use super::fields::{is_free, overlap};
use super::json::{self, Member};
use super::{Notes, end_of_lift, lift, separate};

/// So many members go to the top at most: each is compared with those before it.
const MOST: usize = 128;

/// Appends the fields of what may be a JSON object. None, with nothing appended, if it is none or has no member.
pub(super) fn append(out: &mut Vec<u8>, text: &str, taken: &[String]) -> Option<Notes> {
    let mut members = Vec::new();
    let object = json::read_each(text, |member| members.push(member))?;
    if members.is_empty() {
        return None;
    }
    let start = out.len();
    let level = lift(out, text, &object);
    let lifted = object.message.map(|message| message.before);
    let (mut names, mut rest): (Vec<&str>, Vec<&Member>) = (Vec::new(), Vec::new());
    for member in members.iter().filter(|member| Some(member.before) != lifted) {
        let name = &text[member.name.0 + 1..member.name.1 - 1];
        let mut others = names.iter().copied().chain(taken.iter().map(String::as_str));
        if names.len() < MOST && is_free(name) && !others.any(|other| overlap(name, other)) {
            separate(out, start);
            append_member(out, text, member);
            names.push(name);
        } else {
            rest.push(member);
        }
    }
    if !rest.is_empty() {
        separate(out, start);
        out.extend_from_slice(b"\"app\":{");
        let begin = out.len();
        for member in rest {
            separate(out, begin);
            append_member(out, text, member);
        }
        out.push(b'}');
    }
    Some(end_of_lift(out, start, &object, level))
}

fn append_member(out: &mut Vec<u8>, text: &str, member: &Member) {
    out.extend_from_slice(&text.as_bytes()[member.name.0..member.name.1]);
    out.push(b':');
    out.extend_from_slice(member.value(text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Json, append_body_as};

    fn merged(body: &str) -> String {
        let mut out = Vec::new();
        let taken = ["team".to_owned(), "labels.zone".to_owned()];
        append_body_as(&mut out, body.as_bytes(), Json::Merge(&taken));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn members_stand_at_the_top_and_what_may_not_under_app() {
        for (body, expected) in [
            (
                r#"{"msg":"a","level":"warn","n":1}"#,
                r#""message":"a","log":{"level":"warn"},"level":"warn","n":1"#,
            ),
            (r#"{"n":1}"#, r#""n":1"#),
            (r#" { "n" : { "a" : 1 } , "m" : [ 2 ] } "#, r#""n":{ "a" : 1 },"m":[ 2 ]"#),
            ("{}", r#""message":"{}""#),
            ("{\"n\"", r#""message":"{\"n\"""#),
            ("text", r#""message":"text""#),
            // The agent's own, nested, with dots and with escapes.
            (r#"{"n":1,"kubernetes":{"a":1}}"#, r#""n":1,"app":{"kubernetes":{"a":1}}"#),
            (r#"{"kubernetes.pod.name":"x"}"#, r#""app":{"kubernetes.pod.name":"x"}"#),
            (
                r#"{"kubernete\u0073":1,"_id":2,"\u005fid":3}"#,
                r#""app":{"kubernete\u0073":1,"_id":2,"\u005fid":3}"#,
            ),
            (
                r#"{"@timestamp":1,"stream":2,"log.level":"?"}"#,
                r#""app":{"@timestamp":1,"stream":2,"log.level":"?"}"#,
            ),
            (
                r#"{"log":{"level":"info","a":1}}"#,
                r#""log":{"level":"info"},"app":{"log":{"level":"info","a":1}}"#,
            ),
            (r#"{"app":{"a":1},"message":{"b":2}}"#, r#""app":{"app":{"a":1},"message":{"b":2}}"#),
            (r#"{"":1,"a.":2,".a":3," ":4}"#, r#""app":{"":1,"a.":2,".a":3," ":4}"#),
            // Twice, and one within the other.
            (r#"{"a":1,"a":2,"a":3}"#, r#""a":1,"app":{"a":2,"a":3}"#),
            (r#"{"a":{"b":1},"a.b":2,"a.c":3}"#, r#""a":{"b":1},"app":{"a.b":2,"a.c":3}"#),
            (r#"{"a.b":1,"a":2,"ab":3}"#, r#""a.b":1,"ab":3,"app":{"a":2}"#),
            (r#"{"msg":"a","msg":"b"}"#, r#""message":"a","msg":"b""#),
            // What the route gives.
            (
                r#"{"team":"x","team.a":1,"labels.zone":"y","teams":2}"#,
                r#""teams":2,"app":{"team":"x","team.a":1,"labels.zone":"y"}"#,
            ),
            ("{\"a\":\"\\ud800\",\n\"b\":[\n1]}", r#""a":"\ufffd","b":[ 1]"#),
        ] {
            assert_eq!(merged(body), expected, "{body}");
        }
    }

    #[test]
    fn so_many_go_to_the_top_and_no_more() {
        let members: Vec<String> = (0..MOST + 2).map(|n| format!("\"m{n}\":{n}")).collect();
        let out = merged(&format!("{{{}}}", members.join(",")));
        let (top, under) = out.split_once(",\"app\":").expect("the rest");
        assert_eq!(top, members[..MOST].join(","));
        assert_eq!(under, format!("{{{}}}", members[MOST..].join(",")));
    }
}
