//! When the daemon ends by itself (COMPATIBILITY.md 4.22).

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use super::*;
use crate::support::{Control, Launch};

fn socket(daemon: &Daemon) -> PathBuf {
    match daemon.control() {
        Control::Unix(path) => path.clone(),
        Control::Tcp(_) => panic!("a unix socket"),
    }
}

/// The daemon has ended by itself, in order.
fn assert_ended(mut daemon: Daemon) {
    let path = socket(&daemon);
    let status = daemon.wait(PATIENCE).expect("it goes on");
    assert_eq!(status.code(), Some(0));
    assert!(!path.exists(), "the socket file is left behind");
}

#[test]
fn the_last_connection_takes_the_daemon_with_it() {
    for idle in ["-idleTimeout=0s", "-idleTimeout=1h"] {
        let mut daemon = node_with(&[idle]);
        let (one, two) = (daemon.persistent(), daemon.persistent());
        // Requests and streams do not count.
        let mut plain = daemon.client();
        let _ = plain.identify();
        drop(one);
        assert_eq!(daemon.wait(SOON), None, "one is left");
        let _ = plain.identify();
        drop(two);
        assert_ended(daemon);
    }
}

#[test]
fn a_half_close_of_the_last_connection_is_its_end() {
    let daemon = node();
    let one = daemon.persistent();
    one.client.pipe.socket.shutdown_write().expect("half-close");
    assert_ended(daemon);
}

#[test]
fn stay_alive_outlives_the_last_connection() {
    let mut daemon = node_with(&["-stayAlive"]);
    for _ in 0..3 {
        // The one before may be about to be noticed as gone.
        let mut one = daemon.persistent();
        let freed = eventually(PATIENCE, || one.add("p", false).is_ok());
        assert!(freed, "the handler of a connection that has gone stays");
        drop(one);
    }
    assert_eq!(daemon.wait(SOON), None);
    assert!(daemon.terminate(PATIENCE).success());
}

#[test]
fn a_daemon_that_nobody_upgrades_ends_in_time() {
    let started = Instant::now();
    let daemon = node_with(&["-idleTimeout=1s"]);
    let mut plain = daemon.client();
    while started.elapsed() < Duration::from_millis(500) {
        let _ = plain.identify();
    }
    assert_ended(daemon);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[test]
fn the_first_connection_stops_the_clock_for_good() {
    // Enough for a busy machine to get from the start to the first connection.
    let mut daemon = node_with(&["-idleTimeout=3s"]);
    let one = daemon.persistent();
    assert_eq!(daemon.wait(Duration::from_secs(4)), None);
    drop(one);
    assert_ended(daemon);
}

/// Either the daemon keeps a connection it has taken, or it takes none and ends.
#[test]
fn the_race_of_the_first_connection_with_the_clock_has_two_ends_only() {
    let idle = Duration::from_millis(150);
    let (mut kept, mut ended) = (0, 0);
    let starts = count("RP2PD_TEST_IDLE_STARTS", 40);
    for round in 0..starts {
        let mut daemon = Launch::new().args(["-idleTimeout=150ms"]).spawn();
        let started = Instant::now();
        // From 20 ms before to 20 ms after, seen from the first answer to IDENTIFY.
        let shift = Duration::from_millis((round * 40 / starts) as u64);
        let at = started + idle - Duration::from_millis(20) + shift;
        while Instant::now() < at {
            std::hint::spin_loop();
        }
        match Persistent::connect(daemon.control()) {
            Ok(mut connection) => {
                connection.add("p", false).expect("a connection that works");
                // Long after the time is up.
                assert_eq!(
                    daemon.wait(Duration::from_millis(100)),
                    None,
                    "round {round}"
                );
                connection.add("q", false).expect("it still works");
                kept += 1;
                drop(connection);
            }
            Err(error) => {
                let refused = matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::NotFound
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::BrokenPipe
                );
                assert!(refused, "round {round}: {error:?}");
                ended += 1;
            }
        }
        assert_ended(daemon);
    }
    println!("{kept} kept, {ended} ended of {starts}");
    assert_eq!(kept + ended, starts);
}

#[test]
fn a_stop_lets_calls_finish_and_takes_no_more() {
    let (a, b) = pair();
    let mut a = a;
    let mut handler = handler(&b, "p");
    let mut caller = a.persistent();
    let id = caller.begin(b.peer_id(), "p", b"x");
    let incoming = handler.incoming().expect("the call");
    let started = Instant::now();
    a.signal(rustix::process::Signal::TERM);
    let path = socket(&a);
    assert!(eventually(PATIENCE, || !path.exists()), "no stop");
    let refused = caller.call(b.peer_id(), "p", b"y").failure();
    assert_eq!(refused, "daemon is shutting down");
    handler
        .answer(&incoming.id, Ok(b"in time".to_vec()))
        .expect("answer");
    assert_eq!(caller.outcome(&id).response(), b"in time");
    let status = a.wait(PATIENCE).expect("the end");
    assert_eq!(status.code(), Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_stop_does_not_wait_for_connections_without_calls() {
    let mut daemon = node();
    let _idle = daemon.persistent();
    let started = Instant::now();
    assert!(daemon.terminate(PATIENCE).success());
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}
