//! Programs of real runtimes that fail, as they do: with a trace.
//!
//! What comes in: a folder, and what this machine has. What goes out: the programs in it, ready to be run, and which are left
//! out because their language is not here. It never runs them.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A program that prints one failure to its standard error.
pub struct Program {
    /// What must be there for it.
    pub language: &'static str,
    file: &'static str,
    source: &'static str,
    /// How it is built: a shell's words, in its folder; none if it need not be.
    build: &'static str,
    /// How it is run, likewise.
    pub run: &'static str,
}

static PROGRAMS: [Program; 9] = [
    Program {
        language: "java",
        file: "Cart.java",
        source: r#"public class Cart {
            static void add(int n) { if (n == 0) throw new IllegalStateException("inner\nwith a second line"); add(n - 1); }
            public static void main(String[] arguments) {
                try { add(3); } catch (Exception e) {
                    Exception outer = new RuntimeException("could not add", e);
                    outer.addSuppressed(new java.io.IOException("closing"));
                    throw (RuntimeException) outer;
                }
            }
        }"#,
        build: "",
        run: "java Cart.java",
    },
    Program {
        language: "python3",
        file: "cart.py",
        source: "def add():\n    raise ValueError('bad value ' * 2_500)\ntry:\n    add()\nexcept ValueError as error:\n    \
                 raise RuntimeError('could not add') from error\n",
        build: "",
        run: "python3 cart.py",
    },
    Program {
        language: "python3",
        file: "logged.py",
        source: "import logging\ndef add():\n    {}['x']\ntry:\n    add()\nexcept KeyError:\n    try:\n        1 / 0\n    \
                 except Exception:\n        logging.exception('could not add')\n",
        build: "",
        run: "python3 logged.py",
    },
    Program {
        language: "go",
        file: "cart.go",
        source: "package main\nimport \"fmt\"\ntype cart struct{}\nfunc (c *cart) add(n int) {\n\tif n == 0 {\n\t\t\
                 panic(fmt.Errorf(\"bad value\"))\n\t}\n\tc.add(n - 1)\n}\nfunc main() { (&cart{}).add(3) }\n",
        build: "go build -o cart cart.go",
        run: "./cart",
    },
    Program {
        language: "node",
        file: "cart.js",
        source: "function add() { const e = new TypeError('bad value '.repeat(4000), { cause: new Error('root') }); e.code = 'E1'; throw e }\n\
                 add()\n",
        build: "",
        run: "node cart.js",
    },
    Program {
        language: "node",
        file: "logged.js",
        source: "try { null.x } catch (error) { console.error('could not add:', error.stack) }\n",
        build: "",
        run: "node logged.js",
    },
    Program {
        language: "ruby",
        file: "cart.rb",
        source: "def add\n  nil.foo\nend\ndef run\n  add\nend\nrun\n",
        build: "",
        run: "ruby cart.rb",
    },
    Program {
        language: "php",
        file: "cart.php",
        source: "<?php function add() { throw new Exception('bad value'); } function run() { add(); } run();",
        build: "",
        run: "php -d display_errors=0 -d log_errors=1 -d error_log=/dev/stderr cart.php",
    },
    Program {
        language: "rustc",
        file: "cart.rs",
        source: "fn main() { let n: u8 = std::env::args().count() as u8; assert_eq!(n, 3, \"bad value\"); }\n",
        build: "rustc cart.rs",
        run: "RUST_BACKTRACE=1 ./cart",
    },
];

/// Writes and builds in this folder those whose languages are here, and tells why others are not.
///
/// # Panics
/// When the folder cannot be written, or a compiler fails.
pub fn make(folder: &Path) -> (Vec<&'static Program>, Vec<String>) {
    let (mut made, mut left_out) = (Vec::new(), Vec::new());
    let shell = |words: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", words]).current_dir(folder).output().expect("a shell")
    };
    for program in &PROGRAMS {
        if !shell(&format!("command -v {}", program.language)).status.success() {
            left_out.push(format!("{} is not here: its failures are left out", program.language));
            continue;
        }
        fs::write(folder.join(program.file), program.source).expect("to write a program");
        let built = shell(program.build);
        assert!(built.status.success(), "{}: {}", program.build, String::from_utf8_lossy(&built.stderr));
        made.push(program);
    }
    (made, left_out)
}
