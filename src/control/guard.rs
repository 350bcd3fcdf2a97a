//! Who may use the control socket, and how far a request reaches (SECURITY.md 1).
//!
//! A client names the socket that inbound streams are brought to, and the daemon connects there
//! with its own rights. What a client could not reach itself it shall not reach through the
//! daemon.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use tokio::{sync::Semaphore, time::timeout};

use super::socket::Socket;
use crate::{
    limit_hits::Limit,
    streams::RequestOrigin,
    wire::maddr::{ControlAddr, Host},
};

/// What an HTTP client sends first; `PRI` is HTTP/2.
const HTTP_METHODS: [&[u8]; 10] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"OPTIONS ",
    b"DELETE ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
    b"PRI ",
];

/// Paths of handlers that are looked at at once.
const MAX_LOOKUPS: usize = 4;

/// Time for one look.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a client or a handler address is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AccessDenied {
    /// The client's user is not in `-controlUids`.
    #[error("user {0} is not listed")]
    User(u32),
    /// The client's address is not in `-controlAllow`.
    #[error("address {0} is not listed")]
    Address(IpAddr),
    /// The system does not tell who the client is.
    #[error("client unknown: {0}")]
    Unknown(String),
    /// The client speaks HTTP.
    #[error("HTTP on the control socket")]
    Http,
    /// The handler's socket belongs to another user.
    #[error("the socket at {0} belongs to another user")]
    Owner(ControlAddr),
    /// The handler is out of the reach of where the request came from.
    #[error("{0} is out of the client's reach")]
    OutOfReach(ControlAddr),
}

/// What the operator says of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Users that may connect to a unix socket; all that can open it if empty.
    pub uids: Vec<u32>,
    /// Networks from which tcp clients may come, beside loopback; all if empty.
    pub allow: Vec<IpNet>,
    /// Whether handlers may be anywhere, as in Go.
    pub handler_any: bool,
}

/// The rules of one daemon.
#[derive(Debug, Clone)]
pub struct Guard {
    rules: Rules,
    /// The daemon's own user.
    own: u32,
}

