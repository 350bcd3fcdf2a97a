use proptest::prelude::*;

use super::*;
use crate::settings::{ALIASES, Given, GoDuration};

fn read(words: &[&str]) -> Result<Given, Stop> {
    arguments(words).map(|args| args.given)
}

fn arguments(words: &[&str]) -> Result<Args, Stop> {
    let argv = ["rp2pd"].iter().chain(words).map(OsString::from);
    match parse(argv)? {
        Command::Daemon(args) => Ok(*args),
        Command::Keygen(_) | Command::Print(_) => panic!("not a daemon"),
    }
}

fn error(words: &[&str]) -> String {
    let stop = read(words).unwrap_err();
    assert_eq!(stop.code, 2);
    let (error, usage) = stop.text.split_once('\n').unwrap();
    assert!(usage.starts_with("Usage of rp2pd:\n  -announceAddrs string\n"));
    error.to_owned()
}

#[test]
fn one_dash_or_two_with_or_without_equals() {
    for words in [
        &["-listen", "/unix/x"][..],
        &["--listen", "/unix/x"],
        &["-listen=/unix/x"],
        &["--listen=/unix/x"],
        &["-listen=old", "-listen", "/unix/x"],
    ] {
        assert_eq!(
            read(words).unwrap().listen,
            Some("/unix/x".into()),
            "{words:?}"
        );
    }
    assert_eq!(read(&["-listen="]).unwrap().listen, Some("".into()));
    assert_eq!(read(&["-listen", "-q"]).unwrap().listen, Some("-q".into()));
    assert_eq!(read(&["-id=a=b"]).unwrap().id, Some("a=b".into()));
}

#[test]
fn a_bool_never_takes_the_next_word() {
    let args = arguments(&["-quic", "false", "-listen", "/unix/x"]).unwrap();
    assert_eq!(args.given.quic, Some(true));
    assert_eq!(args.given.listen, None);
    assert_eq!(args.positional, ["false", "-listen", "/unix/x"]);
    for (text, value) in [
        ("1", true),
        ("t", true),
        ("T", true),
        ("true", true),
        ("TRUE", true),
        ("True", true),
        ("0", false),
        ("f", false),
        ("F", false),
        ("false", false),
        ("FALSE", false),
        ("False", false),
    ] {
        assert_eq!(
            read(&[&format!("-b={text}")]).unwrap().bootstrap,
            Some(value)
        );
    }
    assert_eq!(
        error(&["-b=yes"]),
        r#"invalid boolean value "yes" for -b: parse error"#
    );
    assert_eq!(
        error(&["-b="]),
        r#"invalid boolean value "" for -b: parse error"#
    );
    assert_eq!(
        error(&["-nat=on"]),
        r#"invalid boolean value "on" for -nat: parse error"#
    );
}

#[test]
fn flags_end_at_a_bare_word_a_lone_dash_and_two_dashes() {
    for (words, rest) in [
        (&["-q", "x", "-b"][..], &["x", "-b"][..]),
        (&["-q", "-", "-b"], &["-", "-b"]),
        (&["-q", "--", "-b"], &["-b"]),
        (&["-q", "", "-b"], &["", "-b"]),
    ] {
        let args = arguments(words).unwrap();
        assert_eq!(args.given.quiet, Some(true));
        assert_eq!(args.given.bootstrap, None);
        assert_eq!(args.positional, rest);
    }
}

#[test]
fn errors_are_worded_as_in_go() {
    assert_eq!(error(&["---x"]), "bad flag syntax: ---x");
    assert_eq!(error(&["-=v"]), "bad flag syntax: -=v");
    assert_eq!(error(&["--=v"]), "bad flag syntax: --=v");
    assert_eq!(error(&["-x=1"]), "flag provided but not defined: -x");
    assert_eq!(
        error(&["-Listen", "x"]),
        "flag provided but not defined: -Listen"
    );
    assert_eq!(error(&["-listen"]), "flag needs an argument: -listen");
    assert_eq!(
        error(&["-connLo", "x"]),
        r#"invalid value "x" for flag -connLo: parse error"#
    );
    assert_eq!(
        error(&["-connLo", "9223372036854775808"]),
        r#"invalid value "9223372036854775808" for flag -connLo: value out of range"#
    );
    assert_eq!(
        error(&["-connGrace=30"]),
        r#"invalid value "30" for flag -connGrace: parse error"#
    );
    assert_eq!(
        error(&["-listenMode=8"]),
        r#"invalid value "8" for flag -listenMode: parse error"#
    );
    assert_eq!(
        error(&["-listenMode=7777"]),
        r#"invalid value "7777" for flag -listenMode: value out of range"#
    );
}

