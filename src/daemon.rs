//! The daemon from bound socket to exit: builds the floors and takes them down again.

use std::{sync::Arc, time::Duration};

use libp2p::identity::Keypair;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    banner,
    config::{Config, Muxer},
    control::{dialback, listener::Listener, session::Context},
    dht::disk::{Contents, Disk, DiskError},
    node::{ConnectionLimits, LIBRARY_PROTOCOLS, Node, Options, REPLACEABLE_PROTOCOLS, Started},
    shutdown::{Asked, Signals},
    streams::{Policy, Registry, Streams, Target},
    telemetry::{operator_line, raw_text},
};

/// The protocol of the built-in echo service.
const ECHO_PROTOCOL: &str = "/echo/1.0.0";

/// The liveness check of libp2p: 32 bytes are sent back.
const PING_PROTOCOL: &str = "/ipfs/ping/1.0.0";

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
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(ASSUMED_DESCRIPTORS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let end = runtime.block_on(serve(config, identity, listener, descriptors));
    // Whatever is left has had its grace.
    runtime.shutdown_timeout(Duration::ZERO);
    end
}

async fn serve(
    config: &Config,
    identity: &Keypair,
    listener: Listener,
    descriptors: u64,
) -> anyhow::Result<End> {
    let mut signals = Signals::install()?;
    let _datastore = datastore(config)?;
    let stop_serving = CancellationToken::new();
    let stop_node = CancellationToken::new();
    let pipes = TaskTracker::new();
    let streams = Arc::new(Streams::new(
        Arc::new(registry(config)),
        dialback::serve(),
        pipes.clone(),
        stop_serving.clone(),
    ));
    let options = options(config, descriptors);
    let start = Node::start(identity, &options, streams, stop_node.clone());
    let Started {
        node,
        mut driver,
        failures,
    } = tokio::select! {
        biased;
        () = signals.stop() => return Ok(End::Clean),
        started = start => started?,
    };
    for failure in failures {
        operator_line(&failure.to_string());
    }
    if listener.is_exposed() {
        operator_line(&format!(
            "control socket {} is reachable from other machines: whoever connects to it acts as this peer",
            listener.addr()
        ));
    }
    let control_addr = listener.addr().clone();
    let context = Arc::new(Context {
        node: node.clone(),
        dht: None,
        max_frame: config.max_frame,
        closing: stop_serving.clone(),
    });
    let control = pipes.spawn(listener.run(context, pipes.clone(), stop_serving.clone()));
    if !config.quiet {
        let (peer, addrs) = (node.peer_id(), node.addresses());
        // A full pipe must not keep the daemon from its signals.
        tokio::task::spawn_blocking(move || banner::print(&control_addr, peer, &addrs, &[]));
    }

    let end = loop {
        tokio::select! {
            biased;
            asked = signals.next() => match asked {
                Asked::Report => {
                    let report = node.report();
                    // Whoever does not read the report must not stop the daemon.
                    tokio::task::spawn_blocking(move || raw_text(&report));
                }
                Asked::Stop => break End::Clean,
            },
            ended = &mut driver => {
                operator_line(&format!("the swarm task ended: {ended:?}"));
                break End::SwarmLost;
            }
        }
    };
    stop_serving.cancel();
    pipes.close();
    let drain = async {
        // The socket file goes first: nobody new shall come.
        let _ = control.await;
        let _ = timeout(config.shutdown_grace, pipes.wait()).await;
        stop_node.cancel();
        if end == End::Clean {
            let _ = driver.await;
        }
    };
    tokio::select! {
        biased;
        () = drain => Ok(end),
        () = signals.stop() => Ok(End::Forced),
    }
}

/// The datastore, and what it held. Opened before anything listens: its errors end the start.
fn datastore(config: &Config) -> Result<Option<(Disk, Contents)>, DiskError> {
    let path = config.datastore.as_deref().filter(|_| config.dht.is_some());
    path.map(Disk::open).transpose()
}

fn registry(config: &Config) -> Registry {
    let registry = Registry::new(LIBRARY_PROTOCOLS.into(), REPLACEABLE_PROTOCOLS.into());
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

fn options(config: &Config, descriptors: u64) -> Options {
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
        limits: ConnectionLimits::scaled(descriptors),
    }
}
