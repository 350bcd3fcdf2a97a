//! Flag syntax, usage, exit codes and start errors.

use crate::run::run;
use crate::support::{Daemon, Launch};
use crate::{Run, rp2pd};

/// A run that Go would end with 2: an error line, then the usage text.
fn refused(words: &[&str]) -> String {
    let run = rp2pd(words);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{words:?}");
    let (error, usage) = run.stderr.split_once('\n').unwrap();
    assert!(usage.starts_with("Usage of "), "{words:?}: {usage}");
    error.to_owned()
}

/// A run whose configuration is fine.
fn accepted(words: &[&str]) -> Run {
    let run = rp2pd(["-validate", "-noListenAddrs"].iter().chain(words));
    assert_eq!(run.code, 0, "{words:?}: {run:?}");
    run
}

/// A configuration is refused with one line, these words and what to do.
#[track_caller]
fn failed(words: &[&str], text: &str) {
    let run = rp2pd(["-validate", "-noListenAddrs"].iter().chain(words));
    run.assert_refused(text);
    assert_eq!(run.timed_lines().len(), 1, "{words:?}: {run:?}");
}

#[test]
fn help_goes_to_stderr_and_exits_with_0() {
    for word in ["-h", "--h", "-help", "--help", "-h=x"] {
        let run = rp2pd([word]);
        assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{word}");
        let mut lines = run.stderr.lines();
        assert!(lines.next().unwrap().starts_with("Usage of "));
        let names: Vec<&str> = lines.filter(|line| line.starts_with("  -")).collect();
        assert!(names.len() > 50, "{names:?}");
        // Go's list.
        assert_eq!(names.is_sorted(), word.contains("help"), "{word}");
    }
}

#[test]
fn syntax_errors_exit_with_2_and_the_usage() {
    assert_eq!(refused(&["---x"]), "bad flag syntax: ---x");
    assert_eq!(refused(&["-=v"]), "bad flag syntax: -=v");
    assert_eq!(refused(&["--=v"]), "bad flag syntax: --=v");
    assert_eq!(
        refused(&["-nonsense"]),
        "flag provided but not defined: -nonsense"
    );
    assert_eq!(refused(&["-Q"]), "flag provided but not defined: -Q");
    assert_eq!(
        refused(&["-sock", "/x"]),
        "flag provided but not defined: -sock"
    );
    assert_eq!(refused(&["-listen"]), "flag needs an argument: -listen");
    assert_eq!(
        refused(&["-b=yes"]),
        r#"invalid boolean value "yes" for -b: parse error"#
    );
    assert_eq!(
        refused(&["-q=", "-h"]),
        r#"invalid boolean value "" for -q: parse error"#
    );
    assert_eq!(
        refused(&["-connLo=x"]),
        r#"invalid value "x" for flag -connLo: parse error"#
    );
    assert_eq!(
        refused(&["-connHi", "99999999999999999999"]),
        r#"invalid value "99999999999999999999" for flag -connHi: value out of range"#
    );
    assert_eq!(
        refused(&["-idleTimeout=30"]),
        r#"invalid value "30" for flag -idleTimeout: parse error"#
    );
    assert_eq!(
        refused(&["-nonsense", "-h"]),
        "flag provided but not defined: -nonsense"
    );
}

