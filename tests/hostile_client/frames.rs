//! Lengths that lie, frames that never end, bytes that are no frames.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rp2pd::wire::pb::{Response, response};

use super::*;
use crate::support::{ControlClient, Launch, Random, raw};

#[test]
fn announced_lengths_cost_nothing() {
    let daemon = Daemon::spawn(&[]);
    let quiet = Quiet::of(&daemon);
    let mut clients = Vec::new();
    for announced in [4_u64 << 30, 1 << 40, u64::MAX >> 1, u64::MAX] {
        let mut client = daemon.client();
        client.send_raw(&raw::varint(announced)).expect("send");
        let answer: Response = client.receive().expect("an answer");
        assert_eq!(answer.r#type(), response::Type::Error, "{announced}");
    }
    // Within the limit the daemon waits, but holds only what has come.
    for _ in 0..200 {
        let mut client = daemon.client();
        client.send_raw(&raw::varint(4 << 20)).expect("send");
        client.send_raw(&[8, 0, 0x12]).expect("send");
        clients.push(client);
    }
    assert_quick(&daemon, "200 announced frames of 4 MiB");
    let grown = daemon.rss_kib().saturating_sub(quiet.rss_kib);
    assert!(
        grown < 8 << 10,
        "RSS grew by {grown} KiB for bytes that never came"
    );
    drop(clients);
    quiet.assert_again(&daemon, "announced lengths");
}

#[test]
fn half_received_frames_are_given_up_and_silence_is_not() {
    let daemon = Daemon::spawn(&[]);
    let mut silent = daemon.client();
    let started = Instant::now();
    let mut halves: Vec<ControlClient> = Vec::new();
    for len in [1, 2, 50] {
        let mut client = daemon.client();
        let frame = raw::frame(&raw::bytes(100, &[0; 200]));
        client.send_raw(&frame[..len]).expect("send");
        halves.push(client);
    }
    assert_quick(&daemon, "half frames");
    for client in &mut halves {
        let answer: Response = client.receive().expect("a reason");
        assert_eq!(answer.r#type(), response::Type::Error);
        assert_eq!(client.pipe.read(&mut [0]).expect("an orderly end"), 0);
    }
    let took = started.elapsed();
    assert!(
        took > Duration::from_secs(25) && took < Duration::from_secs(45),
        "{took:?}"
    );
    // The one that has not begun a frame stays as long as it likes.
    let _ = silent.identify();
}

#[test]
fn http_on_a_tcp_control_socket_ends_at_its_first_bytes() {
    let daemon = Launch::new().tcp().spawn();
    let quiet = Quiet::of(&daemon);
    for request in [
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
         Accept: text/html,application/xhtml+xml\r\nConnection: keep-alive\r\n\r\n",
        "POST /api HTTP/1.1\r\nHost: localhost:8080\r\nOrigin: https://example.org\r\n\
         Content-Type: text/plain;charset=UTF-8\r\nContent-Length: 6\r\n\r\n\u{2}\u{8}\u{0}\u{2}\u{8}\u{0}",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nAccess-Control-Request-Method: POST\r\n\
         Access-Control-Request-Private-Network: true\r\nOrigin: http://evil.example\r\n\r\n",
        "PUT /%02%08%00 HTTP/1.0\r\nContent-Length: 3\r\nX-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n\u{2}\u{8}\u{0}",
    ] {
        let mut client = daemon.client();
        client.send_raw(request.as_bytes()).expect("send");
        client.pipe.socket.shutdown_write().expect("half-close");
        let mut answers = Vec::new();
        while let Ok(frame) = client.pipe.read_frame() {
            answers.push(frame);
        }
        // One refusal; nothing behind the first bytes was taken for a request.
        assert_eq!(answers.len(), 1, "{request:?}: {answers:?}");
        let answer: Response = prost::Message::decode(&answers[0][..]).expect("a Response");
        assert_eq!(answer.r#type(), response::Type::Error, "{request:?}");
    }
    quiet.assert_again(&daemon, "HTTP requests");
}

#[test]
fn random_bytes_never_hurt() {
    let daemon = Daemon::spawn(&["-stayAlive"]);
    let quiet = Quiet::of(&daemon);
    let mut random = Random::new("random_bytes_never_hurt");
    let mut refused = 0;
    for _ in 0..1000 {
        let mut client = daemon.client();
        let len = 1 + random.below(2000);
        let bytes = random.bytes(len);
        // The daemon may close before it has read all.
        let _ = client.pipe.write_all(&bytes);
        let _ = client.pipe.socket.shutdown_write();
        while let Ok(frame) = client.pipe.read_frame() {
            let answer: Response = prost::Message::decode(&frame[..]).expect("a Response");
            refused += usize::from(answer.r#type() == response::Type::Error);
        }
    }
    assert!(refused > 200, "only {refused} of 1,000 were refused");
    quiet.assert_again(&daemon, "random bytes");
}

#[test]
fn a_client_that_never_reads_its_answers_stops_only_itself() {
    let daemon = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0"]);
    let quiet = Quiet::of(&daemon);
    let mut greedy: Vec<ControlClient> = (0..20).map(|_| daemon.client()).collect();
    let burst = [2, 8, 0].repeat(10_000);
    for client in &mut greedy {
        client
            .pipe
            .socket
            .set_timeout(Duration::from_millis(50))
            .expect("set a timeout");
        let mut stuck = false;
        // Bounded: the answers alone fill every buffer long before.
        for _ in 0..200 {
            stuck = client.send_raw(&burst).is_err();
            if stuck {
                break;
            }
        }
        assert!(stuck, "the daemon takes requests without end");
        assert_quick(&daemon, "clients that do not read");
    }
    let grown = daemon.rss_kib().saturating_sub(quiet.rss_kib);
    assert!(grown < 32 << 10, "RSS grew by {grown} KiB");
    drop(greedy);
    quiet.assert_again(&daemon, "clients that did not read");
}

#[test]
fn odd_parameters_are_refused_or_harmless() {
    let daemon = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0"]);
    let quiet = Quiet::of(&daemon);
    let mut client = daemon.client();
    let mut refused = |payload: &[u8]| {
        client.send_raw(&raw::frame(payload)).expect("send");
        let answer: Response = client.receive().expect("an answer");
        assert_eq!(answer.r#type(), response::Type::Error, "{payload:02x?}");
    };
    let peer = libp2p::PeerId::random().to_bytes();
    for id in [vec![], vec![0x12; 1000], vec![0; 1000], vec![0xff; 1000]] {
        for (kind, field) in [(1, 2), (2, 3), (7, 7)] {
            refused(&[raw::int(1, kind), raw::bytes(field, &raw::bytes(1, &id))].concat());
        }
    }
    for seconds in [i64::MIN, -1, i64::MAX] {
        for (kind, field) in [(1, 2), (2, 3)] {
            let body = [raw::bytes(1, &peer), raw::int(3, seconds)].concat();
            refused(&[raw::int(1, kind), raw::bytes(field, &body)].concat());
        }
    }
    // Addresses by the thousand, as long as they may be.
    let mut body = raw::bytes(1, &peer);
    for _ in 0..10_000 {
        let name = [vec![54], raw::frame(&[b'x'; 300])].concat();
        body.extend(raw::bytes(2, &name));
    }
    body.extend(raw::int(3, 2));
    refused(&[raw::int(1, 1), raw::bytes(2, &body)].concat());
    drop(client);
    quiet.assert_again(&daemon, "odd parameters");
}
