//! The table of limits that `-validate` prints.

use std::{fmt::Write as _, time::Duration};

use crate::{
    config::Config,
    daemon::{self, System},
    descriptors, dht,
    fixed_limits::{self, Amount},
    memory::Source,
    node, settings,
};

/// A limit of this run.
struct Row {
    name: &'static str,
    value: String,
    unit: &'static str,
    source: &'static str,
}

fn row(name: &'static str, value: impl ToString, unit: &'static str, source: &'static str) -> Row {
    Row {
        name,
        value: value.to_string(),
        unit,
        source,
    }
}

fn fixed(name: &'static str, value: usize) -> Row {
    row(name, value, "", "fixed")
}

fn time(name: &'static str, value: Duration, source: &'static str) -> Row {
    row(name, value.as_secs_f64(), "s", source)
}

/// The limits in force for `config`, in a process to which `system` gives
/// so much; a line each.
#[must_use]
pub fn table(config: &Config, system: System) -> String {
    let given = |flag: &str| match config.sources.source(flag) {
        settings::Source::Flag => "flag",
        settings::Source::File => "config",
        settings::Source::Default => "default",
    };
    let mut rows = of_system(config, system, &given);
    rows.extend(of_clients(config, &given));
    rows.extend(of_connections(config, system, &given));
    rows.extend(of_addresses(config, system, &given));
    rows.extend(of_streams(config, system, &given));
    rows.extend(of_the_rest(system));
    rows.extend(of_budgets(config, system));
    rows.extend(of_constants());
    let mut out = String::new();
    for Row {
        name,
        value,
        unit,
        source,
    } in rows
    {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<56}{value:>12} {unit:<6}{source}");
    }
    out
}

type Given<'a> = dyn Fn(&'static str) -> &'static str + 'a;

fn of_system(config: &Config, system: System, given: &Given<'_>) -> Vec<Row> {
    let memory = match system.memory.source {
        Source::Given => given("memoryLimit"),
        Source::ControlGroup => "control group",
        Source::Machine => "system",
    };
    let half = system.descriptors / 2;
    let shares = crate::memory::Shares::of(system.memory.bytes, config.max_frame);
    vec![
        row("file descriptors", system.descriptors, "", "system"),
        row(
            "descriptors left when accepting pauses",
            descriptors::RESERVE.min(half),
            "",
            "fixed",
        ),
        row(
            "descriptors left when handlers are not connected to",
            descriptors::HANDLER_RESERVE.min(half),
            "",
            "fixed",
        ),
        row(
            "memory (-memoryLimit)",
            system.memory.bytes,
            "bytes",
            memory,
        ),
        row(
            "inbound connections refused at",
            crate::memory::REFUSE_AT,
            "%",
            "fixed",
        ),
        row("idle peers closed at", crate::memory::TRIM_AT, "%", "fixed"),
        row("connections cut at", crate::memory::CUT_AT, "%", "fixed"),
        row("memory charged to all peers", shares.all, "bytes", memory),
        row(
            "of them to one IPv4 address or IPv6 /56",
            shares.prefix,
            "bytes",
            memory,
        ),
        row("of them to one peer", shares.holder, "bytes", memory),
        row(
            "memory charged to all clients",
            shares.clients,
            "bytes",
            memory,
        ),
        row("of them to one client", shares.client, "bytes", memory),
        time(
            "open streams at the end (-shutdownGrace)",
            config.shutdown_grace,
            given("shutdownGrace"),
        ),
    ]
}

fn of_clients(config: &Config, given: &Given<'_>) -> Vec<Row> {
    vec![row(
        "control frame (-persistentConnMaxMsgSize)",
        config.max_frame,
        "bytes",
        given("persistentConnMaxMsgSize"),
    )]
}

fn of_connections(config: &Config, system: System, given: &Given<'_>) -> Vec<Row> {
    let limits = daemon::connection_limits(config, system);
    let watermarks = daemon::watermarks(config);
    let (set, memory) = (&config.limits, system.memory.bytes);
    let managed = |flag: &'static str| match &config.conn_manager {
        Some(_) => given(flag),
        None => "default",
    };
    // Zero leaves the limit to the system, wherever it is written.
    let scarce = match memory > 0 && memory / node::CONNECTION_COST < system.descriptors / 4 {
        true => "memory",
        false => "descriptors",
    };
    let or = |set: bool, source: &'static str, other: &'static str| match set {
        true => source,
        false => other,
    };
    vec![
        fixed("inbound connections being secured", limits.pending_inbound),
        fixed("dials under way", limits.pending_outbound),
        row(
            "inbound connections (-connMaxInbound)",
            limits.established_inbound,
            "",
            or(set.inbound.is_some(), given("connMaxInbound"), scarce),
        ),
        row(
            "connections (-connMax)",
            limits.established,
            "",
            or(set.connections.is_some(), given("connMax"), scarce),
        ),
        row(
            "connections after a trim (-connLo)",
            watermarks.low,
            "",
            managed("connLo"),
        ),
        row(
            "connections that start a trim (-connHi)",
            watermarks.high,
            "",
            managed("connHi"),
        ),
        time(
            "age that is not trimmed (-connGrace)",
            watermarks.grace,
            managed("connGrace"),
        ),
    ]
}

