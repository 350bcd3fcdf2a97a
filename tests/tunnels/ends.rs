//! Bytes, ends and resets.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use rp2pd::wire::pb::TunnelRequest;
use socket2::SockRef;

use super::support::{PATIENCE, payload};
use super::*;

#[test]
fn bytes_pass_both_ways_and_each_side_ends_alone() {
    let (near, far) = pair();
    let at = carried(&near, &far, service::after_the_end());
    let sent = payload(3 << 20, 1);
    for _ in 0..2 {
        let mut socket = dial(at);
        socket.write_all(&sent).expect("sent");
        socket.shutdown(Shutdown::Write).expect("ended");
        let mut came = Vec::new();
        // An end, no reset.
        socket.read_to_end(&mut came).expect("read to the end");
        assert!(came == sent, "{} bytes", came.len());
    }
    await_open(&near, 0);
    await_open(&far, 0);
    let (near, far) = (only(&near), only(&far));
    let total = 2 * sent.len() as u64;
    assert_eq!((near.sent, near.received), (total, total));
    assert_eq!((far.sent, far.received), (total, total));
    assert_eq!((near.total, near.failed), (2, 0));
    assert_eq!((far.total, far.failed), (2, 0));
}

#[test]
fn the_side_of_the_service_ends_alone_too() {
    let (near, far) = pair();
    let (addr, accepted) = service::by_hand();
    let mut socket = dial(carried(&near, &far, addr));
    let mut served = accepted.next();
    served.write_all(b"hello").expect("sent");
    served.shutdown(Shutdown::Write).expect("ended");
    let mut came = String::new();
    socket.read_to_string(&mut came).expect("an end");
    assert_eq!(came, "hello");
    socket.write_all(b"and back").expect("sent");
    drop(socket);
    let mut came = String::new();
    served.read_to_string(&mut came).expect("an end");
    assert_eq!(came, "and back");
}

#[test]
fn unix_paths_at_both_ends() {
    let (near, far) = pair();
    let at = far.dir().join("service.sock");
    let listener = UnixListener::bind(&at).expect("bound");
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut all = Vec::new();
            let _ = socket.read_to_end(&mut all);
            let _ = socket.write_all(&all);
        }
    });
    let unix = |path: &std::path::Path| {
        let addr = support::Control::Unix(path.to_owned());
        Some(bytes::Bytes::from(addr.to_bytes()))
    };
    made(
        &far,
        TunnelRequest {
            target: unix(&at),
            ..expose(service::nobody())
        },
    );
    let local = near.dir().join("local.sock");
    let wanted = TunnelRequest {
        listen: unix(&local),
        ..forward(far.peer_id())
    };
    let tunnel = made(&near, wanted.clone());
    assert_eq!(Some(tunnel.addr.clone()), unix(&local));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&local).expect("a file").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let mut socket = UnixStream::connect(&local).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.write_all(b"hello").expect("sent");
    socket.shutdown(Shutdown::Write).expect("ended");
    let mut came = String::new();
    socket.read_to_string(&mut came).expect("an end");
    assert_eq!(came, "hello");
    let twice = ask(&near, wanted.clone()).expect_err("in use");
    let path = local.display();
    assert_eq!(
        twice,
        format!("listen unix {path}: bind: address already in use")
    );
    close(&near, &[tunnel.id]).expect("closed");
    assert!(!local.exists());
    // What a daemon that was killed has left is replaced.
    drop(UnixListener::bind(&local).expect("bound"));
    made(&near, wanted);
}

#[test]
fn who_drops_is_seen_as_a_reset() {
    let (near, far) = pair();
    let (addr, accepted) = service::by_hand();
    let at = carried(&near, &far, addr);
    let begin = || {
        let mut socket = dial(at);
        let mut served = accepted.next();
        for (from, to) in [(0, 1), (1, 0)] {
            let ends = [&mut socket, &mut served];
            ends[from]
                .try_clone()
                .expect("a handle")
                .write_all(b"x")
                .expect("sent");
            let mut came = [0];
            ends[to]
                .try_clone()
                .expect("a handle")
                .read_exact(&mut came)
                .expect("came");
        }
        (socket, served)
    };
    let abort = |socket: TcpStream| {
        let linger = SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO));
        linger.expect("set");
    };
    let (socket, mut served) = begin();
    abort(socket);
    assert_reset(&mut served);
    let (mut socket, served) = begin();
    abort(served);
    assert_reset(&mut socket);
    // What was sent before is delivered or lost, but never taken for all there is.
    let (mut socket, mut served) = begin();
    served.write_all(&payload(1 << 20, 2)).expect("sent");
    abort(served);
    assert_reset(&mut socket);
    await_open(&near, 0);
    await_open(&far, 0);
    // A daemon that is killed is no end either.
    let (mut socket, mut served) = begin();
    drop(far);
    assert_reset(&mut socket);
    assert_reset(&mut served);
}

#[test]
fn a_side_that_does_not_read_makes_the_other_wait() {
    let (near, far) = pair();
    let (addr, accepted) = service::by_hand();
    let at = carried(&near, &far, addr);
    let mut socket = dial(at);
    let mut served = accepted.next();
    socket.set_nonblocking(true).expect("set");
    let sent = payload(64 << 20, 3);
    let mut written = 0;
    // It is stuck once nothing has moved for a second.
    let mut moved = std::time::Instant::now();
    while moved.elapsed() < std::time::Duration::from_secs(1) {
        match socket.write(&sent[written..]) {
            Ok(n) => {
                written += n;
                moved = std::time::Instant::now();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
        assert!(
            written < sent.len(),
            "everything is taken, and nobody reads"
        );
    }
    // Others pass meanwhile.
    let mut other = dial(at);
    let mut other_served = accepted.next();
    other.write_all(b"x").expect("sent");
    other_served.read_exact(&mut [0]).expect("came");
    // And nothing is lost.
    socket.set_nonblocking(false).expect("set");
    let mut writer = socket.try_clone().expect("a handle");
    let rest = sent[written..].to_vec();
    let writing = std::thread::spawn(move || {
        writer.write_all(&rest).expect("sent");
        writer.shutdown(Shutdown::Write).expect("ended");
    });
    let mut came = Vec::new();
    served.read_to_end(&mut came).expect("an end");
    writing.join().expect("written");
    assert!(came == sent, "{} bytes", came.len());
}
