//! The sections of the reference page: which tables there are, in which order, each with an example.
//!
//! In: nothing. Out: for each table its title, the place of its schema, and its keys as the loader knows them. What stands
//! here is what no docstring says: the order, and examples, which a test has the loader read.

use serde_json::Value;

use super::variant;
use crate::config::connection::{ApiKeyAuth, AwsAuth, BasicAuth, BearerAuth};
use crate::config::keys::{TABLES, cloudwatch, elasticsearch, forward, keys_of, reading, top_level};
use crate::config::routes::MatchConfig;
use crate::config::{
    AnnotationsConfig, DrainConfig, FileConfig, FilesConfig, HealthConfig, IndexSetup, LeasesConfig,
    LogConfig, MetadataConfig, Rate, RateLimitConfig, RetainConfig, RouteConfig, StdoutConfig,
    SubscriptionConfig, TlsConfig, TrustedConfig,
};

/// How the page begins.
pub const INTRODUCTION: &str = "\
# Configuration

Every key of the configuration. This page and [`configs/taffrail.schema.json`](../configs/taffrail.schema.json), by which editors
complete and check a file, are made from the docstrings of the agent's own types: `taffrail config reference` and `taffrail config
schema` print those of the version that you run.

The configuration is one file of TOML. It is strict: a key that there is not, or that stands in the wrong table, is a mistake, and
all mistakes are told at once, each with its place and what would be right. Every key but the destinations has a default, and
without a file the pod logs of the node go to standard output.

Values are taken as they are written. The environment's variables are not put into them, and a `${NAME}` is a mistake: a secret is
named by its place, `{ env = \"NAME\" }` or `{ file = \"/path\" }`, `node` is the environment's `NODE_NAME` by default, and what else
differs between clusters is a file for each, as kustomize and the chart make them.

    taffrail check --config taffrail.toml                  # what it would do, or what is wrong; --connect asks the servers
    taffrail explain --config taffrail.toml shop/web-0     # what becomes of a pod's log, and why
    taffrail test --config taffrail.toml                   # holds it against cases beside it: taffrail.test.toml

A running agent takes another configuration up by itself once the file changes; what only a restart can change
(`cluster`, `node`, `pod_logs`, `state_dir`) it says.
";

/// The title of the section on the forms of single values.
pub const VALUES: &str = "Values";

/// What single values look like, by the names of their schemas, and what they are called.
pub const FORMS: [(&str, &str); 30] = [
    ("Size", "size"),
    ("Time", "time"),
    ("Percent", "percentage"),
    ("Name", "name"),
    ("Path", "path"),
    ("PathPattern", "path with wildcards"),
    ("Template", "name with placeholders"),
    ("PathTemplate", "path with placeholders"),
    ("StreamTemplate", "stream with placeholders"),
    ("Patterns", "patterns"),
    ("Choice", "choice of names"),
    ("Conditions", "conditions"),
    ("Sample", "share"),
    ("Lines", "way to join lines"),
    ("Parse", "form of lines"),
    ("Redactions", "redactions"),
    ("Fields", "fields"),
    ("Renames", "fields and their names"),
    ("Lengths", "fields and sizes"),
    ("Given", "fields and values"),
    ("RecordTime", "time of a record"),
    ("Listen", "address to listen at"),
    ("Endpoint", "URL"),
    ("Secret", "secret"),
    ("AwsName", "name of AWS's"),
    ("RoleArn", "ARN of a role"),
    ("KmsKey", "ARN of a key"),
    ("SubscriptionTarget", "ARN of a target"),
    ("Account", "account"),
    ("LettersAway", "place for dead letters"),
];

/// One table.
pub struct Section {
    /// How deep its heading is.
    pub level: usize,
    /// Its heading.
    pub title: &'static str,
    /// How its table is written, for the list of contents.
    pub name: &'static str,
    /// The definition of its schema; nothing for the whole file.
    pub of: &'static str,
    /// The `type` within that, if it has several.
    pub kind: &'static str,
    /// What it says first, if not the docstring of the type.
    pub said: Option<&'static str>,
    /// A configuration, or a part of one, that shows it.
    pub example: &'static str,
    /// Its keys, in their order.
    pub keys: Vec<&'static str>,
}

impl Section {
    /// Its part of the schema.
    pub fn table<'a>(&self, schema: &'a Value) -> &'a Value {
        match (self.of, self.kind) {
            ("", _) => schema,
            // No table by themselves: they are found in that of every output.
            ("ReadingConfig", _) => variant(&schema["$defs"]["OutputConfig"], "stdout"),
            (of, "") => &schema["$defs"][of],
            (of, kind) => variant(&schema["$defs"][of], kind),
        }
    }
}

