//! Groups and streams: made when the service says that they are not there, once, and no faster than it allows.
//!
//! In: the names that a call was refused for. Out: both exist, or the [`Fault`] that stands against it. What a group is made
//! with is said once, at its creation: a group that is there stays as it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::operation::create_log_group::builders::CreateLogGroupFluentBuilder;
use aws_sdk_cloudwatchlogs::operation::put_subscription_filter::builders::PutSubscriptionFilterFluentBuilder;
use aws_sdk_cloudwatchlogs::types::{Distribution, LogGroupClass};
use tokio::sync::Mutex as AsyncMutex;

use super::client::{Fault, Service};
use super::pace::Pace;
use crate::config::{CloudWatchConfig, LogClass, SubscriptionConfig};
use crate::output::backoff::Backoff;

/// Quota "CreateLogStream throttle limit in transactions per second": 50 an account and region.
const STREAMS_A_SECOND: f64 = 50.0;

/// However large the fleet, a node makes one stream in so many seconds at least: what is too much is said and tried again.
const LEAST_STREAMS_A_SECOND: f64 = 0.5;

/// Tries of putting the filter of a subscription on a new group, and the waits between them: the first, and the longest.
const FILTER_TRIES: u32 = 6;
const FILTER_WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What makes groups and streams for one output.
#[derive(Debug)]
pub struct Names {
    output: String,
    config: CloudWatchConfig,
    pace: Mutex<Pace>,
    /// Held by whoever makes a group: one at a time, the others find it made.
    making: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

impl Names {
    /// Nothing is made yet.
    pub fn new(output: &str, config: &CloudWatchConfig) -> Names {
        let share = (STREAMS_A_SECOND / f64::from(config.nodes)).max(LEAST_STREAMS_A_SECOND);
        Names {
            output: output.to_owned(),
            config: config.clone(),
            pace: Mutex::new(Pace::new(share, Instant::now())),
            making: Mutex::default(),
        }
    }

    /// Makes a stream, and its group where that is missing.
    ///
    /// # Errors
    /// Why it could not be made; never [`Fault::Missing`] or [`Fault::Exists`].
    pub async fn make(&self, service: &Service, group: &str, stream: &str) -> Result<(), Fault> {
        match self.make_stream(service, group, stream).await {
            Err(Fault::Missing) => {}
            made => return made,
        }
        let making = self.turn(group);
        let _alone = making.lock().await;
        match self.make_stream(service, group, stream).await {
            Err(Fault::Missing) => {}
            made => return made,
        }
        Box::pin(self.make_group(service, group)).await?;
        match self.make_stream(service, group, stream).await {
            // It takes the service a moment to know of its own group.
            Err(Fault::Missing) => {
                let what = format!("the log group {group} was made and is not there yet");
                Err(Fault::Passing { what, in_doubt: false })
            }
            made => made,
        }
    }

    /// The turn at making a group.
    fn turn(&self, group: &str) -> Arc<AsyncMutex<()>> {
        let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody else has is not being made: it is handed out here only.
        making.retain(|_, turn| Arc::strong_count(turn) > 1);
        making.entry(group.to_owned()).or_default().clone()
    }

    async fn make_stream(&self, service: &Service, group: &str, stream: &str) -> Result<(), Fault> {
        let wait = self.pace.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        tokio::time::sleep(wait).await;
        let (client, _) = passing(service.client().await)?;
        let call = client.create_log_stream().log_group_name(group).log_stream_name(stream);
        // By the thousand streams wait for their turn: what the SDK needs for a call, 30 KiB, is not theirs before that.
        let made = Box::pin(call.send()).await;
        let mut pace = match made {
            Ok(_) => self.pace.lock().unwrap_or_else(PoisonError::into_inner),
            Err(error) => match service.fault(error).await {
                Fault::Exists => return Ok(()),
                fault @ Fault::Throttled(_) => {
                    self.pace.lock().unwrap_or_else(PoisonError::into_inner).throttled(Instant::now());
                    return Err(fault);
                }
                fault => return Err(named("logs:CreateLogStream", group, fault)),
            },
        };
        pace.passed();
        Ok(())
    }

