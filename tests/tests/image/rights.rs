//! The image's root file system, entered as a container is, with no more rights than the manifests give.
//!
//! Needs root and mount namespaces; each test is skipped, and says so, where there are none.

use crate::Image;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use taffrail_tests::agent::Agent;
use taffrail_tests::node::{Container, Node};
use taffrail_tests::{eventually, seconds, verify};

/// As the manifests' base: uid 0 without any capability.
const UID_0: &str = "--bounding-set -all --inh-caps -all";
/// As overlays/non-root: uid 65532, whose container may have DAC_READ_SEARCH.
const UID_65532: &str =
    "--reuid 65532 --regid 65532 --clear-groups --bounding-set -all,+dac_read_search --inh-caps -all";
/// The same as runtimes do it: the container's first process has the capability.
const GRANTED: &str = "--reuid 65532 --regid 65532 --clear-groups --bounding-set -all,+dac_read_search \
    --inh-caps -all,+dac_read_search --ambient-caps -all,+dac_read_search";

/// A node, and the image's root file system to enter, where the node's folder is mounted.
struct World {
    node: Node,
    /// What holds the folder that `root` is in.
    _image: Image,
    root: PathBuf,
    /// Whether the logs are mounted read-only, beside the state.
    read_only: bool,
}

impl World {
    /// None where it cannot be: the test says so and is skipped.
    fn new(read_only: bool) -> Option<World> {
        let can =
            Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
        if !can || !rustix::process::geteuid().is_root() {
            println!("skipped: not root, or no mount namespaces here");
            return None;
        }
        let (node, image) = (Node::new(), Image::copy());
        let read = |name: String| serde_json::from_slice::<Value>(&image.file(&name)).expect("JSON");
        let blob =
            |of: &Value| format!("blobs/{}", of["digest"].as_str().expect("a digest").replace(':', "/"));
        let manifest = read(blob(&read("index.json".into())["manifests"][0]));
        let root = image.unpack(&image.file(&blob(&manifest["layers"][0])));
        for folder in ["proc", "usr", "lib", "lib64", "bin", node.path().to_str().expect("plain letters")] {
            fs::create_dir_all(root.join(folder.trim_start_matches('/'))).expect("a folder to mount at");
        }
        // Where the output shall write lies a file, until World::unblock.
        fs::write(node.path().join("out"), "").expect("a file in the way");
        // The pods' folder is there before anyone looks, for it is mounted.
        fs::create_dir_all(node.pods()).expect("the pods' folder");
        fs::create_dir_all(node.state()).expect("the state directory");
        Some(World { node, _image: image, root, read_only })
    }

    /// What a command begins with that becomes a process of the container. `steps`: options of setpriv, each of
    /// which becomes the next.
    fn enter(&self, steps: &[&str], drop: usize) -> Vec<String> {
        let (root, node) = (self.root.display(), self.node.path().display());
        let pods = self.node.pods();
        let logs = match self.read_only {
            true => format!("mount --bind {0} {root}{0}; mount -o remount,bind,ro {root}{0}", pods.display()),
            false => String::new(),
        };
        let steps: String = steps.iter().map(|options| format!("setpriv {options} ")).collect();
        // The debug binary is linked dynamically, and setpriv is the machine's: hence its libraries. A root file system
        // that is read-only, as in the manifests.
        let script = format!(
            "set -e
            mount --bind {root} {root}; mount -o remount,bind,ro {root}
            for folder in usr lib lib64 bin proc; do [ ! -d /$folder ] || mount --rbind /$folder {root}/$folder; done
            mount --bind {node} {root}{node}
            {logs}
            shift {drop}
            exec chroot {root} {steps} /taffrail \"$@\""
        );
        ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).into()
    }

    /// Starts the agent so.
    fn start(&self, steps: &[&str]) -> Agent {
        // The kit appends `setpriv --pdeathsig KILL BINARY`, of which only what follows is ours.
        Agent::start_by(&self.enter(steps, 4), &self.config(), &self.node)
    }

    /// What the init container of overlays/non-root does.
    fn prepare(&self) {
        // kubelet's fsGroup.
        let words = self.enter(&[&format!("--groups 65532 --no-new-privs {UID_0}")], 0);
        let status = Command::new(&words[0])
            .args(&words[1..])
            .args(["prepare", "--group", "65532"])
            .arg(self.node.state())
            .status()
            .expect("to run unshare");
        assert!(status.success());
    }

    fn config(&self) -> String {
        let path = self.node.path().join("out/{namespace}.ndjson");
        let retain = "retain.min_free = \"0%\"\nretain.min_free_inodes = \"0%\"\nretain.copy_after = \"1s\"";
        let config = self.node.config("");
        let config = config.replace("retain.min_free = \"0%\"\nretain.min_free_inodes = \"0%\"", retain);
        assert!(config.contains("copy_after"), "{config}");
        format!("{config}\n[outputs.local]\ntype = \"file\"\npath = \"{}\"\n", path.display())
    }

    fn unblock(&self, uid: u32) {
        let out = self.node.path().join("out");
        fs::remove_file(&out).expect("to clear the way");
        fs::create_dir(&out).expect("the output's folder");
        chown(&out, Some(uid), Some(uid)).expect("to give it away");
    }

    /// The only retained file there is, once there is one.
    fn retained(&self, agent: &Agent) -> PathBuf {
        eventually(seconds(30), "a retained file", || {
            files_below(&self.node.state().join("retained")).pop().ok_or_else(|| agent.stderr())
        })
    }
}

