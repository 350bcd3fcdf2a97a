//! The JSON config through `-f` and `-i`.

use crate::Run;
use crate::run::run;
use crate::support::Launch;

/// Checks `json` given by file and by stdin; both must agree.
fn validate(json: &[u8], flags: &[&str]) -> Run {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json).unwrap();
    let path = file.path().to_str().unwrap();
    let by_file = run(["-validate", "-f", path].iter().chain(flags), b"", &[]);
    let by_stdin = run(["-validate", "-i"].iter().chain(flags), json, &[]);
    assert_eq!(by_file.code, by_stdin.code);
    let from_stdin = by_stdin.timed_lines().into_iter();
    let from_stdin: Vec<_> = from_stdin
        .map(|line| line.replace("/dev/stdin", path))
        .collect();
    assert_eq!(by_file.timed_lines(), from_stdin);
    by_file
}

#[track_caller]
fn refused(json: &str, words: &str) {
    let run = validate(json.as_bytes(), &[]);
    run.assert_refused(words);
    assert_eq!(run.timed_lines().len(), 1, "{json}: {run:?}");
}

/// The example of the Go project's own specification cannot be loaded there.
#[test]
fn a_config_with_addresses_is_loaded() {
    let json = br#"{
        "ListenAddr": "/unix/tmp/p2pd.sock", "Quiet": false, "ID": "",
        "Bootstrap": {"Enabled": false, "Peers": ["/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ"]},
        "DHT": {"Mode": ""}, "ConnectionManager": {"Enabled": false, "GradePeriod": 120},
        "HostAddresses": ["/ip4/127.0.0.1/tcp/0"], "AnnounceAddresses": [], "NoListen": false,
        "PProfPort": 0, "Security": {"Noise": true, "TLS": true}
    }"#;
    let run = validate(json, &[]);
    assert_eq!(run.code, 0);
    assert_eq!(
        run.timed_lines(),
        [
            r#"config key Config.ConnectionManager.GradePeriod is 120 nanoseconds; write "120s" for seconds"#,
        ]
    );
}

#[test]
fn bad_configs_exit_with_1_and_name_the_key() {
    refused("", "unexpected end of JSON input");
    refused("{} t", "invalid character 't' after top-level value");
    refused(
        "[]",
        "json: cannot unmarshal array into Go value of type config.Config",
    );
    refused(
        r#"{"connectionmanager": {"LowWaterMark": "x"}}"#,
        "json: cannot unmarshal string into Go struct field Config.connectionmanager.LowWaterMark of type int",
    );
    refused(
        r#"{"AnnounceAddresses": ["/ip4/1.2.3"]}"#,
        r#"config key Config.AnnounceAddresses[0]: failed to parse multiaddr "/ip4/1.2.3": invalid value "1.2.3" for protocol ip4: failed to parse ip4 addr: 1.2.3"#,
    );
    refused(r#"{"DHT": {"Mode": "auto"}}"#, "unknown DHT mode {auto}");
}

#[test]
fn bytes_that_are_no_text_and_endless_input_are_refused() {
    assert_eq!(validate(b"{\"ID\": \"\xff\"}", &[]).code, 1);
    assert_eq!(validate(&vec![b' '; (1 << 20) + 1], &[]).code, 1);
    assert_eq!(validate(&vec![b'['; 1 << 19], &[]).code, 1);
    let zero = run(["-validate", "-f", "/dev/zero"], b"", &[]);
    zero.assert_refused("read /dev/zero: config is larger than 1048576 bytes");
    let dir = run(["-validate", "-f", "/"], b"", &[]);
    dir.assert_refused("read /: is a directory");
}

#[test]
fn stdin_wins_over_the_file_and_flags_over_both() {
    let wins = run(
        ["-validate", "-i", "-f", "/nonexistent"],
        b"{\"NoListen\":true}",
        &[],
    );
    assert_eq!((wins.code, wins.stderr.as_str()), (0, ""));
    let json = br#"{"NoListen": true, "ID": "/nonexistent/file"}"#;
    let run = validate(json, &[]);
    run.assert_refused("open /nonexistent/file: no such file or directory");
    let run = validate(json, &["-id=/nonexistent/flag"]);
    run.assert_refused("open /nonexistent/flag: no such file or directory");
    let run = validate(
        br#"{"NoListen": true, "Security": {"Noise": false, "TLS": false}}"#,
        &["-tls"],
    );
    assert_eq!(run.code, 0);
}

#[test]
fn the_daemon_listens_where_the_config_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let json = r#"{"HostAddresses": ["/ip4/127.0.0.1/tcp/0"], "AnnounceAddresses": ["/dns4/example.org/tcp/4001"]}"#;
    std::fs::write(&path, json).unwrap();
    let daemon = Launch::new().args(["-f".into(), path]).spawn();
    let addrs: Vec<String> = daemon.addrs().iter().map(ToString::to_string).collect();
    assert_eq!(addrs, ["/dns4/example.org/tcp/4001"]);
}

