//! Names in the addresses of CONNECT (COMPATIBILITY.md 4.5), on a machine with a name server of
//! the test's own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::RecordType;
use libp2p::Multiaddr;

use super::dialing::{port_of, refused, silent, was_dialed};
use super::*;
use crate::support::dns::{self, NameServer};
use crate::support::relay::{HOP, Hop, OK, RESERVE, ask};
use crate::support::{PATIENCE, eventually};

/// A daemon on a machine that asks `server`. The files in the folder are the machine's.
fn on_a_machine(server: Ipv4Addr) -> Option<(Daemon, tempfile::TempDir)> {
    configured(&resolv_conf(server))
}

/// A daemon on a machine with this `/etc/resolv.conf`.
fn configured(resolv_conf: &str) -> Option<(Daemon, tempfile::TempDir)> {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("write");
    write("hosts", "127.0.0.1 localhost\n");
    write("resolv.conf", resolv_conf);
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

/// What is wanted at once takes no longer than this, on a busy machine; a silent server costs five
/// seconds.
const AT_ONCE: Duration = Duration::from_secs(4);

#[test]
fn a_silent_name_server_is_waited_for_five_seconds_and_delays_no_address() {
    let Some(server) = NameServer::start(Ipv4Addr::new(127, 9, 1, 8)) else {
        return;
    };
    server.mute("", None);
    // As a system has it without options.
    let Some((a, _dir)) = configured(&format!("nameserver {}\n", server.address)) else {
        return;
    };
    let (b, c) = (node(), node());
    let started = Instant::now();
    let named = address("/dns4/named.example/tcp/1");
    let addrs = [named.clone(), b.addrs()[0].clone()];
    a.client().connect_peer(b.peer_id(), &addrs);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    assert!(server.asked() > 0);
    let started = Instant::now();
    let text = refused(&mut a.client(), c.peer_id(), &["/dns/named.example/tcp/1"]);
    let took = started.elapsed();
    println!("{took:?} {text}");
    assert!(text.contains("DNS does not answer"), "{text}");
    assert!(
        took > Duration::from_secs(3),
        "nobody was waited for: {took:?}"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Some name servers drop every question for an IPv6 address.
#[test]
fn the_addresses_of_one_kind_need_not_wait_for_those_of_the_other() {
    let Some(server) = NameServer::start(Ipv4Addr::new(127, 9, 1, 9)) else {
        return;
    };
    server.host("half.example", Ipv4Addr::LOCALHOST);
    server.mute("", Some(RecordType::AAAA));
    let Some((a, _dir)) = configured(&format!("nameserver {}\n", server.address)) else {
        return;
    };
    let b = node();
    let name = format!("/dns/half.example/tcp/{}", port_of(&b.addrs()[0]));
    let started = Instant::now();
    a.client().connect_peer(b.peer_id(), &[address(&name)]);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
}

#[test]
fn of_three_name_servers_two_may_be_silent() {
    let servers = [10, 11, 12].map(|last| NameServer::start(Ipv4Addr::new(127, 9, 1, last)));
    let [Some(first), Some(second), Some(third)] = servers else {
        return;
    };
    first.mute("", None);
    second.mute("", None);
    third.host("found.example", Ipv4Addr::LOCALHOST);
    // The others are asked before it answers.
    third.slow_down();
    let lines = [&first, &second, &third].map(|one| format!("nameserver {}\n", one.address));
    let Some((a, _dir)) = configured(&lines.concat()) else {
        return;
    };
    let b = node();
    let name = format!("/dns4/found.example/tcp/{}", port_of(&b.addrs()[0]));
    let started = Instant::now();
    a.client().connect_peer(b.peer_id(), &[address(&name)]);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    let all = || first.asked() > 0 && second.asked() > 0;
    assert!(eventually(PATIENCE, all), "nobody was silent");
}

/// Of the records of one name, twenty lead to names that nobody knows anything of.
#[test]
fn silent_names_among_the_records_of_a_name_do_not_delay_the_others() {
    let Some(server) = NameServer::start(Ipv4Addr::new(127, 9, 1, 13)) else {
        return;
    };
    let Some((a, _dir)) = on_a_machine(server.address) else {
        return;
    };
    let b = node();
    let (id, port) = (b.peer_id(), port_of(&b.addrs()[0]));
    server.mute("silent", None);
    for number in 0..20 {
        let silent = format!("/dns4/silent{number}.example/tcp/1/p2p/{id}");
        server.dnsaddr("mixed.example", &silent);
    }
    let live = format!("/dns4/live.example/tcp/{port}/p2p/{id}");
    server.dnsaddr("mixed.example", &live);
    server.host("live.example", Ipv4Addr::LOCALHOST);
    let started = Instant::now();
    a.client()
        .connect_peer(id, &[address("/dnsaddr/mixed.example")]);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
}

#[test]
fn the_last_of_two_hundred_addresses_and_of_a_hundred_names_is_reached() {
    let Some(server) = NameServer::start(Ipv4Addr::new(127, 9, 1, 14)) else {
        return;
    };
    let Some((a, _dir)) = on_a_machine(server.address) else {
        return;
    };
    let b = node();
    let (id, live) = (b.peer_id(), &b.addrs()[0]);
    let (listeners, _) = silent(1);
    let dead = listeners[0].local_addr().expect("an address").port();
    drop(listeners);
    for host in 1..=200 {
        let closed = format!("/ip4/127.0.1.{host}/tcp/{dead}/p2p/{id}");
        server.dnsaddr("addresses.example", &closed);
    }
    server.dnsaddr("addresses.example", &format!("{live}/p2p/{id}"));
    a.client()
        .connect_peer(id, &[address("/dnsaddr/addresses.example")]);
    a.client().disconnect(id);
    // The other daemon is known where it is; a third one by its name alone.
    let c = node();
    let (id, port) = (c.peer_id(), port_of(&c.addrs()[0]));
    for number in 0..99 {
        let name = format!("/dns4/nowhere{number}.example/tcp/1/p2p/{id}");
        server.dnsaddr("names.example", &name);
    }
    let last = format!("/dns4/last.example/tcp/{port}/p2p/{id}");
    server.dnsaddr("names.example", &last);
    server.host("last.example", Ipv4Addr::LOCALHOST);
    a.client()
        .connect_peer(id, &[address("/dnsaddr/names.example")]);
}
