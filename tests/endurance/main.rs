//! What takes long: mutated input from peers and from clients, faults of host and network, and a soak
//! (CONTRIBUTING.md, "Endure").
//!
//! Each trial is this same program in network and mount namespaces of its own, without a route to
//! anywhere: what mutated input makes a daemon dial stays there. Where namespaces are not allowed, or
//! a program is missing, the trial is ignored. `RP2PD_TEST_SEED` repeats a run.

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod mutants;
mod networks;
mod soak;

use std::process::{Command, ExitCode};
use std::str::FromStr;

use libtest_mimic::{Arguments, Failed, Trial};
use support::namespace;

/// A trial: its name, what it does, the program that it needs.
struct Case(&'static str, fn(), Option<&'static str>);

const CASES: &[Case] = &[
    Case("mutants::of_peers", mutants::of_peers, None),
    Case("mutants::of_clients", mutants::of_clients, None),
    Case(
        "networks::none_takes_more_than_its_share",
        networks::none_takes_more_than_its_share,
        None,
    ),
    Case(
        "soak::memory_and_descriptors_stay_level",
        soak::memory_and_descriptors_stay_level,
        None,
    ),
    Case(
        "faults::disk::without_room_or_rights",
        faults::disk::without_room_or_rights,
        None,
    ),
    Case(
        "faults::loss::transfers_complete",
        faults::loss::transfers_complete,
        Some("nft"),
    ),
    Case(
        "faults::partition::heals",
        faults::partition::heals,
        Some("nft"),
    ),
    Case(
        "faults::partition::wrong_addresses_are_dropped",
        faults::partition::wrong_addresses_are_dropped,
        None,
    ),
    Case(
        "faults::clock::jumps_cost_nothing",
        faults::clock::jumps_cost_nothing,
        Some("faketime"),
    ),
];

/// The first word that makes this program run one case in the namespaces it is in.
const INSIDE: &str = "inside-namespaces";

/// Then the arguments are the program.
const SET_UP: &str = "ip link set lo up && ip address add 10.9.0.1/24 dev lo && \
                      ip address add 10.9.0.2/24 dev lo";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, inside, name] = &words[..]
        && inside == INSIDE
    {
        // Both ends of most connections are here.
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let case = CASES.iter().find(|Case(case, ..)| case == name);
        case.expect("a case").1();
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // Most of them measure.
    arguments.test_threads = Some(1);
    let namespaces = namespaces().is_some();
    let trials = CASES.iter().map(|Case(name, _, program)| {
        let there = program.is_none_or(is_there);
        let trial = Trial::test(*name, move || run_inside(name));
        trial.with_ignored_flag(!namespaces || !there || !is_asked_for(name))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Whether a trial that takes minutes is to run.
fn is_asked_for(name: &str) -> bool {
    if name == soak::NAME {
        soak::length().is_some()
    } else if name.starts_with(faults::PREFIX) {
        faults::length().is_some()
    } else {
        true
    }
}

fn is_there(program: &str) -> bool {
    let tried = Command::new(program).arg("--version").output();
    tried.is_ok()
}

fn run_inside(name: &str) -> Result<(), Failed> {
    let status = namespaces()
        .ok_or("no namespaces")?
        .arg(std::env::current_exe()?)
        .args([INSIDE, name])
        .status()?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| "see above".into())
}

/// A command that runs another in namespaces of its own.
fn namespaces() -> Option<Command> {
    namespace::inside_of(&["--net", "--mount"], SET_UP)
}

/// A number from the environment.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}
