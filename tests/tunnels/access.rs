//! Who may use a tunnel.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use rp2pd::wire::pb::{EventsRequest, Response, event::Kind};

use super::*;

/// Events about connections that fail.
fn failures(daemon: &Daemon) -> ControlClient {
    let mut client = daemon.client();
    let request = Request {
        events: Some(EventsRequest {
            kinds: vec![Kind::TunnelFailed as i32],
            present: None,
        }),
        ..typed(request::Type::Events)
    };
    client.ask(&request).expect("EVENTS");
    client
}

fn next(events: &mut ControlClient) -> (PeerId, String) {
    let told: Response = events.receive().expect("an event");
    let event = *told.event.expect("an event part");
    assert_eq!(event.kind(), Kind::TunnelFailed);
    assert_eq!(event.proto.as_deref(), Some(NAME.as_bytes()));
    assert_eq!(event.addrs.len(), 1);
    let peer = PeerId::from_bytes(&event.peer.expect("a peer")).expect("a peer id");
    (peer, event.reason.expect("a reason"))
}

#[test]
fn only_peers_on_the_list_reach_a_service() {
    let (far, friend, stranger) = (node(), node(), node());
    let (addr, accepted) = service::by_hand();
    let wanted = TunnelRequest {
        any_peer: None,
        allow: vec![friend.peer_id().to_bytes().into()],
        ..expose(addr)
    };
    made(&far, wanted);
    let mut told = failures(&far);
    for daemon in [&friend, &stranger] {
        daemon.connect_to(&far);
        made(daemon, forward(far.peer_id()));
    }
    let mut heard = failures(&stranger);
    assert_refused(port(&only(&stranger)));
    let (peer, reason) = next(&mut told);
    assert_eq!(peer, stranger.peer_id());
    assert_eq!(
        reason,
        format!("peer {} is not allowed", stranger.peer_id())
    );
    let (peer, reason) = next(&mut heard);
    assert_eq!(peer, far.peer_id());
    assert!(
        reason.starts_with("the peer has reset the stream"),
        "{reason}"
    );
    assert_eq!(only(&stranger).error, Some(reason));
    assert_eq!((only(&far).total, only(&far).failed), (1, 1));
    let mut socket = dial(port(&only(&friend)));
    accepted.next().write_all(b"welcome").expect("sent");
    socket.read_exact(&mut [0; 7]).expect("came");
    assert!(accepted.within(std::time::Duration::ZERO).is_none());
}

#[test]
fn why_a_connection_fails_is_told() {
    let (near, far) = (node(), node());
    // Nobody there.
    let target = service::nobody();
    let at = port(&made(&near, forward(PeerId::random())));
    assert_refused(at);
    let error = only(&near).error.expect("an error");
    assert!(
        error.contains("no addresses") || error.contains("not found") || error.contains("dial"),
        "{error}"
    );
    close(&near, &[only(&near).id]).expect("closed");
    // The address of the request leads to the peer, which does not know the name.
    let wanted = TunnelRequest {
        addrs: far
            .addrs()
            .iter()
            .map(|addr| addr.to_vec().into())
            .collect(),
        ..forward(far.peer_id())
    };
    let at = port(&made(&near, wanted));
    assert_refused(at);
    let error = only(&near).error.expect("an error");
    let unknown = format!("failed to negotiate protocol: protocols not supported: [{NAME}]");
    assert_eq!(error, unknown);
    // The peer knows it, but its port is closed.
    made(&far, expose(target));
    let mut told = failures(&far);
    assert_refused(at);
    let (peer, reason) = next(&mut told);
    assert_eq!(peer, near.peer_id());
    let refused = format!("/ip4/127.0.0.1/tcp/{}: Connection refused", target.port());
    assert!(reason.starts_with(&refused), "{reason}");
    assert!(eventually(PATIENCE, || only(&near).failed == 2));
    assert_eq!(only(&far).error, Some(reason));
    await_open(&near, 0);
    await_open(&far, 0);
}

#[test]
fn users_and_networks_are_looked_at() {
    let (near, far) = pair();
    made(&far, expose(service::echo()));
    let path = near.dir().join("local.sock");
    let listen = support::Control::Unix(path.clone()).to_bytes();
    let own = rustix::process::geteuid().as_raw();
    let wanted = |uids: &[u32]| TunnelRequest {
        listen: Some(listen.clone().into()),
        allow_uids: uids.to_vec(),
        ..forward(far.peer_id())
    };
    let passes = || {
        let mut socket = UnixStream::connect(&path).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let _ = socket.write_all(b"x");
        socket.read(&mut [0]).is_ok_and(|n| n == 1)
    };
    let id = made(&near, wanted(&[own + 1])).id;
    assert!(!passes());
    let refused = format!("user {own} is not allowed");
    assert_eq!(only(&near).error, Some(refused));
    close(&near, &[id]).expect("closed");
    let id = made(&near, wanted(&[own + 1, own])).id;
    assert!(passes());
    close(&near, &[id]).expect("closed");

    let any = |text: &str| TunnelRequest {
        listen: bytes(text),
        any_interface: Some(true),
        allow_networks: vec!["192.0.2.0/24".into(), "2001:db8::1".into()],
        ..forward(far.peer_id())
    };
    let tunnel = made(&near, any("/ip4/0.0.0.0/tcp/0"));
    // Loopback always may.
    let mut socket = dial((std::net::Ipv4Addr::LOCALHOST, port(&tunnel).port()).into());
    socket.write_all(b"x").expect("sent");
    socket.read_exact(&mut [0]).expect("came back");
}
