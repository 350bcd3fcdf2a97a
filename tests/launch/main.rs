//! How the program starts, or refuses to: flags, config, key files, logs, exit codes
//! (COMPATIBILITY.md 1 and 2), all through the real binary.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod completions;
mod config;
mod datastore;
mod flags;
mod hostile;
mod keys;
mod listeners;
mod logs;
mod output;
mod refusals;
mod run;
mod service;
mod shared_port;

use run::{Run, rp2pd};
