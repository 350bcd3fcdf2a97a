//! The table of settings.
//!
//! Flags and defaults are those of the Go daemons where these have them (COMPATIBILITY.md 1.1);
//! the JSON keys have the shape of Go's `config.Config`, whose published schema spells two of them
//! in another way (COMPATIBILITY.md 2).

use std::path::PathBuf;

use super::macros::settings;
use super::{
    AddrList, AddrText, ByteSize, Effect, FileMode, Flag, GoDuration, Group, Setting, Value,
    not_empty, over, switch,
};
use crate::muxer::MAX_STREAMS;
use crate::node::{AddressLimits, PER_PEER};
use crate::wire::frame::DEFAULT_MAX_FRAME;

/// Names that other daemons of the family give to the same flags; `metrics` is passed by one
/// client in error.
pub const ALIASES: &[(&str, &str)] = &[
    ("bootstrap", "b"),
    ("connMgr", "connManager"),
    ("connMgrHi", "connHi"),
    ("connMgrLo", "connLo"),
    ("metrics", "metricsAddr"),
    ("nat", "natPortMap"),
    ("noInlinePeerID", "noInlinePeerId"),
    ("quiet", "q"),
];

/// The values that a flag of the daemon or of `keygen` can have; none if it can have any.
pub(crate) fn values_of(flag: &str) -> &'static [&'static str] {
    match flag {
        "muxer" => &["yamux", "mplex"],
        "pubsubRouter" => &["gossipsub", "floodsub"],
        // The flag of `keygen`.
        "t" => &["ed25519", "rsa", "secp256k1", "ecdsa"],
        _ => &[],
    }
}

