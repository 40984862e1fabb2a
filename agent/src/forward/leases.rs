//! Leases: how several replicas share the shards of a stream, by objects of the Kubernetes API.
//!
//! In: the stream's shards, and what readers have settled of those that this replica holds. Out: which shards are held, from
//! where to go on with each, and its checkpoint, kept on the shard's own Lease where the next holder finds it. There is a
//! Lease for each replica, by which the others know of it, and one for each shard. Each is renewed; one that does not change
//! for as long as it lasts is taken over ([`share`]). A checkpoint is only ever written over the version of the Lease that
//! it came from: who has lost a shard, and does not know it, writes none. Never reads a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use super::checkpoint::Reached;
use super::lease::{Lease, Meta, NAME, OF, SHARD, SINCE, STREAM, STREAM_HASH, Spec};
use super::share::{self, Seen};
use crate::clock::unix_millis;
use crate::config::template::fnv1a;
use crate::config::{LeasesConfig, MetadataConfig, MetadataSource};
use crate::metadata::connection::{Connection, Failure, access};
use crate::metadata::table::Stats;

/// Leases are renewed so often while they last.
const RENEWALS: u32 = 3;

/// The Lease of a replica that has not been seen for so many times as long as it lasts is deleted.
const FORGOTTEN_AFTER: u32 = 20;

/// So many Leases are written at once: a stream has hundreds of shards, and one after the other they would take longer than
/// they last.
const AT_ONCE: usize = 16;

/// A shard as the stream lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its first sequence number.
    pub begins: Option<String>,
    /// The shards that it came of.
    pub parents: Vec<String>,
}

/// A shard that this replica holds.
#[derive(Debug)]
struct Held {
    lease: Lease,
    reached: Reached,
    /// When it was last asked to be renewed, and was.
    renewed: Instant,
    /// It is another's, as soon as its reader has ended.
    leaving: bool,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<String, Held>,
    /// How far shards are that others hold, or nobody, by the last look.
    others: BTreeMap<String, Reached>,
    since: Option<u64>,
    seen: Seen,
    replica: Option<Instant>,
    told: BTreeSet<String>,
}

/// This replica's part of a stream.
#[derive(Debug)]
pub struct Leases {
    connection: Connection,
    collection: String,
    namespace: String,
    name: String,
    stream: String,
    hash: String,
    /// This process, and no other before or after it.
    identity: String,
    lasts: Duration,
    state: Mutex<State>,
}

impl Leases {
    /// As configured. The API server is not asked yet.
    ///
    /// # Errors
    /// There is none to ask.
    pub async fn open(
        config: &LeasesConfig,
        metadata: &MetadataConfig,
        stream: &str,
    ) -> Result<Leases, String> {
        if metadata.source == MetadataSource::Path {
            return Err(
                "`[forward.leases]` asks the API server, and `metadata.source` is `\"path\"`: leave one of them out"
                    .to_owned(),
            );
        }
        let access = access(metadata).ok_or(
            "`[forward.leases]` needs the API server: run it as a pod with a service account's token, or set KUBECONFIG",
        )?;
        let lasts = config.duration;
        let connection = Connection::new(access, lasts / RENEWALS, Arc::<Stats>::default());
        let namespace = match &config.namespace {
            Some(namespace) => namespace.clone(),
            None => connection.namespace().await.map_err(|failure| {
                format!("the namespace of `[forward.leases]` is not known, set `namespace`: {failure}")
            })?,
        };
        Ok(Leases {
            connection,
            collection: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
            namespace,
            name: config.name.clone(),
            stream: stream.to_owned(),
            hash: format!("{:016x}", fnv1a(stream.as_bytes())),
            // A container that was started again has the name of before, and nothing of what that held.
            identity: format!("{}_{:08x}", config.identity, fastrand::u32(..)),
            lasts,
            state: Mutex::default(),
        })
    }

    /// Who this is, for people.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// How often to take a turn.
    pub fn every(&self) -> Duration {
        self.lasts / RENEWALS
    }

    /// When the stream was first read, in milliseconds since the epoch.
    pub fn since(&self) -> u64 {
        self.lock().since.unwrap_or_else(unix_millis)
    }

