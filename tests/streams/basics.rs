//! What arrives, and when.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use rp2pd::wire::pb::{Request, Response, StreamOpenRequest, request, response};

use super::*;
use crate::support::control::typed;
use crate::support::{ControlClient, payload};
use rp2pd::wire::frame;

fn open_request(peer: PeerId, name: &str) -> Request {
    let mut request = typed(request::Type::StreamOpen);
    request.stream_open = Some(StreamOpenRequest {
        peer: Some(peer.to_bytes().into()),
        proto: vec![name.to_owned().into()],
        timeout: None,
    });
    request
}

#[test]
fn the_built_in_echo_answers_until_it_is_switched_off() {
    let (a, b) = (node(), node());
    a.connect_to(&b);
    for len in [0, 1, 65, 100_000, 5 << 20] {
        let (_, pipe) = a
            .client()
            .open_stream(b.peer_id(), &["/echo/1.0.0"])
            .expect("open");
        let sent = payload(len, 3);
        assert!(pipe.exchange(&sent) == sent, "{len} bytes");
    }
    let quiet = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-echo=false"]);
    a.connect_to(&quiet);
    let refused = a.client().open_stream(quiet.peer_id(), &["/echo/1.0.0"]);
    assert_eq!(
        refused.map(|(info, _)| info).expect_err("a refusal"),
        "failed to negotiate protocol: protocols not supported: [/echo/1.0.0]"
    );
}

#[test]
fn bytes_sent_together_with_the_request_arrive() {
    let (a, b, handler) = pair();
    handler
        .register(&mut b.client(), &["bare"], None)
        .expect("register");
    // Known names are opened lazily, bare ones never are.
    for name in ["/s", "bare"] {
        for len in [1, 1000, 100_000] {
            let sent = payload(len, 5);
            let mut client = a.client();
            let mut bytes = frame::encode(&open_request(b.peer_id(), name)).to_vec();
            bytes.extend_from_slice(&sent);
            client.send_raw(&bytes).expect("send");
            let answer: Response = client.receive().expect("the answer");
            assert_eq!(answer.r#type(), response::Type::Ok);
            let (_, mut far) = handler.accept(PATIENCE).expect("the stream");
            let mut got = vec![0; len];
            far.read_exact(&mut got).expect("the early bytes");
            assert!(got == sent, "{name}, {len} bytes");
            // And what comes later follows them.
            client.send_raw(b"later").expect("send");
            let mut later = [0; 5];
            far.read_exact(&mut later).expect("the later bytes");
            assert_eq!(&later, b"later");
        }
    }
}

#[test]
fn small_writes_arrive_whole_and_at_once() {
    let (a, b, handler) = pair();
    let (mut near, mut far) = stream(&a, &b, &handler);
    for round in 0..200_u8 {
        let sent = [round; 11];
        near.write_all(&sent).expect("write");
        let mut got = [0; 100];
        // p2pclient's tests read once.
        assert_eq!(far.read(&mut got).expect("read"), sent.len());
        assert_eq!(got[..11], sent);
        far.write_all(&sent).expect("write");
        assert_eq!(near.read(&mut got).expect("read"), sent.len());
    }
}

#[test]
fn a_full_close_with_data_in_flight_loses_nothing() {
    let (a, b, handler) = pair();
    for round in 0..40 {
        let (near, far) = stream(&a, &b, &handler);
        let (mut from, mut to) = if round % 2 == 0 {
            (near, far)
        } else {
            (far, near)
        };
        let sent = payload(1 << 20, round);
        let writer = std::thread::spawn({
            let sent = sent.clone();
            move || {
                from.write_all(&sent).expect("write");
                drop(from);
            }
        });
        let mut got = Vec::new();
        to.read_to_end(&mut got).expect("an orderly end");
        writer.join().expect("the writer");
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    }
}

/// Writes until the other side is gone.
fn write_for_ever(mut pipe: Pipe) -> std::thread::JoinHandle<usize> {
    pipe.socket.set_timeout(PATIENCE).expect("set a timeout");
    std::thread::spawn(move || {
        let chunk = [9; 4096];
        let mut written = 0;
        loop {
            match pipe.write(&chunk) {
                Ok(n) => written += n,
                Err(error) => {
                    let timeout = std::io::ErrorKind::WouldBlock;
                    assert_ne!(error.kind(), timeout, "the writer was left waiting");
                    return written;
                }
            }
        }
    })
}

#[test]
fn a_full_close_ends_whoever_writes_for_ever() {
    let (a, b, handler) = pair();
    for round in 0..4 {
        let (near, far) = stream(&a, &b, &handler);
        let (mut reader, writer) = if round % 2 == 0 {
            (near, far)
        } else {
            (far, near)
        };
        let writer = write_for_ever(writer);
        // It is really writing.
        reader.read_exact(&mut [0; 100_000]).expect("read");
        let closed = Instant::now();
        drop(reader);
        let written = writer.join().expect("the writer");
        let took = closed.elapsed();
        assert!(written > 100_000);
        assert!(took < Duration::from_secs(3), "round {round}: {took:?}");
    }
}

#[test]
fn a_full_close_reaches_an_idle_other_side() {
    let (a, b, handler) = pair();
    for round in 0..20 {
        let (near, far) = stream(&a, &b, &handler);
        let (gone, mut idle) = if round % 2 == 0 {
            (near, far)
        } else {
            (far, near)
        };
        let closed = Instant::now();
        drop(gone);
        assert_eq!(idle.read(&mut [0; 8]).expect("an orderly end"), 0);
        assert!(
            closed.elapsed() < Duration::from_secs(1),
            "{:?}",
            closed.elapsed()
        );
    }
}

#[test]
fn handlers_and_control_sockets_may_be_tcp() {
    let launch = || {
        crate::support::Launch::new()
            .tcp()
            .args(["-hostAddrs=/ip4/127.0.0.1/tcp/0"])
            .spawn()
    };
    let (a, b, handler) = (launch(), launch(), Handler::tcp());
    handler
        .register(&mut b.client(), &["/t"], None)
        .expect("register");
    a.connect_to(&b);
    let echo = handler.echo(3);
    for len in [1, 70_000, 3 << 20] {
        let (_, pipe) = a.client().open_stream(b.peer_id(), &["/t"]).expect("open");
        let sent = payload(len, 8);
        assert!(pipe.exchange(&sent) == sent, "{len} bytes");
    }
    assert_eq!(echo.join().expect("the handler").len(), 3);
    let _ = ControlClient::connect(a.control())
        .expect("connect")
        .identify();
}
