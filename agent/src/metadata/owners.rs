//! Owners: which Deployment, StatefulSet, Job and so on a pod belongs to, by what the pod itself says.
//!
//! In: a pod's owner reference and labels. Out: names by kind. No API call: names are made in known ways (a ReplicaSet's
//! of its Deployment's and the template's hash, a Job's of its CronJob's and the minute it was due).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::api::Meta;
use crate::record::time;

/// A kind of owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Of the group `batch`, above a Job.
    CronJob,
    /// Of the group `apps`.
    DaemonSet,
    /// Of the group `apps`, above a ReplicaSet.
    Deployment,
    /// Of the group `batch`.
    Job,
    /// Of the group `apps`.
    ReplicaSet,
    /// Of the group `apps`.
    StatefulSet,
}

impl Kind {
    /// All there are.
    pub const ALL: [Kind; 6] =
        [Kind::CronJob, Kind::DaemonSet, Kind::Deployment, Kind::Job, Kind::ReplicaSet, Kind::StatefulSet];

    /// Its part of a field's name, as in `kubernetes.deployment.name`.
    pub fn field(self) -> &'static str {
        match self {
            Kind::CronJob => "cronjob",
            Kind::DaemonSet => "daemonset",
            Kind::Deployment => "deployment",
            Kind::Job => "job",
            Kind::ReplicaSet => "replicaset",
            Kind::StatefulSet => "statefulset",
        }
    }
}

/// The owners of a pod, by kind.
pub type Owners = BTreeMap<Kind, String>;

/// The label in which a Deployment notes the hash that its ReplicaSets' names end with.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// How far a pod may be older or younger than the minute in its Job's name for that to be a CronJob's: a Job can be held
/// back, or begin its pods again, but a date such as 20261123, read as minutes, is of the year 2008.
const NEAR: u64 = 366 * 24 * 60;

/// The owners of a pod.
pub fn of(meta: &Meta) -> Owners {
    let mut owners = Owners::new();
    let Some(owner) = meta.owner_references.iter().find(|owner| owner.controller == Some(true)) else {
        return owners;
    };
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let kind = match (group, owner.kind.as_str()) {
        ("apps", "ReplicaSet") => Kind::ReplicaSet,
        ("apps", "StatefulSet") => Kind::StatefulSet,
        ("apps", "DaemonSet") => Kind::DaemonSet,
        ("batch", "Job") => Kind::Job,
        _ => return owners,
    };
    let above = match kind {
        Kind::ReplicaSet => deployment(meta, &owner.name).map(|name| (Kind::Deployment, name)),
        Kind::Job => cron_job(meta, &owner.name).map(|name| (Kind::CronJob, name)),
        _ => None,
    };
    owners.extend(above.map(|(kind, name)| (kind, name.to_owned())));
    owners.insert(kind, owner.name.clone());
    owners
}

fn deployment<'a>(meta: &Meta, replica_set: &'a str) -> Option<&'a str> {
    let hash = meta.labels.as_ref()?.get(TEMPLATE_HASH).filter(|hash| !hash.is_empty())?;
    replica_set.strip_suffix(hash.as_str())?.strip_suffix('-').filter(|name| !name.is_empty())
}

fn cron_job<'a>(meta: &Meta, job: &'a str) -> Option<&'a str> {
    let (name, minute) = job.rsplit_once('-')?;
    let due: u64 = minute.parse().ok().filter(|_| minute.bytes().all(|b| b.is_ascii_digit()))?;
    let made = time::unix_nanos(meta.creation_timestamp.as_ref()?.as_bytes())?;
    let made = u64::try_from(made / 60_000_000_000).ok()?;
    (!name.is_empty() && due.abs_diff(made) < NEAR).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn owners_are_told_by_names_alone() {
        // 29,392,594 minutes after the epoch is 2025-11-19T08:34Z.
        for (kind, api, name, hash, made, owners) in [
            (
                "ReplicaSet",
                "apps/v1",
                "web-7d4b9c6f5d",
                "7d4b9c6f5d",
                "",
                "deployment=web replicaset=web-7d4b9c6f5d",
            ),
            ("ReplicaSet", "apps/v1", "web-7d4b9c6f5d", "", "", "replicaset=web-7d4b9c6f5d"),
            ("ReplicaSet", "apps/v1", "web", "web", "", "replicaset=web"),
            ("ReplicaSet", "apps/v1", "a-web-7d4", "b7d4", "", "replicaset=a-web-7d4"),
            (
                "Job",
                "batch/v1",
                "backup-29392594",
                "",
                "2025-11-19T08:34:02Z",
                "cronjob=backup job=backup-29392594",
            ),
            ("Job", "batch/v1", "import-20261123", "", "2026-11-23T08:34:02Z", "job=import-20261123"),
            ("Job", "batch/v1", "import", "", "2026-11-23T08:34:02Z", "job=import"),
            ("Job", "batch/v1", "import-+29392594", "", "2025-11-19T08:34:02Z", "job=import-+29392594"),
            ("Job", "batch/v1", "-29392594", "", "2025-11-19T08:34:02Z", "job=-29392594"),
            ("Job", "batch/v1", "backup-29392594", "", "", "job=backup-29392594"),
            ("StatefulSet", "apps/v1", "db", "", "", "statefulset=db"),
            ("DaemonSet", "apps/v1", "agent", "", "", "daemonset=agent"),
            ("ReplicaSet", "example.com/v1", "web-7d4", "7d4", "", ""),
            ("Node", "v1", "n1", "", "", ""),
        ] {
            let mut meta = json!({
                "labels": { "pod-template-hash": hash },
                "ownerReferences": [
                    { "kind": "StatefulSet", "apiVersion": "apps/v1", "name": "no-controller" },
                    { "kind": kind, "apiVersion": api, "name": name, "controller": true },
                ],
            });
            if !made.is_empty() {
                meta["creationTimestamp"] = made.into();
            }
            let found = of(&serde_json::from_value(meta).unwrap());
            let shown: Vec<String> =
                found.iter().map(|(kind, name)| format!("{}={name}", kind.field())).collect();
            assert_eq!(shown.join(" "), owners, "{kind} {name}");
        }
    }
}
