//! The layers of the daemon, from the bottom up.

use std::{io, sync::Arc, time::Instant};

use libp2p::{PeerId, identity::Keypair};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::limits::{System, connection_limits, dht_share, stream_limits, watermarks};
use crate::{
    autonat,
    config::{self, Config, DhtMode, Muxer, Reachability},
    control::{
        arrivals::Arrivals, clients::Clients, context::Context, guard::Guard, handler_dial,
        listener::Listener, persistent::Connections,
    },
    descriptors::Descriptors,
    dht::{
        Dht, Validator,
        disk::{Contents, Disk},
    },
    http::{self, Readiness},
    mdns,
    memory::{self, Ledger, Pressure, Shares},
    node::{DialBack, Node, Options, REPLACEABLE_PROTOCOLS, Reach, StartError, Started},
    port_mapping,
    pubsub::{self, PubSub, Signing},
    relay::{self, Relay, RelayParts, RelaySettings},
    shutdown::Drain,
    status::{self, History, Sources},
    streams::{Policy, Registry, Streams, StreamsParts, Target},
    telemetry::operator_line,
    wire::maddr::ControlAddr,
};

/// The protocol of the built-in echo service.
const ECHO_PROTOCOL: &str = "/echo/1.0.0";

/// The liveness check of libp2p: 32 bytes are sent back.
const PING_PROTOCOL: &str = "/ipfs/ping/1.0.0";

/// What tells the tasks of the daemon to end, and when they have.
pub(super) struct Stop {
    /// Ends the taking of clients and streams.
    pub(super) serving: CancellationToken,
    /// Ends the swarm.
    pub(super) node: CancellationToken,
    pub(super) drain: Drain,
    /// Clients, streams and calls: the drain waits for them.
    pub(super) pipes: TaskTracker,
    /// What looks after the daemon. It ends at once.
    pub(super) tasks: TaskTracker,
}

