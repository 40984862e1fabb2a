//! The command `taffrail`: parses the command line and hands over to a subcommand.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use taffrail::command::{
    check, cleanup, config, dead_letter, demo, explain, forward, prepare, run, setup, tap, test, top,
};

/// A node-level logging agent for Kubernetes: nothing lost, nothing twice.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent until SIGTERM
    Run(ConfigFile),
    /// Check a configuration and say what it would do
    Check {
        #[command(flatten)]
        args: check::CheckArgs,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Print what a configuration may hold: a JSON Schema, or a page to read
    Config {
        #[command(subcommand)]
        action: config::Action,
    },
    /// Say which route a log takes and why, and what would be sent of it
    Explain {
        #[command(flatten)]
        args: explain::ExplainArgs,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Hold a configuration against cases: lines of pods, and what is to come of them
    Test {
        #[command(flatten)]
        args: test::TestArgs,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Show what the running agent reads and delivers
    Top {
        #[command(flatten)]
        args: top::TopArgs,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Show the live documents of a pod as the running agent sends them
    Tap {
        #[command(flatten)]
        args: tap::TapArgs,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// List the records that a destination refused, or send them again
    DeadLetter {
        #[command(subcommand)]
        action: dead_letter::Action,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Carry logs from CloudWatch Logs' subscription on to Elasticsearch
    Forward {
        #[command(flatten)]
        args: forward::ForwardArgs,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Remove everything that the agent has left on this node, once it does not run any more
    Cleanup {
        #[command(flatten)]
        args: cleanup::CleanupArgs,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Make what outputs need at their destination, after saying what that is; doing it again changes nothing
    Setup {
        #[command(subcommand)]
        action: setup::Action,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Give the state directory to the group of an agent that is not root
    Prepare(prepare::PrepareArgs),
    /// Run the agent over a small node of its own making, and prove that nothing was lost
    Demo(demo::DemoArgs),
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration, a TOML file; without one: the pod logs of this node to standard output
    #[arg(long, short, global = true, env = "TAFFRAIL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    match CommandLine::parse().command {
        Command::Run(file) => run::run(file.config.as_deref()),
        Command::Check { args, file } => check::check(file.config.as_deref(), &args),
        Command::Config { action } => config::config(action),
        Command::Explain { args, file } => explain::explain(file.config.as_deref(), &args),
        Command::Test { args, file } => test::test(file.config.as_deref(), &args),
        Command::Top { args, file } => top::top(file.config.as_deref(), &args),
        Command::Tap { args, file } => tap::tap(file.config.as_deref(), &args),
        Command::DeadLetter { action, file } => dead_letter::dead_letter(file.config.as_deref(), action),
        Command::Forward { args, file } => forward::forward(file.config.as_deref(), &args),
        Command::Cleanup { args, file } => cleanup::cleanup(file.config.as_deref(), &args),
        Command::Setup { action, file } => setup::setup(file.config.as_deref(), &action),
        Command::Prepare(args) => prepare::prepare(&args),
        Command::Demo(args) => demo::demo(args),
    }
}
