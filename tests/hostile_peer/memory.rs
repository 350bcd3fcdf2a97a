//! A daemon that may have 128 MiB, no more, and what it is asked to hold.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::support::by_hand::{ByHand, DATA, MULTISTREAM, SYN, data, header, messages};
use crate::support::{Launch, PATIENCE, payload};

const LIMIT: u64 = 128 << 20;

/// A cgroup of one daemon. Removed with it.
struct Group {
    path: PathBuf,
    /// Version 2 of the interface.
    unified: bool,
}

impl Group {
    fn new() -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let find = |wanted: fn(&str) -> bool| {
            own.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let name = format!("rp2pd-test-{}", std::process::id());
        let of_one = find(|controllers| controllers.split(',').any(|name| name == "memory"));
        let (path, unified) = match of_one {
            Some(path) => (Path::new("/sys/fs/cgroup/memory").join(path), false),
            None => {
                let path = find(str::is_empty).ok_or("no cgroups")?;
                (Path::new("/sys/fs/cgroup").join(path), true)
            }
        };
        let path = path.join(name);
        let failed = |error| format!("{}: {error}", path.display());
        fs::create_dir(&path).map_err(failed)?;
        let group = Self { path, unified };
        let file = if unified {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        fs::write(group.path.join(file), LIMIT.to_string()).map_err(|error| error.to_string())?;
        if unified {
            // Not there without swap.
            let _ = fs::write(group.path.join("memory.swap.max"), "0");
        }
        Ok(group)
    }

    /// How often the kernel has killed somebody in the group.
    fn kills(&self) -> u64 {
        let file = if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = fs::read_to_string(self.path.join(file)).expect("the group's counters");
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.map_or(0, |count| count.trim().parse().expect("a number"))
    }

    /// The most memory that the group has had.
    fn peak(&self) -> u64 {
        let file = if self.unified {
            "memory.peak"
        } else {
            "memory.max_usage_in_bytes"
        };
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    fn launch(&self) -> Launch {
        let enter = format!(
            "echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"",
            self.path.display()
        );
        Launch::new().shell(&enter)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The daemon has ended by then, but its memory may still be on its way out.
        let _ = eventually(Duration::from_secs(2), || {
            fs::remove_dir(&self.path).is_ok()
        });
    }
}

/// Whether memory can be limited here; says why not.
pub fn is_possible() -> bool {
    match Group::new() {
        Ok(_) => true,
        Err(reason) => {
            eprintln!("no memory limit for a single process: {reason}");
            false
        }
    }
}

pub fn attacks_within_128_mib() {
    const STREAMS: usize = 1000;
    let group = Group::new().expect("a cgroup");
    let listen = "-hostAddrs=/ip4/127.0.0.1/tcp/0";
    let mut victim = group.launch().args([listen, "-plaintext=true"]).spawn();
    let other = Daemon::spawn(&[listen]);
    other.connect_to(&victim);
    let told = |victim: &mut Daemon, what: &str| {
        let (kills, peak) = (group.kills(), group.peak() >> 10);
        println!(
            "{what}: peak {peak} KiB of {} KiB, {kills} kills",
            LIMIT >> 10
        );
        assert_eq!(kills, 0, "{what}: the kernel killed the daemon");
        assert!(
            victim.wait(Duration::ZERO).is_none(),
            "{what}: the daemon ended"
        );
        let _ = victim.client().identify();
    };
    told(&mut victim, "at rest");
    // Every stream is full before the first is read.
    let sent = payload(256 << 10, 1);
    let mut open: Vec<_> = (0..STREAMS)
        .map(|_| {
            let opened = other
                .client()
                .open_stream(victim.peer_id(), &["/echo/1.0.0"]);
            let mut stream = opened.expect("open").1;
            stream.write_all(&sent).expect("write");
            stream
        })
        .collect();
    let mut got = vec![0; sent.len()];
    for stream in &mut open {
        stream.read_exact(&mut got).expect("read");
        assert!(got == sent);
    }
    drop(open);
    told(&mut victim, "1,000 streams of 256 KiB each way");
    // A peer that fills the windows of streams that are not read.
    let mut peer = ByHand::connect(&victim);
    let read = peer.discard();
    let mut sent = 0_usize;
    let chunk = vec![7; 16 << 10];
    for _ in 0..200 {
        let stream = peer
            .open(&messages(&[MULTISTREAM, "/echo/1.0.0"]))
            .expect("open");
        for _ in 0..15 {
            peer.pipe
                .write_all(&data(0, stream, &chunk))
                .expect("write");
            sent += chunk.len();
        }
    }
    assert!(eventually(PATIENCE, || read.bytes() > sent as u64 / 2));
    drop(peer);
    told(&mut victim, "200 streams whose answers are not read");
    let mut peer = ByHand::connect(&victim);
    let read = peer.discard();
    for _ in 0..100 {
        let frames: Vec<u8> = (0..1000)
            .flat_map(|_| header(DATA, SYN, peer.number(), 0))
            .collect();
        peer.pipe.write_all(&frames).expect("the connection stays");
    }
    assert!(eventually(PATIENCE, || victim.bites("inbound streams") > 80_000));
    drop((peer, read));
    told(&mut victim, "100,000 openings");
    let mut sent = 0;
    for _ in 0..3 {
        let mut peer = ByHand::connect(&victim);
        let stall = Duration::from_millis(500);
        peer.pipe.socket.set_timeout(stall).expect("set a timeout");
        for _ in 0..100 {
            let frames: Vec<u8> = (0..1000)
                .flat_map(|_| header(DATA, SYN, peer.number(), 0))
                .collect();
            sent += u32::from(peer.pipe.write_all(&frames).is_ok()) * 1000;
        }
    }
    assert!(sent > 100_000, "{sent} openings");
    told(&mut victim, "openings whose refusals are not read");
}
