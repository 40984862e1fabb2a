//! Whose records are taken for our own, and where they go.
//!
//! In: the account, group and stream that events came from, and the constant end of a document that one claims. Out: where
//! the document goes, if all that it says of its cluster, pod and container gives just that group and stream by the
//! templates of a configured pair; else nothing, and the event is foreign. Worked out once per container and stream.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::bounded::Bounded;
use crate::catalog::origin::HostLog;
use crate::config::template::{Names, Prepared, Safe, Template};
use crate::config::{Target, TrustedConfig};
use crate::record::time;

/// Containers that are remembered, and the bytes that they may be of, each twice at most: with 1 KiB of metadata each, which
/// is usual, it is all of them.
const REMEMBERED: (usize, usize) = (10_000, 16 << 20);

/// Longer texts are worked out anew each time: one shall not drive out many.
const KEY_BYTES: usize = 64 << 10;

/// What a place takes beside its key, about.
const PLACE_BYTES: usize = 256;

/// What a template shows for what is not there.
const NONE: &str = "none";

/// Where the documents of one container in one stream go.
#[derive(Debug)]
pub struct Place {
    /// Their index or data stream.
    target: Prepared,
    /// `group:stream` as the templates give it; kept where that changes with the date.
    dated: Option<Prepared>,
    /// Whether they are the agent's own health records.
    pub is_health: bool,
}

/// The configured pairs, and what was worked out by them.
#[derive(Debug)]
pub struct Trust {
    pairs: Vec<Pair>,
    target: Template,
    known: Bounded<Vec<u8>, Option<Arc<Place>>>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Pair {
    owner: String,
    beginning: String,
    /// `group:stream`.
    name: Template,
}

/// The source of some events.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The account.
    pub owner: &'a str,
    /// The log group.
    pub group: &'a str,
    /// The log stream.
    pub stream: &'a str,
}

impl Source<'_> {
    fn name(&self) -> String {
        format!("{}:{}", self.group, self.stream)
    }
}

impl Trust {
    /// By these pairs, for documents that go to `target`.
    pub fn new(pairs: &[TrustedConfig], target: &Target) -> Trust {
        let pair = |pair: &TrustedConfig| Pair {
            owner: pair.owner.clone(),
            beginning: pair.log_group.fixed_beginning().to_owned(),
            name: pair.log_group.joined(":", &pair.log_stream),
        };
        Trust {
            pairs: pairs.iter().map(pair).collect(),
            target: target.template().clone(),
            known: Bounded::new(REMEMBERED.0, REMEMBERED.1),
            scratch: Vec::new(),
        }
    }

    /// Whether records of ours may come from there at all.
    pub fn may_be_ours(&self, source: Source<'_>) -> bool {
        self.pairs.iter().any(|pair| pair.owner == source.owner && source.group.starts_with(&pair.beginning))
    }

    /// Where a document goes that ends with `constant` and was written at `time`; `None` if it may not come from there.
    pub fn place(&mut self, source: Source<'_>, constant: &str, time: &str) -> Option<Arc<Place>> {
        let place = self.known(source, constant)?;
        if let Some(dated) = &place.dated {
            let mut name = Vec::new();
            dated.append_to(&mut name, &date(time));
            if name != source.name().as_bytes() {
                return None;
            }
        }
        Some(place)
    }

    /// Where documents go that end with `constant`, if at some time or other they may come from there.
    pub fn known(&mut self, source: Source<'_>, constant: &str) -> Option<Arc<Place>> {
        self.scratch.clear();
        for part in [source.owner, source.group, source.stream, constant] {
            self.scratch.extend_from_slice(part.as_bytes());
            self.scratch.push(0);
        }
        if self.scratch.len() > KEY_BYTES {
            return self.work_out(source, constant).map(Arc::new);
        }
        if let Some(place) = self.known.get(&self.scratch[..]) {
            return place;
        }
        let place = self.work_out(source, constant).map(Arc::new);
        self.known.put(self.scratch.clone(), place.clone(), self.scratch.len() + PLACE_BYTES);
        place
    }

