//! The memory ladder. What fills the memory is a client that does not read its streams.

use std::io::Write as _;
use std::process::Command;

use super::*;
use crate::support::cgroup::Group;
use crate::support::metrics::{samples, scrape, value};
use crate::support::{Handler, payload};

const REFUSED: &str = "inbound connections refused for memory";
const TRIMMED: &str = "idle peers closed for memory";
const CUT: &str = "connections cut for memory";
const STREAMS: &str = "inbound streams refused for memory";
const LOST: &str = "messages that wait for one subscriber";

const BUDGET: u64 = 96 << 20;

/// Bytes sent on one stream. The handler's socket holds some of them, the daemon the others.
const PORTION: usize = 640 << 10;

/// A peer that sends to a handler which does not read.
struct Hog {
    peer: Daemon,
    portion: Vec<u8>,
    pipes: Vec<Pipe>,
    turn: usize,
}

impl Hog {
    fn new(victim: &Daemon) -> Self {
        let peer = node(&[]);
        peer.connect_to(victim);
        Self {
            peer,
            portion: payload(PORTION, 1),
            pipes: Vec::new(),
            turn: 0,
        }
    }

    /// Sends more on one of the streams; on a busy machine they do not take all at once.
    fn top_up(&mut self) {
        self.turn += 1;
        let at = self.turn % self.pipes.len().max(1);
        if let Some(pipe) = self.pipes.get_mut(at) {
            // Full already, or cut.
            let _ = pipe.write_all(&self.portion);
        }
    }

    /// Opens one more stream and sends what it takes; false if that fails.
    fn send(&mut self, victim: &Daemon) -> bool {
        let Ok((_, mut pipe)) = self.peer.client().open_stream(victim.peer_id(), &["/hog"]) else {
            return false;
        };
        pipe.socket
            .set_timeout(Duration::from_millis(5))
            .expect("a timeout");
        let sent = match pipe.write_all(&self.portion) {
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            Ok(()) => true,
        };
        self.pipes.push(pipe);
        sent
    }

    /// Sends until `victim` uses so many percent of its budget.
    fn fill(&mut self, victim: &Daemon, percent: u64) {
        for _ in 0..600 {
            if used(victim) * 100 >= BUDGET * percent {
                return;
            }
            self.send(victim);
            self.top_up();
        }
        panic!("only {} bytes in use", used(victim));
    }
}

/// A daemon with the budget and a handler that reads nothing.
fn victim(handler: &Handler) -> Daemon {
    victim_at(LISTEN, handler)
}

fn victim_at(listen: &str, handler: &Handler) -> Daemon {
    let victim = Launch::new()
        .args([
            listen,
            &format!("-memoryLimit={BUDGET}"),
            "-metricsAddr=127.0.0.1:0",
        ])
        .env("GOLOG_LOG_LEVEL", "warn")
        .spawn();
    handler
        .register(&mut victim.client(), &["/hog"], None)
        .expect("register");
    victim
}

/// Takes the streams of `handler` and keeps them until dropped.
fn keep(handler: Handler) -> (std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>) {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let mut kept = Vec::new();
        let going = |stopped: &std::sync::mpsc::Receiver<()>| {
            stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty)
        };
        while going(&stopped) {
            if let Ok((_, pipe)) = handler.accept(Duration::from_millis(20)) {
                kept.push(pipe);
            }
        }
    });
    (stop, thread)
}

/// Bytes in use as the daemon counts them.
fn used(daemon: &Daemon) -> u64 {
    let _ = daemon.bites(CUT);
    let text = daemon.stderr();
    let (_, last) = text.rsplit_once("\nMemory: ").expect("a report");
    let (bytes, _) = last.split_once(" of ").expect("a limit");
    bytes.parse().expect("a number")
}

/// Bytes of anonymous memory.
fn anonymous(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid()));
    let status = status.expect("a running daemon");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: u64 = kib.expect("a line").trim().parse().expect("a number");
    kib << 10
}

fn connects(peer: &Daemon, victim: &Daemon) -> bool {
    peer.client()
        .connect_to(victim.peer_id(), victim.addrs())
        .is_ok()
}

/// Whether the victim lets no peer in; it is not connected afterwards.
fn is_refused(peer: &Daemon, victim: &Daemon) -> bool {
    let refused = !connects(peer, victim);
    peer.client().disconnect(victim.peer_id());
    refused
}

