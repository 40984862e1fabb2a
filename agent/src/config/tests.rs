//! What a user sees: the whole language of the file, and each mistake as it is shown.

use std::time::Duration;

use proptest::prelude::*;
use reqwest::Url;

use super::*;

fn parse(text: &str) -> Config {
    Config::parse(text, "t.toml").unwrap_or_else(|problems| panic!("{problems}"))
}

/// The mistakes of a file, as they are printed.
fn mistakes(text: &str) -> String {
    match Config::parse(text, "t.toml") {
        Ok(_) => format!("no mistakes in:\n{text}"),
        Err(problems) => problems.to_string(),
    }
}

const STDOUT: &str = "[outputs.o]\ntype = \"stdout\"\n";
const SEARCH: &str =
    "[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"http://a:1\"]\nindex = \"logs-{date}\"\n";

#[test]
fn a_file_may_set_everything() {
    let config = parse(
        r#"
        cluster = "prod-tokyo"
        node = "n1"
        pod_logs = "/pods"
        link_roots = []
        state_dir = "/state"
        memory = "128MiB"
        grace = "1m"
        rescan = "1s"
        max_record = 65536
        oversize = "cut"
        join_timeout = "250ms"
        hash_key = { env = "HASH_KEY" }
        listen = "localhost:7000"
        metrics_listen = "off"
        log = { format = "json", level = "debug" }

        [outputs.search]
        type = "opensearch"
        endpoints = ["https://a.example:9200", "http://b.example/prefix/"]
        data_stream = "logs-{namespace}-prod"
        document_id = false
        op = "create"
        pipeline = "parse nginx"
        dead_letters = "1GiB"
        compression = "gzip"
        compression_level = 6
        in_flight = 8
        timeout = "30s"
        retry_initial = "1s"
        retry_max = "1m"
        start = "now"
        max_age = "7d"
        linger = "5s"
        batch = "8MiB"
        workers = 2
        on_full = "drop_oldest"
        max_lag = "1GiB"
        rate_limit = { container = { bytes = "1MiB", lines = 500 }, namespace = { lines = 5000 }, burst = "1m", action = "drop" }

        [outputs.local-1]
        type = "file"
        path = "/out/{namespace}.ndjson"
        max_size = "1GiB"
        keep = 0

        [outputs.screen]
        type = "stdout"
        format = "text"
        color = "never"

        [files.system]
        paths = ["/var/log/syslog", "/var/log/nginx/*.log"]
        exclude = ["/var/log/nginx/debug*"]
        format = "container"
        labels = { team = "infra", "app.kubernetes.io/name" = "nginx" }
        [health]
        outputs = ["search"]
        interval = "30s"
        [metadata]
        source = "path"
        labels = ["app"]
        annotations = ["a/*"]
        namespace_labels = ["*", "!x"]
        namespace_annotations = ["b"]
        node_labels = ["pool"]
        fields = ["kubernetes.*"]
        wait = "1s"
        timeout = "30s"
        "#,
    );
    let template = |text| Template::parse(text).expect("a template");
    let pattern = |text| glob::Pattern::new(text).expect("a pattern");
    let choice = |list: &str| {
        let read: BTreeMap<String, Choice> = toml::from_str(&format!("x = {list}")).expect("patterns");
        read["x"].clone()
    };
    let expected = Config {
        cluster: "prod-tokyo".to_owned(),
        node: "n1".to_owned(),
        pod_logs: "/pods".into(),
        link_roots: Vec::new(),
        state_dir: "/state".into(),
        memory: ByteSize::mib(128),
        grace: Duration::from_secs(60),
        rescan: Duration::from_secs(1),
        max_record: ByteSize::kib(64),
        oversize: Oversize::Cut,
        join_timeout: Duration::from_millis(250),
        hash_key: Some(SecretSource::Env("HASH_KEY".to_owned())),
        listen: Listen::loopback(7000),
        metrics_listen: Listen::Off,
        log: LogConfig { format: LogFormat::Json, level: LogLevel::Debug },
        retain: RetainConfig::default(),
        forward: ForwardConfig::default(),
        routes: Vec::new(),
        annotations: AnnotationsConfig::default(),
        drain: DrainConfig::default(),
        health: HealthConfig { outputs: vec!["search".to_owned()], interval: Duration::from_secs(30) },
        metadata: MetadataConfig {
            label_fields: Vec::new(),
            source: MetadataSource::Path,
            labels: choice("[\"app\"]"),
            annotations: choice("[\"a/*\"]"),
            namespace_labels: choice("[\"*\", \"!x\"]"),
            namespace_annotations: choice("[\"b\"]"),
            node_labels: choice("[\"pool\"]"),
            fields: choice("[\"kubernetes.*\"]"),
            wait: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            asked: Default::default(),
        },
        files: BTreeMap::from([(
            "system".to_owned(),
            FilesConfig {
                paths: ["/var/log/syslog", "/var/log/nginx/*.log"].map(pattern).to_vec(),
                exclude: vec![pattern("/var/log/nginx/debug*")],
                format: FilesFormat::Container,
                labels: [("team", "infra"), ("app.kubernetes.io/name", "nginx")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            },
        )]),
        outputs: BTreeMap::from([
            (
                "search".to_owned(),
                OutputConfig::Elasticsearch(ElasticsearchConfig {
                    reading: ReadingConfig {
                        start: Start::Now,
                        max_age: Duration::from_secs(7 * 86_400),
                        linger: Duration::from_secs(5),
                        batch: ByteSize::mib(8),
                        workers: 2,
                        on_full: OnFull::DropOldest,
                        max_lag: Some(ByteSize::mib(1024)),
                        rate_limit: Some(RateLimitConfig {
                            container: Some(Rate { bytes: Some(ByteSize::mib(1)), lines: Some(500) }),
                            namespace: Some(Rate { bytes: None, lines: Some(5000) }),
                            burst: Duration::from_secs(60),
                            action: LimitAction::Drop,
                        }),
                    },
                    endpoints: ["https://a.example:9200", "http://b.example/prefix"]
                        .map(|url| Url::parse(url).expect("a URL"))
                        .to_vec(),
                    target: Target::DataStream(template("logs-{namespace}-prod")),
                    auth: AuthConfig::None,
                    setup: IndexSetup::default(),
                    tls: TlsConfig::default(),
                    document_id: false,
                    op: BulkOp::Create,
                    pipeline: Some("parse nginx".to_owned()),
                    dead_letters: ByteSize::mib(1024),
                    compression: Compression::Gzip,
                    compression_level: 6,
                    in_flight: 8,
                    timeout: Duration::from_secs(30),
                    retry_initial: Duration::from_secs(1),
                    retry_max: Duration::from_secs(60),
                }),
            ),
            (
                "local-1".to_owned(),
                OutputConfig::File(FileConfig {
                    max_size: ByteSize::mib(1024),
                    keep: 0,
                    ..FileConfig::new(template("/out/{namespace}.ndjson"))
                }),
            ),
            (
                "screen".to_owned(),
                OutputConfig::Stdout(StdoutConfig {
                    format: StdoutFormat::Text,
                    color: Color::Never,
                    ..StdoutConfig::default()
                }),
            ),
        ]),
    };
    assert_eq!(config, expected);
}

#[test]
fn everything_but_the_destination_has_a_default() {
    let config = parse(SEARCH);
    assert_eq!(Config { outputs: Config::default().outputs, ..config.clone() }, Config::default());
    let endpoints = vec![Url::parse("http://a:1").expect("a URL")];
    let target = Target::Index(Template::parse("logs-{date}").expect("a template"));
    assert_eq!(
        config.outputs["s"],
        OutputConfig::Elasticsearch(ElasticsearchConfig::new(endpoints, target.clone()))
    );
    assert_eq!(parse(STDOUT).outputs["o"], Config::default().outputs["stdout"]);
    assert_eq!(parse(STDOUT).outputs["o"].reading().linger, Duration::from_millis(200));
}

/// One file, all that is said of it.
#[track_caller]
fn says(text: &str, expected: &str) {
    let said = mistakes(text);
    assert_eq!(said, expected.trim_matches('\n'), "\n--- said:\n{said}\n---");
}

#[test]
fn an_unknown_key_gets_the_nearest_name_or_its_right_place() {
    says(
        "[outputs.s]\ntype = \"elasticsearch\"\nindex = \"a\"\nendpoint = [\"http://localhost:9200\"]\n",
        "
error: unknown key `endpoint`
  --> t.toml:4:1
   |
 4 | endpoint = [\"http://localhost:9200\"]
   | ^^^^^^^^ did you mean `endpoints`?",
    );
    says(
        &format!("{STDOUT}memory = \"64MiB\"\n"),
        "
error: unknown key `memory`
  --> t.toml:3:1
   |
 3 | memory = \"64MiB\"
   | ^^^^^^ `memory` is for the whole agent: move it above the first `[…]`",
    );
    says(
        &format!("{STDOUT}\tpath = 1\n[[transforms]]\n[log]\nlvl = 1\n"),
        "
error: unknown key `path`
  --> t.toml:3:2
   |
 3 |     path = 1
   |     ^^^^ `path` is for outputs of type `file`

error: unknown key `transforms`
  --> t.toml:4:3
   |
 4 | [[transforms]]
   |   ^^^^^^^^^^ allowed here: `cluster`, `node`, `pod_logs`, `link_roots`, `state_dir`, `memory`, `grace`, `rescan`, `max_record`, `oversize`, `join_timeout`, `hash_key`, `listen`, `metrics_listen`, `log`, `drain`, `health`, `metadata`, `annotations`, `retain`, `forward`, `routes`, `files` or `outputs`

error: unknown key `lvl`
  --> t.toml:6:1
   |
 6 | lvl = 1
   | ^^^ allowed here: `format` or `level`",
    );
}

#[test]
fn a_wrong_value_is_shown_with_what_is_allowed() {
    for (line, message, help) in [
        (
            "memory = \"64 parsecs\"",
            "`memory`: `64 parsecs` is not a size",
            "write a whole number and a unit",
        ),
        ("memory = \"4MiB\"", "`memory` is too small", "at least 16MiB"),
        ("memory = -1", "`memory`: a size cannot be negative", "write a size such as"),
        ("memory = true", "`memory` cannot be `true`", "expected a size such as \"64MiB\""),
        ("memory = 2020-01-01", "`memory` cannot be", "expected a size such as \"64MiB\""),
        ("grace = 30", "`grace` cannot be", "expected a time such as \"30s\""),
        ("grace = \"30\"", "`grace`: `30` is not a time", "add the unit: \"30s\""),
        ("rescan = \"0s\"", "`rescan` is too small", "at least 10ms"),
        ("max_record = \"1GiB\"", "`max_record` is too large", "at most 64MiB"),
        ("oversize = \"spilt\"", "`oversize` cannot be `spilt`", "did you mean `split`?"),
        ("oversize = \"x\"", "`oversize` cannot be `x`", "allowed here: `split` or `cut`"),
        ("oversize = 5", "`oversize` cannot be", "expected a string"),
        ("oversize.split = 5", "`oversize` ", ""),
        ("cluster = \"\"", "`cluster`: a name cannot be empty", "write a name"),
        ("pod_logs = \"pods\"", "`pod_logs`: `pods` is not an absolute path", "begin with `/`"),
        ("link_roots = \"/a\"", "`link_roots` cannot be", "expected a list, as in [\"…\"]"),
        ("link_roots = [\"/a\", \"b\"]", "`link_roots`: `b` is not an absolute path", "begin with"),
        ("state_dir = \"/var/log/pods/x\"", "`state_dir` cannot lie within `pod_logs`", "choose a folder"),
        ("log = 5", "`log` must be a table", "write `[log]` above its keys"),
        ("log.level = \"inf\"", "`level` cannot be `inf`", "did you mean `info`?"),
        ("log.level = [1,\n2]", "`level` cannot be", "expected a string"),
    ] {
        shows(&format!("{line}\n{STDOUT}"), 1, message, help);
    }
    for (line, message, help) in [
        ("linger = \"10m\"", "`linger` is too large", "at most 5m"),
        ("batch = \"64MiB\"", "`batch` is too large", "at most 32MiB"),
        ("workers = 0", "`workers` is too small", "at least 1"),
        ("workers = -1", "`workers` cannot be", "expected a whole number, not negative"),
        ("workers = \"2\"", "`workers` cannot be", "expected a whole number, not negative"),
        ("start = \"oldst\"", "`start` cannot be `oldst`", "did you mean `oldest`?"),
        ("start.now = 1", "`start` cannot be `", "expected "),
        ("compression = \"zstd\"", "`compression` cannot be `zstd`", "allowed here: `gzip` or `none`"),
        ("compression_level = 0", "`compression_level` is too small", "at least 1"),
        ("in_flight = 65", "`in_flight` is too large", "at most 64"),
        ("timeout = \"1ms\"", "`timeout` is too small", "at least 100ms"),
        (
            "retry_max = \"100ms\"",
            "`retry_max` cannot be less than `retry_initial`",
            "`retry_initial` is 500ms",
        ),
        ("keep = 3", "unknown key `keep`", "`keep` is for outputs of type `file`"),
        ("target = 3", "unknown key `target`", "allowed here:"),
        ("data_stream = \"a\"", "both `data_stream` and `index` are given", "leave one of them out"),
    ] {
        shows(&format!("{SEARCH}{line}\n"), 5, message, help);
    }
}

/// That there is one mistake, on this line, said in words that begin so.
#[track_caller]
fn shows(text: &str, line: usize, message: &str, help: &str) {
    let problems = Config::parse(text, "t.toml").expect_err(text).0;
    let [problem] = problems.as_slice() else { panic!("{}", Diagnostics(problems)) };
    let place = problem.place.as_ref().unwrap_or_else(|| panic!("no place: {problem}"));
    assert_eq!(place.line, line, "{problem}");
    assert!(problem.message.starts_with(message) && problem.help.starts_with(help), "{problem}");
}

#[test]
fn no_value_is_taken_for_more_than_it_says() {
    let message = "the environment's variables are not put into values";
    for (text, line, key) in [
        (format!("cluster = \"${{CLUSTER}}\"\n{STDOUT}"), 1, "cluster"),
        (SEARCH.replace("http://a:1", "http://${HOST}:9200"), 3, "endpoints"),
        (SEARCH.replace("http://a:1", "http://$HOST:9200"), 3, "endpoints"),
        (SEARCH.replace("logs-{date}", "logs-${namespace}"), 4, "index"),
        ("[outputs.f]\ntype = \"file\"\npath = \"/out/${NODE}/{pod}\"\n".to_owned(), 3, "path"),
    ] {
        shows(&text, line, &format!("`{key}`: {message}"), "write the value itself");
    }
    let twice = format!("{STDOUT}[health]\noutputs = [\"o\", \"o\"]\n");
    shows(&twice, 4, "`o` stands here twice", "leave one of them out");
    let rolled = format!("{SEARCH}[outputs.s.setup]\nrollover_age = \"1d\"\n");
    shows(&rolled, 6, "`rollover_age` has no meaning for an `index`", "leave it out");
    parse(&rolled.replace("index =", "data_stream =").replace("-{date}", ""));
}

#[test]
fn names_of_indices_and_files_are_checked() {
    let table =
        |key: &str| format!("[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"http://a\"]\n{key}\n");
    for (key, message, help) in [
        (
            "index = \"a-{namespce}\"",
            "`index`: unknown placeholder `{namespce}`",
            "did you mean `namespace`?",
        ),
        ("data_stream = \"{pod}\"", "`data_stream`: `{pod}` does not begin with fixed text", "begin with"),
        (
            "index = \"Logs\"",
            "`index`: the name of an index cannot have the capital letter `L`",
            "write `logs`",
        ),
        ("index = 5", "`index` cannot be", "expected a name such as"),
        ("index.x = \"a\"", "`index` cannot be", "expected a name such as"),
    ] {
        shows(&table(key), 4, message, help);
    }
    for (path, message) in [
        ("out/{pod}", "`path`: `out/{pod}` is not an absolute path"),
        ("/var/log/pods/out/{pod}", "`path` cannot lie within `pod_logs`"),
        ("/a/../b/{pod}", "`path`: `/a/../b/{pod}` has an empty, `.` or `..` directory"),
    ] {
        shows(&format!("[outputs.f]\ntype = \"file\"\npath = \"{path}\"\n"), 3, message, "");
    }
    let twice =
        "[outputs.f]\ntype = \"file\"\npath = \"/out/a\"\n[outputs.g]\ntype = \"file\"\npath = \"/out/a\"\n";
    shows(twice, 6, "another output has this path", "give each");
}

#[test]
fn endpoints_point_at_the_one_that_is_wrong_and_show_no_password() {
    says(
        "[outputs.s]\ntype = \"elasticsearch\"\nindex = \"a\"\n\
         endpoints = [\"http://a\", \"https://elastic:hunter2@b:9200\"]\n",
        "
error: `endpoints`: a URL cannot carry credentials
  --> t.toml:4:26
   |
 4 | endpoints = [\"http://a\", \"https://***************@b:9200\"]
   |                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ take out what stands before the `@`: URLs end up in logs and metrics",
    );
    let said = mistakes(&SEARCH.replace("[\"http://a:1\"]", "\"https://elastic:hunter2@b:9200\""));
    assert!(said.contains("expected a list") && !said.contains("hunter2"), "{said}");
    shows(&SEARCH.replace("\"http://a:1\"", ""), 3, "`endpoints`: the list is empty", "name at least one");
    shows(&SEARCH.replace("http://", ""), 3, "`endpoints`: a URL here begins with http", "write it as");
}

#[test]
fn a_missing_key_is_shown_at_the_tables_header() {
    says(
        "[outputs.search]\ntype = \"elasticsearch\"\n[outputs.f]\ntype = \"file\"\n[outputs.n]\n",
        "
error: missing key `data_stream` or `index`
  --> t.toml:1:1
   |
 1 | [outputs.search]
   | ^^^^^^^^^^^^^^^^ say where documents go, as in `data_stream = \"logs-{namespace}-prod\"`

error: missing key `endpoints`
  --> t.toml:1:1
   |
 1 | [outputs.search]
   | ^^^^^^^^^^^^^^^^ add the servers, as in `endpoints = [\"https://HOST:9200\"]`

error: missing key `path`
  --> t.toml:3:1
   |
 3 | [outputs.f]
   | ^^^^^^^^^^^ add the files, as in `path = \"/var/log/taffrail-out/{namespace}.ndjson\"`

error: missing key `type`
  --> t.toml:5:1
   |
 5 | [outputs.n]
   | ^^^^^^^^^^^ one of `elasticsearch`, `opensearch`, `cloudwatch`, `file` or `stdout`",
    );
}

#[test]
fn outputs_need_a_name_and_a_type_that_exists() {
    for text in ["", "cluster = \"a\"\n", "[outputs]\n"] {
        says(
            text,
            "
error: no output is configured
  --> t.toml
   = add a table `[outputs.NAME]` with a `type`: `elasticsearch`, `opensearch`, `cloudwatch`, `file` or `stdout`",
        );
    }
    shows("[outputs]\ntype = \"file\"\n", 2, "`outputs.type` must be a table", "an output has a name");
    shows("[[outputs]]\ntype = \"file\"\n", 1, "`outputs` must be a table", "an output has a name");
    shows(
        "[outputs.\"A b\"]\ntype = \"stdout\"\n",
        1,
        "`A b` cannot be the name of an output",
        "use 1 to 64",
    );
    shows(
        "[outputs.a]\ntype = \"elasticserach\"\n",
        2,
        "there is no output of type `elasticserach`",
        "did you mean",
    );
    shows("[outputs.a]\ntype = 5\n", 2, "`type` must be a string", "one of");
    shows("outputs.a = { type = \"file\" }\n", 1, "missing key `path`", "add the files");
}

#[test]
fn every_mistake_is_found_at_once() {
    let said = mistakes(
        "memory = 5\ngrase = \"1s\"\nrescan = 7\n[outputs.a]\ntype = \"elasticsearch\"\nindex = \"A\"\nendpoints = 5\n\
         linger = 5\ntimeout = \"x\"\n[outputs.b]\ntype = \"no\"\n\
         [outputs.c]\ntype = \"stdout\"\ncolour = \"auto\"\nformat = \"xml\"\n",
    );
    let lines: Vec<&str> = said
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--> t.toml:")?.split(':').next())
        .collect();
    assert_eq!(lines, ["1", "2", "3", "6", "7", "8", "9", "11", "14", "15"], "{said}");
}

#[test]
fn broken_toml_is_shown_where_it_breaks() {
    says(
        "cluster = prod tokyo\n[outputs.a\ntype = \"stdout\n",
        "
error: not valid TOML: a value that is text must be quoted
  --> t.toml:1:11
   |
 1 | cluster = prod tokyo
   |           ^^^^^^^^^^ write it in quotes

error: not valid TOML: unclosed table
  --> t.toml:2:11
   |
 2 | [outputs.a
   |           ^ expected `]`",
    );
    shows(
        "grace = \"1s\"\ngrace = \"2s\"\n",
        2,
        "not valid TOML: this key is already set above",
        "leave one",
    );
}

#[test]
fn a_file_that_cannot_be_read_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("c.toml");
    let said = Config::load(&file).expect_err("no file").to_string();
    let expected = format!(
        "error: the configuration cannot be read: No such file or directory (os error 2)\n  --> {}\n   \
         = check the path given with --config",
        file.display()
    );
    assert_eq!(said, expected);
    assert!(Config::load(folder.path()).expect_err("a folder").to_string().ends_with("name the file in it"));

    std::fs::write(&file, b"cluster = \"a\"\nnode = \"\xff\"\n").expect("a file");
    let said = Config::load(&file).expect_err("not UTF-8").to_string();
    assert!(said.contains("c.toml:2:9\n") && said.contains("not valid UTF-8"), "{said}");

    std::fs::write(&file, STDOUT).expect("a file");
    assert_eq!(Config::load(&file).expect("a valid file"), parse(STDOUT));
}

/// Lines that are nearly right, in any order.
fn nearly_right() -> impl Strategy<Value = String> {
    let keys = [
        "memory",
        "outputs",
        "type",
        "index",
        "data_stream",
        "target",
        "start",
        "endpoints",
        "log",
        "outputs.a.b",
        "path",
    ];
    let values = [
        "5",
        "\"elasticsearch\"",
        "\"file\"",
        "[\"http://a:b@c\"]",
        "{ index = 5 }",
        "\"/a/{pod}\"",
        "1979-05-27",
        "[[1]]",
        "é",
        "\"\"\"\n\"\"\"",
    ];
    let line = prop_oneof![
        (proptest::sample::select(keys.to_vec()), proptest::sample::select(values.to_vec()))
            .prop_map(|(key, value)| format!("{key} = {value}\n")),
        proptest::sample::select(vec![
            "[outputs.a]\n",
            "[outputs.b]\r\n",
            "[log]\n",
            "[[outputs]]\n",
            "\t# 東京\n"
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(line, 0..10).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "(\\PC|[\n\t=\\[\\]\"{}.])*") {
        let _ = mistakes(&text);
    }

    #[test]
    fn no_combination_of_lines_is_too_strange(text in nearly_right()) {
        let said = mistakes(&text);
        prop_assert!(said.contains("error: ") || said.starts_with("no mistakes"));
        prop_assert!(!said.contains("a:b@c") || said.starts_with("no mistakes"), "{said}");
    }
}
