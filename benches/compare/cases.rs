//! The measurements.

mod calls;
mod connect;
mod dht;
mod memory;
mod pubsub;
mod relay;
mod requests;
mod start;
mod streams;
mod throughput;

use std::time::Duration;

use anyhow::{Result, ensure};

use self::pubsub::Shape;
use crate::args::Args;
use crate::binary::Side;
use crate::daemon::{QUIC, TCP_NOISE, TCP_TLS, WS_NOISE};
use crate::sample::Outcome;

/// Name under which every handler of the load generator registers.
const PROTO: &str = "/rp2pd-bench/1.0.0";

/// What all measurements share.
#[derive(Debug)]
pub(crate) struct Setup {
    quick: bool,
    /// Plays the many peers of one daemon, whichever daemon that is.
    dialer: Side,
}

impl Setup {
    /// # Errors
    /// A missing dialer, or too few open files for the streams this program holds.
    pub(crate) fn new(args: &Args, sides: &[Side; 2], open_files: u64) -> Result<Self> {
        let needed = 12_000;
        ensure!(
            open_files >= needed,
            "needs {needed} open files (ulimit -n), may open {open_files}"
        );
        Ok(Self {
            quick: args.quick,
            dialer: args.dialer(&sides[0])?,
        })
    }

    /// Length of one timed run.
    fn time(&self) -> Duration {
        Duration::from_millis(self.pick(400, 1500))
    }

    fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

type Run = Box<dyn Fn(&Setup, &Side) -> Result<Outcome>>;

/// One measurement: a run on one fresh daemon, or pair of them, yields some figures.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) about: &'static str,
    pub(crate) run: Run,
}

/// All measurements in the order in which they run.
pub(crate) fn all(quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, about, run: Run| cases.push(Case { name, about, run });
    add(
        "start".into(),
        "from spawning the process to the first answer to IDENTIFY",
        Box::new(start::start),
    );
    add(
        "idle-memory".into(),
        "resident memory of a daemon with a tcp and a quic listener",
        Box::new(start::idle_memory),
    );
    add(
        "identify-one".into(),
        "IDENTIFY in sequence on one connection",
        Box::new(|setup, side| requests::identify(setup, side, 1)),
    );
    add(
        "identify-new".into(),
        "IDENTIFY, each on a new connection",
        Box::new(requests::identify_new),
    );
    add(
        "identify-64".into(),
        "IDENTIFY in sequence on 64 connections at once",
        Box::new(|setup, side| requests::identify(setup, side, 64)),
    );
    for link in [TCP_NOISE, TCP_TLS] {
        add(
            format!("connect-{}", link.name),
            "CONNECT, then DISCONNECT, again and again",
            Box::new(move |setup, side| connect::latency(setup, side, link)),
        );
    }
    for at_once in [1, 16, 64] {
        add(
            format!("stream-{at_once}"),
            "open a stream, echo 64 bytes, close it; so many at once",
            Box::new(move |setup, side| streams::rate(setup, side, at_once)),
        );
    }
    add(
        "round-trip".into(),
        "64 bytes there and back on an open stream",
        Box::new(streams::round_trip),
    );
    for load in [
        calls::Calls {
            name: "100 B",
            size: 100,
            at_once: 1,
            goal: 1.5,
        },
        calls::Calls {
            name: "100 B",
            size: 100,
            at_once: 64,
            goal: 3.0,
        },
        calls::Calls {
            name: "64 KiB",
            size: 64 << 10,
            at_once: 1,
            goal: 2.0,
        },
        calls::Calls {
            name: "64 KiB",
            size: 64 << 10,
            at_once: 64,
            goal: 2.0,
        },
    ] {
        add(
            format!("call-{}-{}", load.size, load.at_once),
            "calls from client to client over persistent connections; so many at once",
            Box::new(move |setup, side| calls::run(setup, side, load)),
        );
    }
    for (link, goal) in [
        (TCP_NOISE, 1.6),
        (TCP_TLS, 2.0),
        (QUIC, 2.0),
        (WS_NOISE, 2.0),
    ] {
        for streams in [1, 16] {
            add(
                format!("throughput-{}-{streams}", link.name),
                "bytes one way through so many streams",
                Box::new(move |setup, side| throughput::run(setup, side, link, streams, goal)),
            );
        }
    }
    add(
        "relay".into(),
        "bytes one way through one circuit, both ends alike on both sides",
        Box::new(relay::run),
    );
    add(
        "stream-memory".into(),
        "memory of both daemons against the number of open idle streams",
        Box::new(memory::streams),
    );
    add(
        "connection-memory".into(),
        "memory and processor time of one daemon against the number of peers connected to it",
        Box::new(memory::connections),
    );
    add(
        "dht-verbs".into(),
        "the verbs of the DHT in a network of 20 daemons",
        Box::new(dht::verbs),
    );
    add(
        "dht-size".into(),
        "lookup time and memory against the number of daemons in the network",
        Box::new(dht::size),
    );
    for (shape, len) in [
        (Shape::Pair, 256),
        (Shape::Pair, 64 << 10),
        (Shape::Line(10), 256),
        (Shape::Mesh(10), 256),
    ] {
        add(
            format!("pubsub-{}-{len}", shape.name()),
            "messages of so many bytes, in sequence and then in a flood",
            Box::new(move |setup, side| pubsub::run(setup, side, shape, len)),
        );
    }
    add(
        "churn".into(),
        if quick {
            "memory and open files left behind by 4,000 streams"
        } else {
            "memory and open files left behind by 20,000 streams"
        },
        Box::new(streams::churn),
    );
    cases
}
