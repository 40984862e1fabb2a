//! Other agents, as the comparison runs them.
//!
//! In: what [`servers/peers/build`](../../servers/peers/build) gets from public registries, and a job. Out: the command that
//! does the job as its documentation advises for a node of Kubernetes, with its defaults where they serve. None is slowed down or
//! given less than it asks for; what one does less or more than ours is said in the table.

use crate::Outcome;
use crate::agent::Job;
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// VictoriaMetrics' vlagent.
    Vlagent,
    /// The OpenTelemetry Collector.
    Otelcol,
    /// rsyslog, with what its path says of a pod.
    Rsyslog,
    /// rsyslog with mmkubernetes.
    RsyslogKubernetes,
}

/// One that is there.
#[derive(Clone, Debug)]
pub struct Peer {
    kind: Kind,
    /// The program, or the folder that it was unpacked into.
    built: PathBuf,
    /// A kubeconfig; beside it lie `ca.crt`, `admin.crt` and `admin.key`.
    kubeconfig: PathBuf,
}

impl Peer {
    /// Gets it, which may take minutes the first time. An error says what is missing.
    pub fn get(kind: Kind, kubeconfig: &Path) -> Outcome<Peer> {
        let word = match kind {
            Kind::Vlagent => "vlagent",
            Kind::Otelcol => "otelcol",
            Kind::Rsyslog | Kind::RsyslogKubernetes => "rsyslog",
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../servers/peers/build");
        let output = Command::new(script).arg(word).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("{word} cannot be had; why is said above").into());
        }
        let built = String::from_utf8(output.stdout)?.trim_end().into();
        Ok(Peer { kind, built, kubeconfig: kubeconfig.into() })
    }

    /// Where it lies.
    pub fn built(&self) -> &Path {
        &self.built
    }

    /// Name and version.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Vlagent => "vlagent 1.51",
            Kind::Otelcol => "OpenTelemetry Collector 0.149",
            Kind::Rsyslog | Kind::RsyslogKubernetes => "rsyslog 8.2302",
        }
    }

    /// What it does.
    pub fn work(&self) -> &'static str {
        match self.kind {
            Kind::Vlagent => {
                "CRI, pod metadata, JSON into fields; lines of JSON, zstd; no ids, positions are saved before the server has answered"
            }
            Kind::Otelcol => {
                "container operator; OTLP, gzip; no JSON, no pod metadata; a queue of 1,000 batches"
            }
            Kind::Rsyslog => "mmnormalize; bulk; no joining of pieces, no JSON, no pod metadata, no `_id`",
            Kind::RsyslogKubernetes => {
                "mmnormalize, mmkubernetes; bulk; no joining of pieces, no JSON, no `_id`"
            }
        }
    }

    /// Whether it compresses what it sends.
    pub fn compresses(&self) -> bool {
        matches!(self.kind, Kind::Vlagent | Kind::Otelcol)
    }

    /// Whether it asks the API server of pods.
    pub fn enriches(&self) -> bool {
        matches!(self.kind, Kind::Vlagent | Kind::RsyslogKubernetes)
    }

    /// Whether it joins the pieces of a long line; else each line of a file is a record to it.
    pub fn joins(&self) -> bool {
        matches!(self.kind, Kind::Vlagent | Kind::Otelcol)
    }

    /// Writes its configuration for `job` and gives the command to start. Links to the logs, as `/var/log/containers` has them,
    /// lie beside the folder of the pods.
    pub fn command(&self, job: &Job<'_>) -> Outcome<Command> {
        let containers = job.pods.with_file_name("containers");
        let mut command;
        match self.kind {
            Kind::Vlagent => {
                command = Command::new(&self.built);
                command
                    .arg(format!("-remoteWrite.url=http://127.0.0.1:{}/insert/jsonline", job.port))
                    .arg("-remoteWrite.format=jsonline")
                    .arg(format!("-tmpDataPath={}", job.folder.join("state").display()))
                    .arg("-kubernetesCollector")
                    .arg(format!("-kubernetesCollector.logsPath={}", containers.display()))
                    .arg("-httpListenAddr=127.0.0.1:0")
                    .env("KUBECONFIG", &self.kubeconfig);
            }
            Kind::Otelcol => {
                let config = job.folder.join("otelcol.yaml");
                fs::write(&config, otelcol(job))?;
                command = Command::new(&self.built);
                command.arg("--config").arg(config);
            }
            Kind::Rsyslog | Kind::RsyslogKubernetes => {
                let config = job.folder.join("rsyslog.conf");
                fs::write(&config, rsyslog(job, &containers, self.enriches().then_some(&self.kubeconfig)))?;
                let libraries = self.libraries()?;
                command = Command::new(self.built.join("usr/sbin/rsyslogd"));
                command
                    .arg("-n")
                    .arg("-f")
                    .arg(config)
                    .arg("-i")
                    .arg(job.folder.join("rsyslog.pid"))
                    .arg("-M")
                    .arg(libraries.join("rsyslog"))
                    .env("LD_LIBRARY_PATH", libraries);
            }
        }
        Ok(command)
    }

    /// The folder of libraries in what was unpacked, such as `usr/lib/x86_64-linux-gnu`.
    fn libraries(&self) -> Outcome<PathBuf> {
        for entry in fs::read_dir(self.built.join("usr/lib"))? {
            let folder = entry?.path();
            if folder.join("rsyslog").is_dir() {
                return Ok(folder);
            }
        }
        Err("what was unpacked of rsyslog has no modules".into())
    }
}

