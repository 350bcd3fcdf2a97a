//! The daemon from bound socket to exit: builds the floors and takes them down again.

use std::{convert::Infallible, future::pending, pin::pin, sync::Arc, time::Duration};

use libp2p::identity::Keypair;
use tokio::{
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    banner,
    config::{self, Config, DhtMode, Muxer, Reachability},
    control::{
        arrivals::Arrivals,
        context::Context,
        guard::Guard,
        handler_dial,
        listener::Listener,
        persistent::{Connections, MAX_UNSENT},
        response::dial_error,
    },
    descriptors::Descriptors,
    dht::{
        Dht, Validator,
        disk::{Contents, Disk, DiskError},
    },
    limit_hits,
    memory::{self, Budget, Ledger, Pressure},
    node::{
        BootstrapError, BootstrapPeers, ConnectionLimits, Node, Options, REPLACEABLE_PROTOCOLS,
        Started, Watermarks,
    },
    pubsub::{self, PubSub, Signing},
    shutdown::{Asked, Drain, Signals},
    streams::{Policy, Registry, StreamLimits, Streams, StreamsParts, Target},
    telemetry::{self, operator_line},
    wire::maddr::ControlAddr,
};

/// The protocol of the built-in echo service.
const ECHO_PROTOCOL: &str = "/echo/1.0.0";

/// The liveness check of libp2p: 32 bytes are sent back.
const PING_PROTOCOL: &str = "/ipfs/ping/1.0.0";

/// go-libp2p's connection manager, which runs when none is asked for.
const DEFAULT_WATERMARKS: Watermarks = Watermarks {
    low: 160,
    high: 192,
    grace: Duration::from_secs(60),
};

/// Files kept out of the connection limits when the system does not tell its own.
const ASSUMED_DESCRIPTORS: u64 = 1024;

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As asked.
    Clean,
    /// A second signal cut the drain short.
    Forced,
    /// The task that owns the swarm is gone.
    SwarmLost,
}

