//! Connections from many addresses, and many from one. In a network namespace.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr};

use libp2p::Multiaddr;

use super::*;
use crate::support::PATIENCE;
use crate::support::Pipe;
use crate::support::by_hand::{ByHand, MULTISTREAM, address, dial_from, messages};

const COUNT: &str = "inbound connections from one address";
const RATE: &str = "new inbound connections from one address";
const GAVE_WAY: &str = "inbound connections being secured";

/// Where the victim of IPv6 peers listens, in a /48 of its own.
const IPV6: &str = "-hostAddrs=/ip6/2001:db8:ffff::1/tcp/0";

/// An address of the network `subnet` (16 bits) in the site `site`, a /48.
fn ipv6(site: u16, subnet: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, site, subnet, 0, 0, 0, 1).into()
}

/// A whole handshake from there.
fn connects(victim: &Daemon, from: IpAddr) -> std::io::Result<ByHand> {
    ByHand::try_over(dial_from(from, address(victim))?)
}

fn is_open(pipe: &mut Pipe) -> bool {
    pipe.socket
        .set_timeout(std::time::Duration::from_millis(1))
        .expect("set a timeout");
    loop {
        match pipe.read(&mut [0; 64]) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// 256 /64s of one /56 connect eight times each: 2,048 connections, as many as the node takes.
pub fn networks_of_one_customer_do_not_fill_the_node() {
    let scene = Scene::new(&[IPV6]);
    scene.under("256 networks of a customer", Streams::New, |crowd| {
        let mut held = Vec::new();
        let mut refused = 0;
        for round in 0..8 {
            for network in 0..256 {
                match connects(&scene.victim, ipv6(1, network)) {
                    Ok(peer) => held.push(peer),
                    Err(_) => refused += 1,
                }
            }
            // Whoever comes from elsewhere is served.
            let other = connects(&scene.victim, ipv6(2, round << 8));
            held.push(other.expect("another customer"));
        }
        // Eight of them, eight of others, and the one that the clients' streams lead to.
        let peers = || scene.victim.client().list_peers().len();
        let all_known = eventually(PATIENCE, || peers() >= 17);
        println!("{refused} refused, {} peers", peers());
        assert!(all_known && peers() == 17);
        assert!(refused >= 2048 - 8, "{refused} refused");
        let bites = scene.victim.bites(COUNT) + scene.victim.bites(RATE);
        assert!(bites >= 2040, "{bites}");
        crowd.await_rounds(ENOUGH);
    });
}

/// As many as there may be handshakes, twice.
pub fn silent_sockets_of_one_customer_pin_nothing() {
    let scene = Scene::new(&[IPV6]);
    scene.under("silence of a customer", Streams::New, |crowd| {
        let at = address(&scene.victim);
        let mut silent: Vec<Pipe> = (0..512)
            .map(|number| dial_from(ipv6(1, number % 256), at).expect("connect"))
            .collect();
        let attempts: Vec<_> = (0..20)
            .map(|site| connects(&scene.victim, ipv6(2 + site, 0)))
            .collect();
        for (number, attempt) in attempts.iter().enumerate() {
            assert!(attempt.is_ok(), "attempt {number}: {attempt:?}");
        }
        assert!(eventually(PATIENCE, || scene.victim.bites(RATE) >= 496));
        let open = silent
            .iter_mut()
            .filter_map(|pipe| is_open(pipe).then_some(()));
        let open = open.count();
        println!("{open} of 512 are waited for");
        assert_eq!(open, 8);
        crowd.await_rounds(ENOUGH);
    });
}

/// As many as there may be handshakes, each from a site of its own, so that none is limited.
pub fn silent_sockets_of_many_sites_give_way() {
    let scene = Scene::new(&[IPV6]);
    scene.under("silence of many sites", Streams::New, |crowd| {
        let at = address(&scene.victim);
        let mut silent: Vec<Pipe> = (0..300)
            .map(|site| {
                let mut pipe = dial_from(ipv6(100 + site, 0), at).expect("connect");
                // A word is no progress.
                if site % 2 == 0 {
                    let _ = pipe.write_all(&messages(&[MULTISTREAM]));
                }
                pipe
            })
            .collect();
        assert!(eventually(PATIENCE, || scene.victim.bites(GAVE_WAY) >= 44));
        let attempts: Vec<_> = (0..20)
            .map(|site| connects(&scene.victim, ipv6(2 + site, 0)))
            .collect();
        for (number, attempt) in attempts.iter().enumerate() {
            assert!(attempt.is_ok(), "attempt {number}: {attempt:?}");
        }
        let gave_way = scene.victim.bites(GAVE_WAY);
        println!("{gave_way} gave way");
        assert!(gave_way >= 45, "{gave_way} gave way");
        silent.retain_mut(is_open);
        assert!(silent.len() <= 256, "{} are waited for", silent.len());
        crowd.await_rounds(ENOUGH);
    });
}

/// As many as a cluster behind one address may have. All of them stay connected.
fn two_dozen_stay(scene: &Scene, from: &[&str]) {
    scene.under("two dozen peers", Streams::New, |crowd| {
        let mut peers = Vec::new();
        for from in from {
            for number in 0..24 {
                let from: IpAddr = from.parse().expect("an address");
                let peer = connects(&scene.victim, from);
                peers.push(peer.unwrap_or_else(|error| panic!("{number} of {from}: {error}")));
            }
        }
        crowd.await_rounds(ENOUGH);
        let connected = scene.victim.client().list_peers();
        for peer in &peers {
            let stays = connected.iter().any(|(id, _)| *id == peer.peer_id());
            assert!(stays, "{} is gone", peer.peer_id());
        }
        assert_eq!(
            (scene.victim.bites(COUNT), scene.victim.bites(RATE)),
            (0, 0)
        );
    });
}

pub fn two_dozen_peers_behind_one_private_address_stay() {
    two_dozen_stay(
        &Scene::new(&["-hostAddrs=/ip4/10.9.0.1/tcp/0"]),
        &["10.9.0.2"],
    );
    two_dozen_stay(&Scene::new(&[]), &["127.0.0.1"]);
}

pub fn two_dozen_peers_of_an_exempt_network_stay() {
    let at = "-hostAddrs=/ip4/203.0.113.1/tcp/0";
    let exempt = Scene::new(&[at, "-connExempt=203.0.113.128/25"]);
    two_dozen_stay(&exempt, &["203.0.113.130", "203.0.113.131"]);
    // Others of that range are not.
    let others: Vec<_> = (0..24)
        .filter_map(|_| connects(&exempt.victim, "203.0.113.2".parse().expect("an address")).ok())
        .collect();
    // Whoever is not listed yet when the next one comes may have to give way.
    let kept = || {
        let peers = exempt.victim.client().list_peers();
        let at = |peer: &(_, Vec<Multiaddr>)| {
            let mut addresses = peer.1.iter();
            addresses.any(|address| address.to_string().starts_with("/ip4/203.0.113.2/"))
        };
        peers.iter().filter(|peer| at(peer)).count()
    };
    assert!(
        eventually(PATIENCE, || kept() == 8),
        "{} of {}",
        kept(),
        others.len()
    );
    assert!(exempt.victim.bites(COUNT) >= 8);
}
