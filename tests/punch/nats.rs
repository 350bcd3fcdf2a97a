//! Which NATs are punched through.

use std::time::Duration;

use super::*;
use crate::support::{PATIENCE, eventually};

/// Time for a punch, on a busy machine.
const PUNCHED: Duration = Duration::from_secs(10);

fn punched(a: Nat, b: Nat, carrier: Carrier) {
    let Some(lab) = Lab::new() else { return };
    let scene = Scene::new(&lab, [End::own(a), End::own(b)], carrier).expect("a scene");
    let time = scene.call(PUNCHED).expect("CONNECT");
    let said = || format!("{}\n{}", scene.a.stderr(), scene.b.stderr());
    let time = time.unwrap_or_else(|| panic!("{a:?} and {b:?} stay relayed: {}", said()));
    eprintln!("{a:?} and {b:?} over {carrier:?}: {time:?}");
    scene.assert_direct().expect("direct");
}

#[test]
fn port_restricted_nats_let_each_other_in() {
    punched(Nat::Port, Nat::Port, Carrier::Tcp);
}

#[test]
fn port_restricted_nats_let_each_other_in_over_quic() {
    punched(Nat::Port, Nat::Port, Carrier::Quic);
}

#[test]
fn a_full_cone_and_a_symmetric_nat_let_each_other_in() {
    punched(Nat::Full, Nat::Symmetric, Carrier::Tcp);
}

#[test]
fn a_symmetric_nat_and_a_full_cone_let_each_other_in() {
    punched(Nat::Symmetric, Nat::Full, Carrier::Tcp);
}

/// Who has called is not behind a NAT, and says so.
#[test]
fn a_public_caller_is_dialed_back() {
    let Some(lab) = Lab::new() else { return };
    let ends = [End::own(Nat::Full), End::own(Nat::Port)];
    let flags: [&[&str]; 2] = [
        &[
            "-announceAddrs=/ip4/60.0.10.1/tcp/4001",
            "-forceReachabilityPublic",
        ],
        &["-forceReachabilityPrivate"],
    ];
    let scene = Scene::with_flags(&lab, ends, Carrier::Tcp, flags).expect("a scene");
    let time = scene.call(PUNCHED).expect("CONNECT");
    assert!(time.is_some(), "{}", scene.b.stderr());
    // Lines are written by a thread of their own.
    let logged = || scene.b.stderr().contains("a caller is dialed back");
    assert!(eventually(PATIENCE, logged), "{}", scene.b.stderr());
    scene.assert_direct().expect("direct");
}

/// Without `-autonat`, and while it is public, a node knows nothing of hole punching.
#[test]
fn a_node_tells_of_hole_punching_once_it_is_seen() {
    let Some(lab) = Lab::new() else { return };
    let hosts = [lab.host("60.0.1.1/16"), lab.host("60.0.2.1/16")];
    let listen = "-hostAddrs=/ip4/0.0.0.0/tcp/4001";
    let observer = hosts[0].launch().args([listen]).spawn();
    let at: libp2p::Multiaddr = "/ip4/60.0.1.1/tcp/4001".parse().expect("an address");
    for (flags, expected) in [
        (&["-autonat"][..], true),
        (&["-autonat", "-forceReachabilityPrivate"], true),
        (&["-autonat", "-forceReachabilityPublic"], false),
        (&["-forceReachabilityPrivate"], false),
    ] {
        let node = hosts[1].launch().args([listen]).args(flags.iter().copied());
        let node = node.spawn();
        let speaks = || {
            let client = observer.client();
            client
                .open_stream(node.peer_id(), &["/libp2p/dcutr"])
                .is_ok()
        };
        node.client()
            .connect_peer(observer.peer_id(), std::slice::from_ref(&at));
        // It is told what it is seen at by the same message that it waits for.
        assert_eq!(speaks(), expected, "{flags:?}");
    }
}
