//! Streams between rp2pd and py-libp2p nodes, both ways.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::install;
use super::peers::{
    KINDS, Link, NAMES, NOISE_TCP, NOISE_WS, QUIC_V1, TLS_TCP, UNKNOWN, echoes, keygen,
};
use super::program::run;
use super::suite::trial;
use crate::support::{Daemon, Launch, PATIENCE, eventually, payload};

const SUITE: &str = "peer_py_libp2p";
const DIAL: Duration = Duration::from_secs(120);
/// Longer than the node gives itself for a request.
const ANSWER: Duration = Duration::from_secs(60);
/// Less than for the compiled peers: this one is slow.
const SIZE: usize = 256 << 10;

/// Nodes of each age, by the protocols that they offer, the first first.
const ROUTERS: [(&str, &[&str]); 4] = [
    ("floodsub", &["/floodsub/1.0.0"]),
    ("gossipsub_1_0", &["/meshsub/1.0.0"]),
    ("gossipsub", &["/meshsub/1.1.0"]),
    (
        "gossipsub_1_2",
        &["/meshsub/1.2.0", "/meshsub/1.1.0", "/meshsub/1.0.0"],
    ),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for link in [NOISE_TCP, TLS_TCP, NOISE_WS, QUIC_V1] {
        trials.push(trial(
            SUITE,
            &format!("{}_rp2pd_opens", link.name),
            move || rp2pd_opens(link),
        ));
        trials.push(trial(
            SUITE,
            &format!("{}_peer_opens", link.name),
            move || peer_opens(link),
        ));
    }
    for (name, protocols) in ROUTERS {
        trials.push(trial(SUITE, name, move || pubsub(protocols)));
    }
    // The library has no ECDSA.
    for kind in KINDS.into_iter().filter(|kind| *kind != "ecdsa") {
        for link in [NOISE_TCP, TLS_TCP] {
            let name = format!("{kind}_keys_{}", link.name);
            trials.push(trial(SUITE, &name, move || with_keys(kind, link)));
        }
    }
    trials
}

/// Messages both ways, each judged by the other's library.
fn pubsub(protocols: &[&str]) -> Result<(), String> {
    let mut program = node()?;
    let daemon = Launch::new()
        .args(["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-pubsub"])
        .try_spawn()?;
    let mut subscription = daemon.client().subscribe("topic")?;
    let addr = daemon.addrs().first().ok_or("rp2pd listens nowhere")?;
    let target = addr.clone().with(Protocol::P2p(daemon.peer_id()));
    let program = program.args(["answer", &target.to_string(), "topic"]);
    let node = Node::start(program.args(protocols))?;
    let known = || {
        daemon
            .client()
            .topic_peers("topic")
            .is_ok_and(|peers| peers == [node.peer])
    };
    assert!(eventually(PATIENCE, known), "it does not subscribe");
    daemon.client().publish("topic", b"forwards")?;
    assert_eq!(subscription.next_data(), b"forwards");
    let answer = subscription.next();
    assert_eq!(answer.data.as_deref(), Some(&b"sdrawrof"[..]));
    assert_eq!(answer.from.as_deref(), Some(&node.peer.to_bytes()[..]));
    Ok(())
}

/// Streams both ways with keys of this type at both ends.
fn with_keys(kind: &str, link: Link) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let [own, other] = ["own", "other"].map(|name| dir.path().join(name));
    for path in [&own, &other] {
        run(keygen().args(["-t", kind, "-f"]).arg(path), PATIENCE)?;
    }
    let node = || {
        let mut command = node()?;
        command.env("NODE_KEY", &other);
        Ok::<_, String>(command)
    };
    let daemon = Launch::new()
        .args([format!("-hostAddrs={}", link.listen)])
        .args([format!("-id={}", own.display())])
        .args(link.flags)
        .try_spawn()?;
    let server = Node::start(node()?.args(["serve", link.listen]).args(NAMES))?;
    daemon
        .client()
        .connect_to(server.peer, std::slice::from_ref(&server.addr))?;
    let (info, pipe) = daemon.client().open_stream(server.peer, &[NAMES[0]])?;
    assert_eq!(info.peer, server.peer.to_bytes());
    let sent = payload(SIZE, 1);
    assert!(pipe.echo(&sent) == sent, "not the same came back");
    let addr = daemon.addrs().first().ok_or("rp2pd listens nowhere")?;
    let target = addr.clone().with(Protocol::P2p(daemon.peer_id()));
    let echoes = echoes(&daemon, None)?.into_iter();
    let threads: Vec<_> = echoes.map(|(_, echo)| echo.echo(1)).collect();
    run(
        node()?.arg("dial").arg(target.to_string()).args(NAMES),
        DIAL,
    )?;
    for thread in threads {
        let told = thread.join().map_err(|_| "the echo handler panicked")?;
        assert_eq!(told[0].peer, server.peer.to_bytes(), "who it says it is");
    }
    Ok(())
}