    fn work_out(&self, source: Source<'_>, constant: &str) -> Option<Place> {
        if !constant.ends_with('}') {
            return None;
        }
        let text = format!("{{{}", constant.strip_prefix(',')?);
        Once.deserialize(&mut serde_json::Deserializer::from_str(&text)).ok()?;
        let said: Said = serde_json::from_str(&text).ok()?;
        let file = said
            .file
            .as_deref()
            .map(|path| Path::new(path).file_name().unwrap_or_default().to_string_lossy());
        let cluster = &said.orchestrator.cluster.name;
        let mut is_health = false;
        let names = match (&said.kubernetes, &said.host, &said.event) {
            (Some(kubernetes), None, None) => Names {
                cluster,
                namespace: &kubernetes.namespace,
                pod: &kubernetes.pod.name,
                container: &kubernetes.container.name,
                node: &kubernetes.node.name,
                uid: &kubernetes.pod.uid,
                container_id: said.container.as_ref().map_or("", |container| &container.id),
                labels: &kubernetes.labels,
                source: "pods",
            },
            (None, Some(host), Some(event)) if event.dataset == HostLog::HEALTH => {
                if said.stream.is_some() || said.file.is_some() || !said.labels.is_empty() {
                    return None;
                }
                is_health = true;
                Names {
                    cluster,
                    namespace: HostLog::OWN_NAME,
                    pod: HostLog::OWN_NAME,
                    container: HostLog::OWN_CONTAINER,
                    node: &host.name,
                    uid: HostLog::NAMESPACE,
                    container_id: "",
                    labels: &said.labels,
                    source: HostLog::HEALTH,
                }
            }
            (None, Some(host), Some(event)) if said.stream.is_none() => Names {
                cluster,
                namespace: HostLog::NAMESPACE,
                pod: &event.dataset,
                container: file.as_deref()?,
                node: &host.name,
                uid: HostLog::NAMESPACE,
                container_id: "",
                labels: &said.labels,
                source: &event.dataset,
            },
            _ => return None,
        };
        let name = source.name();
        let pairs = self.pairs.iter().filter(|pair| pair.owner == source.owner);
        let given = pairs.map(|pair| pair.name.prepare(names, Safe::LogStream));
        let agreeing = given.into_iter().find(|given| match given.split_at_date() {
            (whole, None) => whole == name,
            (before, Some(after)) => {
                name.len() == before.len() + date("").len() + after.len()
                    && name.starts_with(before)
                    && name.ends_with(after)
            }
        })?;
        let dated = agreeing.split_at_date().1.is_some().then_some(agreeing);
        Some(Place { target: self.target.prepare(names, Safe::Index), dated, is_health })
    }
}

impl Place {
    /// Appends the name of the index or data stream of a document of this time.
    pub fn append_target(&self, out: &mut Vec<u8>, time: &str) {
        self.target.append_to(out, &date(time));
    }
}

/// The date as names have it, of a time that is none the one that the direct path takes too.
pub(super) fn date(time: &str) -> [u8; 10] {
    time::utc_date(time.as_bytes()).unwrap_or(*b"1970.01.01")
}

/// Where foreign documents go: by the template of their own, or by the output's, in which little of a pod can be said.
pub(super) fn foreign_target(foreign: Option<&Template>, target: &Target, cluster: &str) -> Prepared {
    let template = foreign.unwrap_or_else(|| target.template());
    let names = Names {
        cluster,
        namespace: "cloudwatch",
        pod: NONE,
        container: NONE,
        node: NONE,
        uid: NONE,
        container_id: "",
        labels: &BTreeMap::new(),
        source: "cloudwatch",
    };
    template.prepare(names, Safe::Index)
}

/// A container, of which only the id can stand in a name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Identified {
    id: String,
}

/// What the constant end of a document of ours says; whatever else it holds, it is none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    stream: Option<StreamName>,
    container: Option<Identified>,
    kubernetes: Option<Kubernetes>,
    host: Option<Named>,
    #[serde(rename = "log.file.path")]
    file: Option<String>,
    event: Option<Dataset>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(rename = "cloud")]
    _cloud: Option<IgnoredAny>,
    orchestrator: Orchestrator,
    #[serde(rename = "taffrail.metadata")]
    _metadata: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StreamName {
    Stdout,
    Stderr,
}

#[derive(Debug, Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Pod,
    container: Named,
    node: Named,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Pod {
    name: String,
    uid: String,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Dataset {
    dataset: String,
}

#[derive(Debug, Deserialize)]
struct Orchestrator {
    cluster: Named,
}

/// JSON in which no object has a name twice: else one reader could take the first and another the second.
struct Once;

impl<'de> DeserializeSeed<'de> for Once {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a name stands twice"));
            }
            map.next_value_seed(Once)?;
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Once)?.is_some() {}
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
