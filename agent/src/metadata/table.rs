//! The table: what is known of pods now, shared between those who ask the API server and those who read logs.
//!
//! In: changes, from the watch and the lookups. Out: for a container all that is known of its pod, and a revision that
//! tells at the price of one load whether anything has changed. A pod that was deleted stays while somebody reads its
//! logs, and a while longer. Never blocks on the network: its lock is held for moments only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::api;
use super::complaints::Mistake;
use super::facts::{Known, NamespaceFacts, NodeLabels, PodFacts, PodKey};
use crate::catalog::origin::Container;
use crate::config::MetadataConfig;
use crate::stats::Counter;
use crate::wake::Wake;

/// How long a deleted pod is kept that nobody reads: its log may be found after its deletion was heard of, and a restart
/// of the agent takes a moment to find what is left of it.
const KEEP_DELETED: Duration = Duration::from_secs(600);

/// How long what is known of a namespace is believed; each time up to a fifth more or less, so that a thousand agents
/// that started together do not ask together.
const NAMESPACE_AGE: Duration = Duration::from_secs(300);

/// What has been asked of the API server and what came of it, since the start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests: lists, watches, lookups.
    pub requests: Counter,
    /// Requests that failed, and watches that broke.
    pub failures: Counter,
    /// Events of watches, bookmarks included.
    pub events: Counter,
    /// 1 while the watch fails, else 0.
    pub failing: Counter,
}

/// So many mistakes of one pod are told.
const MISTAKES: usize = 10;

/// The table.
#[derive(Debug)]
pub struct Table {
    config: MetadataConfig,
    revision: AtomicU64,
    state: Mutex<State>,
    readers: Mutex<Vec<Arc<Wake>>>,
    started: SystemTime,
    /// Whether all pods there are have been seen since the start.
    complete: AtomicBool,
    /// Whether the node is going away.
    leaving: AtomicBool,
    /// Told once all pods there are have been seen.
    pub completed: Notify,
    /// Told when a container is read of whose pod nothing is known.
    pub missing: Notify,
    /// Told when something has changed.
    pub changed: Notify,
    /// Told when there are mistakes to take.
    pub mistaken: Notify,
    /// What was asked of the API server.
    pub stats: Arc<Stats>,
}

#[derive(Debug, Default)]
struct State {
    pods: HashMap<PodKey, Entry>,
    /// What is wrong in annotations, and not told yet.
    mistakes: Vec<Mistake>,
    claims: HashMap<PodKey, Weak<()>>,
    namespaces: HashMap<String, Looked>,
    node: Option<Arc<NodeLabels>>,
}

/// A pod in the table.
#[derive(Debug)]
struct Entry {
    /// Its uid at the API server: of a static pod not that of its key.
    uid: String,
    /// Since when it is deleted, in seconds since the epoch.
    deleted: Option<u64>,
    /// As it is given out; the same value until something of it changes.
    known: Arc<Known>,
}

/// A namespace in the table.
#[derive(Debug)]
struct Looked {
    facts: Option<Arc<NamespaceFacts>>,
    due: Instant,
}

/// A pod as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPod {
    /// Which one.
    pub key: PodKey,
    /// Its uid at the API server: of a static pod not that of the key.
    pub uid: String,
    /// What is known of it.
    pub facts: PodFacts,
    /// Since when it is deleted, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<u64>,
}

/// Everything in the table as it is kept on disk.
#[derive(Debug, Clone, Default)]
pub struct Saved {
    /// Pods.
    pub pods: Vec<SavedPod>,
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, NamespaceFacts>,
    /// The node.
    pub node: Option<NodeLabels>,
}

/// A change that the watch brings.
#[derive(Debug)]
pub enum Change {
    /// The pod is so now.
    Is(Box<api::Pod>),
    /// The pod is no more.
    Gone(Box<api::Pod>),
}

/// Held by whoever reads the logs of a pod: what is known of it stays in the table for as long.
#[derive(Debug, Clone)]
pub struct Claim {
    key: PodKey,
    _held: Arc<()>,
}

impl Table {
    /// A table of what is wanted, with what an earlier process knew.
    pub fn new(config: MetadataConfig, saved: Saved) -> Table {
        let mut state = State { node: saved.node.map(Arc::new), ..State::default() };
        for (name, facts) in saved.namespaces {
            // It may be long ago: what is saved is used, and asked for anew at once.
            state.namespaces.insert(name, Looked { facts: Some(Arc::new(facts)), due: Instant::now() });
        }
        for pod in saved.pods {
            let known = state.compose(&pod.key, Arc::new(pod.facts));
            state.pods.insert(pod.key, Entry { uid: pod.uid, deleted: pod.deleted, known });
        }
        Table {
            config,
            revision: AtomicU64::new(0),
            state: Mutex::new(state),
            readers: Mutex::default(),
            started: SystemTime::now(),
            complete: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            completed: Notify::new(),
            missing: Notify::new(),
            changed: Notify::new(),
            mistaken: Notify::new(),
            stats: Arc::default(),
        }
    }

