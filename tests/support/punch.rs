//! Two daemons behind NATs with a circuit between them, and how they come to a direct connection.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;

use super::lab::{Host, Lab, Nat};
use super::relay::{HOP, Hop, OK, RESERVE, ask};
use super::{Daemon, Handler, Launch, PATIENCE, Pipe, eventually, payload};

/// What is spoken on every host, on port 4001.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Tcp,
    Quic,
}

impl Carrier {
    fn socket(self, ip: &str) -> String {
        match self {
            Self::Tcp => format!("/ip4/{ip}/tcp/4001"),
            Self::Quic => format!("/ip4/{ip}/udp/4001/quic-v1"),
        }
    }

    fn listen(self) -> String {
        format!("-hostAddrs={}", self.socket("0.0.0.0"))
    }
}

/// One of the two.
#[derive(Debug, Clone)]
pub struct End {
    pub nat: Nat,
    /// Go's fork, else rp2pd.
    pub fork: Option<PathBuf>,
}

impl End {
    #[must_use]
    pub fn own(nat: Nat) -> Self {
        Self { nat, fork: None }
    }

    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.fork {
            Some(_) => "fork",
            None => "rp2pd",
        }
    }

    fn launch(&self) -> Launch {
        let launch = match &self.fork {
            Some(binary) => Launch::new().binary(binary),
            None => Launch::new(),
        };
        launch
            .env("GOLOG_LOG_LEVEL", "error,p2p-holepunch=debug")
            .env("GOLOG_FILE", "")
    }

    /// The fork insists on this field of a registration.
    fn balanced(&self) -> Option<bool> {
        self.fork.is_some().then_some(false)
    }
}

/// The two, a relay, and as many public hosts as Go needs to know its own address.
#[derive(Debug)]
pub struct Scene {
    pub relay: Daemon,
    /// The one that calls.
    pub a: Daemon,
    /// The one that is called.
    pub b: Daemon,
    ends: [End; 2],
    carrier: Carrier,
    _reservation: Pipe,
    _observers: Vec<Daemon>,
    hosts: Vec<Host>,
}

/// Public hosts beside the relay.
const OBSERVERS: u8 = 4;

impl Scene {
    /// A scene in which B can be called.
    ///
    /// # Errors
    /// What has gone wrong.
    pub fn new(lab: &Lab, ends: [End; 2], carrier: Carrier) -> Result<Self, String> {
        // With autorelay a private node does not tell where its NAT lets it out. Others would be
        // dialed there first.
        let private = ["-forceReachabilityPrivate", "-autoRelay", "-dhtServer"];
        Self::with_flags(lab, ends, carrier, [&private; 2])
    }

    /// As [`Scene::new`], where each end has flags of its own.
    ///
    /// # Errors
    /// What has gone wrong.
    pub fn with_flags(
        lab: &Lab,
        ends: [End; 2],
        carrier: Carrier,
        flags: [&[&str]; 2],
    ) -> Result<Self, String> {
        let listen = carrier.listen();
        let mut hosts = Vec::new();
        let (mut public, mut addresses) = (Vec::new(), Vec::<Multiaddr>::new());
        let forks = ends.iter().any(|end| end.fork.is_some());
        for number in 1..=if forks { OBSERVERS + 1 } else { 1 } {
            let host = lab.host(&format!("60.0.{number}.1/16"));
            public.push(host.launch().args([&listen]).try_spawn()?);
            let address = carrier.socket(&format!("60.0.{number}.1"));
            addresses.push(address.parse().expect("an address"));
            hosts.push(host);
        }
        let mut daemons = Vec::new();
        for ((end, flags), net) in ends.iter().zip(flags).zip([10, 20]) {
            let (router, inside) = lab.behind(end.nat, &format!("60.0.{net}.1/16"), net);
            let daemon = inside
                .enter(end.launch())
                .args([&listen, "-autonat"])
                .args(flags.iter().copied())
                .try_spawn()?;
            for (peer, address) in public.iter().zip(&addresses) {
                let at = std::slice::from_ref(address);
                daemon.client().connect_to(peer.peer_id(), at)?;
            }
            // A symmetric NAT shows Go another address each time: it never knows its own.
            if end.fork.is_some() && end.nat != Nat::Symmetric {
                let known = eventually(PATIENCE, || {
                    daemon.stderr().contains("Starting holepunch protocol")
                });
                assert!(known, "{}", daemon.stderr());
            }
            hosts.extend([router, inside]);
            daemons.push(daemon);
        }
        let relay = public.remove(0);
        let (b, a) = (daemons.pop().expect("B"), daemons.pop().expect("A"));
        let (_, mut reservation) = b.client().open_stream(relay.peer_id(), &[HOP])?;
        let request = Hop {
            kind: Some(RESERVE),
            ..Hop::default()
        };
        let answer: Hop = ask(&mut reservation, &request).map_err(|error| error.to_string())?;
        assert_eq!(answer.status, Some(OK), "RESERVE");
        Ok(Self {
            relay,
            a,
            b,
            ends,
            carrier,
            _reservation: reservation,
            _observers: public,
            hosts,
        })
    }

