//! Many daemons, rp2pd and Go's in turn, that all publish and all are subscribed.
//!
//! Small by default; `RP2PD_TEST_PUBSUB_NODES=20 RP2PD_TEST_PUBSUB_SECONDS=180` is the whole.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use super::install;
use super::suite::trial;
use crate::support::pubsub::Subscription;
use crate::support::{Daemon, Launch, PATIENCE, Random, eventually, payload};

const SUITE: &str = "pubsub_crowd";
const TOPIC: &str = "crowd";
/// Messages in a second, of all nodes together.
const RATE: u32 = 50;
const LEN: usize = 1 << 10;
/// Peers that each node dials.
const DIALS: usize = 4;
/// Silence after which a subscriber has had everything.
const QUIET: Duration = Duration::from_secs(5);
/// What is published until the meshes are there, and how long it may be silent for a round of it.
const FIRST: &[u8] = b"first";
const BREATH: Duration = Duration::from_millis(100);
/// Share of the messages that may be lost.
const LOST: f64 = 0.001;

pub fn trials() -> Vec<Trial> {
    vec![trial(SUITE, "all_get_everything_once", crowd)]
}

fn setting(name: &str, default: usize) -> usize {
    let text = std::env::var(format!("RP2PD_TEST_PUBSUB_{name}"));
    text.ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Waits until every node has had a message of every other. Go's daemon grafts at its heartbeats
/// alone, and loses what it publishes before.
fn await_meshes(nodes: &[Daemon], subscriptions: &mut [Subscription]) -> Result<(), String> {
    let mut authors = vec![HashSet::new(); nodes.len()];
    let all = eventually(2 * PATIENCE, || {
        let published = nodes
            .iter()
            .all(|node| node.client().publish(TOPIC, FIRST).is_ok());
        for (subscription, authors) in subscriptions.iter_mut().zip(&mut authors) {
            while let Ok(message) = subscription.within(BREATH) {
                authors.insert(message.from);
            }
        }
        published && authors.iter().all(|authors| authors.len() == nodes.len())
    });
    if all {
        return Ok(());
    }
    let counts: Vec<_> = authors.iter().map(HashSet::len).collect();
    Err(format!(
        "of {} authors the nodes heard {counts:?}",
        nodes.len()
    ))
}

fn crowd() -> Result<(), String> {
    let (count, seconds) = (setting("NODES", 6), setting("SECONDS", 5));
    let go = install::GO.as_ref()?.join("p2pd");
    let mut random = Random::new("crowd");
    let mut nodes: Vec<Daemon> = Vec::new();
    for index in 0..count {
        let launch = match index % 2 {
            0 => Launch::new(),
            _ => Launch::new().binary(&go),
        };
        let node = launch
            .args(["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-pubsub"])
            .try_spawn()?;
        for _ in 0..DIALS.min(index) {
            let other = &nodes[random.below(index)];
            node.client().connect_to(other.peer_id(), other.addrs())?;
        }
        nodes.push(node);
    }
    let subscriptions: Result<Vec<_>, _> = nodes
        .iter()
        .map(|node| node.client().subscribe(TOPIC))
        .collect();
    let mut subscriptions = subscriptions?;
    await_meshes(&nodes, &mut subscriptions)?;

    let messages = RATE * u32::try_from(seconds).map_err(|error| error.to_string())?;
    let readers: Vec<_> = subscriptions
        .into_iter()
        .map(|mut subscription| {
            thread::spawn(move || {
                let (mut seen, mut twice) = (HashSet::new(), 0_u32);
                while let Ok(message) = subscription.within(QUIET) {
                    let data = message.data.unwrap_or_default();
                    let number: Option<[u8; 4]> = data.get(..4).and_then(|n| n.try_into().ok());
                    if data[..] != *FIRST && !seen.insert(number.map(u32::from_be_bytes)) {
                        twice += 1;
                    }
                }
                (seen.len(), twice)
            })
        })
        .collect();
    let mut clients: Vec<_> = nodes.iter().map(Daemon::client).collect();
    let started = Instant::now();
    for number in 0..messages {
        let mut data = payload(LEN, number.into());
        data[..4].copy_from_slice(&number.to_be_bytes());
        clients[number as usize % count].publish(TOPIC, &data)?;
        // The rate is what is asked for.
        let next = started + Duration::from_secs(1) * (number + 1) / RATE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let (mut seen, mut twice) = (0, 0);
    for reader in readers {
        let (of_one, again) = reader.join().map_err(|_| "a reader panicked")?;
        seen += of_one;
        twice += again;
    }
    let wanted = messages as usize * count;
    println!("{seen} of {wanted} messages arrived, {twice} twice");
    for node in nodes.iter().step_by(2) {
        println!("RSS {} KiB, {} ticks", node.rss_kib(), node.cpu_ticks());
    }
    if twice > 0 {
        return Err(format!("{twice} messages came twice"));
    }
    let lost = 1.0 - seen as f64 / wanted as f64;
    if lost > LOST {
        return Err(format!("{seen} of {wanted} messages arrived"));
    }
    Ok(())
}
