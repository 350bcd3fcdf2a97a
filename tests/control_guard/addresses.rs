//! Clients on tcp control sockets. Those that are not on loopback run in a network namespace
//! which has 10.9.0.1, where the daemon is, 10.9.0.2 and 10.9.0.3.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use libp2p::Multiaddr;
use socket2::{Domain, Socket as Raw, Type};

use super::*;
use crate::support::{Control, Handler, Pipe, Socket};

const REACH: &str = "handler addresses out of the caller's reach";

/// A client whose address is `from`.
fn client_from(from: &str, daemon: &Daemon) -> ControlClient {
    let Control::Tcp(at) = daemon.control() else {
        panic!("{:?}", daemon.control())
    };
    let socket = connect(from, *at).expect("connect");
    ControlClient {
        pipe: Pipe::new(socket),
    }
}

/// A tcp connection from `from`.
pub fn connect(from: &str, at: SocketAddr) -> std::io::Result<Socket> {
    let from: IpAddr = from.parse().expect("an address");
    let socket = Raw::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&at.into())?;
    let socket = Socket::Tcp(TcpStream::from(socket));
    socket.set_timeout(2 * PATIENCE)?;
    Ok(socket)
}

fn maddr(text: &str) -> Vec<u8> {
    text.parse::<Multiaddr>().expect("a multiaddr").to_vec()
}

fn out_of_reach(addr: &str) -> String {
    format!("permission denied: handler address {addr} is out of your reach")
}

/// Two connected daemons, the second with these flags and its control socket at `control`.
fn pair(control: &str, flags: &[&str]) -> (Daemon, Daemon) {
    let host = "-hostAddrs=/ip4/127.0.0.1/tcp/0";
    let a = Daemon::spawn(&[host]);
    let b = Launch::new().listen(control);
    let b = b.args([host]).args(flags.iter().copied()).spawn();
    a.connect_to(&b);
    (a, b)
}

/// Opens a stream of `name`; whether it comes to `listener`.
fn comes(a: &Daemon, b: &Daemon, name: &str, listener: &TcpListener) -> bool {
    let (_, mut pipe) = a.client().open_stream(b.peer_id(), &[name]).expect("open");
    listener.set_nonblocking(true).expect("nonblocking");
    let mut came = false;
    let ended = std::cell::Cell::new(false);
    pipe.socket
        .set_timeout(std::time::Duration::from_millis(20))
        .expect("a timeout");
    assert!(eventually(PATIENCE, || {
        came = came || listener.accept().is_ok();
        ended.set(matches!(pipe.read(&mut [0]), Ok(0)));
        came || ended.get()
    }));
    came
}

