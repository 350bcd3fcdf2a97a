//! Words instead of a daemon, and what a wrong word or flag ends with.

use crate::rp2pd;

/// The last line of a run that Go would end with 2.
fn last(words: &[&str]) -> String {
    let run = rp2pd(words);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{words:?}");
    run.stderr.lines().last().unwrap().to_owned()
}

#[test]
fn a_wrong_flag_or_word_ends_with_what_was_meant() {
    for (words, line) in [
        (
            &["-hostaddr=/ip4/127.0.0.1/tcp/0"][..],
            "flag provided but not defined: -hostaddr: did you mean -hostAddrs?",
        ),
        (
            &["--host-addrs", "/ip4/127.0.0.1/tcp/0"],
            "flag provided but not defined: -host-addrs: did you mean -hostAddrs?",
        ),
        (&["---dht"], "bad flag syntax: ---dht: did you mean -dht?"),
        (
            &["-connLo=x"],
            r#"invalid value "x" for flag -connLo: parse error: a whole number, as in -connLo=256"#,
        ),
        (
            &["-idleTimeout=30"],
            r#"invalid value "30" for flag -idleTimeout: parse error: a time needs a unit, as in -idleTimeout=30s"#,
        ),
        (
            &["-dht=yes"],
            r#"invalid boolean value "yes" for -dht: parse error: write -dht=true or -dht=false"#,
        ),
        (
            &["-pubsubRouter"],
            "flag needs an argument: -pubsubRouter: one of gossipsub, floodsub",
        ),
        (
            &["keygen", "-file=x"],
            "flag provided but not defined: -file: did you mean -f?",
        ),
        (&["keygen", "ed25519"], r#"keygen does not take "ed25519""#),
        (
            &["verson"],
            r#"unknown command "verson": did you mean version?"#,
        ),
        (
            &["-listen=/unix/x", "verson"],
            r#"unknown command "verson": did you mean version?"#,
        ),
        (
            &["status", "--jsn"],
            "flag provided but not defined: -jsn: did you mean -json?",
        ),
        (
            &["ping", "x", "-listn=/unix/x"],
            "flag provided but not defined: -listn: did you mean -listen?",
        ),
        (
            &["-V"],
            "flag provided but not defined: -V: did you mean -version?",
        ),
        (
            &["start"],
            r#"unknown command "start": the daemon starts without a word, -h lists its flags"#,
        ),
        (
            &["-metrics"],
            "flag needs an argument: -metrics: an address, as in -metricsAddr=127.0.0.1:8888",
        ),
        (
            &["-dht", "true"],
            r#"unknown command "true": a bool takes its value after "=", as in -b=true"#,
        ),
    ] {
        assert_eq!(last(words), line, "{words:?}");
    }
    let line = last(&["-q", "zzz"]);
    assert!(line.contains("keygen, "), "the commands: {line}");
}

#[test]
fn commands_work_with_and_without_flags_before_them() {
    for before in [&[][..], &["-listen", "/unix/nowhere"]] {
        let say = |words: &[&str]| rp2pd([before, words].concat());
        let version = say(&["version"]);
        assert_eq!(
            (version.code, version.stdout),
            (0, rp2pd(["-version"]).stdout)
        );
        let help = say(&["help"]);
        assert_eq!((help.code, help.stderr), (0, rp2pd(["-h"]).stderr));
        let man = say(&["man"]);
        assert!(man.stdout.contains(".TH rp2pd"), "{man:?}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let keygen = say(&["keygen", "-t=ed25519", "-f", file.to_str().unwrap()]);
        assert_eq!(keygen.code, 0);
        assert!(keygen.stdout.starts_with("Peer ID: 12D3KooW"), "{keygen:?}");
        // Also where the path was not written out.
        assert_eq!(keygen.stderr, format!("Key file: {}\n", file.display()));
        assert!(file.exists());
    }
}
