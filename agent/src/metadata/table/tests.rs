//! The table by itself: what it gives out, keeps and forgets.

use serde_json::{Value, json};

use super::*;

fn table(config: MetadataConfig) -> Table {
    Table::new(config, Saved::default())
}

/// A pod `shop/web` of a uid, with a label `v`.
fn web(uid: &str, version: &str) -> Value {
    json!({
        "metadata": { "namespace": "shop", "name": "web", "uid": uid, "labels": { "v": version } },
        "spec": { "containers": [{ "name": "app", "image": "web:1" }] },
    })
}

fn is(pod: Value) -> Change {
    Change::Is(Box::new(serde_json::from_value(pod).unwrap()))
}

fn gone(pod: Value) -> Change {
    Change::Gone(Box::new(serde_json::from_value(pod).unwrap()))
}

fn container(uid: &str) -> Container {
    Container { namespace: "shop".into(), pod: "web".into(), uid: uid.into(), name: "app".into() }
}

fn label(table: &Table, claim: &Claim) -> Option<String> {
    table.find(claim).map(|known| known.pod.labels["v"].clone())
}

fn later(table: &Table, time: Duration) -> SystemTime {
    table.started + time
}

#[test]
fn a_change_is_seen_by_the_revision_and_wakes_and_none_is_not() {
    let table = table(MetadataConfig::default());
    let wake = Arc::new(Wake::default());
    table.subscribe(wake.clone());
    let claim = table.claim(&container("u1"));
    let before = table.revision();
    table.apply([is(web("u1", "1"))]);
    wake.wait(Duration::from_secs(60));
    assert_ne!(table.revision(), before);
    let (revision, first) = (table.revision(), table.find(&claim).unwrap());
    // Kubelet reports something that nobody wants to know.
    let mut same = web("u1", "1");
    same["metadata"]["resourceVersion"] = "17".into();
    same["status"] = json!({ "phase": "Running" });
    table.apply([is(same)]);
    assert_eq!(table.revision(), revision);
    assert!(Arc::ptr_eq(&first, &table.find(&claim).unwrap()));
    table.apply([is(web("u1", "2"))]);
    assert_eq!(label(&table, &claim).unwrap(), "2");
    assert_eq!(first.pod.labels["v"], "1", "what was given out stays as it was");
}

#[test]
fn a_pod_reborn_under_its_name_is_another() {
    let table = table(MetadataConfig::default());
    let (first, second) = (table.claim(&container("u1")), table.claim(&container("u2")));
    table.apply([is(web("u1", "1"))]);
    assert_eq!((label(&table, &first).as_deref(), label(&table, &second)), (Some("1"), None));
    table.apply([gone(web("u1", "1")), is(web("u2", "2"))]);
    assert_eq!(label(&table, &first).as_deref(), Some("1"));
    assert_eq!(label(&table, &second).as_deref(), Some("2"));
}

#[test]
fn a_deleted_pod_stays_while_it_is_read_and_a_while_for_those_who_find_its_log_late() {
    let table = table(MetadataConfig::default());
    let claim = table.claim(&container("u1"));
    table.apply([is(web("u1", "1")), is(web("u2", "2"))]);
    table.only(&BTreeSet::new());
    table.prune(later(&table, KEEP_DELETED / 2));
    assert!(table.find(&claim).is_some() && table.save().pods.len() == 2);
    table.prune(later(&table, KEEP_DELETED * 2));
    assert!(table.find(&claim).is_some() && table.save().pods.len() == 1, "nobody reads the other");
    let again = table.claim(&container("u1"));
    drop(claim);
    table.prune(later(&table, KEEP_DELETED * 2));
    assert!(table.find(&again).is_some(), "two read it, and one still does");
    drop(again);
    table.prune(later(&table, KEEP_DELETED * 2));
    assert!(table.save().pods.is_empty());
}

