//! Streams between rp2pd and the other daemons, both ways, over every transport they share.

use std::process::Command;

use libp2p::{Multiaddr, multiaddr::Protocol};
use libtest_mimic::Trial;

use super::install;
use super::program::run;
use super::suite::trial;
use crate::support::certificate::Files;
use crate::support::{Daemon, Handler, Launch, PATIENCE, eventually, payload};

const MIB: usize = 1 << 20;
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const WS: &str = "/ip4/127.0.0.1/tcp/0/ws";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const NOISE: &[&str] = &["-noise=true", "-tls=false"];
const TLS: &[&str] = &["-noise=false", "-tls=true"];

/// Names as they are in use: a path, p2pclient's and Hivemind's.
pub const NAMES: [&str; 3] = ["/interop/echo/1.0.0", "123", "DHTProtocol.rpc_ping"];
/// Types of keys beside ed25519, which is meant where none is named.
pub const KINDS: [&str; 3] = ["rsa", "secp256k1", "ecdsa"];
pub const UNKNOWN: &str = "/nobody/speaks/this";

/// A way for two daemons to be connected: where both listen, and which flags both get.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub name: &'static str,
    pub listen: &'static str,
    pub flags: &'static [&'static str],
}

const fn link(name: &'static str, listen: &'static str, flags: &'static [&'static str]) -> Link {
    Link {
        name,
        listen,
        flags,
    }
}

pub const NOISE_TCP: Link = link("noise_yamux_tcp", TCP, NOISE);
pub const TLS_TCP: Link = link("tls_yamux_tcp", TCP, TLS);
pub const NOISE_WS: Link = link("noise_yamux_ws", WS, NOISE);
pub const QUIC_V1: Link = link("quic_v1", QUIC, &[]);
const DEFAULTS: Link = link("all_defaults_tcp", TCP, &[]);
/// Both are in the private network of this key, which is for tests alone.
const PNET: &str = concat!(
    "-pnetKey=",
    env!("CARGO_MANIFEST_DIR"),
    "/interop/swarm.key"
);
const PNET_NOISE: Link = link("private_noise_tcp", TCP, &[PNET, "-tls=false"]);
const PNET_TLS: Link = link("private_tls_tcp", TCP, &[PNET, "-noise=false"]);
const PNET_WS: Link = link("private_noise_ws", WS, &[PNET, "-tls=false"]);
const MPLEX: Link = link("noise_mplex_tcp", TCP, &["-tls=false", "-muxer=mplex"]);

/// One kind of daemon on the other side.
#[derive(Debug, Clone, Copy)]
struct Peer {
    suite: &'static str,
    launch: fn() -> Result<Launch, String>,
    /// The fork insists on this field of a registration.
    balanced: Option<bool>,
    /// Ends one direction of a stream at a time.
    half_closes: bool,
}

pub fn own() -> Vec<Trial> {
    let peer = Peer {
        suite: "peer_rp2pd",
        launch: || Ok(Launch::new()),
        balanced: None,
        half_closes: true,
    };
    let links = [
        NOISE_TCP, TLS_TCP, NOISE_WS, QUIC_V1, DEFAULTS, MPLEX, PNET_TLS, PNET_WS,
    ];
    let mut trials = trials(peer, &links);
    trials.extend(identities(peer, &KINDS, &[TLS_TCP, QUIC_V1]));
    trials
}

/// Go's daemon in a private network.
pub fn go_private() -> Vec<Trial> {
    let peer = Peer {
        suite: "peer_go_private",
        launch: || Ok(Launch::new().binary(install::GO.as_ref()?.join("private"))),
        balanced: None,
        half_closes: false,
    };
    [PNET_NOISE, PNET_TLS, PNET_WS]
        .into_iter()
        .flat_map(|link| streams(peer, link))
        .collect()
}

