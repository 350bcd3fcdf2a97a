//! A datastore whose process is killed at any moment: what was acknowledged is there at the next
//! start, and nothing that was not written.
//!
//! The trial runs this same program as the process to be killed. `RP2PD_TEST_DATASTORE_KILLS`
//! (100) is how often; `RP2PD_TEST_SEED` repeats the choices of a run.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use libtest_mimic::{Arguments, Failed, Trial};
use rp2pd::dht::disk::{ChangeOrigin, Contents, Disk};

use support::{Random, payload};

/// The first word that makes this program write until it is killed.
const WRITER: &str = "write-until-killed";

/// Different keys of each kind.
const KEYS: u64 = 40;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, writer, path, first] = &words[..]
        && writer == WRITER
    {
        return write(Path::new(path), first.parse().expect("a number"));
    }
    let arguments = Arguments::from_args();
    let trial = Trial::test("a_killed_daemon_loses_nothing_acknowledged", kill);
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

/// What the store holds: the number of the step that wrote each key, and its size.
type Model = BTreeMap<(Kind, u64), (u64, usize)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Record,
    Provider,
    Peer,
}

/// One step, the same at every time: a key of some kind that gets a value of some size, or
/// none.
struct Step {
    kind: Kind,
    key: u64,
    size: Option<usize>,
}

impl Step {
    fn of(number: u64) -> Self {
        // The finalizer of splitmix64.
        let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let large = bits >> 40 & 0x3f == 0;
        let size = if large { 200_000 } else { 3000 };
        Self {
            kind: [Kind::Record, Kind::Provider, Kind::Peer][(bits % 3) as usize],
            key: (bits >> 8) % KEYS,
            size: (bits >> 16 & 3 != 0).then_some((bits >> 20) as usize % size),
        }
    }

    fn apply(number: u64, model: &mut Model) {
        let Self { kind, key, size } = Self::of(number);
        match size {
            Some(size) => drop(model.insert((kind, key), (number, size))),
            None => drop(model.remove(&(kind, key))),
        }
    }
}

fn peer(key: u64) -> PeerId {
    let id = [&b"\x00\x08"[..], &key.to_be_bytes()].concat();
    PeerId::from_bytes(&id).expect("a peer id")
}

/// The number of a step as an address.
fn addresses(number: u64) -> Vec<Multiaddr> {
    let id = peer(number);
    vec![
        format!("/ip4/1.2.3.4/tcp/5/p2p/{id}")
            .parse()
            .expect("an address"),
    ]
}

/// The value of a record: the number of its step, then bytes that depend on it.
fn value(number: u64, size: usize) -> Bytes {
    [&number.to_be_bytes()[..], &payload(size, number)]
        .concat()
        .into()
}

/// The process that is killed. It prints a line when the store is open, and the number of the
/// last step whenever that is on disk.
fn write(path: &Path, first: u64) -> ExitCode {
    let (disk, _) = Disk::open(path).expect("open the datastore");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut stdout = std::io::stdout();
    writeln!(stdout, "open").expect("tell");
    let now = SystemTime::now();
    for number in first.. {
        let Step { kind, key, size } = Step::of(number);
        let name = key.to_be_bytes();
        match (kind, size) {
            (Kind::Record, Some(size)) => {
                disk.put_record(ChangeOrigin::Client, &name, &value(number, size), now);
            }
            (Kind::Record, None) => disk.remove_record(&name),
            (Kind::Provider, Some(_)) => {
                disk.put_provider(
                    ChangeOrigin::Client,
                    b"key",
                    peer(key),
                    &addresses(number),
                    now,
                );
            }
            (Kind::Provider, None) => disk.remove_provider(b"key", peer(key)),
            (Kind::Peer, Some(_)) => disk.put_peer(peer(key), &addresses(number), now),
            (Kind::Peer, None) => disk.remove_peer(peer(key)),
        }
        // Transactions of one step and of many.
        if number % (1 + number / 64 % 20) == 0 {
            runtime.block_on(disk.flush());
            writeln!(stdout, "{number}").expect("tell");
        }
    }
    ExitCode::SUCCESS
}

