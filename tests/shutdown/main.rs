//! Signals, the socket file and the standard streams, through the real process
//! (contract 1.3, 3.6; reliability 5.4 F4, F15).

#[path = "../support/mod.rs"]
mod support;

mod output;
mod signals;
mod socket_file;
