//! A tunnel beside a plain stream, in one run. Not a test: it prints what it measures.
//!
//! `cargo test --release --test tunnels -- --ignored --nocapture speed`

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::support::{Handler, Pipe};
use super::*;

const BYTES: usize = 256 << 20;

const ROUNDS: u32 = 2000;

/// Bytes a second, all of one direction.
fn throughput(mut from: impl Write + Send, mut to: impl Read) -> f64 {
    let chunk = vec![7; 256 << 10];
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..BYTES / chunk.len() {
                from.write_all(&chunk).expect("sent");
            }
            from.flush().expect("sent");
        });
        let mut buffer = vec![0; 256 << 10];
        let mut left = BYTES;
        while left > 0 {
            left -= to.read(&mut buffer).expect("came");
        }
    });
    BYTES as f64 / begun.elapsed().as_secs_f64()
}

/// The median time for a byte there and back.
fn round_trip(mut socket: impl Read + Write) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            socket.write_all(b"x").expect("sent");
            socket.read_exact(&mut [0]).expect("came back");
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn told(what: &str, bytes: f64, time: Duration) {
    println!(
        "{what:<13} {:7.0} MiB/s, a round trip {time:?}",
        bytes / f64::from(1 << 20)
    );
}

#[test]
#[ignore = "a measurement"]
fn speed_beside_a_plain_stream() {
    let (near, far) = pair();
    let handler = Handler::unix();
    handler
        .register(&mut far.client(), &["/plain"], None)
        .expect("a handler");
    let open = || -> (Pipe, Pipe) {
        let (_, near) = near
            .client()
            .open_stream(far.peer_id(), &["/plain"])
            .expect("a stream");
        (near, handler.accept(PATIENCE).expect("a stream").1)
    };
    let (addr, accepted) = service::by_hand();
    let by_hand = carried(&near, &far, addr);
    let named = |name: &'static str, wanted: TunnelRequest| TunnelRequest {
        proto: Some(name.into()),
        ..wanted
    };
    made(&far, named("/x/echo", expose(service::echo())));
    let echo = port(&made(&near, named("/x/echo", forward(far.peer_id()))));
    for _ in 0..3 {
        let (plain, plain_far) = open();
        let bytes = throughput(plain, plain_far);
        let (echoed, mut echoing) = open();
        let serving = std::thread::spawn(move || {
            let mut byte = [0];
            while echoing.read_exact(&mut byte).is_ok() && echoing.write_all(&byte).is_ok() {}
        });
        let time = round_trip(echoed);
        serving.join().expect("served");
        told("plain stream", bytes, time);
        let tunnel = dial(by_hand);
        tunnel.set_nodelay(true).expect("set");
        let bytes = throughput(tunnel, accepted.next());
        let tunnel = dial(echo);
        tunnel.set_nodelay(true).expect("set");
        told("tunnel", bytes, round_trip(tunnel));
    }
}
