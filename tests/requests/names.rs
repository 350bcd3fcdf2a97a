//! Names in the addresses of CONNECT (COMPATIBILITY.md 4.5), on a machine with a name server of
//! the test's own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;

use super::dialing::{port_of, refused, silent, was_dialed};
use super::*;
use crate::support::dns::{self, NameServer};
use crate::support::relay::{HOP, Hop, OK, RESERVE, ask};

/// A daemon on a machine that asks `server`. The files in the folder are the machine's.
fn on_a_machine(server: Ipv4Addr) -> Option<(Daemon, tempfile::TempDir)> {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("write");
    write("hosts", "127.0.0.1 localhost\n");
    write("resolv.conf", &resolv_conf(server));
    let launch = dns::machine(dir.path())?;
    Some((
        launch.args(["-hostAddrs=/ip4/127.0.0.1/tcp/0"]).spawn(),
        dir,
    ))
}

fn resolv_conf(server: Ipv4Addr) -> String {
    format!("nameserver {server}\noptions timeout:1 attempts:1\n")
}

fn address(text: &str) -> Multiaddr {
    text.parse().expect("an address")
}

#[test]
fn the_last_of_many_addresses_of_a_name_is_reached_soon() {
    let Some(server) = NameServer::start(Ipv4Addr::new(127, 9, 1, 1)) else {
        return;
    };
    let Some((a, _dir)) = on_a_machine(server.address) else {
        return;
    };
    let b = node();
    let (listeners, mut addrs) = silent(24);
    addrs.push(b.addrs()[0].clone());
    for addr in &addrs {
        server.dnsaddr("many.example", &format!("{addr}/p2p/{}", b.peer_id()));
    }
    let started = Instant::now();
    a.client()
        .connect_peer(b.peer_id(), &[address("/dnsaddr/many.example")]);
    let took = started.elapsed();
    println!("{took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(server.asked_over_tcp() > 0, "the answer fitted into UDP");
    let dialed = listeners.iter().filter(|one| was_dialed(one)).count();
    assert!(dialed > 0, "no silent address was dialed");
}

#[test]
fn names_that_refer_to_names_are_followed() {
    let Some(server) = NameServer::start(Ipv4Addr::new(127, 9, 1, 2)) else {
        return;
    };
    let Some((a, _dir)) = on_a_machine(server.address) else {
        return;
    };
    let (b, other) = (node(), PeerId::random());
    let id = b.peer_id();
    server.dnsaddr(
        "root.example",
        &format!("/dnsaddr/other.example/p2p/{other}"),
    );
    server.dnsaddr("root.example", &format!("/dnsaddr/leaf.example/p2p/{id}"));
    let port = port_of(&b.addrs()[0]);
    server.dnsaddr(
        "leaf.example",
        &format!("/dns4/host.example/tcp/{port}/p2p/{id}"),
    );
    server.host("host.example", Ipv4Addr::LOCALHOST);
    // A circle ends.
    server.dnsaddr(
        "circle.example",
        &format!("/dnsaddr/circle.example/p2p/{id}"),
    );
    let mut client = a.client();
    let text = refused(&mut client, id, &["/dnsaddr/circle.example"]);
    assert!(text.contains("too many lookups"), "{text}");
    client.connect_peer(id, &[address("/dnsaddr/root.example")]);
}

#[test]
fn a_line_added_to_the_hosts_file_is_seen() {
    let Some(server) = NameServer::start(Ipv4Addr::new(127, 9, 1, 3)) else {
        return;
    };
    let Some((a, dir)) = on_a_machine(server.address) else {
        return;
    };
    let b = node();
    let port = port_of(&b.addrs()[0]);
    let late = format!("/dns4/late.example/tcp/{port}");
    let mut client = a.client();
    let text = refused(&mut client, b.peer_id(), &[&late]);
    assert!(text.contains("late.example"), "{text}");
    assert!(server.asked() > 0, "the failure is the name server's");
    let hosts = "127.0.0.1 localhost\n127.0.0.1 late.example\n";
    fs::write(dir.path().join("hosts"), hosts).expect("write");
    client.connect_peer(b.peer_id(), &[address(&late)]);
}

#[test]
fn another_name_server_is_seen() {
    let Some(server) = NameServer::start(Ipv4Addr::new(127, 9, 1, 4)) else {
        return;
    };
    // Nobody answers there, and the kernel says so at once.
    let Some((a, dir)) = on_a_machine(Ipv4Addr::new(127, 9, 1, 5)) else {
        return;
    };
    let b = node();
    let port = port_of(&b.addrs()[0]);
    server.host("found.example", Ipv4Addr::LOCALHOST);
    let name = format!("/dns4/found.example/tcp/{port}");
    let mut client = a.client();
    let text = refused(&mut client, b.peer_id(), &[&name]);
    println!("{text}");
    assert_eq!(server.asked(), 0);
    fs::write(dir.path().join("resolv.conf"), resolv_conf(server.address)).expect("write");
    client.connect_peer(b.peer_id(), &[address(&name)]);
    assert!(server.asked() > 0);
}

#[test]
fn a_name_and_an_address_that_are_dead_do_not_hide_the_one_that_lives() {
    let Some(server) = NameServer::start(Ipv4Addr::new(127, 9, 1, 6)) else {
        return;
    };
    let Some((a, _dir)) = on_a_machine(server.address) else {
        return;
    };
    let b = node();
    let gone = TcpListener::bind("127.0.0.1:0").expect("bind");
    let dead = gone.local_addr().expect("addr").port();
    drop(gone);
    let addrs = [
        address("/dns4/nowhere.example/tcp/1"),
        address(&format!("/ip4/127.0.0.1/tcp/{dead}")),
        b.addrs()[0].clone(),
    ];
    let started = Instant::now();
    a.client().connect_peer(b.peer_id(), &addrs);
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(server.asked() > 0);
}

/// The name stands for the relay, in front of a circuit.
#[test]
fn a_circuit_by_the_name_of_its_relay() {
    let Some(server) = NameServer::start(Ipv4Addr::new(127, 9, 1, 7)) else {
        return;
    };
    let Some((a, _dir)) = on_a_machine(server.address) else {
        return;
    };
    let (relay, b) = (node(), node());
    b.connect_to(&relay);
    let (_, mut reservation) = b
        .client()
        .open_stream(relay.peer_id(), &[HOP])
        .expect("a stream");
    let request = Hop {
        kind: Some(RESERVE),
        ..Hop::default()
    };
    let answer: Hop = ask(&mut reservation, &request).expect("an answer");
    assert_eq!(answer.status, Some(OK));
    let (at, id) = (&relay.addrs()[0], relay.peer_id());
    server.dnsaddr("relay.example", &format!("{at}/p2p/{id}"));
    server.dnsaddr("relay.example", "/ip4/127.0.0.1/tcp/1");
    let named = format!("/dnsaddr/relay.example/p2p/{id}/p2p-circuit");
    a.client().connect_peer(b.peer_id(), &[address(&named)]);
    let circuit = address(&format!("{at}/p2p/{id}/p2p-circuit"));
    let listed = a.client().list_peers();
    assert!(listed.contains(&(b.peer_id(), vec![circuit])), "{listed:?}");
}
