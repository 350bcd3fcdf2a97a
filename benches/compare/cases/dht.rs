//! A DHT of many daemons of one kind.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use libp2p::identity::Keypair;
use sha2::{Digest, Sha256};

use super::Setup;
use crate::binary::Side;
use crate::client::{Control, Peer};
use crate::daemon::{DHT, Daemon};
use crate::process;
use crate::sample::{Curve, Outcome, Point, Summary};

/// Daemons in the network whose verbs are measured.
const DAEMONS: usize = 20;

/// Most peers that a lookup yields.
const K: usize = 20;

/// Longest wait for a daemon to know its neighbours.
const MEET: Duration = Duration::from_secs(60);

/// Time between two looks at that.
const POLL: Duration = Duration::from_millis(20);

/// Time for a network to come to rest before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Share of the free memory that a network may take; a curve ends before it takes more.
const SHARE: f64 = 0.8;

struct Network<'a> {
    side: &'a Side,
    daemons: Vec<Daemon>,
    peers: Vec<Peer>,
}

impl<'a> Network<'a> {
    fn new(side: &'a Side) -> Self {
        Self {
            side,
            daemons: Vec::new(),
            peers: Vec::new(),
        }
    }

    /// Starts daemons until there are `count`; the first introduces each to the others.
    fn grow(&mut self, count: usize) -> Result<()> {
        let before = self.daemons.len();
        while self.daemons.len() < count {
            let daemon = Daemon::start(self.side, Some(DHT))?;
            self.peers.push(daemon.identify()?);
            if let Some(first) = self.peers.first().filter(|_| !self.daemons.is_empty()) {
                daemon.control()?.connect(first)?;
            }
            self.daemons.push(daemon);
        }
        let expected = K.min(count - 1);
        for daemon in &self.daemons[before..] {
            let deadline = Instant::now() + MEET;
            loop {
                // Errors say that the table is empty: nobody has been admitted yet.
                let met = daemon.control()?.closest_peers(b"meet").unwrap_or(0);
                if met >= expected {
                    break;
                }
                ensure!(
                    Instant::now() < deadline,
                    "a daemon knows {met} peers, not {expected}"
                );
                sleep(POLL);
            }
        }
        Ok(())
    }

    /// A connection to the daemon whose turn it is.
    fn at(&self, turn: usize) -> Result<Control> {
        self.daemons[turn % self.daemons.len()].control()
    }

    /// Resident memory of each daemon, MiB: the median.
    fn memory(&self) -> Result<f64> {
        let sizes = self
            .daemons
            .iter()
            .map(|daemon| Ok(process::memory(daemon.pid())?.total / 1024.0))
            .collect::<Result<Vec<f64>>>()?;
        Ok(Summary::of(&sizes).context("no daemon")?.median)
    }
}

/// Times of one verb.
struct Times(Histogram<u64>);

impl Times {
    /// Runs `verb` for each turn, on a connection that is there before the clock runs.
    fn of(
        network: &Network<'_>,
        turns: usize,
        verb: impl Fn(&mut Control, usize) -> Result<()>,
    ) -> Result<Self> {
        let mut times = Histogram::new(3)?;
        for turn in 0..turns {
            let mut control = network.at(turn)?;
            let begin = Instant::now();
            verb(&mut control, turn)?;
            times.record(u64::try_from(begin.elapsed().as_micros())?)?;
        }
        Ok(Self(times))
    }

    fn ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    fn tell(&self, outcome: &mut Outcome, what: &str) {
        for (name, quantile, goal) in [("p50", 0.5, 2.0), ("p99", 0.99, 3.0)] {
            outcome.low(format!("DHT {what}, {name}"), "ms", self.ms(quantile));
            outcome.goal(goal);
        }
    }
}

