//! `taffrail setup dashboards`: dashboards in Kibana or OpenSearch Dashboards.
//!
//! In: the description of the dashboards, which is part of the program, and where Kibana is. Out: a plan for each dashboard with
//! its panels, and what it says done. Touches only objects whose ids begin with `taffrail-`; what somebody has changed of these
//! is told before it is overwritten.

mod added;
mod classic;
mod objects;
mod server;
mod source;
mod tsvb;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use reqwest::Url;
use serde_json::Value;

use self::objects::{Group, MARK, Names, Object};
use self::server::{Found, Server};
use self::source::Source;
use super::plan::{Plan, Sign, Step};
use super::{NOT_DONE, Options};
use crate::command::configured;
use crate::command::progress::Progress;
use crate::command::terminal::printable;
use crate::config::{Config, ElasticsearchConfig, OutputConfig};

/// Objects of one import have the same time, or nearly: those that are younger by more were changed since.
const TOGETHER: i64 = 10_000;

/// Where, and what.
#[derive(Debug, Clone, Args)]
pub struct DashboardsArgs {
    /// Kibana's address, or that of OpenSearch Dashboards, with its base path, as in `https://HOST/_dashboards`
    #[arg(long, value_name = "URL", required_unless_present = "print")]
    kibana: Option<String>,
    /// Print the saved objects as NDJSON, and ask nobody
    #[arg(long, conflicts_with_all = ["kibana", "tenant", "auth", "ca_file", "output", "plan", "yes", "remove"])]
    print: bool,
    /// The indices or data streams with logs
    #[arg(long, value_name = "PATTERN", default_value = "logs-*")]
    index_pattern: String,
    /// Those with the health records of the agents
    #[arg(long, value_name = "PATTERN", default_value = "logs-taffrail-*")]
    health_pattern: String,
    /// A space of Kibana
    #[arg(long, value_name = "NAME")]
    space: Option<String>,
    /// A tenant of OpenSearch Dashboards, as the header `securitytenant` takes it (`global`, `private`, a name)
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Who asks, as `auth` of an output says it: `aws`, or `{ type = "basic", username = "elastic", password = { env = "PASSWORD" } }`
    #[arg(long, value_name = "AUTH", conflicts_with = "output")]
    auth: Option<String>,
    /// The authorities that vouch for Kibana's certificate, PEM
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    ca_file: Option<PathBuf>,
    /// Ask as this output of the configuration does: its `auth` and `tls`
    #[arg(long, value_name = "OUTPUT")]
    output: Option<String>,
    /// How it goes about it.
    #[command(flatten)]
    options: Options,
}

impl DashboardsArgs {
    /// How things are to be called.
    fn names(&self) -> Result<Names, String> {
        let space = self.space.as_deref().filter(|space| *space != "default");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if let Some(space) = space.filter(|space| !space.bytes().all(is_plain)) {
            return Err(format!("`{space}` cannot be a space: its address has letters, digits, `-` and `_`"));
        }
        Ok(Names {
            logs: self.index_pattern.clone(),
            health: self.health_pattern.clone(),
            space: space.map(str::to_owned),
        })
    }
}

/// What is done at a server.
enum What {
    Import(Vec<Object>),
    Delete(String, String),
}

type Deed = (Arc<Server>, What);

/// The dashboards as a file, for whoever would rather import them by hand.
fn file(names: &Names) -> String {
    let groups = objects::groups(&Source::read(), names);
    objects::ndjson(groups.iter().flat_map(|group| &group.objects))
}

