//! What `taffrail check` says of a `cloudwatch` output.
//!
//! In: its configuration. Out: lines of the summary, and warnings of what is seldom meant. Asks nobody.

use std::fmt::Write as _;

use super::count;
use crate::config::units::show_duration;
use crate::config::{CloudWatchConfig, LogClass, Rejected, SubscriptionScope};

/// What the output does, to read.
pub fn summary(text: &mut String, output: &CloudWatchConfig) {
    let kept = output
        .retention_days
        .map_or("for ever".to_owned(), |days| format!("for {}", count(days as usize, "day")));
    let region = output.region.as_deref().unwrap_or("of the environment");
    let at = output.endpoint.as_ref().map_or(String::new(), |url| format!(", at {url}"));
    let rejected = match output.rejected {
        Rejected::Drop => "dropped and counted".to_owned(),
        Rejected::DeadLetter => format!("kept as dead letters, up to {}", output.dead_letters),
        Rejected::Now => "sent with the time now".to_owned(),
    };
    let _ = writeln!(text, "  to       log group {}, stream {}", output.log_group, output.log_stream);
    let _ = writeln!(text, "  makes    groups of class {}, which keep events {kept}", output.class);
    let _ = writeln!(text, "  region   {region}{at}");
    if let Some(role) = &output.role_arn {
        let _ = writeln!(text, "  as       {role}");
    }
    let _ = writeln!(
        text,
        "  sends    {} events, {} at a time",
        output.format.as_str(),
        count(output.in_flight, "call")
    );
    let _ = writeln!(
        text,
        "  calls    {} a second at most, {} of the account's {}",
        f64::from(output.account_tps) / f64::from(output.nodes),
        if output.nodes == 1 { "all".to_owned() } else { format!("a {}th", output.nodes) },
        output.account_tps
    );
    let _ = writeln!(
        text,
        "  delivers at least once: a call whose answer was lost is made again, and counted as in doubt"
    );
    let _ = writeln!(text, "  rejected for their time: {rejected}");
    if let Some(subscription) = &output.subscription {
        let what = match (subscription.senders.as_slice(), subscription.scope) {
            ([], SubscriptionScope::Group) => "each group".to_owned(),
            ([], SubscriptionScope::Account) => {
                format!("all groups of the account but {}", subscription.left_out().join(", "))
            }
            (senders, _) => format!("groups of {}", senders.join(", ")),
        };
        let _ = writeln!(
            text,
            "  goes on  from {what} to the {} {} (`taffrail setup subscription`)",
            subscription.to.kind, subscription.to.arn
        );
    }
}

/// What is seldom meant, each with what to do.
pub fn warnings(name: &str, output: &CloudWatchConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    if output.class == LogClass::InfrequentAccess {
        warnings.push(format!(
            "outputs.{name}.class: groups of class INFREQUENT_ACCESS can have no subscription, and their class can never be \
             changed; leave it out if their events are to go on to Elasticsearch"
        ));
    }
    if output.region.is_none() && !output.allowed_regions.is_empty() {
        warnings.push(format!(
            "outputs.{name}.allowed_regions: the region is found only when the agent runs; nothing is sent if it is another: \
             set `region` to know it now"
        ));
    }
    let calls = f64::from(output.account_tps) / f64::from(output.nodes);
    // Thirty pods a node, each with a stream: their batches then wait this long.
    let wait = std::time::Duration::from_secs_f64(30.0 / (0.8 * calls));
    if wait > output.reading.linger * 2 && (output.log_stream.is_per_pod()) {
        warnings.push(format!(
            "outputs.{name}.log_stream: with a stream for every container, {} nodes share {} calls a second: a node of thirty \
             containers can send each only every {}; `log_stream = \"{{node}}\"` needs one call for all",
            output.nodes,
            output.account_tps,
            show_duration(std::time::Duration::from_secs(wait.as_secs()))
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_whose_streams_need_too_many_calls_is_warned_of_and_a_class_without_subscriptions() {
        let quiet = CloudWatchConfig::default();
        assert!(warnings("c", &quiet).is_empty());
        let fleet = CloudWatchConfig { nodes: 2_000, class: LogClass::InfrequentAccess, ..quiet };
        let told = warnings("c", &fleet);
        assert!(told[0].contains("no subscription") && told[1].contains("only every 15s"), "{told:?}");
        let mut text = String::new();
        summary(&mut text, &fleet);
        assert!(text.contains("2.5 a second at most, a 2000th of the account's 5000"), "{text}");
    }
}
