//! Peers and clients that mean harm, while a hundred normal clients are served: their 99th
//! percentile stays short, and afterwards the daemon is as it was (SECURITY.md 2).
//!
//! `RP2PD_TEST_PATIENCE` is how many times 50 ms that percentile may take: unless told 20 in a debug
//! build, which takes several times the processor time and shares it, and 1 in a release build.
//! `RP2PD_TEST_SLOW_SECONDS` is how long slow clients are slow, 5 unless told. `RP2PD_TEST_SEED`
//! repeats a run. With `RP2PD_TEST_MEMORY`, all attacks are on a daemon that the kernel ends if it
//! uses more bytes than that.

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod connections;
mod controls;
mod dht;
mod dials;
mod frames;
mod handshakes;
mod hop;
mod identify;
mod memory;
mod negotiation;
mod panics;
mod rendezvous;
mod resets;
mod slow;
mod streams;
mod together;
mod told;
mod topics;
mod watchers;
mod websocket;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use support::cgroup::Group;
use support::crowd::{Crowd, Streams};
use support::quiet::Quiet;
use support::{Daemon, Launch, eventually, namespace};

/// A trial.
type Case = (&'static str, fn());

macro_rules! cases {
    ($(#[$doc:meta])* $list:ident: $($module:ident::$name:ident,)*) => {
        $(#[$doc])*
        const $list: &[Case] = &[$((
            concat!(stringify!($module), "::", stringify!($name)),
            $module::$name,
        ),)*];
    };
}

cases! {
    CASES:
    streams::a_hundred_thousand_openings_on_one_connection,
    streams::openings_whose_refusals_are_not_read,
    streams::streams_that_are_never_read,
    frames::frames_that_no_honest_peer_sends,
    frames::pings_without_end,
    negotiation::proposals_without_end,
    negotiation::streams_that_never_say_what_they_are,
    handshakes::handshakes_that_never_finish,
    handshakes::keys_that_are_none,
    identify::stuffed_to_its_limit,
    clients::ten_thousand_connections,
    clients::half_frames_held_open,
    clients::storms_of_handlers,
    slow::readers_and_writers,
    topics::ten_thousand_topics_of_each_peer,
    memory::attacks_within_128_mib,
    websocket::half_messages_within_128_mib,
    websocket::half_messages_to_a_shared_port_within_128_mib,
    websocket::silence_on_a_shared_port,
    dht::answers_that_nobody_takes,
    hop::requests_without_end,
    hop::reservations_from_one_address_without_end,
    hop::messages_that_never_end,
    hop::calls_that_are_never_answered,
    told::pushes_without_end,
    told::peers_that_tell_and_go,
    told::messages_of_empty_entries,
    controls::half_a_million_entries_within_128_mib,
    controls::prunes_that_name_thousands,
    resets::streams_reset_as_soon_as_they_ask,
    resets::half_closed_streams_kept_for_ever,
    watchers::statuses_without_end,
    watchers::thousands_of_http_connections,
    rendezvous::requests_without_end,
}

cases! {
    /// Only debug builds panic when they are asked to.
    PANICS:
    panics::a_session_dies_alone,
    panics::a_stream_dies_alone,
    panics::a_connection_dies_alone,
    panics::protocols_of_the_library_die_with_their_connection,
    panics::without_its_swarm_the_daemon_ends,
}

cases! {
    /// They take minutes and all processors, so they run only when asked for.
    TOGETHER:
    together::within_128_mib,
    together::within_512_mib,
    together::within_2_gib,
}

cases! {
    /// Attacks from many addresses, and towards many.
    IN_NAMESPACE:
    connections::networks_of_one_customer_do_not_fill_the_node,
    connections::silent_sockets_of_one_customer_pin_nothing,
    connections::silent_sockets_of_many_sites_give_way,
    connections::two_dozen_peers_behind_one_private_address_stay,
    connections::two_dozen_peers_of_an_exempt_network_stay,
    dials::silent_addresses_take_256_sockets_at_most,
}

/// The first word that makes this program run one case in the namespace it is in.
const INSIDE: &str = "inside-namespace";

/// Two private addresses of its own, and public ones that are no interface's: what comes from
/// those comes from elsewhere, as far as the daemon can tell. What is sent to 10.77.0.0/16 is lost.
const SET_UP: &str = "ip link set lo up && ip address add 10.9.0.1/24 dev lo && \
                      ip address add 10.9.0.2/24 dev lo && \
                      ip address add 10.88.0.1/32 dev lo && \
                      ip route add 10.77.0.0/16 dev lo src 10.88.0.1 && \
                      ip route add local 203.0.113.0/24 dev lo && \
                      ip -6 route add local 2001:db8::/32 dev lo && \
                      echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind";

fn run_inside(name: &str) -> Result<(), Failed> {
    let output = namespace::inside(SET_UP)
        .ok_or("no network namespaces")?
        .arg(std::env::current_exe()?)
        .args([INSIDE, name])
        .output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, inside, name] = &words[..]
        && inside == INSIDE
    {
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let case = IN_NAMESPACE.iter().find(|(case, _)| case == name);
        case.expect("a case").1();
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // One after another: each measures how long others wait.
    arguments.test_threads = Some(1);
    // Both ends of most connections are here.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let trial = |(name, case): &Case| {
        let case = *case;
        Trial::test(*name, move || {
            case();
            Ok(())
        })
    };
    let panics = cfg!(debug_assertions) && std::env::var_os("RP2PD_TEST_DAEMON").is_none();
    let mut trials: Vec<Trial> = CASES.iter().map(trial).collect();
    trials.extend(
        TOGETHER
            .iter()
            .map(|case| trial(case).with_ignored_flag(true)),
    );
    trials.extend(
        PANICS
            .iter()
            .map(|case| trial(case).with_ignored_flag(!panics)),
    );
    let namespaces = namespace::inside(SET_UP).is_some();
    for (name, _) in IN_NAMESPACE {
        let trial = Trial::test(*name, move || run_inside(name));
        trials.push(trial.with_ignored_flag(!namespaces));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A daemon that is attacked, and one that its clients' streams lead to.
struct Scene {
    victim: Daemon,
    other: Daemon,
    /// What the victim is alone in; removed once that has ended.
    group: Option<Group>,
}

impl Scene {
    fn new(flags: &[&str]) -> Self {
        let group = std::env::var("RP2PD_TEST_MEMORY")
            .ok()
            .and_then(|bytes| Group::with_limit(bytes.parse().expect("a number of bytes")));
        Self::in_group(group, flags)
    }

    fn in_group(group: Option<Group>, flags: &[&str]) -> Self {
        let listen = "-hostAddrs=/ip4/127.0.0.1/tcp/0";
        let launch = group.as_ref().map_or_else(Launch::new, Group::launch);
        let flags = [&[listen, "-plaintext=true"], flags].concat();
        let victim = launch.args(flags).spawn();
        let other = Daemon::spawn(&[listen]);
        victim.connect_to(&other);
        Self {
            victim,
            other,
            group,
        }
    }

    /// Where its memory is limited, the victim stayed below that.
    fn assert_spared(&self, after: &str) {
        if let Some(group) = &self.group {
            println!("{after}: {} KiB at the most", group.peak() >> 10);
            assert_eq!(group.kills(), 0, "{after}: the kernel killed the daemon");
        }
    }

    /// Runs `attack` beside normal clients. Afterwards all is as before.
    ///
    /// The attack is to go on until [`Crowd::rounds`] says that the clients have seen enough of
    /// it, and to assert that it took place.
    fn under(&self, name: &str, streams: Streams, attack: impl FnOnce(&Crowd) + Send) {
        // What the daemon keeps for its first clients is no loss.
        let calm = Crowd::start(&self.victim, &self.other, streams);
        calm.await_rounds(200);
        drop(calm.finish());
        let quiet = Quiet::of(&self.victim);
        let crowd = Crowd::start(&self.victim, &self.other, streams);
        let before = crowd.rounds();
        std::thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                // On a machine of its own it would not take the clients' processor either.
                let _ = rustix::process::nice(10);
                attack(&crowd);
            });
            attacker.join().expect("the attack");
        });
        println!(
            "{name}: {} rounds of normal clients meanwhile, RSS {} KiB, {} before",
            crowd.rounds() - before,
            self.victim.rss_kib(),
            quiet.rss_kib
        );
        self.assert_spared(name);
        crowd.finish().assert_short(name);
        quiet.assert_again(&self.victim, name);
        println!("{name}: RSS {} KiB in the end", self.victim.rss_kib());
    }
}

/// Rounds of normal clients that make a percentile: three for each.
const ENOUGH: usize = 300;
