//! CONTROL: what is seen and changed while the daemon runs.

use libp2p::{Multiaddr, PeerId};
use rp2pd::wire::pb::{
    ConnManagerRequest, ControlRequest, ControlResponse, PeerQuery, PeerRecord, Request,
    conn_manager_request, control_request::Type, event::Kind, request,
};

use super::follower::Follower;
use super::node;
use super::support::control::typed;
use super::support::{Daemon, PATIENCE, eventually};

pub fn control(kind: Type) -> ControlRequest {
    ControlRequest {
        r#type: Some(i64::from(kind as i32)),
        ..ControlRequest::default()
    }
}

pub fn ask(daemon: &Daemon, part: ControlRequest) -> Result<ControlResponse, String> {
    let request = Request {
        control: Some(Box::new(part)),
        ..typed(request::Type::Control)
    };
    let answer = daemon.client().ask(&request)?;
    Ok(*answer.control.expect("a control part"))
}

fn announce(daemon: &Daemon, kind: Type, addrs: &[&str]) -> Result<Vec<String>, String> {
    let addrs = addrs.iter().map(|text| {
        let address: Multiaddr = text.parse().expect("an address");
        address.to_vec().into()
    });
    let part = ControlRequest {
        addrs: addrs.collect(),
        ..control(kind)
    };
    let told = ask(daemon, part)?.addrs;
    let text = |addr: &bytes::Bytes| Multiaddr::try_from(addr.to_vec()).expect("an address");
    Ok(told.iter().map(|addr| text(addr).to_string()).collect())
}

#[test]
fn announced_addresses_come_and_go() {
    const ONE: &str = "/ip4/127.0.0.1/tcp/4001";
    const TWO: &str = "/dns4/example.com/tcp/4001";
    let (daemon, other) = (node(&[]), node(&[]));
    other.connect_to(&daemon);
    let own = daemon.client().identify().1;
    assert_eq!(announce(&daemon, Type::AnnounceList, &[]), Ok(vec![]));
    let mut follower = Follower::of(&daemon, &[Kind::Addresses]);
    let told = announce(&daemon, Type::AnnounceAdd, &[ONE, TWO, ONE]);
    assert_eq!(told, Ok(vec![ONE.into(), TWO.into()]));
    assert_eq!(follower.next().addrs.len(), 2);
    let identified = daemon.client().identify().1;
    let texts: Vec<String> = identified.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [ONE, TWO]);
    // Connected peers are told.
    let heard = || {
        let known = peer(&other, daemon.peer_id()).addrs;
        let one: Multiaddr = ONE.parse().expect("an address");
        known.iter().any(|known| known.addr == one.to_vec())
    };
    assert!(eventually(PATIENCE, heard));
    let unknown = announce(&daemon, Type::AnnounceRemove, &[ONE, "/ip4/1.2.3.4/tcp/1"]);
    assert_eq!(
        unknown,
        Err("address /ip4/1.2.3.4/tcp/1 is not announced".into())
    );
    assert_eq!(
        announce(&daemon, Type::AnnounceRemove, &[ONE]),
        Ok(vec![TWO.into()])
    );
    assert_eq!(announce(&daemon, Type::AnnounceRemove, &[TWO]), Ok(vec![]));
    assert_eq!(daemon.client().identify().1, own);
    let many: Vec<String> = (1..=65)
        .map(|port| format!("/ip4/1.2.3.4/tcp/{port}"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = announce(&daemon, Type::AnnounceAdd, &many);
    assert_eq!(
        refused,
        Err("too many announced addresses: at most 64".into())
    );
    assert_eq!(
        announce(&daemon, Type::AnnounceAdd, &many[..64]).map(|told| told.len()),
        Ok(64)
    );
}

fn peers(daemon: &Daemon, query: PeerQuery) -> (Vec<PeerRecord>, Option<bytes::Bytes>) {
    let part = ControlRequest {
        query: Some(query),
        ..control(Type::Peerstore)
    };
    let answer = ask(daemon, part).expect("PEERSTORE");
    (answer.peers, answer.next)
}

pub fn peer(daemon: &Daemon, peer: PeerId) -> PeerRecord {
    let query = PeerQuery {
        peer: Some(peer.to_bytes().into()),
        ..PeerQuery::default()
    };
    let (mut found, next) = peers(daemon, query);
    assert_eq!((found.len(), next), (1, None));
    found.remove(0)
}

#[test]
fn the_peerstore_tells_agents_protocols_addresses_and_ages() {
    let (daemon, one, two) = (node(&[]), node(&["-pubsub"]), node(&[]));
    daemon.connect_to(&one);
    daemon.connect_to(&two);
    let known = peer(&daemon, one.peer_id());
    assert!(known.connected && known.agent().starts_with(b"rp2pd/"));
    assert!(known.protos.iter().any(|name| name == "/meshsub/1.1.0"));
    let address = &known.addrs[0];
    assert_eq!(address.addr, one.addrs()[0].to_vec());
    assert!(
        address.proven && address.expires == 0 && address.age < 60_000,
        "{address:?}"
    );

    let all = || PeerQuery::default();
    let ids = |query| -> Vec<bytes::Bytes> {
        let (found, _) = peers(&daemon, query);
        found.into_iter().map(|record| record.peer).collect()
    };
    let mut both = [one.peer_id(), two.peer_id()].map(|peer| bytes::Bytes::from(peer.to_bytes()));
    both.sort();
    assert_eq!(ids(all()), both);
    let speaking = PeerQuery {
        proto: Some("/meshsub/1.1.0".into()),
        ..all()
    };
    assert_eq!(ids(speaking), [one.peer_id().to_bytes()]);
    let agent = |text: &'static str| PeerQuery {
        agent: Some(text.into()),
        ..all()
    };
    assert_eq!(
        (ids(agent("rp2pd/")).len(), ids(agent("go-")).len()),
        (2, 0)
    );
    // Page by page.
    let page = |after| PeerQuery {
        limit: Some(1),
        after,
        ..all()
    };
    let (first, next) = peers(&daemon, page(None));
    assert_eq!((&first[0].peer, next.as_ref()), (&both[0], Some(&both[0])));
    let (second, next) = peers(&daemon, page(next));
    assert_eq!((&second[0].peer, next), (&both[1], None));

    daemon.client().disconnect(one.peer_id());
    let left = peer(&daemon, one.peer_id());
    assert!(!left.connected && left.agent.is_none());
    let expires = left.addrs[0].expires;
    assert!((1..=15 * 60 * 1000).contains(&expires), "{expires}");
    let gone = PeerQuery {
        connected: Some(false),
        ..all()
    };
    assert_eq!(ids(gone), [one.peer_id().to_bytes()]);
}

