//! The services that stand on the node, each if it is wanted.

use std::sync::Arc;

use libp2p::identity::{Keypair, SigningError};
use tokio::sync::watch;

use super::{
    DaemonError, autorelay,
    base::Base,
    limits::{System, dht_share},
    options::{pubsub_settings, relay_settings},
    stop::Stop,
};
use crate::{
    autonat,
    config::{Config, DhtMode, Reachability},
    dht::{
        Dht, Validator,
        disk::{Contents, Disk},
    },
    mdns, memory,
    node::{DialBack, Node, Options, Reach, StartError, rules::Rules},
    port_mapping,
    pubsub::PubSub,
    relay::{self, AutoRelay, Puncher, Relay, RelayParts},
    rendezvous,
};

/// The services that others ask.
pub(super) struct Services {
    pub(super) dht: Option<Dht>,
    pub(super) pubsub: Option<PubSub>,
    pub(super) relay: Option<Relay>,
    pub(super) autorelay: Option<AutoRelay>,
}

/// What services are started with.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) identity: &'a Keypair,
    pub(super) system: System,
    pub(super) node: &'a Node,
    pub(super) options: &'a Options,
    pub(super) base: &'a Base,
    pub(super) stop: &'a Stop,
}

impl Parts<'_> {
    /// Starts every service that is wanted.
    ///
    /// # Errors
    /// What kept one from starting.
    pub(super) async fn start(
        &self,
        records: Option<(Disk, Contents)>,
    ) -> Result<Services, DaemonError> {
        let (config, node, stop) = (self.config, self.node, self.stop);
        stop.spawn_task(node.clone().keep_trimmed());
        let events = self.base.events.clone();
        stop.spawn_task(async move { events.watch_limits().await });
        if config.mdns {
            stop.spawn_task(mdns::run(node.clone()));
        }
        self.rendezvous();
        self.find_reach().await?;
        let closing = stop.serving.clone();
        let places = self.options.limits.established_inbound;
        relay::start(node, config.relay.enabled, self.puncher(), places, closing);
        let dht = config.dht.map(|mode| self.dht(mode, records));
        let services = Services {
            pubsub: self.pubsub()?,
            relay: self.relay(),
            autorelay: autorelay::start(config, node, dht.as_ref(), stop),
            dht,
        };
        self.watch_memory(&services);
        Ok(services)
    }

    /// Gets direct connections to peers that have a circuit, if that is wanted.
    fn puncher(&self) -> Option<Arc<Puncher>> {
        let puncher = Puncher::new(self.node.clone());
        let wanted = self.config.nat.autonat.then_some(puncher)?;
        self.stop.spawn_task(wanted.clone().serve());
        Some(wanted)
    }

    /// Meets others at rendezvous points, and is one.
    fn rendezvous(&self) {
        let (config, node) = (self.config, self.node);
        if config.rendezvous_server {
            rendezvous::serve(node);
        }
        if !config.rendezvous.points.is_empty() {
            let (identity, points) = (self.identity.clone(), config.rendezvous.clone());
            let closing = self.stop.serving.clone();
            let meeting = rendezvous::meet(node.clone(), identity, points, closing);
            // The end of the daemon waits for it.
            self.stop.pipes.spawn(meeting);
        }
    }

    fn dht(&self, mode: DhtMode, records: Option<(Disk, Contents)>) -> Dht {
        let (config, node) = (self.config, self.node);
        let dht = Dht::new(
            node,
            self.identity.public(),
            Validator::new(Arc::new(node.clone()), config.dht_namespaces.clone()),
            dht_share(self.system),
            records,
            self.stop.serving.clone(),
        );
        node.set_routing(Arc::new(dht.clone()));
        self.stop.spawn_task(serve_dht(
            mode,
            config.nat.reachability,
            node.watch_reach(),
            dht.clone(),
        ));
        dht
    }

    fn pubsub(&self) -> Result<Option<PubSub>, SigningError> {
        let Some(wanted) = &self.config.pubsub else {
            return Ok(None);
        };
        let (pipes, closing) = (self.stop.pipes.clone(), self.stop.serving.clone());
        let settings = pubsub_settings(wanted, self.system.memory.bytes);
        let place = (self.node, &self.base.events);
        let pubsub = PubSub::start(self.identity, &settings, place, pipes, closing)?;
        Ok(Some(pubsub))
    }

    /// Relays for others.
    fn relay(&self) -> Option<Relay> {
        let wanted = &self.config.relay;
        wanted.service.then(|| {
            Relay::start(RelayParts {
                identity: self.identity,
                node: self.node,
                settings: relay_settings(wanted),
                pressure: self.base.pressure.clone(),
                tasks: self.stop.pipes.clone(),
                closing: self.stop.serving.clone(),
            })
        })
    }

    /// Watches the memory in use, where there is a budget for it.
    fn watch_memory(&self, services: &Services) {
        let budget = self.system.memory.bytes;
        if budget == 0 {
            return;
        }
        // Messages and circuits are given up before connections.
        let mut sheds: Vec<Box<dyn memory::Shed>> = Vec::new();
        sheds.extend(services.pubsub.clone().map(|pubsub| Box::new(pubsub) as _));
        sheds.extend(services.relay.clone().map(|relay| Box::new(relay) as _));
        sheds.push(Box::new(self.node.clone()));
        let pressure = self.base.pressure.clone();
        self.stop.spawn_task(memory::watch(budget, pressure, sheds));
    }

    /// Asks the router to let strangers in, and others whether they get in; answers the same
    /// question of others.
    async fn find_reach(&self) -> Result<(), StartError> {
        let (nat, node, stop) = (&self.config.nat, self.node, self.stop);
        let forced = nat.reachability;
        if forced.is_none() {
            stop.spawn_task(autonat::probe(node.clone()));
        }
        if nat.port_map {
            stop.spawn_task(port_mapping::keep(node.clone()));
        }
        if nat.autonat && forced != Some(Reachability::Private) {
            let dial_back = DialBack::new(self.options).await?;
            stop.spawn_task(autonat::serve(node.clone(), dial_back));
        }
        Ok(())
    }
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

/// The rules about connections, which stand in a file beside the datastore. As with that, errors end the
/// start.
pub(super) async fn rules(config: &Config) -> Result<Rules, DaemonError> {
    let Some(datastore) = &config.datastore else {
        return Ok(Rules::default());
    };
    let mut path = datastore.clone().into_os_string();
    path.push(".rules");
    Ok(tokio::task::spawn_blocking(move || Rules::open(path.into())).await??)
}

/// The datastore, and what it held. Opened before anything listens: its errors end the start. A
/// disk that hangs holds up the start, but not the signal that ends it.
pub(super) async fn datastore(config: &Config) -> Result<Option<(Disk, Contents)>, DaemonError> {
    let Some(path) = config.datastore.clone().filter(|_| config.dht.is_some()) else {
        return Ok(None);
    };
    let opened = tokio::task::spawn_blocking(move || Disk::open(&path)).await?;
    Ok(Some(opened?))
}