/// Prints them, or sets them up. `path`: the configuration, where an output of it is named.
pub async fn setup(path: Option<&Path>, args: &DashboardsArgs) -> Result<ExitCode, String> {
    let names = args.names()?;
    if args.print {
        let text = file(&names);
        // Whoever reads only the beginning of it, as `head` does, has closed it.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    let config = match destination(path, args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(NOT_DONE));
        }
    };
    let server = Arc::new(Server::open(&config, names.space.as_deref(), args.tenant.as_deref())?);
    let product = server.product().await?;
    if let Some(space) = &names.space {
        server.space(&product, space).await?;
    }
    if args.tenant.is_some() {
        server.tenants(&product).await?;
    }
    println!(
        "{} {}",
        product.name,
        product.version.as_deref().unwrap_or("(which does not tell its version)")
    );
    let groups = objects::groups(&Source::read(), &names);
    let plan = if args.options.remove {
        removal(&server, &names, &groups).await?
    } else {
        upkeep(&server, groups).await?
    };
    Ok(plan.carry_out(args.options, act).await)
}

async fn act((server, what): &Deed, _: &Progress) -> Result<(), String> {
    match what {
        What::Import(objects) => server.import(objects).await,
        What::Delete(kind, id) => server.delete(kind, id).await,
    }
}

/// How the server is reached: as an output would be, so that all that is known of addresses, secrets and certificates holds.
fn destination(path: Option<&Path>, args: &DashboardsArgs) -> Result<ElasticsearchConfig, String> {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut address = args.kibana.clone().unwrap_or_default();
    let mut base = String::new();
    // An output's endpoint never has such a path, and Amazon's dashboards are below `/_dashboards`.
    if let Ok(mut url) = Url::parse(&address)
        && url.has_host()
    {
        base = url.path().trim_end_matches('/').to_owned();
        if base.ends_with("/app") || base.contains("/app/") {
            return Err("error: --kibana wants the address as it is before `/app`".to_owned());
        }
        url.set_path("");
        address = url.into();
    }
    let mut text = format!(
        "[outputs.kibana]\ntype = \"elasticsearch\"\nindex = \"unused\"\nendpoints = [{}]\n",
        quoted(&address)
    );
    if let Some(auth) = &args.auth {
        // A lone word needs no quotes of its own, which the shell would take.
        let is_word = auth.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        text += &format!("auth = {}\n", if is_word { quoted(auth) } else { auth.clone() });
    }
    if let Some(ca_file) = &args.ca_file {
        let ca_file = std::path::absolute(ca_file).map_err(|error| format!("error: --ca-file: {error}"))?;
        text += &format!("tls = {{ ca_file = {} }}\n", quoted(&ca_file.to_string_lossy()));
    }
    let of = |config: Config, name: &str| match config.outputs.get(name) {
        Some(OutputConfig::Elasticsearch(output)) => Ok(output.clone()),
        Some(_) => Err(format!("error: output `{name}` is not of type `elasticsearch`")),
        None => Err(format!("error: there is no output `{name}` in the configuration")),
    };
    let config = Config::parse(&text, "(--kibana, --auth and --ca-file, as an output has them)")
        .map_err(|diagnostics| diagnostics.to_string())?;
    let mut kibana = of(config, "kibana")?;
    kibana.endpoints.iter_mut().for_each(|url| url.set_path(&base));
    if let Some(name) = &args.output {
        if path.is_none() {
            return Err("error: --output names an output of which configuration? Give it with --config FILE"
                .to_owned());
        }
        let config = configured(path).map_err(|_| "error: so nothing was asked".to_owned())?;
        let output = of(config, name)?;
        (kibana.auth, kibana.tls) = (output.auth, output.tls);
    }
    Ok(kibana)
}

/// A step for each group: it is imported whole if anything of it differs, with what others have added to its index patterns.
async fn upkeep(server: &Arc<Server>, groups: Vec<Group>) -> Result<Plan<Deed>, String> {
    let mut plan = Plan::new();
    for mut group in groups {
        let found = server.get(&group.objects).await?;
        // Made by us at this time, whoever changed others since.
        let made = found.iter().filter(|found| number(found).is_some()).map(|found| found.changed).min();
        let mut missing = 0;
        let (mut differs, mut kept) = (Vec::new(), Vec::new());
        for object in &mut group.objects {
            match found.iter().find(|found| found.kind == object.kind && found.id == object.id) {
                None => missing += 1,
                Some(found) => {
                    differs.extend(difference(object, found, made));
                    if object.kind == "index-pattern" {
                        kept.extend(added::keep(object, &found.attributes));
                    }
                }
            }
        }
        let what = format!("{} ({} objects)", group.what, group.objects.len());
        let mut step = if missing == group.objects.len() {
            Step::new(Sign::Create, what)
        } else if missing == 0 && differs.is_empty() {
            plan.add(Step::new(Sign::Same, what));
            continue;
        } else {
            let step = Step::new(Sign::Change, what);
            if missing > 0 { step.detail(format!("{missing} are missing")) } else { step }
        };
        for line in differs.into_iter().chain(kept) {
            step = step.detail(line);
        }
        plan.add(step.deed((Arc::clone(server), What::Import(group.objects))));
    }
    Ok(plan)
}

