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
        Command::Keygen(_) | Command::Ask(..) | Command::Print(_) => panic!("not a daemon"),
    }
}

/// Go's words, which stand in the first line and begin the last.
fn error(words: &[&str]) -> String {
    let stop = read(words).unwrap_err();
    assert_eq!(stop.code, 2);
    let (error, usage) = stop.text.split_once('\n').unwrap();
    assert!(usage.starts_with("Usage of rp2pd:\n  -announceAddrs string\n"));
    assert!(usage.lines().last().unwrap().starts_with(error));
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
    let args = arguments(&["-quic", "-", "-listen", "/unix/x"]).unwrap();
    assert_eq!(args.given.quic, Some(true));
    assert_eq!(args.given.listen, None);
    assert_eq!(args.positional, ["-", "-listen", "/unix/x"]);
    assert_eq!(
        error(&["-quic", "false"]),
        r#"unknown command "false": a bool takes its value after "=", as in -b=false"#
    );
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
fn flags_end_at_a_lone_dash_and_two_dashes() {
    for (words, rest) in [
        (&["-q", "-", "-b"][..], &["-", "-b"][..]),
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
        read(&["-q", "help"]).unwrap_err(),
        read(&["-h"]).unwrap_err()
    );
    assert_eq!(
        error(&["-nonsense", "-h"]),
        "flag provided but not defined: -nonsense"
    );
}

#[test]
fn usage_is_sorted_and_laid_out_as_in_go() {
    let text = read(&["-help"]).unwrap_err().text;
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

/// What a line that is no daemon's asks for.
fn command(words: &[&str]) -> Result<Command, Stop> {
    parse(["p"].iter().chain(words).map(OsString::from))
}

#[test]
fn commands_are_words_before_or_after_flags() {
    for before in [&[][..], &["-listen", "/unix/x"], &["-listen=/unix/x", "-q"]] {
        let after = |words: &[&str]| command(&[before, words].concat());
        let Ok(Command::Keygen(args)) = after(&["keygen", "-t", "rsa", "-b=4096"]) else {
            panic!("not keygen")
        };
        assert_eq!(
            (args.key_type.as_str(), args.bits, args.file),
            ("rsa", 4096, "identity".into())
        );
        assert_eq!(after(&["version"]), Ok(Command::Print(version())));
        assert!(matches!(after(&["man"]), Ok(Command::Print(_))));
        assert!(matches!(
            after(&["completions", "zsh"]),
            Ok(Command::Print(_))
        ));
        let help = after(&["help"]).unwrap_err();
        assert_eq!(help, command(&["-h"]).unwrap_err());
        let refused = after(&["keygne"]).unwrap_err();
        assert_eq!(refused.code, 2);
        assert!(refused.text.ends_with("did you mean keygen?\n"));
    }
}

#[test]
fn each_command_has_help_and_takes_no_more_than_it_says() {
    for row in commands::COMMANDS {
        let asked = command(&[row.word, "-h"]).unwrap_err();
        assert_eq!(asked.code, 0);
        assert!(
            asked
                .text
                .starts_with(&format!("Usage of p {}:\n", row.word))
        );
        assert_eq!(asked, command(&["help", row.word]).unwrap_err());
        // A probe takes any number of addresses, a forward two words.
        let more = match row.word {
            "probe" | "forward" => command(&[row.word]),
            word => command(&[word, "bash", "more"]),
        };
        assert_eq!(more.unwrap_err().code, 2, "{}", row.word);
    }
    let keygen = command(&["keygen", "-h"]).unwrap_err();
    assert!(keygen.text.starts_with("Usage of p keygen:\n  -b int\n"));
    // What was meant is looked for among the command's own flags.
    let wrong = command(&["keygen", "-tt=rsa"]).unwrap_err();
    assert!(
        wrong.text.ends_with("-tt: did you mean -t?\n"),
        "{}",
        wrong.text
    );
    let wrong = command(&["keygen", "-t"]).unwrap_err();
    assert!(
        wrong
            .text
            .ends_with("one of ed25519, rsa, secp256k1, ecdsa\n")
    );
}

#[test]
fn the_help_is_in_groups_and_fits_a_terminal() {
    let text = command(&["-h"]).unwrap_err().text;
    for part in [
        "Usage of p:\n",
        "Runs a libp2p host",
        "Example: ",
        "\nCommands:\n  keygen ",
        "\nControl socket:\n  -listen string ",
        "  -q, -quiet ",
        "p -help\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for row in commands::COMMANDS {
        assert!(text.contains(&format!("\n  {} ", row.word)), "{}", row.word);
    }
    for flag in settings::flags() {
        assert!(
            text.contains(&format!("\n  -{}", flag.name)),
            "{}",
            flag.name
        );
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
}

#[test]
fn completions_and_manual_know_every_flag() {
    let print = |words: &[&str]| match command(words).unwrap() {
        Command::Print(text) => text,
        other => panic!("{other:?}"),
    };
    let man = print(&["man"]).replace("\\-", "-");
    assert!(!man.contains("--"), "{man}");
    let aliases = ALIASES.iter().map(|(alias, _)| *alias);
    let names: Vec<_> = settings::flags()
        .iter()
        .map(|flag| flag.name)
        .chain(aliases)
        .collect();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = print(&["completions", shell]);
        for name in &names {
            assert!(script.contains(name), "{shell}: {name}");
            assert!(man.contains(&format!("-{name}")), "man: {name}");
        }
    }
    for words in [&["completions"][..], &["completions", "tcsh"]] {
        let stop = command(words).unwrap_err();
        assert_eq!(stop.code, 2);
        assert!(stop.text.ends_with(": bash|elvish|fish|powershell|zsh\n"));
    }
}

proptest! {
    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec(".{0,12}|-{1,3}(listen|q|b|connLo|h|connGrace|i|f)(=.{0,8})?|keygen|help|man", 0..8)) {
        let argv = std::iter::once("p".to_owned()).chain(words.clone()).map(OsString::from);
        match parse(argv) {
            Ok(Command::Daemon(args)) => prop_assert!(args.positional.len() <= words.len()),
            Ok(Command::Ask(..)) => prop_assert!(words.iter().any(|word| ["status", "ping", "probe"].contains(&word.as_str()))),
            Ok(Command::Keygen(_)) => prop_assert!(words.iter().any(|word| word == "keygen")),
            Ok(Command::Print(_)) => prop_assert!(words.iter().any(|word| ["man", "completions", "version"].contains(&word.as_str()))),
            Err(stop) => {
                prop_assert!(stop.code == 0 || stop.code == 2);
                prop_assert!(stop.text.contains("Usage of p"));
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