/// The verbs, one after another, each from all daemons by turns.
pub(super) fn verbs(setup: &Setup, side: &Side) -> Result<Outcome> {
    let mut network = Network::new(side);
    network.grow(DAEMONS)?;
    let turns = setup.pick(60, 400);
    let mut outcome = Outcome::default();

    let times = Times::of(&network, turns, |control, turn| {
        // Somebody else, another one each time round.
        let step = 1 + (turn / DAEMONS) % (DAEMONS - 1);
        control.find_peer(&network.peers[(turn + step) % DAEMONS])
    })?;
    times.tell(&mut outcome, "find peer");

    let times = Times::of(&network, turns, |control, turn| {
        let found = control.closest_peers(&content("closest", turn))?;
        ensure!(found > 0, "no closest peers");
        Ok(())
    })?;
    times.tell(&mut outcome, "closest peers");

    let times = Times::of(&network, turns, |control, turn| {
        control.provide(&content("provided", turn))
    })?;
    times.tell(&mut outcome, "provide");

    for (what, count) in [("find one provider", 1), ("find twenty providers", 20)] {
        let times = Times::of(&network, turns, |control, turn| {
            // What another daemon provides.
            let found = control.find_providers(&content("provided", (turn + 1) % turns), count)?;
            ensure!(found > 0, "no provider found");
            Ok(())
        })?;
        times.tell(&mut outcome, what);
    }

    // Keys whose ids do not hold them, as those of RSA, but made in no time.
    let records: Vec<_> = (0..turns).map(|_| record()).collect();
    let times = Times::of(&network, turns, |control, turn| {
        let (key, value) = &records[turn];
        control.put_value(key, value)
    })?;
    times.tell(&mut outcome, "put");

    let times = Times::of(&network, turns, |control, turn| {
        let (key, value) = &records[(turn + 1) % turns];
        ensure!(control.get_value(key)? == *value, "another value");
        Ok(())
    })?;
    times.tell(&mut outcome, "get");

    sleep(SETTLE);
    outcome.low("DHT memory per daemon", "MiB", network.memory()?);
    outcome.goal(5.0);
    Ok(outcome)
}

/// Lookup time and memory against the number of daemons.
pub(super) fn size(setup: &Setup, side: &Side) -> Result<Outcome> {
    let mut network = Network::new(side);
    let mut outcome = Outcome::default();
    let (mut lookups, mut memories) = (Vec::new(), Vec::new());
    let steps = setup.pick([10, 20, 40].as_slice(), &[10, 50, 100, 200]);
    for &count in steps {
        let each = memories.last().map_or(0.0, |last: &Point| last.y);
        let further = (count - network.daemons.len()) as f64;
        if each * further > process::available_memory()? / 1024.0 * SHARE {
            break;
        }
        network.grow(count)?;
        let turns = setup.pick(60, 200);
        let times = Times::of(&network, turns, |control, turn| {
            control.closest_peers(&content("size", turn)).map(drop)
        })?;
        sleep(SETTLE);
        let memory = network.memory()?;
        let what = format!("DHT of {count}");
        outcome.low(format!("{what}, closest peers, p50"), "ms", times.ms(0.5));
        outcome.low(format!("{what}, memory per daemon"), "MiB", memory);
        let x = count as f64;
        let lookup = times.ms(0.5);
        lookups.push(Point { x, y: lookup });
        memories.push(Point { x, y: memory });
    }
    outcome.curves.push(Curve {
        name: "dht-lookup",
        x: "daemons in the network",
        y: "GET_CLOSEST_PEERS, median, ms",
        points: lookups,
    });
    outcome.curves.push(Curve {
        name: "dht-memory",
        x: "daemons in the network",
        y: "RSS of one daemon, median, MiB",
        points: memories,
    });
    Ok(outcome)
}

/// A binary CID (version 1, raw, sha2-256), different for each turn.
fn content(what: &str, turn: usize) -> Bytes {
    let mut cid = vec![0x01, 0x55, 0x12, 0x20];
    cid.extend_from_slice(&Sha256::digest(format!("{what} {turn}")));
    cid.into()
}

/// A public key under its own name: the one kind of record that every daemon accepts.
fn record() -> (Bytes, Bytes) {
    let public = Keypair::generate_ecdsa().public();
    let key = [b"/pk/".as_slice(), &public.to_peer_id().to_bytes()].concat();
    (key.into(), public.encode_protobuf().into())
}
