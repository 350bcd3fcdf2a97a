//! Requests that are cut, oversized, forged, repeated, or none.

use std::io::{Read as _, Write as _};

use super::*;

/// The fields of a message: numbers with values, texts and messages as bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (key, rest) = unsigned_varint::decode::u64(bytes).expect("a key");
        let (value, rest) = unsigned_varint::decode::u64(rest).expect("a value");
        let (text, rest) = match key & 7 {
            2 => rest.split_at(usize::try_from(value).expect("a length")),
            _ => (&[][..], rest),
        };
        out.push((key >> 3, value, text.to_vec()));
        bytes = rest;
    }
    out
}

fn ask(pipe: &mut Pipe, request: &[u8]) -> std::io::Result<Vec<u8>> {
    pipe.write_all(&raw::frame(request))?;
    pipe.read_frame().map(|frame| frame.to_vec())
}

/// What the point says of a request, if it answers.
pub fn status(pipe: &mut Pipe, request: &[u8]) -> Option<u64> {
    let answer = ask(pipe, request).ok()?;
    let response = fields(&answer)
        .into_iter()
        .find(|(number, ..)| [3, 6].contains(number));
    let (kind, _, response) = response.expect("a response");
    let number = if kind == 3 { 1 } else { 3 };
    let status = fields(&response)
        .into_iter()
        .find(|(field, ..)| *field == number);
    Some(status.expect("a status").1)
}

/// The records that the point tells, and its cookie.
pub fn found(pipe: &mut Pipe, request: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let answer = ask(pipe, request).expect("an answer");
    let response = fields(&answer)
        .into_iter()
        .find(|(number, ..)| *number == 6);
    let response = fields(&response.expect("a response").2);
    let of = |number: u64| response.iter().filter(move |(field, ..)| *field == number);
    let records = of(1).map(|(_, _, register)| {
        let peer = fields(register).into_iter().find(|(field, ..)| *field == 2);
        peer.expect("a peer").2
    });
    let cookie = of(2).next().expect("a cookie").2.clone();
    (records.collect(), cookie)
}

const HOURS_72: u64 = 72 * 3600;

#[test]
fn what_is_wrong_is_said() {
    let point = point();
    let peer = Daemon::spawn(&[LISTEN]);
    peer.connect_to(&point);
    let address = "/ip4/127.0.0.1/tcp/1";
    let own = plain(peer.peer_id(), &[address]);
    let other = plain(PeerId::random(), &[address]);
    let nowhere = plain(peer.peer_id(), &[]);
    let stranger = PeerRecord::new_interop(&Keypair::generate_ed25519(), vec![]).expect("signed");
    let stranger = stranger.into_signed_envelope().into_protobuf_encoding();
    let long = [b'n'; 255];
    let mut pipe = stream(&peer, &point);
    for (request, expected) in [
        (register(&long, &own, HOURS_72), 0),
        (register(&[b'n'; 256], &own, 120), 100),
        (register(b"", &own, 120), 100),
        (register(b"n", &own, HOURS_72 + 1), 102),
        (register(b"n", &own, u64::MAX), 102),
        (register(b"n", &other, 120), 200),
        (register(b"n", &stranger, 120), 200),
        (register(b"n", b"", 120), 101),
        (register(b"n", b"\xff\xff", 120), 101),
        (register(b"n", &nowhere, 120), 101),
        (register(b"\xff\xfe", &own, 120), 0),
        (discover(&[b'n'; 256], b""), 100),
        (discover(b"n", b"forged"), 103),
        (discover(b"n", &[0; 32]), 103),
        (discover(b"n", &[b'0'; 32]), 103),
        (discover(b"", b""), 0),
    ] {
        assert_eq!(status(&mut pipe, &request), Some(expected), "{request:?}");
    }
    // A cookie for one name is none for another.
    let (_, cookie) = found(&mut pipe, &discover(&long, b""));
    assert_eq!(status(&mut pipe, &discover(&long, &cookie)), Some(0));
    assert_eq!(status(&mut pipe, &discover(b"n", &cookie)), Some(103));
}

