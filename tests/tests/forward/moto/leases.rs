//! Several replicas of `taffrail forward --kinesis` share a stream's shards, by Leases of a real API server.

use super::kit::{OWNER, World};
use super::lambda::own;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use taffrail_tests::agent::{self, Agent};
use taffrail_tests::kinesis::Kinesis;
use taffrail_tests::kubernetes::Kubernetes;
use taffrail_tests::{eventually, let_pass, seconds, seed};

/// A stream, replicas that read it, and an account that may do what the manifests let it.
struct Replicas {
    world: World,
    kinesis: Kinesis,
    namespace: String,
    kubeconfig: PathBuf,
    records: u32,
}

impl Replicas {
    fn of(shards: usize) -> Replicas {
        let (world, cluster) = (World::new(1), Kubernetes::shared());
        let account = cluster
            .account(json!([{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
            "verbs": ["list", "create", "update", "delete"] }]));
        let (namespace, kubeconfig) = (cluster.namespace(), account.kubeconfig());
        Replicas { world, kinesis: Kinesis::open_with(shards), namespace, kubeconfig, records: 0 }
    }

    fn config(&self, name: &str) -> String {
        let leases = format!(
            "dead_letters = \"s3://letters/none\"\n[forward.leases]\nnamespace = \"{}\"\nidentity = \"{name}\"\nduration = \"3s\"",
            self.namespace
        );
        // Each has a disk of its own.
        self.world.config(&leases).replace("/forwarder\"", &format!("/forwarder-{name}\""))
    }

    fn way(&self, kubeconfig: &Path) -> Vec<String> {
        vec![
            format!("AWS_ENDPOINT_URL_KINESIS=http://{}", self.kinesis.address()),
            format!("KUBECONFIG={}", kubeconfig.display()),
        ]
    }

    fn start(&self, name: &str) -> Agent {
        self.world.forwarder_by(&self.config(name), &self.way(&self.kubeconfig))
    }

    /// Puts records on a shard.
    fn put(&mut self, shard: usize, records: u32) {
        for _ in 0..records {
            self.records += 1;
            let ours = (OWNER, self.world.group.as_str(), "shop/web-0/app");
            self.kinesis.put(shard, &self.world.record(ours, &[&own(self.records, "shop", "web-0", "{}")]));
        }
    }

    /// Waits until every record is in the index; that none is there twice is by its `_id`.
    #[track_caller]
    fn all_arrive(&self) {
        let wanted = self.records as usize;
        let found = eventually(seconds(90), "the documents", || {
            let documents = self.world.forwarded.documents()?;
            if documents.len() >= wanted { Ok(documents) } else { Err(documents.len().to_string()) }
        });
        assert_eq!(found.len(), wanted);
    }

    fn leases(&self) -> Vec<Value> {
        let target = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace);
        let list = Kubernetes::shared().send("GET", &target, &Value::Null);
        list["items"].as_array().expect("leases").clone()
    }

    /// How many shards each replica holds, by the name that it was given; those of nobody under an empty one.
    fn shares(&self) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        let of_shards = |lease: &&Value| lease["metadata"]["labels"]["taffrail.io/lease-of"] == "shard";
        for lease in self.leases().iter().filter(of_shards) {
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            *shares.entry(holder.split('_').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        shares
    }

    #[track_caller]
    fn come_to(&self, wanted: &[(&str, usize)]) {
        let wanted: BTreeMap<String, usize> =
            wanted.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
        eventually(seconds(60), "the shards to be shared", || {
            let shares = self.shares();
            if shares == wanted { Ok(()) } else { Err(format!("{shares:?}")) }
        });
    }

    /// The checkpoint on the lease of the only shard: its sequence number, and who holds it.
    fn checkpoint(&self) -> (u64, String) {
        let leases = self.leases();
        let lease =
            leases.iter().find(|lease| lease["metadata"]["annotations"]["taffrail.io/shard"].is_string());
        let Some(lease) = lease else { return (0, String::new()) };
        let text = lease["metadata"]["annotations"]["taffrail.io/checkpoint"].as_str().unwrap_or("{}");
        let reached: Value = serde_json::from_str(text).expect("a checkpoint");
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let sequence = reached["sequence"].as_str().and_then(|number| number.parse().ok());
        (sequence.unwrap_or(0), holder.split('_').next().unwrap_or_default().to_owned())
    }

    /// No reader has done what none may.
    fn behaved(&self) {
        let (violations, ..) = self.kinesis.seen();
        assert!(violations.is_empty(), "{violations:?}");
    }
}

