//! Mistakes in `[files.NAME]`, as they are told.

use super::Config;

fn mistakes(text: &str) -> String {
    Config::parse(text, "t.toml").expect_err(text).to_string()
}

#[test]
fn host_files_are_named_by_patterns_that_can_be_looked_for() {
    for (line, message, help) in [
        ("paths = []", "`paths`: the list is empty", "name at least one"),
        ("paths = [\"syslog\"]", "`paths`: `syslog` is not an absolute path", "begin with `/`"),
        ("paths = [\"/a/../b\"]", "`paths`: `/a/../b` is not an absolute path", "leave out `..`"),
        ("paths = [\"/var/log/\"]", "`paths`: `/var/log/` names a folder", "\"/var/log/*.log\""),
        ("paths = [\"/**/*.log\"]", "looks through the whole file system", "begin with a folder"),
        ("paths = [\"/a/[b\"]", "`paths`: `/a/[b` is not a pattern", "wildcards are"),
        ("paths = [\"/var/log/pods/*/*.log\"]", "lies within `pod_logs`", "leave it out"),
        ("paths = [\"/var/log/taffrail/*\"]", "lies within `state_dir`", "leave it out"),
        ("paths = [\"/a\"]\nformat = \"cri\"", "`format` cannot be `cri`", "`plain` or `container`"),
        ("paths = [\"/a\"]\nlabels = { a = 1 }", "`labels` cannot be", "expected a string"),
        (
            "paths = [\"/a\"]\nlabels = { a = \"${TEAM}\" }",
            "`labels`: the environment's variables are not put into values",
            "write the value itself",
        ),
        ("pths = [\"/a\"]", "unknown key `pths`", "did you mean `paths`?"),
        ("exclude = [\"/a\"]", "missing key `paths`", "add the files"),
    ] {
        let said = mistakes(&format!("[outputs.o]\ntype = \"stdout\"\n[files.system]\n{line}\n"));
        assert!(said.contains(message) && said.contains(help), "{line}: {said}");
        assert_eq!(said.matches("error:").count(), 1, "{said}");
    }
    let said = mistakes("[outputs.o]\ntype = \"stdout\"\n[files.pods]\npaths = [\"/a\"]\n");
    assert!(said.contains("`pods` cannot be the name of host files") && said.contains(":3:"), "{said}");
    let said = mistakes("[outputs.o]\ntype = \"stdout\"\n[files]\nSys = { paths = [\"/a\"] }\nx = 1\n");
    assert!(
        said.contains("`Sys` cannot be the name of host files") && said.contains("`files.x` must be a table"),
        "{said}"
    );
}
