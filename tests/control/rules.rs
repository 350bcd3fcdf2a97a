//! CONTROL: who may be connected with.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use libp2p::PeerId;
use libp2p::multiaddr::{Multiaddr, Protocol};
use rp2pd::wire::pb::{
    ControlRequest, Rule, control_request::Type, event::Cause, event::Kind, rule::Action,
};

use super::follower::{Follower, peer_of};
use super::node;
use super::steering::{ask, control};
use super::support::{Daemon, Launch, PATIENCE, eventually};

const FORBIDDEN: &str = "gater disallows connection to peer";

fn peer(peer: PeerId) -> Rule {
    Rule {
        peer: Some(peer.to_bytes().into()),
        ..Rule::default()
    }
}

fn network(text: &str) -> Rule {
    Rule {
        network: Some(text.as_bytes().to_vec().into()),
        ..Rule::default()
    }
}

fn every_peer() -> Rule {
    Rule {
        every_peer: Some(true),
        ..Rule::default()
    }
}

fn allowed(rule: Rule) -> Rule {
    Rule {
        action: Some(Action::Allow.into()),
        ..rule
    }
}

fn blocked(rule: Rule) -> Rule {
    Rule {
        action: Some(Action::Block.into()),
        ..rule
    }
}

fn rules(daemon: &Daemon, kind: Type, rules: &[Rule]) -> Result<Vec<Rule>, String> {
    let part = ControlRequest {
        rules: rules.to_vec(),
        ..control(kind)
    };
    ask(daemon, part).map(|answer| answer.rules)
}

fn is_connected(daemon: &Daemon, other: &Daemon) -> bool {
    let peers = daemon.client().list_peers();
    peers.iter().any(|(peer, _)| *peer == other.peer_id())
}

fn dial(from: &Daemon, to: &Daemon) -> Result<(), String> {
    from.client().connect_to(to.peer_id(), to.addrs())
}

#[test]
fn a_blocked_peer_is_neither_kept_nor_dialed_nor_let_in() {
    let (daemon, other, third) = (node(&[]), node(&[]), node(&[]));
    daemon.connect_to(&other);
    daemon.connect_to(&third);
    let mut follower = Follower::of(&daemon, &[Kind::PeerDisconnected]);
    let rule = peer(other.peer_id());
    let told = rules(&daemon, Type::RulesAdd, std::slice::from_ref(&rule));
    assert_eq!(told, Ok(vec![blocked(rule.clone())]));
    // Closed when it is answered.
    assert!(!is_connected(&daemon, &other));
    let gone = follower.next();
    assert_eq!(
        (peer_of(&gone), gone.cause()),
        (other.peer_id(), Cause::Local)
    );
    let refused = dial(&daemon, &other).expect_err("blocked");
    assert_eq!(refused, format!("failed to dial: {FORBIDDEN}"));
    // It may believe to be connected for a moment.
    let _ = dial(&other, &daemon);
    assert!(eventually(PATIENCE, || !is_connected(&other, &daemon)));
    assert!(!is_connected(&daemon, &other));
    assert!(is_connected(&daemon, &third), "others stay");
    assert!(daemon.bites("connections that rules forbid") >= 2);
    let none = rules(&daemon, Type::RulesRemove, &[rule]);
    assert_eq!(none, Ok(vec![]));
    dial(&other, &daemon).expect("CONNECT");
}

#[test]
fn a_blocked_network_is_refused_before_the_handshake() {
    let (daemon, other) = (node(&[]), node(&[]));
    daemon.connect_to(&other);
    let rule = network("127.0.0.0/8");
    rules(&daemon, Type::RulesAdd, &[rule]).expect("RULES_ADD");
    assert!(!is_connected(&daemon, &other));
    let refused = dial(&daemon, &other).expect_err("blocked");
    assert!(
        refused.contains("all dials failed") && refused.contains(FORBIDDEN),
        "{refused}"
    );
    let refused = dial(&other, &daemon).expect_err("refused");
    assert!(refused.contains("all dials failed"), "{refused}");
    assert!(daemon.bites("connections that rules forbid") > 0);
    // The longer prefix decides.
    let exception = allowed(network("127.0.0.1"));
    let told = rules(&daemon, Type::RulesAdd, &[exception]).expect("RULES_ADD");
    let expected = [
        blocked(network("127.0.0.0/8")),
        allowed(network("127.0.0.1/32")),
    ];
    assert_eq!(told, expected);
    dial(&other, &daemon).expect("CONNECT");
}

#[test]
fn a_list_of_allowed_peers_lets_nobody_else_in() {
    let (daemon, friend, stranger) = (node(&[]), node(&[]), node(&[]));
    let list = [every_peer(), allowed(peer(friend.peer_id()))];
    rules(&daemon, Type::RulesAdd, &list).expect("RULES_ADD");
    dial(&friend, &daemon).expect("CONNECT");
    let _ = dial(&stranger, &daemon);
    assert!(eventually(PATIENCE, || !is_connected(&stranger, &daemon)));
    assert!(is_connected(&daemon, &friend) && !is_connected(&daemon, &stranger));
}

