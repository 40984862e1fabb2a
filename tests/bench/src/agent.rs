//! The agents that can be measured.
//!
//! In: where the logs are and where the sink listens. Out: a configuration file and the command that runs the agent
//! on it. Another agent is another variant here: how it is told the same things, and nothing more ([`crate::peers`]).

use crate::Outcome;
use crate::cloudwatch::Format;
use crate::peers::Peer;
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How request bodies travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// As they are.
    None,
    /// gzip, level 1.
    Gzip,
}

impl Compression {
    /// The word for it in configurations and tables.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
        }
    }
}

/// An agent under test.
#[derive(Clone, Debug)]
pub enum Agent {
    /// Ours.
    Taffrail {
        /// The release build of the program.
        binary: PathBuf,
        /// Further lines of TOML for the top of the configuration.
        settings: Vec<String>,
        /// Further lines of TOML for its output, and further outputs; `{port}` is that of the sink.
        output_settings: Vec<String>,
        /// Who tells of the pods.
        metadata: Metadata,
    },
    /// Another's.
    Peer(Peer),
}

/// Who tells of the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// Nobody: only their paths.
    Path,
    /// A made-up cache of what an API server had told ([`crate::metadata`]).
    Cached,
    /// An API server, by this kubeconfig.
    Server(PathBuf),
}

/// What an agent is told for one run.
pub struct Job<'a> {
    /// The folder of the pods' logs; not to be written to.
    pub pods: &'a Path,
    /// An empty folder for configuration and state.
    pub folder: &'a Path,
    /// The sink's port on 127.0.0.1.
    pub port: u16,
    /// The certificate to trust, as PEM, if the sink speaks TLS.
    pub certificate: Option<&'a str>,
    /// How to send.
    pub compression: Compression,
    /// Whether the sink is CloudWatch Logs, and what events hold.
    pub events: Option<Format>,
}

impl Agent {
    /// The program, or the folder of it.
    pub fn binary(&self) -> &Path {
        match self {
            Agent::Taffrail { binary, .. } => binary,
            Agent::Peer(peer) => peer.built(),
        }
    }

    /// The further lines of TOML for the output of ours, to be changed.
    ///
    /// # Panics
    /// For another's agent.
    pub fn output_settings(&mut self) -> &mut Vec<String> {
        match self {
            Agent::Taffrail { output_settings, .. } => output_settings,
            Agent::Peer(peer) => panic!("{} has no settings of ours", peer.name()),
        }
    }

    /// From now on, ours is told of the pods by this.
    pub fn know_pods_by(&mut self, teller: Metadata) {
        if let Agent::Taffrail { metadata, .. } = self {
            *metadata = teller;
        }
    }

    /// Writes the configuration of `job` and gives the command to start.
    pub fn command(&self, job: &Job<'_>) -> Outcome<Command> {
        match self {
            Agent::Taffrail { binary, settings, output_settings, metadata } => {
                let config = job.folder.join("taffrail.toml");
                let state = job.folder.join("state");
                fs::create_dir_all(&state)?;
                let (mut scheme, mut tls) = ("http", String::new());
                if let Some(certificate) = job.certificate {
                    let file = job.folder.join("ca.pem");
                    fs::write(&file, certificate)?;
                    (scheme, tls) = ("https", format!("tls = {{ ca_file = {file:?} }}"));
                }
                let port = job.port;
                let destination = match job.events {
                    None => format!(
                        "type = \"elasticsearch\"\nendpoints = [\"{scheme}://127.0.0.1:{port}\"]\n\
                         index = \"bench-{{date}}\"\ncompression = \"{}\"\n{tls}",
                        job.compression.name()
                    ),
                    Some(format) => format!(
                        "type = \"cloudwatch\"\nendpoint = \"http://127.0.0.1:{port}\"\nregion = \"us-east-1\"\n\
                         log_group = \"/bench\"\nformat = \"{}\"",
                        format.name()
                    ),
                };
                let text = format!(
                    "cluster = \"bench\"\nnode = \"n1\"\npod_logs = {pods:?}\nstate_dir = {state:?}\n{settings}\n\
                     [outputs.sink]\n{destination}\nmax_age = \"720h\"\n{output}\n",
                    pods = job.pods,
                    settings = settings.join("\n"),
                    output = output_settings.join("\n").replace("{port}", &port.to_string()),
                );
                fs::write(&config, text)?;
                let mut command = Command::new(binary);
                command.arg("run").arg("--config").arg(config).env_remove("KUBECONFIG");
                if job.events.is_some() {
                    command.env("AWS_ACCESS_KEY_ID", "BENCH").env("AWS_SECRET_ACCESS_KEY", "bench");
                }
                match metadata {
                    Metadata::Path => {}
                    Metadata::Cached => {
                        command.env("KUBECONFIG", crate::metadata::prepare(job.pods, &state, job.folder)?);
                    }
                    Metadata::Server(kubeconfig) => {
                        command.env("KUBECONFIG", kubeconfig);
                    }
                }
                Ok(command)
            }
            Agent::Peer(peer) => peer.command(job),
        }
    }
}
