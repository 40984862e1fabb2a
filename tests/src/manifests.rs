//! What is in the folder `manifests/`, rendered by kustomize and helm themselves, and what an API server makes of it.
//!
//! What comes in: names of overlays and components, and values of the chart. What goes out: Kubernetes objects as JSON,
//! answers of the API server to them. kustomize and helm are built once by `servers/manifests/build`. Nothing here
//! writes into the source tree.

use crate::http::{Reply, Request};
use crate::kubernetes::Kubernetes;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The namespace of the manifests.
pub const NAMESPACE: &str = "taffrail";

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Names of what is in a folder of `manifests/`, such as `overlays`.
///
/// # Panics
/// When there is no such folder.
pub fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join("manifests").join(folder)).expect("a folder of manifests");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The objects of a folder of `manifests/`, such as `overlays/both`, as `kubectl apply -k` would make them.
///
/// # Panics
/// When kustomize refuses it: with what it said.
#[track_caller]
pub fn kustomize(folder: &str) -> Vec<Value> {
    objects(tool(&["kustomize", &root().join("manifests").join(folder).to_string_lossy()]))
}

/// The same with components of `manifests/components` added, as a user's own overlay would.
///
/// # Panics
/// As [`kustomize`].
#[track_caller]
pub fn kustomize_with(folder: &str, components: &[&str]) -> Vec<Value> {
    let own =
        tempfile::Builder::new().prefix("overlay-").tempdir_in(target()).expect("a folder for an overlay");
    let to = |what: &str| shipped(own.path(), what);
    let components: Vec<String> = components.iter().map(|name| to(&format!("components/{name}"))).collect();
    // JSON is YAML.
    let text = json!({ "resources": [to(folder)], "components": components }).to_string();
    fs::write(own.path().join("kustomization.yaml"), text).expect("to write an overlay");
    objects(tool(&["kustomize", &own.path().to_string_lossy()]))
}

/// The path from an overlay of one's own to a folder of `manifests/`: only by relative ones can kustomize be led elsewhere.
///
/// # Panics
/// When one of the two is not there.
pub fn shipped(own: &Path, what: &str) -> String {
    let up = own.canonicalize().expect("a real path");
    let up = "../".repeat(up.components().count() - 1);
    let manifests = root().join("manifests").canonicalize().expect("the manifests");
    format!("{up}{}/{what}", manifests.strip_prefix("/").expect("a whole path").display())
}

/// What the chart renders with these values over its own.
///
/// # Errors
/// What helm says of values that it refuses.
pub fn chart(values: Value) -> Result<Vec<Value>, String> {
    let output = helm("template", values);
    match output.status.success() {
        true => Ok(objects(output)),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Runs `helm lint --strict` over the chart with these values.
///
/// # Errors
/// What it finds.
pub fn lint(values: Value) -> Result<(), String> {
    let output = helm("lint", values);
    let said = [output.stdout, output.stderr].concat();
    output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&said).into_owned())
}

fn helm(verb: &str, values: Value) -> Output {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile_in(target()).expect("a file of values");
    fs::write(&file, values.to_string()).expect("to write values");
    let chart = root().join("manifests/helm/taffrail");
    tool(&[verb, &chart.to_string_lossy(), &file.path().to_string_lossy()])
}

fn target() -> PathBuf {
    let folder = std::env::temp_dir();
    folder.canonicalize().expect("a folder for temporary files")
}

fn tool(arguments: &[&str]) -> Output {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let program = BUILT.get_or_init(|| built("manifests"));
    Command::new(program).args(arguments).output().expect("to run kustomize and helm")
}

/// Prometheus' own promtool, with these arguments, in the folder `dashboards/alerts`.
///
/// # Panics
/// When it cannot be built.
pub fn promtool(arguments: &[&str]) -> Output {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let program = BUILT.get_or_init(|| built("promtool"));
    let folder = root().join("dashboards/alerts");
    Command::new(program).args(arguments).current_dir(folder).output().expect("to run promtool")
}

/// The program of a folder of `tests/servers/` that is built once.
pub(crate) fn built(what: &str) -> PathBuf {
    let script = root().join("tests/servers").join(what).join("build");
    let output = Command::new(&script).stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
    assert!(output.status.success(), "{what} could not be built; what is missing is said above");
    String::from_utf8_lossy(&output.stdout).trim_end().into()
}

#[track_caller]
fn objects(output: Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a JSON array of objects")
}

/// The only object of this kind.
///
/// # Panics
/// When there is none or there are several.
#[track_caller]
pub fn one<'o>(objects: &'o [Value], kind: &str) -> &'o Value {
    let found: Vec<&Value> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}: {found:?}");
    found[0]
}

/// Where an object of these manifests lives at the API server.
///
/// # Panics
/// When its kind is new here.
pub fn path(object: &Value) -> String {
    let kind = object["kind"].as_str().expect("a kind");
    let namespaced = match kind {
        "Namespace" | "ClusterRole" | "ClusterRoleBinding" | "CustomResourceDefinition" => false,
        "ConfigMap" | "DaemonSet" | "Deployment" | "NetworkPolicy" | "ResourceQuota" | "Role"
        | "PrometheusRule" | "RoleBinding" | "Service" | "ServiceAccount" | "ServiceMonitor" => true,
        _ => panic!("where does a {kind} live?"),
    };
    let resources = kind.to_lowercase().replace("policy", "policie") + "s";
    let version = object["apiVersion"].as_str().expect("a version");
    let api = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
    let name = object["metadata"]["name"].as_str().expect("a name");
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or(NAMESPACE);
    if namespaced {
        format!("{api}/namespaces/{namespace}/{resources}/{name}")
    } else {
        format!("{api}/{resources}/{name}")
    }
}

/// Applies an object, as `kubectl apply --server-side` does, in earnest or by `--dry-run=server`; an unknown field is an
/// error.
///
/// # Errors
/// What the server says.
pub fn apply(cluster: &Kubernetes, object: &Value, dry: bool) -> Result<Value, String> {
    let dry = if dry { "&dryRun=All" } else { "" };
    let reply = cluster.forward(&Request {
        method: "PATCH".into(),
        target: format!("{}?fieldManager=tests&fieldValidation=Strict&force=true{dry}", path(object)),
        headers: vec![("content-type".into(), "application/apply-patch+yaml".into())],
        body: object.to_string().into_bytes(),
    })?;
    let text = String::from_utf8_lossy(&reply.body);
    if reply.status >= 300 {
        return Err(format!("{} {}: {text}", object["kind"], reply.status));
    }
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// What the server answers to the manifests' service account.
///
/// # Panics
/// When it cannot be reached.
pub fn as_account(cluster: &Kubernetes, method: &str, target: &str, body: &Value) -> Reply {
    as_account_of(cluster, (NAMESPACE, "taffrail"), method, target, body)
}

/// What the server answers to a service account, by its namespace and name.
///
/// # Panics
/// When it cannot be reached.
pub fn as_account_of(
    cluster: &Kubernetes,
    (namespace, name): (&str, &str),
    method: &str,
    target: &str,
    body: &Value,
) -> Reply {
    let account = format!("system:serviceaccount:{namespace}:{name}");
    let group = format!("system:serviceaccounts:{namespace}");
    let headers = [
        ("content-type", "application/json"),
        ("impersonate-user", &account),
        ("impersonate-group", "system:serviceaccounts"),
        ("impersonate-group", &group),
        ("impersonate-group", "system:authenticated"),
    ];
    let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request { method: method.into(), target: target.into(), headers, body };
    cluster.forward(&request).unwrap_or_else(|error| panic!("{error}"))
}
