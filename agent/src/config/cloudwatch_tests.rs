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

const STREAM: &str = "to = \"arn:aws:kinesis:eu-west-1:123456789012:stream/logs\"";

#[test]
fn a_subscription_has_a_name_and_a_role_of_its_own_making() {
    let output = read(&format!("[outputs.c.subscription]\n{STREAM}")).expect("a whole output");
    let subscription = output.subscription.expect("a subscription");
    assert_eq!((subscription.name.as_str(), subscription.is_by_group()), ("taffrail", true));
    let role = subscription.role_arn().expect("a role");
    assert!(role.starts_with("arn:aws:iam::123456789012:role/taffrail-logs-eu-west-1-"), "{role}");
    let of = |cluster: &str| SubscriptionConfig { cluster: cluster.to_owned(), ..(*subscription).clone() };
    assert_ne!(of("tokyo").made_role(), of("osaka").made_role(), "each configuration has its own");
    let long = SubscriptionConfig { name: "n".repeat(64), ..of(&"c/".repeat(60)) }.made_role();
    assert!(long.len() <= 64 && !long.contains('/'), "{long}");
}

#[test]
fn the_group_of_the_forwarder_that_the_template_makes_never_goes_on_to_its_own_stream() {
    let output = read(&format!("[outputs.c.subscription]\n{STREAM}")).expect("a whole output");
    let subscription = output.subscription.expect("a subscription");
    let template = include_str!("../../../manifests/aws/path.yaml");
    assert!(
        template.contains("LogGroupName: !Sub \"/aws/lambda/taffrail-forwarder-${ClusterName}\""),
        "the template names the group as `left_out` does"
    );
    assert!(subscription.left_out().contains(&"/aws/lambda/taffrail-forwarder-default".to_owned()));
}

#[test]
fn what_a_subscription_cannot_be_is_told() {
    let lambda = "to = \"arn:aws:lambda:eu-west-1:123456789012:function:f:live\"";
    for (output, lines, said) in [
        ("", "name = \"x\"", "missing key `to`; say where events go on to"),
        ("", "to = \"arn:aws:s3:::bucket\"", "`to`: `arn:aws:s3:::bucket` is not the ARN of anything"),
        (
            "",
            "to = \"arn:aws:kinesis:eu-west-1:1:stream/logs\"",
            "`to`: `arn:aws:kinesis:eu-west-1:1:stream/logs` is not",
        ),
        ("", &format!("{STREAM}\nname = \"a:b\""), "`name`: `a:b` cannot be the name of a subscription"),
        ("", &format!("{STREAM}\nsenders = [\"1\"]"), "`senders`: `1` is not the number of an account"),
        ("", &format!("{STREAM}\nexclude = [\"/x\"]"), "`exclude` has no meaning where each group"),
        (
            "",
            &format!("{STREAM}\nscope = \"all\""),
            "`scope` cannot be `all`; allowed here: `group` or `account`",
        ),
        (
            "",
            &format!("{lambda}\nrole = \"arn:aws:iam::1:role/r\""),
            "`role` has no meaning where `to` is a Lambda function",
        ),
        (
            "",
            &format!("{lambda}\nsenders = [\"123456789012\"]"),
            "other accounts cannot send to a Lambda function",
        ),
        ("", &format!("{lambda}\ndistribution = \"random\""), "`distribution` has no meaning where"),
        (
            "class = \"infrequent_access\"",
            STREAM,
            "groups of class INFREQUENT_ACCESS can have no subscription; leave `class`",
        ),
        ("region = \"us-east-1\"", STREAM, "a subscription in us-east-1 cannot lead to eu-west-1"),
        ("", &format!("{STREAM}\nrol = \"x\""), "unknown key `rol`; did you mean `role`?"),
        (STREAM, STREAM, "unknown key `to`; `to` is for where events of a CloudWatch output go on to"),
    ] {
        let told = read(&format!("{output}\n[outputs.c.subscription]\n{lines}")).expect_err(lines);
        assert!(told.starts_with(said) && !told.contains('\n'), "{lines}: {told}");
    }
}

#[test]
fn what_groups_are_called_is_known_as_far_as_it_does_not_depend_on_a_pod() {
    let template = |group: &str| read(&format!("log_group = \"{group}\"")).expect("an output").log_group;
    for (group, known) in [
        ("/eks/{cluster}", ("/eks/prod", true)),
        ("/eks/{cluster}/{namespace}", ("/eks/prod/", false)),
        ("/eks/{namespace}-{cluster}", ("/eks/", false)),
        ("/fixed", ("/fixed", true)),
    ] {
        let (name, whole) = template(group).known_of("prod");
        assert_eq!((name.as_str(), whole), known, "{group}");
    }
    let by_namespace = template("/eks/{cluster}/{namespace}");
    assert!(by_namespace.recognises("prod", "/eks/prod/kube-system"));
    for other in ["/eks/prod/", "/eks/prod/a/b", "/eks/prod2/a", "/x/eks/prod/a"] {
        assert!(!by_namespace.recognises("prod", other), "{other}");
    }
}

#[test]
fn a_name_is_legal_whatever_its_values_are() {
    let long = "x".repeat(600);
    let labels = BTreeMap::from([("a".to_owned(), "b:c*/d é".to_owned())]);
    let names = Names {
        container_id: "",
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