    /// How far a shard is.
    pub fn of(&self, shard: &str) -> Reached {
        let state = self.lock();
        let held = state.held.get(shard).map(|held| &held.reached);
        held.or_else(|| state.others.get(shard)).cloned().unwrap_or_default()
    }

    /// Whether a shard may be read (on): it is held, and is to be.
    pub fn may_read(&self, shard: &str) -> bool {
        self.lock().held.get(shard).is_some_and(|held| !held.leaving && self.is_valid(held))
    }

    /// Enters how far a shard is: it is on its Lease with the next turn. False if it is not held any more.
    pub fn reach(&self, shard: &str, reached: Reached) -> bool {
        let mut state = self.lock();
        let Some(held) = state.held.get_mut(shard).filter(|held| self.is_valid(held)) else { return false };
        // The stream was made again: the old shard's reader comes too late.
        if !held.reached.is_of_another(reached.begins.as_deref()) {
            held.reached = reached;
        }
        true
    }

    /// Looks at all Leases, renews, takes and gives back as the shards are to be shared. A shard is given back, with its
    /// checkpoint, once it is not `reading` any more.
    ///
    /// # Errors
    /// The API server does not do as asked, by what it refused first: for people. All else was done, if all Leases could be
    /// looked at. What was not done comes with the next turn; what cannot be renewed is not held any more after its time.
    pub async fn turn(&self, shards: &[Listed], reading: &BTreeSet<String>) -> Result<(), String> {
        self.try_turn(shards, reading).await.map_err(|failure| self.in_words(&failure))
    }

    async fn try_turn(&self, shards: &[Listed], reading: &BTreeSet<String>) -> Result<(), Failure> {
        let leases = self.look(shards).await?;
        // What is done first, so that what comes after it is shared at once.
        let (known, renewed) = tokio::join!(self.renew_replica(&leases), self.renew_held(reading));
        let now = Instant::now();
        let missing = self.plan(shards, reading, &leases, now);
        let given_back = self.renew_held(reading).await;
        let calls = missing.into_iter().map(|shard| {
            let lease = leases.get(&self.shard_lease(&shard.id));
            self.take(shard, lease)
        });
        let (taken, ()) = tokio::join!(several(calls.collect()), self.forget(shards, &leases, now));
        // Whatever failed, all the rest was done: one Lease that cannot be written costs no shard but its own.
        known.and(renewed).and(given_back).and(taken)
    }

    /// What is in the way, for people.
    fn in_words(&self, failure: &Failure) -> String {
        match failure {
            Failure::Forbidden(said) => format!(
                "the API server forbids it: {said}; the service account needs the verbs list, create, update and delete on leases \
                 (coordination.k8s.io) in the namespace {}, as in manifests/forwarder",
                self.namespace
            ),
            failure => format!("leases in the namespace {}: {failure}", self.namespace),
        }
    }

