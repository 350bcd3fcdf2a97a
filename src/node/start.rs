//! Builds the swarm and the task that owns it.

use std::sync::{Arc, OnceLock};

use libp2p::{Swarm, identity::Keypair};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use super::{
    Inner, Node,
    behaviour::{self, Behaviour},
    book::AddressBook,
    circuit::{self, CircuitPort},
    connmgr::ConnectionManager,
    dial::NextRace,
    driver::{self, Driver},
    guarded::Guarded,
    host_addresses::{self, HostAddresses},
    interfaces,
    limits::Admission,
    listen::{self, ListenError, Listeners, Listening},
    options::{Options, StartError},
    probe::Prober,
    protocols,
    reach::Reachability,
    shed::Leaving,
    transport,
};
use crate::{
    fixed_limits::fixed_limit,
    metrics::metrics,
    streams::{Registry, StreamHost, Streams},
};

/// Commands that wait for the swarm's owner; further callers wait to ask.
const MAX_COMMANDS: usize = 256;
fixed_limit!("requests that wait for the swarm", MAX_COMMANDS);

/// A node that runs.
#[derive(Debug)]
pub struct Started {
    /// To ask it.
    pub node: Node,
    /// The task that owns the swarm. It ends only after `stop`; any other end is fatal.
    pub driver: JoinHandle<()>,
    /// What the operator should know.
    pub notices: Vec<String>,
    /// Addresses that could not be listened on, beside others that could.
    pub failures: Vec<ListenError>,
}

/// A swarm that does not listen yet.
struct Built {
    swarm: Swarm<Guarded<Behaviour>>,
    circuits: CircuitPort,
    next_race: NextRace,
}

impl Node {
    /// Starts a node and waits until it listens.
    ///
    /// # Errors
    /// See [`StartError`]. An address that cannot be listened on is fatal only if none can.
    pub async fn start(
        identity: &Keypair,
        options: &Options,
        streams: Arc<Streams>,
        stop: CancellationToken,
    ) -> Result<Started, StartError> {
        let Built {
            mut swarm,
            circuits,
            next_race,
        } = build(identity, options, &streams).await?;
        let Listening {
            listeners,
            failures,
            notices,
            early,
        } = listen::listen(&mut swarm, &options.listen).await;
        if !options.listen.is_empty() && failures.len() == options.listen.len() {
            return Err(StartError::Listen(failures));
        }
        let reach = options.forced_reach.unwrap_or_default();
        let addresses = HostAddresses::new(&options.announce, reach, options.relays);
        addresses.set_listened(listeners.told());
        host_addresses::tell(&addresses.get(), &mut swarm);
        let (commands, received) = mpsc::channel(MAX_COMMANDS);
        let node = Self(Arc::new(Inner {
            peer_id: *swarm.local_peer_id(),
            commands,
            streams,
            book: Arc::new(AddressBook::new(options.memory)),
            filter: Arc::default(),
            addresses,
            reachability: Arc::new(Reachability::new(options.forced_reach)),
            routing: OnceLock::new(),
            circuits,
            connmgr: Arc::new(ConnectionManager::new(options.watermarks)),
            leaving: Leaving::default(),
            events: options.events.clone(),
            rules: options.rules.clone(),
            prober: Prober::new(options.clone()),
        }));
        let driver = Driver::new(node.driver_parts(swarm, listeners, next_race, options));
        #[expect(clippy::disallowed_methods, reason = "the caller gets the handle")]
        let driver = tokio::spawn(metrics().turns.count(driver.run(early, received, stop)));
        Ok(Started {
            node,
            driver,
            notices,
            failures,
        })
    }
}

impl Node {
    /// What the swarm's task and the handle share.
    fn driver_parts(
        &self,
        swarm: Swarm<Guarded<Behaviour>>,
        listeners: Listeners,
        next_race: NextRace,
        options: &Options,
    ) -> driver::Parts {
        driver::Parts {
            swarm,
            streams: self.0.streams.clone(),
            book: self.0.book.clone(),
            filter: self.0.filter.clone(),
            connmgr: self.0.connmgr.clone(),
            addresses: self.0.addresses.clone(),
            listeners,
            rules: options.rules.clone(),
            reachability: self.0.reachability.clone(),
            next_race,
            max_dials: options.limits.pending_outbound,
            ledger: options.ledger.clone(),
            events: options.events.clone(),
        }
    }
}

/// The swarm with its transports and behaviours.
async fn build(
    identity: &Keypair,
    options: &Options,
    streams: &Arc<Streams>,
) -> Result<Built, StartError> {
    let next_race = NextRace::default();
    let own = spawn_blocking(interfaces::addresses).await;
    let own = own.ok().and_then(Result::ok).unwrap_or_default();
    let admission = Admission::new(options, own, streams.traffic.clone());
    let (circuit_port, circuits) = circuit::pair(streams);
    let parts = transport::Parts {
        host: Arc::new(StreamHost(streams.clone())),
        next_race: next_race.clone(),
        admission: admission.clone(),
        circuits,
    };
    let (own, wanted) = (identity.clone(), options.clone());
    let transport = spawn_blocking(move || transport::build(&own, &wanted, parts)).await?;
    let transport = transport.map_err(StartError::Transport)?;
    let nobody = Arc::new(Registry::new(Vec::new()));
    let alone = behaviour::behaviour(identity, &nobody, &admission);
    streams.registry.set_library(protocols::served(alone));
    let behaviour = behaviour::behaviour(identity, &streams.registry, &admission);
    let swarm = Swarm::new(
        transport,
        Guarded::new(behaviour),
        identity.public().to_peer_id(),
        behaviour::swarm_config(),
    );
    Ok(Built {
        swarm,
        circuits: circuit_port,
        next_race,
    })
}
