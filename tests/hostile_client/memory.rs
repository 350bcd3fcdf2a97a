//! Clients that make the daemon hold as much as they can, in a control group of 128 MiB. The kernel
//! ends a daemon that takes more.

use std::io::Write;

use rp2pd::wire::pb::{Response, response};
use rustix::process::Signal;

use super::*;
use crate::support::cgroup::Group;
use crate::support::persistent::Outcome;
use crate::support::{ControlClient, raw};

const LIMIT: u64 = 128 << 20;
const CHARGED: &str = "memory held because of one peer, client or address prefix";
const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

/// A hundred connections that were there before, each of which asks who the daemon is.
struct Normal(Vec<ControlClient>);

impl Normal {
    fn of(daemon: &Daemon) -> Self {
        Self((0..100).map(|_| daemon.client()).collect())
    }

    fn assert_served(&mut self, during: &str) {
        let mut slowest = Duration::ZERO;
        for client in &mut self.0 {
            let started = Instant::now();
            let _ = client.identify();
            slowest = slowest.max(started.elapsed());
        }
        println!("{during}: slowest of 100 normal clients {slowest:?}");
        assert!(slowest < Duration::from_secs(2), "{during}: {slowest:?}");
    }
}

/// A daemon in a group of its own, unless none can be made here. Groups with other limits have other
/// names.
fn confined(number: u64, flags: &[&str]) -> Option<(Group, Daemon)> {
    let group = Group::with_limit(LIMIT + (number << 12))?;
    let daemon = group.launch().args([&[LISTEN], flags].concat()).spawn();
    Some((group, daemon))
}

fn assert_spared(daemon: &mut Daemon, group: &Group, after: &str) {
    println!(
        "{after}: {} KiB at the most, {} refusals",
        group.peak() >> 10,
        daemon.bites(CHARGED)
    );
    assert_eq!(group.kills(), 0, "{after}: the kernel killed the daemon");
    let end = daemon.wait(Duration::ZERO);
    assert!(end.is_none(), "{after}: the daemon ended");
    assert!(daemon.bites(CHARGED) > 0, "{after}: nothing was refused");
}

