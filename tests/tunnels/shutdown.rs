//! The end of a daemon that has tunnels.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use rustix::process::Signal;

use super::support::payload;
use super::*;

#[test]
fn what_moves_is_finished_and_what_idles_is_reset() {
    let (near, far) = (Daemon::spawn(&[LISTEN, "-shutdownGrace=60s"]), node());
    near.connect_to(&far);
    let (addr, accepted) = service::by_hand();
    let at = carried(&near, &far, addr);
    let (mut busy, mut served) = (dial(at), accepted.next());
    let (mut idle, _idle_served) = (dial(at), accepted.next());
    served.write_all(b"x").expect("sent");
    busy.read_exact(&mut [0]).expect("came");
    // Far more than buffers take; the reader has not begun when the daemon ends.
    let sent = payload(48 << 20, 6);
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        served.write_all(&copy).expect("sent");
        served.shutdown(Shutdown::Write).expect("ended");
        served
    });
    let mut first = vec![0; 1 << 20];
    busy.read_exact(&mut first).expect("came");
    near.signal(Signal::TERM);
    assert_reset(&mut idle);
    assert!(std::net::TcpStream::connect_timeout(&at, Duration::from_secs(5)).is_err());
    let mut rest = Vec::new();
    while first.len() + rest.len() < sent.len() {
        let mut chunk = vec![0; 1 << 20];
        let n = busy.read(&mut chunk).expect("came");
        assert_ne!(n, 0, "after {} bytes", rest.len());
        rest.extend_from_slice(&chunk[..n]);
    }
    first.extend_from_slice(&rest);
    assert!(first == sent);
    drop(busy);
    drop(writing.join().expect("written"));
    let mut near = near;
    assert!(near.wait(PATIENCE).is_some_and(|status| status.success()));
}