/// What a store holds, as a model; bytes that no step wrote are a failure.
fn read(contents: &Contents) -> Result<Model, String> {
    let mut model = Model::new();
    let number = |addresses: &[Multiaddr]| {
        let id = addresses.first().and_then(|address| address.iter().last());
        match id {
            Some(libp2p::multiaddr::Protocol::P2p(id)) => Ok(step_of(id)),
            other => Err(format!("no number: {other:?}")),
        }
    };
    for record in &contents.records {
        let key = u64::from_be_bytes(record.key[..].try_into().map_err(|_| "a strange key")?);
        let number = record.value.first_chunk().ok_or("a short value")?;
        let (number, size) = (u64::from_be_bytes(*number), record.value.len() - 8);
        if record.value != value(number, size) {
            return Err(format!("step {number} wrote other bytes"));
        }
        model.insert((Kind::Record, key), (number, size));
    }
    for provider in &contents.providers {
        let number = number(&provider.addresses)?;
        let size = Step::of(number).size.ok_or("a removal was written")?;
        let key = step_of(provider.provider);
        model.insert((Kind::Provider, key), (number, size));
    }
    for peer in &contents.peers {
        let number = number(&peer.addresses)?;
        let size = Step::of(number).size.ok_or("a removal was written")?;
        model.insert((Kind::Peer, step_of(peer.peer)), (number, size));
    }
    Ok(model)
}

fn step_of(peer: PeerId) -> u64 {
    let bytes = peer.to_bytes();
    bytes
        .last_chunk()
        .map_or(0, |chunk| u64::from_be_bytes(*chunk))
}

/// The writer and the lines it has printed.
struct Writer {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Writer {
    fn spawn(path: &Path, first: u64) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .arg(WRITER)
            .arg(path)
            .arg(first.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let (told, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Kills it, and returns the last line it printed.
    fn kill(mut self) -> Result<Option<String>, String> {
        self.child.kill().map_err(|error| error.to_string())?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.code().is_some() {
            return Err(format!("the writer ended by itself: {status}"));
        }
        Ok(self.lines.iter().last())
    }
}

fn kill() -> Result<(), Failed> {
    let kills = std::env::var("RP2PD_TEST_DATASTORE_KILLS");
    let kills: usize = kills.map_or(Ok(100), |kills| kills.parse())?;
    let mut random = Random::new("kill");
    let dir = tempfile::tempdir()?;
    let mut path = dir.path().join("store");
    // The steps that are known to be in the store, and what it holds then.
    let (mut next, mut model) = (0, Model::new());
    let (mut early, mut acknowledged) = (0, 0);
    for round in 0..kills {
        if random.below(4) == 0 {
            path = dir.path().join(format!("store{round}"));
            model.clear();
        }
        let writer = Writer::spawn(&path, next)?;
        // Some are killed while they make or open the store.
        let (first, micros) = match random.below(3) {
            0 => (None, 15_000),
            _ => (writer.lines.recv_timeout(support::PATIENCE).ok(), 40_000),
        };
        std::thread::sleep(Duration::from_micros(random.below(micros) as u64));
        let last = writer.kill()?.or(first);
        let known = last.and_then(|line| line.parse::<u64>().ok());
        match known {
            Some(known) => acknowledged += known + 1 - next,
            None => early += 1,
        }
        let (disk, contents) = Disk::open(&path)?;
        drop(disk);
        let held = read(&contents)?;
        // All steps up to some one at or after the last acknowledged, and no other.
        for number in next..known.map_or(next, |known| known + 1) {
            Step::apply(number, &mut model);
        }
        next = known.map_or(next, |known| known + 1);
        let tail = 100_000;
        while model != held {
            if next > known.unwrap_or_default() + tail {
                return Err(format!("lost something up to step {known:?}: {held:?}").into());
            }
            Step::apply(next, &mut model);
            next += 1;
        }
    }
    println!("{kills} kills, {early} before the first step, {acknowledged} steps acknowledged");
    if acknowledged < kills as u64 {
        return Err("nothing much was written".into());
    }
    Ok(())
}
