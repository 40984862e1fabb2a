//! What `taffrail setup` asks of an account: the rest of CloudWatch Logs, IAM, and Lambda's policies.
//!
//! What comes in: calls that are signed and not yet judged. What goes out: what is legal goes on to moto where moto has it.
//! Stand-ins of ours, which only keep what they are given after checking it, are: policies of the account, the encryption, the
//! class of a group and the distribution of a filter (moto has none), filters to anything but Kinesis and Firehose, and the policy of a
//! function (moto wants docker for functions).

use super::{Refusal, Shared, forward, lock, refusal};
use crate::http::{Reply, Request};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// What the stand-ins keep.
#[derive(Debug, Default)]
pub struct Beside {
    /// Policies of the account by name, as they are described.
    policies: BTreeMap<String, Value>,
    /// Statements of a function's policy, by its name with its qualifier.
    statements: BTreeMap<String, Vec<Value>>,
    /// Filters that lead neither to Kinesis nor to Firehose, as they are described.
    filters: Vec<Value>,
    /// The distribution of filters that do, by group and name.
    spread: HashMap<(String, String), String>,
    classes: HashMap<String, String>,
    keys: HashMap<String, String>,
}

fn text<'a>(body: &'a Value, key: &str) -> &'a str {
    body[key].as_str().unwrap_or_default()
}

impl Shared {
    /// What AWS documents for an action of CloudWatch Logs that set-up calls; an action that is not among them is refused.
    pub(super) fn check_setup(&self, action: &str, body: &Value) -> Result<(), Refusal> {
        let illegal = |what: String| Err(self.violation("InvalidParameterException", what));
        match action {
            "DescribeLogGroups"
            | "DescribeLogStreams"
            | "DescribeSubscriptionFilters"
            | "DescribeDestinations"
                if body["limit"].as_i64().unwrap_or(50) > 50 =>
            {
                illegal(format!("{action} with a limit over 50"))
            }
            "DescribeLogGroups"
            | "DescribeLogStreams"
            | "DescribeSubscriptionFilters"
            | "DescribeDestinations"
            | "DeleteSubscriptionFilter"
            | "DeleteLogGroup"
            | "DeleteDestination" => Ok(()),
            "ListTagsForResource" | "TagResource" if text(body, "resourceArn").ends_with(":*") => {
                illegal(format!("{action} of {}", text(body, "resourceArn")))
            }
            "ListTagsForResource" | "TagResource" => Ok(()),
            "AssociateKmsKey" if !text(body, "kmsKeyId").starts_with("arn:aws:kms:") => {
                illegal(format!("a key {}", text(body, "kmsKeyId")))
            }
            "AssociateKmsKey" => Ok(()),
            "DescribeAccountPolicies" | "DeleteAccountPolicy"
                if text(body, "policyType") != "SUBSCRIPTION_FILTER_POLICY" =>
            {
                illegal(format!("{action} without a type"))
            }
            "DescribeAccountPolicies" | "DeleteAccountPolicy" => Ok(()),
            "PutSubscriptionFilter" => self.check_filter(body),
            "PutAccountPolicy" => self.check_policy(body),
            "PutDestination" if text(body, "roleArn").is_empty() => {
                illegal("a destination without a role".into())
            }
            "PutDestination" => Ok(()),
            "PutDestinationPolicy" if serde_json::from_str::<Value>(text(body, "accessPolicy")).is_err() => {
                illegal("an access policy that is not JSON".into())
            }
            "PutDestinationPolicy" => Ok(()),
            other => illegal(format!("the action {other:?}")),
        }
    }

    fn check_filter(&self, body: &Value) -> Result<(), Refusal> {
        let illegal = |what: String| Err(self.violation("InvalidParameterException", what));
        let name = text(body, "filterName");
        if !(1..=512).contains(&name.len()) || name.contains([':', '*']) || !body["filterPattern"].is_string()
        {
            return illegal(format!("a filter {body}"));
        }
        let to = text(body, "destinationArn");
        let role = text(body, "roleArn");
        let needs_role = to.contains(":kinesis:") || to.contains(":firehose:");
        if needs_role && !role.contains(":role/") {
            return illegal(format!("a filter to {to} by the role {role:?}"));
        }
        if !body["distribution"].is_null() && to.contains(":lambda:") {
            return illegal("a distribution to a function".into());
        }
        let group = text(body, "logGroupName");
        if lock(&self.beside).classes.get(group).is_some_and(|class| class == "INFREQUENT_ACCESS") {
            return illegal(format!("a filter of {group}, whose class has none"));
        }
        if to.contains(":lambda:") && !self.may_call(to, group) {
            // As AWS does, which calls it to see.
            let what = "Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute your function.";
            return Err((400, "InvalidParameterException", what.into()));
        }
        Ok(())
    }

