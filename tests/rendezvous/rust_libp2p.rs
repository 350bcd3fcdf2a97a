//! rust-libp2p as the point, and as one that registers at a daemon's.

use std::sync::mpsc::channel;
use std::thread;

use futures::StreamExt as _;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Swarm, SwarmBuilder, identify};
use libp2p_rendezvous::{Namespace, client, server};

use super::*;

const NAMESPACE: &str = "rendezvous";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

#[derive(NetworkBehaviour)]
struct Client {
    rendezvous: client::Behaviour,
    identify: identify::Behaviour,
}

#[derive(NetworkBehaviour)]
struct Server {
    rendezvous: server::Behaviour,
    identify: identify::Behaviour,
}

fn agent(key: &Keypair) -> identify::Behaviour {
    let config = identify::Config::new("rendezvous-test/1.0.0".to_owned(), key.public());
    identify::Behaviour::new(config.with_agent_version("rust-libp2p/0.57".to_owned()))
}

/// A daemon that is reached by quic.
fn daemon(flag: &str) -> Daemon {
    Daemon::spawn(&[&format!("-hostAddrs={QUIC}"), flag])
}

/// A node on 127.0.0.1, on a thread of its own: its id, and where it listens. `on_event` is called
/// with each of its events, and the thread ends when it says so.
fn run<B>(
    behaviour: impl FnOnce(&Keypair) -> B + Send + 'static,
    mut on_event: impl FnMut(&mut Swarm<B>, SwarmEvent<B::ToSwarm>) -> bool + Send + 'static,
) -> (PeerId, Multiaddr)
where
    B: NetworkBehaviour + Send,
{
    let (started, address) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async move {
            let swarm = SwarmBuilder::with_new_identity().with_tokio();
            let swarm = swarm.with_quic().with_behaviour(behaviour);
            let mut swarm = swarm
                .expect("a behaviour")
                .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
                .build();
            let any = QUIC.parse().expect("an address");
            swarm.listen_on(any).expect("listen");
            loop {
                let event = swarm.select_next_some().await;
                if let SwarmEvent::NewListenAddr { address, .. } = &event {
                    swarm.add_external_address(address.clone());
                    let _ = started.send((*swarm.local_peer_id(), address.clone()));
                }
                if !on_event(&mut swarm, event) {
                    return;
                }
            }
        });
    });
    address.recv_timeout(PATIENCE).expect("it listens")
}

#[test]
fn daemons_meet_at_its_point_and_leave_it() {
    let (told, events) = channel();
    let server = |key: &Keypair| Server {
        rendezvous: server::Behaviour::new(server::Config::default()),
        identify: agent(key),
    };
    let (point, address) = run(server, move |_, event| {
        if let SwarmEvent::Behaviour(ServerEvent::Rendezvous(event)) = event {
            let _ = match event {
                server::Event::PeerRegistered { peer, .. } => told.send((peer, true)),
                server::Event::PeerUnregistered { peer, .. } => told.send((peer, false)),
                _ => return true,
            };
        }
        true
    });
    let at = format!("-rendezvous={}", address.with(Protocol::P2p(point)));
    let [one, mut other] = [(); 2].map(|()| daemon(&at));
    let met = || knows(&one, other.peer_id()) && knows(&other, one.peer_id());
    assert!(eventually(2 * PATIENCE, met), "{}", one.stderr());
    let leaver = other.peer_id();
    other.terminate(PATIENCE);
    // Both have registered before, some of them more than once.
    loop {
        let (peer, registered) = events.recv_timeout(PATIENCE).expect("it leaves");
        if !registered {
            assert_eq!(peer, leaver);
            return;
        }
    }
}

/// What others have signed in the form that it cannot read is not told to it.
#[test]
fn it_registers_at_a_daemon_and_is_found_there() {
    let point = daemon("-rendezvousServer");
    let daemon = daemon(&at(&point));
    let (server, address) = (point.peer_id(), point.addrs()[0].clone());
    let (told, found) = channel();
    let client = |key: &Keypair| Client {
        rendezvous: client::Behaviour::new(key.clone()),
        identify: agent(key),
    };
    let namespace = || Namespace::from_static(NAMESPACE);
    let (rust, _) = run(client, move |swarm, event| {
        match event {
            SwarmEvent::NewListenAddr { .. } => swarm.dial(address.clone()).expect("a dial"),
            SwarmEvent::Behaviour(ClientEvent::Identify(identify::Event::Received { .. })) => {
                let rendezvous = &mut swarm.behaviour_mut().rendezvous;
                let registered = rendezvous.register(namespace(), server, None);
                registered.expect("an address");
            }
            SwarmEvent::Behaviour(ClientEvent::Rendezvous(event)) => match event {
                client::Event::Registered { .. } => {
                    let rendezvous = &mut swarm.behaviour_mut().rendezvous;
                    rendezvous.discover(Some(namespace()), None, None, server);
                }
                client::Event::Discovered { registrations, .. } => {
                    let peers = registrations.iter().map(|one| one.record.peer_id());
                    let _ = told.send(peers.collect::<Vec<_>>());
                }
                other => panic!("{other:?}"),
            },
            _ => {}
        }
        true
    });
    assert_eq!(found.recv_timeout(PATIENCE), Ok(vec![rust]));
    // The daemon asks once a minute.
    assert!(eventually(3 * PATIENCE, || knows(&daemon, rust)));
}