#[test]
fn one_dash_or_two_and_bools_never_take_the_next_word() {
    accepted(&[
        "--listen",
        "/unix/tmp/x",
        "-q",
        "--dhtServer=0",
        "-idleTimeout",
        "0",
    ]);
    // `false` is no value of `-quic`, and no command.
    let run = rp2pd(["-quic", "false", "-listen", "nonsense"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    let last = run.stderr.lines().last().unwrap();
    assert!(
        last.contains(r#"a bool takes its value after "=""#),
        "{last}"
    );
    for end in ["-", "--"] {
        let run = accepted(&[end, "-nonsense"]);
        assert_eq!(run.timed_lines().len(), 1, "{end}: {run:?}");
    }
    // The last of a repeated flag counts.
    accepted(&["-listen=nonsense", "-listen=/unix/tmp/x"]);
}

#[test]
fn flags_that_clients_really_pass_are_accepted() {
    // Hivemind 1.1.12.
    let run = accepted(&[
        "-listen=/unix/tmp/hivemind-p2pd-x.sock",
        "-relayHopLimit=0",
        "-tls=1",
        "-autonat=0",
        "-natPortMap=0",
        "-connManager=0",
        "-forceReachabilityPrivate=0",
        "-relay=1",
        "-autoRelay=0",
        "-forceReachabilityPublic=0",
        "-persistentConnMaxMsgSize=4194304",
        "-hostAddrs=/ip4/127.0.0.1/tcp/0",
        "-noListenAddrs=0",
        "-quic=1",
        "-b=0",
        "-dhtClient=0",
    ]);
    assert_eq!(run.stderr, "");
    // The interop runner of js-libp2p, p2pclient's tests.
    let run = accepted(&[
        "-hostAddrs=/ip4/0.0.0.0/tcp/0,/ip4/0.0.0.0/udp/0/quic-v1",
        "-noise=true",
        "-tls=true",
        "-muxer=yamux",
        "-q=false",
        "-connGrace=0",
        "-connLo=1",
        "-connHi=2",
    ]);
    assert_eq!(run.stderr, "");
}

#[test]
fn start_errors_are_one_timed_line_and_exit_with_1() {
    failed(
        &["-noise=0", "-tls=0"],
        "at least one channel security protocol must be enabled",
    );
    failed(
        &["-hostAddrs=/ip4/127.0.0.1/tcp/0,"],
        r#"failed to parse multiaddr "": empty multiaddr"#,
    );
    failed(
        &["-listen=tmp"],
        r#"failed to parse multiaddr "tmp": must begin with /"#,
    );
    failed(
        &["-forceReachabilityPublic", "-forceReachabilityPrivate"],
        "forceReachability must be public or private, not both",
    );
    failed(&["-pubsub", "-pubsubRouter=x"], "unknown pubsub router: x");
    failed(
        &["-id=/nonexistent"],
        "open /nonexistent: no such file or directory",
    );
    failed(
        &["-f=/nonexistent"],
        "open /nonexistent: no such file or directory",
    );
    let run = run(["-validate"], b"", &[("LIBP2P_FORCE_PNET", "1")]);
    run.assert_refused(
        "privnet: private network was not configured but is enforced by the environment",
    );
}

#[test]
fn an_enforced_private_network_needs_its_key() {
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/swarm.key");
    let with_key = [format!("-pnetKey={key}"), "-validate".to_owned()];
    let run = run(with_key, b"", &[("LIBP2P_FORCE_PNET", "1")]);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

/// The reason must be the last line: clients show it as why the start failed.
#[test]
fn notices_come_before_the_error() {
    let run = rp2pd([
        "-noListenAddrs",
        "-pprof",
        "-listen=/unix/nonexistent/x.sock",
    ]);
    assert_eq!(run.code, 1);
    run.assert_refused("listen unix /nonexistent/x.sock: bind: no such file or directory");
    let lines = run.timed_lines();
    assert_eq!((lines.len(), lines[0]), (2, "without effect: -pprof"));
}

#[test]
fn what_has_no_effect_is_told_once() {
    let run = accepted(&["-autoRelay", "-dht", "-relayHopLimit=3"]);
    assert_eq!(run.timed_lines(), ["without effect: -relayHopLimit"]);
}

/// Bindings of every age start the daemon with flags that no longer do anything: told in one line,
/// never fatal.
#[test]
fn flags_of_any_age_are_told_once_and_never_fatal() {
    let ignored = |words: &[&str]| -> Vec<String> {
        let run = accepted(words);
        let lines = run.timed_lines();
        lines.iter().map(|line| (*line).to_owned()).collect()
    };
    // Flags that nim-libp2p's daemonapi passes.
    let nim = [
        "-q=false",
        "-dhtClient",
        "-relayActive=true",
        "-relayHop=true",
        "-quic=false",
        "-noInlinePeerId=true",
        "-pubsub",
        "-pubsubRouter=gossipsub",
        "-pubsubSign=false",
        "-pubsubSignStrict=true",
        "-gossipsubHeartbeatInterval=1000ms",
        "-gossipsubHeartbeatInitialDelay=100ms",
        "-connManager",
        "-connLo=256",
        "-connHi=512",
        "-connGrace=120s",
        "-hostAddrs=/ip4/127.0.0.1/tcp/0",
        "-noise=true",
    ];
    assert_eq!(
        ignored(&nim),
        ["without effect: -noInlinePeerId, -quic=false, -relayActive, -relayHop"]
    );
    // Flags that gerbil-libp2p passes.
    let gerbil = [
        "-q",
        "-relayHop",
        "-dhtClient",
        "-hostAddrs",
        "/ip4/127.0.0.1/tcp/0",
    ];
    assert_eq!(ignored(&gerbil), ["without effect: -relayHop"]);
    // Old spellings of flags that still exist, and one that does not.
    let old = [
        "-quic=1",
        "-tls=1",
        "-dht=true",
        "-b=0",
        "-connManager=0",
        "-natPortMap=0",
    ];
    assert_eq!(ignored(&old), [""; 0]);
    let script = [
        "--plaintext=false",
        "--echo=true",
        "--secio=true",
        "-pubsubRouter=floodsub",
        "-pubsub=true",
    ];
    assert_eq!(ignored(&script), ["without effect: -secio"]);
}

#[test]
fn version_is_one_line_on_stdout() {
    let run = rp2pd(["-version", "-listen=nonsense"]);
    let expected = format!("rp2pd {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (run.code, run.stdout, run.stderr),
        (0, expected, String::new())
    );
}

#[test]
fn healthcheck_asks_the_daemon_at_the_control_socket() {
    for launch in [Launch::new(), Launch::new().tcp()] {
        let mut daemon = launch.args(["-noListenAddrs"]).spawn();
        let listen = daemon.control().multiaddr();
        let check = || rp2pd(["-healthcheck", "-listen", listen.as_str()]);
        let healthy = check();
        assert_eq!((healthy.code, healthy.stderr.as_str()), (0, ""));
        daemon.terminate(crate::support::PATIENCE);
        let ill = check();
        assert_eq!(ill.code, 1);
        let expected = format!("no answer from {listen}: ");
        assert!(ill.first_line().starts_with(&expected), "{ill:?}");
    }
}

#[test]
fn quiet_leaves_stdout_empty() {
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("/unix{}/s", dir.path().display());
    let loud = Daemon::spawn(&["-noListenAddrs"]);
    assert!(loud.stdout().starts_with("Control socket: /unix"));
    let mut child = std::process::Command::new(crate::support::daemon::binary_under_test())
        .args(["-q", "-noListenAddrs", "-listen", &listen])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let up = crate::support::eventually(crate::support::PATIENCE, || {
        rp2pd(["-healthcheck", "-listen", listen.as_str()]).code == 0
    });
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(up);
    assert_eq!(output.stdout, b"");
}

/// `bindings.tsv` has the flags as they stand in the packages.
#[test]
fn the_flags_of_every_published_binding_are_accepted() {
    let lines = include_str!("bindings.tsv").lines();
    let mut count = 0;
    for line in lines.filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let mut column = || columns.next().expect("four columns");
        let (who, source, flags, told) = (column(), column(), column(), column());
        let run = rp2pd(["-validate"].into_iter().chain(flags.split(' ')));
        assert_eq!(run.code, 0, "{who}, {source}: {run:?}");
        // That some do not listen is told as well, and is no flag of any age.
        let mut lines = run.timed_lines();
        lines.retain(|line| !line.starts_with("no -hostAddrs"));
        assert_eq!(lines, told.lines().collect::<Vec<_>>(), "{who}");
        count += 1;
    }
    assert_eq!(count, 18);
}
