//! What one connection's task does with streams that are slow to be opened, and what it counts.

use std::io::Write;
use std::time::{Duration, Instant};

use super::*;
use crate::support::by_hand::{
    ACK, ByHand, DATA, FIN, Frame, MULTISTREAM, SYN, WINDOW_UPDATE, data, header, messages,
};
use crate::support::{ControlClient, control::typed, eventually, raw};
use rp2pd::wire::pb::{StreamOpenRequest, request};

/// Streams that yamux opens before the remote acknowledges one.
const UNACKNOWLEDGED: usize = 256;

/// More than yamux, the connection's task and its queue take together.
const OPENS: usize = UNACKNOWLEDGED + 256 + 256 + 32;

const IDENTIFY: &str = "/ipfs/id/1.0.0";
const PING: &str = "/ipfs/ping/1.0.0";
const PUSH: &str = "/ipfs/id/push/1.0.0";

/// Whether `frame` carries the name of `protocol`.
fn names(frame: &Frame, protocol: &str) -> bool {
    let mut body = frame.body.windows(protocol.len());
    body.any(|part| part == protocol.as_bytes())
}

fn plaintext() -> Daemon {
    Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-plaintext=true"])
}

/// A client that has requested a stream to `peer` and has no answer yet.
fn open(daemon: &Daemon, peer: &ByHand) -> ControlClient {
    let mut request = typed(request::Type::StreamOpen);
    request.stream_open = Some(StreamOpenRequest {
        peer: Some(peer.peer_id().to_bytes().into()),
        proto: vec!["/s".into()],
        timeout: Some(120),
    });
    let mut client = daemon.client();
    client.send(&request).expect("send");
    client
}

#[test]
fn a_remote_that_acknowledges_no_stream_costs_no_processor_time() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let daemon = plaintext();
    let mut peer = ByHand::connect(&daemon);
    let key = peer.key.public().encode_protobuf();
    let identity = [raw::bytes(1, &key), raw::bytes(3, PUSH.as_bytes())].concat();
    peer.tell_identity(&identity).expect("identify");
    // The library pushes changes to those only that have asked who the daemon is.
    let identify = peer
        .open(&messages(&[MULTISTREAM, IDENTIFY]))
        .expect("open");
    while !matches!(peer.receive().expect("a frame"), frame if frame.stream == identify && frame.flags & FIN != 0)
    {
    }
    let clients: Vec<_> = (0..OPENS).map(|_| open(&daemon, &peer)).collect();

    // All that yamux opens, and no more: the others wait.
    let mut opened = Vec::new();
    let quiet = Duration::from_secs(2);
    peer.pipe.socket.set_timeout(quiet).expect("set a timeout");
    while let Ok(frame) = peer.receive() {
        if names(&frame, PING) {
            // Refused, without an acknowledgement of the stream: the connection stays.
            let refusal = messages(&[MULTISTREAM, "na"]);
            let frame = data(0, frame.stream, &refusal);
            peer.pipe.write_all(&frame).expect("refuse");
        }
        if frame.flags & SYN != 0 {
            opened.push(frame.stream);
        }
    }
    assert!(
        (UNACKNOWLEDGED - 8..=UNACKNOWLEDGED).contains(&opened.len()),
        "{} streams opened",
        opened.len()
    );

    // A new protocol makes the daemon open a stream of its own, for which there is no room.
    let handler = Handler::unix();
    handler
        .register(&mut daemon.client(), &["/new"], None)
        .expect("register");
    let (started, before) = (Instant::now(), daemon.cpu_ticks());
    assert!(
        peer.receive().is_err(),
        "a frame in spite of the full queue"
    );
    let waited = started.elapsed();
    let ticks = daemon.cpu_ticks() - before;
    println!("{ticks} ticks of processor time in {waited:?} with a full queue");
    assert!(waited >= quiet && ticks < 20, "{ticks} ticks in {waited:?}");

    // Acknowledged, all are opened, that of the daemon's own as well.
    peer.pipe
        .socket
        .set_timeout(PATIENCE)
        .expect("set a timeout");
    let mut pushed = false;
    let mut next = 0;
    while opened.len() < OPENS || !pushed {
        for stream in &opened[next..] {
            let ack = header(WINDOW_UPDATE, ACK, *stream, 0);
            peer.pipe.write_all(&ack).expect("acknowledge");
        }
        next = opened.len();
        let frame = peer.receive().expect("a frame");
        if frame.flags & SYN != 0 {
            opened.push(frame.stream);
        }
        pushed |= names(&frame, PUSH);
    }
    drop(clients);
}

#[test]
fn streams_of_built_in_protocols_count_on_their_connection() {
    const STREAMS: usize = 5;
    let daemon = plaintext();
    let mut peer = ByHand::connect(&daemon);
    let own: Vec<u32> = (0..STREAMS)
        .map(|_| peer.open(&messages(&[MULTISTREAM, PUSH])).expect("open"))
        .collect();
    // The swarm agrees to the protocol, so it has the streams.
    let mut agreed = 0;
    while agreed < STREAMS {
        let frame = peer.receive().expect("a frame");
        agreed += usize::from(own.contains(&frame.stream) && names(&frame, PUSH));
    }
    let counted = format!("\tinbound streams ({STREAMS})\n");
    assert!(eventually(PATIENCE, || daemon.report().contains(&counted)));
    drop(peer);
}

/// What the daemon's report says that its only connection takes, in bytes.
fn memory(daemon: &Daemon) -> u64 {
    let report = daemon.report();
    let (_, last) = report.rsplit_once("\tmemory (").expect("a connection");
    let (number, _) = last.split_once(" bytes)").expect("a number");
    number.parse().expect("a number")
}

#[test]
fn half_a_frame_counts_on_its_connection() {
    const BODY: u32 = 200_000;
    let daemon = plaintext();
    let mut peer = ByHand::connect(&daemon);
    let is_listed = || !daemon.client().list_peers().is_empty();
    assert!(eventually(PATIENCE, is_listed), "not listed");
    // Nothing is negotiated on the stream yet, and no more than the header comes.
    let stream = peer.open(&messages(&[MULTISTREAM])).expect("open");
    let frame = header(DATA, 0, stream, BODY);
    assert!(memory(&daemon) < BODY.into(), "counted before it came");
    peer.pipe.write_all(&frame).expect("write");
    assert!(
        eventually(PATIENCE, || memory(&daemon) >= BODY.into()),
        "{} bytes",
        memory(&daemon)
    );
    // The whole frame counts once: as what the stream's owner has not read, or not at all.
    peer.pipe
        .write_all(&vec![b'x'; BODY as usize])
        .expect("write");
    let once = || memory(&daemon) < u64::from(BODY) * 3 / 2;
    assert!(eventually(PATIENCE, once), "{} bytes", memory(&daemon));
}