impl Guard {
    /// Guards by `rules`.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            own: rustix::process::geteuid().as_raw(),
        }
    }

    /// Who the client at the other end of `socket` is, if it may send requests.
    pub(super) fn admit(&self, socket: &Socket) -> Result<RequestOrigin, AccessDenied> {
        let admitted = match socket {
            Socket::Unix(stream) => stream
                .peer_cred()
                .map_err(|error| AccessDenied::Unknown(error.to_string()))
                .and_then(|client| {
                    let (uid, gid) = (client.uid(), client.gid());
                    tracing::debug!(uid, gid, pid = client.pid(), "client connected");
                    self.admit_user(uid)
                }),
            Socket::Tcp(stream) => match (stream.peer_addr(), stream.local_addr()) {
                (Ok(client), Ok(own)) => {
                    tracing::debug!(%client, "client connected");
                    self.admit_address(client, own)
                }
                (Err(error), _) | (_, Err(error)) => Err(AccessDenied::Unknown(error.to_string())),
            },
        };
        if admitted.is_err() {
            Limit::ClientsRefused.hit();
        }
        admitted
    }

    fn admit_user(&self, uid: u32) -> Result<RequestOrigin, AccessDenied> {
        match &self.rules.uids[..] {
            [] => Ok(RequestOrigin::User(uid)),
            uids if uids.contains(&uid) => Ok(RequestOrigin::User(uid)),
            _ => Err(AccessDenied::User(uid)),
        }
    }

    fn admit_address(
        &self,
        client: SocketAddr,
        own: SocketAddr,
    ) -> Result<RequestOrigin, AccessDenied> {
        let (ip, own) = (client.ip().to_canonical(), own.ip().to_canonical());
        let allow = &self.rules.allow;
        let listed = |net: &IpNet| net.contains(&ip);
        if ip.is_loopback() || allow.is_empty() || allow.iter().any(listed) {
            // A connection from an address to itself has not left the machine.
            let local = ip.is_loopback() || ip == own;
            Ok(RequestOrigin::Tcp { ip, local })
        } else {
            Err(AccessDenied::Address(ip))
        }
    }

    /// Whether a request from `origin` may name `addr` as a handler, as far as that can be told
    /// before the handler is there.
    pub(super) async fn register(
        &self,
        origin: RequestOrigin,
        addr: &ControlAddr,
    ) -> Result<(), AccessDenied> {
        if self.rules.handler_any {
            return Ok(());
        }
        let ip = |ip: IpAddr| match reaches(origin, ip) {
            true => Ok(()),
            false => Err(AccessDenied::OutOfReach(addr.clone())),
        };
        let checked = match addr {
            ControlAddr::Unix(_) if matches!(origin, RequestOrigin::Tcp { local: false, .. }) => {
                Err(AccessDenied::OutOfReach(addr.clone()))
            }
            ControlAddr::Unix(path) => match owner(path.clone()).await {
                Some(uid) if !self.owns(origin, uid) => Err(AccessDenied::Owner(addr.clone())),
                _ => Ok(()),
            },
            ControlAddr::Tcp { host, .. } => match host {
                Host::Ip4(host) => ip((*host).into()),
                Host::Ip6(host) => ip((*host).into()),
                Host::Dns4(_) | Host::Dns6(_) | Host::Dns(_) => Ok(()),
            },
        };
        if checked.is_err() {
            Limit::HandlerAddresses.hit();
        }
        checked
    }

    /// Connects to the handler at `addr`, which a request from `origin` has named. The caller
    /// sets the deadline.
    ///
    /// What is checked is what has been connected to: a path or a name may lead elsewhere than
    /// when the handler was registered.
    pub(super) async fn connect(
        &self,
        origin: RequestOrigin,
        addr: &ControlAddr,
    ) -> io::Result<Socket> {
        let checked = |reached: bool| {
            let passed = reached || self.rules.handler_any;
            if !passed {
                Limit::HandlerAddresses.hit();
            }
            passed
        };
        let socket = Socket::connect(addr, |ip| checked(reaches(origin, ip))).await?;
        if let Socket::Unix(stream) = &socket {
            // The user of whoever listens, noted by the kernel when that began.
            let owner = stream.peer_cred()?.uid();
            if !checked(self.owns(origin, owner)) {
                return Err(io::Error::other("the handler is not the client's"));
            }
        }
        Ok(socket)
    }

    /// Whether a request from `origin` may lead to a unix socket of the user `owner`.
    fn owns(&self, origin: RequestOrigin, owner: u32) -> bool {
        match origin {
            // Root reaches any socket without the daemon.
            RequestOrigin::User(uid) => uid == 0 || uid == owner,
            RequestOrigin::Tcp { local, .. } => local && owner == self.own,
        }
    }
}

/// Whether `bytes` are the begin of an HTTP request.
pub(super) fn is_http(bytes: &[u8]) -> bool {
    HTTP_METHODS.iter().any(|method| bytes.starts_with(method))
}

/// Whether a request from `origin` may lead to a tcp port of `ip`.
fn reaches(origin: RequestOrigin, ip: IpAddr) -> bool {
    let to = ip.to_canonical();
    match origin {
        RequestOrigin::User(_) => true,
        // To connect to no address in particular is to connect to this machine.
        RequestOrigin::Tcp { ip, local } => {
            to == ip || local && (to.is_loopback() || to.is_unspecified())
        }
    }
}