/// All of them, in the order of the page.
pub fn sections() -> Vec<Section> {
    let section = |level, title, name, of, keys| Section {
        level,
        title,
        name,
        of,
        kind: "",
        said: None,
        example: "",
        keys,
    };
    let agent = top_level().into_iter().filter(|key| !TABLES.contains(key)).collect();
    vec![
        Section {
            said: Some("What concerns the agent as a whole stands above the first `[…]`."),
            example: "cluster = \"prod-tokyo\"\nmemory = \"128MiB\"\ngrace = \"60s\"                 # the pod's terminationGracePeriodSeconds\n",
            ..section(2, "The agent", "", "", agent)
        },
        Section {
            said: Some(
                "Where records go, each under a name of your choice: 1 to 64 small letters, digits, `-` and `_`. Every output reads \
                 the files itself and from its own place, so that one that is away delays no other. Its key `type` says what it is: \
                 `\"elasticsearch\"` (or `\"opensearch\"`, which is the same), `\"cloudwatch\"`, `\"file\"` or `\"stdout\"`. At least \
                 one is required.\n\nThese keys stand in the table of an output of any type:",
            ),
            example: "[outputs.archive]\ntype = \"file\"\npath = \"/var/log/taffrail-out/{namespace}.ndjson\"\nstart = \"now\"\nlinger = \"2s\"\n",
            ..section(2, "Outputs", "`[outputs.NAME]`", "ReadingConfig", reading())
        },
        Section {
            example: "[outputs.archive]\ntype = \"stdout\"\n\n[outputs.archive.rate_limit]\ncontainer = { bytes = \"1MiB\" }\nnamespace = { bytes = \"8MiB\", lines = 20_000 }\naction = \"drop\"\n",
            ..section(
                3,
                "Rate limits",
                "`[outputs.NAME.rate_limit]`",
                "RateLimitConfig",
                [vec!["container", "namespace"], keys_of::<RateLimitConfig>()].concat(),
            )
        },
        Section {
            said: Some("`container` and `namespace` are each a table of these:"),
            ..section(4, "Rates", "`container`, `namespace`", "Rate", keys_of::<Rate>())
        },
        Section {
            kind: "elasticsearch",
            example: "[outputs.search]\ntype = \"elasticsearch\"                # or \"opensearch\", which is the same\nendpoints = [\"https://search-1.example:9200\", \"https://search-2.example:9200\"]\ndata_stream = \"logs-{namespace}-prod\"\nauth = { type = \"api_key\", key = { file = \"/run/secrets/api-key\" } }\n",
            ..section(
                3,
                "Elasticsearch and OpenSearch",
                "`type = \"elasticsearch\"`",
                "OutputConfig",
                elasticsearch(),
            )
        },
        Section {
            said: Some(
                "How requests are authenticated: `auth = \"aws\"`, or a table with a `type`, which is one of the four below. Without it they are not.",
            ),
            example: "[outputs.search]\ntype = \"opensearch\"\nendpoints = [\"https://search-logs.ap-northeast-1.es.amazonaws.com\"]\nindex = \"logs-{date}\"\n\n[outputs.search.auth]\ntype = \"aws\"\nrole_arn = \"arn:aws:iam::123456789012:role/logs\"\n",
            ..section(4, "Authentication", "`auth`", "AuthConfig", Vec::new())
        },
        Section { kind: "aws", ..section(5, "AWS", "`type = \"aws\"`", "AuthConfig", keys_of::<AwsAuth>()) },
        Section {
            kind: "basic",
            ..section(5, "User and password", "`type = \"basic\"`", "AuthConfig", keys_of::<BasicAuth>())
        },
        Section {
            kind: "api_key",
            ..section(5, "API key", "`type = \"api_key\"`", "AuthConfig", keys_of::<ApiKeyAuth>())
        },
        Section {
            kind: "bearer",
            ..section(5, "Bearer token", "`type = \"bearer\"`", "AuthConfig", keys_of::<BearerAuth>())
        },
        Section {
            example: "[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"https://10.0.0.7:9200\"]\nindex = \"logs-{date}\"\ntls = { ca_file = \"/etc/taffrail/ca.pem\", server_name = \"search.example\" }\n",
            ..section(4, "TLS", "`tls`", "TlsConfig", keys_of::<TlsConfig>())
        },
        Section {
            example: "[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"https://10.0.0.7:9200\"]\ndata_stream = \"logs-{namespace}-prod\"\n\n[outputs.search.setup]\nkeep = \"30d\"\nrollover_age = \"1d\"\n",
            ..section(4, "Index templates", "`setup`", "IndexSetup", keys_of::<IndexSetup>())
        },
        Section {
            kind: "cloudwatch",
            example: "[outputs.archive]\ntype = \"cloudwatch\"\nregion = \"ap-northeast-1\"\nlog_group = \"/eks/{cluster}\"\nlog_stream = \"{node}\"                   # one stream a node: the fewest calls in a large fleet\nretention_days = 30\nformat = \"compact\"\n",
            ..section(3, "CloudWatch Logs", "`type = \"cloudwatch\"`", "OutputConfig", cloudwatch())
        },
        Section {
            example: "[outputs.archive]\ntype = \"cloudwatch\"\n\n[outputs.archive.subscription]\nto = \"arn:aws:kinesis:ap-northeast-1:123456789012:stream/logs\"\n",
            ..section(
                4,
                "Subscription",
                "`[outputs.NAME.subscription]`",
                "SubscriptionConfig",
                keys_of::<SubscriptionConfig>(),
            )
        },
        Section {
            kind: "file",
            example: "[outputs.archive]\ntype = \"file\"\npath = \"/var/log/taffrail-out/{namespace}/{pod}.ndjson\"\nmax_size = \"50MiB\"\nkeep = 3\n",
            ..section(3, "Files", "`type = \"file\"`", "OutputConfig", keys_of::<FileConfig>())
        },
        Section {
            kind: "stdout",
            example: "[outputs.look]\ntype = \"stdout\"\nformat = \"text\"\n",
            ..section(3, "Standard output", "`type = \"stdout\"`", "OutputConfig", keys_of::<StdoutConfig>())
        },
        Section {
            said: Some(
                "Which logs go where, and in what form: a list, of which the first route that matches a container decides, unless it \
                 says `continue = true`. A log that no route matches goes nowhere; without any route everything goes to every \
                 output. A record enters an output once: a route behind one with `continue` names others.\n\nWhat a route does with \
                 a record it does in this order: lines are joined (`multiline`), fields are made (`json`, `parse`), `keep`, `drop` \
                 and `sample` decide by what the program wrote, `redact` replaces what must not leave, and then come, in this order, `rename`, `remove`, \
                 `hash`, `truncate` and `add`.",
            ),
            example: "[[routes]]                                # nothing that names a customer leaves the payments pods\nmatch = { namespace = \"payments-*\", labels.app = \"api\", container = \"!istio-proxy\" }\nkeep = { level = \">=info\" }\ndrop = [{ message = \"GET /healthz\" }, { app.status = \"< 400\", stream = \"stdout\" }]\nsample = { rate = 0.1, by = \"app.trace_id\" }\nmultiline = \"auto\"\nredact = [\"email\", \"card\", { name = \"ssn\", regex = '\\d{3}-\\d{2}-\\d{4}' }]\noutputs = [\"search\", \"archive\"]\n\n[[routes]]                                # and this one is for all the others\noutputs = [\"archive\"]\n",
            ..section(2, "Routes", "`[[routes]]`", "RouteConfig", keys_of::<RouteConfig>())
        },
        Section {
            example: "[[routes]]\nmatch = { namespace = [\"team-*\", \"!team-test\"], workload = \"deployment/*\", labels.\"app.kubernetes.io/part-of\" = \"shop\" }\noutputs = [\"search\"]\n",
            ..section(3, "Which logs a route is for", "`match`", "MatchConfig", keys_of::<MatchConfig>())
        },
        Section {
            said: Some(
                "Files of the host that are read beside the pod logs, under a name of your choice, which goes to `event.dataset`: 1 \
                 to 64 small letters, digits, `-` and `_`. A file is known by its inode and birth time and by how it begins; it may \
                 be rotated by renaming or by `copytruncate`.",
            ),
            example: "[files.system]\npaths = [\"/var/log/syslog\", \"/var/log/nginx/*.log\"]\nexclude = [\"/var/log/nginx/debug*\"]\nlabels = { team = \"infra\" }\n",
            ..section(2, "Host files", "`[files.NAME]`", "FilesConfig", keys_of::<FilesConfig>())
        },
        Section {
            example: "[metadata]\nlabels = [\"app\", \"team\", \"app.kubernetes.io/*\"]\nnode_labels = [\"topology.kubernetes.io/zone\"]\nfields = [\"*\", \"!kubernetes.pod.ip\"]\n",
            ..section(2, "Metadata", "`[metadata]`", "MetadataConfig", keys_of::<MetadataConfig>())
        },
        Section {
            example: "[annotations]\nallow = [\"multiline\", \"json\"]\nreport_events = true\n\n[annotations.namespaces]\n\"team-*\" = [\"exclude\", \"sample\"]\n",
            ..section(
                2,
                "Annotations",
                "`[annotations]`",
                "AnnotationsConfig",
                keys_of::<AnnotationsConfig>(),
            )
        },
        Section {
            example: "[retain]\nmax_bytes = \"10GiB\"\nmin_free = \"15%\"\n",
            ..section(2, "Retention", "`[retain]`", "RetainConfig", keys_of::<RetainConfig>())
        },
        Section {
            example: "[drain]\nenabled = true\ndeadline = \"90s\"\nfallback = \"archive\"\n",
            ..section(2, "Nodes that go away", "`[drain]`", "DrainConfig", keys_of::<DrainConfig>())
        },
        Section {
            example: "[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"https://10.0.0.7:9200\"]\ndata_stream = \"logs-{namespace}-prod\"\n\n[health]                                  # to logs-taffrail-prod\noutputs = [\"search\"]\n",
            ..section(2, "The agent's own records", "`[health]`", "HealthConfig", keys_of::<HealthConfig>())
        },
        Section {
            example: "[log]\nformat = \"json\"\nlevel = \"warn\"\n",
            ..section(2, "The agent's own log", "`[log]`", "LogConfig", keys_of::<LogConfig>())
        },
        Section {
            example: "[forward]\ntrusted = [{ owner = \"123456789012\", log_group = \"/eks/{cluster}\" }]\nforeign = \"logs-cloudwatch-prod\"\ndead_letters = \"s3://my-letters/taffrail\"\n",
            ..section(2, "The forwarder", "`[forward]`", "ForwardConfig", forward())
        },
        Section {
            example: "[forward]\ndead_letters = \"s3://my-letters/taffrail\"\n\n[forward.leases]\nname = \"taffrail-forward\"\nduration = \"15s\"\n",
            ..section(3, "Replicas", "`[forward.leases]`", "LeasesConfig", keys_of::<LeasesConfig>())
        },
        section(3, "Trusted groups", "`trusted`", "TrustedConfig", keys_of::<TrustedConfig>()),
    ]
}
