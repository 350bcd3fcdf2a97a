//! What the operator should know about a configuration that is accepted.

use super::{Config, DhtMode, Muxer};
use crate::cli::{Args, GoDuration};
use crate::wire::maddr::ControlAddr;
use crate::wording::quote;

/// Notices on `config`, which came of `args`; flags at their defaults cause none.
pub(super) fn of(args: &Args, config: &Config) -> Vec<String> {
    let mut notices = Vec::new();
    if let Some(word) = args.positional.first() {
        let word = quote(&word.to_string_lossy());
        notices.push(format!(
            "flags end at {word}: it and what follows is ignored"
        ));
    }
    let absent = list(&not_available(args, config));
    if !absent.is_empty() {
        notices.push(format!("not available yet, ignored: {absent}"));
    }
    let idle = list(&without_effect(args, config));
    if !idle.is_empty() {
        notices.push(format!("without effect: {idle}"));
    }
    if let Some(name) = &args.muxer
        && config.muxer == Muxer::Yamux
        && name != "yamux"
    {
        notices.push(format!("unknown muxer {}: yamux is used", quote(name)));
    }
    if config.host_addrs.is_empty() && !config.no_listen {
        notices.push("no -hostAddrs: the host listens on nothing".into());
    }
    if config.plaintext {
        notices.push("plaintext connections are allowed: nothing protects them".into());
    }
    notices
}

fn list(names: &[(&str, bool)]) -> String {
    let used = names.iter().filter(|(_, used)| *used);
    used.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// What is asked for and no code does yet.
fn not_available<'a>(args: &Args, config: &Config) -> Vec<(&'a str, bool)> {
    let other = |flag: Option<i64>, default: i64| flag.is_some_and(|value| value != default);
    let time = |flag: Option<GoDuration>, default: i64| other(flag.map(|time| time.0), default);
    vec![
        ("-autoRelay", config.relay.auto),
        ("-autonat", config.nat.autonat),
        (
            "-forceReachability",
            config.nat.reachability.is_some() && config.dht != Some(DhtMode::Auto),
        ),
        ("-metricsAddr", config.metrics_addr.is_some()),
        ("-natPortMap", config.nat.port_map),
        ("-relayBufferSize", other(args.relay_buffer_size, 16 << 20)),
        ("-relayDataLimit", other(args.relay_data_limit, 4 << 30)),
        ("-relayMaxCircuits", other(args.relay_max_circuits, 16)),
        (
            "-relayMaxReservations",
            other(args.relay_max_reservations, 128),
        ),
        (
            "-relayTimeLimit",
            time(args.relay_time_limit, 1_800_000_000_000),
        ),
    ]
}

/// What is accepted for old clients only, or needs another flag.
fn without_effect<'a>(args: &Args, config: &Config) -> Vec<(&'a str, bool)> {
    let on = |flag: Option<bool>| flag == Some(true);
    vec![
        (
            "-controlAllow",
            matches!(config.listen, ControlAddr::Unix(_)) && !config.control.allow.is_empty(),
        ),
        (
            "-controlUids",
            matches!(config.listen, ControlAddr::Tcp { .. }) && !config.control.uids.is_empty(),
        ),
        (
            "-datastore",
            config.dht.is_none() && config.datastore.is_some(),
        ),
        (
            "-dhtNamespace",
            config.dht.is_none() && !config.dht_namespaces.is_empty(),
        ),
        ("-noInlinePeerId", on(args.no_inline_peer_id)),
        ("-pprof", on(args.pprof)),
        ("-pprofPort", args.pprof_port.is_some_and(|port| port != 0)),
        ("-quic=false", args.quic == Some(false)),
        ("-relayActive", on(args.relay_active)),
        ("-relayHop", on(args.relay_hop)),
        (
            "-relayHopLimit",
            args.relay_hop_limit.is_some_and(|limit| limit != 0),
        ),
        ("-secio", on(args.secio)),
    ]
}
