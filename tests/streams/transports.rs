//! Every transport, security and multiplexer: a megabyte back and a half-close.

use std::io::{Read, Write};

use super::*;
use crate::support::payload;

pub(super) fn exercise(flags: &[&str]) {
    let (a, b, handler) = pair_with(|| Daemon::spawn(flags));
    for round in 0..3 {
        let (mut near, mut far) = stream(&a, &b, &handler);
        let sent = payload(1 << 20, round);
        let echo = std::thread::spawn(move || {
            let mut got = Vec::new();
            far.read_to_end(&mut got).expect("the whole payload");
            far.write_all(&got).expect("the late echo");
            got.len()
        });
        std::thread::scope(|scope| {
            scope.spawn(|| {
                near.write_all(&sent).expect("write");
                near.socket.shutdown_write().expect("half-close");
            });
        });
        let mut got = Vec::new();
        near.read_to_end(&mut got).expect("the echo");
        assert!(got == sent, "{flags:?}: {} bytes back", got.len());
        assert_eq!(echo.join().expect("the handler"), sent.len());
    }
    let transport = a.client().list_peers()[0].1[0].to_string();
    for (flag, part) in [("/ws", "/ws"), ("quic-v1", "/quic-v1")] {
        let wanted = flags.iter().any(|text| text.contains(flag));
        assert_eq!(
            transport.contains(part),
            wanted,
            "{flags:?} used {transport}"
        );
    }
}

#[test]
fn tcp_and_websocket_with_each_security_and_muxer() {
    for transport in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"] {
        let listen = format!("-hostAddrs={transport}");
        for security in [
            &["-tls=false"][..],
            &["-noise=false"],
            &["-noise=false", "-tls=false", "-plaintext=true"],
        ] {
            for muxer in ["-muxer=yamux", "-muxer=mplex"] {
                println!("{transport} {security:?} {muxer}");
                let flags: Vec<&str> = [&[&listen, muxer][..], security].concat();
                exercise(&flags);
            }
        }
    }
}

#[test]
fn quic() {
    exercise(&["-hostAddrs=/ip4/127.0.0.1/udp/0/quic-v1"]);
}

#[test]
fn daemons_without_a_common_security_do_not_connect() {
    let noise = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-tls=false"]);
    let tls = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-noise=false"]);
    let refused = noise.client().connect_to(tls.peer_id(), tls.addrs());
    let text = refused.expect_err("no common security");
    assert!(text.contains("all dials failed"), "{text}");
    assert_eq!(tls.client().list_peers(), []);
}