#[test]
fn what_is_no_request_ends_its_stream_alone() {
    let point = point();
    let peer = Daemon::spawn(&[LISTEN]);
    peer.connect_to(&point);
    let good = register(b"n", &plain(peer.peer_id(), &["/ip4/127.0.0.1/tcp/1"]), 120);
    let framed = raw::frame(&good);
    let mut cases: Vec<Vec<u8>> = vec![
        raw::frame(b"\xff"),
        raw::frame(b""),
        raw::frame(&raw::int(1, 0)),
        raw::frame(&raw::int(1, 1)),
        raw::frame(&raw::int(1, 9)),
        // Answers are no requests.
        raw::frame(&[raw::int(1, 4), raw::bytes(6, b"")].concat()),
        // Oversized, by its length and by its bytes.
        [raw::varint(1 << 40), vec![0; 100]].concat(),
        raw::frame(&[good.clone(), raw::bytes(9, &[0; 10_000])].concat()),
        vec![0xff; 64],
    ];
    cases.extend(
        (1..framed.len())
            .step_by(7)
            .map(|end| framed[..end].to_vec()),
    );
    for case in cases {
        let mut pipe = stream(&peer, &point);
        pipe.write_all(&case).expect("write");
        let _ = pipe.socket.shutdown_write();
        let mut rest = Vec::new();
        let _ = pipe.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{case:?}: {rest:?}");
    }
    let mut pipe = stream(&peer, &point);
    assert_eq!(status(&mut pipe, &good), Some(0));
}

/// Thousands of requests on one stream, and names without end: neither takes memory.
#[test]
fn who_repeats_itself_gets_no_more_than_others() {
    const FULL: u64 = 400;
    let point = point();
    let peer = Daemon::spawn(&[LISTEN]);
    peer.connect_to(&point);
    let own = plain(peer.peer_id(), &["/ip4/127.0.0.1/tcp/1"]);
    let mut refused = 0;
    let mut pipe = stream(&peer, &point);
    for number in 0..100_u32 {
        let name = number.to_string();
        refused +=
            u32::from(status(&mut pipe, &register(name.as_bytes(), &own, 120)) == Some(FULL));
    }
    assert_eq!(refused, 100 - 32);
    assert_eq!(
        point.bites("registrations at this rendezvous point"),
        u64::from(refused)
    );
    let (found, _) = found(&mut pipe, &discover(b"", b""));
    assert_eq!(found.len(), 32);
    // Without waiting for the answers: nobody but this stream waits.
    let many = raw::frame(&discover(b"", b"")).repeat(2000);
    let mut flood = stream(&peer, &point);
    let mut writer = flood.socket.try_clone().expect("a socket");
    let writing = std::thread::spawn(move || writer.write_all(&many));
    let before = std::time::Instant::now();
    let mut asker = stream(&peer, &point);
    assert_eq!(status(&mut asker, &discover(b"0", b"")), Some(0));
    assert!(
        before.elapsed() < Duration::from_secs(2),
        "{:?}",
        before.elapsed()
    );
    for _ in 0..40 {
        flood.read_frame().expect("an answer");
    }
    drop(flood);
    let _ = writing.join().expect("the writer");
}

/// A point that tells nonsense costs a client nothing.
#[test]
fn a_point_that_lies_is_asked_again_later() {
    // A daemon whose handler for the protocol is this test.
    let liar = Daemon::spawn(&[LISTEN]);
    let handler = support::Handler::unix();
    let registered = handler.register(&mut liar.client(), &[PROTOCOL], None);
    registered.expect("registered");
    let client = meets(&liar, &[]);
    let stranger = PeerId::random();
    let lies: [Vec<u8>; 5] = [
        raw::frame(b"\xff"),
        vec![0xff; 32],
        raw::frame(&[raw::int(1, 4), raw::bytes(6, b"")].concat()),
        raw::frame(&[raw::int(1, 1), raw::bytes(3, &raw::int(1, 999))].concat()),
        {
            // Somebody at an address that nobody may be sent to.
            let record = plain(stranger, &["/ip4/127.0.0.1/tcp/22", "/dns4/x/tcp/1"]);
            let register = [raw::bytes(1, b"n"), raw::bytes(2, &record)].concat();
            raw::frame(&[raw::int(1, 4), raw::bytes(6, &raw::bytes(1, &register))].concat())
        },
    ];
    for lie in lies {
        let (_, mut pipe) = handler.accept(Duration::from_secs(30)).expect("a request");
        let _ = pipe.read_frame();
        let _ = pipe.write_all(&lie);
    }
    assert!(knows(&client, liar.peer_id()));
    assert!(!knows(&client, stranger));
    assert_eq!(client.client().identify().0, client.peer_id());
}
