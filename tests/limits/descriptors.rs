//! Descriptors that run out: F5.

use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use libp2p::multiaddr::Protocol;

use super::*;
use crate::support::Handler;

const PEERS: &str = "inbound connections that the descriptors leave no room for";
const CLIENTS: &str = "control connections that the descriptors leave no room for";
const HANDLERS: &str = "handler connections that the descriptors leave no room for";

/// Of as many descriptors, half are left alone.
const DESCRIPTORS: usize = 128;
const TAKEN: usize = DESCRIPTORS - 64;

/// A daemon that may open few files. Its connections would not use them up by themselves.
fn limited() -> Daemon {
    Launch::new()
        .shell(&format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\""))
        .args([LISTEN, "-connMax=1000", "-connMaxInbound=1000"])
        .spawn()
}

fn socket_addr(daemon: &Daemon) -> SocketAddr {
    let mut parts = daemon.addrs()[0].iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => (ip, port).into(),
        other => panic!("{other:?}"),
    }
}

/// Processor time that the daemon uses while nobody asks it for anything, in percent.
fn idle_load(daemon: &Daemon) -> u64 {
    let (ticks, started) = (daemon.cpu_ticks(), Instant::now());
    let _ = eventually(Duration::from_secs(1), || false);
    let spent = started.elapsed().as_millis() / 10;
    (daemon.cpu_ticks() - ticks) * 100 / u64::try_from(spent).expect("some time").max(1)
}

/// Peers' connections take all descriptors but the reserve; then accepting waits without
/// spinning, what was there before goes on, and service is back when some are freed.
#[test]
fn accepting_peers_pauses_at_the_reserve() {
    let daemon = limited();
    let (old, new) = (node(&[]), node(&[]));
    old.connect_to(&daemon);
    let mut echo = Echo::open(&old, &daemon);
    let mut client = daemon.client();
    for round in 1..=5 {
        let at = socket_addr(&daemon);
        let sockets: Vec<TcpStream> = (0..100)
            .map(|_| TcpStream::connect(at).expect("the system's queue has room"))
            .collect();
        assert!(
            eventually(PATIENCE, || daemon.fds() >= TAKEN),
            "{} descriptors",
            daemon.fds()
        );
        let load = idle_load(&daemon);
        assert!(load < 20, "{load} %");
        assert!(daemon.fds() < DESCRIPTORS - 32, "{}", daemon.fds());
        assert!(echo.works());
        assert_eq!(client.identify().0, daemon.peer_id());
        drop(sockets);
        let freed = Instant::now();
        new.connect_to(&daemon);
        assert!(Echo::open(&new, &daemon).works());
        assert!(
            freed.elapsed() < Duration::from_secs(2),
            "{:?}",
            freed.elapsed()
        );
        client.disconnect(new.peer_id());
        assert!(daemon.bites(PEERS) >= round);
    }
}

#[test]
fn accepting_clients_pauses_at_the_reserve() {
    let daemon = limited();
    let other = node(&[]);
    for round in 1..=5 {
        let mut first = daemon.client();
        let clients: Vec<ControlClient> = (0..100).map(|_| daemon.client()).collect();
        assert!(eventually(PATIENCE, || daemon.fds() >= TAKEN));
        let load = idle_load(&daemon);
        assert!(load < 20, "{load} %");
        // What is left serves those that are there: a dial needs a descriptor.
        first.connect_peer(other.peer_id(), other.addrs());
        assert!(daemon.fds() < DESCRIPTORS - 32, "{}", daemon.fds());
        drop((first, clients));
        let freed = Instant::now();
        assert_eq!(daemon.client().identify().0, daemon.peer_id());
        assert!(
            freed.elapsed() < Duration::from_secs(2),
            "{:?}",
            freed.elapsed()
        );
        daemon.client().disconnect(other.peer_id());
        assert!(daemon.bites(CLIENTS) >= round);
    }
}

#[test]
fn streams_to_handlers_leave_the_last_descriptors() {
    let daemon = limited();
    let handler = Handler::unix();
    handler
        .register(&mut daemon.client(), &["/many"], None)
        .expect("register");
    let peer = node(&[]);
    peer.connect_to(&daemon);
    let pipes: Vec<Pipe> = (0..120)
        .filter_map(|_| {
            let opened = peer.client().open_stream(daemon.peer_id(), &["/many"]);
            opened.ok().map(|(_, pipe)| pipe)
        })
        .collect();
    assert!(eventually(PATIENCE, || daemon.bites(HANDLERS) > 0));
    assert!(daemon.fds() <= DESCRIPTORS - 30, "{}", daemon.fds());
    // With the listener go the connections that it has not accepted.
    drop((pipes, handler));
    assert!(eventually(PATIENCE, || daemon.fds() < TAKEN));
    let handler = Handler::unix();
    handler
        .register(&mut daemon.client(), &["/many"], None)
        .expect("register");
    let (_, pipe) = peer
        .client()
        .open_stream(daemon.peer_id(), &["/many"])
        .expect("open");
    handler.accept(PATIENCE).expect("a stream");
    drop(pipe);
}

/// Descriptors with high numbers that the daemon was started with, and none below them: the lowest
/// free number says nothing of how many are left.
#[test]
fn descriptors_inherited_with_high_numbers_count() {
    const INHERITED: usize = 30;
    // bash has names for descriptors above 9.
    let inherit = "for n in {90..119}; do eval \"exec $n</dev/null\"; done; exec \"$0\" \"$@\"";
    let script = format!("ulimit -n {DESCRIPTORS}; exec bash -c '{inherit}' \"$0\" \"$@\"");
    let daemon = Launch::new().shell(&script).args([LISTEN]).spawn();
    let mut client = daemon.client();
    // Once it is served, its descriptor is there.
    let _ = client.identify();
    let before = daemon.fds();
    assert!(before > INHERITED && before < TAKEN, "{before} descriptors");
    let at = socket_addr(&daemon);
    let sockets: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(at).expect("the system's queue has room"))
        .collect();
    assert!(eventually(PATIENCE, || daemon.bites(PEERS) > 0));
    // A few more may have been accepted before the look.
    assert!(
        daemon.fds() <= TAKEN + 4,
        "{} descriptors, {before} before",
        daemon.fds()
    );
    assert_eq!(client.identify().0, daemon.peer_id());
    drop(sockets);
    assert!(eventually(PATIENCE, || daemon.fds() <= before));
}