    /// Whether a function's policy lets CloudWatch Logs call it for a group.
    fn may_call(&self, function: &str, group: &str) -> bool {
        let name = function.split(":function:").nth(1).unwrap_or_default();
        let beside = lock(&self.beside);
        let statements = beside.statements.get(name).map(Vec::as_slice).unwrap_or_default();
        statements.iter().any(|statement| {
            let source = &statement["Condition"]["ArnLike"]["AWS:SourceArn"];
            let source = source.as_str().and_then(|arn| arn.split(":log-group:").nth(1)).unwrap_or_default();
            let prefix = source.split('*').next().unwrap_or_default().trim_end_matches(':');
            statement["Principal"]["Service"] == "logs.amazonaws.com"
                && statement["Condition"]["StringEquals"]["AWS:SourceAccount"].is_string()
                && group.starts_with(prefix)
        })
    }

    fn check_policy(&self, body: &Value) -> Result<(), Refusal> {
        let illegal = |what: String| Err(self.violation("InvalidParameterException", what));
        let document: Value = serde_json::from_str(text(body, "policyDocument")).unwrap_or_default();
        let to = text(&document, "DestinationArn");
        if text(body, "policyType") != "SUBSCRIPTION_FILTER_POLICY" || to.is_empty() {
            return illegal(format!("a policy {body}"));
        }
        if to.contains(":kinesis:") && !text(&document, "RoleArn").contains(":role/") {
            return illegal(format!("a policy to {to} without a role"));
        }
        let criteria = text(body, "selectionCriteria");
        let list = criteria.strip_prefix("LogGroupName NOT IN ").unwrap_or_default();
        match serde_json::from_str::<Vec<String>>(list) {
            Ok(_) => Ok(()),
            Err(_) => illegal(format!("selection criteria {criteria:?}")),
        }
    }

    /// What a stand-in answers, or what it keeps beside moto (`None`: moto answers).
    pub(super) fn stand_in(&self, action: &str, body: &Value) -> Option<Reply> {
        let mut beside = lock(&self.beside);
        let group = text(body, "logGroupName").to_owned();
        let name = || text(body, "policyName").to_owned();
        let filter = (group.clone(), text(body, "filterName").to_owned());
        let is_it =
            |kept: &Value| text(kept, "logGroupName") == filter.0 && text(kept, "filterName") == filter.1;
        match action {
            "CreateLogGroup" => {
                let class = body["logGroupClass"].as_str().unwrap_or("STANDARD");
                beside.classes.insert(group, class.to_owned());
                return None;
            }
            "DeleteLogGroup" => {
                beside.keys.remove(&group);
                beside.filters.retain(|kept| text(kept, "logGroupName") != group);
                return None;
            }
            "AssociateKmsKey" => {
                beside.keys.insert(group, text(body, "kmsKeyId").to_owned());
            }
            "PutAccountPolicy" => {
                beside.policies.insert(name(), body.clone());
            }
            "DeleteAccountPolicy" => {
                beside.policies.remove(&name());
            }
            "DescribeAccountPolicies" => {
                let all: Vec<&Value> = beside.policies.values().collect();
                return Some(Reply::json(200, &json!({ "accountPolicies": all })));
            }
            "PutSubscriptionFilter"
                if [":kinesis:", ":firehose:"].iter().any(|to| text(body, "destinationArn").contains(to)) =>
            {
                let spread = body["distribution"].as_str().unwrap_or("ByLogStream");
                beside.spread.insert(filter, spread.to_owned());
                return None;
            }
            "PutSubscriptionFilter" => {
                beside.filters.retain(|kept| !is_it(kept));
                beside.filters.push(body.clone());
            }
            "DeleteSubscriptionFilter" if beside.filters.iter().any(is_it) => {
                beside.filters.retain(|kept| !is_it(kept));
            }
            _ => return None,
        }
        Some(Reply::json(200, &json!({})))
    }

