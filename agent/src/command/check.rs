//! `taffrail check`: what a configuration would do, or what is wrong with it.
//!
//! In: a path, or none for the defaults. Out: a summary on standard output and exit code 0, or every mistake on
//! standard error and exit code 2. What does not suit this machine, such as a missing folder, is a warning: the file
//! may be meant for another. It changes nothing, creates nothing, and asks a server only
//! where `--connect` says so.

mod cloudwatch;
mod connect;
mod routes;

pub(super) use routes::treatment as route_treatment;

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rustix::fs::{Access as Permission, AtFlags, CWD, StatxFlags, statx};

use super::BAD_CONFIGURATION;
use super::run::reload::{LAST_RUN, Loaded};
use crate::config::connection::TlsVersion;
use crate::config::units::show_duration;
use crate::config::{
    AuthConfig, BulkOp, ByteSize, Changes, Color, Config, ElasticsearchConfig, FileConfig, LimitAction,
    Listen, OutputConfig, Oversize, Rate, ReadingConfig, RetainConfig, Start, StdoutFormat, Target,
    TlsConfig,
};
use crate::metadata::connection::{self, Access};
use crate::output::http::secret::read_secret;
use crate::output::http::tls;
use crate::pipeline::{batch_size, hash_key, memory_shares};

/// What may be said to it.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Ask the servers too: whether they are there, take the credentials, and would take records
    #[arg(long)]
    connect: bool,
}

/// Checks a configuration file, or without one shows what the defaults do. Exit code 2 if there is a mistake, 1 if a server
/// that is asked does not do.
pub fn check(path: Option<&Path>, args: &CheckArgs) -> ExitCode {
    ExitCode::from(report(path, args.connect, &mut io::stdout(), &mut io::stderr()))
}

fn report(path: Option<&Path>, connect: bool, stdout: &mut dyn io::Write, stderr: &mut dyn io::Write) -> u8 {
    let (loaded, name) = match path {
        None => (Loaded::default(), "the default configuration (give yours with --config FILE)".to_owned()),
        Some(path) => match Loaded::load(path) {
            Ok(loaded) => (loaded, path.display().to_string()),
            Err(problems) => {
                // Nothing is left to tell of a standard error that is closed, here and below.
                let _ = writeln!(stderr, "{problems}");
                return BAD_CONFIGURATION;
            }
        },
    };
    let config = &loaded.config;
    if let Err(error) = memory_shares(config) {
        let _ = writeln!(stderr, "error: {error}");
        return BAD_CONFIGURATION;
    }
    let _ = write!(stdout, "{}{}", summary(config, &name), changes(&loaded));
    for warning in warnings(config) {
        let _ = writeln!(stderr, "warning: {warning}");
    }
    if !connect {
        return 0;
    }
    let (text, good) = connect::connect(config);
    let _ = write!(stdout, "{text}");
    u8::from(!good)
}

/// What a reload would change, where an agent has run before over this state directory.
fn changes(loaded: &Loaded) -> String {
    let path = loaded.config.state_dir.join(LAST_RUN);
    let Ok(running) = Loaded::load(&path) else { return String::new() };
    let changes = running.changes_to(loaded);
    let mut text = format!("\nagainst what the agent here last ran with ({})\n", path.display());
    for line in changes.lines() {
        let _ = writeln!(text, "  {line}");
    }
    for key in &changes.only_by_restart {
        let _ = writeln!(text, "  {key}: only a restart of the agent can change that, a reload is refused");
    }
    if changes == Changes::default() {
        text.push_str("  nothing changed\n");
    }
    text
}

