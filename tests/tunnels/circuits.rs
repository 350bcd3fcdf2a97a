//! Tunnels over circuits, with the limits of the relay.

use std::io::{Read as _, Write as _};

use super::support::payload;
use super::*;

#[test]
fn a_tunnel_over_a_circuit_has_its_limits() {
    const LIMIT: usize = 1 << 20;
    let limit = format!("-relayDataLimit={LIMIT}");
    let relay = Daemon::spawn(&[LISTEN, "-forceReachabilityPublic", &limit]);
    let at = format!("{}/p2p/{}", relay.addrs()[0], relay.peer_id());
    let trusted = format!("-trustedRelays={at}");
    let far = Daemon::spawn(&[
        LISTEN,
        "-dhtClient",
        "-autoRelay",
        "-forceReachabilityPrivate",
        &trusted,
    ]);
    let circuit: Multiaddr = format!("{at}/p2p-circuit").parse().expect("an address");
    let told = || far.client().identify().1.contains(&circuit);
    assert!(eventually(PATIENCE, told), "no circuit");
    let near = node();
    made(&far, expose(service::echo()));
    let wanted = TunnelRequest {
        addrs: vec![circuit.to_vec().into()],
        ..forward(far.peer_id())
    };
    let at = port(&made(&near, wanted));
    let mut socket = dial(at);
    let sent = payload(LIMIT / 8, 4);
    socket.write_all(&sent).expect("sent");
    let mut came = vec![0; sent.len()];
    socket.read_exact(&mut came).expect("came back");
    assert!(came == sent);
    let relayed = near.client().list_peers().into_iter();
    let relayed = relayed.filter(|(peer, _)| *peer == far.peer_id());
    let addrs: Vec<String> = relayed
        .flat_map(|(_, addrs)| addrs)
        .map(|addr| addr.to_string())
        .collect();
    assert!(
        addrs.iter().all(|addr| addr.contains("/p2p-circuit")),
        "{addrs:?}"
    );
    // Beyond the limit the relay cuts the circuit, which is a reset.
    let mut writer = socket.try_clone().expect("a handle");
    std::thread::spawn(move || {
        let _ = writer.write_all(&payload(4 * LIMIT, 5));
    });
    assert_reset(&mut socket);
    await_open(&near, 0);
}
