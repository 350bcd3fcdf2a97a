//! `-b`: the daemon joins the network at start, even if some bootstrap peers are down.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use libp2p::{PeerId, identity::Keypair};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::support::{PATIENCE, daemon::binary_under_test, eventually, lab::Lab, namespace};

/// An address that neither accepts nor refuses: a listener on 127.0.0.1 whose backlog is full, so
/// that the kernel drops every SYN.
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

/// A hundred peers, of which one is there: packets to the others are lost. The time is that of a
/// dial, not that of waiting for a dead one.
#[test]
fn of_a_hundred_peers_the_one_that_lives_is_found_at_once() {
    let Some(lab) = Lab::new() else { return };
    let host = lab.host("60.0.1.1/16");
    host.run("ip route add 10.77.0.0/16 dev lo");
    let launch = |port: u16| {
        let at = format!("-hostAddrs=/ip4/127.0.0.1/tcp/{port}");
        host.launch().args(["-dhtServer".to_owned(), at])
    };
    let live = launch(4001).spawn();
    let mut peers: Vec<String> = (1..100)
        .map(|last| format!("/ip4/10.77.0.{last}/tcp/4001/p2p/{}", PeerId::random()))
        .collect();
    let list = |peers: &[String]| ["-b".into(), format!("-bootstrapPeers={}", peers.join(","))];
    // Without the one the start fails after eight seconds: the others are dead and take their time.
    let begun = Instant::now();
    let refused = launch(4002).args(list(&peers)).try_spawn();
    let dead = begun.elapsed();
    assert!(refused.expect_err("nobody").contains("bootstrap peers"));
    assert!(dead > Duration::from_secs(6), "{dead:?}");
    peers.push(address_of(&live));
    let begun = Instant::now();
    let daemon = launch(4003).args(list(&peers)).spawn();
    let took = begun.elapsed();
    println!("ready after {took:?}, and not at all after {dead:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    let listed = daemon.client().list_peers();
    assert!(listed.iter().any(|(peer, _)| *peer == live.peer_id()));
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

/// A daemon that can be started again under the same id and address.
struct Fixed {
    dir: tempfile::TempDir,
    peer: PeerId,
    port: u16,
}

impl Fixed {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let keypair = Keypair::generate_ed25519();
        let bytes = keypair.to_protobuf_encoding().expect("a key");
        std::fs::write(dir.path().join("identity"), bytes).expect("write the key");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        Self {
            dir,
            peer: keypair.public().to_peer_id(),
            port: free.local_addr().expect("an address").port(),
        }
    }

    fn multiaddr(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", self.port, self.peer)
    }

    fn identity(&self) -> String {
        format!("-id={}", self.dir.path().join("identity").display())
    }

    fn launch(&self) -> Launch {
        launch("-dhtServer").args([
            self.identity(),
            format!("-hostAddrs=/ip4/127.0.0.1/tcp/{}", self.port),
        ])
    }
}

/// Hivemind gives its daemon 15 s, and shows the last line.
#[test]
fn silent_peers_end_the_start_within_eight_seconds_and_the_last_line_says_why() {
    let holes: Vec<_> = (0..3).map(|_| BlackHole::new()).collect();
    let peers: Vec<_> = holes.iter().map(BlackHole::multiaddr).collect();
    let begun = Instant::now();
    let refused = bootstrapped(&peers).try_spawn().expect_err("nobody there");
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(4),
        "nobody was waited for: {took:?}"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    let last = refused.trim_end().lines().last().unwrap_or_default();
    assert!(
        last.contains("failed to connect to bootstrap peers"),
        "{refused}"
    );
    for peer in &peers {
        let id = peer.rsplit('/').next().expect("an id");
        assert!(last.contains(id), "{id} is missing: {refused}");
    }
}

/// Replicas share one list of bootstrap peers.
#[test]
fn a_node_skips_itself_on_the_list() {
    let own = Fixed::new();
    let alone = own
        .launch()
        .args(["-b".into(), format!("-bootstrapPeers={}", own.multiaddr())]);
    let alone = alone.spawn();
    let told = eventually(PATIENCE, || {
        alone.stderr().contains("its own only bootstrap peer")
    });
    assert!(told, "{}", alone.stderr());
    drop(alone);
    let live = server();
    let list = format!("-bootstrapPeers={},{}", own.multiaddr(), address_of(&live));
    let daemon = own.launch().args(["-b".into(), list]).spawn();
    assert_eq!(daemon.peer_id(), own.peer);
    let listed = daemon.client().list_peers();
    assert!(listed.iter().any(|(peer, _)| *peer == live.peer_id()));
}

#[test]
fn a_peer_that_is_down_is_tried_again_at_the_start() {
    let late = Fixed::new();
    let peers = [late.multiaddr()];
    // The first dial is answered by somebody who hangs up and goes.
    let nobody = std::net::TcpListener::bind(("127.0.0.1", late.port)).expect("bind");
    let early = std::thread::spawn(move || bootstrapped(&peers).try_spawn());
    drop(nobody.accept().expect("the first dial"));
    drop(nobody);
    let live = late.launch().spawn();
    let daemon = early.join().expect("joined").expect("started");
    let listed = daemon.client().list_peers();
    assert!(listed.iter().any(|(peer, _)| *peer == live.peer_id()));
}

#[test]
fn a_node_that_is_left_alone_comes_back() {
    let hub = Fixed::new();
    let mut first = hub.launch().spawn();
    let daemon = bootstrapped(&[hub.multiaddr()]).spawn();
    first.terminate(PATIENCE);
    let alone = eventually(PATIENCE, || daemon.client().list_peers().is_empty());
    assert!(alone, "its only peer is gone and still listed");
    let again = hub.launch().spawn();
    let begun = Instant::now();
    let back = eventually(PATIENCE, || !daemon.client().list_peers().is_empty());
    assert!(back, "not back after {:?}", begun.elapsed());
    again.client().await_table(&[daemon.peer_id()]);
    daemon.client().await_table(&[again.peer_id()]);
}

/// Addresses from the operator are dialed as given. The address filter applies to those from peers.
#[test]
fn a_peer_on_a_port_of_the_system_is_dialed() {
    let free = (600..1024).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let Some(port) = free else {
        eprintln!("skipped: ports below 1024 are not for this user");
        return;
    };
    let hub = Fixed {
        port,
        ..Fixed::new()
    };
    let live = hub.launch().spawn();
    let daemon = bootstrapped(&[hub.multiaddr()]).spawn();
    let listed = daemon.client().list_peers();
    assert!(listed.iter().any(|(peer, _)| *peer == live.peer_id()));
}

/// In a namespace without routes the names of the public bootstrap peers do not resolve.
#[test]
fn without_name_servers_the_last_line_says_so() {
    let Some(mut inside) = namespace::inside("") else {
        eprintln!("skipped: no network namespaces");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let output = inside
        .arg(binary_under_test())
        .args(["-b", "-q", "-noListenAddrs"])
        .arg(format!("-listen=/unix{}", dir.path().join("c").display()))
        .output()
        .expect("the daemon runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.trim_end().lines().last().unwrap_or_default();
    assert!(
        last.contains("no name server answers: see /etc/resolv.conf"),
        "{said}"
    );
    assert!(
        last.contains("failed to connect to bootstrap peers"),
        "{said}"
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