pub fn loopback_clients_reach_loopback_and_own_sockets() {
    let (a, b) = pair("/ip4/127.0.0.1/tcp/0", &[]);
    for (name, handler) in [("/tcp", Handler::tcp()), ("/unix", Handler::unix())] {
        let mut client = b.client();
        handler
            .register(&mut client, &[name], None)
            .expect("register");
        let (_, pipe) = a.client().open_stream(b.peer_id(), &[name]).expect("open");
        handler.accept(PATIENCE).expect("the stream");
        drop(pipe);
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("an address").port();
    let named = maddr(&format!("/dns4/localhost/tcp/{port}"));
    register(&mut b.client(), &named, "/named").expect("register");
    assert!(comes(&a, &b, "/named", &listener));
    let far = [
        "/ip4/10.0.0.1/tcp/80",
        "/ip4/169.254.169.254/tcp/80",
        "/ip6/2001:db8::1/tcp/80",
    ];
    for addr in far {
        let refused = register(&mut b.client(), &maddr(addr), "/far");
        assert_eq!(refused, Err(out_of_reach(addr)));
    }
    assert_eq!(b.bites(REACH), far.len() as u64);
}

pub fn handler_allow_any_is_as_go() {
    let (_, b) = pair("/ip4/127.0.0.1/tcp/0", &["-handlerAllowAny"]);
    for addr in ["/ip4/10.0.0.1/tcp/80", "/ip6/2001:db8::1/tcp/80"] {
        register(&mut b.client(), &maddr(addr), "/far").expect("register");
    }
    assert_eq!(b.bites(REACH), 0);
}

pub fn handlers_may_be_anywhere_by_the_file() {
    let far = maddr("/ip4/10.0.0.1/tcp/80");
    let json = r#"{"NoListen": true, "Control": {"HandlerAllowAny": true}}"#;
    let (launch, _file) = with_file(Launch::new().tcp(), json);
    let b = launch.spawn();
    register(&mut b.client(), &far, "/far").expect("register");
    let (launch, _file) = with_file(Launch::new().tcp(), r#"{"NoListen": true}"#);
    let b = launch.spawn();
    register(&mut b.client(), &far, "/far").expect_err("a refusal");
}

pub fn only_networks_on_the_list_are_served() {
    let flag = "-controlAllow=10.9.0.2/32,192.168.0.0/16";
    let (_, b) = pair("/ip4/0.0.0.0/tcp/0", &[flag]);
    assert_only_the_list_is_served(&b);
}

pub fn the_networks_may_be_in_the_file() {
    let json = r#"{"Control": {"Allow": "10.9.0.2/32,192.168.0.0/16"}}"#;
    let (launch, _file) = with_file(Launch::new().listen("/ip4/0.0.0.0/tcp/0"), json);
    assert_only_the_list_is_served(&launch.spawn());
}

/// Of 10.9.0.2 and 10.9.0.3 the first is served.
fn assert_only_the_list_is_served(b: &Daemon) {
    // The daemon listens everywhere; from 10.9.0.3 another of its addresses is called.
    let Control::Tcp(at) = b.control() else {
        panic!("{:?}", b.control())
    };
    let call = |from: &str| {
        let at = SocketAddr::new("10.9.0.1".parse().expect("an address"), at.port());
        ControlClient {
            pipe: Pipe::new(connect(from, at).expect("connect")),
        }
    };
    assert_eq!(call("10.9.0.2").identify().0, b.peer_id());
    assert_eq!(
        b.client().identify().0,
        b.peer_id(),
        "loopback stays allowed"
    );
    let text = turned_away(&mut call("10.9.0.3"));
    assert_eq!(text, "permission denied: 10.9.0.3 is not in -controlAllow");
    let limit = "control connections of clients that may not connect";
    assert_eq!(b.bites(limit), 1);
}

pub fn other_clients_reach_their_own_address_only() {
    let (a, b) = pair("/ip4/10.9.0.1/tcp/0", &[]);
    let own = TcpListener::bind("10.9.0.2:0").expect("bind");
    let own_addr = format!(
        "/ip4/10.9.0.2/tcp/{}",
        own.local_addr().expect("an address").port()
    );
    let inner = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = inner.local_addr().expect("an address").port();
    let mut client = client_from("10.9.0.2", &b);
    register(&mut client, &maddr(&own_addr), "/own").expect("register");
    assert!(comes(&a, &b, "/own", &own));
    let unix = b.dir().join("handler.sock");
    let unix = Control::Unix(unix);
    let refused = register(&mut client, &unix.to_bytes(), "/inner");
    assert_eq!(refused, Err(out_of_reach(&unix.multiaddr())));
    for addr in [
        format!("/ip4/127.0.0.1/tcp/{port}"),
        format!("/ip4/0.0.0.0/tcp/{port}"),
        "/ip4/10.9.0.3/tcp/1".to_owned(),
        "/ip4/10.9.0.1/tcp/1".to_owned(),
    ] {
        let refused = register(&mut client, &maddr(&addr), "/inner");
        assert_eq!(refused, Err(out_of_reach(&addr)));
    }
    // A name is looked up when there is a stream, and leads no farther.
    let named = maddr(&format!("/dns4/localhost/tcp/{port}"));
    register(&mut client, &named, "/named").expect("register");
    assert!(!comes(&a, &b, "/named", &inner));
    assert!(b.bites(REACH) > 5);
    // A client that is on the daemon's machine reaches loopback, whatever address it uses.
    let mut local = client_from("10.9.0.1", &b);
    register(&mut local, &named, "/local").expect("register");
    assert!(comes(&a, &b, "/local", &inner));
}
