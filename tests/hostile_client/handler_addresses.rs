//! Handlers that are not there, do not accept, or are the daemon itself.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rp2pd::wire::pb::{Response, response};

use super::*;
use crate::support::handler::never_accepts;
use crate::support::{Control, ControlClient, Handler, PATIENCE, raw};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

fn pair() -> (Daemon, Daemon) {
    let (a, b) = (Daemon::spawn(&[LISTEN]), Daemon::spawn(&[LISTEN]));
    a.connect_to(&b);
    (a, b)
}

fn register(client: &mut ControlClient, addr: &[u8], name: &str) -> Response {
    let body = [raw::bytes(1, addr), raw::bytes(2, name.as_bytes())].concat();
    let payload = [raw::int(1, 3), raw::bytes(4, &body)].concat();
    client.send_raw(&raw::frame(&payload)).expect("send");
    client.receive().expect("an answer")
}

fn unix(path: &[u8]) -> Vec<u8> {
    [vec![0x90, 0x03], raw::frame(path)].concat()
}

/// Opens a stream of `name`, which ends without a byte within `limit`.
fn assert_ends(a: &Daemon, b: &Daemon, name: &str, limit: Duration) {
    let started = Instant::now();
    let (_, mut pipe) = a.client().open_stream(b.peer_id(), &[name]).expect("open");
    assert_eq!(pipe.read(&mut [0]).expect("an orderly end"), 0, "{name}");
    assert!(started.elapsed() < limit, "{name}: {:?}", started.elapsed());
}

#[test]
fn addresses_where_nobody_can_listen_end_their_streams() {
    let (a, b) = pair();
    let quiet = (Quiet::of(&a), Quiet::of(&b));
    let mut client = b.client();
    let file = b.dir().join("file");
    std::fs::write(&file, "no socket").expect("write");
    let cases: [(&str, Vec<u8>); 5] = [
        ("/missing", unix(b"/nonexistent/handler.sock")),
        ("/long", unix(&[b"/".to_vec(), vec![b'x'; 200]].concat())),
        ("/nul", unix(b"/tmp/a\0b")),
        ("/file", unix(file.to_str().expect("text").as_bytes())),
        ("/invalid", unix(b"/\xff\xfe")),
    ];
    for (name, addr) in &cases {
        // Refused at once or found out later: both are fine, a hang is not.
        if register(&mut client, addr, name).r#type() == response::Type::Ok {
            for _ in 0..20 {
                assert_ends(&a, &b, name, Duration::from_secs(3));
            }
        }
        let _ = client.identify();
    }
    quiet.0.assert_again(&a, "dead handlers");
    // One descriptor is the client's own.
    drop(client);
    quiet.1.assert_again(&b, "dead handlers");
}

#[test]
fn a_handler_that_never_accepts_costs_only_its_own_streams() {
    let (a, b) = pair();
    let path = b.dir().join("stuck.sock");
    let _stuck = never_accepts(&path);
    let works = Handler::unix();
    let mut client = b.client();
    let stuck = Control::Unix(path).to_bytes();
    assert_eq!(
        register(&mut client, &stuck, "/stuck").r#type(),
        response::Type::Ok
    );
    works
        .register(&mut client, &["/works"], None)
        .expect("register");
    let mut hanging = Vec::new();
    for _ in 0..100 {
        let opened = a.client().open_stream(b.peer_id(), &["/stuck"]);
        hanging.push(opened.expect("open").1);
    }
    for _ in 0..20 {
        let started = Instant::now();
        let (_, mut near) = a
            .client()
            .open_stream(b.peer_id(), &["/works"])
            .expect("open");
        let (_, mut far) = works.accept(PATIENCE).expect("the stream");
        far.write_all(b"fine").expect("write");
        near.read_exact(&mut [0; 4]).expect("read");
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
    }
    assert_quick(&b, "100 dials that hang");
    // They end by themselves, by the limit of a handler dial.
    let started = Instant::now();
    for mut pipe in hanging {
        assert_eq!(pipe.read(&mut [0]).unwrap_or(0), 0);
    }
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    assert_quick(&b, "after the dials");
}

#[test]
fn the_daemon_as_its_own_handler_makes_no_loop() {
    let (a, b) = pair();
    let quiet = (Quiet::of(&a), Quiet::of(&b));
    let own = b.control().to_bytes();
    assert_eq!(
        register(&mut b.client(), &own, "/loop").r#type(),
        response::Type::Ok
    );
    for _ in 0..20 {
        // The daemon reads a StreamInfo where it wants a Request: it answers once and ends.
        let (_, mut pipe) = a
            .client()
            .open_stream(b.peer_id(), &["/loop"])
            .expect("open");
        let mut answer = Vec::new();
        pipe.read_to_end(&mut answer).expect("an orderly end");
        assert!(answer.len() < 1000, "{} bytes of answers", answer.len());
    }
    // A stream to a peer whose handler is this daemon's control socket is a pipe into it.
    let across = a.control().to_bytes();
    assert_eq!(
        register(&mut b.client(), &across, "/across").r#type(),
        response::Type::Ok
    );
    for _ in 0..5 {
        let (_, mut pipe) = a
            .client()
            .open_stream(b.peer_id(), &["/across"])
            .expect("open");
        pipe.socket.shutdown_write().expect("half-close");
        let mut answer = Vec::new();
        pipe.read_to_end(&mut answer).expect("an orderly end");
        assert!(answer.len() < 1000, "{} bytes of answers", answer.len());
    }
    quiet.0.assert_again(&a, "loops");
    quiet.1.assert_again(&b, "loops");
}
