//! The table of limits that `-validate` prints.

use std::{fmt::Write as _, time::Duration};

use crate::{
    cli::Args,
    config::Config,
    control::{dialback, listener, session},
    daemon, muxer, node,
    streams::{self, registry},
};

/// A limit of this run.
struct Row {
    name: &'static str,
    value: String,
    unit: &'static str,
    source: &'static str,
}

/// The limits in force for `config`, which came of `args`, in a process that may open
/// `descriptors` files; a line each.
#[must_use]
pub fn table(args: &Args, config: &Config, descriptors: u64) -> String {
    let limits = daemon::connection_limits(config, descriptors);
    let marks = daemon::marks(config);
    let given = |typed: bool, flag: &'static str| match typed {
        true => "flag",
        false if config.in_file.contains(&flag) => "config",
        false => "default",
    };
    let managed = |typed: bool, flag: &'static str| match &config.conn_manager {
        Some(_) => given(typed, flag),
        None => "default",
    };
    let seconds = |time: Duration| format!("{}", time.as_secs_f64());
    let row = |name, value: String, unit, source| Row {
        name,
        value,
        unit,
        source,
    };
    let count = |name, value: usize, source| row(name, value.to_string(), "", source);
    let rows = [
        row("file descriptors", descriptors.to_string(), "", "system"),
        count("control connections", listener::MAX_CLIENTS, "fixed"),
        row(
            "control frame (-persistentConnMaxMsgSize)",
            config.max_frame.to_string(),
            "bytes",
            given(args.max_frame.is_some(), "persistentConnMaxMsgSize"),
        ),
        row(
            "control frame that has begun",
            seconds(session::FRAME_TIMEOUT),
            "s",
            "fixed",
        ),
        count("stream handlers", registry::MAX_SLOTS, "fixed"),
        count(
            "handler connections being made",
            dialback::MAX_DIALS,
            "fixed",
        ),
        row(
            "connecting to a handler",
            seconds(dialback::DIAL_TIMEOUT),
            "s",
            "fixed",
        ),
        count(
            "inbound connections being secured",
            limits.pending_inbound,
            "fixed",
        ),
        count("dials under way", limits.pending_outbound, "fixed"),
        count(
            "inbound connections",
            limits.established_inbound,
            "descriptors",
        ),
        count("connections", limits.established, "descriptors"),
        count("connections with one peer", limits.per_peer, "fixed"),
        count(
            "inbound connections from one address (-connPerAddress)",
            limits.per_address.connections,
            given(args.conn_per_address.is_some(), "connPerAddress"),
        ),
        count(
            "new connections from one address at once (-connBurst)",
            limits.per_address.burst,
            given(args.conn_burst.is_some(), "connBurst"),
        ),
        row(
            "until one more (-connRefill)",
            seconds(limits.per_address.refill),
            "s",
            given(args.conn_refill.is_some(), "connRefill"),
        ),
        count(
            "connections after a trim (-connLo)",
            marks.low,
            managed(args.conn_lo.is_some(), "connLo"),
        ),
        count(
            "connections that start a trim (-connHi)",
            marks.high,
            managed(args.conn_hi.is_some(), "connHi"),
        ),
        row(
            "age that is not trimmed (-connGrace)",
            seconds(marks.grace),
            "s",
            managed(args.conn_grace.is_some(), "connGrace"),
        ),
        count(
            "inbound streams on one connection",
            muxer::MAX_STREAMS,
            "fixed",
        ),
        count(
            "inbound streams of all peers",
            streams::MAX_INBOUND,
            "fixed",
        ),
        count("peers in the address book", node::MAX_PEERS, "fixed"),
        row(
            "open streams at the end (-shutdownGrace)",
            seconds(config.shutdown_grace),
            "s",
            given(args.shutdown_grace.is_some(), "shutdownGrace"),
        ),
    ];
    let mut out = String::new();
    for Row {
        name,
        value,
        unit,
        source,
    } in rows
    {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<56}{value:>10} {unit:<6}{source}");
    }
    out
}