#[test]
fn the_ladder_refuses_then_trims_then_cuts() {
    let handler = Handler::unix();
    let victim = victim(&handler);
    let (stop, keeper) = keep(handler);
    let stranger = node(&[]);
    let idle: Vec<Daemon> = (0..4).map(|_| node(&[])).collect();
    idle.iter().for_each(|peer| peer.connect_to(&victim));
    let busy = node(&[]);
    busy.connect_to(&victim);
    let mut echo = Echo::open(&busy, &victim);
    let mut hog = Hog::new(&victim);
    assert_eq!(victim.bites(REFUSED), 0);

    hog.fill(&victim, 63);
    assert!(eventually(PATIENCE, || is_refused(&stranger, &victim)));
    assert!(victim.bites(REFUSED) > 0);
    let told = samples(&scrape(&victim));
    assert!(value(&told, "rp2pd_memory_pressure", &[]) >= 1.0);
    assert!(echo.works());
    assert_eq!((victim.bites(TRIMMED), victim.bites(CUT)), (0, 0));
    assert_eq!(victim.client().list_peers().len(), 6);

    hog.fill(&victim, 77);
    assert!(eventually(PATIENCE, || victim.bites(TRIMMED) >= 3));
    let left: Vec<_> = victim.client().list_peers();
    let stays = |peer: &Daemon| left.iter().any(|(id, _)| *id == peer.peer_id());
    assert!(stays(&busy) && stays(&hog.peer), "those had streams");
    assert!(echo.works());
    assert_eq!(victim.bites(CUT), 0);

    // As fast as it can; until the daemon has had enough.
    assert!(eventually(PATIENCE, || {
        hog.send(&victim);
        hog.top_up();
        victim.bites(CUT) > 0
    }));
    let gone = || {
        let peers = victim.client().list_peers();
        peers.iter().all(|(id, _)| *id != hog.peer.peer_id())
    };
    assert!(eventually(PATIENCE, gone), "whoever held most");
    assert!(echo.works(), "whoever held little");
    assert_eq!(victim.client().identify().0, victim.peer_id());
    let log = || victim.stderr().matches("limit reached").count();
    assert!(eventually(PATIENCE, || log() >= 3));

    // All is as before, once the memory is free or has settled.
    hog.pipes.clear();
    assert!(eventually(PATIENCE, || connects(&stranger, &victim)));
    assert!(Echo::open(&stranger, &victim).works());
    drop(stop);
    keeper.join().expect("the handler");
}

#[test]
fn memory_that_stays_high_lets_peers_in_again() {
    let handler = Handler::unix();
    let victim = victim(&handler);
    let (stop, keeper) = keep(handler);
    let stranger = node(&[]);
    let mut hog = Hog::new(&victim);
    hog.fill(&victim, 64);
    assert!(eventually(PATIENCE, || is_refused(&stranger, &victim)));
    assert!(eventually(PATIENCE, || connects(&stranger, &victim)));
    assert!(used(&victim) * 100 > BUDGET * 55, "nothing was freed");
    assert!(victim.bites(REFUSED) > 0);
    drop(stop);
    keeper.join().expect("the handler");
}

/// Whatever a peer sends, memory stays below the budget: what one connection holds is cut, new
/// ones and their streams are refused.
#[test]
fn peers_that_come_again_and_again_do_not_win() {
    let handler = Handler::unix();
    let victim = victim(&handler);
    let (stop, keeper) = keep(handler);
    let mut hogs: Vec<Hog> = (0..3).map(|_| Hog::new(&victim)).collect();
    let mut most = 0;
    for round in 0..300 {
        for hog in &mut hogs {
            hog.top_up();
            if !hog.send(&victim) {
                hog.pipes.clear();
                let _ = connects(&hog.peer, &victim);
            }
        }
        most = most.max(anonymous(&victim));
        if round % 20 == 0 && victim.bites(CUT) >= 3 {
            break;
        }
    }
    assert!(victim.bites(CUT) > 0);
    assert!(most < BUDGET, "{most} bytes");
    assert!(victim.bites(REFUSED) + victim.bites(STREAMS) > 0);
    assert_eq!(victim.client().identify().0, victim.peer_id());
    drop(stop);
    keeper.join().expect("the handler");
}

/// Window of a quic connection in this budget, in bytes.
const QUIC_WINDOW: u64 = 512 << 10;

