//! A daemon that may have 128 MiB, no more, and what it is asked to hold.

use std::io::{Read, Write};
use std::time::Duration;

use super::streams::{REFUSED, openings};
use super::*;
use crate::support::by_hand::{ByHand, MULTISTREAM, data, messages};
use crate::support::cgroup::Group;
use crate::support::rpc::{self, Peer};
use crate::support::{PATIENCE, Random, payload};

const LIMIT: u64 = 128 << 20;
const LOST: &str = "messages that wait for one subscriber";

/// Its name, and what it does.
type Attack = (&'static str, fn(&Scene));

impl Scene {
    /// It lives, and serves.
    fn assert_well(&mut self, after: &str) {
        self.assert_spared(after);
        let end = self.victim.wait(Duration::ZERO);
        assert!(end.is_none(), "{after}: the daemon ended");
        let _ = self.victim.client().identify();
        drop(self.let_in());
    }

    /// A connection, once memory is not short.
    fn let_in(&self) -> ByHand {
        let mut peer = None;
        assert!(
            eventually(PATIENCE, || {
                peer = ByHand::try_connect(&self.victim).ok();
                peer.is_some()
            }),
            "peers are refused for ever"
        );
        peer.expect("a connection")
    }

    /// Every stream is full before the first is read.
    fn full_streams(&self) {
        const STREAMS: usize = 1000;
        let sent = payload(256 << 10, 1);
        let mut open: Vec<_> = (0..STREAMS)
            .map(|_| {
                let opened = self
                    .other
                    .client()
                    .open_stream(self.victim.peer_id(), &["/echo/1.0.0"]);
                let mut stream = opened.expect("open").1;
                stream.write_all(&sent).expect("write");
                stream
            })
            .collect();
        let mut got = vec![0; sent.len()];
        for stream in &mut open {
            stream.read_exact(&mut got).expect("read");
            assert!(got == sent);
        }
    }

    /// A peer that fills the windows of streams whose answers it does not read.
    fn unread_answers(&self) {
        let mut peer = self.let_in();
        let read = peer.discard();
        let mut sent = 0_usize;
        let chunk = vec![7; 16 << 10];
        for _ in 0..200 {
            let said = messages(&[MULTISTREAM, "/echo/1.0.0"]);
            let stream = peer.open(&said).expect("open");
            for _ in 0..15 {
                let frame = data(0, stream, &chunk);
                peer.pipe.write_all(&frame).expect("write");
                sent += chunk.len();
            }
        }
        assert!(eventually(PATIENCE, || read.bytes() > sent as u64 / 2));
    }

    fn openings(&self) {
        let before = self.victim.bites(REFUSED);
        let mut peer = self.let_in();
        let _read = peer.discard();
        for _ in 0..100 {
            let frames = openings(&mut peer, 1000);
            peer.pipe.write_all(&frames).expect("the connection stays");
        }
        let refused = || self.victim.bites(REFUSED) - before > 80_000;
        assert!(eventually(PATIENCE, refused));
    }

    fn openings_whose_refusals_are_not_read(&self) {
        let mut sent = 0;
        for _ in 0..3 {
            let mut peer = self.let_in();
            let stall = Duration::from_millis(500);
            peer.pipe.socket.set_timeout(stall).expect("set a timeout");
            for _ in 0..100 {
                let frames = openings(&mut peer, 1000);
                sent += u32::from(peer.pipe.write_all(&frames).is_ok()) * 1000;
            }
        }
        assert!(sent > 100_000, "{sent} openings");
    }

    /// Subscriptions by the hundred thousand and messages as large as may be, to topics that have
    /// subscribers who read nothing.
    fn gossip(&self) {
        let stuck: Vec<_> = (0..20)
            .map(|topic| self.victim.subscribe(format!("{topic}")))
            .collect();
        let mut hostile = Peer::of(&self.victim);
        let names: Vec<u8> = (0..349_525_u32)
            .flat_map(|n| rpc::subscription(true, &n.to_be_bytes()))
            .collect();
        let large = vec![7; 1000 << 10];
        for round in 0..20_u64 {
            hostile.again(&self.victim);
            hostile.say(&names);
            for topic in 0..stuck.len() {
                let topic = topic.to_string();
                self.victim.publish(&topic, &large);
                let seqno = round.to_be_bytes();
                hostile.say(&rpc::message(&[
                    (1, &hostile.daemon.peer_id().to_bytes()),
                    (2, &large),
                    (3, &seqno),
                    (4, topic.as_bytes()),
                ]));
            }
        }
        assert!(self.victim.bites(LOST) > 0, "nothing was given up");
    }

    /// Bytes that are no frames, on the control socket and on connections.
    fn random_bytes(&self) {
        let mut random = Random::new("random_bytes");
        let mut connections = 0;
        for _ in 0..500 {
            let len = 1 + random.below(100_000);
            let mut client = self.victim.client();
            let _ = client.send_raw(&random.bytes(len));
            if let Ok(mut peer) = ByHand::try_connect(&self.victim) {
                let _ = peer.pipe.write_all(&random.bytes(len));
                connections += 1;
            }
        }
        assert!(connections > 100, "{connections} connections");
    }
}

pub fn attacks_within_128_mib() {
    let Some(group) = Group::with_limit(LIMIT) else {
        return;
    };
    let mut scene = Scene::in_group(Some(group), &["-pubsub"]);
    scene.assert_well("at rest");
    let attacks: [Attack; 6] = [
        ("1,000 streams of 256 KiB each way", Scene::full_streams),
        ("answers that are not read", Scene::unread_answers),
        ("100,000 openings", Scene::openings),
        (
            "openings whose refusals are not read",
            Scene::openings_whose_refusals_are_not_read,
        ),
        ("gossip", Scene::gossip),
        ("random bytes", Scene::random_bytes),
    ];
    for (what, attack) in attacks {
        attack(&scene);
        scene.assert_well(what);
    }
}
