use proptest::prelude::*;

use super::*;

const REMOTE: &str = "/ip4/60.0.1.1/tcp/50000";

fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// What is dialed for a peer at `remote` that names `told`.
fn dialed(peer: PeerId, remote: &str, told: &[&str]) -> Result<Vec<String>, Refusal> {
    let told: Vec<_> = told.iter().map(|text| addr(text)).collect();
    let message = Message::ask(peer, &told);
    let own = ["60.0.9.9".parse().unwrap()];
    let wanted = wanted(peer, &addr(remote), message, &own)?;
    Ok(wanted.iter().map(ToString::to_string).collect())
}

#[test]
fn only_the_asker_is_dialed_and_only_where_it_was_met() {
    let (peer, other) = (PeerId::random(), PeerId::random());
    let told = [
        // The same twice.
        "/ip4/192.168.1.2/tcp/4001",
        "/ip4/10.0.0.1/tcp/4001",
        &format!("/ip4/60.0.7.7/udp/4001/quic-v1/p2p/{peer}"),
        // Nobody's but the asker's.
        &format!("/ip4/60.0.1.1/tcp/1001/p2p/{other}"),
        &format!("/ip4/60.0.1.1/tcp/1002/p2p/{other}/p2p-circuit"),
        "/ip4/60.0.1.1/tcp/1003/ip4/10.0.0.1/tcp/22",
        "/ip4/60.0.1.1/tcp/1004/ws/dns4/localhost/tcp/22",
        "/dns4/example.org/tcp/4001",
        "/p2p-circuit",
        "/ip4/60.0.1.1/tcp/1005/x-parity-ws/%2Fadmin",
    ];
    let expected = [
        REMOTE,
        "/ip4/60.0.1.1/tcp/4001",
        "/ip4/60.0.1.1/udp/4001/quic-v1",
    ];
    assert_eq!(dialed(peer, REMOTE, &told).unwrap(), expected);
    let many: Vec<String> = (2000..3000)
        .map(|port| format!("/ip4/60.0.1.1/tcp/{port}"))
        .collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(dialed(peer, REMOTE, &many).unwrap().len(), MAX_ADDRESSES);
}

#[test]
fn askers_that_are_not_public_are_refused() {
    let peer = PeerId::random();
    let relay = PeerId::random();
    for remote in [
        "/ip4/192.168.1.2/tcp/1",
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/100.64.0.1/tcp/1",
        // Ours.
        "/ip4/60.0.9.9/tcp/1",
        &format!("/ip4/60.0.1.1/tcp/1/p2p/{relay}/p2p-circuit"),
    ] {
        let (status, _) = dialed(peer, remote, &[]).unwrap_err();
        assert_eq!(status, Status::DialRefused, "{remote}");
    }
}

#[test]
fn requests_of_another_kind_are_bad() {
    let peer = PeerId::random();
    let bad = |message| wanted(peer, &addr(REMOTE), message, &[]).unwrap_err();
    assert_eq!(
        bad(Message::default()),
        (Status::BadRequest, "missing peer info")
    );
    let other = Message::ask(PeerId::random(), &[]);
    assert_eq!(bad(other), (Status::BadRequest, "peer id mismatch"));
    let mut none = Message::ask(peer, &[]);
    if let Some(info) = none.dial.as_mut().and_then(|dial| dial.peer.as_mut()) {
        info.id = Some(Bytes::from_static(b"\xff"));
    }
    assert_eq!(bad(none), (Status::BadRequest, "bad peer id"));
}

proptest! {
    #[test]
    fn whatever_is_named_the_asker_is_dialed(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let peer = PeerId::random();
        let ip: IpAddr = "60.0.1.1".parse().unwrap();
        if let Some(address) = at(ip, peer, &bytes.into()) {
            let ips = address.iter().filter(|part| matches!(part, Protocol::Ip4(_) | Protocol::Ip6(_)));
            prop_assert_eq!(ips.count(), 1);
            prop_assert_eq!(own_ips(&[address]), [ip]);
        }
    }
}
