//! What a `cloudwatch` output can be told, and what is said of what it cannot.

use super::*;
use crate::config::template::{Names, Safe};
use crate::config::{Config, OutputConfig};

/// The output with these lines, or the mistakes in it.
fn read(lines: &str) -> Result<CloudWatchConfig, String> {
    let text = format!("[outputs.c]\ntype = \"cloudwatch\"\n{lines}\n");
    match Config::parse(&text, "t.toml").map(|config| config.outputs["c"].clone()) {
        Ok(OutputConfig::CloudWatch(output)) => Ok(output),
        Ok(other) => panic!("{other:?}"),
        Err(problems) => {
            let told: Vec<String> =
                problems.0.iter().map(|problem| format!("{}; {}", problem.message, problem.help)).collect();
            Err(told.join("\n"))
        }
    }
}

#[test]
fn everything_has_a_default() {
    let output = read("").expect("a whole output");
    assert_eq!(output, CloudWatchConfig::default());
    assert_eq!(output.reading.linger, std::time::Duration::from_secs(5));
    assert_eq!(output.target().text(), "/eks/{cluster}:{namespace}/{pod}/{container}");
}

#[test]
fn what_cannot_be_is_told_with_what_can() {
    for (lines, said) in [
        (
            "fields = \"container-insights\"\nformat = \"compact\"",
            "`fields` has no meaning with `format = \"compact\"`; leave one of them out",
        ),
        ("retention_days = 31", "`retention_days`: CloudWatch cannot keep events for 31 days; write 60, or"),
        (
            "retention_days = 9999",
            "`retention_days`: CloudWatch cannot keep events for 9999 days; write 3653",
        ),
        (
            "log_group = \"{namespace}\"",
            "`log_group`: `{namespace}` does not begin with fixed text; begin with",
        ),
        ("log_group = \"/eks/a b\"", "`log_group`: the name of a log group cannot have ` `; use letters"),
        ("log_group = \"aws/x\"", "`log_group`: the name of a log group cannot begin with `aws/`"),
        ("log_stream = \"a:{pod}\"", "`log_stream`: the name of a log stream cannot have `:`"),
        ("log_stream = \"\"", "`log_stream`: the name of a log stream cannot be empty"),
        (
            "log_group = \"/a/{date}\"\nlog_stream = \"{date}\"",
            "both `log_group` and `log_stream` have `{date}`; leave one",
        ),
        ("tags = { \"aws:x\" = \"y\" }", "`tags`: `aws:x` cannot be the key of a tag"),
        ("tags = { a = \"{}\" }", "`tags`: `{}` cannot be the value of a tag"),
        ("kms_key = \"alias/x\"", "`kms_key`: `alias/x` is not the ARN of a KMS key"),
        ("class = \"cheap\"", "`class` cannot be `cheap`; allowed here: `standard` or `infrequent_access`"),
        ("format = \"xml\"", "`format` cannot be `xml`; allowed here: `raw`, `json` or `compact`"),
        ("rejected = \"keep\"", "`rejected` cannot be `keep`; allowed here: `drop`, `dead_letter` or `now`"),
        ("external_id = \"x\"", "`external_id` has no meaning without `role_arn`; add `role_arn`"),
        ("endpoint = \"http://a:1\"\nfips = true", "`fips` has no meaning beside `endpoint`"),
        (
            "region = \"us-east-1\"\nallowed_regions = [\"eu-west-1\", \"eu-west-3\"]",
            "`region`: us-east-1 is not one of `allowed_regions`; logs may only go to eu-west-1, eu-west-3",
        ),
        ("nodes = 0", "`nodes` is too small; at least 1"),
        ("account_tps = 2000000", "`account_tps` is too large; at most 1000000"),
        ("log_gruop = \"/x\"", "unknown key `log_gruop`; did you mean `log_group`?"),
        ("index = \"x\"", "unknown key `index`; `index` is for outputs of type `elasticsearch`"),
    ] {
        let told = read(lines).expect_err(lines);
        assert!(told.starts_with(said) && !told.contains('\n'), "{lines}: {told}");
    }
}

#[test]
fn a_name_is_legal_whatever_its_values_are() {
    let long = "x".repeat(600);
    let labels = BTreeMap::from([("a".to_owned(), "b:c*/d é".to_owned())]);
    let names = Names {
        cluster: "prod/../tokyo",
        namespace: "",
        pod: &long,
        container: "a:b",
        node: "n",
        uid: "u",
        labels: &labels,
        source: "pods",
    };
    let output = read("log_group = \"/eks/{cluster}/{label:a}\"").expect("a whole output");
    let name = output.target().render(names, "2026.11.23", Safe::LogStream);
    let (group, stream) = name.split_once(':').expect("group and stream");
    assert_eq!(group, "/eks/prod_.._tokyo/b_c__d__");
    assert!(stream.starts_with("_/xxx") && stream.ends_with("/a_b"), "{stream}");
    assert!(stream.len() <= 512 && !stream.contains([':', '*']), "{}", stream.len());
}