fn rp2pd_opens(link: Link) -> Result<(), String> {
    let daemon = daemon(link)?;
    let node = Node::serve(link)?;
    let (peer, addr) = (node.peer, node.addr.clone());
    daemon
        .client()
        .connect_to(peer, std::slice::from_ref(&addr))?;
    let refused = daemon.client().open_stream(peer, &[UNKNOWN]);
    assert!(refused.is_err(), "an unknown name was opened");
    for name in NAMES {
        let (info, pipe) = daemon.client().open_stream(peer, &[name])?;
        assert_eq!(info.proto, name);
        assert_eq!(info.peer, peer.to_bytes());
        assert_eq!(info.addr, addr.to_vec());
        let sent = payload(SIZE, 1);
        let got = pipe.echo(&sent);
        assert!(got == sent, "{} bytes came back, not the same", got.len());
    }
    Ok(())
}

fn peer_opens(link: Link) -> Result<(), String> {
    // First: an installation may outlast the patience of the handlers.
    let mut program = node()?;
    let daemon = daemon(link)?;
    let echoes = echoes(&daemon, None)?;
    let threads: Vec<_> = echoes
        .into_iter()
        .map(|(name, echo)| (name, echo.echo(1)))
        .collect();
    let addr = daemon.addrs().first().ok_or("rp2pd listens nowhere")?;
    let target = addr.clone().with(Protocol::P2p(daemon.peer_id()));
    run(
        program.arg("dial").arg(target.to_string()).args(NAMES),
        DIAL,
    )?;
    for (name, thread) in threads {
        let told = thread.join().map_err(|_| "the echo handler panicked")?;
        assert_eq!(told[0].proto, name, "the name told to the handler");
    }
    Ok(())
}

fn daemon(link: Link) -> Result<Daemon, String> {
    Launch::new()
        .args([format!("-hostAddrs={}", link.listen)])
        .args(link.flags)
        .try_spawn()
}

fn node() -> Result<Command, String> {
    program("py_node.py")
}

fn program(name: &str) -> Result<Command, String> {
    let python = install::PY_LIBP2P.as_ref()?.join("venv/bin/python");
    let mut command = Command::new(python);
    command.arg(install::source("python").join(name));
    Ok(command)
}

/// A running node; ends when it is dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
    pub peer: PeerId,
    pub addr: Multiaddr,
    lines: Receiver<String>,
}

impl Node {
    /// A node that echoes every stream.
    fn serve(link: Link) -> Result<Self, String> {
        Self::start(node()?.arg("serve").arg(link.listen).args(NAMES))
    }

    /// A node that serves the DHT and answers requests.
    pub fn kad(listen: &str) -> Result<Self, String> {
        Self::start(program("py_kad_node.py")?.arg(listen))
    }

    /// Runs a program that prints its address first.
    fn start(command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let (sender, lines) = sync_channel(16);
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                // Ends with the node, or when nobody listens any more.
                let _ = lines.map(|line| sender.send(line)).find(Result::is_err);
            });
        }
        let mut node = Self {
            child,
            peer: PeerId::random(),
            addr: Multiaddr::empty(),
            lines,
        };
        let line = node.line()?;
        node.addr = line
            .trim()
            .parse()
            .map_err(|error| format!("{line:?}: {error}"))?;
        match node.addr.pop() {
            Some(Protocol::P2p(peer)) => node.peer = peer,
            _ => return Err(format!("{line:?} names no peer")),
        }
        Ok(node)
    }

    fn line(&self) -> Result<String, String> {
        let silent = |_| format!("no line in {ANSWER:?}");
        self.lines.recv_timeout(ANSWER).map_err(silent)
    }

    /// One request, a word and its arguments, and what comes of it.
    pub fn ask(&mut self, request: &[&str]) -> Result<Value, String> {
        let stdin = self.child.stdin.as_mut().ok_or("no stdin")?;
        writeln!(stdin, "{}", json!(request)).map_err(|error| error.to_string())?;
        let line = self.line()?;
        let mut answer: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        match answer.get_mut("ok") {
            Some(value) => Ok(value.take()),
            None => Err(line),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
