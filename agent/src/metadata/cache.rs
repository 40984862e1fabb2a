//! The cache: what is known of pods, kept on disk, so that a restart, or an API server that is away, still enriches.
//!
//! In: the table's content. Out: one file in the state directory, replaced as a whole, and read at the start. Losing it
//! costs enrichment until the API server answers, and nothing else: a file that cannot be used is left out, and told.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::facts::{NamespaceFacts, NodeLabels};
use super::table::{Saved, SavedPod};
use crate::position;

/// The format that is written. One version back and forth is understood: what is not known is passed over, and what is
/// missing has a default.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Content {
    taffrail_metadata: u32,
    #[serde(default)]
    pods: Vec<SavedPod>,
    #[serde(default)]
    namespaces: BTreeMap<String, NamespaceFacts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<NodeLabels>,
}

/// Where it lies in a state directory. No output can have a dot in its name, so that no file of one is meant.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("kubernetes.metadata.json")
}

/// Writes everything, so that a crash leaves the old file or the new.
///
/// # Errors
/// What the system says.
pub fn save(path: &Path, saved: Saved) -> io::Result<()> {
    let Saved { pods, namespaces, node } = saved;
    let content = Content { taffrail_metadata: VERSION, pods, namespaces, node };
    position::replace(path, &serde_json::to_vec(&content)?)
}

/// What an earlier process knew; nothing, if there was none or its file cannot be used.
pub fn load(path: &Path) -> Saved {
    let read = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Saved::default(),
        Err(error) => Err(error.to_string()),
        Ok(text) => parse(&text),
    };
    read.unwrap_or_else(|error| {
        tracing::warn!(file = %path.display(), error,
            "what was known of pods cannot be read: it comes anew from the API server");
        Saved::default()
    })
}

fn parse(text: &[u8]) -> Result<Saved, String> {
    let content: Content = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if content.taffrail_metadata > VERSION + 1 {
        return Err(format!("it was written by a much newer version (format {})", content.taffrail_metadata));
    }
    let Content { pods, namespaces, node, .. } = content;
    Ok(Saved { pods, namespaces, node })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(version: u32) -> String {
        format!(
            r#"{{"taffrail_metadata":{version},"new":1,"pods":[{{"key":"shop_web_u1","uid":"u1","new":2,
            "facts":{{"labels":{{"app":"web"}},"owners":{{"deployment":"web"}},"containers":{{"app":{{"image":"web:1",
            "runs":[{{"restart":0,"runtime":"containerd","id":"a","image":"web:1"}}]}}}}}}}}],
            "namespaces":{{"shop":{{"labels":{{"team":"a"}}}}}}}}"#
        )
    }

    #[test]
    fn what_was_saved_is_there_again_and_what_a_newer_version_adds_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        assert!(load(&path).pods.is_empty());
        let saved = parse(text(VERSION + 1).as_bytes()).unwrap();
        let (pods, namespaces) = (saved.pods.clone(), saved.namespaces.clone());
        assert_eq!((pods[0].facts.labels["app"].as_str(), pods[0].deleted), ("web", None));
        save(&path, saved).unwrap();
        let again = load(&path);
        assert_eq!((again.pods, again.namespaces), (pods, namespaces));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_no_knowledge_and_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        for content in ["", "{", "[]", r#"{"taffrail_metadata":1,"pods":1}"#, &text(VERSION + 2)] {
            std::fs::write(&path, content).unwrap();
            assert!(load(&path).pods.is_empty(), "{content}");
        }
    }
}
