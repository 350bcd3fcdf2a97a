//! The settings of the layers, from those of the operator.

use super::{
    Secrets,
    base::Base,
    limits::{System, connection_limits, watermarks},
};
use crate::{
    config::{self, Config, Muxer, Reachability},
    node::{Options, Reach, rules::Rules},
    pubsub::{self, Signing},
    relay::RelaySettings,
};

pub(super) fn node_options(
    config: &Config,
    secrets: &Secrets,
    (system, rules): (System, Rules),
    base: &Base,
) -> Options {
    Options {
        noise: config.noise,
        tls: config.tls,
        plaintext: config.plaintext,
        network: secrets.network,
        wss: secrets.wss.clone(),
        mplex: config.muxer == Muxer::Mplex,
        listen: if config.no_listen {
            Vec::new()
        } else {
            config.host_addrs.clone()
        },
        announce: config.announce_addrs.clone(),
        limits: connection_limits(config, system),
        exempt: config.exempt.clone(),
        watermarks: watermarks(config),
        forced_reach: config.nat.reachability.map(|forced| match forced {
            Reachability::Public => Reach::Public,
            Reachability::Private => Reach::Private,
        }),
        relays: config.relay.auto,
        memory: system.memory.bytes,
        pressure: base.pressure.clone(),
        ledger: base.ledger.clone(),
        descriptors: base.descriptors.clone(),
        rules,
        events: base.events.clone(),
    }
}

pub(super) fn pubsub_settings(wanted: &config::PubSub, memory: u64) -> pubsub::Settings {
    pubsub::Settings {
        router: wanted.router,
        signing: match (wanted.sign, wanted.sign_strict) {
            (true, true) => Signing::Strict,
            (true, false) => Signing::Lax,
            (false, _) => Signing::Off,
        },
        heartbeat_interval: wanted.heartbeat_interval,
        heartbeat_delay: wanted.heartbeat_delay,
        memory,
    }
}

pub(super) fn relay_settings(wanted: &config::Relay) -> RelaySettings {
    RelaySettings {
        max_reservations: wanted.max_reservations,
        max_circuits: wanted.max_circuits,
        data_limit: wanted.data_limit,
        time_limit: wanted.time_limit,
        buffer_size: wanted.buffer_size,
    }
}
