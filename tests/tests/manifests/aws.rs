//! What is in `manifests/aws/`: a template that cfn-lint takes, and policies that say the same as it and as the agent needs.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use taffrail_tests::manifests::root;

fn folder() -> PathBuf {
    root().join("manifests/aws")
}

fn policy(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All actions of a policy's statements of one effect.
fn actions(policy: &Value, effect: &str) -> BTreeSet<String> {
    let statements = policy["Statement"].as_array().expect("statements");
    let of = |value: &Value| match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>(),
        one => one.as_str().map(str::to_owned).into_iter().collect(),
    };
    statements
        .iter()
        .filter(|statement| statement["Effect"] == effect)
        .flat_map(|statement| of(&statement["Action"]))
        .collect()
}

/// cfn-lint, which is got once.
fn lint() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/cfn-lint");
    let got = Command::new(&script).stderr(Stdio::inherit()).output().expect("to run servers/cfn-lint");
    assert!(got.status.success(), "cfn-lint could not be had; what is missing is said above");
    String::from_utf8_lossy(&got.stdout).trim_end().to_owned()
}

#[test]
fn cloudformation_takes_the_template_in_every_region_that_is_asked_for() {
    let template = folder().join("path.yaml");
    let regions = ["us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-northeast-1"];
    let mut command = Command::new(lint());
    for region in regions {
        command.args(["-r", region]);
    }
    let output = command.arg("--").arg(&template).output().expect("to run cfn-lint");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn policies_allow_what_is_needed_and_workloads_nothing_in_the_agents_groups() {
    let agent = actions(&policy("agent-policy.json"), "Allow");
    let overlay =
        fs::read_to_string(root().join("manifests/overlays/cloudwatch/iam-policy.json")).expect("a policy");
    let overlay = actions(&serde_json::from_str(&overlay).expect("JSON"), "Allow");
    let more: Vec<_> = agent.difference(&overlay).map(String::as_str).collect();
    assert_eq!(more, ["iam:PassRole", "logs:PutSubscriptionFilter"], "what a subscription takes besides");
    assert!(overlay.is_subset(&agent));

    let template = fs::read_to_string(folder().join("path.yaml")).expect("the template");
    for action in actions(&policy("forwarder-policy.json"), "Allow") {
        assert!(template.contains(&action), "{action} is in forwarder-policy.json alone");
    }
    let denied = actions(&policy("deny-workloads-policy.json"), "Deny");
    assert!(denied.contains("logs:PutLogEvents") && denied.contains("logs:CreateLogStream"), "{denied:?}");
    for name in ["agent-policy.json", "forwarder-policy.json"] {
        for statement in policy(name)["Statement"].as_array().expect("statements") {
            let everything = statement["Action"].to_string().contains('*') || statement["Resource"] == "*";
            assert!(!everything, "{name}: {statement}");
        }
    }
}

#[test]
fn the_template_keeps_what_fails_and_tells_of_it() {
    let template = fs::read_to_string(folder().join("path.yaml")).expect("the template");
    for part in [
        "Distribution: Random",
        "StreamMode: ON_DEMAND",
        "Handler: bootstrap",
        "Runtime: provided.al2023",
        "TAFFRAIL_FORWARDER_CONFIG",
        "FunctionResponseTypes: [ReportBatchItemFailures]",
        "BisectBatchOnFunctionError: true",
        "MaximumRecordAgeInSeconds",
        "OnFailure",
        "\"aws:SourceArn\"",
        "\"aws:SourceAccount\"",
        "DeliveryErrors",
        "DeliveryThrottling",
        "IteratorAge",
        "ApproximateNumberOfMessagesVisible",
    ] {
        assert!(template.contains(part), "{part}");
    }
}
