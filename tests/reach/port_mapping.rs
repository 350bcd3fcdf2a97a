//! Ports that a router forwards: a scripted one, which really forwards, and hostile ones.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::NamedTempFile;

use super::*;
use crate::support::{PATIENCE, eventually, lab::Lab};

/// Serves one kind of router at 192.168.10.1, forwards with nft, and writes a line for each
/// request.
const ROUTER: &str = include_str!("router.py");

struct Router {
    process: Child,
    log: NamedTempFile,
    _script: NamedTempFile,
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Router {
    fn start(host: &Host, kind: &str) -> Self {
        let script = NamedTempFile::new().expect("a file");
        std::fs::write(script.path(), ROUTER).expect("write");
        let log = NamedTempFile::new().expect("a file");
        let process = host
            .command("python3")
            .arg(script.path())
            .arg(kind)
            .stdout(Stdio::from(log.reopen().expect("reopen")))
            .spawn()
            .expect("python3");
        let router = Self {
            process,
            log,
            _script: script,
        };
        assert!(eventually(PATIENCE, || router.log().contains("ready")));
        router
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }
}

fn python() -> bool {
    let python = Command::new("python3").arg("--version").output().is_ok();
    if !python {
        assert!(std::env::var_os("CI").is_none(), "no python3");
        eprintln!("skipped: no python3");
    }
    python
}

/// A stranger connects to the address that is told.
fn is_mapped_and_reached(kind: &str) {
    let Some(lab) = Lab::new().filter(|_| python()) else {
        return;
    };
    let (router, inside) = lab.behind_nat("60.0.10.1/16", 10);
    let stranger = lab.host("60.0.1.1/16");
    let script = Router::start(&router, kind);
    let node = on(&inside, &["-natPortMap"]);
    let told = || -> Option<String> {
        let told = told(&node);
        told.first()
            .filter(|at| at.starts_with("/ip4/60.0.10.1/tcp/"))
            .cloned()
    };
    let mapped = eventually(PATIENCE, || told().is_some());
    assert!(mapped, "{} {}", node.stderr(), script.log());
    let address = told().expect("a public address");
    let stranger = on(&stranger, &[]);
    let address = address.parse().expect("an address");
    stranger.client().connect_peer(node.peer_id(), &[address]);
    assert_eq!(stranger.client().list_peers().len(), 1);
}

#[test]
fn a_upnp_router_maps_the_port() {
    is_mapped_and_reached("upnp");
}

/// It has forwarded the port to somebody else.
#[test]
fn a_port_that_is_taken_is_mapped_at_another() {
    is_mapped_and_reached("upnp-taken");
}

#[test]
fn a_nat_pmp_router_maps_the_port() {
    is_mapped_and_reached("nat-pmp");
}

/// Neither answers without end nor other hosts have any effect: the daemon starts, serves and
/// ends as without a router.
#[test]
fn hostile_routers_are_without_effect() {
    let Some(lab) = Lab::new().filter(|_| python()) else {
        return;
    };
    for kind in ["silent", "endless", "elsewhere", "nonsense", "private"] {
        let (router, inside) = lab.behind_nat("60.0.10.1/16", 10);
        let script = Router::start(&router, kind);
        let begun = Instant::now();
        let mut node = on(&inside, &["-natPortMap"]);
        assert!(begun.elapsed() < Duration::from_secs(5), "{kind}");
        // The fault took place.
        let asked = eventually(PATIENCE, || script.log().contains("asked"));
        assert!(asked, "{kind} {}", node.stderr());
        let given_up = eventually(PATIENCE, || {
            let text = node.stderr();
            text.contains("no router maps ports") || text.contains("ports not mapped")
        });
        assert!(given_up, "{kind} {}", node.stderr());
        let own = ["/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.10.2/tcp/4001"];
        assert_eq!(told(&node), own, "{kind}");
        assert!(!script.log().contains("fetched from elsewhere"), "{kind}");
        let begun = Instant::now();
        let status = node.terminate(PATIENCE);
        assert!(status.success(), "{kind} {status}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{kind}");
    }
}

/// Hivemind passes the flag always: without a gateway nobody hears of it.
#[test]
fn without_a_router_nothing_is_told_and_nothing_is_slow() {
    let begun = Instant::now();
    let mut node = Launch::new()
        .args(["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-natPortMap=1"])
        .spawn();
    assert!(begun.elapsed() < Duration::from_secs(5));
    let begun = Instant::now();
    assert!(node.terminate(PATIENCE).success());
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(node.stderr(), "");
}
