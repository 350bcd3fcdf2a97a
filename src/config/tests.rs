mod refusals;

use std::ffi::OsString;

use super::*;
use crate::cli::{Command, parse};

fn args(words: &[&str]) -> Args {
    let argv = ["rp2pd"].iter().chain(words).map(OsString::from);
    match parse(argv) {
        Ok(Command::Daemon(args)) => *args,
        other => panic!("{other:?}"),
    }
}

/// As `Config::load`, with the config's text at hand and no environment.
fn load(words: &[&str], json: &str) -> Result<Config, ConfigError> {
    let args = args(words);
    let mut notices = Vec::new();
    let file = file::parse(json.as_bytes(), &mut notices)?;
    settle(&args, &file, notices)
}

/// The quiet base that tests of notices start from.
const QUIET: &str = r#"{"NoListen": true}"#;

#[test]
fn defaults_are_gos_with_the_holes_closed() {
    let config = load(&[], "null").unwrap();
    assert_eq!(config.listen, ControlAddr::Unix("/tmp/p2pd.sock".into()));
    assert_eq!((config.listen_mode, config.listen_group), (0o600, None));
    assert!(config.noise && config.tls && !config.plaintext && config.echo);
    assert_eq!(config.muxer, Muxer::Yamux);
    assert_eq!(config.max_frame, 4 << 20);
    assert_eq!(config.shutdown_grace, Duration::from_secs(5));
    assert!(config.relay.enabled && config.relay.service && config.relay.discovery);
    assert_eq!(
        config.notices,
        ["no -hostAddrs: the host listens on nothing"]
    );
    assert_eq!(load(&[], "{}").unwrap(), config);
}

/// The table's defaults, which the usage text shows, are the ones in force.
#[test]
fn typing_every_default_changes_nothing() {
    let usage = parse(["p".into(), "-help".into()]).unwrap_err().text;
    let mut words = Vec::new();
    let mut name = "";
    for line in usage.lines() {
        if let Some(flag) = line.strip_prefix("  -") {
            name = flag.split([' ', '\t']).next().unwrap();
        } else if let Some((_, default)) = line.rsplit_once("(default ") {
            // idleTimeout's help has a remark in the middle that looks alike.
            if let Some(default) = default.strip_suffix(')') {
                words.push(format!("-{name}={}", default.trim_matches('"')));
            }
        }
    }
    assert!(words.len() > 15, "{words:?}");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut typed = load(&words, "{}").unwrap();
    typed.sources = Sources::default();
    assert_eq!(typed, load(&[], "{}").unwrap());
}

#[test]
fn a_full_file_is_read_in_any_case_of_keys() {
    let json = r#"{
        "listenaddr": "/ip4/127.0.0.1/tcp/7", "QUIET": true, "ID": "key",
        "Bootstrap": {"Enabled": true, "Peers": ["/dns4/a/tcp/1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"]},
        "DHT": {"Mode": "full"},
        "ConnectionManager": {"Enabled": true, "LowWaterMark": 1, "HighWaterMark": 2, "GradePeriod": "3s"},
        "NatPortMap": true, "AutoNat": true, "NoListen": true, "MetricsAddress": "127.0.0.1:1",
        "PubSub": {"Enabled": true, "Router": "floodsub", "Sign": false, "SignStrict": false,
                   "GossipSubHeartbeat": {"Interval": 1000000000, "InitialDelay": "1.5s"}},
        "Relay": {"Enabled": true, "Auto": true, "Discovery": true},
        "HostAddresses": ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"],
        "AnnounceAddresses": [], "Security": {"Noise": false, "TLS": true, "Plaintext": true},
        "Echo": false, "Unknown": {"x": [1]}, "QUIC": null
    }"#;
    let config = load(&[], json).unwrap();
    assert_eq!(config.listen.to_string(), "/ip4/127.0.0.1/tcp/7");
    assert!(config.quiet && config.no_listen && !config.noise && config.plaintext && !config.echo);
    assert_eq!(config.identity_file, Some("key".into()));
    assert!(config.bootstrap.enabled && config.bootstrap.explicit);
    assert_eq!(config.dht, Some(DhtMode::Auto));
    let grace = Duration::from_secs(3);
    assert_eq!(
        config.conn_manager,
        Some(ConnManager {
            low: 1,
            high: 2,
            grace
        })
    );
    let pubsub = config.pubsub.unwrap();
    assert_eq!(
        (pubsub.router, pubsub.sign, pubsub.sign_strict),
        (RouterKind::Floodsub, false, false)
    );
    assert_eq!(pubsub.heartbeat_interval, Some(Duration::from_secs(1)));
    assert_eq!(pubsub.heartbeat_delay, Some(Duration::from_millis(1500)));
    assert_eq!(config.host_addrs.len(), 2);
    assert!(config.nat.port_map && config.nat.autonat && config.relay.auto);
    assert_eq!(config.metrics_addr.as_deref(), Some("127.0.0.1:1"));
}

#[test]
fn namespaces_are_a_list_and_what_belongs_to_the_dht_needs_it() {
    let with = load(&["-dht", "-dhtNamespace=a,b"], QUIET).unwrap();
    assert_eq!(with.dht_namespaces, ["a", "b"]);
    let told = |config: Config| config.notices.concat().contains("-dhtNamespace");
    assert!(!told(with));
    assert!(told(load(&["-dhtNamespace=a"], QUIET).unwrap()));
    assert!(!told(load(&["-dhtNamespace="], QUIET).unwrap()));
    let store = load(&["-dhtServer", "-datastore=a"], QUIET).unwrap();
    assert_eq!(store.datastore, Some("a".into()));
    let told = |config: Config| config.notices.concat().contains("-datastore");
    assert!(!told(store));
    assert!(told(load(&["-datastore=a"], QUIET).unwrap()));
    let empty = load(&["-datastore="], QUIET).unwrap();
    assert_eq!(empty.datastore, None);
    assert!(!told(empty));
}

