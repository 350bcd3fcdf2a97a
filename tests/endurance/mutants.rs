//! Mutated input at the two doors of a daemon, beside a hundred normal clients: streams of peers after
//! a real handshake of noise, and requests of clients. `RP2PD_TEST_FUZZ_SECONDS` is how long, 5 unless told.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rp2pd::wire::pb::request;

use super::setting;
use crate::support::by_hand::{ByHand, FIN, MULTISTREAM, PING, RST, SYN, data, header, messages};
use crate::support::control::typed;
use crate::support::crowd::{Crowd, Streams};
use crate::support::{ControlClient, Daemon, Launch, PATIENCE, Random, eventually, raw};

/// Attackers at a time.
const WORKERS: usize = 8;

/// Streams of one connection.
const STREAMS: usize = 28;

/// How much more memory the daemon may hold afterwards, in KiB: what it keeps of strangers in its
/// address book and its shared stores, which have bounds of their own (SECURITY.md 3).
const KEPT_KIB: u64 = 96 << 10;

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    /// Streams, or requests.
    items: AtomicU64,
    /// Peers that the daemon hung up on, and clients that it let wait.
    ended: AtomicU64,
    answered: AtomicU64,
}

/// What a client may rightly ask and everybody feels: a mutant of these blocks the network of the
/// normal clients, or lets through next to nothing.
const FELT_BY_ALL: [&str; 3] = ["rules_add", "rules_odd", "limits_set"];

/// Inputs of a fuzz target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("a corpus")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !FELT_BY_ALL.iter().any(|name| path.ends_with(name)))
        .collect();
    // The order of a folder differs from machine to machine.
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("an input"))
        .collect()
}

/// The chunks of an input that has their lengths in it.
fn chunks(mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    while let Some((length, rest)) = input.split_first() {
        let (chunk, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        chunks.push(chunk.to_vec());
        input = rest;
    }
    chunks
}

/// A few changes anywhere; now and then none.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(5) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        let to = at + random.below(bytes.len() - at + 1).min(64);
        match random.below(8) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => bytes[at] = random.next().to_le_bytes()[0],
            3 => drop(bytes.drain(at..to)),
            4 => bytes.truncate(at),
            5 => {
                let copy = bytes[at..to].to_vec();
                bytes.splice(at..at, copy);
            }
            6 => {
                let length = random.below(16);
                let noise = random.bytes(length);
                bytes.splice(at..at, noise);
            }
            _ => bytes[at..to].reverse(),
        }
    }
}

/// A daemon with everything on, beside one that its normal clients' streams lead to.
struct Scene {
    victim: Daemon,
    other: Daemon,
}

impl Scene {
    fn new() -> Self {
        let listen = "-hostAddrs=/ip4/127.0.0.1/tcp/0";
        let flags = [listen, "-dhtServer", "-pubsub", "-stayAlive"];
        let victim = Launch::new().args(flags).spawn();
        let other = Daemon::spawn(&[listen]);
        victim.connect_to(&other);
        let mut handler = victim.persistent();
        handler.add("call", true).expect("a handler");
        drop(handler.serve(|call| Ok(call.data.clone())));
        let mut subscription = victim.subscribe("t");
        std::thread::spawn(move || while subscription.within(Duration::from_secs(3600)).is_ok() {});
        Self { victim, other }
    }

    /// Lets `attack` run for as long as it is to, on several threads, beside normal clients; then all
    /// is as before.
    fn under(&self, name: &str, attack: impl Fn(&mut Random, &Counts) + Sync) {
        let seconds = setting("RP2PD_TEST_FUZZ_SECONDS").unwrap_or(5);
        let counts = Counts::default();
        let mut random = Random::new(name);
        let seeds: Vec<u64> = (0..WORKERS).map(|_| random.next()).collect();
        let crowd = Crowd::start(&self.victim, &self.other, Streams::New);
        let (fds, rss) = (self.victim.fds(), self.victim.rss_kib());
        let end = Instant::now() + Duration::from_secs(seconds);
        std::thread::scope(|scope| {
            for seed in seeds {
                let (attack, counts) = (&attack, &counts);
                scope.spawn(move || {
                    // On a machine of its own it would not take the clients' processor either.
                    let _ = rustix::process::nice(10);
                    let mut random = Random::seeded(seed);
                    while Instant::now() < end {
                        attack(&mut random, counts);
                    }
                });
            }
        });
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "{name}: in {seconds} s {} connections, {} mutants, {} answers; {} hung up on or not answered in time; RSS {} KiB, {rss} before",
            count(&counts.connections),
            count(&counts.items),
            count(&counts.answered),
            count(&counts.ended),
            self.victim.rss_kib(),
        );
        crowd.finish().assert_short(name);
        assert!(count(&counts.items) > 100 * seconds, "hardly an attack");
        assert!(count(&counts.answered) > 0, "nothing was understood");
        let said = self.victim.stderr();
        assert!(!said.contains("panicked"), "{said}");
        let freed = eventually(PATIENCE, || self.victim.fds() <= fds);
        assert!(freed, "{} descriptors, {fds} before", self.victim.fds());
        let grown = self.victim.rss_kib().saturating_sub(rss);
        assert!(grown < KEPT_KIB, "RSS grew by {grown} KiB");
        let _ = self.victim.client().identify();
    }
}