#[test]
fn rules_outlive_the_daemon_with_a_datastore() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    let start = || {
        let datastore = format!("-datastore={}", store.display());
        let args = ["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-dht", &datastore];
        Launch::new().args(args)
    };
    let other = node(&[]);
    let list = [
        every_peer(),
        network("10.0.0.0/8"),
        allowed(peer(other.peer_id())),
    ];
    let first = start().spawn();
    let told = rules(&first, Type::RulesAdd, &list).expect("RULES_ADD");
    // Killed, not ended: what was answered is kept.
    first.signal(rustix::process::Signal::KILL);
    drop(first);
    let second = start().spawn();
    assert_eq!(rules(&second, Type::RulesList, &[]), Ok(told));
    rules(&second, Type::RulesRemove, &list[..1]).expect("RULES_REMOVE");
    drop(second);
    let third = start().spawn();
    assert_eq!(
        rules(&third, Type::RulesList, &[]).map(|told| told.len()),
        Ok(2)
    );
    drop(third);
    std::fs::write(dir.path().join("store.rules"), "{").expect("write");
    let refused = start()
        .try_spawn()
        .expect_err("a damaged list is not forgotten");
    assert!(refused.contains("store.rules"), "{refused}");
    assert!(
        refused.contains("move it away to start without rules"),
        "{refused}"
    );
}

#[test]
fn what_is_no_rule_is_refused_with_a_reason() {
    let daemon = node(&[]);
    let add = |rule: Rule| rules(&daemon, Type::RulesAdd, &[rule]).expect_err("refused");
    let one = "a rule names one of peer, network and everyPeer";
    assert_eq!(add(Rule::default()), one);
    let both = Rule {
        peer: peer(daemon.peer_id()).peer,
        ..network("10.0.0.0/8")
    };
    assert_eq!(add(both), one);
    for text in ["10.0.0.0/33", "ten", "", "\u{ffff}"] {
        assert!(add(network(text)).starts_with("invalid network "), "{text}");
    }
    let odd = Rule {
        action: Some(7),
        ..every_peer()
    };
    assert_eq!(add(odd), "unknown action of a rule");
    let unknown = rules(&daemon, Type::RulesRemove, &[network("10.0.0.0/8")]);
    assert_eq!(unknown, Err("no rule for network 10.0.0.0/8".into()));
    let many = |count: u32| -> Vec<Rule> {
        let networks = (0..count).map(|n| network(&std::net::Ipv4Addr::from(n << 8).to_string()));
        networks.collect()
    };
    let refused = rules(&daemon, Type::RulesAdd, &many(4097));
    assert_eq!(refused, Err("too many rules: at most 4096".into()));
    assert_eq!(rules(&daemon, Type::RulesList, &[]), Ok(vec![]));
    let full = rules(&daemon, Type::RulesAdd, &many(4096)).expect("RULES_ADD");
    assert_eq!(full.len(), 4096);
}

/// A way to a daemon that holds back what follows the first header of both. It tells when both are
/// that far, and lets the rest pass when it is told so.
struct Detour {
    at: SocketAddr,
    holds: Receiver<()>,
    pass: Sender<()>,
}

impl Detour {
    fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let at = listener.local_addr().expect("an address");
        let ((holding, holds), (pass, passing)) = (channel(), channel());
        thread::spawn(move || {
            let (mut dialer, _) = listener.accept().expect("a dialer");
            let mut listening = TcpStream::connect(target).expect("connected");
            // Both say so first; the answer tells that the listener has accepted.
            let mut header = [0; b"\x13/multistream/1.0.0\n".len()];
            dialer.read_exact(&mut header).expect("a header");
            std::io::Write::write_all(&mut listening, &header).expect("sent");
            listening.read_exact(&mut header).expect("a header");
            holding.send(()).expect("told");
            passing.recv().expect("told");
            std::io::Write::write_all(&mut dialer, &header).expect("sent");
            let ends = (dialer.try_clone(), listening.try_clone());
            let (Ok(mut from), Ok(mut to)) = ends else {
                return;
            };
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            let _ = std::io::copy(&mut listening, &mut dialer);
            let _ = dialer.shutdown(std::net::Shutdown::Both);
        });
        Self { at, holds, pass }
    }

    fn address(&self) -> Multiaddr {
        let (ip, port) = (self.at.ip().into(), self.at.port());
        Multiaddr::empty().with(ip).with(Protocol::Tcp(port))
    }
}

fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Tcp(port)) => Some((ip, port).into()),
        _ => None,
    }
}

/// A network is blocked at one end while a connection is in its handshake.
fn blocked_in_the_handshake(at_the_dialer: bool) {
    let (dialer, listener) = (node(&[]), node(&[]));
    let addresses = listener.addrs();
    let target = addresses.iter().find_map(socket_of).expect("tcp");
    let detour = Detour::to(target);
    let address = detour.address();
    let judge = if at_the_dialer { &dialer } else { &listener };
    thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let mut client = dialer.client();
            client.connect_to(listener.peer_id(), std::slice::from_ref(&address))
        });
        detour.holds.recv_timeout(PATIENCE).expect("a handshake");
        let rule = network("127.0.0.0/8");
        rules(judge, Type::RulesAdd, &[rule]).expect("RULES_ADD");
        assert_eq!(judge.bites("connections that rules forbid"), 0);
        detour.pass.send(()).expect("told");
        let connected = connecting.join().expect("an answer");
        if at_the_dialer {
            let refused = connected.expect_err("blocked");
            assert!(refused.contains(FORBIDDEN), "{refused}");
        }
    });
    let forbidden = || judge.bites("connections that rules forbid") > 0;
    assert!(eventually(PATIENCE, forbidden));
    assert!(judge.client().list_peers().is_empty());
    let forgotten = || dialer.client().list_peers().is_empty();
    assert!(eventually(PATIENCE, forgotten));
}

#[test]
fn a_handshake_does_not_outlive_the_rule_of_the_dialer() {
    blocked_in_the_handshake(true);
}

#[test]
fn a_handshake_does_not_outlive_the_rule_of_the_listener() {
    blocked_in_the_handshake(false);
}
