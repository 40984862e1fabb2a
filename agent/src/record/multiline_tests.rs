//! What belongs together in what programs print.

use proptest::prelude::*;

use super::*;

/// The lines as records, by the rule.
fn records(rule: &Multiline, lines: &[&str]) -> Vec<Vec<String>> {
    let mut records: Vec<Vec<String>> = Vec::new();
    let mut open: Option<State> = None;
    for line in lines {
        open = match open.and_then(|state| rule.go_on(state, line.as_bytes())) {
            Some(state) => {
                records.last_mut().unwrap().push((*line).to_owned());
                Some(state)
            }
            None => {
                records.push(vec![(*line).to_owned()]);
                rule.begin(line.as_bytes())
            }
        };
    }
    records
}

fn by(rule: Rule) -> Multiline {
    Multiline { rule, timeout: Duration::from_secs(1), max_lines: 1000 }
}

/// What programs print, their records divided by `====`.
const PRINTED: &str = r#"
2026-11-23 10:00:00 INFO  starting
====
2026-11-23 10:00:00 ERROR could not add to the cart
java.lang.RuntimeException: outer: it failed
	at shop.Cart.add(Cart.java:2)
	at java.base/java.lang.reflect.Method.invoke(Method.java:569)
	Suppressed: java.io.IOException: closing
		... 8 more
Caused by: java.lang.IllegalStateException: inner
second line
	at shop.Cart.f(Cart.java:1)
	... 8 common frames omitted
====
Exception in thread "main" java.lang.Error: end
	at shop.Cart.main(Cart.java:3)
====
2026-11-23 10:00:01 INFO  going on
====
Traceback (most recent call last):
  File "/srv/t.py", line 5, in g
    f()
ValueError: bad value

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/t.py", line 9, in <module>
    try: g()
         ^^^
RuntimeError: while g
====
ERROR:root:could not do it
Traceback (most recent call last):
  File "/srv/t.py", line 5, in g
    f()
ValueError: bad value

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/srv/t.py", line 11, in <module>
    try: g()