/// Sends what is taken at once.
fn push(client: &mut ControlClient, bytes: &[u8]) -> usize {
    let pause = Duration::from_millis(20);
    let socket = &mut client.pipe.socket;
    socket.set_timeout(pause).expect("set a timeout");
    let mut sent = 0;
    for chunk in bytes.chunks(16 << 10) {
        match socket.write(chunk) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    socket
        .set_timeout(2 * support::PATIENCE)
        .expect("set a timeout");
    sent
}

#[test]
fn half_frames_of_thousands_of_clients() {
    const CLIENTS: usize = 3000;
    let Some((group, mut daemon)) = confined(0, &[]) else {
        return;
    };
    let mut normal = Normal::of(&daemon);
    let half = [raw::varint(4 << 20), vec![8; 128 << 10]].concat();
    let mut sent = 0;
    let mut clients = Vec::with_capacity(CLIENTS);
    for number in 0..CLIENTS {
        let mut client = daemon.client();
        sent += push(&mut client, &half);
        clients.push(client);
        if number % 500 == 0 {
            normal.assert_served("half frames");
        }
    }
    println!("{CLIENTS} clients sent {} KiB", sent >> 10);
    assert!(sent as u64 > LIMIT, "{sent} bytes are no attack");
    normal.assert_served("half frames");
    // Who was refused is told so, and the connection is of use once the frame is over.
    let refused = clients.last_mut().expect("a client");
    let answer: Response = refused.receive().expect("a reason");
    assert_eq!(answer.r#type(), response::Type::Error);
    assert_eq!(answer.error.expect("a text").msg, "memory limit reached");
    let rest = vec![8; (4 << 20) + raw::varint(4 << 20).len() - half.len()];
    refused.send_raw(&rest).expect("send");
    let _ = refused.identify();
    assert_spared(&mut daemon, &group, "half frames");
}

#[test]
fn answers_that_thousands_of_clients_do_not_read() {
    const CLIENTS: usize = 2500;
    let Some((group, mut daemon)) = confined(1, &[]) else {
        return;
    };
    let mut normal = Normal::of(&daemon);
    // The answer repeats the name of the handler that is not there.
    let body = [
        raw::bytes(1, b"\x90\x03\x0c/tmp/none.sk"),
        raw::bytes(2, &[b'x'; 16 << 10]),
    ];
    let remove = [raw::int(1, 10), raw::bytes(9, &body.concat())].concat();
    let requests = raw::frame(&remove).repeat(40);
    let mut clients = Vec::with_capacity(CLIENTS);
    let mut stuck = 0;
    for number in 0..CLIENTS {
        let mut client = daemon.client();
        stuck += usize::from(push(&mut client, &requests) < requests.len());
        clients.push(client);
        if number % 500 == 0 {
            normal.assert_served("answers that are not read");
        }
    }
    println!("{stuck} of {CLIENTS} clients are stuck");
    assert!(stuck > CLIENTS / 2, "{stuck}: their answers were read");
    normal.assert_served("answers that are not read");
    assert_spared(&mut daemon, &group, "answers that are not read");
}

#[test]
fn lists_of_a_million_names() {
    let Some((group, mut daemon)) = confined(2, &["-connMax=64"]) else {
        return;
    };
    let mut normal = Normal::of(&daemon);
    let peer = raw::bytes(1, &libp2p::PeerId::random().to_bytes());
    // Two bytes each on the wire.
    let body = [peer, raw::bytes(2, b"").repeat(1 << 20)].concat();
    let request = raw::frame(&[raw::int(1, 2), raw::bytes(3, &body)].concat());
    let mut clients: Vec<ControlClient> = (0..4).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.send_raw(&request).expect("send");
        let answer: Response = client.receive().expect("an answer");
        assert_eq!(answer.error.expect("a text").msg, "memory limit reached");
        normal.assert_served("a million names");
        let _ = client.identify();
    }
    assert_spared(&mut daemon, &group, "a million names");
}

#[test]
fn calls_that_cannot_be_sent() {
    const CALLERS: usize = 100;
    let Some((group, mut daemon)) = confined(3, &["-stayAlive"]) else {
        return;
    };
    let other = Daemon::spawn(&[LISTEN, "-stayAlive"]);
    daemon.connect_to(&other);
    let mut handler = other.persistent();
    handler.add("p", true).expect("a handler");
    let mut normal = Normal::of(&daemon);
    let mut first = daemon.persistent();
    let id = first.begin(other.peer_id(), "p", b"x");
    let call = handler.incoming().expect("the call");
    handler.answer(&call.id, Ok(Vec::new())).expect("answer");
    assert_eq!(first.outcome(&id).response(), b"");
    // Nothing it is sent is taken any more.
    other.signal(Signal::STOP);
    let data = vec![7; 1 << 20];
    let mut refused = 0;
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = daemon.persistent();
        let ids: Vec<_> = (0..8)
            .map(|_| caller.begin(other.peer_id(), "p", &data))
            .collect();
        // What was refused is told at once, for the last one at the latest when all is used up.
        let socket = &caller.client.pipe.socket;
        socket
            .set_timeout(Duration::from_millis(100))
            .expect("set a timeout");
        while let Ok(message) = caller.receive() {
            let outcome = crate::support::persistent::outcome(message.message);
            if outcome == Ok(Outcome::DaemonError("memory limit reached".to_owned())) {
                refused += 1;
            }
        }
        callers.push((caller, ids));
        normal.assert_served("calls that are not sent");
    }
    println!("{refused} of {} calls refused", 8 * CALLERS);
    assert!(refused > 4 * CALLERS, "{refused} calls refused");
    assert_spared(&mut daemon, &group, "calls that are not sent");
    other.signal(Signal::CONT);
}
