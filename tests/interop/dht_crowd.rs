//! Thirty nodes of three kinds: 500 announcements, each looked for from somewhere else.
//!
//! Takes minutes and all processors, so it runs only when it is asked for:
//! `cargo test --test interop dht_crowd -- --ignored --nocapture`. `RP2PD_TEST_SEED` repeats a
//! run, `RP2PD_TEST_PROVIDES` changes the count.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use super::dht::{Node, Start};
use super::suite::trial;
use crate::support::dht::cid;
use crate::support::{Daemon, PATIENCE, Random, eventually};

const OWN: usize = 15;
const GO: usize = 8;
const HIVEMIND: usize = 7;
/// Requests under way at once.
const AT_ONCE: usize = 4;
/// Of 100 announcements, those that must be found.
const FOUND: usize = 99;
const P95: Duration = Duration::from_secs(2);

pub fn trials() -> Vec<Trial> {
    let thirty = trial("dht_crowd", "thirty_nodes_of_three_kinds", thirty);
    vec![thirty.with_ignored_flag(true)]
}

/// An announcement: who makes it, who looks for it.
struct Job {
    number: usize,
    provider: usize,
    seeker: usize,
}

fn thirty() -> Result<(), String> {
    let mut random = Random::new("dht_crowd");
    let daemons = start()?;
    let provides = std::env::var("RP2PD_TEST_PROVIDES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(500);
    let jobs: Vec<Job> = (0..provides)
        .map(|number| {
            let provider = random.below(daemons.len());
            let step = 1 + random.below(daemons.len() - 1);
            Job {
                number,
                provider,
                seeker: (provider + step) % daemons.len(),
            }
        })
        .collect();

    let announced = timed(&jobs, |job| {
        let content = content(job.number);
        daemons[job.provider].client().provide(&content).is_ok()
    });
    let found = timed(&jobs, |job| {
        let providers = daemons[job.seeker]
            .client()
            .find_providers(&content(job.number), Some(1));
        let wanted = daemons[job.provider].peer_id();
        providers.is_ok_and(|found| found.iter().any(|(peer, _)| *peer == wanted))
    });
    let announced = summary("announced", jobs.len(), announced);
    let found = summary("found", jobs.len(), found);
    for (count, p95) in [announced, found] {
        if count * 100 < jobs.len() * FOUND || p95 > P95 {
            return Err(format!("{count} of {}, p95 {p95:?}", jobs.len()));
        }
    }
    Ok(())
}

fn content(number: usize) -> Vec<u8> {
    cid(format!("crowd {number}").as_bytes())
}

/// Every node knows the first of each kind; the rest they learn from each other.
fn start() -> Result<Vec<Daemon>, String> {
    let kinds: [(usize, Start); 3] = [(OWN, Node::own), (GO, Node::go), (HIVEMIND, Node::hivemind)];
    let mut daemons = Vec::new();
    for (count, start) in kinds {
        for _ in 0..count {
            match start()? {
                Node::Daemon(daemon) => daemons.push(*daemon),
                Node::Python(_) => return Err("not a daemon".into()),
            }
        }
    }
    let hubs = [0, OWN, OWN + GO];
    for (at, daemon) in daemons.iter().enumerate() {
        for hub in hubs {
            if hub != at {
                let hub = &daemons[hub];
                daemon.client().connect_to(hub.peer_id(), hub.addrs())?;
            }
        }
    }
    for (at, daemon) in daemons.iter().enumerate() {
        let mut known = Ok(0);
        // k is 20: a node that is close to a key knows no more than that of its neighbours.
        let met = eventually(PATIENCE, || {
            let closest = daemon.client().closest_peers(b"crowd");
            known = closest.map(|closest| closest.len());
            known.as_ref().is_ok_and(|known| *known == 20)
        });
        if !met {
            return Err(format!("node {at} finds {known:?} closest peers"));
        }
    }
    Ok(daemons)
}

/// Runs all jobs, some at once; the times of those that succeeded.
fn timed(jobs: &[Job], run: impl Fn(&Job) -> bool + Sync) -> Vec<Duration> {
    let waiting = Mutex::new(jobs.iter());
    let times = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let job = waiting.lock().expect("no panic before").next();
                    let Some(job) = job else { break };
                    let begun = Instant::now();
                    if run(job) {
                        let took = begun.elapsed();
                        times.lock().expect("no panic before").push(took);
                    }
                }
            });
        }
    });
    times.into_inner().expect("no panic before")
}

/// Prints the figures; how many succeeded, and the 95th percentile of their times.
fn summary(what: &str, of: usize, mut times: Vec<Duration>) -> (usize, Duration) {
    times.sort_unstable();
    let at = |percent: usize| {
        let last = times.len().saturating_sub(1);
        let index = (times.len() * percent / 100).min(last);
        times.get(index).copied().unwrap_or(Duration::MAX)
    };
    println!(
        "{what}: {} of {of}, p50 {:?}, p95 {:?}, p99 {:?}",
        times.len(),
        at(50),
        at(95),
        at(99)
    );
    (times.len(), at(95))
}
