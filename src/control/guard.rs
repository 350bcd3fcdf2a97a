//! Who may use the control socket, and how far a request reaches (SECURITY.md 1).
//!
//! A client names the socket that inbound streams are brought to, and the daemon connects there
//! with its own rights. What a client could not reach itself it shall not reach through the
//! daemon.

mod http;
mod reach;

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

pub(super) use http::is_http;

use super::socket::Socket;
use crate::{
    limit_hits::Limit,
    streams::RequestOrigin,
    wire::maddr::{ControlAddr, Host},
};
use reach::{owner, reaches};

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

    pub(super) fn admit_address(
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

    /// Whether whoever has sent a request from `origin` could do itself what the daemon may.
    pub(super) fn acts_as_daemon(&self, origin: RequestOrigin) -> bool {
        let is_own = matches!(origin, RequestOrigin::User(uid) if uid == 0 || uid == self.own);
        is_own || self.rules.handler_any
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

#[cfg(test)]
mod tests;
