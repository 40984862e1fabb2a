use super::*;
use crate::catalog::origin::{Container, Origin};
use crate::stats::Counter;

fn origin(namespace: &str) -> Arc<Origin> {
    let [pod, uid, name] = ["web-0", "u", "app"].map(str::to_owned);
    Arc::new(Origin::Container(Container { namespace: namespace.to_owned(), pod, uid, name }))
}

fn view_of(stats: &Arc<OutputStats>) -> View {
    view(&[("search", stats)])
}

/// An agent that has these outputs.
pub fn view(outputs: &[(&str, &Arc<OutputStats>)]) -> View {
    let outputs = outputs.iter().map(|(name, stats)| ((*name).to_owned(), Arc::clone(stats)));
    View {
        outputs: outputs.collect(),
        workers: Vec::new(),
        catalogs: Vec::new(),
        files: Vec::new(),
        retained: None,
        metadata: None,
        taps: Arc::default(),
    }
}

fn place() -> Place {
    Place {
        node: "n1".to_owned(),
        pod: Some(("logging".to_owned(), "taffrail-x".to_owned())),
        retained_limit: 1 << 20,
        kinds: BTreeMap::from([("search".to_owned(), "elasticsearch")]),
    }
}

/// The records, of which each is a document but for its time.
fn taken(recorder: &mut Recorder, view: &View, errors: u64) -> Vec<Value> {
    recorder.take(view, &place(), errors).iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

fn of_kind<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record[FIELD]["kind"] == kind).collect()
}

#[test]
fn what_is_told_is_of_the_time_since_the_last_records() {
    let (mut recorder, stats) = (Recorder::new(Instant::now()), Arc::new(OutputStats::default()));
    let mut view = view_of(&stats);
    view.files = vec![Arc::new(Counter::default())];
    view.files[0].add(3);
    let container = stats.container(origin("shop"));
    let delivers = |records, bytes| {
        stats.records_delivered.add(records);
        stats.delivered_bytes.add(bytes);
        container.records_delivered.add(records);
        container.delivered_bytes.add(bytes);
    };
    delivers(10, 1000);
    container.lag_bytes.set(77);
    stats.retries.add(2);
    let first = taken(&mut recorder, &view, 5);
    let agent = &of_kind(&first, "agent")[0];
    assert_eq!(
        agent["kubernetes"],
        json!({ "node": { "name": "n1" }, "namespace": "logging", "pod": { "name": "taffrail-x" } })
    );
    let told = &agent[FIELD];
    assert_eq!((&told["files"], &told["containers"], &told["errors"]), (&json!(3), &json!(1), &json!(5)));
    assert_eq!(
        (&told["retained_limit"], &told["version"]),
        (&json!(1 << 20), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert!(told["memory"].as_u64().unwrap() > 1 << 20 && told["cpu"].as_f64().unwrap() > 0.0);
    let output = of_kind(&first, "output")[0];
    assert!(output["message"].as_str().unwrap().starts_with("output search: 10 records in "), "{output}");
    let told = &output[FIELD];
    for (field, value) in
        [("records", 10), ("bytes", 1000), ("lag_bytes", 77), ("retries", 2), ("refused", 0)]
    {
        assert_eq!(told[field], value, "{field}");
    }
    assert_eq!((&told["output"], &told["type"]), (&json!("search"), &json!("elasticsearch")));
    let volume = of_kind(&first, "volume")[0];
    assert_eq!((&volume[FIELD]["namespace"], &volume[FIELD]["bytes"]), (&json!("shop"), &json!(1000)));
    assert!(of_kind(&first, "lost").is_empty());

    delivers(1, 100);
    let second = taken(&mut recorder, &view, 5);
    assert_eq!(of_kind(&second, "output")[0][FIELD]["records"], 1);
    assert_eq!(of_kind(&second, "agent")[0][FIELD]["errors"], 0);
    assert_eq!(of_kind(&second, "volume")[0][FIELD]["bytes"], 100);
    // Nothing was delivered: no volume is told of.
    assert!(of_kind(&taken(&mut recorder, &view, 5), "volume").is_empty());
}

#[test]
fn what_there_may_be_much_of_is_told_last() {
    let (mut recorder, stats) = (Recorder::new(Instant::now()), Arc::new(OutputStats::default()));
    let view = view(&[("one", &stats), ("two", &Arc::default())]);
    stats.container(origin("shop")).delivered_bytes.add(1);
    stats.losses.add(&origin("shop"), LossReason::Deleted, Loss::unread(1));
    let records = taken(&mut recorder, &view, 0);
    let kinds: Vec<&str> = records.iter().map(|record| record[FIELD]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["agent", "output", "lost", "output", "volume"]);
}

#[test]
fn a_container_that_came_and_went_between_two_records_is_told_with_its_labels() {
    let (mut recorder, stats) = (Recorder::new(Instant::now()), Arc::new(OutputStats::default()));
    let view = view_of(&stats);
    for team in ["blue", "red", "blue"] {
        let container = stats.container(origin("shop"));
        container.set_labels([("team".to_owned(), team.to_owned())].into());
        container.records_delivered.add(1);
        container.delivered_bytes.add(100);
        stats.forget(&container);
    }
    let records = taken(&mut recorder, &view, 0);
    let told: Vec<_> = of_kind(&records, "volume")
        .iter()
        .map(|record| (record["labels"]["team"].as_str().unwrap(), record[FIELD]["bytes"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [("blue", 200), ("red", 100)]);
}

#[test]
fn losses_are_told_by_namespace_and_reason_and_those_of_nobody_known_too() {
    let (mut recorder, stats) = (Recorder::new(Instant::now()), Arc::new(OutputStats::default()));
    let view = view_of(&stats);
    let told = |recorder: &mut Recorder| -> Vec<(String, String, u64)> {
        let records = taken(recorder, &view, 0);
        let text = |record: &Value, field: &str| record[FIELD][field].as_str().unwrap().to_owned();
        let lost = of_kind(&records, "lost").into_iter();
        lost.map(|r| (text(r, "namespace"), text(r, "reason"), r[FIELD]["bytes"].as_u64().unwrap())).collect()
    };
    stats.losses.add(&origin("shop"), LossReason::Deleted, Loss::unread(10));
    stats.losses.add(&origin("bank"), LossReason::Deleted, Loss::unread(5));
    let row = |namespace: &str, bytes| (namespace.to_owned(), "deleted".to_owned(), bytes);
    assert_eq!(told(&mut recorder), [row("bank", 5), row("shop", 10)]);
    assert_eq!(told(&mut recorder), []);
    stats.losses.add(&origin("shop"), LossReason::Deleted, Loss::unread(1));
    // So many others that the first ones are told apart no more.
    for namespace in 0..=crate::stats::Losses::MOST_CONTAINERS {
        stats.losses.add(&origin(&format!("ns-{namespace}")), LossReason::Deleted, Loss::unread(1));
    }
    let rows = told(&mut recorder);
    assert!(rows.iter().any(|row| row.0 == Volumes::OTHER));
    assert_eq!(rows.iter().map(|row| row.2).sum::<u64>(), 2 + crate::stats::Losses::MOST_CONTAINERS as u64);
}