#[test]
fn the_tags_that_were_given_are_told() {
    let (daemon, other) = (node(&[]), PeerId::random());
    let mut client = daemon.client();
    for (tag, weight) in [("b", -5), ("a", 7)] {
        let mut tagging = typed(request::Type::Connmanager);
        tagging.conn_manager = Some(ConnManagerRequest {
            r#type: Some(i64::from(conn_manager_request::Type::TagPeer as i32)),
            peer: Some(other.to_bytes().into()),
            tag: Some(tag.into()),
            weight: Some(weight),
        });
        client.ask(&tagging).expect("TAG_PEER");
    }
    let all = ask(&daemon, control(Type::Tags)).expect("TAGS").tags;
    assert_eq!((all.len(), &all[0].peer[..]), (1, &other.to_bytes()[..]));
    let told: Vec<_> = all[0]
        .tags
        .iter()
        .map(|tag| (&tag.name[..], tag.weight))
        .collect();
    assert_eq!(told, [(&b"a"[..], 7), (b"b", -5)]);
    let of = |peer: PeerId| ControlRequest {
        peers: vec![peer.to_bytes().into()],
        ..control(Type::Tags)
    };
    assert_eq!(ask(&daemon, of(other)).expect("TAGS").tags, all);
    assert_eq!(ask(&daemon, of(PeerId::random())).expect("TAGS").tags, []);
}

#[test]
fn what_is_no_such_request_is_refused_with_a_reason() {
    let daemon = node(&[]);
    let numbered = |kind| ControlRequest {
        r#type: Some(kind),
        ..ControlRequest::default()
    };
    for kind in [3, 23, -1, 1 << 40] {
        let refused = ask(&daemon, numbered(kind)).err();
        assert_eq!(refused, Some(format!("unknown control type {kind}")));
    }
    let bare = daemon.client().ask(&typed(request::Type::Control));
    assert_eq!(bare, Err("Malformed request; missing parameters".into()));
    let many = ControlRequest {
        peers: vec![daemon.peer_id().to_bytes().into(); 101],
        ..control(Type::Tags)
    };
    assert_eq!(
        ask(&daemon, many).err().as_deref(),
        Some("too many peers: at most 100")
    );
    let wrong = ControlRequest {
        addrs: vec![b"\xff\xff"[..].into()],
        ..control(Type::AnnounceAdd)
    };
    assert!(ask(&daemon, wrong).is_err());
}
