//! What hosts are like: several listeners on one port, no IPv6, no interfaces, no netlink.
//! Compared with Go's daemon, which tells the same addresses (COMPATIBILITY.md 1.7).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::{Daemon, Launch, eventually, namespace};

/// Two networks besides loopback, one of them the way out of the host.
const NETWORKS: &str = "ip link set lo up
    ip link add v0 type veth peer name v1
    ip addr add 10.9.0.1/24 dev v0
    ip addr add 10.8.0.1/24 dev v1
    ip -6 addr add fd00::1/64 dev v0 nodad
    ip link set v0 up
    ip link set v1 up";

/// Time that Go's daemon needs several times over.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A launch in a namespace, or nothing after saying so.
fn inside(set_up: &str) -> Option<Launch> {
    let launch = namespace::launch(set_up);
    if launch.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no network namespaces");
        eprintln!("skipped: no network namespaces");
    }
    launch
}

fn told(daemon: &Daemon) -> BTreeSet<String> {
    let (_, addresses) = daemon.client().identify();
    addresses.iter().map(ToString::to_string).collect()
}

fn assert_told(daemon: &Daemon, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
    let same = eventually(AT_ONCE, || told(daemon) == expected);
    assert!(same, "{:?} {}", told(daemon), daemon.stderr());
    assert_eq!(daemon.stderr(), "", "nothing is refused");
}

#[test]
fn a_wildcard_and_loopback_share_a_port_in_any_order() {
    for over in ["tcp/4999", "tcp/4999/ws", "udp/4999/quic-v1"] {
        let on = |ip: &str| format!("/ip4/{ip}/{over}");
        let (any, local) = (on("0.0.0.0"), on("127.0.0.1"));
        for order in [[&any, &local], [&local, &any]] {
            let Some(launch) = inside(NETWORKS) else {
                return;
            };
            let listen = format!("-hostAddrs={},{}", order[0], order[1]);
            let daemon = launch.args([listen]).spawn();
            assert_told(&daemon, &[&local, &on("10.9.0.1"), &on("10.8.0.1")]);
        }
    }
}

#[test]
fn both_families_share_a_port() {
    for over in ["tcp/4999", "udp/4999/quic-v1"] {
        let Some(launch) = inside(NETWORKS) else {
            return;
        };
        let on = |ip: &str| format!("/{ip}/{over}");
        let listen = format!("-hostAddrs={},{}", on("ip6/::"), on("ip4/0.0.0.0"));
        let daemon = launch.args([listen]).spawn();
        let expected = [
            on("ip4/127.0.0.1"),
            on("ip4/10.9.0.1"),
            on("ip4/10.8.0.1"),
            on("ip6/::1"),
            // Link-local addresses are not told.
            on("ip6/fd00::1"),
        ];
        assert_told(&daemon, &expected.each_ref().map(String::as_str));
    }
}

/// Go tells the address that the default route leads from, and loopback; not those of bridges.
#[test]
fn a_wildcard_tells_of_the_way_out_of_the_host() {
    let set_up = format!("{NETWORKS}\nip route add default via 10.9.0.2");
    let Some(launch) = inside(&set_up) else {
        return;
    };
    let daemon = launch.args(["-hostAddrs=/ip4/0.0.0.0/tcp/4999"]).spawn();
    assert_told(
        &daemon,
        &["/ip4/127.0.0.1/tcp/4999", "/ip4/10.9.0.1/tcp/4999"],
    );
}

#[test]
fn another_process_on_the_port_is_still_refused() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("an address").port();
    for address in [
        format!("/ip4/127.0.0.1/tcp/{port}"),
        format!("/ip4/0.0.0.0/tcp/{port}"),
    ] {
        let refused = Launch::new()
            .args([format!("-hostAddrs={address}")])
            .try_spawn();
        let refused = refused.expect_err("the port is taken");
        assert!(refused.contains("address already in use"), "{refused}");
    }
}

#[test]
fn a_host_without_interfaces_or_ipv6_is_ready_at_once() {
    let nothing = "true";
    let only_four = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.lo.disable_ipv6=1
        ip link set lo up";
    let cases: [(&str, &str, &[&str]); 3] = [
        (nothing, "/ip4/0.0.0.0/tcp/4999", &[]),
        (nothing, "/ip6/::/udp/4999/quic-v1", &[]),
        (
            only_four,
            "/ip6/::/tcp/4999,/ip4/0.0.0.0/tcp/4999",
            &["/ip4/127.0.0.1/tcp/4999"],
        ),
    ];
    for (set_up, listen, expected) in cases {
        let Some(launch) = inside(set_up) else { return };
        let begun = Instant::now();
        let daemon = launch.args([format!("-hostAddrs={listen}")]).spawn();
        let took = begun.elapsed();
        assert!(took < AT_ONCE, "ready after {took:?}: {set_up} {listen}");
        assert_told(&daemon, expected);
    }
}

/// Takes netlink away from what it runs, as sandboxes do.
const WITHOUT_NETLINK: &str = r#"
import ctypes, os, struct, sys
NR_SOCKET = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
program = b"".join(struct.pack("HBBI", *word) for word in [
    (LOAD, 0, 0, 0), (EQUAL, 0, 3, NR_SOCKET),
    (LOAD, 0, 0, 16), (EQUAL, 0, 1, 16),
    (RETURN, 0, 0, 0x00050000 | 97),
    (RETURN, 0, 0, 0x7fff0000)])
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("words", ctypes.c_char_p)]
words = ctypes.create_string_buffer(program, len(program))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
filter = Program(len(program) // 8, ctypes.cast(words, ctypes.c_char_p))
assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn without_netlink_a_wildcard_is_listened_on() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), WITHOUT_NETLINK).expect("write");
    let python = std::process::Command::new("python3")
        .arg("--version")
        .output();
    if python.is_err() {
        assert!(std::env::var_os("CI").is_none(), "no python3");
        eprintln!("skipped: no python3");
        return;
    }
    // What comes after the set-up is run by the interpreter.
    let set_up = format!(
        "{NETWORKS}\nset -- python3 {} \"$@\"",
        file.path().display()
    );
    let Some(launch) = inside(&set_up) else {
        return;
    };
    let listen = "-hostAddrs=/ip4/0.0.0.0/tcp/4999,/ip4/0.0.0.0/udp/4999/quic-v1";
    let daemon = launch.args([listen]).spawn();
    let on = |ip: &str| {
        [
            format!("/ip4/{ip}/tcp/4999"),
            format!("/ip4/{ip}/udp/4999/quic-v1"),
        ]
    };
    let expected: BTreeSet<String> = ["127.0.0.1", "10.9.0.1", "10.8.0.1"]
        .into_iter()
        .flat_map(on)
        .collect();
    assert!(
        eventually(AT_ONCE, || told(&daemon) == expected),
        "{:?}",
        told(&daemon)
    );
    let warning = "the interfaces of this host cannot be watched";
    let warned = eventually(AT_ONCE, || daemon.stderr().contains(warning));
    assert!(warned, "{}", daemon.stderr());
}