/// What peers say on a stream of each protocol.
fn conversations() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    for input in corpus("kad") {
        all.push(("/ipfs/kad/1.0.0", raw::frame(&input)));
    }
    for input in corpus("pubsub") {
        let frames = chunks(&input[1..]).into_iter().map(|rpc| raw::frame(&rpc));
        all.push(("/meshsub/1.1.0", frames.flatten().collect()));
    }
    for input in corpus("persistent") {
        for call in chunks(&input) {
            all.push(("call", raw::frame(&call)));
        }
    }
    let identify = [
        raw::bytes(3, b"/ipfs/kad/1.0.0"),
        raw::bytes(2, &[4, 127, 0, 0, 1, 6, 15, 161]),
        raw::bytes(6, b"agent"),
    ];
    all.push(("/ipfs/id/push/1.0.0", raw::frame(&identify.concat())));
    all.push(("/ipfs/id/1.0.0", Vec::new()));
    all.push(("/ipfs/ping/1.0.0", vec![7; 32]));
    all.push(("/echo/1.0.0", b"echo".repeat(40)));
    all.push(("/libp2p/autonat/1.0.0", raw::frame(&raw::int(1, 0))));
    all.push(("/none", b"nothing".to_vec()));
    all
}

pub fn of_peers() {
    let scene = Scene::new();
    let conversations = conversations();
    scene.under("mutants of peers", |random, counts| {
        let Ok(mut peer) = ByHand::try_secured(&scene.victim) else {
            return;
        };
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let mut sent = Vec::new();
        for _ in 0..STREAMS {
            let (protocol, said) = &conversations[random.below(conversations.len())];
            let mut said = said.clone();
            mutate(&mut said, random);
            let mut whole = [messages(&[MULTISTREAM, protocol]), said].concat();
            if random.below(4) == 0 {
                mutate(&mut whole, random);
            }
            let number = peer.number();
            let cut = random.below(whole.len() + 1);
            sent.extend(data(SYN, number, &whole[..cut]));
            let end = [FIN, FIN, FIN, RST, 0][random.below(5)];
            sent.extend(data(end, number, &whole[cut..]));
        }
        counts.items.fetch_add(STREAMS as u64, Ordering::Relaxed);
        let whole = random.below(64) != 0;
        if !whole {
            mutate(&mut sent, random);
            // What is left of the frames may hide the ping from the daemon.
            let socket = &peer.pipe.socket;
            socket
                .set_timeout(Duration::from_millis(200))
                .expect("set a timeout");
        }
        // Its answer says that the daemon has read all before it.
        sent.extend(header(PING, SYN, 0, 7));
        let told = peer
            .pipe
            .write_all(&sent)
            .and_then(|()| until_pong(&mut peer, counts));
        if told.is_err() && whole {
            counts.ended.fetch_add(1, Ordering::Relaxed);
        }
    });
}

fn until_pong(peer: &mut ByHand, counts: &Counts) -> io::Result<()> {
    loop {
        let frame = peer.receive()?;
        if frame.kind == PING && frame.flags == 2 && frame.length == 7 {
            return Ok(());
        }
        if frame.kind == PING && frame.flags == SYN {
            peer.pipe.write_all(&header(PING, 2, 0, frame.length))?;
        }
        if !frame.body.is_empty() {
            counts.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What clients ask, each a frame without its length.
fn requests(scene: &Scene) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = corpus("control")
        .iter()
        .map(|input| input[1..].to_vec())
        .collect();
    for input in corpus("persistent") {
        let upgrade = raw::frame(&raw::int(1, 9));
        let frames = chunks(&input)
            .into_iter()
            .flat_map(|operation| raw::frame(&operation));
        all.push(upgrade.into_iter().chain(frames).collect());
    }
    let peer = raw::bytes(1, &scene.other.peer_id().to_bytes());
    let open = [peer, raw::bytes(2, b"/echo/1.0.0"), raw::int(3, 1)].concat();
    let open = [raw::int(1, 2), raw::bytes(3, &open)].concat();
    all.push([raw::frame(&open), b"echo".repeat(40)].concat());
    for kind in [request::Type::Identify, request::Type::ListPeers] {
        all.push(raw::frame(&prost::Message::encode_to_vec(&typed(kind))));
    }
    all
}

pub fn of_clients() {
    let scene = Scene::new();
    let requests = requests(&scene);
    scene.under("mutants of clients", |random, counts| {
        let Ok(mut client) = ControlClient::connect(scene.victim.control()) else {
            return;
        };
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let count = 1 + random.below(12);
        let mut sent = Vec::new();
        for _ in 0..count {
            let mut request = requests[random.below(requests.len())].clone();
            mutate(&mut request, random);
            sent.extend(request);
        }
        if sent.is_empty() {
            return;
        }
        counts.items.fetch_add(count as u64, Ordering::Relaxed);
        let socket = &mut client.pipe.socket;
        socket
            .set_timeout(Duration::from_millis(300))
            .expect("set a timeout");
        for part in random.cut(&sent, 3) {
            if socket.write_all(part).is_err() {
                break;
            }
        }
        let _ = socket.shutdown_write();
        let mut answer = [0; 4096];
        loop {
            match socket.read(&mut answer) {
                Ok(0) => break,
                Ok(_) => counts.answered.fetch_add(1, Ordering::Relaxed),
                // Whoever is asked to dial may take longer than this client waits.
                Err(_) => {
                    counts.ended.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            };
        }
    });
}
