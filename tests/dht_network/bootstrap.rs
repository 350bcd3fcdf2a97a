//! `-b`: the network is joined at start, whatever has become of the other peers on the list.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use socket2::{Domain, Socket, Type};

use super::*;
use crate::support::{PATIENCE, eventually};

/// Where nobody answers and nobody refuses: a listener on 127.0.0.1 whose queue is full, so
/// that the kernel drops what knocks.
struct BlackHole {
    _listener: Socket,
    _queued: Vec<Socket>,
    addr: SocketAddr,
}

impl BlackHole {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        listener.bind(&any.into()).expect("bind");
        listener.listen(0).expect("listen");
        let addr = listener.local_addr().expect("an address");
        let addr = addr.as_socket().expect("an ip address");
        let mut queued = Vec::new();
        // The queue holds one more than it was told; then even a connect is not answered.
        while TcpStream::connect_timeout(&addr, Duration::from_millis(100))
            .map(|stream| queued.push(Socket::from(stream)))
            .is_ok()
        {
            assert!(queued.len() < 16, "the queue takes everything");
        }
        Self {
            _listener: listener,
            _queued: queued,
            addr,
        }
    }

    fn multiaddr(&self) -> String {
        let (ip, port) = (self.addr.ip(), self.addr.port());
        format!("/ip4/{ip}/tcp/{port}/p2p/{}", PeerId::random())
    }
}

fn address_of(daemon: &Daemon) -> String {
    format!("{}/p2p/{}", daemon.addrs()[0], daemon.peer_id())
}

fn bootstrapped(peers: &[String]) -> Launch {
    launch("-dhtServer").args(["-b".into(), format!("-bootstrapPeers={}", peers.join(","))])
}

/// Better than Go, which dials one after another.
#[test]
fn dead_peers_cost_nothing() {
    let live = server();
    let holes: Vec<_> = (0..8).map(|_| BlackHole::new()).collect();
    let mut peers: Vec<_> = holes.iter().map(BlackHole::multiaddr).collect();
    peers.insert(4, address_of(&live));
    let start = || {
        let begun = Instant::now();
        (bootstrapped(&peers).spawn(), begun.elapsed())
    };
    // Of three, the quickest: the machine may be busy with something else.
    let starts = [start(), start(), start()];
    let took = starts.iter().map(|(_, took)| *took).min();
    assert!(took < Some(Duration::from_secs(1)), "ready after {took:?}");
    let (daemon, _) = &starts[0];
    let listed = daemon.client().list_peers();
    assert!(listed.iter().any(|(peer, _)| *peer == live.peer_id()));
    daemon.client().await_table(&[live.peer_id()]);
}

#[test]
fn the_banner_names_the_peers() {
    let live = server();
    let peer = address_of(&live);
    let daemon = bootstrapped(std::slice::from_ref(&peer)).spawn();
    let expected = format!("Bootstrap peers:\n{peer}\n");
    let told = eventually(PATIENCE, || daemon.stdout().ends_with(&expected));
    assert!(told, "{}", daemon.stdout());
}

#[test]
fn one_peer_is_enough_to_meet_all() {
    let daemons: [Daemon; 5] = star();
    let newcomer = bootstrapped(&[address_of(&daemons[0])]).spawn();
    let all: Vec<_> = daemons.iter().map(Daemon::peer_id).collect();
    newcomer.client().await_table(&all);
    for daemon in &daemons {
        daemon.client().await_table(&[newcomer.peer_id()]);
    }
}

#[test]
fn without_any_peer_the_start_fails_and_says_why() {
    let gone = server();
    let peer = address_of(&gone);
    drop(gone);
    let refused = bootstrapped(&[peer]).try_spawn().expect_err("nobody there");
    assert!(
        refused.contains("failed to connect to bootstrap peers"),
        "{refused}"
    );
}

#[test]
fn whoever_answers_under_anothers_name_does_not_count() {
    let live = server();
    let peer = format!("{}/p2p/{}", live.addrs()[0], PeerId::random());
    let refused = bootstrapped(&[peer]).try_spawn().expect_err("a stranger");
    assert!(
        refused.contains("failed to connect to bootstrap peers"),
        "{refused}"
    );
}

#[test]
fn nobody_is_dialed_without_being_asked_for() {
    let live = server();
    let _daemon = launch("-dhtServer")
        .args([format!("-bootstrapPeers={}", address_of(&live))])
        .spawn();
    // Another connection made later shows that time has passed.
    let other = server();
    join(&live, &other);
    assert_eq!(live.client().list_peers().len(), 1);
}
