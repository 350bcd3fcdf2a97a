//! Who may use the control socket, and how far a request reaches (SECURITY.md 1).
//!
//! Clients of other users are threads that have changed their user, for which the tests must run
//! as root. Clients and peers at addresses other than loopback are this same program in a network
//! namespace. Where either is not allowed, those trials are ignored.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod connections;
mod http;
mod users;

use std::io::Read as _;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use rp2pd::wire::pb::{Request, Response, StreamHandlerRequest, request, response};
use support::control::typed;
use support::{ControlClient, Daemon, Launch, PATIENCE, eventually, namespace};

/// A trial and what it needs.
type Case = (&'static str, fn());

const HERE: [Case; 5] = [
    (
        "http::http_is_refused_at_its_first_word",
        http::http_is_refused_at_its_first_word,
    ),
    (
        "addresses::loopback_clients_reach_loopback_and_own_sockets",
        addresses::loopback_clients_reach_loopback_and_own_sockets,
    ),
    (
        "addresses::handler_allow_any_is_as_go",
        addresses::handler_allow_any_is_as_go,
    ),
    (
        "addresses::handlers_may_be_anywhere_by_the_file",
        addresses::handlers_may_be_anywhere_by_the_file,
    ),
    (
        "users::the_list_may_be_in_the_file",
        users::the_list_may_be_in_the_file,
    ),
];

const AS_ROOT: [Case; 4] = [
    (
        "users::only_users_on_the_list_are_served",
        users::only_users_on_the_list_are_served,
    ),
    (
        "users::a_socket_of_another_user_is_no_handler",
        users::a_socket_of_another_user_is_no_handler,
    ),
    (
        "users::a_path_that_changes_hands_gets_no_stream",
        users::a_path_that_changes_hands_gets_no_stream,
    ),
    (
        "users::tcp_clients_do_not_reach_sockets_of_other_users",
        users::tcp_clients_do_not_reach_sockets_of_other_users,
    ),
];

const IN_NAMESPACE: [Case; 13] = [
    (
        "addresses::only_networks_on_the_list_are_served",
        addresses::only_networks_on_the_list_are_served,
    ),
    (
        "addresses::other_clients_reach_their_own_address_only",
        addresses::other_clients_reach_their_own_address_only,
    ),
    (
        "connections::one_address_has_eight_connections",
        connections::one_address_has_eight_connections,
    ),
    (
        "connections::one_address_connects_sixteen_times_at_once",
        connections::one_address_connects_sixteen_times_at_once,
    ),
    (
        "connections::an_address_that_storms_keeps_nobody_else_out",
        connections::an_address_that_storms_keeps_nobody_else_out,
    ),
    (
        "connections::limits_of_addresses_can_be_off",
        connections::limits_of_addresses_can_be_off,
    ),
    (
        "connections::quic_counts_as_well",
        connections::quic_counts_as_well,
    ),
    (
        "connections::customers_and_sites_of_ipv6_count_as_in_go",
        connections::customers_and_sites_of_ipv6_count_as_in_go,
    ),
    (
        "connections::who_is_refused_hears_so_before_the_handshake",
        connections::who_is_refused_hears_so_before_the_handshake,
    ),
    (
        "connections::private_addresses_have_far_more",
        connections::private_addresses_have_far_more,
    ),
    (
        "connections::exempt_networks_have_no_limit",
        connections::exempt_networks_have_no_limit,
    ),
    (
        "connections::limits_of_addresses_may_be_in_the_file",
        connections::limits_of_addresses_may_be_in_the_file,
    ),
    (
        "addresses::the_networks_may_be_in_the_file",
        addresses::the_networks_may_be_in_the_file,
    ),
];

/// The first word that makes this program run one case in the namespace it is in.
const INSIDE: &str = "inside-namespace";

/// Gives the namespace three private addresses, and public ones that are no interface's: what
/// comes from those comes from elsewhere, as far as the daemon can tell. Then the arguments are the
/// program.
const SET_UP: &str = "ip link set lo up && ip address add 10.9.0.1/24 dev lo && \
                      ip address add 10.9.0.2/24 dev lo && ip address add 10.9.0.3/24 dev lo && \
                      ip route add local 203.0.113.0/24 dev lo && \
                      ip -6 route add local 2001:db8::/32 dev lo && \
                      echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, inside, name] = &words[..]
        && inside == INSIDE
    {
        let case = IN_NAMESPACE.iter().find(|(case, _)| case == name);
        case.expect("a case").1();
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let root = rustix::process::geteuid().is_root();
    let namespaces = namespace::inside(SET_UP).is_some();
    let mut trials = Vec::new();
    for (name, case) in HERE {
        trials.push(Trial::test(name, move || run(case)));
    }
    for (name, case) in AS_ROOT {
        trials.push(Trial::test(name, move || run(case)).with_ignored_flag(!root));
    }
    for (name, _) in IN_NAMESPACE {
        let trial = Trial::test(name, move || run_inside(name));
        trials.push(trial.with_ignored_flag(!namespaces));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A case that panics fails.
fn run(case: fn()) -> Result<(), Failed> {
    case();
    Ok(())
}

fn run_inside(name: &str) -> Result<(), Failed> {
    let output = namespace::inside(SET_UP)
        .ok_or("no network namespaces")?
        .arg(std::env::current_exe()?)
        .args([INSIDE, name])
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

/// A launch with this configuration; the file lives as long as what comes with it.
fn with_file(launch: Launch, json: &str) -> (Launch, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), json).expect("write");
    (launch.args(["-f".into(), file.path().to_owned()]), file)
}

/// Names `addr` as the handler of `name`; the ERROR text if that is refused.
fn register(client: &mut ControlClient, addr: &[u8], name: &str) -> Result<(), String> {
    let mut request: Request = typed(request::Type::StreamHandler);
    request.stream_handler = Some(StreamHandlerRequest {
        addr: Some(addr.to_vec().into()),
        proto: vec![name.to_owned().into()],
        balanced: None,
    });
    client.ask(&request).map(drop)
}

/// The ERROR that a client gets unasked, after which the daemon closes.
fn turned_away(client: &mut ControlClient) -> String {
    let answer: Response = client.receive().expect("an answer");
    assert_eq!(answer.r#type(), response::Type::Error);
    assert_eq!(client.pipe.read(&mut [0]).expect("the end"), 0);
    answer.error.expect("a text").msg
}
