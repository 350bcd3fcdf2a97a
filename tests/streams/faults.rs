//! Ends that die: the truth is not hidden, and nothing of them stays.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::*;
use crate::support::{Control, Random, payload};

/// What a writer meant to send, and what came of it.
const MEANT: usize = 16 << 20;

#[test]
fn a_daemon_killed_in_mid_transfer_never_makes_it_look_whole() {
    let mut random = Random::new("a_daemon_killed_in_mid_transfer");
    let times = count("RP2PD_TEST_KILLS", 20);
    let sent = payload(MEANT, random.next());
    for round in 0..times {
        let (mut a, mut b, handler) = pair();
        let (mut near, mut far) = stream(&a, &b, &handler);
        let victim = if round % 2 == 0 { &mut a } else { &mut b };
        // The bytes before the kill; from either end of the pipe, in turn.
        let before = random.below(4 << 20);
        let (from, to) = if round % 4 < 2 {
            (&mut near, &mut far)
        } else {
            (&mut far, &mut near)
        };
        let mut got = vec![0; before];
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| from.write_all(&sent));
            to.read_exact(&mut got)
                .expect("what comes before the fault");
            victim.signal(Signal::KILL);
            let killed = Instant::now();
            // EOF or an error, whatever the socket of a dead process says.
            let _ = to.read_to_end(&mut got);
            assert!(
                killed.elapsed() < Duration::from_secs(5),
                "{:?}",
                killed.elapsed()
            );
            assert!(writer.join().expect("no panic").is_err(), "all was written");
        });
        assert!(victim.wait(PATIENCE).is_some(), "the fault did not happen");
        assert!(
            got.len() < MEANT,
            "round {round}: the whole length in spite of the fault"
        );
        assert!(sent.starts_with(&got), "round {round}: wrong bytes");
        // The daemon that lives says so to its own clients, and works.
        let living = if round % 2 == 0 { &b } else { &a };
        assert!(support::eventually(PATIENCE, || living
            .client()
            .list_peers()
            .is_empty()));
    }
}

/// A client in a process of its own, so that it can be killed: it opens a stream and then
/// copies nothing and holds it.
fn client_process(a: &Daemon, b: &Daemon) -> std::process::Child {
    let Control::Unix(path) = a.control() else {
        panic!("a unix socket");
    };
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "faults::hold_a_stream", "--ignored"])
        .env("RP2PD_TEST_HOLD", path)
        .env("RP2PD_TEST_HOLD_PEER", b.peer_id().to_base58())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.expect("start the client")
}

/// Not a test of its own: the body of [`client_process`].
#[test]
#[ignore = "runs in a process of its own, started by another test"]
fn hold_a_stream() {
    let Some(path) = std::env::var_os("RP2PD_TEST_HOLD") else {
        return;
    };
    let peer = std::env::var("RP2PD_TEST_HOLD_PEER").expect("a peer");
    let control = Control::Unix(path.into());
    let client = crate::support::ControlClient::connect(&control).expect("connect");
    let opened = client.open_stream(peer.parse().expect("a peer id"), &["/s"]);
    let (_, mut pipe) = opened.expect("open");
    pipe.write_all(b"held").expect("write");
    // Until the parent ends its side, which it never does.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_client_killed_in_mid_pipe_ends_its_stream_at_the_remote() {
    let (a, b, handler) = pair();
    let fds = (a.fds(), b.fds());
    for round in 0..count("RP2PD_TEST_CLIENT_KILLS", 20) {
        let mut client = client_process(&a, &b);
        let (_, mut far) = handler.accept(PATIENCE).expect("the stream");
        far.socket.set_timeout(PATIENCE).expect("set a timeout");
        let mut held = [0; 4];
        far.read_exact(&mut held).expect("the stream is in use");
        // The handler may be idle or writing.
        let chunk = [5; 4096];
        if round % 2 == 0 {
            far.write_all(&chunk).expect("write");
        }
        client.kill().expect("kill the client");
        let killed = Instant::now();
        client.wait().expect("the client's end");
        assert_eq!(far.read(&mut held).unwrap_or(0), 0);
        assert!(
            killed.elapsed() < Duration::from_secs(2),
            "{:?}",
            killed.elapsed()
        );
        // And its writes fail soon.
        while far.write_all(&chunk).is_ok() {
            assert!(killed.elapsed() < Duration::from_secs(4), "writes for ever");
        }
    }
    assert_fds(&a, fds.0, "the opener");
    assert_fds(&b, fds.1, "the handler's daemon");
}

#[test]
fn disconnect_cuts_a_transfer_visibly() {
    let (a, b, handler) = pair();
    let (mut near, mut far) = stream(&a, &b, &handler);
    let sent = payload(MEANT, 4);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| near.write_all(&sent));
        let mut got = vec![0; 1 << 20];
        far.read_exact(&mut got).expect("what comes before");
        a.client().disconnect(b.peer_id());
        let _ = far.read_to_end(&mut got);
        assert!(
            got.len() < MEANT && sent.starts_with(&got),
            "{} bytes",
            got.len()
        );
        assert!(writer.join().expect("no panic").is_err(), "all was written");
    });
}
