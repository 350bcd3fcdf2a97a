//! What is there before the node is.

use std::{sync::Arc, time::Instant};

use super::{
    limits::{System, stream_limits},
    stop::Stop,
};
use crate::{
    config::Config,
    control::{
        arrivals::Arrivals, clients::Clients, guard::Guard, handler_dial, persistent::Connections,
    },
    descriptors::Descriptors,
    events::Events,
    memory::{Ledger, Pressure, Shares},
    node::REPLACEABLE_PROTOCOLS,
    streams::{Policy, Registry, Streams, StreamsParts, Target},
    telemetry::operator_line,
};

/// The protocol of the built-in echo service.
const ECHO_PROTOCOL: &str = "/echo/1.0.0";

/// The liveness check of libp2p: 32 bytes are sent back.
const PING_PROTOCOL: &str = "/ipfs/ping/1.0.0";

/// What clients, streams and limits share.
pub(super) struct Base {
    pub(super) persistent: Arc<Connections>,
    pub(super) guard: Arc<Guard>,
    pub(super) descriptors: Descriptors,
    pub(super) pressure: Arc<Pressure>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) clients: Arc<Clients>,
    pub(super) events: Events,
    pub(super) started: Instant,
}

impl Base {
    pub(super) fn new(config: &Config, system: System) -> Self {
        Self {
            persistent: Arc::new(Connections::new(config.stay_alive)),
            guard: Arc::new(Guard::new(config.control.clone())),
            descriptors: Descriptors::new(system.descriptors),
            pressure: Arc::new(Pressure::default()),
            ledger: Ledger::with_shares(Shares::of(system.memory.bytes, config.max_frame)),
            arrivals: Arrivals::new(),
            clients: Arc::default(),
            events: Events::default(),
            started: Instant::now(),
        }
    }

    pub(super) fn streams(&self, config: &Config, system: System, stop: &Stop) -> Arc<Streams> {
        Arc::new(Streams::new(StreamsParts {
            registry: Arc::new(registry(config)),
            serve: handler_dial::serve(
                self.guard.clone(),
                self.persistent.clone(),
                self.descriptors.clone(),
                self.events.clone(),
                stop.serving.clone(),
                stop.drain.clone(),
            ),
            limits: stream_limits(config, system),
            pressure: self.pressure.clone(),
            ledger: self.ledger.clone(),
            registrations: Arc::new(self.arrivals.clone()),
            tasks: stop.pipes.clone(),
            closing: stop.serving.clone(),
        }))
    }
}

fn registry(config: &Config) -> Registry {
    let registry = Registry::new(REPLACEABLE_PROTOCOLS.into());
    // The library answers one ping stream per connection, its own peer's.
    let mut builtin = vec![(PING_PROTOCOL, Target::Ping)];
    if config.echo {
        builtin.push((ECHO_PROTOCOL, Target::Echo));
    }
    for (name, target) in builtin {
        if let Err(error) = registry.register(&target, &[name.into()], Policy::Replace) {
            operator_line(&format!("no service for {name}: {error:?}"));
        }
    }
    registry
}
