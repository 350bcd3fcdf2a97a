//! Multicast DNS on a segment with a hostile neighbour (SECURITY.md, Multicast DNS).

use std::process::Command;

use super::*;
use crate::support::{PATIENCE, eventually, lab::Lab};

const NEIGHBOUR: &str = include_str!("neighbour.py");

/// Memory that 24,000 packets may cost, in KiB.
const GROWTH: u64 = 32 << 10;

#[test]
fn packets_cut_oversized_and_repeated_cost_little_and_hide_nobody() {
    let python = Command::new("python3").arg("--version").output().is_ok();
    let Some(lab) = Lab::new().filter(|_| python) else {
        assert!(std::env::var_os("CI").is_none(), "no python3");
        return;
    };
    let hosts = [1, 2, 3].map(|last| lab.host(&format!("10.9.0.{last}/24")));
    let [one, two, three] = &hosts;
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), NEIGHBOUR).expect("write");
    let a = on(one, &["-mdns"]);
    let before = a.rss_kib();
    let output = three
        .command("python3")
        .arg(script.path())
        .args(["10.9.0.3", "5001"])
        .output()
        .expect("python3");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{told}{}", String::from_utf8_lossy(&output.stderr));
    let words: Vec<&str> = told.split_whitespace().collect();
    let [answers, seconds, sent, dialed] = words[..] else {
        panic!("{told} {}", String::from_utf8_lossy(&output.stderr));
    };
    let answers: f64 = answers.parse().expect("a number");
    let seconds: f64 = seconds.parse().expect("a number");
    let sent: u64 = sent.parse().expect("a number");
    assert!(sent > 1 << 20, "{sent} bytes were sent");
    // One a second, one for each of its own questions.
    assert!(answers >= 1.0, "it has heard nothing");
    assert!(answers <= seconds + 6.0, "{answers} in {seconds} s");
    assert_eq!(dialed, "nobody");
    let grown = a.rss_kib().saturating_sub(before);
    println!("{grown} KiB more");
    assert!(grown < GROWTH, "{grown} KiB");
    // Who is honest is found all the same, and by it.
    let b = on(two, &["-mdns"]);
    let met = eventually(PATIENCE, || {
        a.client().connect_to(b.peer_id(), &[]).is_ok()
            && b.client().connect_to(a.peer_id(), &[]).is_ok()
    });
    assert!(met, "{} {}", a.stderr(), b.stderr());
}