#[test]
fn help_wins_over_what_follows_and_loses_to_what_precedes() {
    for word in ["-h", "--h", "-help", "--help", "-h=false", "-help=x"] {
        let stop = read(&[word, "-nonsense"]).unwrap_err();
        assert_eq!(stop.code, 0, "{word}");
        assert!(stop.text.starts_with("Usage of rp2pd:\n"), "{word}");
    }
    assert_eq!(
        error(&["-nonsense", "-h"]),
        "flag provided but not defined: -nonsense"
    );
}

#[test]
fn usage_is_sorted_and_laid_out_as_in_go() {
    let text = read(&["-h"]).unwrap_err().text;
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("  -"))
        .map(|line| line.split([' ', '\t']).next().unwrap())
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    assert!(names.contains(&"quiet") && names.contains(&"metrics"));
    for entry in [
        "  -b\tconnects to bootstrap peers and bootstraps the dht if enabled\n",
        "  -connGrace duration\n    \tConnection Manager grace period, with a unit (default 2m0s)\n",
        "  -listen string\n    \tdaemon control listen multiaddr (default \"/unix/tmp/p2pd.sock\")\n",
        "  -pprofPort uint\n",
        "  -noise\n    \tEnables Noise channel security protocol (default true)\n",
        "  -nat\n    \tsame as -natPortMap\n",
    ] {
        assert!(text.contains(entry), "{entry}");
    }
}

#[test]
fn integers_read_in_all_of_gos_notations() {
    for (text, value) in [
        ("0", 0),
        ("-0", 0),
        ("+7", 7),
        ("-12", -12),
        ("0x1F", 31),
        ("0X_f", 15),
        ("-0b101", -5),
        ("0o17", 15),
        ("017", 15),
        ("0_7", 7),
        ("1_000", 1000),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(
            read(&[&format!("-connLo={text}")]).unwrap().conn_lo,
            Some(value),
            "{text}"
        );
    }
    for text in [
        "", "-", "1_", "_1", "1__0", "08", "0x", "0x_", "1.0", "1e3", " 1", "--1", "+-1", "١",
    ] {
        assert!(
            error(&[&format!("-connLo={text}")]).ends_with("parse error"),
            "{text}"
        );
    }
    assert_eq!(
        read(&["-pprofPort=18446744073709551615"])
            .unwrap()
            .pprof_port,
        Some(u64::MAX)
    );
    assert!(error(&["-pprofPort=-1"]).ends_with("parse error"));
    assert!(error(&["-pprofPort=18446744073709551616"]).ends_with("value out of range"));
}

#[test]
fn aliases_fill_the_same_field() {
    let args = read(&[
        "-quiet",
        "-bootstrap",
        "-nat",
        "-connMgr",
        "-connMgrLo=1",
        "-connMgrHi=2",
        "-metrics=x",
    ])
    .unwrap();
    let same = read(&[
        "-q",
        "-b",
        "-natPortMap",
        "-connManager",
        "-connLo=1",
        "-connHi=2",
        "-metricsAddr=x",
    ])
    .unwrap();
    assert_eq!(args, same);
    assert!(ALIASES.iter().all(|(alias, target)| {
        let known = |name: &str| settings::flags().iter().any(|flag| flag.name == name);
        known(target) && !known(alias)
    }));
}

