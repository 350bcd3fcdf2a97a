//! What a circuit passes on.

use std::io::{Read as _, Write as _};

use rp2pd::wire::frame;

use super::relay;
use crate::support::relay::{
    CONNECTION_FAILED, End, Hop, Limit, OK, STOP_CONNECT, Stop, named, receive,
};
use crate::support::{payload, raw};

#[test]
fn the_destination_hears_who_calls_and_bytes_pass_both_ways() {
    let relay = relay(&[]);
    let (source, destination) = (End::new(&relay), End::new(&relay));
    destination.reserved(&relay);
    let sent = payload(3 << 20, 1);
    let back = payload(1 << 20, 2);
    std::thread::scope(|scope| {
        let far = scope.spawn(|| {
            let (mut pipe, call) = destination.rings();
            assert_eq!(call.kind, Some(STOP_CONNECT));
            assert_eq!(call.peer, Some(named(source.peer_id())));
            let limit = Limit {
                duration: Some(30 * 60),
                data: Some(4 << 30),
            };
            assert_eq!(call.limit, Some(limit));
            // Its first bytes come in one piece with the answer.
            let first = [&frame::encode(&Stop::answer(OK))[..], b"first"].concat();
            pipe.write_all(&first).expect("agree");
            let mut got = vec![0; sent.len()];
            pipe.read_exact(&mut got).expect("payload");
            assert!(got == sent);
            pipe.write_all(&back).expect("payload");
            pipe.socket.shutdown_write().expect("half-close");
            let mut rest = Vec::new();
            pipe.read_to_end(&mut rest).expect("the end");
            assert_eq!(rest, b"last", "after the other direction has ended");
        });
        let mut pipe = source.hop(&relay);
        pipe.write_all(&frame::encode(&Hop::connect(destination.peer_id())))
            .expect("CONNECT");
        let answer: Hop = receive(&mut pipe).expect("an answer");
        assert_eq!(answer.status, Some(OK));
        assert_eq!(answer.limit.expect("a limit").data, Some(4 << 30));
        let mut first = [0; 5];
        pipe.read_exact(&mut first).expect("what came early");
        assert_eq!(&first, b"first");
        pipe.write_all(&sent).expect("payload");
        let mut got = Vec::new();
        pipe.read_to_end(&mut got).expect("payload and its end");
        assert!(got == back);
        pipe.write_all(b"last").expect("payload");
        pipe.socket.shutdown_write().expect("half-close");
        far.join().expect("the other end");
    });
    let report = relay.report();
    let bytes = sent.len() + back.len() + "firstlast".len();
    let line = format!("circuits so far: 1, bytes relayed: {bytes}, refused: 0");
    assert!(report.contains(&line), "{report}");
}

#[test]
fn a_destination_that_does_not_agree_is_not_connected() {
    let relay = relay(&[]);
    let (source, destination) = (End::new(&relay), End::new(&relay));
    destination.reserved(&relay);
    let answers = [
        frame::encode(&Stop::answer(203)).to_vec(),
        frame::encode(&Stop::default()).to_vec(),
        // A CONNECT is no answer.
        raw::frame(&[raw::int(1, 0), raw::int(4, 100)].concat()),
        raw::frame(&[0xff; 9]),
        raw::varint(5000),
        vec![7, 8],
        Vec::new(),
    ];
    for answer in answers {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut pipe, _) = destination.rings();
                pipe.write_all(&answer).expect("answer");
                // Ends what is cut.
                drop(pipe);
            });
            let status = source.called(&relay, destination.peer_id());
            assert_eq!(status, Some(CONNECTION_FAILED), "{answer:?}");
        });
    }
    // None of them counts any more.
    drop(source.circuit(&relay, &destination));
}

#[test]
fn when_one_end_resets_so_does_the_circuit() {
    let relay = relay(&[]);
    let (source, destination) = (End::new(&relay), End::new(&relay));
    destination.reserved(&relay);
    let (near, mut far) = source.circuit(&relay, &destination);
    // With the connection of one end, the circuit is gone.
    drop(near);
    source.daemon.client().disconnect(relay.peer_id());
    let mut rest = Vec::new();
    let _ = far.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    let ended = crate::support::eventually(crate::support::PATIENCE, || {
        relay.report().contains(", circuits: 0, circuits so far: 1")
    });
    assert!(ended, "the circuit still counts");
}