/// What the configuration does, to read. Writing to a string cannot fail, hence the unused results.
fn summary(config: &Config, name: &str) -> String {
    let mut text = String::new();
    let links: Vec<_> = config.link_roots.iter().map(|root| root.display().to_string()).collect();
    let links = if links.is_empty() {
        "no links followed".into()
    } else {
        format!("links into {}", links.join(", "))
    };
    let oversize = match config.oversize {
        Oversize::Split => "split",
        Oversize::Cut => "cut",
    };
    let _ = writeln!(text, "{name}: no mistakes\n");
    let _ = writeln!(text, "cluster {}, node {}", config.cluster, config.node);
    let _ = writeln!(text, "  reads    {} ({links})", config.pod_logs.display());
    for (name, files) in &config.files {
        let paths: Vec<&str> = files.paths.iter().map(|pattern| pattern.as_str()).collect();
        let _ = writeln!(text, "  reads    {} ({name})", paths.join(", "));
    }
    let _ = writeln!(text, "  pods     {}", metadata(config));
    let _ = writeln!(text, "  state    {}", config.state_dir.display());
    let _ = writeln!(text, "  retains  {}", retention(&config.retain));
    let _ = writeln!(text, "  records  up to {}, longer ones are {oversize}", config.max_record);
    let _ = writeln!(text, "  memory   {} for records under way, shared by the outputs", config.memory);
    let _ = writeln!(text, "  stops    within {} of SIGTERM", show_duration(config.grace));
    if config.drain.enabled {
        let deadline = show_duration(config.grace.max(config.drain.deadline));
        let fallback = config.drain.fallback.as_ref();
        let last = fallback
            .map(|name| format!("; what cannot be delivered then goes to {name}"))
            .unwrap_or_default();
        let _ = writeln!(text, "  leaves   within {deadline} of SIGTERM where its node is going away{last}");
    }
    if config.health.is_wanted() {
        let (outputs, interval) = (config.health.outputs.join(", "), show_duration(config.health.interval));
        let _ = writeln!(text, "  health   a record every {interval} to {outputs}");
    }
    for (name, output) in &config.outputs {
        let _ = writeln!(text, "\noutput {name}, {}", output.kind());
        match output {
            OutputConfig::Elasticsearch(output) => elasticsearch(&mut text, output),
            OutputConfig::CloudWatch(output) => cloudwatch::summary(&mut text, output),
            OutputConfig::File(output) => file(&mut text, output),
            OutputConfig::Stdout(output) => {
                let format = match (output.format, output.color) {
                    (StdoutFormat::Json, _) => "JSON, one object on a line",
                    (StdoutFormat::Text, Color::Auto) => "text, coloured on a terminal",
                    (StdoutFormat::Text, Color::Always) => "text, coloured",
                    (StdoutFormat::Text, Color::Never) => "text, not coloured",
                };
                let _ = writeln!(text, "  to       standard output: {format}");
            }
        }
        reading(&mut text, output.reading(), batch_size(config, output));
    }
    routes::summary(&mut text, config);
    text
}

/// Where what is told of pods comes from.
fn metadata(config: &Config) -> String {
    let server = match connection::access(&config.metadata) {
        None => return "are told by the paths of their logs only".to_owned(),
        Some(Access::Kubeconfig(_)) => "the API server of KUBECONFIG",
        Some(Access::ServiceAccount) => "this cluster's API server",
    };
    let wait = show_duration(config.metadata.wait);
    format!("are told by {server}, waited for up to {wait}; labels {}", config.metadata.labels)
}

fn elasticsearch(text: &mut String, output: &ElasticsearchConfig) {
    let servers: Vec<&str> = output.endpoints.iter().map(|url| url.as_str()).collect();
    let target = match &output.target {
        Target::DataStream(template) => format!("data stream {template}"),
        Target::Index(template) => format!("index {template}"),
    };
    let gzip = output.gzip_level().map_or("no compression".to_owned(), |level| format!("gzip level {level}"));
    let [timeout, initial, max] = [output.timeout, output.retry_initial, output.retry_max].map(show_duration);
    let _ = writeln!(text, "  to       {target}");
    let _ = writeln!(text, "  servers  {}", servers.join(", "));
    if let Some(auth) = authentication(&output.auth) {
        let _ = writeln!(text, "  as       {auth}");
    }
    if let Some(trust) = trust(output) {
        let _ = writeln!(text, "  trusts   {trust}");
    }
    let _ = writeln!(
        text,
        "  sends    {} at a time, {gzip}, timeout {timeout}",
        count(output.in_flight, "request")
    );
    if let Some(pipeline) = &output.pipeline {
        let _ = writeln!(text, "  through  ingest pipeline {pipeline}");
    }
    let _ = writeln!(text, "  retries  after {initial}, doubled up to {max}");
    let promise = match (output.document_id, output.op) {
        (true, BulkOp::Create) => "exactly once: a record that is sent again is recognised by its `_id`",
        (true, BulkOp::Index) => "exactly once: a record that is sent again replaces itself by its `_id`",
        (false, _) => {
            "at least once: without ids, a retry after a lost reply or a restart may double records"
        }
    };
    let _ = writeln!(text, "  delivers {promise}");
    let _ = writeln!(text, "  refused  kept as dead letters, up to {}", output.dead_letters);
}

