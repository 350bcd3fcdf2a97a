//! Every way in which a start is refused: one line at the end, Go's words first, then what to do.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::run::run;
use crate::support::{Daemon, Launch};
use crate::{Run, rp2pd};

const PEER: &str = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN";

/// Puts a daemon into a private network.
const PRIVATE: &str = concat!(
    "-pnetKey=",
    env!("CARGO_MANIFEST_DIR"),
    "/interop/swarm.key"
);

/// A start with these flags, of which nothing remains.
fn start(words: &[&str]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("-listen=/unix{}/s", dir.path().display());
    rp2pd([listen.as_str()].iter().chain(words))
}

/// The last line is `words` and then `advice`.
#[track_caller]
fn ends_with(run: &Run, words: &str, advice: &str) {
    run.assert_refused(words);
    let last = run.stderr.lines().last().unwrap();
    assert!(last.ends_with(advice), "{last}");
}

#[test]
fn settings_that_are_refused_say_what_to_give() {
    let no_peer = format!("-bootstrapPeers=/ip4/192.0.2.1/tcp/1/p2p/{PEER},/ip4/192.0.2.2/tcp/2");
    for (flags, words, advice) in [
        (
            &["-b", no_peer.as_str()][..],
            "invalid p2p multiaddr",
            ": /ip4/192.0.2.2/tcp/2 in -bootstrapPeers does not end in /p2p/ and a peer id",
        ),
        (
            &["-autoRelay", "-dht", "-trustedRelays=/ip4/192.0.2.3/tcp/3"],
            "invalid p2p multiaddr",
            ": /ip4/192.0.2.3/tcp/3 in -trustedRelays does not end in /p2p/ and a peer id",
        ),
        (
            &["-hostAddrs=/ip4/0.0.0.0/udp/1/quik"],
            r#"failed to parse multiaddr "/ip4/0.0.0.0/udp/1/quik": unknown protocol quik"#,
            ": did you mean quic-v1, in -hostAddrs?",
        ),
        (
            &["-announceAddrs=192.0.2.1:4001"],
            r#"failed to parse multiaddr "192.0.2.1:4001": must begin with /"#,
            ": -announceAddrs takes an address such as /ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/udp/4001/quic-v1",
        ),
        (
            &["-listen=/tmp/p2pd.sock"],
            r#"failed to parse multiaddr "/tmp/p2pd.sock": unknown protocol tmp"#,
            ": a path needs /unix before it, as in -listen=/unix/tmp/p2pd.sock",
        ),
        (
            &["-listen=127.0.0.1:5001"],
            r#"failed to parse multiaddr "127.0.0.1:5001": must begin with /"#,
            ": -listen takes an address such as /unix/run/p2pd.sock or /ip4/127.0.0.1/tcp/5001",
        ),
        (
            &["-listenGroup=nobody-has-this"],
            r#"listenGroup: unknown group "nobody-has-this""#,
            ": -listenGroup takes a group of /etc/group, or a number",
        ),
        (
            &["-controlUids=alice"],
            r#"controlUids: "alice" is no user id"#,
            ": -controlUids takes numbers, with commas between",
        ),
        (
            &["-pubsub", "-pubsubRouter=gossip"],
            "unknown pubsub router: gossip",
            ": -pubsubRouter is gossipsub or floodsub",
        ),
        (
            &["-pnetKey=/nonexistent/key"],
            "open /nonexistent/key: no such file or directory",
            ": -pnetKey must name a key file that the daemon's user can read",
        ),
        (
            &[concat!(
                "-pnetKey=",
                env!("CARGO_MANIFEST_DIR"),
                "/README.md"
            )],
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/README.md: the first line is not /key/swarm/psk/1.0.0/"
            ),
            ": -pnetKey takes a file of three lines, /key/swarm/psk/1.0.0/, /base16/ and 64 hexadecimal digits",
        ),
        (
            &[
                PRIVATE,
                "-hostAddrs=/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1",
            ],
            "/ip4/127.0.0.1/udp/0/quic-v1 in -hostAddrs cannot be part of a private network",
            ": with -pnetKey leave everything but tcp and websocket out of -hostAddrs",
        ),
        (
            &[
                PRIVATE,
                "-hostAddrs=/ip4/127.0.0.1/tcp/4001,/ip4/127.0.0.1/tcp/4001/ws",
            ],
            "port 4001 in -hostAddrs cannot be shared in a private network",
            ": give tcp and websockets ports of their own in -hostAddrs",
        ),
        (
            &[PRIVATE, "-b"],
            "a private network cannot be joined through the public bootstrap peers",
            ": with -pnetKey name peers of the network with -bootstrapPeers, or leave -b out",
        ),
        (
            &["-noise=0", "-tls=0"],
            "at least one channel security protocol must be enabled",
            ": leave -noise or -tls on",
        ),
        (
            &["-autoRelay"],
            "can't have autorelay enabled without Relay enabled and DHT enabled",
            ": add -dht or -dhtClient and leave -relay on, or leave -autoRelay out",
        ),
        (
            &["-persistentConnMaxMsgSize=0"],
            "persistentConnMaxMsgSize must be positive, not 0",
            ": give a size such as 4MiB, or leave it out",
        ),
        (
            &["-memoryLimit=-5"],
            "memoryLimit must not be negative, not -5",
            ": give a size such as 512MiB, or 0 for what the machine has",
        ),
        (
            &["-f=/nonexistent"],
            "open /nonexistent: no such file or directory",
            ": -f must name the JSON config, or be left out",
        ),
    ] {
        ends_with(&start(flags), words, advice);
    }
    let run = run(["-i"], br#"{"DHT": {"Mode": "on"}}"#, &[]);
    ends_with(
        &run,
        "unknown DHT mode {on}",
        ": DHT.Mode is full, client or server",
    );
}