impl Stop {
    pub(super) fn new() -> Self {
        let serving = CancellationToken::new();
        Self {
            drain: Drain::new(serving.clone()),
            serving,
            node: CancellationToken::new(),
            pipes: TaskTracker::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Runs `task` until the daemon stops serving.
    pub(super) fn spawn_task(&self, task: impl Future<Output = ()> + Send + 'static) {
        let serving = self.serving.clone();
        self.tasks.spawn(serving.run_until_cancelled_owned(task));
    }
}

/// A daemon that serves clients.
pub(super) struct Running {
    pub(super) node: Node,
    /// The task that owns the swarm.
    pub(super) driver: JoinHandle<()>,
    pub(super) dht: Option<Dht>,
    /// What all layers know.
    pub(super) sources: Arc<Sources>,
    pub(super) persistent: Arc<Connections>,
    /// Set once the network is joined.
    pub(super) ready: Arc<Readiness>,
    /// Accepts clients.
    pub(super) listener: JoinHandle<io::Result<()>>,
    pub(super) control_addr: ControlAddr,
}

/// What is there before the node is.
struct Base {
    persistent: Arc<Connections>,
    guard: Arc<Guard>,
    descriptors: Descriptors,
    pressure: Arc<Pressure>,
    ledger: Arc<Ledger>,
    arrivals: Arc<Arrivals>,
    clients: Arc<Clients>,
    started: Instant,
}

impl Base {
    fn new(config: &Config, system: System) -> Self {
        Self {
            persistent: Arc::new(Connections::new(config.stay_alive)),
            guard: Arc::new(Guard::new(config.control.clone())),
            descriptors: Descriptors::new(system.descriptors),
            pressure: Arc::new(Pressure::default()),
            ledger: Ledger::with_shares(Shares::of(system.memory.bytes, config.max_frame)),
            arrivals: Arrivals::new(),
            clients: Arc::default(),
            started: Instant::now(),
        }
    }

    fn streams(&self, config: &Config, system: System, stop: &Stop) -> Arc<Streams> {
        Arc::new(Streams::new(StreamsParts {
            registry: Arc::new(registry(config)),
            serve: handler_dial::serve(
                self.guard.clone(),
                self.persistent.clone(),
                self.descriptors.clone(),
                stop.serving.clone(),
                stop.drain.clone(),
            ),
            limits: stream_limits(config, system),
            pressure: self.pressure.clone(),
            ledger: self.ledger.clone(),
            registrations: self.arrivals.clone(),
            tasks: stop.pipes.clone(),
            closing: stop.serving.clone(),
        }))
    }
}

/// Builds the daemon on a bound control socket, which it then serves.
///
/// # Errors
/// What kept it from starting.
pub(super) async fn start(
    config: &Config,
    identity: &Keypair,
    listener: Listener,
    system: System,
    stop: &Stop,
) -> anyhow::Result<Running> {
    let datastore = datastore(config).await?;
    let base = Base::new(config, system);
    let streams = base.streams(config, system, stop);
    let options = options(config, system, &base);
    let Started {
        node,
        driver,
        notices,
        failures,
    } = Node::start(identity, &options, streams, stop.node.clone()).await?;
    let failures = failures.iter().map(ToString::to_string);
    for line in notices.into_iter().chain(failures) {
        operator_line(&line);
    }
    if listener.is_exposed() {
        operator_line(&format!(
            "control socket {} is reachable from other machines: whoever connects to it acts as this peer",
            listener.addr()
        ));
    }
    stop.spawn_task(node.clone().keep_trimmed());
    if config.mdns {
        stop.spawn_task(mdns::run(node.clone()));
    }
    find_reach(config, &node, &options, stop)?;
    relay::start(&node, config.relay.enabled, stop.serving.clone());
    let dht = config.dht.map(|mode| {
        let dht = Dht::new(
            &node,
            identity.public(),
            Validator::new(Arc::new(node.clone()), config.dht_namespaces.clone()),
            dht_share(system),
            datastore,
            stop.serving.clone(),
        );
        node.set_routing(Arc::new(dht.clone()));
        stop.spawn_task(serve_dht(
            mode,
            config.nat.reachability,
            node.watch_reach(),
            dht.clone(),
        ));
        dht
    });
    let pubsub = config.pubsub.as_ref().map(|wanted| {
        let settings = pubsub_settings(wanted);
        let (pipes, closing) = (stop.pipes.clone(), stop.serving.clone());
        PubSub::start(identity, &settings, &node, pipes, closing)
    });
    let pubsub = pubsub.transpose()?;
    let relay = relay(config, identity, &node, &base, stop);
    watch_memory(
        system,
        &base,
        &node,
        (pubsub.as_ref(), relay.as_ref()),
        stop,
    );
    let control_addr = listener.addr().clone();
    let sources = Arc::new(Sources {
        started: base.started,
        control: control_addr.clone(),
        node: node.clone(),
        dht: dht.clone(),
        pubsub: pubsub.clone(),
        relay,
        pressure: base.pressure,
        clients: base.clients.clone(),
        bootstrap: bootstrap_peers(config),
        reach: node.watch_reach(),
        history: History::default(),
        last: Mutex::default(),
    });
    let watched = sources.clone();
    stop.spawn_task(async move { watched.watch().await });
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        peer = %node.peer_id(),
        addresses = ?node.addresses(),
        "started"
    );
    let context = Arc::new(Context {
        clients: base.clients,
        reporter: sources.clone(),
        node: node.clone(),
        dht: dht.clone(),
        pubsub: pubsub.clone(),
        guard: base.guard,
        max_frame: config.max_frame,
        ledger: base.ledger,
        arrivals: base.arrivals,
        tasks: stop.pipes.clone(),
        closing: stop.serving.clone(),
        drain: stop.drain.clone(),
        leaving: Semaphore::new(1),
    });
    let ready = Arc::<Readiness>::default();
    if let Some(address) = &config.metrics_addr {
        let tasks = stop.tasks.clone();
        let server = http::Server {
            sources: sources.clone(),
            ready: ready.clone(),
            tasks,
        };
        show(address, server, stop).await;
    }
    let accepting = listener.run(
        context,
        base.persistent.clone(),
        stop.pipes.clone(),
        base.descriptors,
        stop.serving.clone(),
    );
    Ok(Running {
        node,
        driver,
        dht,
        ready,
        sources,
        persistent: base.persistent,
        listener: stop.pipes.spawn(accepting),
        control_addr,
    })
}

/// Serves metrics and the page. As in Go the daemon goes on without them if it must.
async fn show(address: &str, server: http::Server, stop: &Stop) {
    match http::bind(address).await {
        Ok(listener) => {
            if let Ok(bound) = listener.local_addr() {
                operator_line(&http::announcement(bound));
            }
            stop.spawn_task(server.run(listener));
        }
        Err(error) => operator_line(&error.to_string()),
    }
}

/// The peers through which the daemon is to join, if it is to.
fn bootstrap_peers(config: &Config) -> Vec<PeerId> {
    match config.bootstrap.enabled {
        true => status::named_peers(&config.bootstrap.peers),
        false => Vec::new(),
    }
}

/// Relays for others, if that is wanted.
fn relay(
    config: &Config,
    identity: &Keypair,
    node: &Node,
    base: &Base,
    stop: &Stop,
) -> Option<Relay> {
    let wanted = &config.relay;
    let settings = RelaySettings {
        max_reservations: wanted.max_reservations,
        max_circuits: wanted.max_circuits,
        data_limit: wanted.data_limit,
        time_limit: wanted.time_limit,
        buffer_size: wanted.buffer_size,
    };
    wanted.service.then(|| {
        Relay::start(RelayParts {
            identity,
            node,
            settings,
            pressure: base.pressure.clone(),
            tasks: stop.pipes.clone(),
            closing: stop.serving.clone(),
        })
    })
}

/// Watches the memory in use, where there is a budget for it.
fn watch_memory(
    system: System,
    base: &Base,
    node: &Node,
    (pubsub, relay): (Option<&PubSub>, Option<&Relay>),
    stop: &Stop,
) {
    let budget = system.memory.bytes;
    if budget == 0 {
        return;
    }
    // Messages and circuits are given up before connections.
    let mut sheds: Vec<Box<dyn memory::Shed>> = Vec::new();
    sheds.extend(pubsub.map(|pubsub| Box::new(pubsub.clone()) as _));
    sheds.extend(relay.map(|relay| Box::new(relay.clone()) as _));
    sheds.push(Box::new(node.clone()));
    stop.spawn_task(memory::watch(budget, base.pressure.clone(), sheds));
}

/// Asks the router to let strangers in, and others whether they get in; answers the same question of
/// others.
fn find_reach(
    config: &Config,
    node: &Node,
    options: &Options,
    stop: &Stop,
) -> Result<(), StartError> {
    let forced = config.nat.reachability;
    if forced.is_none() {
        stop.spawn_task(autonat::probe(node.clone()));
    }
    if config.nat.port_map {
        stop.spawn_task(port_mapping::keep(node.clone()));
    }
    if config.nat.autonat && forced != Some(Reachability::Private) {
        let dial_back = DialBack::new(options)?;
        stop.spawn_task(autonat::serve(node.clone(), dial_back));
    }
    Ok(())
}

/// Answers other DHT nodes as `mode` wants it; in automatic mode while strangers can dial.
async fn serve_dht(
    mode: DhtMode,
    forced: Option<Reachability>,
    mut reach: watch::Receiver<Reach>,
    dht: Dht,
) {
    match (mode, forced) {
        (DhtMode::Server, _) | (DhtMode::Auto, Some(Reachability::Public)) => dht.set_serving(true),
        (DhtMode::Client, _) | (DhtMode::Auto, Some(Reachability::Private)) => {}
        (DhtMode::Auto, None) => {
            while reach.changed().await.is_ok() {
                let serving = *reach.borrow_and_update() == Reach::Public;
                dht.set_serving(serving);
            }
        }
    }
}

/// The datastore, and what it held. Opened before anything listens: its errors end the start. A
/// disk that hangs holds up the start, but not the signal that ends it.
async fn datastore(config: &Config) -> anyhow::Result<Option<(Disk, Contents)>> {
    let Some(path) = config.datastore.clone().filter(|_| config.dht.is_some()) else {
        return Ok(None);
    };
    let opened = tokio::task::spawn_blocking(move || Disk::open(&path)).await?;
    Ok(Some(opened?))
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

fn options(config: &Config, system: System, base: &Base) -> Options {
    Options {
        noise: config.noise,
        tls: config.tls,
        plaintext: config.plaintext,
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
        pressure: base.pressure.clone(),
        ledger: base.ledger.clone(),
        descriptors: base.descriptors.clone(),
    }
}

fn pubsub_settings(wanted: &config::PubSub) -> pubsub::Settings {
    pubsub::Settings {
        router: wanted.router,
        signing: match (wanted.sign, wanted.sign_strict) {
            (true, true) => Signing::Strict,
            (true, false) => Signing::Lax,
            (false, _) => Signing::Off,
        },
        heartbeat_interval: wanted.heartbeat_interval,
        heartbeat_delay: wanted.heartbeat_delay,
    }
}
