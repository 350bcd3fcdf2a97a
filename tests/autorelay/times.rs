//! How long until a node behind a NAT can be reached, with the flags of its clients. A server of
//! AutoNAT takes 15 s to say that it could not dial.

use super::*;

/// Starts a node behind a NAT beside `count` relays; a stranger must reach it within `time`.
fn is_reached(count: usize, time: u64, flags: impl Fn(&Relays) -> Vec<String>) {
    let Some(lab) = Lab::new() else { return };
    let relays = Relays::new(&lab, count);
    let (_router, inside) = lab.behind_nat("60.0.10.1/16", 10);
    let flags = flags(&relays);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let node = behind_nat(&inside, &relays.first(), &flags);
    let took = circuit_within(&node, Duration::from_secs(2 * time + 30));
    println!("{count} relays, {flags:?}: a circuit after {took:.1?}");
    assert!(
        took <= Duration::from_secs(time),
        "{took:?}: {}",
        node.stderr()
    );
    // What is public has given way, and what is told is Go's.
    let told = told(&node);
    assert_eq!(
        told[..2],
        ["/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.10.2/tcp/4001"]
    );
    let circuits = circuits(&node);
    let known: Vec<_> = (1..=count).map(|number| relays.through(number)).collect();
    assert_eq!(told[2..], circuits);
    assert!(
        circuits.iter().all(|circuit| known.contains(circuit)),
        "{circuits:?}"
    );
    let host = lab.host("60.0.20.1/16");
    let stranger = host
        .launch_program(env!("CARGO_BIN_EXE_rp2pd"))
        .args(["-hostAddrs=/ip4/0.0.0.0/tcp/4001"])
        .spawn();
    reached(&stranger, &node, &circuits[0]);
}

fn words(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

#[test]
fn with_five_relays() {
    is_reached(5, 16, |_| words(&["-dhtServer"]));
}

/// As Petals runs it.
#[test]
fn with_five_relays_as_a_client_of_the_dht() {
    is_reached(5, 25, |_| words(&["-dhtClient=1"]));
}

#[test]
fn with_one_relay() {
    is_reached(1, 25, |_| words(&["-dhtServer"]));
}

/// Hivemind never switches the discovery off.
#[test]
fn with_a_trusted_relay_as_hivemind_passes_it() {
    is_reached(1, 20, |relays| {
        let trusted = format!("-trustedRelays={}", relays.first());
        vec!["-dhtServer".to_owned(), trusted]
    });
}

/// Nothing is dialed back to, so that a node without listeners is private as well.
#[test]
fn without_listeners() {
    let Some(lab) = Lab::new() else { return };
    let relays = Relays::new(&lab, 1);
    let (_router, inside) = lab.behind_nat("60.0.10.1/16", 10);
    let node = inside
        .launch()
        .args([
            "-noListenAddrs=1",
            "-autonat=1",
            "-b=1",
            "-dhtServer",
            "-autoRelay=1",
        ])
        .args([format!("-bootstrapPeers={}", relays.first())])
        .env("GOLOG_LOG_LEVEL", "error,autorelay=info,autonat=info")
        .spawn();
    let took = circuit_within(&node, Duration::from_secs(60));
    println!("without listeners: a circuit after {took:.1?}");
    assert_eq!(told(&node), [relays.through(1)]);
    let host = lab.host("60.0.20.1/16");
    let stranger = host
        .launch_program(env!("CARGO_BIN_EXE_rp2pd"))
        .args(["-hostAddrs=/ip4/0.0.0.0/tcp/4001"])
        .spawn();
    reached(&stranger, &node, &relays.through(1));
}

/// Clients ask for the addresses once, right after the start.
#[test]
fn forced_private_the_first_identify_has_the_circuit() {
    let Some(lab) = Lab::new() else { return };
    let relays = Relays::new(&lab, 1);
    let (_router, inside) = lab.behind_nat("60.0.10.1/16", 10);
    let trusted = format!("-trustedRelays={}", relays.first());
    let flags = ["-dhtClient=1", "-forceReachabilityPrivate=1", &trusted];
    let begun = Instant::now();
    let node = behind_nat(&inside, &relays.first(), &flags);
    println!("forced private: ready after {:.1?}", begun.elapsed());
    // What IDENTIFY has given at the start.
    let first: Vec<_> = node.addrs().iter().map(ToString::to_string).collect();
    assert!(first.contains(&relays.through(1)), "{first:?}");
}
