//! Configurations that are refused, and in which words.

use super::load;

fn error(words: &[&str], json: &str) -> String {
    load(words, json).unwrap_err().to_string()
}

/// Texts of the Go daemon (COMPATIBILITY.md 1.6, 2).
#[test]
fn refusals_are_worded_as_in_go() {
    let auto = "can't have autorelay enabled without Relay enabled and DHT enabled";
    for (words, json, text) in [
        (
            &["-noise=0", "-tls=false"][..],
            "{}",
            "at least one channel security protocol must be enabled",
        ),
        (&["-autoRelay"], "{}", auto),
        (&["-autoRelay", "-dht", "-relay=0"], "{}", auto),
        (&[], r#"{"Relay": {"Auto": true}}"#, auto),
        (
            &["-forceReachabilityPublic", "-forceReachabilityPrivate"],
            "{}",
            "forceReachability must be public or private, not both",
        ),
        (
            &["-pubsub", "-pubsubRouter=x"],
            "{}",
            "unknown pubsub router: x",
        ),
        (
            &["-b", "-bootstrapPeers=/ip4/1.1.1.1/tcp/1"],
            "{}",
            "invalid p2p multiaddr",
        ),
        (
            &["-listen="],
            "{}",
            r#"failed to parse multiaddr "": empty multiaddr"#,
        ),
        (
            &["-listen=/ip4/127.0.0.1"],
            "{}",
            "listen ip4: unknown network ip4",
        ),
        (
            &["-hostAddrs=x"],
            "{}",
            r#"failed to parse multiaddr "x": must begin with /"#,
        ),
        (
            &["-announceAddrs=/ip4/1.1.1.1/tcp/1,"],
            "{}",
            r#"failed to parse multiaddr "": empty multiaddr"#,
        ),
        (
            &["-bootstrapPeers=/tcp"],
            "{}",
            r#"failed to parse multiaddr "/tcp": unexpected end of multiaddr"#,
        ),
        (
            &[],
            r#"{"DHT": {"Mode": "auto"}}"#,
            "unknown DHT mode {auto}",
        ),
        (&[], "", "unexpected end of JSON input"),
        (&[], "{", "unexpected end of JSON input"),
        (&[], "{} t", "invalid character 't' after top-level value"),
        (
            &[],
            "{}\n\n €",
            "invalid character '€' after top-level value",
        ),
        (
            &[],
            "[]",
            "json: cannot unmarshal array into Go value of type config.Config",
        ),
        (
            &[],
            "5",
            "json: cannot unmarshal number into Go value of type config.Config",
        ),
        (
            &[],
            r#"{"Quiet": 1}"#,
            "json: cannot unmarshal number into Go struct field Config.Quiet of type bool",
        ),
        (
            &[],
            r#"{"ConnectionManager": {"LowWaterMark": 2.5}}"#,
            "json: cannot unmarshal number 2.5 into Go struct field Config.ConnectionManager.LowWaterMark of type int",
        ),
        (
            &[],
            r#"{"PProf": {"Port": -1}}"#,
            "json: cannot unmarshal number -1 into Go struct field Config.PProf.Port of type uint",
        ),
        (
            &[],
            r#"{"ConnectionManager": {"GracePeriod": 1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field Config.ConnectionManager.GracePeriod of type time.Duration",
        ),
    ] {
        assert_eq!(error(words, json), text, "{words:?} {json}");
    }
}

#[test]
fn other_refusals_name_the_key_or_flag() {
    for (words, json, text) in [
        (
            &["-dhtNamespace=a,pk"][..],
            "{}",
            r#"dhtNamespace cannot be "pk""#,
        ),
        (
            &["-dhtNamespace=a/b"],
            "{}",
            r#"dhtNamespace cannot be "a/b""#,
        ),
        (&["-dhtNamespace=a,"], "{}", r#"dhtNamespace cannot be """#),
        (
            &[],
            r#"{"hostaddresses": ["/ip4/1.1.1.1/tcp/1", "x"]}"#,
            r#"config key Config.hostaddresses[1]: failed to parse multiaddr "x": must begin with /"#,
        ),
        (
            &[],
            r#"{"ListenAddr": "/tcp/1"}"#,
            "config key Config.ListenAddr: /tcp/1 is not a 'thin waist' address",
        ),
        (
            &[],
            r#"{"ListenAddr": "/unix/a\u0000b"}"#,
            "listen unix /a\0b: bind: invalid argument",
        ),
        (
            &[],
            r#"{"HostAddresses": "/ip4/1.1.1.1/tcp/1"}"#,
            "json: cannot unmarshal string into Go struct field Config.HostAddresses of type array of multiaddrs",
        ),
        (
            &[],
            r#"{"ConnectionManager": {"GracePeriod": "5"}}"#,
            "json: cannot unmarshal string \"5\" into Go struct field Config.ConnectionManager.GracePeriod of type time.Duration",
        ),
        (
            &["-persistentConnMaxMsgSize=0"],
            "{}",
            "persistentConnMaxMsgSize must be positive, not 0",
        ),
        (
            &["-persistentConnMaxMsgSize=-7"],
            "{}",
            "persistentConnMaxMsgSize must be positive, not -7",
        ),
        (
            &["-listenGroup=no such"],
            "{}",
            r#"listenGroup: unknown group "no such""#,
        ),
        (
            &["-trustedRelays=/tcp/1"],
            "{}",
            "can't have trustedRelays without autoRelay and Relay enabled",
        ),
        (
            &["-autoRelay", "-dht", "-trustedRelays=/tcp/1"],
            "{}",
            "invalid p2p multiaddr",
        ),
        (
            &["-autoRelay", "-dht", "-relayDiscovery=0"],
            "{}",
            "can't have autorelay enabled without relayDiscovery or trustedRelays",
        ),
    ] {
        assert_eq!(error(words, json), text, "{words:?} {json}");
    }
    let long = format!("-listen=/unix/{}", "x".repeat(107));
    assert!(error(&[&long], "{}").ends_with("x: bind: invalid argument"));
    assert!(load(&[&long[..long.len() - 1]], "{}").is_ok());
    assert!(error(&[], "{'a'}").starts_with("config is not valid JSON: "));
    assert!(error(&[], &"[".repeat(100_000)).starts_with("config is not valid JSON: "));
}
