//! Signals, the socket file and the standard streams, through the real process
//! (COMPATIBILITY.md 1.3, 3.6; SECURITY.md 3, F15).

#[path = "../support/mod.rs"]
mod support;

mod output;
mod signals;
mod socket_file;
mod waits;
