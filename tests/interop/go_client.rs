//! Go's own `p2pclient` v0.9.2, over both kinds of control socket.

use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;

use super::install;
use super::program::run;
use super::suite::trial;
use crate::support::{Daemon, Launch};

const SUITE: &str = "go_client";
const CASE: Duration = Duration::from_secs(120);

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (control, tcp) in [("tcp", true), ("unix", false)] {
        for (case, argument) in [
            ("identify", ""),
            ("connect", ""),
            ("disconnect", ""),
            ("unknown_protocol", ""),
            ("half_close", ""),
            ("echo", "1"),
            ("echo", "1048576"),
            ("unread", "300"),
            ("gone_handler", ""),
            ("bad_address", ""),
            ("topics", ""),
            ("messages", ""),
            ("dht", ""),
        ] {
            let amount = match case {
                "echo" => format!("_bytes_{argument}"),
                "unread" => format!("_{argument}_times"),
                _ => String::new(),
            };
            let name = format!("{case}{amount}_{control}");
            trials.push(trial(SUITE, &name, move || client(case, tcp, argument)));
        }
    }
    trials.push(trial(SUITE, "echo_between_rp2pd_and_gos_daemon", || {
        let go = install::GO.as_ref()?.join("p2pd");
        let go = launch(false).binary(go).try_spawn()?;
        run_case("echo", &launch(false).try_spawn()?, &go, "1048576")
    }));
    trials
}

fn client(case: &str, tcp: bool, argument: &str) -> Result<(), String> {
    let flags: &[&str] = match case {
        "dht" => &["-dhtServer"],
        "topics" | "messages" => &["-pubsub"],
        _ => &[],
    };
    let start = || launch(tcp).args(flags).try_spawn();
    let (a, b) = (start()?, start()?);
    match case {
        "identify" => run_case(case, &a, &b, &a.peer_id().to_string()),
        _ => run_case(case, &a, &b, argument),
    }
}

fn run_case(case: &str, a: &Daemon, b: &Daemon, argument: &str) -> Result<(), String> {
    let program = install::GO.as_ref()?.join("client");
    run(
        Command::new(program)
            .arg(case)
            .args([a.control().multiaddr(), b.control().multiaddr()])
            .arg(argument),
        CASE,
    )
    .map(drop)
}

fn launch(tcp: bool) -> Launch {
    let launch = Launch::new().args(["-hostAddrs=/ip4/127.0.0.1/tcp/0"]);
    if tcp { launch.tcp() } else { launch }
}