    async fn make_group(&self, service: &Service, group: &str) -> Result<(), Fault> {
        let (client, region) = passing(service.client().await)?;
        match creating(client, group, &self.config, "agent").send().await {
            Ok(_) => tracing::info!(output = self.output, group, region, "made a log group"),
            Err(error) => match service.fault(error).await {
                // Another node was quicker, and sets its retention. It may have ended since: the filter is put by both, the
                // same.
                Fault::Exists => {
                    self.subscribe(service, group).await;
                    return Ok(());
                }
                fault => return Err(named("logs:CreateLogGroup", group, fault)),
            },
        }
        if let Some(days) = self.config.retention_days {
            let call = client.put_retention_policy().log_group_name(group).retention_in_days(days as i32);
            if let Err(error) = call.send().await {
                let fault = service.fault(error).await;
                // Its events are worth more than their end: it is told, and set by `taffrail setup` or by hand.
                tracing::error!(
                    output = self.output,
                    group,
                    days,
                    ?fault,
                    "made a log group and could not set how long it keeps events (logs:PutRetentionPolicy): it keeps them for ever"
                );
            }
        }
        self.subscribe(service, group).await;
        Ok(())
    }

    /// Puts the subscription's filter on a new group, before its first event: a filter brings what comes after it only.
    /// Events are worth more than their way on, so a failure is told, and found by `taffrail setup subscription --audit`.
    async fn subscribe(&self, service: &Service, group: &str) {
        let Some(subscription) = self.config.subscription.as_ref().filter(|found| found.is_by_group()) else {
            return;
        };
        let mut backoff = Backoff::new(FILTER_WAITS.0, FILTER_WAITS.1);
        let fault = loop {
            match put_filter(service, group, subscription).await {
                Ok(()) => return,
                Err(Fault::Throttled(_) | Fault::Passing { .. } | Fault::Exists)
                    if backoff.tries() < FILTER_TRIES =>
                {
                    tokio::time::sleep(backoff.next(None)).await;
                }
                Err(fault) => break fault,
            }
        };
        tracing::error!(
            output = self.output,
            group,
            to = subscription.to.arn,
            ?fault,
            "made a log group and could not subscribe to it (logs:PutSubscriptionFilter): its events do not go on; `taffrail setup subscription` says what is missing, and puts it right"
        );
    }
}

async fn put_filter(service: &Service, group: &str, subscription: &SubscriptionConfig) -> Result<(), Fault> {
    let (client, _) = passing(service.client().await)?;
    match subscribing(client, group, subscription).send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(service.fault(error).await),
    }
}

/// The call that makes a group as it is configured, with the mark of who makes it.
pub fn creating(
    client: &Client,
    group: &str,
    config: &CloudWatchConfig,
    maker: &str,
) -> CreateLogGroupFluentBuilder {
    let mut call = client.create_log_group().log_group_name(group).tags(super::MADE_BY, maker);
    for (key, value) in &config.tags {
        call = call.tags(key, value);
    }
    let class = (config.class == LogClass::InfrequentAccess).then_some(LogGroupClass::InfrequentAccess);
    call.set_kms_key_id(config.kms_key.clone()).set_log_group_class(class)
}

/// The call that puts a subscription's filter on a group.
pub fn subscribing(
    client: &Client,
    group: &str,
    subscription: &SubscriptionConfig,
) -> PutSubscriptionFilterFluentBuilder {
    client
        .put_subscription_filter()
        .log_group_name(group)
        .filter_name(&subscription.name)
        .filter_pattern(&subscription.filter_pattern)
        .destination_arn(&subscription.to.arn)
        .set_role_arn(subscription.role_arn())
        .set_distribution(subscription.distribution().map(|kind| Distribution::from(kind.as_str())))
}

/// What is lacking on this side passes.
pub fn passing<T>(found: Result<T, String>) -> Result<T, Fault> {
    found.map_err(|what| Fault::Passing { what, in_doubt: false })
}

/// The fault with the action that it stood against, where the service's words may leave that out.
fn named(action: &str, group: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Denied(what) if !what.contains(action) => {
            Fault::Denied(format!("{what} ({action} on {group})"))
        }
        Fault::Refused(what) => Fault::Refused(format!("{action} on {group}: {what}")),
        // Making something twice does no harm.
        Fault::Passing { what, .. } => Fault::Passing { what, in_doubt: false },
        fault => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_kept_for_groups_that_are_being_made_only() {
        let names = Names::new("cw", &CloudWatchConfig::default());
        let first = names.turn("a");
        for n in 0..100 {
            names.turn(&n.to_string());
        }
        assert!(Arc::ptr_eq(&first, &names.turn("a")));
        assert!(names.making.lock().unwrap().len() <= 2);
    }
}
