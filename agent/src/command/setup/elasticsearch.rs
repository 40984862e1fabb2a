//! `taffrail setup elasticsearch`: index templates and lifecycles, as the configuration has them.
//!
//! In: the Elasticsearch outputs. Out: a plan for each: a component template of mappings and one of settings, the index
//! template that is composed of them, and a lifecycle where the server has any. It asks the server what it can, and goes by
//! that, not by a version. Touches only what bears its mark, makes no index, and deletes no document.

mod server;
mod templates;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::Value;

use self::server::{Lifecycle, Server};
use self::templates::{Design, is_ours, is_within};
use super::Options;
use super::plan::{Plan, Sign, Step};
use crate::command::progress::Progress;
use crate::config::template::Safe;
use crate::config::{Config, ElasticsearchConfig, OutputConfig, Target};

/// Elasticsearch's own limit of shards on a node, unless somebody has raised it (`cluster.max_shards_per_node`).
const SHARDS_OF_NODE: u64 = 1000;

/// So many streams a template with a namespace is taken to make where nobody says how many.
const STREAMS: u64 = 20;

/// A request that puts something right.
pub struct Deed {
    server: Arc<Server>,
    path: String,
    /// What is put there, or that it is deleted.
    body: Option<Value>,
}

/// Makes a plan for all outputs and carries it out. `namespaces`: how many there are or will be.
///
/// # Errors
/// A server could not be asked.
pub async fn setup(config: &Config, options: Options, namespaces: Option<u64>) -> Result<ExitCode, String> {
    Ok(planned(config, options, namespaces).await?.carry_out(options, act).await)
}

