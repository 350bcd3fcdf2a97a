//! A peer that says nothing any more is noticed, whatever carries the connection.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use super::*;
use crate::support::eventually;

/// Go's daemon takes 37 s.
const NOTICED: Duration = Duration::from_secs(40);

/// What a loaded machine may take beyond that.
const SLACK: Duration = Duration::from_secs(4);

fn notices_silence(listen: &str) {
    let launch = || Daemon::spawn(&[&format!("-hostAddrs={listen}"), "-quic=true"]);
    let (a, b, handler) = pair_with(launch);
    let (mut near, far) = stream(&a, &b, &handler);
    let (_, mut idle) = a.client().open_stream(b.peer_id(), &["/s"]).expect("open");
    b.pause();
    let paused = Instant::now();
    // One client writes for as long as it can, the other waits.
    near.socket.set_timeout(2 * NOTICED).expect("set a timeout");
    idle.socket.set_timeout(2 * NOTICED).expect("set a timeout");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let chunk = [7; 16 << 10];
            loop {
                if let Err(error) = near.write_all(&chunk) {
                    return error.kind();
                }
            }
        });
        let gone = || a.client().list_peers().is_empty();
        assert!(eventually(NOTICED + SLACK, gone), "{listen}: still listed");
        println!("{listen}: noticed after {:?}", paused.elapsed());
        // A write that only timed out would mean that the stream goes on.
        assert_ne!(writer.join().expect("no panic"), ErrorKind::WouldBlock);
    });
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0, "bytes out of nothing");
    assert!(
        paused.elapsed() < NOTICED + 2 * SLACK,
        "{:?}",
        paused.elapsed()
    );
    b.resume();
    drop(far);
}

#[test]
fn silence_is_noticed_on_every_transport() {
    std::thread::scope(|scope| {
        for listen in [
            "/ip4/127.0.0.1/tcp/0",
            "/ip4/127.0.0.1/tcp/0/ws",
            "/ip4/127.0.0.1/udp/0/quic-v1",
        ] {
            scope.spawn(move || notices_silence(listen));
        }
    });
}
