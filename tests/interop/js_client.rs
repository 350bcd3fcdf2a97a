//! `@libp2p/daemon-client`: every method in scope, over both kinds of control socket.

use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use sha2::{Digest, Sha256};

use super::install;
use super::program::run;
use super::suite::trial;
use crate::support::{Daemon, Handler, Launch, PATIENCE};

const SUITE: &str = "js_client";
/// Enough for 64 MiB through JavaScript on a machine that is busy with other tests.
const CASE: Duration = Duration::from_secs(120);
const MIB: usize = 1 << 20;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (control, tcp) in [("tcp", true), ("unix", false)] {
        for case in [
            "connect_and_list_peers",
            "connect_refuses_a_wrong_peer",
            "open_stream_refuses_an_unknown_protocol",
        ] {
            trials.push(case_trial(&format!("{case}_{control}"), case, tcp, 0));
        }
        trials.push(trial(SUITE, &format!("identify_{control}"), move || {
            let daemon = daemon(tcp);
            let id = daemon.peer_id().to_string();
            client("identify", &daemon, &daemon, &id)
        }));
        trials.push(trial(SUITE, &format!("pubsub_{control}"), move || {
            let daemon = || {
                let launch = Launch::new().args(["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-pubsub"]);
                if tcp { launch.tcp() } else { launch }.spawn()
            };
            let half = (MIB / 2).to_string();
            client("pubsub", &daemon(), &daemon(), &half)
        }));
        trials.push(trial(SUITE, &format!("half_close_{control}"), move || {
            half_close(tcp)
        }));
        for (label, size) in [("1B", 1), ("1MiB", MIB)] {
            trials.push(case_trial(
                &format!("echo_{label}_{control}"),
                "echo",
                tcp,
                size,
            ));
        }
    }
    trials.push(case_trial("echo_64MiB", "echo", true, 64 * MIB));
    trials.push(case_trial(
        "echo_slashless_1MiB",
        "echo_slashless",
        true,
        MIB,
    ));
    trials
}

fn case_trial(name: &str, case: &'static str, tcp: bool, size: usize) -> Trial {
    trial(SUITE, name, move || {
        client(case, &daemon(tcp), &daemon(tcp), &size.to_string())
    })
}

/// The opener is the JavaScript client; the handler answers only after the end of what it
/// receives, which a handler in that client cannot do.
fn half_close(tcp: bool) -> Result<(), String> {
    // First: an installation may outlast the patience of the handler.
    install::JS.as_ref()?;
    let (a, b) = (daemon(tcp), daemon(tcp));
    let handler = if tcp { Handler::tcp() } else { Handler::unix() };
    handler.register(&mut b.client(), &["/interop/late/1.0.0"], None)?;
    let late = std::thread::spawn(move || {
        let (_, mut pipe) = handler.accept(PATIENCE)?;
        let mut all = Vec::new();
        pipe.read_to_end(&mut all)?;
        let digest = Sha256::digest(&all);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        pipe.write_all(format!("{} {hex}", all.len()).as_bytes())
    });
    let seen = client("half_close", &a, &b, &MIB.to_string());
    let replied = late.join().map_err(|_| "the handler panicked")?;
    seen?;
    replied.map_err(|error| format!("the handler: {error}"))
}

fn client(case: &str, a: &Daemon, b: &Daemon, argument: &str) -> Result<(), String> {
    let dir = install::JS.as_ref()?;
    run(
        Command::new("node")
            .arg(dir.join("client.mjs"))
            .arg(case)
            .args([a.control().multiaddr(), b.control().multiaddr()])
            .arg(argument),
        CASE,
    )
    .map(drop)
}

fn daemon(tcp: bool) -> Daemon {
    let launch = Launch::new().args(["-hostAddrs=/ip4/127.0.0.1/tcp/0"]);
    if tcp { launch.tcp() } else { launch }.spawn()
}
