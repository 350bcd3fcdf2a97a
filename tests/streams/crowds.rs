//! Many streams on one connection, at once and one after another.

use std::io::{Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;
use crate::support::payload;

const QUIC: &str = "-hostAddrs=/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

/// One crowd at a time: two of them need more descriptors than this process may have.
static CROWD: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // A crowd that failed is no reason for the next one to fail.
    CROWD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens `open` streams, uses them all, and then the connection still works.
fn crowd(flag: &str, open: usize) {
    let _alone = alone();
    let (a, b, handler) = pair_with(|| Daemon::spawn(&[flag]));
    let fds = (a.fds(), b.fds());
    let mut ends = Vec::with_capacity(open);
    for _ in 0..open {
        ends.push(stream(&a, &b, &handler));
    }
    for (index, (near, far)) in ends.iter_mut().enumerate() {
        let sent = index.to_le_bytes();
        near.write_all(&sent).expect("write");
        let mut got = [0; size_of::<usize>()];
        far.read_exact(&mut got).expect("read");
        assert_eq!(got, sent, "stream {index}");
    }
    println!(
        "{flag}: {open} open streams: RSS {} and {} KiB",
        a.rss_kib(),
        b.rss_kib()
    );
    assert_eq!(a.client().list_peers().len(), 1);
    drop(ends);
    assert_fds(&a, fds.0, "the opener");
    assert_fds(&b, fds.1, "the handler's daemon");
    let (near, mut far) = stream(&a, &b, &handler);
    far.write_all(b"usable").expect("write");
    drop(far);
    assert_eq!(near.exchange(b""), b"usable");
}

/// Both ends of each stream are descriptors of this process.
fn open_at_once() -> usize {
    count("RP2PD_TEST_OPEN_STREAMS", 5000)
}

#[test]
fn five_thousand_streams_on_one_tcp_connection() {
    crowd(TCP, open_at_once());
}

#[test]
fn five_thousand_streams_on_one_quic_connection() {
    crowd(QUIC, open_at_once());
}

#[test]
fn a_thousand_streams_carry_256_kib_each_way() {
    let _alone = alone();
    let (a, b, handler) = pair();
    let streams = count("RP2PD_TEST_LOADED_STREAMS", 1000);
    let ends: Vec<_> = (0..streams).map(|_| stream(&a, &b, &handler)).collect();
    std::thread::scope(|scope| {
        for (index, (mut near, mut far)) in ends.into_iter().enumerate() {
            let start = |name: &str| {
                std::thread::Builder::new()
                    .stack_size(256 << 10)
                    .name(name.into())
            };
            let seed = index as u64;
            let (there, back) = (payload(256 << 10, seed), payload(256 << 10, !seed));
            let (there_too, back_too) = (there.clone(), back.clone());
            // Each end writes all before it reads: both directions are full at once, within
            // what the buffers on the way hold or a reader thread takes.
            let mut near_reader = near_clone(&near);
            start("near")
                .spawn_scoped(scope, move || {
                    near.write_all(&there).expect("write");
                    near.socket.shutdown_write().expect("half-close");
                })
                .expect("a thread");
            start("back")
                .spawn_scoped(scope, move || {
                    let mut got = Vec::new();
                    near_reader.read_to_end(&mut got).expect("read");
                    assert!(got == back_too, "stream {index} back: {} bytes", got.len());
                })
                .expect("a thread");
            let mut far_reader = near_clone(&far);
            start("far")
                .spawn_scoped(scope, move || {
                    far.write_all(&back).expect("write");
                    far.socket.shutdown_write().expect("half-close");
                })
                .expect("a thread");
            start("there")
                .spawn_scoped(scope, move || {
                    let mut got = Vec::new();
                    far_reader.read_to_end(&mut got).expect("read");
                    assert!(
                        got == there_too,
                        "stream {index} there: {} bytes",
                        got.len()
                    );
                })
                .expect("a thread");
        }
    });
    for daemon in [&a, &b] {
        let rss = daemon.rss_kib() / 1024;
        println!("RSS after {streams} loaded streams: {rss} MiB");
        assert!(rss < 400, "{rss} MiB");
    }
}

fn near_clone(pipe: &Pipe) -> crate::support::Socket {
    pipe.socket.try_clone().expect("clone the socket")
}

#[test]
fn streams_that_come_and_go_leave_nothing_behind() {
    let (a, b, handler) = pair();
    let cycles = count("RP2PD_TEST_STREAM_CYCLES", 20_000);
    let sent = payload(1024, 1);
    let (mut fds, mut rss) = ((0, 0), (0, 0));
    for cycle in 0..cycles {
        if cycle == cycles / 5 {
            fds = (a.fds(), b.fds());
            rss = (a.rss_kib(), b.rss_kib());
        }
        let (mut near, mut far) = stream(&a, &b, &handler);
        near.write_all(&sent).expect("write");
        let mut got = [0; 1024];
        far.read_exact(&mut got).expect("read");
        far.write_all(&got).expect("write");
        near.read_exact(&mut got).expect("read");
        assert!(got[..] == sent[..]);
        drop(far);
        assert_eq!(near.read(&mut got).expect("the end"), 0);
    }
    for (daemon, fds, rss) in [(&a, fds.0, rss.0), (&b, fds.1, rss.1)] {
        assert_fds(daemon, fds, "after all cycles");
        let grown = daemon.rss_kib().saturating_sub(rss);
        println!(
            "RSS grew by {grown} KiB from cycle {} to {cycles}",
            cycles / 5
        );
        assert!(grown < 8 << 10, "RSS grew by {grown} KiB");
    }
}

#[test]
fn a_stream_beyond_the_limit_is_refused_and_the_connection_stays() {
    // The limit of inbound streams on one connection. Half of its descriptors are ours.
    const LIMIT: usize = 16 * 1024;
    let _alone = alone();
    let (a, b, _) = pair_with(|| Daemon::spawn(&[TCP]));
    // Echo streams need one descriptor here and one in the opener, none beyond.
    let mut open = Vec::with_capacity(LIMIT);
    let mut refused = None;
    for _ in 0..LIMIT + 50 {
        let opened = a
            .client()
            .open_stream(b.peer_id(), &["/none", "/echo/1.0.0"]);
        match opened {
            Ok((_, pipe)) => open.push(pipe),
            Err(text) => {
                refused = Some(text);
                break;
            }
        }
        if let Some(pipe) = open.last_mut() {
            pipe.socket.set_timeout(PATIENCE).expect("set a timeout");
            // A stream that was refused ends instead of answering.
            if pipe.write_all(b"?").is_err() || pipe.read(&mut [0]).unwrap_or(0) == 0 {
                refused = Some("ended".to_owned());
                open.pop();
                break;
            }
        }
    }
    let text = refused.expect("no stream was refused");
    println!("stream {} was refused: {text}", open.len() + 1);
    assert!(open.len() > LIMIT - 10, "only {} streams", open.len());
    assert_eq!(a.client().list_peers().len(), 1, "the connection was lost");
    // Those that are open still work, and places that are left are taken again.
    for pipe in open.iter_mut().rev().take(10) {
        pipe.write_all(b"!").expect("write");
        pipe.read_exact(&mut [0]).expect("read");
    }
    open.truncate(LIMIT / 2);
    let again = crate::support::eventually(PATIENCE, || {
        let opened = a.client().open_stream(b.peer_id(), &["/echo/1.0.0"]);
        opened.is_ok_and(|(_, pipe)| pipe.exchange(b"again") == b"again")
    });
    assert!(again, "no stream after the refusal");
}
