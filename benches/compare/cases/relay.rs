//! How many bytes go through a relay.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use bytes::BytesMut;
use prost::Message;

use super::Setup;
use super::throughput::{MIB, WARM_UP, send};
use crate::binary::Side;
use crate::client::{Peer, read_frame};
use crate::daemon::{Daemon, TCP_NOISE};
use crate::handler::Handler;
use crate::process;
use crate::sample::Outcome;

const HOP: &str = "/libp2p/circuit/relay/0.2.0/hop";
const STOP: &str = "/libp2p/circuit/relay/0.2.0/stop";

/// RESERVE, as a frame.
const RESERVE: [u8; 3] = [2, 8, 0];

/// The status of a relay that agrees.
const OK: i32 = 100;

/// What a circuit must be able to carry for a run.
const ENOUGH: u64 = 1 << 30;

/// Go's relay has the limits of its flags from some starts on and not from others.
const STARTS: usize = 30;

/// The part of a relay's answer that matters here.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "4")]
    limit: Option<Limit>,
    #[prost(int32, optional, tag = "5")]
    status: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Limit {
    #[prost(uint64, optional, tag = "2")]
    data: Option<u64>,
}

/// A peer as CONNECT names it.
#[derive(Clone, PartialEq, Message)]
struct Connect {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(message, optional, tag = "2")]
    peer: Option<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
}

/// Bytes one way through one circuit. Both ends are daemons of the dialer, which know nothing of
/// relays: the generator speaks for them, and nothing but the relay differs between the sides.
pub(super) fn run(setup: &Setup, side: &Side) -> Result<Outcome> {
    let mut flags = setup.dialer.flags.clone();
    flags.push("-relay=0".into());
    let end = Side {
        name: setup.dialer.name.clone(),
        path: setup.dialer.path.clone(),
        flags,
    };
    let source = Daemon::start(&end, Some(TCP_NOISE))?;
    let destination = Daemon::start(&end, Some(TCP_NOISE))?;
    let handler = Handler::called()?;
    destination.control()?.handle(STOP, &handler.path())?;
    let called = destination.identify()?;
    let (relay, place) = relay(side, &destination)?;
    source.control()?.connect(&place)?;

    let connect = Connect {
        kind: Some(1),
        peer: Some(Named {
            id: called.id.to_vec(),
        }),
    };
    let asked = connect.encode_length_delimited_to_vec();
    let (mut circuit, answer) = ask(&source, &place, &asked)?;
    ensure!(answer.status == Some(OK), "CONNECT: {answer:?}");
    let begin = Instant::now();
    send(&mut circuit, WARM_UP)?;
    let speed = WARM_UP as f64 / begin.elapsed().as_secs_f64();
    let total = ((speed * setup.time().as_secs_f64()) as usize).min(ENOUGH as usize / 2);
    let before = process::cpu(relay.pid())?;
    let begin = Instant::now();
    send(&mut circuit, total)?;
    let seconds = begin.elapsed().as_secs_f64();
    let mib = total as f64 / MIB;
    let cpu = process::cpu(relay.pid())? - before;
    let mut outcome = Outcome::default();
    outcome.high("through one relay", "MiB/s", mib / seconds);
    outcome.goal(1.3);
    outcome.low("through one relay, its CPU", "s/GiB", cpu * 1024.0 / mib);
    Ok(outcome)
}

/// A relay with which `destination` has reserved, and that carries enough.
fn relay(side: &Side, destination: &Daemon) -> Result<(Daemon, Peer)> {
    let mut flags = side.flags.clone();
    flags.push("-forceReachabilityPublic".into());
    let side = Side {
        name: side.name.clone(),
        path: side.path.clone(),
        flags,
    };
    for _ in 0..STARTS {
        let relay = Daemon::start(&side, Some(TCP_NOISE))?;
        let place = relay.identify()?;
        destination.control()?.connect(&place)?;
        let (_, answer) = ask(destination, &place, &RESERVE)?;
        ensure!(answer.status == Some(OK), "RESERVE: {answer:?}");
        if answer.limit.and_then(|limit| limit.data) >= Some(ENOUGH) {
            return Ok((relay, place));
        }
    }
    bail!(
        "{}: no start in {STARTS} had the limits of its flags",
        side.name
    )
}

/// A stream to the relay on which `asked` was said, and its answer.
fn ask(end: &Daemon, relay: &Peer, asked: &[u8]) -> Result<(UnixStream, Answer)> {
    let mut stream = end.control()?.stream(relay, HOP)?;
    stream.write_all(asked)?;
    let mut received = BytesMut::new();
    let answer = Answer::decode(read_frame(&mut stream, &mut received)?)?;
    ensure!(received.is_empty(), "the destination speaks first");
    Ok((stream, answer))
}