#[test]
fn paths_need_not_be_utf8_but_text_must() {
    use std::os::unix::ffi::OsStringExt;
    let word = |head: &str| {
        let mut bytes = head.as_bytes().to_vec();
        bytes.push(0xff);
        OsString::from_vec(bytes)
    };
    let Command::Daemon(args) = parse(["p".into(), word("-id=")]).unwrap() else {
        panic!("not a daemon")
    };
    assert_eq!(args.given.id, Some(OsString::from_vec(vec![0xff]).into()));
    let stop = parse(["p".into(), word("-listen=")]).unwrap_err();
    assert!(stop.text.contains("for flag -listen: not valid UTF-8\n"));
    assert!(parse(["p".into(), word("-")]).is_err());
}

#[test]
fn keygen_is_a_first_word() {
    let argv = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let Command::Keygen(args) = parse(argv(&["p", "keygen", "-t", "rsa", "-b=4096"])).unwrap()
    else {
        panic!("not keygen")
    };
    assert_eq!(
        (args.key_type.as_str(), args.bits, args.file),
        ("rsa", 4096, "identity".into())
    );
    let stop = parse(argv(&["p", "keygen", "-h"])).unwrap_err();
    assert_eq!(stop.code, 0);
    assert!(stop.text.starts_with("Usage of p keygen:\n  -b int\n"));
    assert!(matches!(
        parse(argv(&["p", "-q", "keygen"])),
        Ok(Command::Daemon(_))
    ));
}

#[test]
fn completions_and_manual_know_every_flag() {
    let print = |words: &[&str]| match parse(["p"].iter().chain(words).map(OsString::from)).unwrap()
    {
        Command::Print(text) => text,
        other => panic!("{other:?}"),
    };
    let man = print(&["man"]);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = print(&["completions", shell]);
        for flag in settings::flags() {
            assert!(script.contains(flag.name), "{shell}: {}", flag.name);
            let roff = flag.name.replace('-', "\\-");
            assert!(man.contains(&roff), "man: {}", flag.name);
        }
    }
    for words in [&["completions"][..], &["completions", "tcsh"]] {
        let stop = parse(["p"].iter().chain(words).map(OsString::from)).unwrap_err();
        assert_eq!(stop.code, 2);
        assert!(stop.text.starts_with("usage: rp2pd completions bash|"));
    }
}

proptest! {
    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec(".{0,12}|-{1,3}(listen|q|b|connLo|h|connGrace|i|f)(=.{0,8})?", 0..8)) {
        let argv = std::iter::once("p".to_owned()).chain(words.clone()).map(OsString::from);
        match parse(argv) {
            Ok(Command::Daemon(args)) => prop_assert!(args.positional.len() <= words.len()),
            Ok(Command::Keygen(_)) => prop_assert_eq!(&words[0], "keygen"),
            Ok(Command::Print(_)) => prop_assert!(["man", "completions", "version"].contains(&words[0].as_str())),
            Err(stop) => {
                prop_assert!(stop.code == 0 || stop.code == 2);
                prop_assert!(stop.text.contains("Usage of p:\n"));
            }
        }
    }

    #[test]
    fn both_spellings_of_every_value_flag_agree(
        index in any::<prop::sample::Index>(), value in "[^\0]{0,12}", dashes in "--?",
    ) {
        let valued: Vec<_> = settings::flags().into_iter().filter(|flag| !flag.kind.is_empty()).collect();
        let flag = valued[index.index(valued.len())].name;
        let joined = read(&[&format!("{dashes}{flag}={value}")]);
        let apart = read(&[&format!("{dashes}{flag}"), &value]);
        prop_assert_eq!(joined, apart);
    }

    #[test]
    fn every_integer_survives(value in any::<i64>()) {
        for text in [format!("{value}"), format!("{}0x{:x}", if value < 0 { "-" } else { "" }, value.unsigned_abs())] {
            prop_assert_eq!(read(&["-connHi", &text]).unwrap().conn_hi, Some(value));
        }
    }

    #[test]
    fn every_duration_survives(nanos in any::<i64>()) {
        let text = format!("{nanos}ns");
        prop_assert_eq!(read(&["-connGrace", &text]).unwrap().conn_grace, Some(GoDuration(nanos)));
    }
}
