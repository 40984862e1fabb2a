//! End-to-end tests that need no server: files in, the file or stdout output out, and bad input.

mod bad_input;
mod catalog;
mod clocks;
mod dashboards;
mod dead_letters;
mod explain;
mod health;
mod host_files;
mod large_tree;
mod lifecycle;
mod limits;
mod lines;
mod multiline;
mod output;
mod redaction;
mod reload;
mod retention;
mod routes;
mod shaping;
mod small_disk;
mod unreadable;
mod upgrade;
mod vanishing;
