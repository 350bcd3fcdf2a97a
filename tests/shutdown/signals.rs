//! How the daemon ends, whatever its clients and peers do.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rp2pd::wire::pb::dht_request;
use rustix::process::Signal;

use crate::support::dht::query;
use crate::support::{Control, Daemon, Handler, PATIENCE, eventually};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

fn path(daemon: &Daemon) -> std::path::PathBuf {
    match daemon.control() {
        Control::Unix(path) => path.clone(),
        Control::Tcp(addr) => panic!("{addr} is no path"),
    }
}

#[test]
fn each_stop_signal_ends_the_daemon_in_order() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut daemon = Daemon::spawn(&[LISTEN]);
        let socket = path(&daemon);
        // An idle client does not hold it up.
        let mut idle = daemon.client();
        let _ = idle.identify();
        let started = Instant::now();
        daemon.signal(signal);
        let status = daemon.wait(PATIENCE).expect("the end");
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{:?}",
            started.elapsed()
        );
        assert!(!socket.exists(), "{signal:?}: the socket file is left");
        assert_eq!(idle.pipe.read(&mut [0]).expect("an orderly end"), 0);
    }
}

/// `count` streams from `a` to a handler at `b` that both sides leave alone.
fn busy(a: &Daemon, b: &Daemon, count: usize) -> Vec<crate::support::Pipe> {
    let handler = Handler::unix();
    handler
        .register(&mut b.client(), &["/busy"], None)
        .expect("register");
    let mut ends = Vec::new();
    for _ in 0..count {
        let (_, near) = a
            .client()
            .open_stream(b.peer_id(), &["/busy"])
            .expect("open");
        let (_, far) = handler.accept(PATIENCE).expect("the stream");
        ends.extend([near, far]);
    }
    ends
}

#[test]
fn busy_pipes_have_their_grace_and_no_more() {
    for round in 0..4 {
        let (mut a, mut b) = (
            Daemon::spawn(&[LISTEN, "-shutdownGrace=1s"]),
            Daemon::spawn(&[LISTEN, "-shutdownGrace=1s"]),
        );
        a.connect_to(&b);
        let mut ends = busy(&a, &b, 50);
        // Nobody reads: every buffer on the way is full.
        let chunk = vec![7; 64 << 10];
        for end in &mut ends {
            end.socket
                .set_timeout(Duration::from_millis(20))
                .expect("set a timeout");
            while end.write(&chunk).is_ok() {}
        }
        let daemon = if round % 2 == 0 { &mut a } else { &mut b };
        let socket = path(daemon);
        let started = Instant::now();
        let status = daemon.terminate(PATIENCE);
        let took = started.elapsed();
        assert_eq!(status.code(), Some(0));
        assert!(
            took >= Duration::from_millis(900),
            "cut short after {took:?}"
        );
        assert!(
            took < Duration::from_secs(1 + 1 + 2),
            "grace exceeded: {took:?}"
        );
        assert!(!socket.exists());
    }
}

#[test]
fn a_dht_client_that_does_not_read_does_not_hold_up_the_end() {
    let mut daemon = Daemon::spawn(&[
        LISTEN,
        "-dhtServer",
        "-dhtNamespace=large",
        "-shutdownGrace=25s",
    ]);
    // More than a socket holds; held here all the same when there is nobody to send it to.
    let (key, value) = (b"/large/one", vec![7; 2 << 20]);
    let _ = daemon.client().put_value(key, &value);
    let mut stuck = daemon.client();
    let mut search = query(dht_request::Type::SearchValue);
    search.key = Some(key.to_vec().into());
    stuck.begin(search).expect("BEGIN");
    let started = Instant::now();
    let status = daemon.terminate(PATIENCE);
    assert_eq!(status.code(), Some(0));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let got = stuck.next_value();
    assert!(got.is_err(), "the value was not stuck");
}

/// Writes to `end` until every buffer on the way is full. Returns how many bytes were taken.
fn fill(end: &mut crate::support::Pipe) -> usize {
    end.socket
        .set_timeout(Duration::from_millis(20))
        .expect("set a timeout");
    let chunk = vec![7; 64 << 10];
    let mut taken = 0;
    while let Ok(n) = end.write(&chunk) {
        taken += n;
    }
    end.socket.set_timeout(PATIENCE).expect("set a timeout");
    taken
}