#[test]
fn replicas_share_the_shards_and_those_of_one_that_is_killed_are_taken_over() {
    let mut replicas = Replicas::of(4);
    (0..4).for_each(|shard| replicas.put(shard, 10));
    let first = replicas.start("a");
    replicas.come_to(&[("a", 4)]);
    let second = replicas.start("b");
    replicas.come_to(&[("a", 2), ("b", 2)]);
    (0..4).for_each(|shard| replicas.put(shard, 10));
    replicas.all_arrive();
    let third = replicas.start("c");
    eventually(seconds(60), "three to share four", || {
        let shares = replicas.shares();
        let mut loads: Vec<usize> = shares.values().copied().collect();
        loads.sort_unstable();
        if loads == [1, 1, 2] { Ok(()) } else { Err(format!("{shares:?}")) }
    });
    first.kill9();
    (0..4).for_each(|shard| replicas.put(shard, 10));
    replicas.come_to(&[("b", 2), ("c", 2)]);
    replicas.all_arrive();
    // Whoever ends gives its shards back at once, where they were.
    let ended = second.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("could not give back"), "{}", ended.stderr);
    replicas.come_to(&[("c", 4)]);
    (0..4).for_each(|shard| replicas.put(shard, 5));
    replicas.all_arrive();
    let ended = third.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    replicas.come_to(&[("", 4)]);
    // All that was settled is kept: whoever comes next sends nothing twice.
    (0..4).for_each(|shard| replicas.put(shard, 1));
    let last = replicas.start("d");
    replicas.all_arrive();
    let said = last.terminate().stderr;
    assert!(said.contains("records=4 ") && said.contains("duplicates=0"), "{said}");
    replicas.behaved();
}

#[test]
fn a_replica_that_was_frozen_writes_no_checkpoint_over_a_newer_one() {
    let mut replicas = Replicas::of(1);
    let mut random = fastrand::Rng::with_seed(seed());
    let (a, b) = (replicas.start("a"), replicas.start("b"));
    let mut names = [("a", &a), ("b", &b)];
    let watched = AtomicBool::new(true);
    for _ in 0..3 {
        let holder = eventually(seconds(60), "a holder", || {
            let (_, holder) = replicas.checkpoint();
            if holder.is_empty() { Err("nobody".to_owned()) } else { Ok(holder) }
        });
        names.sort_by_key(|(name, _)| *name != holder);
        let [(_, frozen), (other, _)] = names;
        replicas.put(0, 20);
        // Whatever it is at: reading, sending, renewing.
        let_pass(Duration::from_millis(random.u64(0..1500)));
        frozen.freeze();
        replicas.put(0, 20);
        let all = u64::from(replicas.records);
        eventually(seconds(60), "the other to go on", || {
            let found = replicas.checkpoint();
            if found == (all, other.to_owned()) { Ok(()) } else { Err(format!("{found:?}")) }
        });
        let lost = frozen.stderr().matches("lost a shard's lease").count();
        watched.store(true, Ordering::Relaxed);
        std::thread::scope(|scope| {
            // From here on a checkpoint that goes back is what must not be.
            let watching = scope.spawn(|| {
                let mut seen = Vec::new();
                while watched.load(Ordering::Relaxed) {
                    seen.push(replicas.checkpoint());
                }
                seen
            });
            frozen.thaw();
            frozen.has_said("lost a shard's lease", lost + 1);
            // Its reader ends too, with whatever it had in hand.
            let_pass(Duration::from_secs(2));
            watched.store(false, Ordering::Relaxed);
            let seen = watching.join().expect("what was seen");
            assert!(seen.iter().all(|found| *found == (all, other.to_owned())), "{seen:?}");
        });
    }
    replicas.all_arrive();
    replicas.behaved();
}

#[test]
fn shards_are_split_while_replicas_come_and_go_and_children_follow_their_parents() {
    let mut replicas = Replicas::of(2);
    let a = replicas.start("a");
    let b = replicas.start("b");
    replicas.put(0, 40);
    replicas.put(1, 40);
    replicas.come_to(&[("a", 1), ("b", 1)]);
    let [left, right] = replicas.kinesis.split(0);
    replicas.put(left, 30);
    replicas.put(right, 30);
    a.kill9();
    let [further, last] = replicas.kinesis.split(left);
    let c = replicas.start("c");
    replicas.put(further, 20);
    replicas.put(last, 20);
    replicas.put(1, 20);
    replicas.all_arrive();
    // The parents are done, and are nobody's.
    eventually(seconds(60), "four open shards to be shared", || {
        let shares = replicas.shares();
        let of = |name: &str| shares.get(name).copied().unwrap_or(0);
        if (of("b"), of("c"), of("")) == (2, 2, 2) { Ok(()) } else { Err(format!("{shares:?}")) }
    });
    assert_eq!(b.terminate().code, Some(0));
    replicas.put(right, 5);
    replicas.put(further, 5);
    replicas.all_arrive();
    assert_eq!(c.terminate().code, Some(0));
    replicas.behaved();
}

#[test]
fn what_leases_need_and_is_not_there_is_told() {
    let replicas = Replicas::of(1);
    let cluster = Kubernetes::shared();
    let powerless = cluster.account(json!([]));
    let forwarder =
        replicas.world.forwarder_by(&replicas.config("a"), &replicas.way(&powerless.kubeconfig()));
    forwarder.has_said("the verbs list, create, update and delete on leases", 1);
    assert_eq!(forwarder.terminate().code, Some(0));
    let alone = agent::run_by(
        &super::kit::credentials(&[]),
        &["forward", "--kinesis", "s"],
        &replicas.config("a"),
        &replicas.world.node,
    );
    assert_eq!(alone.code, Some(1));
    assert!(alone.stderr.contains("needs the API server"), "{}", alone.stderr);
}