fn of_addresses(config: &Config, system: System, given: &Given<'_>) -> Vec<Row> {
    let limits = daemon::connection_limits(config, system);
    vec![
        row(
            "connections with one peer (-connPerPeer)",
            limits.per_peer,
            "",
            given("connPerPeer"),
        ),
        row(
            "inbound connections from one address (-connPerAddress)",
            limits.per_address.connections,
            "",
            given("connPerAddress"),
        ),
        row(
            "new connections from one address at once (-connBurst)",
            limits.per_address.burst,
            "",
            given("connBurst"),
        ),
        time(
            "until one more (-connRefill)",
            limits.per_address.refill,
            given("connRefill"),
        ),
        row(
            "connections from a private or own address",
            limits.per_local_address.connections,
            "",
            given("connPerAddress"),
        ),
        row(
            "new ones from such an address at once",
            limits.per_local_address.burst,
            "",
            given("connBurst"),
        ),
        time(
            "until one more from there",
            limits.per_local_address.refill,
            given("connRefill"),
        ),
    ]
}

fn of_streams(config: &Config, system: System, given: &Given<'_>) -> Vec<Row> {
    let streams = daemon::stream_limits(config, system);
    vec![
        row(
            "inbound streams on one connection (-streamsPerConn)",
            streams.per_connection,
            "",
            given("streamsPerConn"),
        ),
        row(
            "inbound streams of all peers (-streamsMax)",
            streams.inbound,
            "",
            match config.limits.streams {
                Some(_) => given("streamsMax"),
                None => "memory",
            },
        ),
    ]
}

/// Sizes of processes whose budgets are told, whatever this one has.
const BUDGETS: [(u64, [&str; 4]); 3] = [
    (
        128 << 20,
        [
            "with 128 MiB: charged to all peers",
            "with 128 MiB: charged to all clients",
            "with 128 MiB: DHT records and providers",
            "with 128 MiB: used when connections are cut",
        ],
    ),
    (
        512 << 20,
        [
            "with 512 MiB: charged to all peers",
            "with 512 MiB: charged to all clients",
            "with 512 MiB: DHT records and providers",
            "with 512 MiB: used when connections are cut",
        ],
    ),
    (
        2 << 30,
        [
            "with 2 GiB: charged to all peers",
            "with 2 GiB: charged to all clients",
            "with 2 GiB: DHT records and providers",
            "with 2 GiB: used when connections are cut",
        ],
    ),
];

/// What processes of usual sizes may hold because of strangers.
fn of_budgets(config: &Config, system: System) -> Vec<Row> {
    let rows = BUDGETS.into_iter().flat_map(|(bytes, names)| {
        let shares = crate::memory::Shares::of(bytes, config.max_frame);
        let mut system = system;
        system.memory.bytes = bytes;
        let store = daemon::dht_share(system);
        let held = store.min(dht::MAX_RECORD_BYTES) + store.min(dht::MAX_PROVIDER_BYTES);
        let cut = bytes / 100 * crate::memory::CUT_AT;
        let values = [shares.all, shares.clients, held as u64, cut];
        names.into_iter().zip(values)
    });
    rows.map(|(name, value)| row(name, value, "bytes", "fixed"))
        .collect()
}

/// What no setting changes.
fn of_constants() -> Vec<Row> {
    let rows = fixed_limits::all().into_iter();
    rows.map(|limit| match limit.amount {
        Amount::Count(count) => row(limit.text, count, "", "fixed"),
        Amount::Bytes(bytes) => row(limit.text, bytes, "bytes", "fixed"),
        Amount::Time(value) => time(limit.text, value, "fixed"),
    })
    .collect()
}

fn of_the_rest(system: System) -> Vec<Row> {
    let share = daemon::dht_share(system);
    vec![
        row(
            "DHT records held",
            share.min(dht::MAX_RECORD_BYTES),
            "bytes",
            "memory",
        ),
        row(
            "DHT providers held",
            share.min(dht::MAX_PROVIDER_BYTES),
            "bytes",
            "memory",
        ),
    ]
}