/// As the runtime leaves logs: root's, and nobody else's to read.
fn guard(container: &Container) {
    let log = container.current();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o640)).expect("to guard a log");
    assert_eq!(fs::metadata(&log).expect("a log").uid(), 0);
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn uid_0_without_any_capability_reads_logs_and_retains_them_by_links() {
    for options in [UID_0, &format!("--no-new-privs {UID_0}")] {
        let Some(world) = World::new(false) else { return };
        let mut web = world.node.pod("web").container("app");
        web.writes(500);
        guard(&web);
        let agent = world.start(&[options]);
        let retained = world.retained(&agent);
        let (kept, log) = (fs::metadata(&retained).unwrap(), fs::metadata(web.current()).unwrap());
        assert_eq!((kept.dev(), kept.ino()), (log.dev(), log.ino()), "a hard link");
        // Deleted while no agent runs: the link has it.
        agent.kill9();
        web.writes(100);
        web.delete();
        world.unblock(0);
        let agent = world.start(&[options]);
        verify::exactly_once(seconds(40), || world.node.delivered(), &[&web]);
        assert!(!agent.stderr().contains("DAC_READ_SEARCH"), "{}", agent.stderr());
        assert_eq!(agent.terminate().code, Some(0));
    }
}

#[test]
fn uid_65532_with_the_one_capability_reads_logs_and_retains_them_by_descriptor_and_copy() {
    for steps in [&[UID_65532][..], &[GRANTED, "--no-new-privs"]] {
        let Some(world) = World::new(true) else { return };
        world.prepare();
        let mut web = world.node.pod("web").container("app");
        web.writes(500);
        guard(&web);
        let agent = world.start(steps);
        eventually(seconds(30), "the capability", || {
            let said = agent.stderr();
            if said.contains("took up the right to read every log") { Ok(()) } else { Err(said) }
        });
        // It has the log open, and has found that it cannot be linked.
        eventually(seconds(30), "the log to be seen", || {
            let said = agent.stderr();
            if said.contains("cannot be linked") { Ok(()) } else { Err(said) }
        });
        assert_eq!(
            files_below(&world.node.state().join("retained")),
            [] as [PathBuf; 0],
            "no link across mounts"
        );
        web.delete();
        let retained = world.retained(&agent);
        assert_eq!(fs::metadata(&retained).unwrap().uid(), 65532, "a copy");
        // The copy outlives the agent.
        assert_eq!(agent.terminate().code, Some(0));
        world.unblock(65532);
        let agent = world.start(steps);
        verify::exactly_once(seconds(40), || world.node.delivered(), &[&web]);
        assert_eq!(agent.terminate().code, Some(0));
    }
}

#[test]
fn without_the_capability_an_agent_that_is_not_root_says_why_it_reads_nothing() {
    let Some(world) = World::new(true) else { return };
    world.prepare();
    world.unblock(65532);
    let mut web = world.node.pod("web").container("app");
    web.writes(100);
    guard(&web);
    // no_new_privs, and nothing granted: the file capability counts for nothing.
    let agent = world.start(&[UID_65532, "--no-new-privs"]);
    eventually(seconds(30), "the warning", || {
        let said = agent.stderr();
        if said.contains("without the capability DAC_READ_SEARCH") { Ok(()) } else { Err(said) }
    });
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(files_below(&world.node.path().join("out")), [] as [PathBuf; 0]);
}