settings! {
    Program {
        file "f" "" PathBuf,
            not_empty, "", Works, "a file from which to read a json representation of the daemon config";
        stdin "i" "" bool = false,
            switch, "", Works, "have the daemon read the json config from stdin";
        quiet "q" "Quiet" bool = false,
            switch, "", Works, "be quiet";
        validate "validate" "" bool = false,
            switch, "", Works, "checks the configuration and exits with 0 if the daemon could use it, else 1";
        version "version" "" bool = false,
            switch, "", Works, "prints the version and exits";
        healthcheck "healthcheck" "" bool = false,
            switch, "", Works, "asks the daemon at -listen for its identity and exits with 0 if it answers, else 1";
        metrics_addr "metricsAddr" "MetricsAddress" String,
            not_empty, "", Works, "an address to bind the metrics handler and the status page to, as in 127.0.0.1:8888; without a host that is loopback";
        shutdown_grace "shutdownGrace" "" GoDuration = GoDuration::seconds(5),
            over, "duration", Works, "how long open streams may drain after SIGTERM";
        idle_timeout "idleTimeout" "" GoDuration,
            over, "duration", Works, "Kills the daemon if no client opens a persistent connection in that time. The zero value (default) disables this feature";
        stay_alive "stayAlive" "" bool = false,
            switch, "", Works, "keeps the daemon running when the last persistent connection closes";
    }
    Control {
        listen "listen" "ListenAddr" AddrText = "/unix/tmp/p2pd.sock",
            over, "", Works, "daemon control listen multiaddr";
        listen_mode "listenMode" "" FileMode = FileMode(0o600),
            over, "", Works, "permission bits of the control socket file, octal";
        listen_group "listenGroup" "" String,
            not_empty, "", Works, "group, by name or number, that owns the control socket file";
        control_uids "controlUids" "Control.Uids" String,
            not_empty, "", Works, "comma separated list of user ids that may connect to a unix control socket; without it all that can open it";
        control_allow "controlAllow" "Control.Allow" String,
            not_empty, "", Works, "comma separated list of networks from which clients may connect to a tcp control socket, beside loopback; without it from anywhere";
        control_http "controlHttp" "Control.Http" String,
            not_empty, "", Works, "an address for control over HTTP, JSON and WebSocket, as in 127.0.0.1:4010; without a host that is loopback";
        control_token "controlToken" "Control.Token" PathBuf,
            not_empty, "", Works, "the file of the token that -controlHttp asks for; it is made if it is missing";
        control_origins "controlOrigins" "Control.Origins" String,
            not_empty, "", Works, "comma separated list of origins, as browsers send them, whose pages may use -controlHttp; none without it";
        handler_any "handlerAllowAny" "Control.HandlerAllowAny" bool = false,
            switch, "", Works, "lets clients name any address as a stream handler, as Go does";
        max_frame "persistentConnMaxMsgSize" "" ByteSize = ByteSize(DEFAULT_MAX_FRAME as i64),
            over, "bytes", Works, "Max size for control and persistent connection messages (bytes). Default: 4 MiB";
    }
    Host {
        id "id" "ID" PathBuf,
            not_empty, "", Works, "peer identity; private key file";
        create_identity "createIdentity" "" bool = false,
            switch, "", Works, "makes the key file of -id, an Ed25519 key, if it does not exist yet";
        host_addrs "hostAddrs" "HostAddresses" AddrList,
            not_empty, "", Works, "comma separated list of multiaddrs the host should listen on";
        announce_addrs "announceAddrs" "AnnounceAddresses" AddrList,
            not_empty, "", Works, "comma separated list of multiaddrs the host should announce to the network";
        no_listen "noListenAddrs" "NoListen" bool = false,
            switch, "", Works, "sets the host to listen on no addresses";
        noise "noise" "Security.Noise" bool = true,
            over, "", Works, "Enables Noise channel security protocol";
        tls "tls" "Security.TLS" bool = true,
            over, "", Works, "Enables TLS1.3 channel security protocol";
        plaintext "plaintext" "Security.Plaintext" bool = false,
            over, "", Works, "Enables Plaintext channel security protocol, which protects nothing";
        pnet_key "pnetKey" "PNetKey" PathBuf,
            not_empty, "", Works, "a file with the pre-shared key of a private network: only peers that have it are talked to, over tcp and websocket";
        wss_cert "wssCert" "WSS.Certificate" PathBuf,
            not_empty, "", Works, "a file with the certificate, and those between it and its authority, in PEM, with which /tls/ws and /wss addresses of -hostAddrs are listened on; read again when it changes";
        wss_key "wssKey" "WSS.Key" PathBuf,
            not_empty, "", Works, "a file with the private key of -wssCert in PEM";
        wss_roots "wssRoots" "WSS.Roots" PathBuf,
            not_empty, "", Works, "a file with certificates in PEM of authorities that secure websockets are trusted by when they are dialed, beside those that Mozilla trusts";
        muxer "muxer" "" String = "yamux",
            over, "", Works, "muxer to use for connections";
        echo "echo" "Echo" bool = true,
            over, "", Works, "Enables echo protocol";
    }
    Limits {
        memory_limit "memoryLimit" "Limits.Memory" ByteSize = ByteSize(0),
            over, "bytes", Works, "memory, in bytes or with a unit such as 512MiB, near which peers are refused, then closed, then cut; 0 is what the control group or else the machine has";
        conn_manager "connManager" "ConnectionManager.Enabled" bool = false,
            switch, "", Works, "Enables the Connection Manager";
        conn_lo "connLo" "ConnectionManager.LowWaterMark" i64 = 256,
            over, "connections", Works, "Connection Manager Low Water mark";
        conn_hi "connHi" "ConnectionManager.HighWaterMark" i64 = 512,
            over, "connections", Works, "Connection Manager High Water mark";
        conn_grace "connGrace" "ConnectionManager.GracePeriod|ConnectionManager.GradePeriod" GoDuration = GoDuration::seconds(120),
            over, "duration", Works, "Connection Manager grace period, with a unit";
        conn_max "connMax" "Limits.Connections" i64 = 0,
            over, "connections", Works, "connections at most; 0 is as many as descriptors and memory allow";
        conn_max_inbound "connMaxInbound" "Limits.InboundConnections" i64 = 0,
            over, "connections", Works, "inbound connections at most; 0 is as many as descriptors and memory allow";
        conn_per_peer "connPerPeer" "Limits.ConnectionsPerPeer" i64 = PER_PEER as i64,
            over, "connections", Works, "connections with one peer at most";
        conn_per_address "connPerAddress" "PerAddress.Connections" i64 = AddressLimits::default().connections as i64,
            over, "connections", Works, "inbound connections that one address (IPv4, or an IPv6 /56) may have, 8 times as many a /48; 0 is no limit. Unless changed 256 for private addresses and the machine's own; loopback has no limit";
        conn_burst "connBurst" "PerAddress.Burst" i64 = AddressLimits::default().burst as i64,
            over, "connections", Works, "new inbound connections that one address may make at once, 5 times as many a /48; 0 is no limit. Unless changed 1024 for private addresses and the machine's own";
        conn_refill "connRefill" "PerAddress.Refill" GoDuration = AddressLimits::default().refill,
            over, "duration", Works, "time after which an address that has used up its burst may connect once more, with a unit; two fifths of that for a /48. Unless changed 50ms for private addresses and the machine's own";
        conn_exempt "connExempt" "PerAddress.Exempt" String,
            not_empty, "", Works, "comma separated list of networks whose addresses may have and make any number of inbound connections, such as that of a cluster behind one NAT";
        streams_max "streamsMax" "Limits.InboundStreams" i64 = 0,
            over, "streams", Works, "inbound streams of all peers at most; 0 is as many as memory allows";
        streams_per_conn "streamsPerConn" "Limits.InboundStreamsPerConnection" i64 = MAX_STREAMS as i64,
            over, "streams", Works, "inbound streams on one connection at most";
    }
    Dht {
        mdns "mdns" "" bool = false,
            switch, "", Works, "finds peers on the same network segment by multicast DNS, and is found there";
        rendezvous "rendezvous" "" AddrList,
            not_empty, "", Works, "comma separated list of rendezvous points; registers there and connects to others that have";
        rendezvous_namespace "rendezvousNamespace" "" String = "rendezvous",
            over, "", Works, "comma separated list of names under which to register at rendezvous points and to look for others";
        rendezvous_server "rendezvousServer" "" bool = false,
            switch, "", Works, "serves as a rendezvous point for others";
        bootstrap "b" "Bootstrap.Enabled" bool = false,
            switch, "", Works, "connects to bootstrap peers and bootstraps the dht if enabled";
        bootstrap_peers "bootstrapPeers" "Bootstrap.Peers" AddrList,
            not_empty, "", Works, "comma separated list of bootstrap peers; defaults to the IPFS DHT peers";
        dht "dht" "" bool = false,
            switch, "", Works, "Enables the DHT in full node mode";
        dht_client "dhtClient" "" bool = false,
            switch, "", Works, "Enables the DHT in client mode";
        dht_server "dhtServer" "" bool = false,
            switch, "", Works, "Enables the DHT in server mode (use 'dht' unless you actually need this)";
        dht_mode "" "DHT.Mode" String,
            over, "", Works, "full, client or server: as -dht, -dhtClient, -dhtServer";
        datastore "datastore" "" PathBuf,
            not_empty, "", Works, "a file in which the dht keeps records, providers and good peers over restarts";
        dht_namespace "dhtNamespace" "" String,
            not_empty, "", Works, "comma separated list of namespaces in which the dht takes any record unvalidated; for tests and private networks";
    }
    PubSub {
        pubsub "pubsub" "PubSub.Enabled" bool = false,
            switch, "", Works, "Enables pubsub";
        pubsub_router "pubsubRouter" "PubSub.Router" String = "gossipsub",
            over, "", Works, "Specifies the pubsub router implementation";
        pubsub_sign "pubsubSign" "PubSub.Sign" bool = true,
            over, "", Works, "Enables pubsub message signing";
        pubsub_sign_strict "pubsubSignStrict" "PubSub.SignStrict" bool = true,
            over, "", Works, "Enables or disables pubsub strict signature verification";
        heartbeat_interval "gossipsubHeartbeatInterval" "PubSub.GossipSubHeartbeat.Interval" GoDuration,
            over, "duration", Works, "Specifies the gossipsub heartbeat interval";
        heartbeat_delay "gossipsubHeartbeatInitialDelay" "PubSub.GossipSubHeartbeat.InitialDelay" GoDuration,
            over, "duration", Works, "Specifies the gossipsub initial heartbeat delay";
    }
    Relay {
        nat_port_map "natPortMap" "NatPortMap" bool = false,
            switch, "", Works, "Enables NAT port mapping";
        autonat "autonat" "AutoNat" bool = false,
            switch, "", Works, "Enables the AutoNAT service";
        force_public "forceReachabilityPublic" "" bool = false,
            switch, "", Works, "Set up ForceReachability as public for autonat";
        force_private "forceReachabilityPrivate" "" bool = false,
            switch, "", Works, "Set up ForceReachability as private for autonat";
        relay "relay" "Relay.Enabled" bool = true,
            over, "", Works, "Enables circuit relay";
        relay_service "relayService" "" bool = true,
            over, "", Works, "Configures this node to serve as a relay for others if -relay=1";
        auto_relay "autoRelay" "Relay.Auto" bool = false,
            switch, "", Works, "Enables autorelay";
        relay_discovery "relayDiscovery" "Relay.Discovery" bool = true,
            over, "", Works, "Discover potential relays in background if -autoRelay=1";
        trusted_relays "trustedRelays" "" AddrList,
            not_empty, "", Works, "comma separated list of multiaddrs for static circuit relay peers; by default, use bootstrap peers as trusted relays";
        relay_max_circuits "relayMaxCircuits" "" i64 = 16,
            over, "", Works, "maximum number of open relay connections for each peer if -relayService=1";
        relay_max_reservations "relayMaxReservations" "" i64 = 128,
            over, "", Works, "maximum number of reserved relay slots if -relayService=1";
        relay_buffer_size "relayBufferSize" "" ByteSize = ByteSize(16 << 20),
            over, "bytes", Works, "size (in bytes) of the relayed connection buffers if -relayService=1; what is above 128 KiB has no effect";
        relay_data_limit "relayDataLimit" "" ByteSize = ByteSize(4 << 30),
            over, "bytes", Works, "maximum data bytes relayed (in each direction) before resetting connection if -relayService=1; 0 is no limit";
        relay_time_limit "relayTimeLimit" "" GoDuration = GoDuration::seconds(30 * 60),
            over, "duration", Works, "maximum duration of a single active relayed connection if -relayService=1; 0 is no limit";
    }
    Old {
        insecure "insecure" "" bool = false,
            over, "", Old, "accepted for old clients, has no effect";
        no_inline_peer_id "noInlinePeerId" "" bool = false,
            over, "", Old, "accepted for old clients, has no effect";
        pprof "pprof" "PProf.Enabled" bool = false,
            over, "", Old, "accepted for compatibility with Go's profiler, has no effect";
        pprof_port "pprofPort" "PProf.Port|PProfPort" u64,
            over, "", Old, "accepted for compatibility with Go's profiler, has no effect";
        quic "quic" "QUIC" bool = true,
            over, "", Old, "Enables the QUIC transport (deprecated, always enabled now)";
        relay_active "relayActive" "Relay.Active" bool = false,
            over, "", Old, "Enables active mode for relay (deprecated, has no effect, use -relayService=1 instead)";
        relay_hop "relayHop" "Relay.Hop" bool = false,
            over, "", Old, "Enables hop for relay (deprecated, has no effect)";
        relay_hop_limit "relayHopLimit" "Relay.HopLimit" i64,
            over, "", Old, "Sets the hop limit for hop relays (deprecated, has no effect)";
        secio "secio" "" bool = false,
            over, "", Old, "accepted for old clients, has no effect";
        security "security" "" String,
            over, "", Old, "accepted for old clients, has no effect";
    }
}