#[test]
fn key_files_that_are_missing_or_none_say_how_to_make_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let (shown, id) = (
        path.display().to_string(),
        format!("-id={}", path.display()),
    );
    let make = format!("make one with \"rp2pd keygen -t ed25519 -f {shown}\"");
    ends_with(
        &start(&[&id]),
        &format!("open {shown}: no such file or directory"),
        &format!(": {make}, or let the daemon make it with -createIdentity"),
    );
    std::fs::write(&path, "garbage").unwrap();
    ends_with(
        &start(&[&id]),
        "proto: cannot parse invalid wire-format data",
        &format!(": {shown} holds no usable key: move it away and {make}"),
    );
    let key = rp2pd(["keygen", "-t=ed25519", "-f=/nonexistent/key"]);
    ends_with(
        &key,
        "open /nonexistent/key: no such file or directory",
        ": make the directory /nonexistent first",
    );
}

#[test]
fn a_socket_in_use_says_by_whom() {
    let daemon = Daemon::spawn(&["-noListenAddrs"]);
    let path = daemon.dir().join("p2pd.sock");
    let at = |path: &Path| rp2pd([format!("-listen=/unix{}", path.display()), "-q".into()]);
    let in_use = |path: &Path| {
        format!(
            "listen unix {}: bind: address already in use",
            path.display()
        )
    };
    let advice = format!(
        ": process {} (rp2pd) of user {} listens there: stop it, or choose another socket with -listen",
        daemon.pid(),
        user(),
    );
    ends_with(&at(&path), &in_use(&path), &advice);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    ends_with(
        &at(&file),
        &in_use(&file),
        ": a file that is no socket has that name: choose another with -listen",
    );
    let missing = dir.path().join("none/s");
    ends_with(
        &at(&missing),
        &format!(
            "listen unix {}: bind: no such file or directory",
            missing.display()
        ),
        ": make the directory of the socket first, or choose another path with -listen",
    );
}

/// A daemon that hangs with a full queue must not make the next one hang.
#[test]
fn a_socket_whose_queue_is_full_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&socket2::SockAddr::unix(&path).unwrap()) {
            Ok(()) => waiting.push(socket),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    let run = rp2pd([format!("-listen=/unix{}", path.display())]);
    ends_with(
        &run,
        &format!(
            "listen unix {}: bind: address already in use",
            path.display()
        ),
        ": stop what listens there, or choose another address with -listen",
    );
}

#[test]
fn ports_and_addresses_that_are_not_to_be_had_say_what_is() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    ends_with(
        &rp2pd([format!("-listen=/ip4/127.0.0.1/tcp/{port}")]),
        &format!("listen tcp4 127.0.0.1:{port}: bind: address already in use"),
        ": stop what listens there, or choose another address with -listen",
    );
    for (address, advice) in [
        (
            format!("/ip4/127.0.0.1/tcp/{port}"),
            ": another program has the port: choose another with -hostAddrs, or port 0 for a free one",
        ),
        (
            "/ip4/127.0.0.1/udp/1/webrtc-direct".into(),
            ": -hostAddrs listens on /tcp/PORT, /tcp/PORT/ws, /tcp/PORT/tls/ws and /udp/PORT/quic-v1",
        ),
        (
            "/ip4/192.0.2.1/tcp/0".into(),
            ": this host has no such address: /ip4/0.0.0.0 and /ip6/:: stand for all that it has",
        ),
    ] {
        let run = start(&[&format!("-hostAddrs={address}")]);
        assert_eq!(run.code, 1, "{run:?}");
        let last = run.stderr.lines().last().unwrap();
        assert!(last.contains("failed to listen on any addresses"), "{last}");
        assert!(last.ends_with(advice), "{last}");
    }
    ends_with(
        &start(&["-listen=/dns4/no-such-name.invalid/tcp/1"]),
        "listen tcp: lookup no-such-name.invalid",
        ": does a name server answer? See /etc/resolv.conf, or give -listen an ip address",
    );
}

#[test]
fn peers_that_do_not_answer_say_what_to_change() {
    let peers = format!("-bootstrapPeers=/ip4/127.0.0.1/tcp/1/p2p/{PEER}");
    let run = start(&["-noListenAddrs", "-b", &peers]);
    ends_with(
        &run,
        "failed to connect to bootstrap peers",
        "; do they run? Name others with -bootstrapPeers, or start without -b",
    );
}

