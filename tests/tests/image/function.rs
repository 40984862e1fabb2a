//! The Lambda function's zip: one file, as Lambda's custom runtimes want it, and it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use taffrail_tests::agent;

#[test]
fn the_functions_zip_is_one_program_called_bootstrap_that_runs_and_comes_out_the_same_to_the_byte() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let binary = agent::binary().with_file_name("taffrail-forwarder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/image/build");
    let zips = ["x86_64", "aarch64"].map(|architecture| {
        let zip = folder.path().join(format!("{architecture}.zip"));
        let output = Command::new("python3")
            .arg(&script)
            .args(["--lambda", "--arch", architecture, "--binary"])
            .arg(&binary)
            .arg("--output")
            .arg(&zip)
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()
            .expect("to run manifests/image/build (Debian: python3)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), zip.to_string_lossy());
        zip
    });
    // The program is the same here: what else is in it depends on nothing but that.
    assert!(fs::read(&zips[0]).unwrap() == fs::read(&zips[1]).unwrap());
    // As whoever is not Python reads it: names, modes and content.
    let unpack = "import os, sys, zipfile\n\
        with zipfile.ZipFile(sys.argv[1]) as packed:\n\
        \x20   for entry in packed.infolist():\n\
        \x20       path = packed.extract(entry, sys.argv[2])\n\
        \x20       os.chmod(path, entry.external_attr >> 16)\n\
        \x20       print(entry.filename, oct(entry.external_attr >> 16), entry.create_system)";
    let output = Command::new("python3")
        .args(["-c", unpack])
        .args([&zips[0], folder.path()])
        .output()
        .expect("to unpack it");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "bootstrap 0o100755 3\n");
    let program = folder.path().join("bootstrap");
    assert!(fs::read(&program).unwrap() == fs::read(&binary).unwrap());
    assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
    let mut ran = Command::new(&program);
    ran.env_remove("TAFFRAIL_FORWARDER_CONFIG").env_remove("LAMBDA_TASK_ROOT");
    let said = ran.current_dir(folder.path()).output().expect("to run it");
    let said = String::from_utf8_lossy(&said.stderr);
    assert!(said.starts_with("error: the configuration cannot be read"), "{said}");
    assert!(said.contains("taffrail-forwarder.toml"), "{said}");
}