/// What is kept of logs that are deleted unread.
fn retention(retain: &RetainConfig) -> String {
    if retain.max_bytes.bytes() == 0 {
        return "of unread files what it holds open".to_owned();
    }
    format!(
        "unread files up to {}, while {} of the disk and {} of its inodes are free",
        retain.max_bytes, retain.min_free, retain.min_free_inodes
    )
}

/// Who sends, and where the secret comes from: never the secret.
fn authentication(auth: &AuthConfig) -> Option<String> {
    Some(match auth {
        AuthConfig::None => return None,
        AuthConfig::Aws(aws) => {
            let region = aws.region.as_deref().map_or(String::new(), |region| format!(" in {region}"));
            let role = aws.role_arn.as_deref().map_or(String::new(), |role| format!(", role {role}"));
            let service =
                aws.service.map_or(String::new(), |service| format!(", service {}", service.as_str()));
            format!("AWS, signed{region}{service}{role}")
        }
        AuthConfig::Basic(basic) => format!("user {}, password from {}", basic.username, basic.password),
        AuthConfig::ApiKey(api_key) => format!("API key from {}", api_key.key),
        AuthConfig::Bearer(bearer) => format!("bearer token from {}", bearer.token),
    })
}

/// Whom an output with TLS of its own trusts.
fn trust(output: &ElasticsearchConfig) -> Option<String> {
    let tls = &output.tls;
    if *tls == TlsConfig::default() {
        return None;
    }
    let mut said = match (&tls.ca_file, tls.insecure_skip_verify) {
        (_, true) => "any server".to_owned(),
        (Some(file), false) => format!("servers vouched for in {}", file.display()),
        (None, false) => "servers that the system trusts".to_owned(),
    };
    if let Some(name) = &tls.server_name {
        let _ = write!(said, ", as {name}");
    }
    if tls.min_version == TlsVersion::Tls13 {
        said.push_str(", TLS 1.3 only");
    }
    if let Some(file) = &tls.client_cert_file {
        let _ = write!(said, ", shows {}", file.display());
    }
    Some(said)
}

fn file(text: &mut String, output: &FileConfig) {
    let _ = writeln!(text, "  to       {}", output.path);
    let _ = writeln!(text, "  rotates  at {}, {} kept", output.max_size, count(output.keep, "old file"));
}

fn reading(text: &mut String, reading: &ReadingConfig, batch: ByteSize) {
    let age = show_duration(reading.max_age);
    let begins = match reading.start {
        Start::Oldest => format!("with the oldest record there is, none older than {age}"),
        Start::Now => "with what is written from its first start on".to_owned(),
    };
    let linger = show_duration(reading.linger);
    let _ = writeln!(text, "  begins   {begins}");
    let _ = writeln!(text, "  batches  {batch} or {linger}, {}", count(reading.workers, "worker"));
    if let Some(limits) = &reading.rate_limit {
        let of = |whose: &str, rate: &Option<Rate>| {
            let rate = (*rate)?;
            let bytes = rate.bytes.map(|size| size.to_string());
            let lines = rate.lines.map(|lines| count(lines as usize, "line"));
            Some(format!("{} a {whose}", bytes.into_iter().chain(lines).collect::<Vec<_>>().join(" and ")))
        };
        let all = [of("container", &limits.container), of("namespace", &limits.namespace)];
        let all: Vec<String> = all.into_iter().flatten().collect();
        let rest = match limits.action {
            LimitAction::Wait => "waits",
            LimitAction::Drop => "is dropped",
        };
        let burst = show_duration(limits.burst);
        let _ = writeln!(text, "  limits   {} a second, {burst} at once; the rest {rest}", all.join(", "));
    }
    if let Some(lag) = reading.max_lag {
        let _ = writeln!(text, "  lags     up to {lag} a container, beyond that the oldest is dropped");
    }
}

