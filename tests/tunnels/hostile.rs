//! Tunnels that are misused.

use std::io::{Read as _, Write as _};

use super::*;

/// Connections of a tunnel, unless a client wants another number.
const DEFAULT: usize = 256;

#[test]
fn ten_thousand_connections_to_a_forward() {
    const ALL: usize = 10_000;
    let (near, far) = pair();
    let at = carried(&near, &far, service::echo());
    let mut first: Vec<_> = (0..DEFAULT).map(|_| dial(at)).collect();
    for socket in &mut first {
        socket.write_all(b"x").expect("sent");
        socket.read_exact(&mut [0]).expect("came back");
    }
    for _ in DEFAULT..ALL {
        assert_refused(at);
    }
    for socket in &mut first {
        socket.write_all(b"y").expect("sent");
        socket.read_exact(&mut [0]).expect("came back");
    }
    let tunnel = only(&near);
    assert_eq!(tunnel.open as usize, DEFAULT);
    assert_eq!(tunnel.total as usize, ALL);
    assert_eq!(tunnel.failed as usize, ALL - DEFAULT);
    assert_eq!(tunnel.error.as_deref(), Some("too many connections"));
    assert_eq!(only(&far).total as usize, DEFAULT);
    drop(first);
    await_open(&near, 0);
    await_open(&far, 0);
    let mut again = dial(at);
    again.write_all(b"z").expect("sent");
    again.read_exact(&mut [0]).expect("came back");
}

#[test]
fn connections_that_wait_for_a_peer_are_as_many_at_the_most() {
    // It accepts and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().map(|addr| (silent, addr));
    let (_silent, addr) = silent.expect("an address");
    let near = node();
    let wanted = TunnelRequest {
        addrs: vec![tcp(addr).expect("an address")],
        connections: Some(3),
        ..forward(PeerId::random())
    };
    let at = port(&made(&near, wanted));
    let waiting: Vec<_> = (0..3).map(|_| dial(at)).collect();
    await_open(&near, 3);
    assert_refused(at);
    // They end with the tunnel at once, although the dial has not ended.
    close(&near, &[only(&near).id]).expect("closed");
    for mut socket in waiting {
        assert_reset(&mut socket);
    }
}

#[test]
fn a_circle_ends_at_the_bound() {
    let (near, far) = pair();
    let names = ["/x/there", "/x/back"];
    let named = |name: &'static str, wanted: TunnelRequest| TunnelRequest {
        proto: Some(name.into()),
        connections: Some(40),
        ..wanted
    };
    let there = port(&made(&near, named(names[0], forward(far.peer_id()))));
    let back = port(&made(&far, named(names[1], forward(near.peer_id()))));
    made(&far, named(names[0], expose(back)));
    made(&near, named(names[1], expose(there)));
    for round in 1..=3 {
        // It goes around until one of the four has no place, and then all of it falls.
        assert_refused(there);
        await_open(&near, 0);
        await_open(&far, 0);
        let failed: u64 = [&near, &far]
            .into_iter()
            .flat_map(list)
            .map(|one| one.failed)
            .sum();
        assert!(failed >= round, "{failed}");
    }
    let _ = (near.client().identify(), far.client().identify());
}

#[test]
fn a_service_that_never_reads_holds_little() {
    let (near, far) = pair();
    let (addr, accepted) = service::by_hand();
    let at = carried(&near, &far, addr);
    let chunk = vec![7; 64 << 10];
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut socket = dial(at);
        socket.set_nonblocking(true).expect("set");
        held.push((socket.try_clone().expect("a handle"), accepted.next()));
        let mut written = 0;
        let mut moved = std::time::Instant::now();
        while moved.elapsed() < std::time::Duration::from_millis(200) {
            match socket.write(&chunk) {
                Ok(n) => {
                    written += n;
                    moved = std::time::Instant::now();
                }
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
            assert!(written < 256 << 20, "nothing stops the writer");
        }
    }
    // The peers talk all the same.
    assert_eq!(near.client().list_peers().len(), 1);
    near.client()
        .open_stream(far.peer_id(), &["/ipfs/ping/1.0.0"])
        .map(|(_, mut pipe)| {
            pipe.write_all(&[1; 32]).expect("sent");
            pipe.read_exact(&mut [0; 32]).expect("came back");
        })
        .expect("a stream");
    drop(held);
    await_open(&near, 0);
    await_open(&far, 0);
}