    /// Where B is reached through the relay.
    #[must_use]
    pub fn circuit(&self) -> Multiaddr {
        let at = self.carrier.socket("60.0.1.1");
        let text = format!("{at}/p2p/{}/p2p-circuit", self.relay.peer_id());
        text.parse().expect("a multiaddr")
    }

    /// The host of B, behind its NAT.
    #[must_use]
    pub fn host_of_b(&self) -> &Host {
        self.hosts.last().expect("a host")
    }

    /// The addresses at which `from` is connected to `to`: circuits, and others.
    #[must_use]
    pub fn connections(from: &Daemon, to: &Daemon) -> (Vec<String>, Vec<String>) {
        let peers = from.client().list_peers().into_iter();
        let entries = peers.filter(|(peer, _)| *peer == to.peer_id());
        let addresses = entries.flat_map(|(_, addresses)| addresses);
        let addresses = addresses.map(|address| address.to_string());
        addresses.partition(|address| address.contains("p2p-circuit"))
    }

    /// A calls B. The time from CONNECT on until both have a direct connection, if that comes
    /// within `limit`.
    ///
    /// # Errors
    /// CONNECT has failed.
    pub fn call(&self, limit: Duration) -> Result<Option<Duration>, String> {
        let (a, b) = (&self.a, &self.b);
        let begun = Instant::now();
        a.client().connect_to(b.peer_id(), &[self.circuit()])?;
        let both = eventually(limit, || {
            let direct = |from, to| !Self::connections(from, to).1.is_empty();
            direct(a, b) && direct(b, a)
        });
        Ok(both.then(|| begun.elapsed()))
    }

    /// Both ends list one circuit and one direct connection, and new streams of either run on the
    /// direct one.
    ///
    /// # Errors
    /// What a daemon has refused.
    pub fn assert_direct(&self) -> Result<(), String> {
        for (from, to, end) in [
            (&self.a, &self.b, &self.ends[1]),
            (&self.b, &self.a, &self.ends[0]),
        ] {
            let (circuits, direct) = Self::connections(from, to);
            assert_eq!(circuits, [self.circuit().to_string()]);
            assert_eq!(direct.len(), 1, "{direct:?}");
            let echo = Handler::unix();
            echo.register(&mut to.client(), &["/punched/1.0.0"], end.balanced())?;
            let served = echo.echo(1);
            let (info, pipe) = from
                .client()
                .open_stream(to.peer_id(), &["/punched/1.0.0"])?;
            let told = Multiaddr::try_from(info.addr.to_vec()).expect("a multiaddr");
            assert_eq!(told.to_string(), direct[0], "told to the opener");
            let sent = payload(300_000, 5);
            assert!(pipe.echo(&sent) == sent);
            let told = served.join().map_err(|_| "the echo handler panicked")?;
            let told = Multiaddr::try_from(told[0].addr.to_vec()).expect("a multiaddr");
            let seen = Self::connections(to, from).1;
            assert_eq!([told.to_string()], seen[..], "told to the handler");
        }
        Ok(())
    }
}

/// Sends all of `bytes` and ends this side; what comes back until the end.
#[must_use]
pub fn said(mut pipe: Pipe, bytes: &[u8]) -> Vec<u8> {
    // It may be reset while it is being written.
    let _ = pipe.write_all(bytes);
    let _ = pipe.socket.shutdown_write();
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut pipe, &mut answer);
    answer
}
