//! Relays that leave and come back.

use super::*;

/// The fault itself: a relay is away for so long.
const AWAY: Duration = Duration::from_secs(3);

/// A key that a relay keeps over restarts.
fn key() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key").display().to_string();
    (dir, path)
}

/// On loopback, where a trusted relay is told at the address at which it is.
#[test]
fn a_trusted_relay_that_comes_back_is_used_again() {
    let (_dir, path) = key();
    let launch = |at: &str| {
        own(Launch::new())
            .args([&format!("-hostAddrs={at}"), "-createIdentity"])
            .args([&format!("-id={path}"), "-forceReachabilityPublic"])
    };
    let relay = launch("/ip4/127.0.0.1/tcp/0").spawn();
    let at = relay.addrs()[0].to_string();
    let node = Launch::new()
        .args([LISTEN, "-dhtClient", "-autoRelay", "-relayDiscovery=0"])
        .args(["-forceReachabilityPrivate"])
        .args([format!("-trustedRelays={}", named(&relay, &at))])
        .env("GOLOG_LOG_LEVEL", "error,autorelay=info")
        .spawn();
    let circuit = format!("{}/p2p-circuit", named(&relay, &at));
    assert!(told(&node).contains(&circuit), "{:?}", told(&node));
    let was = relay.peer_id();
    drop(relay);
    let begun = Instant::now();
    let gone = eventually(PATIENCE, || circuits(&node).is_empty());
    assert!(gone, "{:?}", circuits(&node));
    println!("gone after {:.2?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(2));
    std::thread::sleep(AWAY);
    let relay = launch(&at).spawn();
    assert_eq!(relay.peer_id(), was);
    let took = circuit_within(&node, Duration::from_secs(60));
    println!("back after {took:.1?}");
    assert_eq!(circuits(&node), std::slice::from_ref(&circuit));
    let stranger = own(Launch::new()).args([LISTEN]).spawn();
    reached(&stranger, &node, &circuit);
    let log = node.stderr();
    assert_eq!(log.matches("relay gained").count(), 2, "{log}");
    assert_eq!(log.matches("relay lost").count(), 1, "{log}");
}

/// One that nobody has named, and that is the only one.
#[test]
fn a_found_relay_that_comes_back_is_used_again() {
    let Some(lab) = Lab::new() else { return };
    let (_dir, path) = key();
    let host = lab.host("60.0.1.1/16");
    let id = format!("-id={path}");
    let launch = || Relays::launch(&host, None, &["-createIdentity", &id]);
    let relay = launch().spawn();
    let (_router, inside) = lab.behind_nat("60.0.10.1/16", 10);
    let first = named(&relay, &at(1));
    let node = behind_nat(
        &inside,
        &first,
        &["-dhtServer", "-forceReachabilityPrivate"],
    );
    let took = circuit_within(&node, PATIENCE);
    println!("one found relay, forced private: {took:.1?}");
    drop(relay);
    let begun = Instant::now();
    let gone = eventually(PATIENCE, || circuits(&node).is_empty());
    assert!(gone && begun.elapsed() < Duration::from_secs(2));
    std::thread::sleep(AWAY);
    let _relay = launch().spawn();
    let took = circuit_within(&node, Duration::from_secs(60));
    println!("back after {took:.1?}");
}

/// There are others: one of them takes its place.
#[test]
fn another_relay_takes_the_place_of_one_that_is_lost() {
    let Some(lab) = Lab::new() else { return };
    let mut relays = Relays::new(&lab, 4);
    let (_router, inside) = lab.behind_nat("60.0.10.1/16", 10);
    let first = relays.first();
    let node = behind_nat(
        &inside,
        &first,
        &["-dhtServer", "-forceReachabilityPrivate"],
    );
    let two = eventually(PATIENCE, || circuits(&node).len() == 2);
    assert!(two, "{:?} {}", circuits(&node), node.stderr());
    let before = circuits(&node);
    // The last that holds a place; the first is where all have joined.
    let lost = (2..=4)
        .rev()
        .find(|number| before.contains(&relays.through(*number)));
    let lost = lost.expect("one of the others");
    let gone = relays.through(lost);
    let (host, relay) = relays.all.remove(lost - 1);
    drop(relay);
    let begun = Instant::now();
    let replaced = eventually(Duration::from_secs(60), || {
        let now = circuits(&node);
        now.len() == 2 && !now.contains(&gone)
    });
    assert!(replaced, "{:?} {}", circuits(&node), node.stderr());
    println!("replaced after {:.2?}", begun.elapsed());
    drop(host);
}