/// What was made of an object, by the number at its description's end.
fn number(found: &Found) -> Option<&str> {
    found.attributes["description"].as_str()?.rsplit_once(MARK).map(|(_, number)| number)
}

/// In words. Servers bring what is imported up to date: so it is not compared to the letter, but by its mark, and by when it was
/// changed.
fn difference(object: &Object, found: &Found, made: Option<i64>) -> Option<String> {
    let name = format!("{} {}", object.kind, object.id);
    if object.kind == "index-pattern" {
        // Servers write in it what they find out about fields.
        let attribute = |key: &str| (&object.attributes[key], &found.attributes[key]);
        for key in ["title", "timeFieldName"] {
            let (wanted, there) = attribute(key);
            if wanted != there {
                return Some(format!("{name}: {key} is {there}, and will be {wanted}"));
            }
        }
        // Formats they write anew: without those of fields that are not there yet, and without what is a format's default.
        let formats =
            |value: &Value| value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let (wanted, there) = attribute("fieldFormatMap");
        let (wanted, there) = (formats(wanted).unwrap_or_default(), formats(there).unwrap_or_default());
        return wanted
            .as_object()
            .into_iter()
            .flatten()
            .map(|(field, format)| (field, &format["id"], &there[field]["id"]))
            .find(|(_, wanted, there)| there.is_string() && there != wanted)
            .map(|(field, wanted, there)| {
                format!("{name}: the format of {field} is {there}, and will be {wanted}")
            });
    }
    if object.attributes == found.attributes {
        return None;
    }
    let wanted = object.attributes["description"].as_str().and_then(|text| text.rsplit_once(MARK));
    let touched = made.is_some_and(|made| found.changed > made + TOGETHER);
    match number(found) {
        None => Some(format!("{name} was changed by somebody: that is overwritten")),
        Some(_) if touched => {
            let title = printable(found.attributes["title"].as_str().unwrap_or_default());
            Some(format!("{name} ({title}) was changed by somebody since: that is overwritten"))
        }
        Some(number) if wanted.is_some_and(|(_, wanted)| wanted == number) => None,
        Some(_) => Some(format!("{name} is of another version, or for other indices")),
    }
}

/// A step for each object of ours that is there, those of other versions too. What refers to others goes first.
async fn removal(server: &Arc<Server>, names: &Names, groups: &[Group]) -> Result<Plan<Deed>, String> {
    let mut plan = Plan::new();
    let found = server.ours(groups, &names.prefix()).await?;
    let known = |found: &Found| {
        let mut all = groups.iter().flat_map(|group| &group.objects);
        all.any(|object| object.kind == found.kind && object.id == found.id)
    };
    for kind in ["dashboard", "visualization", "search", "index-pattern"] {
        for found in found.iter().filter(|found| found.kind == kind) {
            let title = found.attributes["title"].as_str().unwrap_or_default();
            let what = format!("{kind} {}: {}", found.id, printable(title));
            plan.add(if known(found) || number(found).is_some() {
                Step::new(Sign::Remove, what)
                    .deed((Arc::clone(server), What::Delete(found.kind.clone(), found.id.clone())))
            } else {
                Step::new(Sign::Left, format!("{what}: left as it is: not made by Taffrail"))
            });
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests;