/// JSON is YAML. The queue waits where it is full: else it would throw away.
fn otelcol(job: &Job<'_>) -> String {
    serde_json::json!({
        "receivers": { "filelog": {
            "include": [job.pods.join("*/*/*.log")],
            "start_at": "beginning",
            "include_file_path": true,
            "include_file_name": false,
            "operators": [{ "type": "container", "id": "container-parser" }],
        } },
        "processors": { "batch": {} },
        "exporters": { "otlp_http": {
            "endpoint": format!("http://127.0.0.1:{}", job.port),
            "compression": job.compression.name(),
            "sending_queue": { "block_on_overflow": true },
        } },
        "service": {
            "telemetry": { "metrics": { "level": "none" }, "logs": { "level": "warn" } },
            "pipelines": { "logs": { "receivers": ["filelog"], "processors": ["batch"], "exporters": ["otlp_http"] } },
        },
    })
    .to_string()
}

/// Metadata is asked of the API server where there is a kubeconfig.
fn rsyslog(job: &Job<'_>, containers: &Path, kubeconfig: Option<&PathBuf>) -> String {
    let (folder, port) = (job.folder.display(), job.port);
    let (mut module, mut action, mut fields) = (String::new(), String::new(), String::new());
    if let Some(home) = kubeconfig.and_then(|file| file.parent()) {
        let home_of = |name: &str| home.join(name).display().to_string();
        module = format!(
            "module(load=\"mmkubernetes\" kubernetesurl=\"{url}\" tls.cacert=\"{ca}\" tls.mycert=\"{cert}\" tls.myprivkey=\"{key}\"\n\
             filenamerules=[\"rule=:{containers}/%pod_name:char-to:_%_%namespace_name:char-to:_%_%container_name_and_id:char-to:.%.log\"])\n",
            url = server_of(kubeconfig),
            ca = home_of("ca.crt"),
            cert = home_of("admin.crt"),
            key = home_of("admin.key"),
            containers = containers.display(),
        );
        action = "action(type=\"mmkubernetes\")\n".into();
        fields =
            "constant(value=\",\") property(name=\"$!kubernetes\" outname=\"kubernetes\" format=\"jsonf\")\n"
                .into();
    }
    format!(
        "global(workDirectory=\"{folder}\" maxMessageSize=\"64k\")\n\
         module(load=\"imfile\")\nmodule(load=\"mmnormalize\")\nmodule(load=\"omelasticsearch\")\n{module}\
         main_queue(queue.dequeueBatchSize=\"1024\")\n\
         template(name=\"document\" type=\"list\") {{ constant(value=\"{{\")\n\
         property(name=\"$!time\" outname=\"@timestamp\" format=\"jsonf\") constant(value=\",\")\n\
         property(name=\"$!content\" outname=\"message\" format=\"jsonf\") constant(value=\",\")\n\
         property(name=\"$!stream\" outname=\"stream\" format=\"jsonf\") constant(value=\",\")\n\
         property(name=\"$!metadata!filename\" outname=\"log.file.path\" format=\"jsonf\")\n{fields}constant(value=\"}}\") }}\n\
         ruleset(name=\"ship\") {{\n\
         action(type=\"mmnormalize\" rule=[\"rule=:%time:word% %stream:word% %piece:word% %content:rest%\"])\n{action}\
         action(type=\"omelasticsearch\" server=\"127.0.0.1\" serverport=\"{port}\" template=\"document\" searchIndex=\"bench\"\n\
         searchType=\"\" bulkmode=\"on\" maxbytes=\"10m\" action.resumeRetryCount=\"-1\" errorFile=\"{folder}/errors\")\n}}\n\
         input(type=\"imfile\" file=\"{logs}/*.log\" tag=\"k\" ruleset=\"ship\" addMetadata=\"on\" freshStartTail=\"off\")\n",
        logs = containers.display(),
    )
}

/// The URL of the API server, from the file that a Kubernetes client has written.
fn server_of(kubeconfig: Option<&PathBuf>) -> String {
    let text = kubeconfig.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let url = text.lines().find_map(|line| line.trim().strip_prefix("server: "));
    url.unwrap_or_default().to_owned()
}