KeyboardInterrupt
====
  + Exception Group Traceback (most recent call last):
  |   File "/srv/t.py", line 14, in <module>
  | ExceptionGroup: many (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +------------------------------------
====
Traceback (most recent call last):
  File "/srv/t.py", line 5, in g
shop.CartError: bad
====
INFO:root:going on
====
panic: broken: 0
	second [recovered, repanicked]

goroutine 1 [running]:
main.main.func1()
	/srv/t.go:5 +0x65
panic({0x4b0520?, 0x13a3c5198020?})
	/usr/local/go/src/runtime/panic.go:860 +0x13a
main.(*T).run(0x2000000000013?, 0x7fc18dc27560?)
	/srv/t.go:4 +0x78
created by main.main in goroutine 1
	/srv/t.go:5 +0x46
exit status 2
====
2026/11/23 10:00:00 http: panic serving 10.0.0.1:5: runtime error: invalid memory address
goroutine 34 [running]:
net/http.(*conn).serve.func1()
	/usr/local/go/src/net/http/server.go:1947 +0xbe
====
listening on :8080
====
TypeError: x is not y
    at f (/srv/t.js:1:25)
    at node:internal/main/run_main_module:28:49 {
  code: 'E1',
  [cause]: Error: root cause
      at f (/srv/t.js:1:61)
}
====
failed: TypeError: Cannot read properties of null (reading 'x')
    at Object.<anonymous> (/srv/t.js:3:12)
====
/srv/t.js:1
function f(){ throw new TypeError("x is not y") }
              ^

TypeError: x is not y
    at f (/srv/t.js:1:25) {
  code: 'E1'
}

Node.js v20.20.2
====
node:internal/modules/cjs/loader:1228
  throw err;
  ^

Error: Cannot find module '/srv/x.js'
    at Module._resolveFilename (node:internal/modules/cjs/loader:1225:15) {
  code: 'MODULE_NOT_FOUND',
  requireStack: []
}
====
t.rb:1:in 'Object#f': broken (RuntimeError)
	from t.rb:2:in '<main>'
====
{"level":"info","msg":"between"}
====
t.rb:3:in '<main>': undefined method 'foo' for nil (NoMethodError)

nil.foo
   ^^^^
	from t.rb:4:in '<main>'
====
t.rb:2:in `add': undefined method `foo' for nil:NilClass (NoMethodError)

  nil.foo
     ^^^^
	from t.rb:5:in `run'
====
going on
====
PHP Fatal error:  Uncaught Exception: broken in /srv/t.php:3
Stack trace:
#0 /srv/t.php(7): f()
#1 {main}
  thrown in /srv/t.php on line 3
====
[2026-11-23 10:00:00] app.CRITICAL: Uncaught Exception: broken
#0 /srv/t.php(7): f()
#1 {main}
====
Unhandled exception. System.InvalidOperationException: outer
 ---> System.IO.IOException: inner
   at Shop.Cart.Add() in /srv/Cart.cs:line 3
   --- End of inner exception stack trace ---
   at Program.<Main>$(String[] args) in /srv/Program.cs:line 2
====
thread 'main' panicked at src/main.rs:2:5:
assertion `left == right` failed
  left: 1
 right: 2
stack backtrace:
   0: rust_begin_unwind
             at /rustc/f6e511/library/std/src/panicking.rs:647:5
note: run with `RUST_BACKTRACE=full` for a verbose backtrace.
====
{"level":"error","msg":"in one line"}
====
{"level":"error","msg":"in another"}
====
10.0.0.1 - - [23/Nov/2026:10:00:00 +0000] "GET /error.html HTTP/1.1" 200 5
====
10.0.0.1 - - [23/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5
====
W1123 10:00:00.000000       1 reflector.go:5] failed: error watching
====
I1123 10:00:00.000000       1 reflector.go:5] watching
====
	at shop.Lost.frame(Lost.java:1)
	at shop.Lost.main(Lost.java:2)
"#;

#[test]
fn traces_and_the_lines_before_them_are_records() {
    let printed = PRINTED.strip_prefix('\n').unwrap();
    let expected: Vec<Vec<&str>> = printed.split("====\n").map(|record| record.lines().collect()).collect();
    let lines: Vec<&str> = expected.concat();
    assert_eq!(records(&by(Rule::Auto), &lines), expected);
}

#[test]
fn lines_of_ones_own_are_joined_as_the_pattern_says() {
    let lines = ["  orphan", "2026-11-23 one", "  more", "and more", "2026-11-23 two"];
    let start = by(Rule::Start(Regex::new(r"^\d{4}-").unwrap()));
    let expected =
        vec![vec!["  orphan"], vec!["2026-11-23 one", "  more", "and more"], vec!["2026-11-23 two"]];
    assert_eq!(records(&start, &lines), expected);
    let goes_on = by(Rule::Continue(Regex::new(r"^\s").unwrap()));
    let expected =
        vec![vec!["  orphan"], vec!["2026-11-23 one", "  more"], vec!["and more"], vec!["2026-11-23 two"]];
    assert_eq!(records(&goes_on, &lines), expected);
}

#[test]
fn an_ordinary_line_waits_for_nothing() {
    for line in
        ["", "started", "level=info msg=ok", "{\"error\":\"x\"}", "  indented", "at home", "/healthz:200x"]
    {
        assert_eq!(by(Rule::Auto).begin(line.as_bytes()), None, "{line}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged(line: Vec<u8>, state: u8) {
        let rule = by(Rule::Auto);
        let begun = rule.begin(&line);
        prop_assert!(begun.is_none_or(|state| state.number() > 0));
        let next = rule.go_on(State::of(state), &line);
        prop_assert!(next.is_none_or(|state| state.number() > 0));
    }
}
