//! The DHT in a network of several daemons on 127.0.0.1, and of peers whose answers the test
//! writes by hand (COMPATIBILITY.md 6).
//!
//! `RP2PD_TEST_DAEMON` names another daemon to test, Go's own for instance.

#[path = "../support/mod.rs"]
mod support;

mod bootstrap;
mod hostile;
mod lookups;
mod modes;
mod newcomers;
mod providers;
mod records;
mod restart;
mod served;
mod shares;
mod smuggling;
mod waiting;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use support::{Daemon, Launch, PATIENCE, eventually};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

/// A launch of a daemon that listens on 127.0.0.1, in this DHT mode.
fn launch(mode: &str) -> Launch {
    Launch::new().args([mode, LISTEN])
}

fn server() -> Daemon {
    launch("-dhtServer").spawn()
}

fn client_mode() -> Daemon {
    launch("-dhtClient").spawn()
}

fn servers<const N: usize>() -> [Daemon; N] {
    std::array::from_fn(|_| server())
}

/// Connects two servers and waits until each has the other in its table.
fn join(a: &Daemon, b: &Daemon) {
    a.connect_to(b);
    a.client().await_table(&[b.peer_id()]);
    b.client().await_table(&[a.peer_id()]);
}

/// Servers, all of them connected to the first and to no other.
fn star<const N: usize>() -> [Daemon; N] {
    let daemons = servers();
    let [hub, others @ ..] = daemons.as_slice() else {
        panic!("a star has a hub");
    };
    for daemon in others {
        join(hub, daemon);
    }
    daemons
}

/// Servers in a row, each connected to the next.
fn row<const N: usize>() -> [Daemon; N] {
    let daemons = servers();
    for pair in daemons.windows(2) {
        join(&pair[0], &pair[1]);
    }
    daemons
}

/// How far `peer` is from `key` in the key space.
fn distance(key: &[u8], peer: PeerId) -> [u8; 32] {
    let (key, peer) = (Sha256::digest(key), Sha256::digest(peer.to_bytes()));
    std::array::from_fn(|at| key[at] ^ peer[at])
}

const TABLE: &str = "DHT Routing Table:\n";

/// How a report of SIGUSR1 ends.
const REPORT_END: &str = "End of limits\n";

/// The routing table, as the report of SIGUSR1 tells it.
fn table(daemon: &Daemon) -> HashSet<PeerId> {
    let reports = || daemon.stderr().matches(REPORT_END).count();
    let before = reports();
    // A request for a report is dropped while another report is being written.
    let told = eventually(PATIENCE, || {
        daemon.signal(Signal::USR1);
        eventually(Duration::from_secs(1), || reports() > before)
    });
    assert!(told, "no report");
    let text = daemon.stderr();
    let (reports, _) = text.rsplit_once(REPORT_END).expect("a report");
    let last = reports.rsplit(TABLE).next().expect("a table");
    let table = last.split("records:").next().expect("a table");
    let peers = table.lines().filter_map(|line| line.strip_prefix('\t'));
    peers.map(|peer| peer.parse().expect("a peer id")).collect()
}

/// Polls the routing table until `wanted` holds; false if it does not within `limit`. All output of
/// the daemon is kept, so the pause between two reports is half a second.
fn await_report(
    daemon: &Daemon,
    limit: Duration,
    wanted: impl Fn(&HashSet<PeerId>) -> bool,
) -> bool {
    let deadline = Instant::now() + limit;
    while !wanted(&table(daemon)) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    true
}
