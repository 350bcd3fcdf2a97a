//! Tcp and websockets on one port: one socket serves both, in whatever order they are named. Go's
//! daemon serves only the first of the two.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Daemon, Launch, eventually, lab::Lab};

/// Time for what is known to be told.
const AT_ONCE: Duration = Duration::from_secs(5);

fn told(daemon: &Daemon) -> BTreeSet<String> {
    let (_, addresses) = daemon.client().identify();
    addresses.iter().map(ToString::to_string).collect()
}

/// A connection over each of `addresses`, and an echo on it. Both sides tell what it runs over.
fn reach(listener: &Daemon, dialer: impl Fn() -> Launch, addresses: &[&str]) {
    for address in addresses {
        let dialer = dialer().args(["-noListenAddrs"]).spawn();
        let peer = listener.peer_id();
        let dial = address.parse().expect("an address");
        let connected = dialer.client().connect_to(peer, &[dial]);
        connected.unwrap_or_else(|error| panic!("{address}: {error}"));
        assert_eq!(dialer.client().list_peers()[0].1[0].to_string(), *address);
        let opened = dialer.client().open_stream(peer, &["/echo/1.0.0"]);
        let (_, mut pipe) = opened.expect("a stream");
        pipe.write_all(b"hello").expect("write");
        let mut back = [0; 5];
        pipe.read_exact(&mut back).expect("an echo");
        assert_eq!(&back, b"hello");
        let peers = listener.client().list_peers();
        let seen = peers.iter().find(|(id, _)| *id == dialer.peer_id());
        let seen = seen.expect("a peer").1[0].to_string();
        assert_eq!(seen.ends_with("/ws"), address.ends_with("/ws"), "{seen}");
    }
}

/// Listens on `wanted` in both orders, and is reached at each of `expected`.
fn listen(launch: impl Fn() -> Launch, wanted: [&str; 2], expected: &[&str]) {
    for order in [wanted, [wanted[1], wanted[0]]] {
        let listen = format!("-hostAddrs={}", order.join(","));
        let listener = launch().args([listen, "-echo".to_owned()]).spawn();
        let all: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        let same = eventually(AT_ONCE, || told(&listener) == all);
        assert!(
            same,
            "{order:?}: {:?} {}",
            told(&listener),
            listener.stderr()
        );
        assert_eq!(listener.stderr(), "", "nothing is refused");
        reach(&listener, &launch, expected);
    }
}

#[test]
fn one_address_speaks_both() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let on = |over: &str| format!("/ip4/127.0.0.1/tcp/{port}{over}");
    let (tcp, ws) = (on(""), on("/ws"));
    listen(Launch::new, [&tcp, &ws], &[&tcp, &ws]);
}

#[test]
fn wildcards_and_single_addresses_speak_what_they_are_named_for() {
    let Some(lab) = Lab::new() else { return };
    let host = lab.host("10.9.0.1/16");
    host.run("ip -6 addr add fd00::1/64 dev wan nodad");
    let launch = || host.launch();
    let (any, any_ws) = ("/ip4/0.0.0.0/tcp/4999", "/ip4/0.0.0.0/tcp/4999/ws");
    let (local, local_ws) = ("/ip4/127.0.0.1/tcp/4999", "/ip4/127.0.0.1/tcp/4999/ws");
    let (wan, wan_ws) = ("/ip4/10.9.0.1/tcp/4999", "/ip4/10.9.0.1/tcp/4999/ws");
    listen(launch, [any, any_ws], &[local, local_ws, wan, wan_ws]);
    listen(launch, [any, local_ws], &[local, local_ws, wan]);
    listen(launch, [any_ws, local], &[local, local_ws, wan_ws]);
    let (six, six_ws) = ("/ip6/::/tcp/4999", "/ip6/::/tcp/4999/ws");
    let both = ["/ip6/::1/tcp/4999", "/ip6/fd00::1/tcp/4999"];
    let both_ws = both.map(|address| format!("{address}/ws"));
    listen(
        launch,
        [six, six_ws],
        &[both[0], &both_ws[0], both[1], &both_ws[1]],
    );
    let zoned = "/ip6zone/wan/ip6/fe80::77/tcp/4999";
    host.run("ip -6 addr add fe80::77/64 dev wan nodad");
    listen(
        launch,
        [zoned, &format!("{zoned}/ws")],
        &[zoned, &format!("{zoned}/ws")],
    );
}

/// An address that comes while the daemon runs is told for both, and one that goes for neither.
#[test]
fn addresses_come_and_go_for_both() {
    let Some(lab) = Lab::new() else { return };
    let host = lab.host("10.9.0.1/16");
    let listen = "-hostAddrs=/ip4/0.0.0.0/tcp/4999/ws,/ip4/0.0.0.0/tcp/4999";
    let daemon = host.launch().args([listen, "-echo"]).spawn();
    let [tcp, ws] = ["", "/ws"].map(|over| format!("/ip4/10.9.0.2/tcp/4999{over}"));
    let has = |told: &BTreeSet<String>| (told.contains(&tcp), told.contains(&ws));
    assert_eq!(has(&told(&daemon)), (false, false));
    host.run("ip addr add 10.9.0.2/16 dev wan");
    assert!(eventually(AT_ONCE, || has(&told(&daemon)) == (true, true)));
    reach(&daemon, || host.launch(), &[&tcp, &ws]);
    host.run("ip addr del 10.9.0.2/16 dev wan");
    assert!(eventually(AT_ONCE, || has(&told(&daemon)) == (false, false)));
}

/// What speaks neither ends alone, and what begins like a websocket and is none too.
#[test]
fn what_speaks_neither_ends_alone() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let on = |over: &str| format!("/ip4/127.0.0.1/tcp/{port}{over}");
    let (tcp, ws) = (on(""), on("/ws"));
    let listen = format!("-hostAddrs={tcp},{ws}");
    let daemon = Launch::new().args([listen, "-echo".to_owned()]).spawn();
    for said in [
        &b""[..],
        b"G",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET nothing",
        b"\x13/multistream/2.0.0\n",
        b"SSH-2.0-client\r\n",
        &[0xff; 64],
    ] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        socket.set_read_timeout(Some(AT_ONCE)).expect("a timeout");
        socket.write_all(said).expect("write");
        socket
            .shutdown(std::net::Shutdown::Write)
            .expect("shut down");
        let mut rest = Vec::new();
        let ended = socket.read_to_end(&mut rest);
        let reset = std::io::ErrorKind::ConnectionReset;
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == reset));
    }
    reach(&daemon, Launch::new, &[&tcp, &ws]);
}
