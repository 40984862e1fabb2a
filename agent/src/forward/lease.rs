//! A Lease of the Kubernetes API, as the forwarder's replicas write it: of a shard, or of a replica.
//!
//! In: the object as the API server has it. Out: who holds it, what changes when it is renewed, and the checkpoint on it; the
//! object as it is to be next. Asks nobody, and decides nothing: that is [`super::leases`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::checkpoint::Reached;
use crate::clock::unix_nanos;
use crate::metadata::api::Texts;
use crate::record::time;

/// Labels by which the Leases of a stream's readers are found: the readers' common name, a hash of the stream's, and
/// whether it is a shard's or a replica's.
pub(super) const NAME: &str = "taffrail.io/forward";
pub(super) const STREAM_HASH: &str = "taffrail.io/stream-hash";
pub(super) const OF: &str = "taffrail.io/lease-of";

/// Annotations: the stream, the shard, its checkpoint, and when the stream was first read (in milliseconds since the epoch).
pub(super) const STREAM: &str = "taffrail.io/stream";
pub(super) const SHARD: &str = "taffrail.io/shard";
pub(super) const CHECKPOINT: &str = "taffrail.io/checkpoint";
pub(super) const SINCE: &str = "taffrail.io/since";

/// A Lease, as small as it is needed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Lease {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: Meta,
    pub(super) spec: Spec,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Meta {
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) resource_version: String,
    pub(super) labels: Texts,
    pub(super) annotations: Texts,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) holder_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease_duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acquire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) renew_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease_transitions: Option<u64>,
}

impl Lease {
    pub(super) fn holder(&self) -> Option<&str> {
        self.spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.get(name).map(String::as_str)
    }

    /// What changes with each renewal, and with each holder.
    pub(super) fn state(&self) -> String {
        let Spec { holder_identity, renew_time, lease_transitions, .. } = &self.spec;
        format!("{holder_identity:?} {renew_time:?} {lease_transitions:?}")
    }

    /// The checkpoint of a shard that begins so. `None` if what is there is not understood: then nothing may be written over
    /// it, and the shard is left alone.
    pub(super) fn reached(&self, begins: Option<&str>) -> Option<Reached> {
        let held: Reached = match self.annotation(CHECKPOINT) {
            None => Reached::default(),
            Some(text) => serde_json::from_str(text).ok()?,
        };
        let anew = held.is_of_another(begins);
        let held = if anew { Reached::default() } else { held };
        Some(Reached { begins: begins.map(str::to_owned).or(held.begins.clone()), ..held })
    }

    /// Renewed now, for as long as it `lasts`.
    pub(super) fn renewed(mut self, lasts: Duration) -> Lease {
        self.api_version = "coordination.k8s.io/v1".to_owned();
        self.kind = "Lease".to_owned();
        // Six digits behind the point, and no others, are what the API takes.
        let mut now = time::format_nanos(unix_nanos());
        now.truncate(now.len() - "000Z".len());
        now.push('Z');
        self.spec.renew_time = Some(now);
        self.spec.lease_duration_seconds = Some(lasts.as_secs().max(1));
        self
    }

    /// With this checkpoint on it.
    pub(super) fn with_checkpoint(mut self, reached: &Reached) -> Lease {
        // A struct of texts.
        let text = serde_json::to_string(reached).unwrap_or_default();
        self.metadata.annotations.insert(CHECKPOINT.to_owned(), text);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_on_the_lease_until_the_shard_is_another() {
        let reached = Reached { sequence: "7".into(), finished: false, begins: Some("1".into()) };
        let lease = Lease::default().with_checkpoint(&reached);
        assert_eq!(lease.reached(Some("1")), Some(reached));
        let anew = Reached { begins: Some("9".into()), ..Reached::default() };
        assert_eq!(lease.reached(Some("9")), Some(anew), "the stream was made again");
    }

    #[test]
    fn what_is_not_understood_is_no_checkpoint() {
        let mut lease = Lease::default();
        assert_eq!(lease.reached(None), Some(Reached::default()), "none yet");
        lease.metadata.annotations.insert(CHECKPOINT.to_owned(), "seven".to_owned());
        assert_eq!(lease.reached(None), None);
    }

    #[test]
    fn a_renewal_changes_the_state_and_has_six_digits() {
        let before = Lease::default();
        let lease = before.clone().renewed(Duration::from_secs(15));
        assert_ne!(lease.state(), before.state());
        assert_eq!(lease.spec.lease_duration_seconds, Some(15));
        let renewed = lease.spec.renew_time.expect("a time");
        let digits = renewed.rsplit('.').next().map(str::len);
        assert_eq!(digits, Some("000000Z".len()), "{renewed}");
    }
}