#[test]
fn what_an_earlier_process_knew_is_known_and_goes_when_the_server_does_not_know_it() {
    let before = table(MetadataConfig::default());
    before.apply([is(web("u1", "1")), is(web("u2", "2"))]);
    let table = Table::new(MetadataConfig::default(), before.save());
    let claim = table.claim(&container("u1"));
    assert_eq!(label(&table, &claim).as_deref(), Some("1"));
    assert!(!table.is_complete() && !table.knows_nobody());
    table.apply([is(web("u2", "2"))]);
    let seen =
        table.save().pods.into_iter().map(|pod| pod.key).filter(|key| *key == PodKey::of(&container("u2")));
    table.only(&seen.collect());
    assert!(table.is_complete());
    let deleted = |uid: &str| {
        let key = PodKey::of(&container(uid));
        table.save().pods.iter().find(|pod| pod.key == key).unwrap().deleted.is_some()
    };
    assert!(deleted("u1") && !deleted("u2"));
    assert_eq!(label(&table, &claim).as_deref(), Some("1"), "it is being read");
    table.apply([is(web("u1", "1"))]);
    assert!(!deleted("u1"), "it is there after all");
}

#[test]
fn the_end_of_a_static_pods_old_object_is_not_the_end_of_its_new_one() {
    let table = table(MetadataConfig::default());
    let mirror = |uid: &str| {
        let mut pod = web(uid, "1");
        pod["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "hash" });
        pod
    };
    table.apply([is(mirror("a")), is(mirror("b")), gone(mirror("a"))]);
    assert_eq!(table.save().pods[0].deleted, None);
    table.apply([gone(mirror("b"))]);
    assert!(table.save().pods[0].deleted.is_some());
}

#[test]
fn an_annotation_does_not_make_a_pod_another_pods_facts() {
    let table = table(MetadataConfig::default());
    let claim = table.claim(&container("victim"));
    table.apply([is(web("victim", "true"))]);
    for (namespace, name) in [("evil", "web"), ("shop", "other")] {
        let mut pod = web("e", "false");
        pod["metadata"]["namespace"] = namespace.into();
        pod["metadata"]["name"] = name.into();
        pod["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "victim" });
        table.apply([is(pod)]);
    }
    assert_eq!(label(&table, &claim).as_deref(), Some("true"));
}

#[test]
fn namespaces_are_asked_for_while_they_are_on_the_node_and_no_oftener_than_they_change() {
    let texts = toml::from_str::<MetadataConfig>("namespace_labels = [\"*\"]").unwrap();
    let table = table(texts);
    let claim = table.claim(&container("u1"));
    table.apply([is(web("u1", "1"))]);
    assert!(table.is_partial(&table.find(&claim).unwrap(), "app"));
    let now = Instant::now();
    assert_eq!(table.namespaces_due(now), (vec!["shop".to_owned()], None));
    let facts = NamespaceFacts { labels: [("team".to_owned(), "a".to_owned())].into(), ..Default::default() };
    table.set_namespace("shop", facts.clone());
    let revision = table.revision();
    assert_eq!(table.find(&claim).unwrap().namespace.as_deref(), Some(&facts));
    let (due, next) = table.namespaces_due(Instant::now());
    let age = next.unwrap() - now;
    assert!(
        due.is_empty() && age >= NAMESPACE_AGE.mul_f64(0.79) && age <= NAMESPACE_AGE.mul_f64(1.21),
        "{age:?}"
    );
    table.set_namespace("shop", facts);
    assert_eq!(table.revision(), revision, "the same again is no news");
    let soon = Instant::now() + Duration::from_secs(7);
    table.put_off_namespace("shop", soon);
    assert_eq!(table.namespaces_due(Instant::now()), (Vec::new(), Some(soon)));
    // It is left when nobody of it is there or read.
    table.only(&BTreeSet::new());
    assert_eq!(table.namespaces_due(soon).0, ["shop"]);
    drop(claim);
    assert_eq!(table.namespaces_due(soon), (Vec::new(), None));
}

#[test]
fn a_container_is_known_in_part_until_its_first_run_is() {
    let table = table(MetadataConfig::default());
    let claim = table.claim(&container("u1"));
    table.apply([is(web("u1", "1"))]);
    assert!(table.is_partial(&table.find(&claim).unwrap(), "app"));
    let mut runs = web("u1", "1");
    runs["status"]["containerStatuses"] = json!([{ "name": "app", "containerID": "containerd://a" }]);
    table.apply([is(runs)]);
    assert!(!table.is_partial(&table.find(&claim).unwrap(), "app"));
    let without = toml::from_str::<MetadataConfig>("fields = [\"*\", \"!container.id\"]").unwrap();
    let table = super::tests::table(without);
    let claim = table.claim(&container("u1"));
    table.apply([is(web("u1", "1"))]);
    assert!(!table.is_partial(&table.find(&claim).unwrap(), "app"));
}