/// The user that a file belongs to, as far as the file system says so in time.
///
/// A client names the path, and a file system behind it may hang: no worker waits for it, and few
/// threads do. Whoever is not checked here is checked when the handler is connected to.
async fn owner(path: PathBuf) -> Option<u32> {
    static LOOKUPS: Semaphore = Semaphore::const_new(MAX_LOOKUPS);
    let lookup = async {
        let permit = LOOKUPS.acquire().await.ok()?;
        let found = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            fs::metadata(path).ok().map(|file| file.uid())
        });
        found.await.ok().flatten()
    };
    timeout(LOOKUP_TIMEOUT, lookup).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(rules: Rules) -> Guard {
        Guard { rules, own: 500 }
    }

    fn tcp(ip: &str, local: bool) -> RequestOrigin {
        RequestOrigin::Tcp {
            ip: ip.parse().unwrap(),
            local,
        }
    }

    fn at(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 1)
    }

    #[test]
    fn only_users_on_the_list_are_admitted() {
        let open = guard(Rules::default());
        assert_eq!(open.admit_user(7), Ok(RequestOrigin::User(7)));
        let listed = guard(Rules {
            uids: vec![1000, 1001],
            ..Rules::default()
        });
        assert_eq!(listed.admit_user(1001), Ok(RequestOrigin::User(1001)));
        // Neither root nor the daemon's own user is an exception.
        for uid in [0, 500, 1002] {
            assert_eq!(listed.admit_user(uid), Err(AccessDenied::User(uid)));
        }
    }

    #[test]
    fn only_networks_on_the_list_and_loopback_are_admitted() {
        let listed = guard(Rules {
            allow: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
            ..Rules::default()
        });
        let admit = |guard: &Guard, ip: &str| guard.admit_address(at(ip), at("10.1.0.1"));
        assert_eq!(admit(&listed, "10.1.2.3"), Ok(tcp("10.1.2.3", false)));
        assert_eq!(
            admit(&listed, "::ffff:10.1.2.3"),
            Ok(tcp("10.1.2.3", false))
        );
        assert_eq!(admit(&listed, "fd12::1"), Ok(tcp("fd12::1", false)));
        assert_eq!(admit(&listed, "10.1.0.1"), Ok(tcp("10.1.0.1", true)));
        assert_eq!(admit(&listed, "127.9.9.9"), Ok(tcp("127.9.9.9", true)));
        for ip in ["10.2.0.1", "fe80::1", "::ffff:10.2.0.1"] {
            assert!(admit(&listed, ip).is_err(), "{ip}");
            assert!(admit(&guard(Rules::default()), ip).is_ok(), "{ip}");
        }
    }

    #[test]
    fn a_request_reaches_what_its_sender_could() {
        let here = tcp("127.0.0.1", true);
        let there = tcp("10.0.0.9", false);
        let cases = [
            (RequestOrigin::User(7), "192.168.0.1", true),
            (here, "127.0.0.53", true),
            (here, "::1", true),
            (here, "::ffff:127.0.0.1", true),
            (here, "0.0.0.0", true),
            (here, "192.168.0.1", false),
            (here, "169.254.169.254", false),
            (tcp("10.0.0.1", true), "10.0.0.1", true),
            (tcp("10.0.0.1", true), "127.0.0.1", true),
            (there, "10.0.0.9", true),
            (there, "::ffff:10.0.0.9", true),
            (there, "10.0.0.8", false),
            (there, "127.0.0.1", false),
            (there, "0.0.0.0", false),
            (there, "::1", false),
        ];
        for (origin, ip, reached) in cases {
            assert_eq!(
                reaches(origin, ip.parse().unwrap()),
                reached,
                "{origin:?} {ip}"
            );
        }
        let guard = guard(Rules::default());
        for (origin, owner, owned) in [
            (RequestOrigin::User(7), 7, true),
            (RequestOrigin::User(7), 0, false),
            (RequestOrigin::User(7), 500, false),
            (RequestOrigin::User(0), 7, true),
            (here, 500, true),
            (here, 0, false),
            (there, 500, false),
        ] {
            assert_eq!(guard.owns(origin, owner), owned, "{origin:?} {owner}");
        }
    }

    #[test]
    fn http_is_known_by_its_first_word() {
        for begin in [
            "GET / HTTP/1.1",
            "POST /a",
            "OPTIONS * HTTP/1.1",
            "PRI * HTTP/2.0",
        ] {
            assert!(is_http(begin.as_bytes()), "{begin}");
        }
        for begin in ["", "GE", "GETS", "get / HTTP/1.1", "\u{2}\u{8}\u{0}"] {
            assert!(!is_http(begin.as_bytes()), "{begin}");
        }
    }
}