#[test]
fn a_health_check_without_a_daemon_asks_for_one() {
    ends_with(
        &rp2pd(["-healthcheck", "-listen=/unix/nonexistent/s"]),
        "no answer from /unix/nonexistent/s: no such file or directory",
        ": is the daemon running, and is -listen the address of its socket?",
    );
}

/// Whoever asks a daemon that is not there, or not theirs, hears which of it is the case.
#[test]
fn who_asks_in_vain_hears_why() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let ask = |path: &str| rp2pd(["status".to_owned(), format!("-listen=/unix{path}")]);
    let (file, stale) = (format!("{at}/file"), format!("{at}/stale"));
    std::fs::write(&file, "").unwrap();
    drop(UnixListener::bind(&stale).unwrap());
    for (path, words, advice) in [
        (
            format!("{at}/none"),
            "no such file or directory",
            "is the daemon running, and is -listen the address of its socket?",
        ),
        (
            file,
            "connection refused",
            "what has that name is no socket: is -listen the address of the daemon's?",
        ),
        (
            stale,
            "connection refused",
            "the socket of a daemon that has ended: start it, or name another with -listen",
        ),
    ] {
        let words = format!("no answer from /unix{path}: {words}");
        ends_with(&ask(&path), &words, &format!(": {advice}"));
    }
    let empty = rp2pd(["keygen", "-t=ed25519", "-f="]);
    ends_with(
        &empty,
        "open : no such file or directory",
        ": name the file with -f",
    );
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let daemon = Daemon::spawn(&["-noListenAddrs"]);
    std::fs::set_permissions(daemon.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = daemon.dir().join("p2pd.sock");
    let output = Command::new("setpriv")
        .args(["--reuid=61000", "--regid=61000", "--clear-groups"])
        .arg(crate::support::daemon::binary_under_test())
        .args(["status", &format!("-listen=/unix{}", path.display())])
        .output()
        .expect("setpriv");
    ends_with(
        &Run::of(&output),
        &format!("no answer from /unix{}: permission denied", path.display()),
        ": the socket is another user's: ask as that user, or start the daemon with -listenMode=0660 and -listenGroup",
    );
}

/// Go skips them without a word.
#[test]
fn keys_of_the_config_that_are_unknown_are_told() {
    let text = br#"{"Bootstrapp": {}, "DHT": {"Mod": "full"}, "quiet": true, "X": 1}"#;
    let run = run(["-i", "-validate", "-noListenAddrs"], text, &[]);
    assert_eq!(run.code, 0, "{run:?}");
    for notice in [
        r#"config key "Bootstrapp" is not known, ignored: did you mean Bootstrap?"#,
        r#"config key "DHT.Mod" is not known, ignored: did you mean Mode?"#,
        r#"config key "X" is not known, ignored"#,
    ] {
        assert!(run.timed_lines().contains(&notice), "{notice}: {run:?}");
    }
    assert!(!run.stderr.to_lowercase().contains("quiet"), "{run:?}");
}

/// A place that may not be written to. Root may write anywhere, so it gives that up.
#[test]
fn places_that_may_not_be_written_to_are_told() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = |words: &[String]| {
        let output = Command::new("setpriv")
            .args(["--reuid=61000", "--regid=61000", "--clear-groups"])
            .arg(crate::support::daemon::binary_under_test())
            .args(words)
            .output()
            .expect("setpriv");
        Run::of(&output)
    };
    let at = dir.path().display();
    ends_with(
        &run(&[format!("-listen=/unix{at}/s")]),
        &format!("listen unix {at}/s: bind: permission denied"),
        ": choose a directory that this user may write to, or a port above 1023, with -listen",
    );
    ends_with(
        &run(&["keygen".into(), format!("-f={at}/key"), "-t=ed25519".into()]),
        &format!("open {at}/key: permission denied"),
        &format!(": name a file in a directory that this user may write to, which {at} is not"),
    );
    // Somebody else's socket that nobody listens on is not ours to replace.
    drop(UnixListener::bind(dir.path().join("s")).unwrap());
    std::fs::set_permissions(dir.path().join("s"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let stale = run(&[format!("-listen=/unix{at}/s")]);
    ends_with(
        &stale,
        &format!("listen unix {at}/s: bind: address already in use"),
        "belongs to user root (0): remove it, or choose another socket with -listen",
    );
}

/// The user of the tests as the daemon names it.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id");
    let name = String::from_utf8(output.stdout).unwrap();
    format!("{} ({})", name.trim(), rustix::process::geteuid().as_raw())
}

#[test]
fn a_launch_that_is_refused_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("/unix{}/s", dir.path().display());
    let refused = Launch::new()
        .listen(&listen)
        .args(["-hostAddrs=/ip4/192.0.2.1/tcp/0"])
        .try_spawn();
    assert!(refused.is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
