//! Packets that get lost, a narrow line, a long way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::{SIZE, exchange, length, serve_echo, shell};
use crate::support::{Daemon, PATIENCE, Random, eventually};

/// Transports, as `-hostAddrs` names them.
const TRANSPORTS: [&str; 2] = ["tcp/0", "udp/0/quic-v1"];

/// A line of 1 Mbit/s, in bytes.
const LINE: u64 = 125_000;

/// The way to the other end, and by how much it varies.
const DELAY: Duration = Duration::from_millis(100);
const JITTER: Duration = Duration::from_millis(25);

/// What came of the exchanges under one condition.
struct Outcome {
    done: u64,
    failed: Vec<String>,
    longest: Duration,
    took: Duration,
}

fn exchanges(near: &Daemon, far: &Daemon, time: Duration) -> Outcome {
    let begun = Instant::now();
    let (mut done, mut failed, mut longest) = (0, Vec::new(), Duration::ZERO);
    while begun.elapsed() < time || done == 0 {
        assert!(
            begun.elapsed() < time + 4 * PATIENCE,
            "none is completed: {failed:?}"
        );
        let started = Instant::now();
        match exchange(near, far, done) {
            Ok(()) => done += 1,
            Err(reason) => failed.push(reason),
        }
        longest = longest.max(started.elapsed());
    }
    Outcome {
        done,
        failed,
        longest,
        took: begun.elapsed(),
    }
}

fn tell(condition: &str, outcome: &Outcome) {
    println!(
        "{condition}: {} exchanges of {SIZE} bytes in {:.1?}, the longest {:.1?}, {} failed {:?}",
        outcome.done,
        outcome.took,
        outcome.longest,
        outcome.failed.len(),
        outcome.failed.first(),
    );
}

/// The port of the first address.
fn port(daemon: &Daemon) -> u16 {
    let port = |part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    };
    daemon.addrs()[0].iter().find_map(port).expect("a port")
}

/// Two daemons that talk over `transport`.
fn pair(transport: &str) -> (Daemon, Daemon) {
    let start = |ip: u8| Daemon::spawn(&[&format!("-hostAddrs=/ip4/10.9.0.{ip}/{transport}")]);
    let (near, far) = (start(1), start(2));
    serve_echo(&far);
    (near, far)
}

pub fn transfers_complete() {
    let time = length().expect("a length") / 9;
    // No packet is larger than a network's.
    shell("ip link set lo mtu 1500; ip link set lo gso_max_segs 1 || true");
    for transport in TRANSPORTS {
        for percent in [1, 5, 20] {
            lossy(transport, percent, time);
        }
        narrow(transport, time);
    }
    far_away(time);
}

fn lossy(transport: &str, percent: u32, time: Duration) {
    let (near, far) = pair(transport);
    near.connect_to(&far);
    let port = port(&far);
    let rule = |end| {
        format!(
            "nft add rule inet faults input meta l4proto {{ tcp, udp }} th {end} {port} \
             numgen random mod 100 \\< {percent} counter drop\n"
        )
    };
    shell(&format!(
        "nft add table inet faults\n\
         nft add chain inet faults input '{{ type filter hook input priority 0; }}'\n{}{}",
        rule("dport"),
        rule("sport")
    ));
    let outcome = exchanges(&near, &far, time);
    let rules = shell("nft list table inet faults");
    shell("nft delete table inet faults");
    let words: Vec<_> = rules.split_whitespace().collect();
    let lost = words.windows(2).filter(|pair| pair[0] == "packets");
    let lost: u64 = lost.filter_map(|pair| pair[1].parse::<u64>().ok()).sum();
    tell(
        &format!("{transport}, {percent} % lost ({lost} packets)"),
        &outcome,
    );
    assert!(lost > 0, "nothing was lost: {rules}");
    if percent <= 5 {
        assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    }
    // With packets again all is well, whatever there was.
    near.client().connect_peer(far.peer_id(), far.addrs());
    let again = eventually(PATIENCE, || exchange(&near, &far, 0).is_ok());
    assert!(again, "not as before");
}

fn narrow(transport: &str, time: Duration) {
    let (near, far) = pair(transport);
    near.connect_to(&far);
    shell("tc qdisc add dev lo root tbf rate 1mbit burst 16kb latency 300ms");
    let outcome = exchanges(&near, &far, time);
    shell("tc qdisc del dev lo root");
    tell(&format!("{transport}, 1 Mbit/s"), &outcome);
    // Each byte takes the line twice; some of the first burst is for nothing.
    let bytes = outcome.done * 2 * SIZE as u64;
    let most = LINE * (outcome.took.as_secs() + 2);
    assert!(
        bytes <= most,
        "{bytes} bytes in {:?}: no narrow line",
        outcome.took
    );
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
}

fn far_away(time: Duration) {
    let (near, far) = pair("tcp/0");
    let way = detour(SocketAddr::from(([10, 9, 0, 2], port(&far))));
    let address: Multiaddr = format!("/ip4/{}/tcp/{}", way.ip(), way.port())
        .parse()
        .expect("an address");
    near.client().connect_peer(far.peer_id(), &[address]);
    let begun = Instant::now();
    exchange(&near, &far, 0).expect("an exchange");
    let least = 2 * (DELAY - JITTER);
    assert!(
        begun.elapsed() >= least,
        "no long way: {:?}",
        begun.elapsed()
    );
    let outcome = exchanges(&near, &far, time);
    tell("tcp/0, 200 ms and 50 ms of jitter there and back", &outcome);
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
}

/// A long way to `target`, for connections to the address that is returned.
fn detour(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("10.9.0.2:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for (number, inbound) in (0..).zip(listener.incoming().flatten()) {
            let Ok(outbound) = TcpStream::connect(target) else {
                continue;
            };
            for (seed, from, to) in [
                (2 * number, &inbound, &outbound),
                (2 * number + 1, &outbound, &inbound),
            ] {
                let ends = (from.try_clone(), to.try_clone());
                if let (Ok(from), Ok(to)) = ends {
                    delay(seed, from, to);
                }
            }
        }
    });
    address
}

/// Passes on what comes, later. Nothing overtakes.
fn delay(seed: u64, mut from: TcpStream, mut to: TcpStream) {
    let (sender, receiver) = sync_channel::<(Instant, Vec<u8>)>(1024);
    std::thread::spawn(move || {
        let mut random = Random::seeded(seed);
        let spread = usize::try_from(2 * JITTER.as_micros()).expect("small");
        let mut chunk = [0; 1400];
        while let Ok(read @ 1..) = from.read(&mut chunk) {
            let jitter = Duration::from_micros(random.below(spread) as u64);
            let due = Instant::now() + DELAY - JITTER + jitter;
            if sender.send((due, chunk[..read].to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in receiver {
            // The way itself; nobody waits for it.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
