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
        ] {
            let bytes = if argument.is_empty() { "" } else { "_bytes_" };
            let name = format!("{case}{bytes}{argument}_{control}");
            trials.push(trial(SUITE, &name, move || client(case, tcp, argument)));
        }
    }
    trials
}

fn client(case: &str, tcp: bool, argument: &str) -> Result<(), String> {
    let dir = install::GO.as_ref()?;
    let (a, b) = (daemon(tcp), daemon(tcp));
    let argument = match case {
        "identify" => a.peer_id().to_string(),
        _ => argument.into(),
    };
    run(
        Command::new(dir.join("client"))
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
