//! The agent under test, as a process.
//!
//! What comes in: a configuration and a node. What goes out: a running agent with its stderr in a file, its exit code,
//! and at a test's failure what it said. It never lets an agent outlive its test, nor ends a process that it did not start.

use crate::node::Node;
use crate::{eventually, seconds};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long an agent may take to end once it is asked to; the default grace period of a pod is 30 s.
const TIME_TO_END: Duration = seconds(60);

/// The `taffrail` binary: env `TAFFRAIL_BIN`, else the one that cargo built beside the running test.
///
/// # Panics
/// When there is none.
pub fn binary() -> PathBuf {
    let path = match std::env::var_os("TAFFRAIL_BIN") {
        Some(path) => path.into(),
        None => {
            // target/debug/deps/opensearch-0123456789abcdef for a test, target/debug/torture for a program.
            let own = std::env::current_exe().expect("our own path");
            let folder = own.parent().expect("a folder");
            let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
            folder.join("taffrail")
        }
    };
    assert!(path.exists(), "there is no {}: run `cargo build` first, or set TAFFRAIL_BIN", path.display());
    path
}

/// How a process ended, and what it wrote.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// A running `taffrail`. It is killed when the value goes; in a test that fails, its stderr is printed first.
pub struct Agent {
    child: Child,
    /// The pid, for tests that look into `/proc`.
    pub pid: u32,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Agent {
    /// Starts `taffrail run` with this configuration. The node's folder holds the configuration and what the agent
    /// writes to stdout and stderr, under a new number at each start.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn start(config: &str, node: &Node) -> Agent {
        Agent::start_by(&[], config, node)
    }

    /// The same by way of a command that becomes the agent, such as `env`, [`crate::disk::SmallDisks::entry`] or
    /// [`powerless`].
    ///
    /// # Panics
    /// As [`Agent::start`].
    pub fn start_by(way: &[String], config: &str, node: &Node) -> Agent {
        let file = write_config(config, node);
        Agent::spawn(way, &["run", "--config", &file], node)
    }

    /// The same with a configuration that lies somewhere already, and may change.
    ///
    /// # Panics
    /// As [`Agent::start`].
    pub fn start_at(way: &[String], config: &Path, node: &Node) -> Agent {
        let file = config.to_str().expect("a temporary path of plain letters");
        Agent::spawn(way, &["run", "--config", file], node)
    }

    /// Starts `taffrail` with other arguments, such as `tap`, to run beside an agent.
    ///
    /// # Panics
    /// As [`Agent::start`].
    pub fn run_beside(arguments: &[&str], node: &Node) -> Agent {
        Agent::spawn(&[], arguments, node)
    }

    /// The same with another subcommand than `run`, which has its own arguments before those of the configuration.
    ///
    /// # Panics
    /// As [`Agent::start`].
    pub fn start_as(way: &[String], arguments: &[&str], config: &str, node: &Node) -> Agent {
        let file = write_config(config, node);
        Agent::spawn(way, &[arguments, &["--config", &file]].concat(), node)
    }

    /// Starts another program of ours than `taffrail`, which lies beside it.
    ///
    /// # Panics
    /// As [`Agent::start`].
    pub fn start_program(way: &[String], program: &str, node: &Node) -> Agent {
        Agent::spawn_program(way, &binary().with_file_name(program), &[], node)
    }

    fn spawn(way: &[String], arguments: &[&str], node: &Node) -> Agent {
        Agent::spawn_program(way, &binary(), arguments, node)
    }

