//! A routing table among peers of public networks, whose addresses exist in the namespace alone.

use std::collections::HashSet;
use std::time::Duration;

use libp2p::PeerId;
use rustix::process::Signal;

use super::faults::shell;
use crate::support::{Daemon, PATIENCE, eventually};

/// Peers of the network that has many.
const CROWD: usize = 40;

/// Peers of networks of their own.
const OTHERS: usize = 12;

/// Peers of one network in a bucket, at most.
const SHARE: usize = 10;

/// Starts a server that listens on `ip`, and connects `node` to it.
fn server(node: &Daemon, ip: &str) -> Daemon {
    let server = start(ip);
    node.connect_to(&server);
    server
}

fn start(ip: &str) -> Daemon {
    Daemon::spawn(&["-dhtServer", &format!("-hostAddrs=/ip4/{ip}/tcp/0")])
}

/// The buckets of the routing table, as the report of SIGUSR1 tells them.
fn buckets(daemon: &Daemon) -> Vec<Vec<PeerId>> {
    let reports = || daemon.stderr().matches("End of limits\n").count();
    let before = reports();
    let told = eventually(PATIENCE, || {
        daemon.signal(Signal::USR1);
        eventually(Duration::from_secs(1), || reports() > before)
    });
    assert!(told, "no report");
    let text = daemon.stderr();
    let report = text
        .rsplit("DHT Routing Table:\n")
        .next()
        .expect("a report");
    let table = report.split("\nrecords:").next().expect("a table");
    let mut buckets = Vec::new();
    for line in table.lines() {
        match line.strip_prefix('\t') {
            None => buckets.push(Vec::new()),
            Some(peer) => {
                let bucket = buckets.last_mut().expect("a bucket");
                bucket.push(peer.parse().expect("a peer id"));
            }
        }
    }
    buckets
}

pub fn none_takes_more_than_its_share() {
    let add = |ip: &str| format!("ip address add {ip}/32 dev lo\n");
    let crowd: Vec<String> = (1..=CROWD).map(|host| format!("8.9.0.{host}")).collect();
    let others: Vec<String> = (1..=OTHERS)
        .map(|second| format!("9.{second}.0.1"))
        .collect();
    let all = crowd.iter().chain(&others).map(|ip| add(ip));
    shell(&(all.collect::<String>() + &add("8.8.0.1")));
    let node = start("8.8.0.1");
    let first = server(&node, &others[0]);
    let crowd: Vec<Daemon> = crowd.iter().map(|ip| server(&node, ip)).collect();
    let ids: HashSet<PeerId> = crowd.iter().map(Daemon::peer_id).collect();
    let of_crowd = |bucket: &[PeerId]| bucket.iter().filter(|peer| ids.contains(peer)).count();
    let table = buckets(&node);
    let sizes: Vec<usize> = table.iter().map(|bucket| of_crowd(bucket)).collect();
    println!("one network's peers in each bucket: {sizes:?}");
    assert!(
        sizes.iter().sum::<usize>() < CROWD,
        "there was room for all"
    );
    assert_eq!(sizes.iter().max(), Some(&SHARE), "{sizes:?}");
    // Half of a bucket is left to others.
    let others: Vec<Daemon> = others[1..].iter().map(|ip| server(&node, ip)).collect();
    let table: HashSet<PeerId> = buckets(&node).concat().into_iter().collect();
    for other in others.iter().chain([&first]) {
        assert!(
            table.contains(&other.peer_id()),
            "no room for another network"
        );
    }
}
