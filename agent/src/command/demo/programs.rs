//! What the demo's pods print: the formats that a real node's logs are made of. Comes in: a random number
//! generator and the time. Goes out: lines, each carrying a number unique in its container, so that delivery
//! can be verified by content. It never touches a file: how a line becomes bytes on disk is the runtime's
//! business (`world`).
//!
//! The number is `"seq":123` in JSON and the last `seq=123` in text. Every line of a stack trace is a record
//! of its own, so each has one.

use std::fmt::Write as _;

use fastrand::Rng;

use super::clock::Moment;

/// Which of its two pipes a program printed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word that the runtime writes for it.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// One line that a program printed, without its newline.
#[derive(Debug)]
pub struct Line {
    /// The pipe that it went to.
    pub stream: Stream,
    /// The text: valid UTF-8, never empty, no newline within.
    pub text: String,
}

/// What a container printed in one turn, and the numbers that it has used so far. The numbers go on over a
/// restart.
#[derive(Debug, Default)]
pub struct Paper {
    /// The lines in the order of printing. Line i carries the i-th number handed out since the paper was last
    /// cleared.
    pub lines: Vec<Line>,
    /// The highest number handed out; the first is 1.
    pub last_seq: u64,
}

impl Paper {
    /// Prints a line of text to `stream`: `text` as it is, then the number.
    fn text(&mut self, stream: Stream, mut text: String) {
        self.last_seq += 1;
        // Writing to a String cannot fail.
        let _ = write!(text, " seq={}", self.last_seq);
        self.lines.push(Line { stream, text });
    }

    /// Prints a line of a stack trace: the number stands in brackets, for it is no part of what programs
    /// print there.
    fn trace(&mut self, stream: Stream, text: &str) {
        self.last_seq += 1;
        self.lines.push(Line { stream, text: format!("{text} [seq={}]", self.last_seq) });
    }

    /// Prints a JSON object of which `members` is the inside, without the braces; the number is its last
    /// member.
    fn json(&mut self, stream: Stream, members: &str) {
        self.last_seq += 1;
        self.lines.push(Line { stream, text: format!("{{{members},\"seq\":{}}}", self.last_seq) });
    }
}

/// A program that one of the demo's containers runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A Node service that logs with pino: JSON, levels as numbers, errors with their stack in a string.
    Storefront,
    /// nginx's combined access log on stdout, its error log on stderr.
    Nginx,
    /// A Go service that logs with zap: JSON, the level first.
    Cart,
    /// A Go service that ends in a panic now and then (see [`Program::last_words`]).
    Ledger,
    /// A Java service that logs with logback: text, stack traces of many lines.
    Catalog,
    /// A Python service that logs with structlog: JSON, the keys sorted.
    PaymentsApi,
    /// A small Go exporter that logs with logfmt on stderr.
    Exporter,
    /// CoreDNS's query log.
    CoreDns,
    /// kube-proxy: klog on stderr.
    KubeProxy,
    /// A nightly job that tells of its progress in logfmt.
    Report,
    /// A batch importer whose lines are longer than the runtime keeps in one piece, on both streams at once.
    Importer,
}

impl Program {
    /// Prints what the program has to say in one turn: mostly one line, sometimes a whole trace.
    pub fn print(self, paper: &mut Paper, rng: &mut Rng, now: &Moment) {
        match self {
            Program::Storefront => storefront(paper, rng, now),
            Program::Nginx => nginx(paper, rng, now),
            Program::Cart => cart(paper, rng, now),
            Program::Ledger => ledger(paper, rng, now),
            Program::Catalog => catalog(paper, rng, now),
            Program::PaymentsApi => payments_api(paper, rng, now),
            Program::Exporter => exporter(paper, rng, now),
            Program::CoreDns => coredns(paper, rng),
            Program::KubeProxy => kube_proxy(paper, rng, now),
            Program::Report => report(paper, rng, now),
            Program::Importer => importer(paper, rng, now),
        }
    }