pub fn go() -> Vec<Trial> {
    let peer = Peer {
        suite: "peer_go_v0_9_2",
        launch: || Ok(Launch::new().binary(install::GO.as_ref()?.join("p2pd"))),
        balanced: None,
        half_closes: false,
    };
    let mut trials = trials(peer, &[NOISE_TCP, TLS_TCP, NOISE_WS, DEFAULTS, MPLEX]);
    // Not the other way round: built with Go 1.26, the quic-go that v0.9.2 links panics on
    // every inbound connection. Hivemind's binary stands in for Go's side there.
    trials.push(opened_by_peer(peer, QUIC_V1));
    trials.push(refused(peer, QUIC_V1));
    trials.push(trial(peer.suite, "noise_yamux_wss_peer_opens", move || {
        peer_opens_secure(peer)
    }));
    for (kind, link) in [("rsa", NOISE_TCP), ("rsa", TLS_TCP), ("ed25519", NOISE_TCP)] {
        let name = format!("{kind}_keys_of_go_{}", link.name);
        trials.push(trial(peer.suite, &name, move || {
            let keygen = Command::new(install::GO.as_ref()?.join("p2p-keygen"));
            with_keys(peer, link, kind, keygen)
        }));
    }
    // Go's p2p-keygen makes no others.
    trials.extend(identities(
        peer,
        &["secp256k1", "ecdsa"],
        &[NOISE_TCP, TLS_TCP],
    ));
    trials
}

pub fn hivemind() -> Vec<Trial> {
    let peer = Peer {
        suite: "peer_hivemind",
        launch: || Ok(Launch::new().binary(install::HIVEMIND_P2PD.as_ref()?.join("p2pd"))),
        balanced: Some(false),
        half_closes: false,
    };
    let links = [NOISE_TCP, TLS_TCP, NOISE_WS, QUIC_V1, DEFAULTS];
    let mut trials = trials(peer, &links);
    trials.extend(identities(peer, &KINDS, &[NOISE_TCP, TLS_TCP, QUIC_V1]));
    trials
}

pub fn js() -> Vec<Trial> {
    let peer = Peer {
        suite: "peer_js",
        launch: || {
            let script = install::JS.as_ref()?.join("server.mjs");
            Ok(Launch::new().binary("node").script(script))
        },
        balanced: None,
        half_closes: false,
    };
    let links = [NOISE_TCP, TLS_TCP, NOISE_WS, DEFAULTS, PNET_NOISE];
    let mut trials = trials(peer, &links);
    // Not the other way round: js-libp2p's own dial of a websocket does not end in a private
    // network, to Go's nodes either.
    trials.push(opened_by_rp2pd(peer, PNET_WS));
    // js-libp2p has no peer ids for ECDSA.
    trials.extend(identities(
        peer,
        &["rsa", "secp256k1"],
        &[NOISE_TCP, TLS_TCP],
    ));
    trials
}

fn trials(peer: Peer, links: &[Link]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for link in links.iter().copied() {
        trials.extend(streams(peer, link));
        trials.push(refused(peer, link));
    }
    trials.push(trial(
        peer.suite,
        "streams_both_ways_on_the_peers_connection",
        move || on_the_peers_connection(peer),
    ));
    trials
}

fn streams(peer: Peer, link: Link) -> [Trial; 2] {
    [opened_by_rp2pd(peer, link), opened_by_peer(peer, link)]
}

fn opened_by_rp2pd(peer: Peer, link: Link) -> Trial {
    let name = format!("{}_rp2pd_opens", link.name);
    trial(peer.suite, &name, move || rp2pd_opens(peer, link))
}

fn opened_by_peer(peer: Peer, link: Link) -> Trial {
    let name = format!("{}_peer_opens", link.name);
    trial(peer.suite, &name, move || peer_opens(peer, link))
}

fn refused(peer: Peer, link: Link) -> Trial {
    let name = format!("{}_refused_peer_hears_so", link.name);
    trial(peer.suite, &name, move || is_told(peer, link))
}

fn start(peer: Peer, link: Link) -> Result<(Daemon, Daemon), String> {
    let listen = format!("-hostAddrs={}", link.listen);
    let own = Launch::new().args([&listen]).args(link.flags).try_spawn()?;
    let other = (peer.launch)()?
        .args([&listen])
        .args(link.flags)
        .try_spawn()?;
    Ok((own, other))
}

