//! The layers of the daemon, from the bottom up.

use std::{io, sync::Arc};

use libp2p::PeerId;
use tokio::{sync::Semaphore, task::JoinHandle};

use super::{
    DaemonError, Secrets,
    base::Base,
    limits::{System, connection_limits, stream_limits},
    options::node_options,
    services::{Parts, Services, datastore, rules},
    stop::Stop,
};
use crate::{
    config::Config,
    control::{
        context::Context,
        listener::Listener,
        listener::MAX_CLIENTS,
        persistent::Connections,
        tunnels::{self, Tunnels},
        web::Web,
    },
    dht::Dht,
    http::{self, Readiness},
    node::{Node, Started},
    status::{self, Capacity, History, Latest, Sources},
    telemetry::operator_line,
    wire::maddr::ControlAddr,
};

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

/// Builds the daemon on a bound control socket, which it then serves.
///
/// # Errors
/// What kept it from starting.
pub(super) async fn start(
    config: &Config,
    secrets: &Secrets,
    listener: Listener,
    system: System,
    stop: &Stop,
) -> Result<Running, DaemonError> {
    let web = web(config).await?;
    let records = datastore(config).await?;
    let rules = rules(config).await?;
    let base = Base::new(config, system);
    let streams = base.streams(config, system, stop);
    let identity = &secrets.keypair;
    let options = node_options(config, secrets, (system, rules), &base);
    let started = Node::start(identity, &options, streams, stop.node.clone()).await?;
    tell_operator(&started, &listener);
    if let Some(key) = &secrets.network {
        operator_line(&format!("private network {}", key.fingerprint()));
    }
    let node = started.node;
    let services = Parts {
        config,
        identity,
        system,
        node: &node,
        options: &options,
        base: &base,
        stop,
    }
    .start(records)
    .await?;
    let control_addr = listener.addr().clone();
    let tunnels = tunnels(&node, &base, stop);
    let control = (control_addr.clone(), tunnels.clone());
    let sources = sources(config, system, &node, &base, &services, control);
    let watched = sources.clone();
    stop.spawn_task(async move { watched.watch().await });
    log_start(&node);
    let ready = show(config, &sources, stop).await;
    let dht = services.dht.clone();
    let shared = (sources.clone(), tunnels);
    let context = context(config, &node, &base, services, shared, stop);
    let persistent = base.persistent.clone();
    if let Some(web) = web {
        serve_web(web, &context, &base, stop);
    }
    let accepting = listener.run(
        context,
        base.persistent,
        stop.pipes.clone(),
        base.descriptors,
        stop.serving.clone(),
    );
    Ok(Running {
        node,
        driver: started.driver,
        dht,
        ready,
        sources,
        persistent,
        listener: stop.pipes.spawn(accepting),
        control_addr,
    })
}

fn log_start(node: &Node) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        peer = %node.peer_id(),
        addresses = ?node.addresses(),
        reach = ?*node.watch_reach().borrow(),
        "started"
    );
}

/// Says what the operator should know of the start.
fn tell_operator(started: &Started, listener: &Listener) {
    for notice in &started.notices {
        operator_line(notice);
    }
    for failure in &started.failures {
        operator_line(&failure.to_string());
    }
    if listener.is_exposed() {
        operator_line(&format!(
            "control socket {} is reachable from other machines: whoever connects to it acts as this peer",
            listener.addr()
        ));
    }
}

/// What the snapshots are taken of.
fn sources(
    config: &Config,
    system: System,
    node: &Node,
    base: &Base,
    services: &Services,
    (control, tunnels): (ControlAddr, Arc<Tunnels>),
) -> Arc<Sources> {
    Arc::new(Sources {
        started: base.started,
        control,
        tunnels,
        node: node.clone(),
        dht: services.dht.clone(),
        pubsub: services.pubsub.clone(),
        relay: services.relay.clone(),
        autorelay: services.autorelay.clone(),
        pressure: base.pressure.clone(),
        clients: base.clients.clone(),
        bootstrap: bootstrap_peers(config),
        reach: node.watch_reach(),
        history: History::default(),
        capacity: capacity(config, system),
        latest: Latest::default(),
    })
}