    /// Marks what is held and is to be another's; returns the shards that are to be taken.
    fn plan<'s>(
        &self,
        shards: &'s [Listed],
        reading: &BTreeSet<String>,
        leases: &BTreeMap<String, Lease>,
        now: Instant,
    ) -> Vec<&'s Listed> {
        let mut state = self.lock();
        let open = self.open_shards(&state, shards, leases);
        let State { held, seen, .. } = &mut *state;
        // Whose Lease runs out holds it no more.
        let holder = |name: &str| {
            let lease = leases.get(name).filter(|_| seen.unchanged(name, now) < self.lasts);
            lease.and_then(Lease::holder)
        };
        let replicas = leases.values().filter(|lease| lease.metadata.labels[OF] == "replica");
        let mut replicas: BTreeSet<&str> =
            replicas.filter_map(|lease| holder(&lease.metadata.name)).collect();
        replicas.insert(&self.identity);
        let holders: BTreeMap<&str, Option<&str>> =
            open.iter().map(|shard| (shard.id.as_str(), holder(&self.shard_lease(&shard.id)))).collect();
        let plan = share::assign(&replicas, &holders);
        let is_mine = |shard: &str| plan.get(shard).is_some_and(|whose| *whose == self.identity);
        for (shard, held) in held.iter_mut() {
            // Once said it stays so: the reader has been told.
            held.leaving |= !is_mine(shard);
        }
        let missing =
            open.into_iter().filter(|shard| is_mine(&shard.id) && holders[shard.id.as_str()].is_none());
        missing.filter(|shard| !held.contains_key(&shard.id) && !reading.contains(&shard.id)).collect()
    }

    /// All Leases of the stream's readers, by name; what is held is brought into line with them.
    async fn look(&self, shards: &[Listed]) -> Result<BTreeMap<String, Lease>, Failure> {
        let labels = format!("{NAME}={},{STREAM_HASH}={}", self.name, self.hash);
        let list = self.connection.labelled::<Lease>(&self.collection, &labels).await?;
        // Of lists items lack what the list itself says. Whatever has no such label is none of ours.
        let ours = list.items.into_iter().filter(|lease| lease.metadata.labels.contains_key(OF));
        let leases: BTreeMap<String, Lease> =
            ours.map(|lease| (lease.metadata.name.clone(), lease)).collect();
        let mut state = self.lock();
        let states = leases.iter().map(|(name, lease)| (name.clone(), lease.state()));
        state.seen.look(states, Instant::now());
        let earliest = leases.values().filter_map(|lease| lease.annotation(SINCE)?.parse().ok()).min();
        state.since = earliest.or(state.since).or_else(|| Some(unix_millis()));
        state.held.retain(|shard, held| {
            let there = leases.get(&held.lease.metadata.name);
            let mine = there.filter(|there| {
                there.holder() == Some(&self.identity)
                    && there.spec.lease_transitions == held.lease.spec.lease_transitions
            });
            match mine {
                Some(lease) => held.lease = lease.clone(),
                None => tracing::warn!(
                    stream = self.stream,
                    shard,
                    holder = there.and_then(Lease::holder),
                    "lost a shard's lease: another replica goes on with it, from the last checkpoint that was kept"
                ),
            }
            mine.is_some()
        });
        state.others.clear();
        for shard in shards {
            let begins = shard.begins.as_deref();
            if let Some(held) = state.held.get_mut(&shard.id)
                && held.reached.is_of_another(begins)
            {
                held.reached = Reached { begins: shard.begins.clone(), ..Reached::default() };
                tracing::warn!(
                    stream = self.stream,
                    shard = shard.id,
                    "the stream was made again: its shard is begun anew"
                );
            }
            let Some(lease) = leases.get(&self.shard_lease(&shard.id)) else { continue };
            match lease.reached(begins) {
                Some(reached) => {
                    state.others.insert(shard.id.clone(), reached);
                }
                None if state.told.insert(shard.id.clone()) => tracing::error!(
                    stream = self.stream,
                    shard = shard.id,
                    lease = lease.metadata.name,
                    "the checkpoint on a shard's lease is not understood: the shard is left alone. Correct its annotation taffrail.io/checkpoint, or delete the lease to begin anew"
                ),
                None => {}
            }
        }
        Ok(leases)
    }

    /// Shards that may be read: not done by their Leases, and all that they came of is.
    fn open_shards<'s>(
        &self,
        state: &State,
        shards: &'s [Listed],
        leases: &BTreeMap<String, Lease>,
    ) -> Vec<&'s Listed> {
        let done = |shard: &str| state.others.get(shard).is_some_and(|reached| reached.finished);
        let listed = |parent: &str| shards.iter().any(|shard| shard.id == parent);
        let is_clear = |shard: &&Listed| shard.parents.iter().all(|parent| !listed(parent) || done(parent));
        let is_understood = |shard: &&Listed| {
            let lease = leases.get(&self.shard_lease(&shard.id));
            lease.is_none_or(|lease| lease.reached(shard.begins.as_deref()).is_some())
        };
        shards.iter().filter(|shard| !done(&shard.id)).filter(is_clear).filter(is_understood).collect()
    }

    /// Makes or renews the Lease by which others know of this replica.
    async fn renew_replica(&self, leases: &BTreeMap<String, Lease>) -> Result<(), Failure> {
        let name = self.replica_lease();
        let began = Instant::now();
        let renewed = self.lock().replica;
        let done = match leases.get(&name) {
            None => self.make(self.fresh(name, "replica")).await?,
            Some(_) if renewed.is_some_and(|at| at.elapsed() < self.every() / 2) => return Ok(()),
            Some(lease) => self.put(lease.clone().renewed(self.lasts)).await?,
        };
        if done.is_some() {
            self.lock().replica = Some(began);
        }
        Ok(())
    }

    /// Renews what is held, with its checkpoint, and gives back what is done or is to go.
    async fn renew_held(&self, reading: &BTreeSet<String>) -> Result<(), Failure> {
        let held: Vec<(String, Lease, bool)> = {
            let state = self.lock();
            let due = |shard: &str, held: &Held| {
                let goes = (held.leaving || held.reached.finished) && !reading.contains(shard);
                (goes || held.renewed.elapsed() >= self.every() / 2).then_some(goes)
            };
            let all = state.held.iter();
            let due = all.filter_map(|(shard, held)| {
                Some((shard.clone(), held.lease.clone().with_checkpoint(&held.reached), due(shard, held)?))
            });
            due.collect()
        };
        let calls = held.into_iter().map(|(shard, lease, goes)| self.renew(shard, lease, goes));
        several(calls.collect()).await
    }

    /// Renews the Lease of a shard that is held; one that `goes` is given back.
    async fn renew(&self, shard: String, lease: Lease, goes: bool) -> Result<(), Failure> {
        let began = Instant::now();
        let mut lease = lease.renewed(self.lasts);
        if goes {
            lease.spec.holder_identity = None;
        }
        // What somebody else has changed is seen with the next look.
        let Some(lease) = self.put(lease).await? else { return Ok(()) };
        let mut state = self.lock();
        if goes {
            if let Some(gone) = state.held.remove(&shard) {
                tracing::info!(
                    stream = self.stream,
                    shard,
                    finished = gone.reached.finished,
                    "gave back a shard"
                );
                state.others.insert(shard, gone.reached);
            }
        } else if let Some(held) = state.held.get_mut(&shard) {
            (held.lease, held.renewed) = (lease, began);
        }
        Ok(())
    }

    /// Takes a shard that nobody holds, or whose holder has not renewed it.
    async fn take(&self, shard: &Listed, lease: Option<&Lease>) -> Result<(), Failure> {
        let began = Instant::now();
        let begins = shard.begins.as_deref();
        let from = lease.and_then(Lease::holder).map(str::to_owned);
        let reached = lease.and_then(|lease| lease.reached(begins));
        let reached =
            reached.unwrap_or_else(|| Reached { begins: shard.begins.clone(), ..Reached::default() });
        let taken = match lease {
            None => {
                let mut fresh = self.fresh(self.shard_lease(&shard.id), "shard");
                let annotations = &mut fresh.metadata.annotations;
                annotations.insert(SHARD.to_owned(), shard.id.clone());
                annotations.insert(SINCE.to_owned(), self.since().to_string());
                self.make(fresh).await?
            }
            Some(lease) => {
                let mut lease = lease.clone().renewed(self.lasts);
                lease.spec.holder_identity = Some(self.identity.clone());
                lease.spec.acquire_time = lease.spec.renew_time.clone();
                lease.spec.lease_transitions = Some(lease.spec.lease_transitions.unwrap_or(0) + 1);
                self.put(lease).await?
            }
        };
        // Another was quicker.
        let Some(lease) = taken else { return Ok(()) };
        tracing::info!(
            stream = self.stream,
            shard = shard.id,
            from,
            after = reached.sequence,
            "took a shard"
        );
        let held = Held { lease, reached, renewed: began, leaving: false };
        self.lock().held.insert(shard.id.clone(), held);
        Ok(())
    }

    /// Deletes what nobody needs any more: Leases of shards that are done and not listed, and of replicas long gone.
    /// What cannot be deleted is told of and stays: nothing is the worse for it.
    async fn forget(&self, shards: &[Listed], leases: &BTreeMap<String, Lease>, now: Instant) {
        let listed: BTreeSet<&str> = shards.iter().map(|shard| shard.id.as_str()).collect();
        let old: Vec<&Lease> = {
            let state = self.lock();
            let is_old = |lease: &&Lease| match lease.annotation(SHARD) {
                Some(shard) => {
                    !listed.contains(shard) && lease.reached(None).is_some_and(|reached| reached.finished)
                }
                None => state.seen.unchanged(&lease.metadata.name, now) >= self.lasts * FORGOTTEN_AFTER,
            };
            leases.values().filter(is_old).collect()
        };
        let calls = old.into_iter().map(|lease| self.delete(lease));
        if let Err(failure) = several(calls.collect()).await {
            let trouble = self.in_words(&failure);
            if self.lock().told.insert(trouble.clone()) {
                tracing::warn!(
                    stream = self.stream,
                    trouble,
                    "could not delete a lease that nobody needs any more"
                );
            }
        }
    }

    /// Gives back all that is held, each with its checkpoint, and is not there any more for others. For the end: nothing is
    /// read then.
    ///
    /// # Errors
    /// The API server does not do as asked. The others find out by themselves, later.
    pub async fn leave(&self) -> Result<(), String> {
        self.lock().held.values_mut().for_each(|held| held.leaving = true);
        let left = async {
            // What somebody has changed since the last look would not be given back.
            let leases = self.look(&[]).await?;
            let given_back = self.renew_held(&BTreeSet::new()).await;
            let gone = match leases.get(&self.replica_lease()) {
                Some(lease) => self.delete(lease).await,
                None => Ok(()),
            };
            given_back.and(gone)
        };
        match tokio::time::timeout(self.lasts, left).await {
            Ok(left) => left.map_err(|failure| failure.to_string()),
            Err(_) => Err("the API server does not answer".to_owned()),
        }
    }

    fn is_valid(&self, held: &Held) -> bool {
        held.renewed.elapsed() < self.lasts
    }

    fn shard_lease(&self, shard: &str) -> String {
        // As Kinesis names them (`shardId-000000000000`) but for capital letters, which no name of an object has.
        format!("{}-{}-{}", self.name, self.hash, shard.to_ascii_lowercase())
    }

    fn replica_lease(&self) -> String {
        format!("{}-{}-replica-{:016x}", self.name, self.hash, fnv1a(self.identity.as_bytes()))
    }

    /// A Lease that is not there yet, held by this replica.
    fn fresh(&self, name: String, of: &str) -> Lease {
        let text = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let labels = [
            ("app.kubernetes.io/managed-by", "taffrail"),
            (NAME, self.name.as_str()),
            (STREAM_HASH, self.hash.as_str()),
            (OF, of),
        ];
        let lease = Lease {
            api_version: "coordination.k8s.io/v1".to_owned(),
            kind: "Lease".to_owned(),
            metadata: Meta {
                name,
                resource_version: String::new(),
                labels: labels.map(text).into(),
                annotations: [(STREAM, self.stream.as_str())].map(text).into(),
            },
            spec: Spec { holder_identity: Some(self.identity.clone()), ..Spec::default() },
        };
        let mut lease = lease.renewed(self.lasts);
        lease.spec.acquire_time = lease.spec.renew_time.clone();
        lease.spec.lease_transitions = Some(0);
        lease
    }

    /// Makes a Lease; `None` if it is there already.
    async fn make(&self, lease: Lease) -> Result<Option<Lease>, Failure> {
        match self.connection.create(&self.collection, &lease).await {
            // Of a collection: there is no such namespace.
            Err(Failure::NotFound(what)) => Err(Failure::NotFound(what)),
            made => unless_changed(made),
        }
    }

    /// Puts a Lease in the place of the version that it came from; `None` if that is not the present one any more.
    async fn put(&self, lease: Lease) -> Result<Option<Lease>, Failure> {
        unless_changed(self.connection.replace(&self.collection, &lease.metadata.name, &lease).await)
    }

    async fn delete(&self, lease: &Lease) -> Result<(), Failure> {
        let Meta { name, resource_version, .. } = &lease.metadata;
        unless_changed(self.connection.delete(&self.collection, name, resource_version).await).map(|_| ())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` where somebody else was quicker: what it is now comes with the next look.
fn unless_changed<T>(done: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(Failure::Conflict(_) | Failure::NotFound(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Makes all of these calls, a few at a time and none for want of another. What the first of them, in their order, has failed
/// with: what is told of is then the same from turn to turn.
async fn several<C: Future<Output = Result<(), Failure>>>(calls: Vec<C>) -> Result<(), Failure> {
    let numbered = calls.into_iter().enumerate().map(|(number, call)| async move { (number, call.await) });
    // Collected at once: of the iterator itself, held while all this goes on, the compiler could not see that it is `Send`.
    let numbered: Vec<_> = numbered.collect();
    let mut done: Vec<_> = stream::iter(numbered).buffer_unordered(AT_ONCE).collect().await;
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().try_for_each(|(_, done)| done)
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