/// Runs the daemon on a bound control socket until it is told to stop.
///
/// # Errors
/// What kept it from starting, as one line for the operator.
pub fn run(config: &Config, identity: &Keypair, listener: Listener) -> anyhow::Result<End> {
    let system = system(config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let end = runtime.block_on(serve(config, identity, listener, system));
    // Whatever is left has had its grace.
    runtime.shutdown_timeout(Duration::ZERO);
    end
}

async fn serve(
    config: &Config,
    identity: &Keypair,
    listener: Listener,
    system: System,
) -> anyhow::Result<End> {
    let mut signals = Signals::install()?;
    let datastore = datastore(config)?;
    let stop_serving = CancellationToken::new();
    let drain = Drain::new(stop_serving.clone());
    let stop_node = CancellationToken::new();
    let pipes = TaskTracker::new();
    let persistent = Arc::new(Connections::new(config.stay_alive));
    let guard = Arc::new(Guard::new(config.control.clone()));
    let descriptors = Descriptors::new(system.descriptors);
    let pressure = Arc::new(Pressure::default());
    let ledger = Ledger::new(system.memory.bytes);
    let arrivals = Arrivals::new();
    let streams = Arc::new(Streams::new(StreamsParts {
        registry: Arc::new(registry(config)),
        serve: handler_dial::serve(
            guard.clone(),
            persistent.clone(),
            descriptors.clone(),
            stop_serving.clone(),
            drain.clone(),
        ),
        limits: stream_limits(config, system),
        pressure: pressure.clone(),
        ledger: ledger.clone(),
        registrations: arrivals.clone(),
        tasks: pipes.clone(),
        closing: stop_serving.clone(),
    }));
    let options = options(config, system, &pressure, &descriptors);
    let start = Node::start(identity, &options, streams, stop_node.clone());
    let Started {
        node,
        mut driver,
        public,
        notices,
        failures,
    } = tokio::select! {
        biased;
        () = signals.stop() => return Ok(End::Clean),
        started = start => started?,
    };
    for notice in notices {
        operator_line(&notice);
    }
    for failure in failures {
        operator_line(&failure.to_string());
    }
    if listener.is_exposed() {
        operator_line(&format!(
            "control socket {} is reachable from other machines: whoever connects to it acts as this peer",
            listener.addr()
        ));
    }
    let tasks = TaskTracker::new();
    tasks.spawn(
        stop_serving
            .clone()
            .run_until_cancelled_owned(node.clone().keep_trimmed()),
    );
    let dht = config.dht.map(|mode| {
        let dht = Dht::new(
            &node,
            identity.public(),
            Validator::new(Arc::new(node.clone()), config.dht_namespaces.clone()),
            dht_share(system),
            datastore,
            stop_serving.clone(),
        );
        node.set_routing(Arc::new(dht.clone()));
        let serve = serve_dht(mode, config.nat.reachability, public, dht.clone());
        tasks.spawn(stop_serving.clone().run_until_cancelled_owned(serve));
        dht
    });
    let pubsub = match &config.pubsub {
        Some(wanted) => Some(PubSub::start(
            identity,
            &pubsub_settings(wanted),
            &node,
            pipes.clone(),
            stop_serving.clone(),
        )?),
        None => None,
    };
    let budget = system.memory.bytes;
    if budget > 0 {
        // Messages are given up before connections.
        let mut sheds: Vec<Box<dyn memory::Shed>> = Vec::new();
        sheds.extend(pubsub.clone().map(|pubsub| Box::new(pubsub) as _));
        sheds.push(Box::new(node.clone()));
        let watch = memory::watch(budget, pressure.clone(), sheds);
        tasks.spawn(stop_serving.clone().run_until_cancelled_owned(watch));
    }
    let control_addr = listener.addr().clone();
    let context = Arc::new(Context {
        node: node.clone(),
        dht: dht.clone(),
        pubsub: pubsub.clone(),
        guard,
        max_frame: config.max_frame,
        max_unsent: max_unsent(config, system),
        ledger,
        arrivals,
        tasks: pipes.clone(),
        closing: stop_serving.clone(),
        drain: drain.clone(),
        leaving: Semaphore::new(1),
    });
    let accepting = listener.run(
        context,
        persistent.clone(),
        pipes.clone(),
        descriptors,
        stop_serving.clone(),
    );
    let control = pipes.spawn(accepting);
    let mut join = pin!(join(config, &node));
    let mut joined = false;
    let mut unused = pin!(async {
        match config.idle_timeout {
            Some(time) => sleep(time).await,
            None => pending().await,
        }
        persistent.expire();
        pending::<Infallible>().await
    });
    let end = loop {
        tokio::select! {
            biased;
            asked = signals.next() => match asked {
                Asked::Report => {
                    let dht = dht.as_ref().map(|dht| dht.snapshot().to_string());
                    let dht = dht.unwrap_or_default();
                    let pubsub = pubsub.as_ref().map(pubsub_report).unwrap_or_default();
                    let limits = pressure.report() + &limit_hits::report();
                    let report = dht + &node.report() + &pubsub + &limits;
                    telemetry::report(report);
                }
                Asked::Stop => break Ok(End::Clean),
            },
            result = &mut join, if !joined => match result {
                Ok(keep) => {
                    joined = true;
                    if let Some(peers) = keep {
                        let rejoined = dht.clone();
                        let keep = peers.keep(node.clone(), move || {
                            rejoined.iter().for_each(Dht::refresh);
                        });
                        tasks.spawn(stop_serving.clone().run_until_cancelled_owned(keep));
                        dht.iter().for_each(Dht::refresh);
                    }
                    announce_ready(config, &node, control_addr.clone());
                }
                Err(error) => break Err(error),
            },
            ended = &mut driver => {
                operator_line(&format!("the swarm task ended: {ended:?}"));
                break Ok(End::SwarmLost);
            }
            () = persistent.over() => break Ok(End::Clean),
            // Clients come when they are told that the daemon is ready.
            never = &mut unused, if joined => match never {},
        }
    };
    drain.begin();
    pipes.close();
    let drain = async {
        // The socket file goes first: nobody new shall come.
        let _ = control.await;
        let _ = timeout(config.shutdown_grace, pipes.wait()).await;
        if let Some(dht) = &dht {
            dht.close().await;
        }
        stop_node.cancel();
        if matches!(end, Ok(End::Clean) | Err(_)) {
            let _ = driver.await;
        }
    };
    tokio::select! {
        biased;
        () = drain => end,
        () = signals.stop() => Ok(End::Forced),
    }
}

/// Connects to the first bootstrap peer that answers. Returns those to look after, if any.
async fn join(config: &Config, node: &Node) -> anyhow::Result<Option<BootstrapPeers>> {
    if !config.bootstrap.enabled {
        return Ok(None);
    }
    let peers = &config.bootstrap.peers;
    if !config.bootstrap.explicit {
        let names: Vec<_> = peers.iter().map(ToString::to_string).collect();
        operator_line(&format!(
            "joining the public IPFS network through {}",
            names.join(", ")
        ));
    }
    let peers = BootstrapPeers::new(peers, node.peer_id());
    if peers.is_empty() {
        operator_line("this node is its own only bootstrap peer: it waits for others to come");
        return Ok(None);
    }
    match peers.join(node).await {
        Ok(()) => Ok(Some(peers)),
        Err(error) => anyhow::bail!(bootstrap_failure(&error)),
    }
}

/// One line, since Hivemind shows its users only the last.
fn bootstrap_failure(error: &BootstrapError) -> String {
    let reasons = error.failures.iter();
    let mut reasons: Vec<_> = reasons
        .map(|(peer, failure)| {
            let text = dial_error(failure).replace("\n  *", "");
            match text.contains(&peer.to_string()) {
                true => text,
                false => format!("{peer}: {text}"),
            }
        })
        .collect();
    if error.others > 0 {
        reasons.push(format!("and {} more", error.others));
    }
    let mut line = format!("{error}: {}", reasons.join("; "));
    if error.is_without_dns() {
        line.push_str(
            "; no name server answers: see /etc/resolv.conf, or name the peers by ip address",
        );
    }
    line
}

fn announce_ready(config: &Config, node: &Node, control_addr: ControlAddr) {
    if config.quiet {
        return;
    }
    let (peer, addrs) = (node.peer_id(), node.addresses());
    let bootstrap = if config.bootstrap.enabled && config.bootstrap.explicit {
        config.bootstrap.peers.clone()
    } else {
        Vec::new()
    };
    banner::print(&control_addr, peer, &addrs, &bootstrap);
}

/// Answers other DHT nodes as `mode` wants it; in automatic mode while strangers can dial.
async fn serve_dht(
    mode: DhtMode,
    forced: Option<Reachability>,
    mut public: watch::Receiver<bool>,
    dht: Dht,
) {
    match (mode, forced) {
        (DhtMode::Server, _) | (DhtMode::Auto, Some(Reachability::Public)) => dht.set_serving(true),
        (DhtMode::Client, _) | (DhtMode::Auto, Some(Reachability::Private)) => {}
        (DhtMode::Auto, None) => {
            while public.changed().await.is_ok() {
                let serving = *public.borrow_and_update();
                dht.set_serving(serving);
            }
        }
    }
}

/// The datastore, and what it held. Opened before anything listens: its errors end the start.
fn datastore(config: &Config) -> Result<Option<(Disk, Contents)>, DiskError> {
    let path = config.datastore.as_deref().filter(|_| config.dht.is_some());
    path.map(Disk::open).transpose()
}

fn registry(config: &Config) -> Registry {
    let registry = Registry::new(REPLACEABLE_PROTOCOLS.into());
    // The library answers one ping stream per connection, its own peer's.
    let mut builtin = vec![(PING_PROTOCOL, Target::Ping)];
    if config.echo {
        builtin.push((ECHO_PROTOCOL, Target::Echo));
    }
    for (name, target) in builtin {
        if let Err(error) = registry.register(&target, &[name.to_owned()], Policy::Replace) {
            operator_line(&format!("no service for {name}: {error:?}"));
        }
    }
    registry
}

/// What the system gives, from which limits follow that nobody has set.
#[derive(Debug, Clone, Copy)]
pub struct System {
    /// Files that the process may open.
    pub descriptors: u64,
    /// Memory that it may use.
    pub memory: Budget,
}

/// Raises the limit of open files as far as it goes, and looks at what there is.
#[must_use]
pub fn system(config: &Config) -> System {
    System {
        descriptors: rlimit::increase_nofile_limit(u64::MAX).unwrap_or(ASSUMED_DESCRIPTORS),
        memory: Budget::find(config.limits.memory),
    }
}

pub(crate) fn connection_limits(config: &Config, system: System) -> ConnectionLimits {
    let scaled = ConnectionLimits::scaled(system.descriptors, system.memory.bytes);
    let set = &config.limits;
    ConnectionLimits {
        established: set.connections.unwrap_or(scaled.established),
        established_inbound: set.inbound.unwrap_or(scaled.established_inbound),
        per_peer: set.per_peer,
        per_address: config.per_address,
        ..scaled
    }
}

/// Bytes of calls that one client may have waiting: an eighth of the memory, but some calls in any
/// case.
pub(crate) fn max_unsent(config: &Config, system: System) -> usize {
    let share = match system.memory.bytes {
        0 => MAX_UNSENT,
        memory => usize::try_from(memory / 8).unwrap_or(usize::MAX),
    };
    share.clamp(
        config.max_frame.saturating_mul(4).min(MAX_UNSENT),
        MAX_UNSENT,
    )
}

/// What the records of the DHT may use, and its providers: a sixteenth of the memory each.
pub(crate) fn dht_share(system: System) -> usize {
    match system.memory.bytes {
        0 => usize::MAX,
        memory => usize::try_from(memory / 16).unwrap_or(usize::MAX),
    }
}

pub(crate) fn stream_limits(config: &Config, system: System) -> StreamLimits {
    let scaled = StreamLimits::scaled(system.memory.bytes);
    StreamLimits {
        inbound: config.limits.streams.unwrap_or(scaled.inbound),
        per_connection: config.limits.per_connection,
    }
}

pub(crate) fn watermarks(config: &Config) -> Watermarks {
    let manager = config.conn_manager.as_ref();
    manager.map_or(DEFAULT_WATERMARKS, |manager| Watermarks {
        low: manager.low,
        high: manager.high,
        grace: manager.grace,
    })
}

fn options(
    config: &Config,
    system: System,
    pressure: &Arc<Pressure>,
    descriptors: &Descriptors,
) -> Options {
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
        watermarks: watermarks(config),
        probe_reachability: config.dht == Some(DhtMode::Auto) && config.nat.reachability.is_none(),
        pressure: pressure.clone(),
        descriptors: descriptors.clone(),
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

/// One line of the report.
fn pubsub_report(pubsub: &PubSub) -> String {
    let now = pubsub.snapshot();
    format!(
        "Pubsub messages published: {}, delivered: {}, lost by slow subscribers: {}, \
         lost by slow peers: {}, duplicates: {}, refused: {}\n",
        now.published,
        now.delivered,
        now.lost_by_subscribers,
        now.lost_by_peers,
        now.duplicates,
        now.rejected
    )
}