#[test]
fn flags_go_over_the_file_as_in_go() {
    let json = r#"{"ListenAddr": "/unix/file", "ID": "file", "Quiet": true, "NoListen": true,
        "DHT": {"Mode": "server"}, "HostAddresses": ["/ip4/1.1.1.1/tcp/1"],
        "Relay": {"Enabled": false}, "Security": {"TLS": false}, "Echo": false}"#;
    let file = load(&[], json).unwrap();
    assert_eq!(file.listen.to_string(), "/unix/file");
    assert!(!file.relay.enabled && !file.relay.service && !file.tls && !file.echo);
    let both = load(
        &[
            "-listen=/unix/flag",
            "-id=flag",
            "-q=0",
            "-dhtClient",
            "-hostAddrs=/ip4/2.2.2.2/tcp/2",
            "-relay",
            "-tls",
            "-echo",
            "-noListenAddrs=false",
        ],
        json,
    )
    .unwrap();
    assert_eq!(both.listen.to_string(), "/unix/flag");
    assert_eq!(both.identity_file, Some("flag".into()));
    assert_eq!(both.dht, Some(DhtMode::Client));
    assert_eq!(both.host_addrs[0].to_string(), "/ip4/2.2.2.2/tcp/2");
    assert!(both.relay.enabled && both.tls && both.echo);
    // Given as false such flags do not switch off what the file switches on.
    assert!(both.quiet && both.no_listen);
    let empty = load(&["-id=", "-hostAddrs=", "-metricsAddr="], json).unwrap();
    assert_eq!(empty.identity_file, Some("file".into()));
    assert_eq!(empty.host_addrs, file.host_addrs);
}

#[test]
fn relay_flags_are_obeyed() {
    let off = load(&["-relay=0"], QUIET).unwrap().relay;
    assert!(!off.enabled && !off.service);
    assert!(!load(&["-relayService=0"], QUIET).unwrap().relay.service);
    let limits = load(
        &[
            "-relayMaxCircuits=-1",
            "-relayDataLimit=-5",
            "-relayTimeLimit=-1s",
            "-relayMaxReservations=3",
        ],
        QUIET,
    )
    .unwrap()
    .relay;
    assert_eq!(
        (
            limits.max_circuits,
            limits.data_limit,
            limits.max_reservations
        ),
        (0, 0, 3)
    );
    assert_eq!(limits.time_limit, Duration::ZERO);
    let peer = "/dns4/a/tcp/1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN";
    let trusted = format!("-trustedRelays={peer}");
    let auto = load(
        &["-autoRelay", "-dhtClient", "-relayDiscovery=0", &trusted],
        QUIET,
    )
    .unwrap();
    assert_eq!(auto.relay.trusted[0].to_string(), peer);
}

#[test]
fn what_has_no_effect_is_told_once_and_defaults_stay_silent() {
    let silent = [
        "-dht=false",
        "-b=0",
        "-pubsubSign=false",
        "-relayHopLimit=0",
        "-relayService=1",
        "-quic=true",
        "-autoRelay=0",
        "-idleTimeout=0",
        "-connLo=3",
        "-noise=1",
        "-muxer=yamux",
        "-pprofPort=0",
        "-relayDataLimit=4294967296",
        "-relayTimeLimit=30m",
        "-metricsAddr=",
        "-relay=0",
    ];
    assert_eq!(load(&silent, QUIET).unwrap().notices, [""; 0]);
    let loud = load(
        &[
            "-dhtServer",
            "-pubsub",
            "-idleTimeout=30.0s",
            "-autoRelay",
            "-pprof",
            "-quic=0",
            "-relayHopLimit=2",
            "-secio",
            "-muxer=spdy",
            "-plaintext",
            "-",
            "-q",
        ],
        QUIET,
    )
    .unwrap();
    assert_eq!(
        loud.notices,
        [
            r#"flags end at "-": it and what follows is ignored"#,
            "without effect: -pprof, -quic=false, -relayHopLimit, -secio",
            r#"unknown muxer "spdy": yamux is used"#,
            "plaintext connections are allowed: nothing protects them",
        ]
    );
    let json = r#"{"NoListen": true, "QUIC": false, "Relay": {"HopLimit": 1}, "PProfPort": 6060,
        "ConnectionManager": {"GracePeriod": 120}}"#;
    assert_eq!(
        load(&[], json).unwrap().notices,
        [
            "config keys without effect: PProf.Port, QUIC, Relay.HopLimit",
            r#"config key Config.ConnectionManager.GracePeriod is 120 nanoseconds; write "120s" for seconds"#,
        ]
    );
}

#[test]
fn the_public_network_is_dialled_only_when_asked() {
    let config = load(&["-b"], QUIET).unwrap();
    assert_eq!(config.bootstrap.peers.len(), 5);
    assert!(config.bootstrap.enabled && !config.bootstrap.explicit);
    let config = load(&["-bootstrapPeers=/ip4/1.1.1.1/tcp/1"], QUIET).unwrap();
    assert!(!config.bootstrap.enabled && config.bootstrap.explicit);
    assert_eq!(load(&[], QUIET).unwrap().bootstrap.peers, []);
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in r#"(\{|\}|\[|\]|"(Quiet|DHT|Mode|HostAddresses|x)"|:|,|1|-1|1e9|null|true| |.){0,30}"#) {
        if let Err(error) = load(&[], &text) {
            proptest::prop_assert!(!error.to_string().is_empty());
        }
    }
}