fn rp2pd_opens(peer: Peer, link: Link) -> Result<(), String> {
    let (own, other) = start(peer, link)?;
    let echoes = echoes(&other, peer.balanced)?;
    own.client().connect_to(other.peer_id(), other.addrs())?;
    let refused = own.client().open_stream(other.peer_id(), &[UNKNOWN]);
    let refused = refused.err().unwrap_or_default();
    let expected = format!("protocols not supported: [{UNKNOWN}]");
    assert!(refused.contains(&expected), "an unknown name: {refused:?}");
    for (name, echo) in echoes {
        let info = through(&own, &other, &[name, UNKNOWN], peer.half_closes, echo)?;
        let addr = Multiaddr::try_from(info).map_err(|error| error.to_string())?;
        assert!(other.addrs().contains(&addr), "{addr} is where it listens");
    }
    own.client().disconnect(other.peer_id());
    assert_eq!(own.client().list_peers(), [], "right after DISCONNECT");
    let gone = eventually(PATIENCE, || other.client().list_peers().is_empty());
    assert!(gone, "the peer still lists rp2pd");
    Ok(())
}

fn peer_opens(peer: Peer, link: Link) -> Result<(), String> {
    let (own, other) = start(peer, link)?;
    let echoes = echoes(&own, None)?;
    other.client().connect_to(own.peer_id(), own.addrs())?;
    let refused = other.client().open_stream(own.peer_id(), &[UNKNOWN]);
    assert!(refused.is_err(), "an unknown name was opened");
    for (name, echo) in echoes {
        through(&other, &own, &[name], peer.half_closes, echo)?;
    }
    Ok(())
}

/// Over a websocket with a certificate from an authority that the peer's system trusts.
fn peer_opens_secure(peer: Peer) -> Result<(), String> {
    let files = Files::new(&["localhost"]);
    let listen = "-hostAddrs=/ip4/127.0.0.1/tcp/0/tls/ws";
    let own = Launch::new().args([listen]).args(files.certificate());
    let own = own.try_spawn()?;
    let port = own.addrs()[0].iter().nth(1).ok_or("no port")?;
    let address = Multiaddr::from(Protocol::Dns4("localhost".into())).with(port);
    let address = [Protocol::Tls, Protocol::Ws("/".into())]
        .into_iter()
        .fold(address, Multiaddr::with);
    let launch = || Ok::<_, String>((peer.launch)()?.args(["-noListenAddrs"]));
    let roots = files.path("roots.pem").display().to_string();
    let other = launch()?.env("SSL_CERT_FILE", &roots).try_spawn()?;
    let echoes = echoes(&own, None)?;
    let addresses = [address];
    other.client().connect_to(own.peer_id(), &addresses)?;
    for (name, echo) in echoes {
        through(&other, &own, &[name], peer.half_closes, echo)?;
    }
    let stranger = launch()?.try_spawn()?;
    let refused = stranger.client().connect_to(own.peer_id(), &addresses);
    let refused = refused.expect_err("the authority is unknown there");
    assert!(refused.contains("certificate"), "{refused}");
    Ok(())
}

/// Whoever rp2pd has no place for gets an error from CONNECT, not a connection that ends at once.
fn is_told(peer: Peer, link: Link) -> Result<(), String> {
    let listen = format!("-hostAddrs={}", link.listen);
    let own = Launch::new().args([&listen, "-connMaxInbound=1"]);
    let own = own.args(link.flags).try_spawn()?;
    let first = Launch::new().args([&listen]).args(link.flags).try_spawn()?;
    first.connect_to(&own);
    let other = (peer.launch)()?.args([&listen]).args(link.flags);
    let other = other.try_spawn()?;
    let dialed = other.client().connect_to(own.peer_id(), own.addrs());
    assert!(dialed.is_err(), "OK for a connection that was refused");
    assert!(own.bites("inbound connections") > 0, "nobody was refused");
    let peers = own.client().list_peers();
    assert!(peers.len() == 1 && peers[0].0 == first.peer_id());
    Ok(())
}