/// The same at the start of an agent, for the outputs that ask for it, each on its own. Nobody is asked.
///
/// # Errors
/// A server could not be asked, or refused something.
pub async fn at_start(config: &Config) -> Result<(), String> {
    let mut failed = Vec::new();
    for (name, output) in outputs(config).filter(|(_, output)| output.setup.at_start) {
        let mut plan = Plan::new();
        let done = match add(&mut plan, config, output, false, None).await {
            Ok(()) => plan.carry_out_quietly(act).await,
            Err(error) => Err(error),
        };
        failed.extend(done.err().map(|error| format!("output {name}: {error}")));
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

async fn planned(config: &Config, options: Options, namespaces: Option<u64>) -> Result<Plan<Deed>, String> {
    let mut plan = Plan::new();
    let mut any = false;
    for (name, output) in outputs(config) {
        any = true;
        add(&mut plan, config, output, options.remove, namespaces)
            .await
            .map_err(|error| format!("output {name}: {error}"))?;
    }
    if any { Ok(plan) } else { Err("no output of type `elasticsearch` in this configuration".to_owned()) }
}

fn outputs(config: &Config) -> impl Iterator<Item = (&str, &ElasticsearchConfig)> {
    config.outputs.iter().filter_map(|(name, output)| match output {
        OutputConfig::Elasticsearch(output) => Some((name.as_str(), output)),
        _ => None,
    })
}

async fn act(deed: &Deed, _: &Progress) -> Result<(), String> {
    match &deed.body {
        Some(body) => deed.server.put(&deed.path, body).await,
        None => deed.server.delete(&deed.path).await,
    }
}

/// Steps for an output.
async fn add(
    plan: &mut Plan<Deed>,
    config: &Config,
    output: &ElasticsearchConfig,
    remove: bool,
    namespaces: Option<u64>,
) -> Result<(), String> {
    let server = Arc::new(Server::open(output)?);
    let can = server.abilities().await?;
    let design = Design::of(config, output, &can);
    if design.is_stream && !can.data_streams {
        return Err(format!(
            "the server knows no data streams, so that {} cannot be one: write `index = \"logs-{{date}}\"`",
            design.pattern
        ));
    }
    if remove {
        // What uses another thing goes first.
        for (what, path, place) in design.places(&can).into_iter().rev() {
            if let Some(step) = removal(&server, &what, &path, &place).await? {
                plan.add(step);
            }
        }
        return Ok(());
    }
    add_lifecycle(plan, &server, &design, can.lifecycle).await?;
    let custom = server.has(&format!("/_component_template/{}@custom", design.name)).await?;
    for (kind, body) in [("mappings", design.mappings(&can)), ("settings", design.settings(&can))] {
        let path = format!("/_component_template/{}@{kind}", design.name);
        let what = format!("component template {}@{kind}", design.name);
        plan.add(upkeep(&server, &what, &path, body, COMPONENT).await?);
    }
    let path = format!("/_index_template/{}", design.name);
    let what = format!("index template {} for {}", design.name, design.pattern);
    let mut step = upkeep(&server, &what, &path, design.template(custom), TEMPLATE).await?;
    for other in strangers(&server, &design).await? {
        step = step.detail(format!(
            "{other} matches as well and is not of this template: if it is not Taffrail's, choose another name"
        ));
    }
    if let Some(line) = shards(config, output, namespaces) {
        step = step.detail(line);
    }
    if can.flat_type.is_none() {
        step = step.detail(
            "the server has no type for objects of any shape: what is in `app` and labels is kept and shown, not searched",
        );
    }
    plan.add(step);
    Ok(())
}

/// Where in a reply a thing stands.
type Place = String;
const COMPONENT: &str = "/component_templates/0/component_template";
const TEMPLATE: &str = "/index_templates/0/index_template";

/// Makes it, changes it, or leaves it.
async fn upkeep(
    server: &Arc<Server>,
    what: &str,
    path: &str,
    body: Value,
    place: &str,
) -> Result<Step<Deed>, String> {
    let deed = |body| Deed { server: Arc::clone(server), path: path.to_owned(), body: Some(body) };
    let Some(there) = server.get(path).await? else {
        return Ok(Step::new(Sign::Create, what).deed(deed(body)));
    };
    let there = there.pointer(place).cloned().unwrap_or_default();
    if !is_ours(&there) {
        return Ok(
            Step::new(Sign::Same, what).wrong("it is there, and was not made by Taffrail: left as it is")
        );
    }
    let step = Step::new(Sign::Same, what);
    Ok(match is_within(&body, &there) {
        Ok(()) => step,
        Err(differs) => step.change(
            format!("{differs}; indices that are there keep theirs until the next rollover"),
            deed(body),
        ),
    })
}

async fn removal(
    server: &Arc<Server>,
    what: &str,
    path: &str,
    place: &str,
) -> Result<Option<Step<Deed>>, String> {
    let Some(there) = server.get(path).await? else { return Ok(None) };
    let ours = there.pointer(place).is_some_and(is_ours);
    let deed = Deed { server: Arc::clone(server), path: path.to_owned(), body: None };
    Ok(Some(if ours {
        Step::new(Sign::Remove, what).deed(deed)
    } else {
        Step::new(Sign::Left, format!("{what}: left as it is: not made by Taffrail"))
    }))
}

async fn add_lifecycle(
    plan: &mut Plan<Deed>,
    server: &Arc<Server>,
    design: &Design<'_>,
    lifecycle: Lifecycle,
) -> Result<(), String> {
    let what = format!("lifecycle {}: {}", design.name, design.lifecycle_in_words());
    let Some((path, body, place)) = design.lifecycle(lifecycle) else {
        let mut step = Step::new(Sign::Left, "no lifecycle: the server has neither ILM nor ISM");
        if design.setup.keep.is_some() {
            step = step.detail("nothing is deleted: delete old indices by other means");
        }
        plan.add(step);
        return Ok(());
    };
    let deed = |path, body| Deed { server: Arc::clone(server), path, body: Some(body) };
    let Some(reply) = server.get(&path).await? else {
        if design.is_nothing_to_manage() {
            let what = "no lifecycle: each day has its index, and without `keep` all are kept";
            plan.add(Step::new(Sign::Left, what));
            return Ok(());
        }
        plan.add(Step::new(Sign::Create, what).deed(deed(path, body)));
        return Ok(());
    };
    let there = reply.pointer(&place).cloned().unwrap_or_default();
    let step = Step::new(Sign::Same, what);
    plan.add(match is_within(body.get("policy").unwrap_or(&Value::Null), &there) {
        _ if !is_ours(&there) => step.wrong("it is there, and was not made by Taffrail: left as it is"),
        Ok(()) => step,
        // ISM changes a policy only for who knows which one it is.
        Err(differs) => {
            let number = |key: &str| reply.get(key).and_then(Value::as_u64);
            let path = match (number("_seq_no"), number("_primary_term")) {
                (Some(seq_no), Some(term)) => format!("{path}?if_seq_no={seq_no}&if_primary_term={term}"),
                _ => path,
            };
            step.change(differs, deed(path, body))
        }
    });
    Ok(())
}

/// Data streams that the template's pattern matches and that are made by another one.
async fn strangers(server: &Server, design: &Design<'_>) -> Result<BTreeSet<String>, String> {
    if !design.is_stream {
        return Ok(BTreeSet::new());
    }
    let streams = server.data_streams(&design.pattern).await?;
    let foreign = streams.iter().filter(|stream| stream["template"] != *design.name);
    Ok(foreign
        .filter_map(|stream| stream["name"].as_str().map(|name| format!("data stream {name}")))
        .collect())
}

/// How many shards there will be, where that grows with the cluster.
fn shards(config: &Config, output: &ElasticsearchConfig, namespaces: Option<u64>) -> Option<String> {
    let setup = &output.setup;
    let copies = u64::from(setup.shards) * (1 + u64::from(setup.replicas));
    let template = output.target.template();
    let many = template.pattern(&config.cluster, Safe::Index).replace("20*", "").contains('*');
    let streams = if many { namespaces.unwrap_or(STREAMS) } else { 1 };
    let keep = setup.keep?;
    let each = match &output.target {
        Target::DataStream(_) => setup.rollover_age,
        Target::Index(template) if template.has_date() => std::time::Duration::from_secs(86_400),
        Target::Index(_) => return None,
    };
    // The one that is being written, and those that wait for their end.
    let generations = 1 + keep.as_secs().div_ceil(each.as_secs());
    let total = streams * generations * copies;
    let of = match (many, namespaces) {
        (false, _) => String::new(),
        (true, Some(_)) => format!("{streams} names × "),
        (true, None) => format!("{streams} names (say --namespaces) × "),
    };
    let nodes = total.div_ceil(SHARDS_OF_NODE);
    let enough = if nodes > 1 {
        format!("; more than a node may have ({SHARDS_OF_NODE}): at least {nodes} nodes")
    } else {
        String::new()
    };
    Some(format!("shards in the end: {of}{generations} indices × {copies} = {total}{enough}"))
}

/// The mapping that a configuration with these tables makes, for who wants to know whether a field is in it.
#[cfg(test)]
pub(super) fn mapped(tables: &str) -> Value {
    let text = format!(
        "[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"http://s:1\"]\ndata_stream = \"logs-{{namespace}}\"\n{tables}"
    );
    let config = Config::parse(&text, "t.toml").unwrap_or_else(|problems| panic!("{problems}"));
    let can = server::Abilities {
        data_streams: true,
        flat_type: Some("flattened"),
        index_mode: true,
        lifecycle: Lifecycle::None,
    };
    let (_, output) = outputs(&config).next().unwrap_or_else(|| unreachable!());
    Design::of(&config, output, &can).mappings(&can)["template"]["mappings"].clone()
}