/// What a quic connection holds is unknown. So its window follows from the memory: all together,
/// these would hold the whole budget if each had its library's 10 MB.
#[test]
fn peers_on_quic_hold_no_more_than_their_windows() {
    let handler = Handler::unix();
    let victim = victim_at("-hostAddrs=/ip4/127.0.0.1/udp/0/quic-v1", &handler);
    let (stop, keeper) = keep(handler);
    let busy = node(&[]);
    busy.connect_to(&victim);
    let mut echo = Echo::open(&busy, &victim);
    let mut hogs: Vec<Hog> = (0..9).map(|_| Hog::new(&victim)).collect();
    let before = anonymous(&victim);
    for hog in &mut hogs {
        assert!(hog.send(&victim) && hog.send(&victim));
    }
    for hog in &mut hogs {
        assert!(eventually(PATIENCE, || {
            hog.top_up();
            held(&victim, &hog.peer) >= QUIC_WINDOW
        }));
    }
    // Each has sent what it may, and goes on trying.
    for _ in 0..10 {
        hogs.iter_mut().for_each(Hog::top_up);
    }
    let more = anonymous(&victim).saturating_sub(before);
    assert!(more < 9 * 8 * QUIC_WINDOW, "{more} bytes");
    assert_eq!(victim.bites(CUT), 0);
    assert!(echo.works(), "whoever held little");
    drop(stop);
    keeper.join().expect("the handler");
}

/// What the daemon says that its connection with `peer` holds, in bytes.
fn held(daemon: &Daemon, peer: &Daemon) -> u64 {
    let _ = daemon.bites(CUT);
    let text = daemon.stderr();
    let (_, report) = text
        .rsplit_once("Connections and streams (")
        .expect("a report");
    let start = format!("{} ", peer.peer_id());
    let mut lines = report.lines().skip_while(|line| !line.starts_with(&start));
    let line = lines.find_map(|line| line.strip_prefix("\tmemory ("));
    let bytes = line.and_then(|line| line.strip_suffix(" bytes)"));
    bytes.expect("a line").parse().expect("a number")
}

/// What is counted for each connection is what it holds, and nothing once it holds nothing.
#[test]
fn what_connections_hold_is_counted_and_nothing_stays() {
    let transports = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"];
    for (transport, least) in transports.into_iter().zip([32 << 10, QUIC_WINDOW]) {
        let handler = Handler::unix();
        let victim = victim_at(&format!("-hostAddrs={transport}"), &handler);
        let mut hog = Hog::new(&victim);
        // The ping that every peer keeps open, and one that is being made.
        let nothing = 3 * 4096;
        assert!(eventually(PATIENCE, || held(&victim, &hog.peer) <= nothing));
        assert!(hog.send(&victim));
        let (_, mut inbound) = handler.accept(PATIENCE).expect("the stream");
        assert!(eventually(PATIENCE, || {
            hog.top_up();
            held(&victim, &hog.peer) >= least
        }));
        // The reader wakes up, and takes all.
        hog.pipes.clear();
        let mut taken = Vec::new();
        std::io::Read::read_to_end(&mut inbound, &mut taken).expect("the end");
        assert!(!taken.is_empty());
        drop(inbound);
        assert!(eventually(PATIENCE, || held(&victim, &hog.peer) <= nothing));
        // Streams that come and go, finished, cut off by either side, with data unread.
        for round in 0..60 {
            let opened = hog.peer.client().open_stream(victim.peer_id(), &["/hog"]);
            let (_, mut pipe) = opened.expect("open");
            pipe.write_all(&hog.portion[..100 << 10]).expect("send");
            let (_, mut inbound) = handler.accept(PATIENCE).expect("the stream");
            match round % 3 {
                0 => drop(inbound),
                1 => drop(pipe),
                _ => {
                    inbound.write_all(&hog.portion[..1 << 10]).expect("send");
                    pipe.socket.shutdown_write().expect("finish");
                    std::io::Read::read_to_end(&mut inbound, &mut taken).expect("the end");
                }
            }
        }
        assert!(eventually(PATIENCE, || held(&victim, &hog.peer) <= nothing));
        // The sender's side has nothing left to send either.
        assert!(eventually(PATIENCE, || held(&hog.peer, &victim) <= nothing));
    }
}