    /// An answer of moto with what it lacks.
    pub(super) fn completed(&self, action: &str, body: &Value, mut reply: Reply) -> Reply {
        if reply.status != 200 || !["DescribeLogGroups", "DescribeSubscriptionFilters"].contains(&action) {
            return reply;
        }
        let beside = lock(&self.beside);
        let mut answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        for group in answer["logGroups"].as_array_mut().into_iter().flatten() {
            let name = text(group, "logGroupName").to_owned();
            group["logGroupClass"] = json!(beside.classes.get(&name).map_or("STANDARD", String::as_str));
            if let Some(key) = beside.keys.get(&name) {
                group["kmsKeyId"] = json!(key);
            }
        }
        if let Some(filters) = answer["subscriptionFilters"].as_array_mut() {
            let group = text(body, "logGroupName");
            filters.extend(beside.filters.iter().filter(|kept| text(kept, "logGroupName") == group).cloned());
            for filter in filters {
                let place = (group.to_owned(), text(filter, "filterName").to_owned());
                if let Some(spread) = beside.spread.get(&place) {
                    filter["distribution"] = json!(spread);
                }
            }
        }
        reply.body = answer.to_string().into_bytes();
        reply
    }

    /// A call of another service: IAM of moto, Lambda of our own.
    pub(super) fn other_service(&self, request: &Request, action: &str) -> Reply {
        if action.starts_with("lambda:") {
            return self.lambda(request);
        }
        match self.moto {
            Some(address) => forward(address, request),
            None => refusal((500, "InternalFailure", "there is no moto".into())),
        }
    }

    fn lambda(&self, request: &Request) -> Reply {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let mut parts = path.trim_matches('/').split('/').skip(2);
        let (function, _, statement) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let qualifier = query.split('&').find_map(|pair| pair.strip_prefix("Qualifier="));
        let place = qualifier.map_or(function.to_owned(), |qualifier| format!("{function}:{qualifier}"));
        let mut beside = lock(&self.beside);
        let statements = beside.statements.entry(place).or_default();
        let missing = || lambda_refusal(404, "ResourceNotFoundException");
        match request.method.as_str() {
            "GET" if statements.is_empty() => missing(),
            "GET" => {
                let policy = json!({ "Version": "2012-10-17", "Id": "default", "Statement": statements });
                Reply::json(200, &json!({ "Policy": policy.to_string(), "RevisionId": "1" }))
            }
            "DELETE" => {
                let before = statements.len();
                statements.retain(|kept| Some(text(kept, "Sid")) != statement);
                if statements.len() == before { missing() } else { Reply::json(204, &Value::Null) }
            }
            _ => {
                let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                let sid = text(&body, "StatementId");
                if statements.iter().any(|kept| text(kept, "Sid") == sid) {
                    return lambda_refusal(409, "ResourceConflictException");
                }
                let made = json!({
                    "Sid": sid,
                    "Effect": "Allow",
                    "Principal": { "Service": body["Principal"] },
                    "Action": body["Action"],
                    "Resource": format!("arn:aws:lambda:us-east-1:123456789012:function:{function}"),
                    "Condition": {
                        "StringEquals": { "AWS:SourceAccount": body["SourceAccount"] },
                        "ArnLike": { "AWS:SourceArn": body["SourceArn"] },
                    },
                });
                statements.push(made.clone());
                Reply::json(201, &json!({ "Statement": made.to_string() }))
            }
        }
    }
}

fn lambda_refusal(status: u16, code: &str) -> Reply {
    let mut reply = Reply::json(status, &json!({ "Type": "User", "Message": code }));
    reply.headers.push(("x-amzn-errortype".to_owned(), code.to_owned()));
    reply
}

/// What a call of another service is called in logs: `iam:CreateRole`, `lambda:AddPermission`.
pub(super) fn action_of(service: &str, request: &Request) -> String {
    let action = match service {
        "lambda" => match request.method.as_str() {
            "GET" => "GetPolicy",
            "DELETE" => "RemovePermission",
            _ => "AddPermission",
        }
        .to_owned(),
        _ => {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            form.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or("?").to_owned()
        }
    };
    format!("{service}:{action}")
}
