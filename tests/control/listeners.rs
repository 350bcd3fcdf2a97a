//! CONTROL: listeners that come and go while the daemon runs.

use libp2p::Multiaddr;
use rp2pd::wire::pb::{ControlRequest, control_request::Type, event::Kind};

use super::follower::Follower;
use super::node;
use super::steering::{ask, control, peer};
use super::support::{Daemon, PATIENCE, eventually};

fn parsed(bytes: &bytes::Bytes) -> Multiaddr {
    Multiaddr::try_from(bytes.to_vec()).expect("an address")
}

/// What is listened on: as it was asked for, and what it is bound to.
fn listen(
    daemon: &Daemon,
    kind: Type,
    addrs: &[&Multiaddr],
) -> Result<Vec<(Multiaddr, Vec<Multiaddr>)>, String> {
    let part = ControlRequest {
        addrs: addrs
            .iter()
            .map(|address| address.to_vec().into())
            .collect(),
        ..control(kind)
    };
    let told = ask(daemon, part)?.listeners;
    let told = told.iter();
    let told = told.map(|one| (parsed(&one.addr), one.bound.iter().map(parsed).collect()));
    Ok(told.collect())
}

fn address(text: &str) -> Multiaddr {
    text.parse().expect("an address")
}

#[test]
fn listeners_come_and_go_and_everybody_is_told() {
    let (daemon, other) = (node(&[]), node(&[]));
    let first = daemon.addrs()[0].clone();
    let any = address("/ip4/127.0.0.1/tcp/0");
    let there = listen(&daemon, Type::ListenList, &[]).expect("LISTEN_LIST");
    assert_eq!(there, [(any, vec![first.clone()])]);
    daemon.connect_to(&other);
    let mut follower = Follower::of(&daemon, &[Kind::Addresses]);
    for over in ["/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let wanted = address(over);
        // It knows no other address.
        let third = node(&[]);
        let told = listen(&daemon, Type::ListenAdd, &[&wanted]).expect("LISTEN_ADD");
        let (asked, bound) = told.last().expect("a listener");
        assert_eq!((asked, bound.len()), (&wanted, 1), "{over}");
        let new = bytes::Bytes::from(bound[0].to_vec());
        while !follower.next_of(Kind::Addresses).addrs.contains(&new) {}
        assert!(
            daemon.client().identify().1.contains(&bound[0]),
            "{over}: IDENTIFY"
        );
        // A connected peer hears of it, and it can be dialed.
        let heard = || {
            let known = peer(&other, daemon.peer_id()).addrs;
            known.iter().any(|known| known.addr == bound[0].to_vec())
        };
        assert!(eventually(PATIENCE, heard), "{over}: push");
        third
            .client()
            .connect_to(daemon.peer_id(), std::slice::from_ref(&bound[0]))
            .expect("CONNECT");
        // Without the listener the connection stays, unless it shares its socket.
        let left = listen(&daemon, Type::ListenRemove, &[&bound[0]]).expect("LISTEN_REMOVE");
        assert_eq!(left.len(), 1);
        assert!(!daemon.client().identify().1.contains(&bound[0]));
        let refused = other.client().connect_to(daemon.peer_id(), &[]);
        assert_eq!(refused, Ok(()), "it is connected");
        let is_there = || {
            let peers = daemon.client().list_peers();
            peers.iter().any(|(peer, _)| *peer == third.peer_id())
        };
        match over.contains("quic") {
            true => assert!(eventually(PATIENCE, || !is_there()), "{over}"),
            false => assert!(is_there(), "{over}"),
        }
        third.client().disconnect(daemon.peer_id());
    }
    // The last one may go, too.
    let none = listen(&daemon, Type::ListenRemove, &[&first]).expect("LISTEN_REMOVE");
    assert_eq!(none, []);
    assert_eq!(daemon.client().identify().1, []);
    // A busy machine may take a moment to close the socket.
    let mut again = Ok(vec![]);
    let listens = eventually(PATIENCE, || {
        again = listen(&daemon, Type::ListenAdd, &[&first]);
        again.is_ok()
    });
    assert!(listens, "{again:?}");
    assert_eq!(again, Ok(vec![(first.clone(), vec![first])]));
}

#[test]
fn all_addresses_are_listened_on_or_none() {
    let (daemon, other) = (node(&[]), node(&[]));
    let (free, taken) = (address("/ip4/127.0.0.1/tcp/0"), other.addrs()[0].clone());
    let before = listen(&daemon, Type::ListenList, &[]);
    let port = taken.iter().nth(1).expect("a port").to_string();
    let port = port.trim_start_matches("/tcp/");
    let refused = listen(&daemon, Type::ListenAdd, &[&free, &taken]);
    let text = format!(
        "failed to listen on {taken}: listen tcp4 127.0.0.1:{port}: bind: address already in use"
    );
    assert_eq!(refused, Err(text));
    let nothing = address("/ip4/127.0.0.1/sctp/1");
    let refused = listen(&daemon, Type::ListenAdd, &[&free, &nothing]);
    assert_eq!(
        refused,
        Err(format!(
            "failed to listen on {nothing}: no transport for protocol"
        ))
    );
    let unknown = address("/ip4/127.0.0.1/tcp/1");
    let refused = listen(&daemon, Type::ListenRemove, &[&daemon.addrs()[0], &unknown]);
    assert_eq!(
        refused,
        Err(format!("address {unknown} is not listened on"))
    );
    let many = vec![&free; 65];
    let refused = listen(&daemon, Type::ListenAdd, &many);
    assert_eq!(refused, Err("too many listeners: at most 64".into()));
    assert_eq!(listen(&daemon, Type::ListenList, &[]), before);
}
