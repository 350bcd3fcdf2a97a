//! What only rp2pd has, through the control socket (PROTOCOL.md).

#[path = "../support/mod.rs"]
mod support;

mod document;
mod events;
mod follower;
mod hostile;
mod listeners;
mod records;
mod rules;
mod steering;
mod traffic;
mod validators;

use rp2pd::wire::pb::{Request, request};
use support::Daemon;
use support::control::typed;

/// A daemon that listens on loopback, with these flags as well.
fn node(flags: &[&str]) -> Daemon {
    let mut args = vec!["-hostAddrs=/ip4/127.0.0.1/tcp/0"];
    args.extend(flags);
    Daemon::spawn(&args)
}

#[test]
fn a_type_that_nobody_knows_is_told_by_its_number() {
    let daemon = node(&[]);
    let mut client = daemon.client();
    for kind in [99, 199, 1 << 40] {
        let request = Request {
            r#type: Some(kind),
            ..typed(request::Type::Identify)
        };
        let refused = client.ask(&request).expect_err("no such type");
        assert_eq!(refused, format!("Unexpected request; unknown type {kind}"));
    }
    let _ = client.identify();
}