/// A number and what it counts.
fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// What would not work on this machine, or is seldom meant, each with what to do.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let logs = config.pod_logs.display();
    if let Err(error) = std::fs::read_dir(&config.pod_logs) {
        warnings.push(match error.kind() {
            io::ErrorKind::NotFound => {
                format!("pod_logs: {logs} does not exist here; on a node, mount the host's {logs} into the agent's pod")
            }
            _ => format!("pod_logs: {logs} cannot be read: {error}; run the agent as a user that may read it"),
        });
    }
    warnings.extend(not_writable("state_dir", &config.state_dir));
    warnings.extend(not_linkable(config));
    if let Listen::At(address) = config.listen
        && !address.ip().is_loopback()
    {
        warnings.push(format!(
            "listen: whoever reaches {address} can look at live log lines there, for nobody is asked who he is; write \
             \"127.0.0.1:{}\", and look by `kubectl port-forward`",
            address.port()
        ));
    }
    if let Some(Access::Kubeconfig(files)) = connection::access(&config.metadata) {
        warnings.extend(unreadable(&files));
    }
    warnings.extend(obstacles(config));
    warnings.extend(routes::warnings(config));
    for (name, output) in &config.outputs {
        if let OutputConfig::CloudWatch(output) = output {
            warnings.extend(cloudwatch::warnings(name, output));
        }
        if let (Some(label), None) = (output.labels().first(), connection::access(&config.metadata)) {
            warnings.push(format!(
                "outputs.{name}: nobody is asked for the labels of pods here, so that {{label:{label}}} is `none` for all \
                 of them; in a cluster its API server is, or that of KUBECONFIG"
            ));
        }
        if output.goes_by_run() && connection::access(&config.metadata).is_none() {
            warnings.push(format!(
                "outputs.{name}: nobody is asked for the ids of containers here, so that {{container_id}} is `none` for all \
                 of them; in a cluster its API server is, or that of KUBECONFIG"
            ));
        }
        let OutputConfig::Elasticsearch(search) = output else { continue };
        if search.target.template().is_per_pod() {
            warnings.push(format!(
                "outputs.{name}: every pod gets an index of its own, which a cluster cannot bear for long; \
                 leave {{pod}} and {{uid}} out of the name: they are fields of each document"
            ));
        }
        for (at, endpoint) in search.endpoints.iter().enumerate() {
            if search.endpoints[..at].contains(endpoint) {
                warnings
                    .push(format!("outputs.{name}.endpoints: {endpoint} stands there twice; leave one out"));
            }
        }
        warnings.extend(security(name, search));
    }
    warnings
}

/// What keeps outputs from working on this machine: secrets and certificates that are not here, folders that cannot be
/// written to.
pub(super) fn obstacles(config: &Config) -> Vec<String> {
    let mut obstacles = Vec::new();
    obstacles.extend(hash_key(config).err());
    for (name, output) in &config.outputs {
        match output {
            OutputConfig::File(file) => {
                let directory = Path::new(file.path.directory());
                obstacles.extend(not_writable(&format!("outputs.{name}.path"), directory));
            }
            OutputConfig::Elasticsearch(search) => {
                if let Some((key, source)) = search.auth.secret() {
                    let missing = read_secret(source).err();
                    obstacles.extend(missing.map(|error| format!("outputs.{name}.{key}: {error}")));
                }
                if search.endpoints.iter().any(|url| url.scheme() == "https") {
                    let broken = tls::build(&search.tls).err();
                    obstacles.extend(broken.map(|error| format!("outputs.{name}: {error}")));
                }
            }
            OutputConfig::CloudWatch(_) | OutputConfig::Stdout(_) => {}
        }
    }
    obstacles
}

/// Files of KUBECONFIG that cannot be read.
fn unreadable(files: &OsStr) -> Vec<String> {
    let told = |path: PathBuf| {
        let error = File::open(&path).err()?;
        let path = path.display();
        Some(format!(
            "metadata: KUBECONFIG names {path}, which cannot be read: {error}; nothing is known of pods without it but what \
             the paths of their logs say"
        ))
    };
    env::split_paths(files).filter(|path| !path.as_os_str().is_empty()).filter_map(told).collect()
}