    fn spawn_program(way: &[String], binary: &Path, arguments: &[&str], node: &Node) -> Agent {
        let name = next_name();
        let file = |ending: &str| node.path().join(format!("{name}.{ending}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        // setpriv asks the kernel to kill the agent with the thread that starts it, then becomes the agent, under the same
        // pid: not even a test that is killed leaves an agent behind.
        let mut words: Vec<&str> = way.iter().map(String::as_str).collect();
        words.extend(["setpriv", "--pdeathsig", "KILL"]);
        let child = Command::new(words[0])
            .args(&words[1..])
            .arg(binary)
            .args(arguments)
            // A developer's own cluster is none of the test's business, and what `demo` leaves goes with the node.
            .env_remove("KUBECONFIG")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .env_remove("RUST_LOG")
            .env("TMPDIR", node.path())
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).expect("a file for the agent's stdout"))
            .stderr(File::create(&stderr).expect("a file for the agent's stderr"))
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("cannot start {} by {} (Debian: util-linux): {error}", binary.display(), words[0])
        });
        Agent { pid: child.id(), child, stdout, stderr }
    }

    /// Asks it to end, by SIGTERM, and does not wait.
    ///
    /// # Panics
    /// When it cannot be signalled.
    pub fn ask_to_end(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("to signal the agent");
    }

    /// Ends it as a crash would: at once, by SIGKILL.
    ///
    /// # Panics
    /// When it had ended by itself before: a test that kills a corpse proves nothing.
    pub fn kill9(mut self) {
        if let Some(status) = self.status() {
            panic!("the agent had ended by itself before it was killed: {status}");
        }
        self.child.kill().expect("to kill the agent");
        self.child.wait().expect("to see the agent end");
    }

    /// Asks it to end, by SIGTERM, and waits until it has.
    ///
    /// # Panics
    /// When it has not ended after 60 s.
    pub fn terminate(self) -> Ended {
        self.ask_to_end();
        self.ends()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it has not after 60 s.
    pub fn ends(mut self) -> Ended {
        let status = eventually(TIME_TO_END, "the agent to end", || {
            self.status().ok_or_else(|| "it still runs".to_owned())
        });
        Ended { code: status.code(), stdout: read(&self.stdout), stderr: self.stderr() }
    }

    /// Asks it to reload, by SIGHUP, and does not wait.
    ///
    /// # Panics
    /// When it cannot be signalled.
    pub fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("to signal the agent");
    }

    /// Takes the processor from it, by SIGSTOP, as a machine does that hangs.
    ///
    /// # Panics
    /// When it cannot be signalled.
    pub fn freeze(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("to signal the agent");
    }

    /// Gives it back after [`Agent::freeze`].
    ///
    /// # Panics
    /// When it cannot be signalled.
    pub fn thaw(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("to signal the agent");
    }

    /// Waits until it has said something so many times.
    ///
    /// # Panics
    /// When it has not within 40 s.
    #[track_caller]
    pub fn has_said(&self, what: &str, times: usize) {
        eventually(seconds(40), what, || {
            let said = self.stderr();
            if said.matches(what).count() >= times { Ok(()) } else { Err(said) }
        });
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.status().is_none()
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("to ask after the agent")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.stderr();
            let lines: Vec<&str> = said.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            eprintln!(
                "--- stderr of agent {} (its last {} lines)\n{}\n---",
                self.pid,
                tail.len(),
                tail.join("\n")
            );
        }
    }
}

/// Runs `taffrail` with these arguments to its end.
///
/// # Panics
/// When it does not end within 60 s.
pub fn run(arguments: &[&str], node: &Node) -> Ended {
    Agent::spawn(&[], arguments, node).ends()
}

/// The same with a configuration behind the arguments, by way of a command as in [`Agent::start_by`].
///
/// # Panics
/// As [`run`].
pub fn run_by(way: &[String], arguments: &[&str], config: &str, node: &Node) -> Ended {
    let file = write_config(config, node);
    Agent::spawn(way, &[arguments, &["--config", &file]].concat(), node).ends()
}

/// Runs `taffrail check` on this configuration.
///
/// # Panics
/// As [`run`].
pub fn check(config: &str, node: &Node) -> Ended {
    let file = write_config(config, node);
    run(&["check", "--config", &file], node)
}

/// What a command begins with that shall lack root's power to read and write whatever it likes. Nothing for who is not
/// root, and lacks it anyway.
pub fn powerless() -> Vec<String> {
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"].map(str::to_owned).into()
}

fn write_config(config: &str, node: &Node) -> String {
    let file = node.path().join(format!("{}.toml", next_name()));
    fs::write(&file, config).expect("to write the configuration");
    file.to_str().expect("a temporary path of plain letters").to_owned()
}

fn next_name() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(1);
    format!("agent-{}", STARTED.fetch_add(1, Ordering::Relaxed))
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
