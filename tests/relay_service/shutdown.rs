//! The end of a relay, and want of memory.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::relay;
use crate::support::relay::End;
use crate::support::{PATIENCE, eventually, payload};

#[test]
fn circuits_end_before_the_daemon_does() {
    let mut relay = relay(&["-shutdownGrace=20s"]);
    let (source, destination) = (End::new(&relay), End::new(&relay));
    destination.reserved(&relay);
    let (mut near, mut far) = source.circuit(&relay, &destination);
    near.write_all(b"payload").expect("payload");
    far.read_exact(&mut [0; 7]).expect("payload");
    let begun = Instant::now();
    let status = relay.terminate(PATIENCE);
    let took = begun.elapsed();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    for mut pipe in [near, far] {
        let mut rest = Vec::new();
        let _ = pipe.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
}

const CUT: &str = "circuits through this relay cut for memory";

/// Circuits, more than the budget has room for when all wait.
const CIRCUITS: usize = 160;

/// What an end that does not read makes the relay hold is given up, and no connection.
#[test]
fn for_want_of_memory_circuits_go_and_connections_stay() {
    // Small buffers, so that no account is full before the memory is.
    let relay = relay(&[
        "-memoryLimit=32MiB",
        "-relayMaxCircuits=1000",
        "-relayBufferSize=4096",
    ]);
    let ends: Vec<_> = (0..4)
        .map(|_| (End::new(&relay), End::new(&relay)))
        .collect();
    ends.iter().for_each(|(_, end)| end.reserved(&relay));
    let mut near = Vec::new();
    let mut far = Vec::new();
    for (source, destination) in ends.iter().cycle().take(CIRCUITS) {
        let (source, destination) = source.circuit(&relay, destination);
        source
            .socket
            .set_timeout(Duration::from_millis(1))
            .expect("a timeout");
        near.push(source);
        far.push(destination);
    }
    let portion = payload(16 << 10, 3);
    let cut = eventually(3 * PATIENCE, || {
        for pipe in &mut near {
            // Full already, or cut.
            let _ = pipe.write_all(&portion);
        }
        relay.bites(CUT) > 0
    });
    assert!(cut, "nothing was cut");
    let left = eventually(PATIENCE, || {
        let report = relay.report();
        let (_, last) = report.rsplit_once(", circuits: ").expect("a line");
        let (count, _) = last.split_once(',').expect("a number");
        count.parse::<usize>().expect("a number") < CIRCUITS
    });
    assert!(left, "what is cut does not end");
    assert_eq!(relay.bites("connections cut for memory"), 0);
    assert_eq!(relay.client().list_peers().len(), 2 * ends.len());
}
