//! The flags of the daemon and of `keygen` (COMPATIBILITY.md 1.1).

use std::ffi::OsString;
use std::path::PathBuf;

use super::syntax::{Alias, Flag};
use super::value::{FileMode, GoDuration, Value};

/// Declares a struct of optional values and the table of flags that fills it.
macro_rules! flags {
    (
        $(#[$doc:meta])*
        $args:ident, $table:ident $(, with $extra:ident: $extra_type:ty = $extra_doc:literal)?;
        $($field:ident $name:literal $type:ty, $default:literal, $help:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $args {
            $(#[doc = concat!("`-", $name, "`: ", $help, ".")] pub $field: Option<$type>,)*
            $(#[doc = $extra_doc] pub $extra: $extra_type,)?
        }

        pub(super) const $table: &[Flag<$args>] = &[$(Flag {
            name: $name,
            kind: <$type as Value>::KIND,
            default: $default,
            help: $help,
            set: |args, text| {
                args.$field = Some(<$type as Value>::read(text)?);
                Ok(())
            },
        },)*];
    };
}

flags! {
    /// What was typed after `rp2pd`; `None` is a flag that was not given.
    Args, DAEMON, with positional: Vec<OsString> = "The word that ended the flags, and the rest.";

    announce_addrs "announceAddrs" String, "", "comma separated list of multiaddrs the host should announce to the network";
    auto_relay "autoRelay" bool, "", "Enables autorelay";
    autonat "autonat" bool, "", "Enables the AutoNAT service";
    bootstrap "b" bool, "", "connects to bootstrap peers and bootstraps the dht if enabled";
    bootstrap_peers "bootstrapPeers" String, "", "comma separated list of bootstrap peers; defaults to the IPFS DHT peers";
    conn_burst "connBurst" i64, "16", "new inbound connections that one address may make at once; 0 is no limit";
    conn_grace "connGrace" GoDuration, "2m0s", "Connection Manager grace period, with a unit";
    conn_hi "connHi" i64, "512", "Connection Manager High Water mark";
    conn_lo "connLo" i64, "256", "Connection Manager Low Water mark";
    conn_manager "connManager" bool, "", "Enables the Connection Manager";
    conn_max "connMax" i64, "0", "connections at most; 0 is as many as descriptors and memory allow";
    conn_max_inbound "connMaxInbound" i64, "0", "inbound connections at most; 0 is as many as descriptors and memory allow";
    conn_per_address "connPerAddress" i64, "8", "inbound connections that one address may have; 0 is no limit";
    conn_per_peer "connPerPeer" i64, "8", "connections with one peer at most";
    conn_refill "connRefill" GoDuration, "5s", "time after which an address that has used up its burst may connect once more, with a unit";
    control_allow "controlAllow" String, "", "comma separated list of networks from which clients may connect to a tcp control socket, beside loopback; without it from anywhere";
    control_uids "controlUids" String, "", "comma separated list of user ids that may connect to a unix control socket; without it all that can open it";
    datastore "datastore" PathBuf, "", "a file in which the dht keeps records, providers and good peers over restarts";
    dht "dht" bool, "", "Enables the DHT in full node mode";
    dht_client "dhtClient" bool, "", "Enables the DHT in client mode";
    dht_namespace "dhtNamespace" String, "", "comma separated list of namespaces in which the dht takes any record unvalidated; for tests and private networks";
    dht_server "dhtServer" bool, "", "Enables the DHT in server mode (use 'dht' unless you actually need this)";
    echo "echo" bool, "true", "Enables echo protocol";
    file "f" PathBuf, "", "a file from which to read a json representation of the daemon config";
    force_private "forceReachabilityPrivate" bool, "", "Set up ForceReachability as private for autonat";
    force_public "forceReachabilityPublic" bool, "", "Set up ForceReachability as public for autonat";
    heartbeat_delay "gossipsubHeartbeatInitialDelay" GoDuration, "", "Specifies the gossipsub initial heartbeat delay";
    heartbeat_interval "gossipsubHeartbeatInterval" GoDuration, "", "Specifies the gossipsub heartbeat interval";
    handler_any "handlerAllowAny" bool, "", "lets clients name any address as a stream handler, as Go does";
    healthcheck "healthcheck" bool, "", "asks the daemon at -listen for its identity and exits with 0 if it answers, else 1";
    host_addrs "hostAddrs" String, "", "comma separated list of multiaddrs the host should listen on";
    stdin "i" bool, "", "have the daemon read the json config from stdin";
    id "id" PathBuf, "", "peer identity; private key file";
    idle_timeout "idleTimeout" GoDuration, "", "Kills the daemon if no client opens a persistent connection in that time. The zero value (default) disables this feature";
    listen "listen" String, "/unix/tmp/p2pd.sock", "daemon control listen multiaddr";
    listen_group "listenGroup" String, "", "group, by name or number, that owns the control socket file";
    listen_mode "listenMode" FileMode, "0600", "permission bits of the control socket file, octal";
    memory_limit "memoryLimit" i64, "0", "memory in bytes near which peers are refused, then closed, then cut; 0 is what the control group or else the machine has";
    metrics_addr "metricsAddr" String, "", "an address to bind the metrics handler to";
    muxer "muxer" String, "yamux", "muxer to use for connections";
    nat_port_map "natPortMap" bool, "", "Enables NAT port mapping";
    no_inline_peer_id "noInlinePeerId" bool, "", "accepted for old clients, has no effect";
    no_listen "noListenAddrs" bool, "", "sets the host to listen on no addresses";
    noise "noise" bool, "true", "Enables Noise channel security protocol";
    max_frame "persistentConnMaxMsgSize" i64, "4194304", "Max size for control and persistent connection messages (bytes). Default: 4 MiB";
    plaintext "plaintext" bool, "", "Enables Plaintext channel security protocol, which protects nothing";
    pprof "pprof" bool, "", "accepted for compatibility with Go's profiler, has no effect";
    pprof_port "pprofPort" u64, "", "accepted for compatibility with Go's profiler, has no effect";
    pubsub "pubsub" bool, "", "Enables pubsub";
    pubsub_router "pubsubRouter" String, "gossipsub", "Specifies the pubsub router implementation";
    pubsub_sign "pubsubSign" bool, "true", "Enables pubsub message signing";
    pubsub_sign_strict "pubsubSignStrict" bool, "true", "Enables or disables pubsub strict signature verification";
    quiet "q" bool, "", "be quiet";
    quic "quic" bool, "true", "Enables the QUIC transport (deprecated, always enabled now)";
    relay "relay" bool, "true", "Enables circuit relay";
    relay_active "relayActive" bool, "", "Enables active mode for relay (deprecated, has no effect, use -relayService=1 instead)";
    relay_buffer_size "relayBufferSize" i64, "16777216", "size (in bytes) of the relayed connection buffers if -relayService=1";
    relay_data_limit "relayDataLimit" i64, "4294967296", "maximum data bytes relayed (in each direction) before resetting connection if -relayService=1";
    relay_discovery "relayDiscovery" bool, "true", "Discover potential relays in background if -autoRelay=1";
    relay_hop "relayHop" bool, "", "Enables hop for relay (deprecated, has no effect)";
    relay_hop_limit "relayHopLimit" i64, "", "Sets the hop limit for hop relays (deprecated, has no effect)";
    relay_max_circuits "relayMaxCircuits" i64, "16", "maximum number of open relay connections for each peer if -relayService=1";
    relay_max_reservations "relayMaxReservations" i64, "128", "maximum number of reserved relay slots if -relayService=1";
    relay_service "relayService" bool, "true", "Configures this node to serve as a relay for others if -relay=1";
    relay_time_limit "relayTimeLimit" GoDuration, "30m0s", "maximum duration of a single active relayed connection if -relayService=1";
    secio "secio" bool, "", "accepted for old clients, has no effect";
    shutdown_grace "shutdownGrace" GoDuration, "5s", "how long open streams may drain after SIGTERM";
    stay_alive "stayAlive" bool, "", "keeps the daemon running when the last persistent connection closes";
    streams_max "streamsMax" i64, "0", "inbound streams of all peers at most; 0 is as many as memory allows";
    streams_per_conn "streamsPerConn" i64, "16384", "inbound streams on one connection at most";
    tls "tls" bool, "true", "Enables TLS1.3 channel security protocol";
    trusted_relays "trustedRelays" String, "", "comma separated list of multiaddrs for static circuit relay peers; by default, use bootstrap peers as trusted relays";
    validate "validate" bool, "", "checks the configuration and exits with 0 if the daemon could use it, else 1";
    version "version" bool, "", "prints the version and exits";
}

/// Names that other daemons of the family give to the same flags; `metrics` is passed by one
/// client in error.
pub(super) const ALIASES: &[Alias] = &[
    ("bootstrap", "b"),
    ("connMgr", "connManager"),
    ("connMgrHi", "connHi"),
    ("connMgrLo", "connLo"),
    ("metrics", "metricsAddr"),
    ("nat", "natPortMap"),
    ("quiet", "q"),
];

flags! {
    /// What was typed after `rp2pd keygen`.
    KeygenArgs, KEYGEN;

    bits "b" i64, "2048", "key size in bits (for rsa)";
    file "f" PathBuf, "identity", "output key file";
    key_type "t" String, "rsa", "key type; rsa, ed25519, secp256k1 or ecdsa";
}
