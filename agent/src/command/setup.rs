//! `taffrail setup`: makes what outputs need at their destination, and says beforehand what it would make.
//!
//! In: a configuration. Out: what was missing is there, what differed is as configured, and nothing else was touched; doing it
//! again changes nothing. It asks before it changes anything, unless it is told not to. Each thing to set up has a module of its
//! own: it looks at what is there, and makes a [`plan`] of what is to be done.

mod account;
mod cloudwatch;
mod cost;
pub mod dashboards;
mod deeds;
pub(super) mod elasticsearch;
mod plan;
mod policies;
mod subscription;

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::cost::Prices;
use self::dashboards::DashboardsArgs;
use super::configured;
use crate::config::{CloudWatchConfig, Config, OutputConfig};

/// The exit code for a configuration with mistakes, and where nobody has said yes.
const NOT_DONE: u8 = 2;

/// What to set up.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Log groups of CloudWatch outputs, with their retention, tags and encryption
    Cloudwatch {
        /// How it goes about it.
        #[command(flatten)]
        options: Options,
        /// With --remove: also log groups that hold events, which are lost
        #[arg(long, requires = "remove")]
        with_logs: bool,
        /// What it costs.
        #[command(flatten)]
        prices: Prices,
    },
    /// Index templates and lifecycles of Elasticsearch and OpenSearch outputs
    Elasticsearch {
        /// How it goes about it.
        #[command(flatten)]
        options: Options,
        /// How many names a template with a namespace makes, to say how many shards that will be
        #[arg(long, value_name = "N")]
        namespaces: Option<u64>,
    },
    /// Dashboards in Kibana or OpenSearch Dashboards
    Dashboards(Box<DashboardsArgs>),
    /// What carries events of CloudWatch outputs on to a stream or a function: filters, role, permission, policy
    Subscription {
        /// How it goes about it.
        #[command(flatten)]
        options: Options,
        /// Change nothing: name the groups that are not subscribed, with exit code 1 if there are any
        #[arg(long, conflicts_with_all = ["plan", "yes", "remove"])]
        audit: bool,
        /// What it costs.
        #[command(flatten)]
        prices: Prices,
    },
}

/// How a set-up goes about it.
#[derive(Debug, Clone, Copy, Args)]
pub struct Options {
    /// Only say what it would do, and what that costs, if anything
    #[arg(long)]
    plan: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Take away what it has made
    #[arg(long)]
    remove: bool,
}

/// Sets up what `action` names for the outputs of a configuration.
pub fn setup(path: Option<&Path>, action: &Action) -> ExitCode {
    // Dashboards are the same whatever the outputs are.
    let config = match (action, path) {
        (Action::Dashboards(_), _) => Ok(Config::default()),
        (_, Some(path)) => configured(Some(path)),
        (_, None) => {
            eprintln!("error: which configuration? Give it with --config FILE");
            Err(ExitCode::from(NOT_DONE))
        }
    };
    let config = match config {
        Ok(config) => config,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match action {
            Action::Cloudwatch { options, with_logs, prices } => {
                cloudwatch::setup(&config, *options, *with_logs, prices).await
            }
            Action::Elasticsearch { options, namespaces } => {
                elasticsearch::setup(&config, *options, *namespaces).await
            }
            Action::Dashboards(args) => dashboards::setup(path, args).await,
            Action::Subscription { audit: true, .. } => subscription::audit(&config).await,
            Action::Subscription { options, prices, .. } => {
                subscription::setup(&config, *options, prices).await
            }
        }
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The outputs of type `cloudwatch`.
fn outputs(config: &Config) -> impl Iterator<Item = (&str, &CloudWatchConfig)> {
    config.outputs.iter().filter_map(|(name, output)| match output {
        OutputConfig::CloudWatch(output) => Some((name.as_str(), output)),
        _ => None,
    })
}