    /// What is wanted of pods.
    pub fn config(&self) -> &MetadataConfig {
        &self.config
    }

    /// Wakes a reader from now on when something changes.
    pub fn subscribe(&self, reader: Arc<Wake>) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }

    /// Changes whenever something of any pod has: while it is the same, so is all else.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Keeps what is known, or will be, of a container's pod for as long as the claim is held.
    pub fn claim(&self, container: &Container) -> Claim {
        let key = PodKey::of(container);
        let mut state = self.lock();
        let claim = state.claims.entry(key.clone()).or_default();
        let held = claim.upgrade().unwrap_or_default();
        *claim = Arc::downgrade(&held);
        let known = state.pods.contains_key(&key);
        drop(state);
        if !known {
            self.missing.notify_one();
        }
        Claim { key, _held: held }
    }

    /// What is known of a claimed pod.
    pub fn find(&self, claim: &Claim) -> Option<Arc<Known>> {
        self.lock().pods.get(&claim.key).map(|entry| entry.known.clone())
    }

    /// Whether something is still to come of a container that the configuration wants: the id of its first run, which
    /// kubelet reports a moment after it has begun, or what is asked for apart.
    pub fn is_partial(&self, known: &Known, container: &str) -> bool {
        let config = &self.config;
        let ran = || known.pod.containers.get(container).is_some_and(|container| !container.runs.is_empty());
        (config.wants_namespaces() && known.namespace.is_none())
            || (config.wants_node() && known.node.is_none())
            || (config.fields.has("container.id") && !ran())
    }

    /// Enters changes, all of them before anyone sees one.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) {
        let mut state = self.lock();
        let mut changed = false;
        for change in changes {
            changed |= match change {
                Change::Is(pod) => state.put(*pod, &self.config),
                Change::Gone(pod) => state.delete(&PodKey::of_object(&pod), &pod.metadata.uid),
            };
        }
        let mistaken = !state.mistakes.is_empty();
        drop(state);
        self.tell(changed);
        if mistaken {
            self.mistaken.notify_one();
        }
    }

    /// The mistakes that were met since the last call.
    pub fn take_mistakes(&self) -> Vec<Mistake> {
        std::mem::take(&mut self.lock().mistakes)
    }

    /// Everything there is has been seen: whatever else is in the table is deleted.
    pub fn only(&self, seen: &BTreeSet<PodKey>) {
        let mut state = self.lock();
        let unseen: Vec<(PodKey, String)> = state
            .pods
            .iter()
            .filter(|(key, _)| !seen.contains(key))
            .map(|(key, entry)| (key.clone(), entry.uid.clone()))
            .collect();
        let mut changed = false;
        for (key, uid) in unseen {
            changed |= state.delete(&key, &uid);
        }
        drop(state);
        self.tell(changed);
        if !self.complete.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
            self.completed.notify_one();
        }
    }

    /// The node is going away, or is not; true if that is news. Readers are woken.
    pub fn set_leaving(&self, leaving: bool) -> bool {
        let news = self.leaving.swap(leaving, Ordering::AcqRel) != leaving;
        if news {
            self.wake_readers();
        }
        news
    }

    /// Whether the node is going away.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Whether all pods there are have been seen since the start.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Whether logs are read of which no pod is known, and none but deleted ones are known at all.
    pub fn knows_nobody(&self) -> bool {
        let state = self.lock();
        let claimed = state.claims.values().any(|claim| claim.strong_count() > 0);
        claimed && state.pods.values().all(|entry| entry.deleted.is_some())
    }

    /// The namespaces whose time it is to be asked for, and when that of the next comes.
    pub fn namespaces_due(&self, now: Instant) -> (Vec<String>, Option<Instant>) {
        if !self.config.wants_namespaces() {
            return (Vec::new(), None);
        }
        let mut state = self.lock();
        let used: BTreeSet<String> = state
            .pods
            .iter()
            .filter(|(key, entry)| entry.deleted.is_none() || state.is_claimed(key))
            .map(|(key, _)| key.namespace().to_owned())
            .collect();
        state.namespaces.retain(|name, _| used.contains(name));
        let due = |name: &String| state.namespaces.get(name).map_or(now, |looked| looked.due);
        let next = used.iter().map(due).filter(|due| *due > now).min();
        (used.iter().filter(|name| due(name) <= now).cloned().collect(), next)
    }

    /// What the API server said of a namespace: empty, if it is not there or may not be asked for.
    pub fn set_namespace(&self, name: &str, facts: NamespaceFacts) {
        let mut state = self.lock();
        let age = NAMESPACE_AGE.mul_f64(0.8 + 0.4 * fastrand::f64());
        let looked = state.looked(name);
        looked.due = Instant::now() + age;
        let changed = looked.facts.as_deref() != Some(&facts);
        if changed {
            looked.facts = Some(Arc::new(facts));
            state.recompose(|key| key.namespace() == name);
        }
        drop(state);
        self.tell(changed);
    }

    /// A namespace could not be asked for: what is known of it stays, and it is asked for again then.
    pub fn put_off_namespace(&self, name: &str, until: Instant) {
        self.lock().looked(name).due = until;
    }

    /// What the API server said of the node.
    pub fn set_node(&self, facts: NodeLabels) {
        let mut state = self.lock();
        let changed = state.node.as_deref() != Some(&facts);
        if changed {
            state.node = Some(Arc::new(facts));
            state.recompose(|_| true);
        }
        drop(state);
        self.tell(changed);
    }

    /// Forgets pods that are deleted and that nobody reads any more.
    pub fn prune(&self, now: SystemTime) {
        let mut state = self.lock();
        state.claims.retain(|_, claim| claim.strong_count() > 0);
        // Whoever would read what an earlier process left is not there at once.
        let started = seconds(self.started);
        let limit = seconds(now).saturating_sub(KEEP_DELETED.as_secs());
        let State { pods, claims, .. } = &mut *state;
        let before = pods.len();
        pods.retain(|key, entry| {
            entry.deleted.is_none_or(|deleted| deleted.max(started) > limit) || claims.contains_key(key)
        });
        let forgot = pods.len() < before;
        drop(state);
        if forgot {
            self.changed.notify_one();
        }
    }

    /// Whether the node is wanted and not known yet.
    pub fn lacks_node(&self) -> bool {
        self.config.wants_node() && self.lock().node.is_none()
    }

    /// Everything, to be kept on disk.
    pub fn save(&self) -> Saved {
        let state = self.lock();
        let pods = state.pods.iter().map(|(key, entry)| SavedPod {
            key: key.clone(),
            uid: entry.uid.clone(),
            facts: (*entry.known.pod).clone(),
            deleted: entry.deleted,
        });
        let looked = state.namespaces.iter();
        Saved {
            pods: pods.collect(),
            namespaces: looked
                .filter_map(|(name, at)| Some((name.clone(), (**at.facts.as_ref()?).clone())))
                .collect(),
            node: state.node.as_deref().cloned(),
        }
    }

    fn tell(&self, changed: bool) {
        if !changed {
            return;
        }
        self.revision.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
        self.wake_readers();
    }

    fn wake_readers(&self) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|reader| reader.wake());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, pod: api::Pod, config: &MetadataConfig) -> bool {
        let key = PodKey::of_object(&pod);
        let uid = pod.metadata.uid.clone();
        let place = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        let before = self.pods.get(&key);
        let facts = PodFacts::new(pod, config, before.map(|entry| &*entry.known.pod));
        if before
            .is_some_and(|entry| *entry.known.pod == facts && entry.uid == uid && entry.deleted.is_none())
        {
            return false;
        }
        let is_new = |what: &&String| !before.is_some_and(|entry| entry.known.pod.mistakes.contains(what));
        for what in facts.mistakes.iter().filter(is_new).take(MISTAKES) {
            let (namespace, pod) = place.clone();
            self.mistakes.push(Mistake { namespace, pod, uid: uid.clone(), what: what.clone() });
        }
        let known = self.compose(&key, Arc::new(facts));
        self.pods.insert(key, Entry { uid, deleted: None, known });
        true
    }

    /// Only the pod of that uid: a static pod's object may have been made anew before the old one's end is heard of.
    fn delete(&mut self, key: &PodKey, uid: &str) -> bool {
        match self.pods.get_mut(key) {
            Some(entry) if entry.uid == uid && entry.deleted.is_none() => {
                entry.deleted = Some(seconds(SystemTime::now()));
                true
            }
            _ => false,
        }
    }

    fn looked(&mut self, name: &str) -> &mut Looked {
        let unknown = || Looked { facts: None, due: Instant::now() };
        self.namespaces.entry(name.to_owned()).or_insert_with(unknown)
    }

    fn is_claimed(&self, key: &PodKey) -> bool {
        self.claims.get(key).is_some_and(|claim| claim.strong_count() > 0)
    }

    fn compose(&self, key: &PodKey, pod: Arc<PodFacts>) -> Arc<Known> {
        let namespace = self.namespaces.get(key.namespace()).and_then(|looked| looked.facts.clone());
        Arc::new(Known { pod, namespace, node: self.node.clone() })
    }

    fn recompose(&mut self, of: impl Fn(&PodKey) -> bool) {
        let keys: Vec<PodKey> = self.pods.keys().filter(|key| of(key)).cloned().collect();
        for key in keys {
            let Some(facts) = self.pods.get(&key).map(|entry| entry.known.pod.clone()) else { continue };
            let known = self.compose(&key, facts);
            if let Some(entry) = self.pods.get_mut(&key) {
                entry.known = known;
            }
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