    /// Prints what the program leaves behind when it dies, just before its container is started anew.
    pub fn last_words(self, paper: &mut Paper, rng: &mut Rng, now: &Moment) {
        match self {
            Program::Ledger => go_panic(paper, rng),
            Program::Catalog => java_out_of_memory(paper, now),
            // The others end quietly.
            _ => {}
        }
    }
}

const PATHS: [&str; 8] = [
    "/",
    "/healthz",
    "/api/cart",
    "/api/catalog/items?page=3&sort=price",
    "/api/checkout",
    "/static/app.9f3c1d.js",
    "/search?q=wei%C3%9Fe+schuhe",
    "/login",
];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile/15E148 Safari/604.1",
    "kube-probe/1.37",
    "curl/8.15.0",
];
const CITIES: [&str; 5] = ["Hamburg", "Zürich", "東京", "São Paulo", "Kraków"];

fn pick(rng: &mut Rng, from: &[&'static str]) -> &'static str {
    from[rng.usize(..from.len())]
}

fn address(rng: &mut Rng) -> String {
    format!("10.244.{}.{}", rng.u8(0..4), rng.u8(2..250))
}

fn storefront(paper: &mut Paper, rng: &mut Rng, now: &Moment) {
    let time = now.unix * 1_000 + u64::from(now.millis());
    let head = format!("\"time\":{time},\"pid\":1,\"hostname\":\"storefront\",\"name\":\"storefront\"");
    let request = format!("\"reqId\":\"req-{:x}\"", rng.u32(..));
    let path = pick(rng, &PATHS);
    match rng.u32(..1_000) {
        0..8 => paper.json(
            Stream::Stdout,
            &format!(
                "\"level\":50,{head},{request},\"err\":{{\"type\":\"TypeError\",\"message\":\"Cannot read properties of \
                 undefined (reading 'price')\",\"stack\":\"TypeError: Cannot read properties of undefined (reading \
                 'price')\\n    at renderItem (/app/dist/views/item.js:{}:17)\\n    at Array.map (<anonymous>)\\n    at \
                 /app/dist/server.js:118:9\"}},\"msg\":\"request errored\"",
                rng.u32(20..400)
            ),
        ),
        8..40 => paper.json(
            Stream::Stdout,
            &format!("\"level\":40,{head},{request},\"retryInMs\":{},\"msg\":\"upstream \\\"catalog\\\" is slow\"", rng.u32(50..900)),
        ),
        _ => paper.json(
            Stream::Stdout,
            &format!(
                "\"level\":30,{head},{request},\"req\":{{\"method\":\"GET\",\"url\":\"{path}\",\"remoteAddress\":\"{}\"}},\
                 \"res\":{{\"statusCode\":200}},\"responseTime\":{}.{:02},\"msg\":\"request completed\"",
                address(rng),
                rng.u32(1..240),
                rng.u32(..100)
            ),
        ),
    }
}

fn nginx(paper: &mut Paper, rng: &mut Rng, now: &Moment) {
    let (client, path) = (address(rng), pick(rng, &PATHS));
    if rng.u32(..1_000) < 12 {
        let connection = rng.u32(1_000..90_000);
        return paper.text(
            Stream::Stderr,
            format!(
                "{} [error] 31#31: *{connection} connect() failed (111: Connection refused) while connecting to upstream, \
                 client: {client}, server: shop.example, request: \"GET {path} HTTP/1.1\", upstream: \
                 \"http://10.244.1.17:8080{path}\", host: \"shop.example\"",
                now.slashes()
            ),
        );
    }
    let status = [200, 200, 200, 200, 200, 200, 204, 301, 304, 404, 499, 502][rng.usize(..12)];
    let agent = pick(rng, &AGENTS);
    paper.text(
        Stream::Stdout,
        format!(
            "{client} - - [{}] \"GET {path} HTTP/1.1\" {status} {} \"https://shop.example/\" \"{agent}\" {} 0.{:03} \
             [shop-storefront-80] [] 10.244.1.17:8080 {} 0.{:03} {status} {:016x}{:016x}",
            now.nginx_local(),
            rng.u32(120..48_000),
            rng.u32(300..900),
            rng.u32(1..900),
            rng.u32(120..48_000),
            rng.u32(1..900),
            rng.u64(..),
            rng.u64(..)
        ),
    );
}

/// The members that zap writes before all others.
fn zap_head(level: &str, caller: &str, now: &Moment) -> String {
    format!("\"level\":\"{level}\",\"ts\":{}.{:06},\"caller\":\"{caller}\"", now.unix, now.micros())
}

fn cart(paper: &mut Paper, rng: &mut Rng, now: &Moment) {
    let trace = format!("\"trace_id\":\"{:016x}{:016x}\"", rng.u64(..), rng.u64(..));
    let user = rng.u32(1..90_000);
    match rng.u32(..1_000) {
        0..15 => paper.json(
            Stream::Stderr,
            &format!(
                "{},\"msg\":\"cannot save cart\",{trace},\"user_id\":{user},\"error\":\"redis: connection pool timeout\",\
                 \"stacktrace\":\"main.(*Store).Save\\n\\t/src/cart/store.go:88\\nmain.handleAdd\\n\\t/src/cart/http.go:141\"",
                zap_head("error", "cart/store.go:88", now)
            ),
        ),
        15..60 => paper.json(
            Stream::Stderr,
            &format!(
                "{},\"msg\":\"cache miss\",{trace},\"key\":\"cart:{user}\",\"ttl\":\"5m0s\"",
                zap_head("warn", "cart/cache.go:52", now)
            ),
        ),
        _ => paper.json(
            Stream::Stderr,
            &format!(
                "{},\"msg\":\"item added\",{trace},\"user_id\":{user},\"sku\":\"SKU-{:05}\",\"quantity\":{},\"ship_to\":\"{}\",\
                 \"duration_ms\":{}.{:03}",
                zap_head("info", "cart/http.go:141", now),
                rng.u32(..99_999),
                rng.u32(1..6),
                pick(rng, &CITIES),
                rng.u32(1..90),
                rng.u32(..1_000)
            ),
        ),
    }
}

fn ledger(paper: &mut Paper, rng: &mut Rng, now: &Moment) {
    let entry = rng.u32(1..9_999_999);
    paper.json(
        Stream::Stdout,
        &format!(
            "{},\"msg\":\"entry posted\",\"entry\":\"L-{entry:07}\",\"debit\":\"4000\",\"credit\":\"1200\",\"amount\":\"{}.{:02}\",\
             \"currency\":\"{}\",\"tags\":[\"card\",\"eu\"],\"reversal\":null",
            zap_head(if rng.u32(..40) == 0 { "debug" } else { "info" }, "ledger/post.go:203", now),
            rng.u32(1..4_000),
            rng.u32(..100),
            pick(rng, &["EUR", "CHF", "JPY", "BRL"])
        ),
    );
}

/// A Go panic as the runtime prints it; its blank line is left out, for there is no place for a number on it.
fn go_panic(paper: &mut Paper, rng: &mut Rng) {
    let address = rng.u64(0xc000_0000..0xd000_0000);
    for line in [
        "panic: runtime error: index out of range [4] with length 4",
        "goroutine 57 [running]:",
        &format!("main.(*Batch).Entry(0x{address:x}, 0x4)"),
        "\t/src/ledger/batch.go:71 +0x1a5",
        &format!("main.postAll(0x{address:x}, {{0x5c8e20, 0x9}})"),
        "\t/src/ledger/post.go:188 +0x3d2",
        "created by main.main in goroutine 1",
        "\t/src/ledger/main.go:44 +0x11c",
        "exit status 2",
    ] {
        paper.trace(Stream::Stderr, line);
    }
}

/// The beginning of a logback line in Spring Boot's pattern.
fn logback(level: &str, logger: &str, now: &Moment) -> String {
    let Moment { year, month, day, hour, minute, second, .. } = now;
    format!(
        "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:03} {level:>5} 1 --- [nio-8080-exec-7] {logger:<36} :",
        now.millis()
    )
}

fn catalog(paper: &mut Paper, rng: &mut Rng, now: &Moment) {
    let item = rng.u32(1..50_000);
    match rng.u32(..1_000) {
        0..8 => {
            let head = logback("ERROR", "c.e.catalog.web.ItemController", now);
            paper.text(Stream::Stdout, format!("{head} Could not load item {item}"));
            for line in [
                "org.springframework.dao.QueryTimeoutException: could not execute query",
                "\tat org.springframework.orm.jpa.vendor.HibernateJpaDialect.convert(HibernateJpaDialect.java:283)",
                "\tat com.example.catalog.ItemRepository.findById(ItemRepository.java:57)",
                "\tat com.example.catalog.web.ItemController.item(ItemController.java:41)",
                "\tat java.base/java.lang.Thread.run(Thread.java:1583)",
                "Caused by: org.postgresql.util.PSQLException: ERROR: canceling statement due to statement timeout",
                "\tat org.postgresql.core.v3.QueryExecutorImpl.receiveErrorResponse(QueryExecutorImpl.java:2733)",
                "\t... 68 common frames omitted",
            ] {
                paper.trace(Stream::Stdout, line);
            }
        }
        8..50 => {
            let head = logback("WARN", "com.zaxxer.hikari.pool.HikariPool", now);
            paper.text(
                Stream::Stdout,
                format!("{head} HikariPool-1 - Thread starvation or clock leap detected"),
            );
        }
        _ => {
            let head = logback("INFO", "c.e.catalog.web.ItemController", now);
            let city = pick(rng, &CITIES);
            let text = format!("{head} Item {item} “Größe M” served to {city} in {} ms", rng.u32(1..80));
            paper.text(Stream::Stdout, text);
        }
    }
}

fn java_out_of_memory(paper: &mut Paper, now: &Moment) {
    let head = logback("ERROR", "o.a.c.c.C.[.[.[/].[dispatcherServlet]", now);
    paper.text(Stream::Stdout, format!("{head} Servlet.service() threw exception"));
    for line in [
        "java.lang.OutOfMemoryError: Java heap space",
        "\tat java.base/java.util.Arrays.copyOf(Arrays.java:3541)",
        "\tat com.example.catalog.Index.rebuild(Index.java:212)",
        "Terminating due to java.lang.OutOfMemoryError: Java heap space",
    ] {
        paper.trace(Stream::Stderr, line);
    }
}

fn payments_api(paper: &mut Paper, rng: &mut Rng, now: &Moment) {
    let amount = format!("{}.{:02}", rng.u32(1..900), rng.u32(..100));
    let id = format!("pay_{:012x}", rng.u64(..0xffff_ffff_ffff));
    let (level, message, more) = match rng.u32(..1_000) {
        0..10 => ("error", "card declined", ", \"code\": \"insufficient_funds\", \"retryable\": false"),
        10..40 => ("warning", "provider is slow", ", \"provider\": \"acquirer-2\", \"elapsed\": 2.75e0"),
        _ => ("info", "payment authorised", ", \"provider\": \"acquirer-1\""),
    };
    // Python's json.dumps puts a blank after every comma and colon, and escapes what is not ASCII.
    paper.json(
        Stream::Stdout,
        &format!(
            "\"amount\": {amount}, \"city\": \"Z\\u00fcrich\"{more}, \"level\": \"{level}\", \"logger\": \"payments.api\", \
             \"message\": \"{message}\", \"payment_id\": \"{id}\", \"timestamp\": \"{}\"",
            now.iso_millis()
        ),
    );
}

fn exporter(paper: &mut Paper, rng: &mut Rng, now: &Moment) {
    let (level, message) = match rng.u32(..50) {
        0 => ("error", "scrape failed\" err=\"context deadline exceeded"),
        1..4 => ("warn", "scrape is late"),
        _ => ("info", "scrape done"),
    };
    let text = format!(
        "ts={} caller=collector.go:169 level={level} msg=\"{message}\" target=payments-api duration_seconds=0.{:06}",
        now.iso_millis(),
        rng.u32(..999_999)
    );
    paper.text(Stream::Stderr, text);
}

fn coredns(paper: &mut Paper, rng: &mut Rng) {
    let name =
        pick(rng, &["cart.shop.svc", "catalog.shop.svc", "ledger.payments.svc", "kubernetes.default.svc"]);
    let (client, kind) = (address(rng), pick(rng, &["A", "AAAA", "SRV"]));
    let text = if rng.u32(..300) == 0 {
        format!(
            "[ERROR] plugin/errors: 2 {name}.cluster.local. {kind}: read udp {client}:41203->10.0.0.2:53: i/o timeout"
        )
    } else {
        format!(
            "[INFO] {client}:{} - {} \"{kind} IN {name}.cluster.local. udp 54 false 512\" NOERROR qr,aa,rd 106 0.000{:06}s",
            rng.u16(1_024..),
            rng.u16(..),
            rng.u32(..999_999)
        )
    };
    paper.text(Stream::Stdout, text);
}

fn kube_proxy(paper: &mut Paper, rng: &mut Rng, now: &Moment) {
    let time = now.klog();
    let text = match rng.u32(..100) {
        0..2 => format!(
            "E{time}       1 proxier.go:1612] \"Failed to execute iptables-restore\" err=\"exit status 4: Another app is \
             currently holding the xtables lock\""
        ),
        2..6 => format!(
            "W{time}       1 reflector.go:569] watch of *v1.EndpointSlice ended with: too old resource version"
        ),
        _ => format!(
            "I{time}       1 proxier.go:805] \"SyncProxyRules complete\" ipFamily=\"IPv4\" elapsed=\"{}.{:03}ms\"",
            rng.u32(4..90),
            rng.u32(..1_000)
        ),
    };
    paper.text(Stream::Stderr, text);
}

fn report(paper: &mut Paper, rng: &mut Rng, now: &Moment) {
    let text = format!(
        "time=\"{}\" level=info msg=\"shard finished\" shard={} rows={} bytes_out={}",
        now.iso_millis(),
        rng.u32(..64),
        rng.u32(1_000..90_000),
        rng.u64(100_000..90_000_000)
    );
    paper.text(Stream::Stdout, text);
}

/// A request of many items on stdout and, at the same moment, a long query on stderr: the runtime writes both
/// in pieces which stand between one another in the file. Letters of several bytes are cut wherever a piece
/// ends.
fn importer(paper: &mut Paper, rng: &mut Rng, now: &Moment) {
    if rng.u32(..8) != 0 {
        let text = format!("{} imported {} rows", now.slashes(), rng.u32(1..500));
        return paper.text(Stream::Stderr, text);
    }
    let mut items = String::new();
    for item in 0..rng.u32(200..700) {
        let comma = if item == 0 { "" } else { "," };
        let _ = write!(
            items,
            "{comma}{{\"sku\":\"SKU-{item:05}\",\"name\":\"Tasse „Zürich“ 東京\",\"price\":{}}}",
            rng.u32(1..99)
        );
    }
    let time = now.iso_millis();
    let members =
        format!("\"time\":\"{time}\",\"level\":\"info\",\"log\":\"bulk request sent\",\"items\":[{items}]");
    paper.json(Stream::Stdout, &members);
    let mut query = format!("{} slow query: INSERT INTO items (sku, price) VALUES", now.slashes());
    for item in 0..rng.u32(600..1_800) {
        let _ = write!(query, " ('SKU-{item:05}é', {}),", rng.u32(1..99));
    }
    paper.text(Stream::Stderr, query);
}