/// Whether unread files cannot be kept by hard links: those need one mount.
fn not_linkable(config: &Config) -> Option<String> {
    let mount = |folder: &Path| {
        let there = folder.ancestors().find(|folder| folder.exists())?;
        let found = statx(CWD, there, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        Some((found.stx_mnt_id, found.stx_dev_major, found.stx_dev_minor))
    };
    if config.retain.max_bytes.bytes() == 0 || mount(&config.pod_logs)? == mount(&config.state_dir)? {
        return None;
    }
    Some(format!(
        "state_dir: {} and {} lie on different mounts, so that no hard links can keep what is deleted unread: it is held open \
         and copied, and what is deleted while no agent runs is lost; mount what holds both, such as /var/log, once",
        config.state_dir.display(),
        config.pod_logs.display()
    ))
}

/// What others on the way could see or change.
fn security(name: &str, search: &ElasticsearchConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    if search.auth.secret().is_some()
        && let Some(url) = search.endpoints.iter().find(|url| url.scheme() == "http")
    {
        warnings.push(format!(
            "outputs.{name}.auth: {url} has no TLS, so that whoever is on the way can read the secret; use https://"
        ));
    }
    if search.tls.insecure_skip_verify {
        warnings.push(format!(
            "outputs.{name}.tls.insecure_skip_verify: whoever is on the way can pose as the server; give its authority \
             as `tls.ca_file` instead"
        ));
    }
    warnings
}

/// Why nothing could be created in a folder, which itself need not exist yet.
fn not_writable(key: &str, folder: &Path) -> Option<String> {
    // Without the last `/`, behind which a file would seem not to be there at all.
    let there = folder.components().as_path().ancestors().find(|folder| folder.exists())?;
    if !there.is_dir() {
        return Some(format!("{key}: {} is not a folder; choose another path", there.display()));
    }
    let error = rustix::fs::access(there, Permission::WRITE_OK | Permission::EXEC_OK).err()?;
    Some(format!(
        "{key}: nothing can be written to {}: {error}; mount a writable volume there, or run the agent as a user that \
         may write to it",
        there.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Template;

    #[test]
    fn the_summary_tells_where_everything_goes() {
        let text = "cluster = \"tokyo\"\nnode = \"n1\"\nmetadata.source = \"path\"\n[outputs.search]\ntype = \"opensearch\"\n\
                    endpoints = [\"http://a:1\", \"http://b:1\"]\ndata_stream = \"logs-{namespace}\"\nlinger = \"2s\"\n\
                    [outputs.local]\ntype = \"file\"\npath = \"/out/{pod}.ndjson\"\nkeep = 1\nstart = \"now\"\n";
        let config = Config::parse(text, "f").expect("a valid configuration");
        assert_eq!(
            summary(&config, "f.toml"),
            "f.toml: no mistakes

cluster tokyo, node n1
  reads    /var/log/pods (links into /var/lib/docker/containers)
  pods     are told by the paths of their logs only
  state    /var/log/taffrail
  retains  unread files up to 2GiB, while 12% of the disk and 10% of its inodes are free
  records  up to 1MiB, longer ones are split
  memory   64MiB for records under way, shared by the outputs
  stops    within 30s of SIGTERM

output local, file
  to       /out/{pod}.ndjson
  rotates  at 100MiB, 1 old file kept
  begins   with what is written from its first start on
  batches  4MiB or 200ms, 1 worker

output search, elasticsearch
  to       data stream logs-{namespace}
  servers  http://a:1/, http://b:1/
  sends    4 requests at a time, gzip level 1, timeout 1m
  retries  after 500ms, doubled up to 30s
  delivers exactly once: a record that is sent again is recognised by its `_id`
  refused  kept as dead letters, up to 100MiB
  begins   with the oldest record there is, none older than 24h
  batches  4MiB or 2s, 1 worker
"
        );
    }

    #[test]
    fn without_ids_it_is_at_least_once() {
        let text = "[outputs.s]\ntype = \"opensearch\"\nendpoints = [\"http://a\"]\nindex = \"a-{label:team}\"\n\
                    pipeline = \"nginx\"\nop = \"index\"\ndead_letters = \"1MiB\"\n";
        let shown = |text: &str| summary(&Config::parse(text, "f").expect("a valid configuration"), "f");
        let index = shown(text);
        for line in [
            "through  ingest pipeline nginx",
            "delivers exactly once: a record that is sent again replaces",
            "up to 1MiB",
        ] {
            assert!(index.contains(line), "{index}");
        }
        let without = shown(&format!("{text}document_id = false\n"));
        assert!(without.contains("\n  delivers at least once: without ids"), "{without}");
    }

    #[test]
    fn what_does_not_suit_this_machine_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("a file");
        let mut config = Config {
            pod_logs: folder.path().join("pods"),
            state_dir: folder.path().join("new/state"),
            ..Config::default()
        };
        let said = warnings(&config);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("pods does not exist here; on a node, mount"), "{said:?}");

        config.pod_logs = folder.path().to_owned();
        config.state_dir = file.join("state");
        let said = warnings(&config);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("state_dir: ") && said[0].contains("file is not a folder"), "{said:?}");

        config.state_dir = folder.path().to_owned();
        let path = Template::parse(&file.join("{namespace}.ndjson").display().to_string()).expect("a path");
        config.outputs = [("f".to_owned(), OutputConfig::File(FileConfig::new(path)))].into();
        let said = warnings(&config);
        assert!(said.len() == 1 && said[0].contains("file is not a folder"), "{said:?}");
    }

    #[test]
    fn what_is_open_or_stands_twice_or_cannot_be_read_is_told() {
        let text = "listen = \"0.0.0.0:9600\"\nmetadata.source = \"path\"\n[outputs.s]\ntype = \"opensearch\"\nindex = \"a\"\n\
                    endpoints = [\"http://a\", \"http://b\", \"http://a/\"]\n";
        let mut config = Config::parse(text, "f").expect("a valid configuration");
        config.pod_logs = "/".into();
        config.state_dir = std::env::temp_dir();
        let said = warnings(&config).join("\n");
        assert!(said.contains("whoever reaches 0.0.0.0:9600") && said.contains("127.0.0.1:9600"), "{said}");
        assert!(said.contains("outputs.s.endpoints: http://a/ stands there twice"), "{said}");
        let files = tempfile::NamedTempFile::new().expect("a file");
        let names = format!("/none/config:{}", files.path().display());
        let said = unreadable(OsStr::new(&names));
        assert!(said.len() == 1 && said[0].contains("KUBECONFIG names /none/config"), "{said:?}");
    }

    #[test]
    fn secrets_are_told_by_their_place_and_missed_when_they_are_not_there() {
        let text = "[outputs.s]\ntype = \"opensearch\"\nendpoints = [\"https://a\", \"http://b\"]\nindex = \"a\"\n\
                    auth = { type = \"basic\", username = \"me\", password = { file = \"/none/password\" } }\n\
                    tls = { ca_file = \"/none/ca.pem\", server_name = \"search\", min_version = \"1.3\" }\n";
        let mut config = Config::parse(text, "f").expect("a valid configuration");
        config.pod_logs = "/".into();
        config.state_dir = std::env::temp_dir();
        let shown = summary(&config, "f");
        assert!(shown.contains("\n  as       user me, password from /none/password\n"), "{shown}");
        assert!(
            shown.contains("\n  trusts   servers vouched for in /none/ca.pem, as search, TLS 1.3 only\n"),
            "{shown}"
        );
        let said = warnings(&config);
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("outputs.s.auth.password: /none/password cannot be read"), "{said:?}");
        assert!(said[1].starts_with("outputs.s: /none/ca.pem cannot be read"), "{said:?}");
        assert!(said[2].contains("http://b/ has no TLS"), "{said:?}");
    }

    #[test]
    fn a_mistake_is_exit_code_two() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("taffrail.toml");
        let run = |path: Option<&Path>| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let code = report(path, false, &mut out, &mut err);
            (code, String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
        };
        std::fs::write(&file, "[outputs.a]\ntype = \"stdout\"\n").expect("a file");
        let (code, out, _) = run(Some(&file));
        assert!(code == 0 && out.contains("taffrail.toml: no mistakes\n"), "{out}");
        std::fs::write(&file, "[outputs.a]\ntype = \"stdin\"\n").expect("a file");
        let (code, out, err) = run(Some(&file));
        assert!(code == 2 && out.is_empty() && err.contains("taffrail.toml:2:8\n"), "{err}");
        assert_eq!(run(Some(&folder.path().join("none"))).0, 2);
        let (code, out, _) = run(None);
        assert!(
            code == 0
                && out
                    .starts_with("the default configuration (give yours with --config FILE): no mistakes\n"),
            "{out}"
        );
    }
}