#[test]
fn pipes_that_finish_end_the_grace_early_and_whole() {
    let (mut a, b) = (
        Daemon::spawn(&[LISTEN, "-shutdownGrace=30s"]),
        Daemon::spawn(&[LISTEN]),
    );
    a.connect_to(&b);
    let mut ends = busy(&a, &b, 5);
    // All of it is accepted, and none of it is read before the daemon ends.
    let taken: Vec<usize> = ends.iter_mut().map(fill).collect();
    for end in &ends {
        end.socket.shutdown_write().expect("half-close");
    }
    let started = Instant::now();
    a.signal(Signal::TERM);
    let socket = path(&a);
    // New clients are not taken, running streams go on.
    assert!(eventually(PATIENCE, || !socket.exists()));
    for (index, end) in ends.iter_mut().enumerate() {
        let mut got = Vec::new();
        end.read_to_end(&mut got).expect("an orderly end");
        let sent = taken[index ^ 1];
        assert!(
            sent > 0 && got.len() == sent,
            "{} of {sent} bytes",
            got.len()
        );
    }
    let status = a.wait(PATIENCE).expect("the end");
    assert_eq!(status.code(), Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(25),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn idle_pipes_do_not_hold_up_the_end() {
    for ends_first in [true, false] {
        let (mut a, mut b) = (
            Daemon::spawn(&[LISTEN, "-shutdownGrace=30s"]),
            Daemon::spawn(&[LISTEN, "-shutdownGrace=30s"]),
        );
        a.connect_to(&b);
        let mut ends = busy(&a, &b, 20);
        // They have been used, and wait for more.
        ends[0].write_all(b"ping").expect("write");
        ends[1].read_exact(&mut [0; 4]).expect("read");
        let daemon = if ends_first { &mut a } else { &mut b };
        let started = Instant::now();
        assert_eq!(daemon.terminate(PATIENCE).code(), Some(0));
        let took = started.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        println!("20 idle pipes: {took:?}");
        // Both sides learn of the end.
        for end in &mut ends {
            assert_eq!(end.read(&mut [0]).unwrap_or(0), 0);
        }
    }
}

#[test]
fn a_peer_that_no_longer_runs_does_not_hold_up_the_end() {
    let (mut a, b) = (
        Daemon::spawn(&[LISTEN, "-shutdownGrace=1s"]),
        Daemon::spawn(&[LISTEN]),
    );
    a.connect_to(&b);
    let mut ends = busy(&a, &b, 10);
    b.pause();
    let chunk = vec![7; 64 << 10];
    for end in ends.iter_mut().step_by(2) {
        end.socket
            .set_timeout(Duration::from_millis(20))
            .expect("set a timeout");
        while end.write(&chunk).is_ok() {}
    }
    let started = Instant::now();
    let status = a.terminate(PATIENCE);
    let took = started.elapsed();
    b.resume();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(1 + 3), "{took:?}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let (mut a, b) = (
        Daemon::spawn(&[LISTEN, "-shutdownGrace=60s"]),
        Daemon::spawn(&[LISTEN]),
    );
    a.connect_to(&b);
    let mut ends = busy(&a, &b, 3);
    ends.iter_mut().for_each(|end| assert!(fill(end) > 0));
    let socket = path(&a);
    a.signal(Signal::TERM);
    // The first one has arrived, and the streams hold up the end.
    assert!(eventually(PATIENCE, || !socket.exists()));
    assert!(a.wait(Duration::from_millis(900)).is_none(), "no grace");
    let started = Instant::now();
    a.signal(Signal::INT);
    let status = a.wait(PATIENCE).expect("the end");
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert!(
        status.code().is_some() && status.signal().is_none(),
        "{status:?}"
    );
    assert!(!socket.exists());
}

#[test]
fn a_report_tells_peers_and_never_looks_like_the_banner() {
    let (a, b) = (Daemon::spawn(&[LISTEN]), Daemon::spawn(&[LISTEN]));
    a.connect_to(&b);
    let _ends = busy(&b, &a, 2);
    let banner = a.stdout();
    for round in 1..=3 {
        a.signal(Signal::USR1);
        assert!(
            eventually(PATIENCE, || a
                .stderr()
                .matches("Connections and streams (1):")
                .count()
                == round),
            "{}",
            a.stderr()
        );
    }
    assert!(eventually(PATIENCE, || a
        .stderr()
        .contains(&b.peer_id().to_base58())));
    assert!(!a.stderr().lines().any(|line| line.starts_with("Peer ID:")));
    assert_eq!(a.stdout(), banner, "stdout is the banner's alone");
    assert_eq!(a.client().list_peers().len(), 1);
}
