//! The relay service, asked by peers that want nothing good.

use std::io::{self, Write};
use std::time::Duration;

use libp2p::PeerId;
use rp2pd::wire::frame;

use super::*;
use crate::support::by_hand::{ByHand, DATA, FIN, MULTISTREAM, RST, SYN, data, messages};
use crate::support::raw;
use crate::support::relay::{End, HOP, Hop, RESERVE};

const CHARGED: &str = "memory held because of one peer, client or address prefix";
const ADDRESS: &str = "reservations at this relay from one address";

fn reserve() -> Vec<u8> {
    let request = Hop {
        kind: Some(RESERVE),
        ..Hop::default()
    };
    frame::encode(&request).to_vec()
}

fn connect(peer: PeerId) -> Vec<u8> {
    frame::encode(&Hop::connect(peer)).to_vec()
}

/// `said` on a stream that proposes the protocol.
fn stream(said: &[u8]) -> Vec<u8> {
    [&messages(&[MULTISTREAM, HOP])[..], said].concat()
}

/// Says `said` and nothing more; what comes back until that stream ends.
fn ask(peer: &mut ByHand, said: &[u8]) -> io::Result<Vec<u8>> {
    let number = peer.number();
    peer.pipe
        .write_all(&data(SYN | FIN, number, &stream(said)))?;
    let mut answer = Vec::new();
    loop {
        let frame = peer.receive()?;
        if frame.stream != number {
            continue;
        }
        if frame.kind == DATA {
            answer.extend(frame.body);
        }
        if frame.flags & (FIN | RST) != 0 {
            return Ok(answer);
        }
    }
}

/// A number in the victim's report, behind `what`.
fn told(victim: &Daemon, what: &str) -> u64 {
    let report = victim.report();
    let (_, last) = report.rsplit_once("\nRelay ").expect("a line");
    let (_, number) = last.split_once(what).expect("a number");
    let digits = number.split(|c: char| !c.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .expect("a number")
}

pub fn requests_without_end() {
    let scene = Scene::new(&[]);
    scene.under("relay requests", Streams::New, |crowd| {
        let start = crowd.rounds();
        let mut peer = ByHand::connect(&scene.victim);
        let read = peer.discard();
        let kinds = [
            reserve(),
            connect(PeerId::random()),
            connect(peer.peer_id()),
            connect(scene.victim.peer_id()),
            // A STATUS, no kind, no peer, no message, and one that is cut.
            raw::frame(&[raw::int(1, 2), raw::int(5, 100)].concat()),
            raw::frame(&[]),
            raw::frame(&raw::int(1, 1)),
            raw::frame(&[0xff; 40]),
            raw::frame(&[8, 0])[..2].to_vec(),
            // One that is larger than any may be, and payload behind a refusal.
            [raw::varint(1 << 20), vec![8; 4096]].concat(),
            [connect(PeerId::random()), vec![7; 4096]].concat(),
        ];
        let mut asked = 0;
        while crowd.rounds() < start + ENOUGH || asked < 20_000 {
            for said in kinds.iter().cycle().take(220) {
                let number = peer.number();
                let frame = data(SYN | FIN, number, &stream(said));
                peer.pipe.write_all(&frame).expect("the connection stays");
                asked += 1;
            }
        }
        let refused = || told(&scene.victim, "refused: ");
        let all = || refused() + scene.victim.bites(streams::REFUSED) >= asked * 9 / 11;
        assert!(eventually(support::PATIENCE, all), "{} refused", refused());
        println!("{asked} requests, {} refused", refused());
        assert_eq!(told(&scene.victim, "reservations: "), 1);
        assert_eq!(told(&scene.victim, "circuits so far: "), 0);
        assert!(!read.is_ended(), "the connection ended");
    });
}

pub fn reservations_from_one_address_without_end() {
    let scene = Scene::new(&["-relayMaxReservations=20"]);
    scene.under("reservations", Streams::New, |crowd| {
        let start = crowd.rounds();
        let (mut granted, mut refused) = (0, 0);
        while crowd.rounds() < start + ENOUGH || refused < 20 {
            let mut peer = ByHand::connect(&scene.victim);
            let answer = ask(&mut peer, &reserve()).expect("an answer");
            // STATUS and its number, at the end of a refusal.
            match answer.ends_with(&[8, 2, 40, 200, 1]) {
                true => refused += 1,
                false => granted += 1,
            }
        }
        println!("{granted} granted, {refused} refused");
        assert_eq!(granted, 20, "more than one address may have");
        assert!(scene.victim.bites(ADDRESS) > 0);
    });
}

pub fn messages_that_never_end() {
    const STREAMS: usize = 3000;
    // One peer may hold 8 MiB then: 2048 messages that have begun.
    let scene = Scene::new(&["-memoryLimit=134217728"]);
    scene.under("half relay messages", Streams::New, |crowd| {
        let start = crowd.rounds();
        let mut peer = ByHand::connect(&scene.victim);
        let read = peer.discard();
        for said in [&[][..], &[2], &[2, 8], &[0xff, 0x1f], &[0x80]]
            .iter()
            .cycle()
            .take(STREAMS)
        {
            peer.open(&stream(said)).expect("the connection stays");
        }
        crowd.await_rounds(ENOUGH.saturating_sub(crowd.rounds() - start));
        let before = read.bytes();
        let more = stream(&reserve());
        peer.open(&more).expect("the connection stays");
        let answered = || read.bytes() > before;
        assert!(eventually(support::PATIENCE, answered), "no answer");
        println!("RSS {} KiB with {STREAMS}", scene.victim.rss_kib());
        let charged = || scene.victim.bites(CHARGED) > 0;
        assert!(eventually(support::PATIENCE, charged), "nobody pays");
    });
}

/// Callers of somebody who never answers have as many calls as the flag says, and no more.
pub fn calls_that_are_never_answered() {
    let scene = Scene::new(&["-relayMaxCircuits=16"]);
    scene.under("unanswered calls", Streams::New, |crowd| {
        let start = crowd.rounds();
        let end = End::new(&scene.victim);
        end.reserved(&scene.victim);
        let mut peer = ByHand::connect(&scene.victim);
        for _ in 0..16 {
            peer.open(&stream(&connect(end.peer_id()))).expect("open");
        }
        let rings: Vec<_> = (0..16).map(|_| end.rings()).collect();
        let mut refused = 0;
        while crowd.rounds() < start + ENOUGH {
            let answer = ask(&mut peer, &connect(end.peer_id())).expect("an answer");
            // RESOURCE_LIMIT_EXCEEDED.
            let status = [8, 2, 40, 201, 1];
            assert!(answer.ends_with(&status), "{answer:?}");
            refused += 1;
        }
        assert!(refused > 100, "{refused}");
        assert!(!end.is_called(Duration::from_millis(10)));
        assert_eq!(rings.len(), 16);
        println!("{refused} further calls refused");
    });
}