/// The address of control over HTTP, bound. A file system that hangs holds up the start, but not the
/// signal that ends it.
async fn web(config: &Config) -> Result<Option<Web>, DaemonError> {
    let Some(settings) = config.control_http.clone() else {
        return Ok(None);
    };
    let bound = tokio::task::spawn_blocking(move || Web::bind(&settings)).await?;
    Ok(Some(bound?))
}

fn serve_web(web: Web, context: &Arc<Context>, base: &Base, stop: &Stop) {
    operator_line(&format!("control over http: http://{}/v1/", web.address()));
    if web.is_exposed() {
        operator_line(
            "control over http is reachable from other machines, and its token travels in the clear",
        );
    }
    let serving = web.run(
        context.clone(),
        base.persistent.clone(),
        stop.pipes.clone(),
        base.descriptors.clone(),
        stop.serving.clone(),
    );
    stop.pipes.spawn(async move {
        if let Err(error) = serving.await {
            tracing::warn!(%error, "control over http has ended");
        }
    });
}

/// Local ports that are carried to peers; none yet.
fn tunnels(node: &Node, base: &Base, stop: &Stop) -> Arc<Tunnels> {
    Tunnels::new(tunnels::Parts {
        node: node.clone(),
        guard: base.guard.clone(),
        descriptors: base.descriptors.clone(),
        events: base.events.clone(),
        tasks: stop.pipes.clone(),
        closing: stop.serving.clone(),
        drain: stop.drain.clone(),
    })
}

/// What the sessions of clients share.
fn context(
    config: &Config,
    node: &Node,
    base: &Base,
    services: Services,
    (sources, tunnels): (Arc<Sources>, Arc<Tunnels>),
    stop: &Stop,
) -> Arc<Context> {
    Arc::new(Context {
        clients: base.clients.clone(),
        reporter: sources,
        tunnels,
        node: node.clone(),
        dht: services.dht,
        pubsub: services.pubsub,
        guard: base.guard.clone(),
        max_frame: config.max_frame,
        ledger: base.ledger.clone(),
        arrivals: base.arrivals.clone(),
        tasks: stop.pipes.clone(),
        closing: stop.serving.clone(),
        drain: stop.drain.clone(),
        leaving: Semaphore::new(1),
        places: Arc::new(Semaphore::new(MAX_CLIENTS)),
    })
}

/// The limits of the node.
fn capacity(config: &Config, system: System) -> Capacity {
    let connections = connection_limits(config, system);
    Capacity {
        connections: connections.established,
        inbound: connections.established_inbound,
        streams: stream_limits(config, system).inbound,
        memory: system.memory.bytes,
        descriptors: system.descriptors,
    }
}

/// Serves metrics and the page where that is wanted. As in Go the daemon goes on without them if
/// it must. Returns what tells them that the daemon is ready.
async fn show(config: &Config, sources: &Arc<Sources>, stop: &Stop) -> Arc<Readiness> {
    let ready = Arc::<Readiness>::default();
    let Some(address) = &config.metrics_addr else {
        return ready;
    };
    let server = http::Server {
        sources: sources.clone(),
        ready: ready.clone(),
        tasks: stop.tasks.clone(),
    };
    match http::bind(address).await {
        Ok(listener) => {
            if let Ok(bound) = listener.local_addr() {
                operator_line(&http::announcement(bound));
            }
            stop.spawn_task(server.run(listener));
        }
        Err(error) => operator_line(&error.to_string()),
    }
    ready
}

/// The peers through which the daemon is to join, if it is to.
fn bootstrap_peers(config: &Config) -> Vec<PeerId> {
    match config.bootstrap.enabled {
        true => status::named_peers(&config.bootstrap.peers),
        false => Vec::new(),
    }
}