#[test]
fn a_large_call_counts_for_its_caller() {
    const SENT: usize = 2 << 20;
    let (victim, caller) = (node(&["-stayAlive"]), node(&[]));
    let mut handler = victim.persistent();
    handler.add("call", false).expect("add");
    caller.connect_to(&victim);
    let (_, mut pipe) = caller
        .client()
        .open_stream(victim.peer_id(), &["call"])
        .expect("open");
    // Announced are 4 MiB.
    let part = [support::raw::varint(4 << 20), vec![0; SENT]].concat();
    pipe.write_all(&part).expect("send");
    assert!(eventually(PATIENCE, || held(&victim, &caller) >= SENT as u64));
    drop(pipe);
    assert!(eventually(PATIENCE, || held(&victim, &caller) <= 3 * 4096));
}

/// The kernel ends whoever exceeds the limit. It counts its socket buffers as well.
#[test]
fn the_ladder_keeps_the_daemon_within_its_control_group() {
    let Some(group) = Group::with_limit(BUDGET) else {
        return;
    };
    let handler = Handler::unix();
    let mut victim = group.launch().args([LISTEN]).spawn();
    handler
        .register(&mut victim.client(), &["/hog"], None)
        .expect("register");
    let (stop, keeper) = keep(handler);
    let mut hogs: Vec<Hog> = (0..3).map(|_| Hog::new(&victim)).collect();
    for round in 0..300 {
        for hog in &mut hogs {
            hog.top_up();
            if !hog.send(&victim) {
                hog.pipes.clear();
                let _ = connects(&hog.peer, &victim);
            }
        }
        assert_eq!(victim.wait(Duration::ZERO), None, "killed");
        if round % 20 == 0 && victim.bites(CUT) >= 3 {
            break;
        }
    }
    assert!(victim.bites(CUT) > 0);
    assert_eq!(victim.client().identify().0, victim.peer_id());
    drop(victim);
    drop(stop);
    keeper.join().expect("the handler");
}

#[test]
fn the_limit_of_a_control_group_is_the_budget() {
    let Some(group) = Group::with_limit(200 << 20) else {
        return;
    };
    // A group around the process's own counts as well.
    let inner = group.path.join("inner");
    std::fs::create_dir(&inner).expect("a group in it");
    let script = Group::joins(&inner);
    let output = Command::new("/bin/sh")
        .args(["-c", &script])
        .arg(support::daemon::binary_under_test())
        .args(["-validate", "-noListenAddrs"])
        .output()
        .expect("run");
    let table = String::from_utf8(output.stdout).expect("text");
    let line = table.lines().find(|line| line.starts_with("memory "));
    let words: Vec<&str> = line.expect("a line").split_whitespace().collect();
    assert_eq!(words[2..], ["209715200", "bytes", "control", "group"]);
    // The running daemon goes by it.
    let daemon = Launch::new().shell(&script).spawn();
    let _ = daemon.bites(CUT);
    let report = daemon.stderr();
    assert!(report.contains(" of 209715200 bytes\n"), "{report}");
    drop(daemon);
    let removed = eventually(PATIENCE, || std::fs::remove_dir(&inner).is_ok());
    assert!(removed);
}

#[test]
fn messages_that_wait_are_given_up_before_memory_is_short() {
    let victim = Launch::new()
        .args([LISTEN, "-pubsub", &format!("-memoryLimit={BUDGET}")])
        .spawn();
    // Each could have 8 MiB waiting: four times what there is.
    let stuck: Vec<_> = (0..48)
        .map(|topic| victim.subscribe(format!("{topic}")))
        .collect();
    let mut client = victim.client();
    let data = payload(64 << 10, 1);
    let mut most = 0;
    for round in 0..150 {
        for topic in 0..stuck.len() {
            client.publish(format!("{topic}"), &data).expect("PUBLISH");
        }
        if round % 10 == 0 {
            most = most.max(used(&victim));
        }
    }
    println!("{most} bytes in use at most, {BUDGET} allowed");
    // All that wait were 384 MiB. What has no room on the clients' accounts is lost to its
    // subscriber before memory is short.
    assert!(most < BUDGET * 3 / 4, "{most}");
    assert!(victim.bites(LOST) > 0, "nothing was given up");
    assert_eq!(victim.bites(CUT), 0);
    let mut fresh = victim.subscribe("fresh");
    client.publish("fresh", &data).expect("PUBLISH");
    assert!(fresh.next_data() == data, "others are served");
}
