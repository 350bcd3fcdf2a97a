//! What comes of hole punching is counted, in go-libp2p's words.

use super::*;
use crate::support::{PATIENCE, eventually};

/// Asks for the metrics of a daemon on another host.
const SCRAPE: &str = r"exec 3<>/dev/tcp/127.0.0.1/9100
    printf 'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3
    cat <&3";

/// Whether the daemon of B counts so.
fn counts(scene: &Scene, series: &str) -> bool {
    let output = scene
        .host_of_b()
        .command("bash")
        .args(["-c", SCRAPE])
        .output();
    let text = String::from_utf8(output.expect("bash").stdout).expect("text");
    text.lines().any(|line| line == series)
}

#[test]
fn what_comes_of_a_punch_is_counted() {
    let Some(lab) = Lab::new() else { return };
    let private = ["-forceReachabilityPrivate", "-metricsAddr=127.0.0.1:9100"];
    let caller = [
        "-forceReachabilityPrivate",
        "-announceAddrs=/ip4/60.0.77.1/tcp/4001",
    ];
    let ends = [End::own(Nat::Port), End::own(Nat::Port)];
    let scene = Scene::with_flags(&lab, ends, Carrier::Tcp, [&caller, &private]);
    let scene = scene.expect("a scene");
    for family in [
        "libp2p_holepunch_direct_dials_total{outcome=\"failed\"}",
        "libp2p_holepunch_outcomes_total{side=\"initiator\",num_attempts=\"1\",outcome=\"success\"}",
        "libp2p_holepunch_address_outcomes_total{side=\"initiator\",num_attempts=\"1\",ipv=\"ip4\",transport=\"tcp\",outcome=\"success\"}",
    ] {
        assert!(counts(&scene, &format!("{family} 0")), "{family}");
    }
    scene
        .call(PATIENCE)
        .expect("CONNECT")
        .expect("a direct connection");
    // The caller says that it is where nobody is.
    let first = "libp2p_holepunch_direct_dials_total{outcome=\"failed\"} 1";
    assert!(eventually(PATIENCE, || counts(&scene, first)), "{first}");
    // The emulated NATs lose a round now and then.
    let won = |family: &str, rest: &str| {
        (1..=3).any(|round| {
            let labels = format!("side=\"initiator\",num_attempts=\"{round}\"{rest}");
            counts(
                &scene,
                &format!("{family}{{{labels},outcome=\"success\"}} 1"),
            )
        })
    };
    assert!(eventually(PATIENCE, || won(
        "libp2p_holepunch_outcomes_total",
        ""
    )));
    let socket = ",ipv=\"ip4\",transport=\"tcp\"";
    assert!(won("libp2p_holepunch_address_outcomes_total", socket));
}