/// Every limit that can be set, as flag, as key, and what `-validate` calls it.
#[test]
fn limits_are_set_by_flag_or_file() {
    const SET: [(&str, &str, &str, &str); 12] = [
        ("memoryLimit", "Limits", "Memory", "123456789"),
        ("connMax", "Limits", "Connections", "41"),
        ("connMaxInbound", "Limits", "InboundConnections", "42"),
        ("connPerPeer", "Limits", "ConnectionsPerPeer", "43"),
        ("streamsMax", "Limits", "InboundStreams", "44"),
        (
            "streamsPerConn",
            "Limits",
            "InboundStreamsPerConnection",
            "45",
        ),
        ("connPerAddress", "PerAddress", "Connections", "46"),
        ("connBurst", "PerAddress", "Burst", "47"),
        ("connRefill", "PerAddress", "Refill", "48"),
        ("connLo", "ConnectionManager", "LowWaterMark", "49"),
        ("connHi", "ConnectionManager", "HighWaterMark", "50"),
        ("connGrace", "ConnectionManager", "GracePeriod", "51"),
    ];
    let timed = |flag| ["connRefill", "connGrace"].contains(&flag);
    for (flag, object, key, value) in SET {
        let typed = if timed(flag) {
            format!("-{flag}={value}s")
        } else {
            format!("-{flag}={value}")
        };
        let keyed = if timed(flag) {
            format!("\"{value}s\"")
        } else {
            value.to_owned()
        };
        let manager = match object {
            "ConnectionManager" => "",
            _ => r#", "ConnectionManager": {"Enabled": true}"#,
        };
        let enabled = match object {
            "ConnectionManager" => r#""Enabled": true, "#,
            _ => "",
        };
        let json =
            format!(r#"{{"NoListen": true, "{object}": {{{enabled}"{key}": {keyed}}}{manager}}}"#);
        let none = r#"{"NoListen": true, "ConnectionManager": {"Enabled": true}}"#;
        let line = |json: &str, flags: &[&str]| {
            let run = validate(json.as_bytes(), flags);
            assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{flag}");
            let name = format!("(-{flag})");
            let line = run.stdout.lines().find(|line| line.contains(&name));
            let line = line.unwrap_or_else(|| panic!("no {name} in {}", run.stdout));
            let words: Vec<String> = line.split_whitespace().map(Into::into).collect();
            let at = words.iter().position(|word| *word == name).expect("a name");
            (
                words[at + 1].clone(),
                words.last().expect("a source").clone(),
            )
        };
        let pair = |source: &str| (value.to_owned(), source.to_owned());
        assert_eq!(line(&json, &[]), pair("config"), "{key}");
        assert_eq!(line(none, &[&typed]), pair("flag"), "{flag}");
        let other = format!("-{flag}=7{}", if timed(flag) { "s" } else { "" });
        assert_eq!(
            line(&json, &[&other]),
            ("7".into(), "flag".into()),
            "{flag}"
        );
        assert_ne!(line(none, &[]).0, value);
    }
    // Zero leaves a limit to the system.
    let zero = validate(
        br#"{"NoListen": true, "Limits": {"Memory": 0, "Connections": -1}}"#,
        &["-connMaxInbound=0", "-streamsMax=0", "-connPerPeer=0"],
    );
    let plain = validate(br#"{"NoListen": true}"#, &[]);
    let values = |run: &Run| -> Vec<String> {
        let lines = run.stdout.lines();
        lines.map(|line| line[..70].to_owned()).collect()
    };
    assert_eq!(values(&zero), values(&plain));
    // More streams than a connection can have are none the less refused one by one.
    let many = validate(br#"{"NoListen": true}"#, &["-streamsPerConn=99999999"]);
    assert!(many.stdout.contains(" 16384 "), "{many:?}");
    for bad in [
        r#"{"Limits": {"Memory": "1G"}}"#,
        r#"{"Limits": {"Connections": 1.5}}"#,
        r#"{"Control": {"Uids": [1]}}"#,
    ] {
        let run = validate(bad.as_bytes(), &[]);
        let line = run.first_line();
        assert!(line.starts_with("json: cannot unmarshal "), "{bad}: {line}");
    }
    refused(
        r#"{"Control": {"Uids": "me"}}"#,
        r#"controlUids: "me" is no user id"#,
    );
}

#[test]
fn a_valid_configuration_is_answered_with_its_limits() {
    let json =
        br#"{"NoListen": true, "PerAddress": {"Connections": 3, "Burst": 4, "Refill": "1m"}}"#;
    let run = validate(json, &["-connBurst=0", "-persistentConnMaxMsgSize=1000"]);
    assert_eq!(run.code, 0, "{run:?}");
    let line = |name: &str| {
        let mut lines = run.stdout.lines().filter(|line| line.contains(name));
        let words: Vec<&str> = lines.next().expect(name).split_whitespace().collect();
        let told = words.iter().position(|word| word.parse::<f64>().is_ok());
        words[told.expect("a value")..].join(" ")
    };
    assert_eq!(line("-connPerAddress"), "3 config");
    assert_eq!(line("-connBurst"), "0 flag");
    assert_eq!(line("-connRefill"), "60 s config");
    assert_eq!(line("-persistentConnMaxMsgSize"), "1000 bytes flag");
    assert_eq!(line("-shutdownGrace"), "5 s default");
    assert_eq!(line("-connLo"), "160 default");
    assert_eq!(line("control connections "), "8192 fixed");
    let source = line("(-connMaxInbound)");
    assert!(source.ends_with(" descriptors") || source.ends_with(" memory"));
    assert_eq!(line("descriptors left when accepting"), "64 fixed");
    let managed = validate(json, &["-connManager", "-connHi=7"]);
    assert!(managed.stdout.contains("(-connHi)"), "{managed:?}");
    let high = managed.stdout.lines().find(|line| line.contains("-connHi"));
    assert!(high.expect("a line").ends_with(" 7       flag"), "{high:?}");
    let refused = validate(json, &["-controlAllow=nowhere"]);
    refused.assert_refused(r#"controlAllow: "nowhere" is no network"#);
}