/// The side that accepted the connection opens streams on it as well as the one that dialed.
fn on_the_peers_connection(peer: Peer) -> Result<(), String> {
    let (own, other) = start(peer, NOISE_TCP)?;
    both_ways(&own, &other, peer)
}

/// Streams both ways, and who both say they are, with keys of each of these types at both ends.
fn identities(peer: Peer, kinds: &[&'static str], links: &[Link]) -> Vec<Trial> {
    let pairs = kinds
        .iter()
        .flat_map(|kind| links.iter().map(|link| (*kind, *link)));
    pairs
        .map(|(kind, link)| {
            let name = format!("{kind}_keys_{}", link.name);
            trial(peer.suite, &name, move || {
                with_keys(peer, link, kind, keygen())
            })
        })
        .collect()
}

/// What makes key files of every type.
pub fn keygen() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rp2pd"));
    command.arg("keygen");
    command
}

/// Key files of Go's format, read by both sides: the same peer ids, and every handshake accepts
/// the type of the other's key.
fn with_keys(peer: Peer, link: Link, kind: &str, mut keygen: Command) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut made = Vec::new();
    keygen.args(["-t", kind]);
    for file in ["own", "other"] {
        let path = dir.path().join(file);
        let printed = run(keygen.arg("-f").arg(&path), PATIENCE)?;
        made.push((format!("-id={}", path.display()), printed));
    }
    let listen = format!("-hostAddrs={}", link.listen);
    let started = [Launch::new(), (peer.launch)()?].into_iter().zip(&made);
    let started: Result<Vec<_>, _> = started
        .map(|(launch, (id, printed))| {
            let daemon = launch.args([&listen, id]).args(link.flags).try_spawn()?;
            assert_eq!(printed.trim(), format!("Peer ID: {}", daemon.peer_id()));
            Ok::<_, String>(daemon)
        })
        .collect();
    match started?.as_slice() {
        [own, other] => both_ways(own, other, peer),
        _ => Err("not two daemons".into()),
    }
}

fn both_ways(own: &Daemon, other: &Daemon, peer: Peer) -> Result<(), String> {
    let at_own = echoes(own, None)?;
    let at_other = echoes(other, peer.balanced)?;
    other.client().connect_to(own.peer_id(), own.addrs())?;
    let seen = eventually(PATIENCE, || own.client().list_peers().len() == 1);
    assert!(seen, "rp2pd does not list the peer");
    for (name, echo) in at_other {
        through(own, other, &[name], peer.half_closes, echo)?;
    }
    for (name, echo) in at_own {
        through(other, own, &[name], peer.half_closes, echo)?;
    }
    Ok(())
}

/// A handler per name, each of which echoes one stream.
pub fn echoes(
    daemon: &Daemon,
    balanced: Option<bool>,
) -> Result<Vec<(&'static str, Handler)>, String> {
    NAMES
        .into_iter()
        .map(|name| {
            let handler = Handler::tcp();
            handler.register(&mut daemon.client(), &[name], balanced)?;
            Ok((name, handler))
        })
        .collect()
}

/// One stream on the first of `names`, 1 MiB and a few bytes echoed; the binary address the
/// opener was told.
fn through(
    opener: &Daemon,
    handler: &Daemon,
    names: &[&str],
    half_closes: bool,
    echo: Handler,
) -> Result<Vec<u8>, String> {
    let echo = echo.echo(1);
    let (info, pipe) = opener.client().open_stream(handler.peer_id(), names)?;
    assert_eq!(info.proto, names[0], "the name told to the opener");
    assert_eq!(info.peer, handler.peer_id().to_bytes());
    let sent = payload(MIB + 7, u64::from(opener.pid()));
    let got = if half_closes {
        pipe.exchange(&sent)
    } else {
        pipe.echo(&sent)
    };
    assert!(got == sent, "{} bytes came back, not the same", got.len());
    let told = echo.join().map_err(|_| "the echo handler panicked")?;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].proto, names[0], "the name told to the handler");
    assert_eq!(told[0].peer, opener.peer_id().to_bytes());
    Ok(info.addr.to_vec())
}
