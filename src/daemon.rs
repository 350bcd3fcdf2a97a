//! The daemon from bound socket to exit: builds the layers, runs them, and takes them down again.

mod autorelay;
mod base;
mod error;
mod join;
mod limits;
mod options;
mod services;
mod start;
mod stop;

use std::{convert::Infallible, future::pending, pin::pin, time::Duration};

use libp2p::{identity::Keypair, pnet::PreSharedKey};
use tokio::time::{sleep, timeout};

pub use error::{DaemonError, JoinError};
pub use limits::{System, system};
pub(crate) use limits::{connection_limits, dht_share, stream_limits, watermarks};

use crate::{
    banner,
    config::Config,
    control::listener::Listener,
    dht::Dht,
    node::BootstrapPeers,
    shutdown::{Asked, Signals},
    systemd,
    telemetry::{self, operator_line},
    wss::Wss,
};
use start::{Running, start};
use stop::Stop;

/// The keys that the daemon has.
#[derive(Debug)]
pub struct Secrets {
    /// Who it is.
    pub keypair: Keypair,
    /// The private network that it is in, if it is.
    pub network: Option<PreSharedKey>,
    /// What secure websockets have.
    pub wss: Wss,
}

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
pub fn run(config: &Config, secrets: &Secrets, listener: Listener) -> Result<End, DaemonError> {
    let system = system(config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(DaemonError::Runtime)?;
    let end = runtime.block_on(serve(config, secrets, listener, system));
    // Whatever is left has had its grace.
    runtime.shutdown_timeout(Duration::ZERO);
    end
}

async fn serve(
    config: &Config,
    secrets: &Secrets,
    listener: Listener,
    system: System,
) -> Result<End, DaemonError> {
    let mut signals = Signals::install().map_err(DaemonError::Runtime)?;
    let stop = Stop::new();
    let mut running = tokio::select! {
        biased;
        reason = signals.stop() => {
            tracing::info!(reason, "stopping before the start is over");
            return Ok(End::Clean);
        }
        started = start(config, secrets, listener, system, &stop) => started?,
    };
    let end = until_stopped(config, &mut running, &stop, &mut signals).await;
    stop.drain.begin();
    stop.pipes.close();
    systemd::stopping().await;
    tokio::select! {
        biased;
        () = drain(config, running, &stop, &end) => {
            tracing::info!("stopped");
            end
        }
        reason = signals.stop() => {
            tracing::info!(reason, "stopped at once: what was under way is cut");
            Ok(End::Forced)
        }
    }
}

/// Joins the network, serves clients, and returns when the daemon is to end.
async fn until_stopped(
    config: &Config,
    running: &mut Running,
    stop: &Stop,
    signals: &mut Signals,
) -> Result<End, DaemonError> {
    let node = running.node.clone();
    let sources = running.sources.clone();
    let mut join = pin!(async {
        let placed = autorelay::first_place(config, sources.autorelay.as_ref());
        tokio::join!(join::join(config, &node), placed).0
    });
    let mut joined = false;
    let persistent = running.persistent.clone();
    let mut unused = pin!(async {
        match config.idle_timeout {
            Some(time) => sleep(time).await,
            None => pending().await,
        }
        persistent.expire();
        pending::<Infallible>().await
    });
    loop {
        tokio::select! {
            biased;
            asked = signals.next() => match asked {
                Asked::Report => telemetry::report(running.sources.snapshot().to_string()),
                Asked::Stop(reason) => {
                    tracing::info!(reason, "stopping");
                    return Ok(End::Clean);
                }
            },
            result = &mut join, if !joined => {
                joined = true;
                if let Some(peers) = result? {
                    look_after(peers, running, stop);
                }
                running.ready.set();
                let (connected, configured) = running.sources.bootstrap();
                let control = &running.control_addr;
                tracing::info!(%control, bootstrap = connected, of = configured, "ready");
                announce_ready(config, running);
                stop.spawn_task(systemd::attend(running.node.clone()));
            }
            ended = &mut running.driver => {
                operator_line(&format!("the swarm task ended: {ended:?}"));
                return Ok(End::SwarmLost);
            }
            () = persistent.over() => {
                tracing::info!(reason = "no persistent connection is left", "stopping");
                return Ok(End::Clean);
            }
            // Clients come when they are told that the daemon is ready.
            never = &mut unused, if joined => match never {},
        }
    }
}

/// Keeps the connection to the network that was joined through `peers`.
fn look_after(peers: BootstrapPeers, running: &Running, stop: &Stop) {
    let dht = running.dht.clone();
    dht.iter().for_each(Dht::refresh);
    let rejoined = move || dht.iter().for_each(Dht::refresh);
    stop.spawn_task(peers.keep(running.node.clone(), rejoined));
}

/// Waits for what is under way, within the grace, and for the swarm's connections to close.
async fn drain(config: &Config, running: Running, stop: &Stop, end: &Result<End, DaemonError>) {
    // The socket file goes first: nobody new shall come.
    let _ = running.listener.await;
    let _ = timeout(config.shutdown_grace, stop.pipes.wait()).await;
    if let Some(dht) = &running.dht {
        dht.close().await;
    }
    stop.node.cancel();
    if matches!(end, Ok(End::Clean) | Err(_)) {
        let _ = running.driver.await;
    }
}

fn announce_ready(config: &Config, running: &Running) {
    if config.quiet {
        return;
    }
    let (peer, addrs) = (running.node.peer_id(), running.node.addresses());
    let bootstrap = if config.bootstrap.enabled && config.bootstrap.explicit {
        config.bootstrap.peers.clone()
    } else {
        Vec::new()
    };
    banner::print(&running.control_addr, peer, &addrs, &bootstrap);
}
