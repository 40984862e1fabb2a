//! What becomes of single fields.

use super::*;

fn shaped(shape: &Shape, document: &str) -> (String, Shaped) {
    let mut out = b"{".to_vec();
    let done = shape.apply(document.as_bytes(), &mut out);
    (String::from_utf8(out).expect("text"), done)
}

fn of(merged: bool, build: impl FnOnce(&mut Shape)) -> Shape {
    let mut shape = Shape::new(merged, Some(HashKey::new(b"key")));
    build(&mut shape);
    shape
}

/// What stands for a value.
fn hash(value: &str) -> String {
    let mut out = Vec::new();
    HashKey::new(b"key").append_of_field(&mut out, value.as_bytes());
    String::from_utf8(out).expect("digits")
}

#[test]
fn a_removed_field_is_gone_however_it_is_written() {
    let shape = of(false, |shape| {
        shape.edit("app.password", Edit::Remove);
        shape.edit("app.debug.*", Edit::Remove);
        shape.edit("app.users.token", Edit::Remove);
        shape.edit("url.query", Edit::Remove);
    });
    for (document, expected) in [
        (r#"{"message":"m","app":{"a":1}"#, r#"{"message":"m","app":{"a":1}"#),
        (r#"{"app":{"password":1,"a":1,"password":{"b":2}}"#, r#"{"app":{"a":1}"#),
        (r#"{"app":{"p\u0061ssword":1,"a":1}"#, r#"{"app":{"a":1}"#),
        (r#"{"app":{"password.old":1,"a":1,"passwords":2}"#, r#"{"app":{"a":1,"passwords":2}"#),
        (r#"{"app":{"password":1}"#, r#"{"message":"""#),
        (r#"{"app":{"a":1,"debug":{"b":1,"c":{}}}"#, r#"{"app":{"a":1}"#),
        (r#"{"app":{"debug.b":1,"debug":2}"#, r#"{"app":{"debug":2}"#),
        (r#"{"app":{"debug":{}}"#, r#"{"app":{"debug":{}}"#),
        (
            r#"{"app":{"users":[{"token":1},{"id":2,"token":3},4,[{"token":5}]]}"#,
            r#"{"app":{"users":[{},{"id":2},4,[{}]]}"#,
        ),
        (r#"{"message":"m","url.query":"a=1","url.path":"/""#, r#"{"message":"m","url.path":"/""#),
    ] {
        assert_eq!(shaped(&shape, document).0, expected, "{document}");
    }
    let message = of(false, |shape| shape.edit("message", Edit::Remove));
    assert_eq!(shaped(&message, r#"{"message":"m","app":{"message":1}"#).0, r#"{"app":{"message":1}"#);
    assert_eq!(
        shaped(&message, r#"{"message":"m""#),
        (r#"{"message":"""#.into(), Shaped { changed: true, truncated: 0 })
    );
}

#[test]
fn a_hash_stands_for_every_value_and_is_the_same_for_the_same_text() {
    let shape = of(false, |shape| shape.edit("app.user", Edit::Hash));
    let document = r#"{"app":{"user":{"id":7,"mail":"a\u0040b","ok":true,"none":null,"l":["7"]},"user.x":"7","users":"7"}"#;
    let (seven, mail) = (hash("7"), hash("a@b"));
    let expected = format!(
        r#"{{"app":{{"user":{{"id":"{seven}","mail":"{mail}","ok":"{}","none":null,"l":["{seven}"]}},"user.x":"{seven}","users":"7"}}"#,
        hash("true")
    );
    assert_eq!(shaped(&shape, document), (expected, Shaped { changed: true, truncated: 0 }));
    assert_eq!(seven.len(), 32);
}

#[test]
fn a_renamed_field_has_its_new_place_unless_something_is_there() {
    let shape = of(false, |shape| {
        shape.rename("app.user_id", "user.id");
        shape.rename("app.req", "app.request");
        shape.rename("url.path", "app.path");
        shape.edit("user.id", Edit::Hash);
        shape.edit("app.request.secret", Edit::Remove);
    });
    let seven = hash("7");
    for (document, expected) in [
        (
            r#"{"message":"m","app":{"user_id":7,"a":1}"#,
            format!(r#"{{"message":"m","app":{{"a":1}},"user.id":"{seven}""#),
        ),
        (r#"{"app":{"user_id":7}"#, format!(r#"{{"user.id":"{seven}""#)),
        // Twice: the second stays, but is hashed all the same.
        (
            r#"{"app":{"user_id":7,"user_id":7}"#,
            format!(r#"{{"app":{{"user_id":"{seven}"}},"user.id":"{seven}""#),
        ),
        (
            r#"{"user.id":"7","app":{"user_id":7}"#,
            format!(r#"{{"user.id":"{seven}","app":{{"user_id":"{seven}"}}"#),
        ),
        (
            r#"{"user.id.x":1,"app":{"user_id":7}"#,
            format!(r#"{{"user.id.x":"{}","app":{{"user_id":"{seven}"}}"#, hash("1")),
        ),
        (r#"{"app":{"req":{"secret":1,"b":2}}"#, r#"{"app":{"request":{"b":2}}"#.to_owned()),
        (r#"{"app":{"req":{"secret":1}}"#, r#"{"message":"""#.to_owned()),
        (
            r#"{"app":{"req":{"secret":1,"a":2},"request":3}"#,
            r#"{"app":{"req":{"a":2},"request":3}"#.to_owned(),
        ),
        (r#"{"message":"m","url.path":"/a""#, r#"{"message":"m","app":{"path":"/a"}"#.to_owned()),
        (
            r#"{"message":"m","url.path":"/a","app":{"b":1}"#,
            r#"{"message":"m","app":{"b":1,"path":"/a"}"#.to_owned(),
        ),
        // In a list they are several.
        (r#"{"app":{"l":[{"req":1}]}"#, r#"{"app":{"l":[{"req":1}]}"#.to_owned()),
    ] {
        assert_eq!(shaped(&shape, document).0, expected, "{document}");
    }
}

#[test]
fn what_is_given_is_what_the_configuration_says() {
    let shape = of(false, |shape| {
        shape.give("env", br#""prod""#.to_vec());
        shape.give("a.b", b"1".to_vec());
    });
    let given = r#""env":"prod","a.b":1}"#;
    for (document, expected) in [
        (r#"{"message":"m""#, format!(r#"{{"message":"m","app":{{{given}"#)),
        (r#"{"app":{"env":"dev","x":1}"#, format!(r#"{{"app":{{"x":1,{given}"#)),
        (r#"{"app":{"a":{"b":2,"c":3}}"#, format!(r#"{{"app":{{"a":{{"c":3}},{given}"#)),
        (
            r#"{"app":{"e\u006ev":{"x":1},"env.x":2,"a":{"c":1}}"#,
            format!(r#"{{"app":{{"a":{{"c":1}},{given}"#),
        ),
    ] {
        assert_eq!(shaped(&shape, document).0, expected, "{document}");
    }
}

#[test]
fn a_long_text_is_cut_at_a_character_and_says_so() {
    let shape = of(false, |shape| {
        shape.edit("message", Edit::Truncate(64));
        shape.edit("app.stack", Edit::Truncate(80));
    });
    let cut = Shaped { changed: true, truncated: 1 };
    for (text, expected, done) in [
        ("short".to_owned(), "short".to_owned(), Shaped::default()),
        ("x".repeat(64), "x".repeat(64), Shaped::default()),
        ("\\n".repeat(64), "\\n".repeat(64), Shaped::default()),
        ("x".repeat(65), format!("{} [taffrail: cut, of 65 bytes]", "x".repeat(35)), cut),
        ("é".repeat(40), format!("{} [taffrail: cut, of 80 bytes]", "é".repeat(17)), cut),
        ("\\\"".repeat(70), format!("{} [taffrail: cut, of 70 bytes]", "\\\"".repeat(35)), cut),
    ] {
        let document = format!(r#"{{"message":"{text}","app":{{"a":"{text}"}}"#);
        let expected = format!(r#"{{"message":"{expected}","app":{{"a":"{text}"}}"#);
        assert_eq!(shaped(&shape, &document), (expected, done), "{text}");
    }
    let long = "x".repeat(100);
    let (out, done) = shaped(&shape, &format!(r#"{{"app":{{"stack":["{long}",{{"a":"{long}"}},1]}}"#));
    assert_eq!((out.matches("[taffrail: cut, of 100 bytes]").count(), done.truncated), (2, 2), "{out}");
}

#[test]
fn where_json_is_merged_all_of_app_is_all_that_a_program_wrote_but_its_message() {
    let document = r#"{"message":"m","log":{"level":"warn"},"n":1,"user.id":{"a":2},"event.duration":3,"app":{"kubernetes":{"a":4},"message":{"b":5},"":6}"#;
    let removing = of(true, |shape| shape.edit("app.*", Edit::Remove));
    let changed = Shaped { changed: true, truncated: 0 };
    assert_eq!(shaped(&removing, document), (r#"{"message":"m","log":{"level":"warn"}"#.into(), changed));
    assert_eq!(shaped(&removing, r#"{"n":1,"app":{"stream":"x"}"#), (r#"{"message":"""#.into(), changed));
    let hashing = of(true, |shape| shape.edit("app.*", Edit::Hash));
    let expected = format!(
        r#"{{"message":"m","log":{{"level":"warn"}},"n":"{}","user.id":{{"a":"{}"}},"event.duration":"{}","app":{{"kubernetes":{{"a":"{}"}},"message":{{"b":"{}"}},"":"{}"}}"#,
        hash("1"),
        hash("2"),
        hash("3"),
        hash("4"),
        hash("5"),
        hash("6"),
    );
    assert_eq!(shaped(&hashing, document), (expected, changed));
    let cutting = of(true, |shape| shape.edit("app.*", Edit::Truncate(64)));
    let long = "x".repeat(100);
    let document = format!(r#"{{"message":"{long}","a":"{long}","app":{{"stream":"{long}"}}"#);
    let (out, done) = shaped(&cutting, &document);
    assert!(done.truncated == 2 && out.starts_with(&format!(r#"{{"message":"{long}","a":"xx"#)), "{out}");
}

#[test]
fn a_body_as_deep_as_may_be_keeps_its_fields_and_loses_what_is_removed() {
    let deep = format!("{}1{}", "[".repeat(63), "]".repeat(63));
    let shape = of(false, |shape| shape.edit("app.password", Edit::Remove));
    assert_eq!(
        shaped(&shape, &format!(r#"{{"message":"m","app":{{"a":{deep},"password":1}}"#)),
        (format!(r#"{{"message":"m","app":{{"a":{deep}}}"#), Shaped { changed: true, truncated: 0 })
    );
}

#[test]
fn where_json_is_merged_a_field_is_meant_at_the_top_and_under_app() {
    let shape = of(true, |shape| {
        shape.edit("password", Edit::Remove);
        shape.edit("app.mail", Edit::Hash);
        shape.rename("user_id", "user.id");
        shape.give("env", br#""prod""#.to_vec());
    });
    let (mail, given) = (hash("m"), r#""env":"prod""#);
    for (document, expected) in [
        (
            r#"{"password":1,"mail":"m","user_id":7,"app":{"password":2,"mail":"m","env":3}"#,
            format!(r#"{{"mail":"{mail}","app":{{"mail":"{mail}",{given}}},"user.id":7"#),
        ),
        (
            r#"{"n":1,"app":{"user_id":7,"user_id":8}"#,
            format!(r#"{{"n":1,"app":{{"user_id":8,{given}}},"user.id":7"#),
        ),
    ] {
        assert_eq!(shaped(&shape, document).0, expected, "{document}");
    }
}
