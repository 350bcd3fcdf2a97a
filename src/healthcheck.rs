//! `-healthcheck`: asks a running daemon for its identity, as a container's health command.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::wire::frame::{self, DEFAULT_MAX_FRAME};
use crate::wire::maddr::{ControlAddr, Host};
use crate::wire::pb;
use crate::wording::system_error;

/// A daemon that needs longer is not well.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why the daemon is taken for ill.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// No connection, or one that broke.
    #[error("no answer from {addr}: {}", system_error(.source))]
    Io {
        /// Where the daemon should listen.
        addr: ControlAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An answer that is none to the question.
    #[error("unexpected answer from {0}")]
    Answer(ControlAddr),
}

/// Sends IDENTIFY to the daemon at `addr` and waits some seconds for its answer.
///
/// # Errors
/// [`HealthError`]: the check failed.
pub fn check(addr: &ControlAddr) -> Result<(), HealthError> {
    let answer = ask(addr).map_err(|source| HealthError::Io {
        addr: addr.clone(),
        source,
    })?;
    let identified = answer.r#type == i32::from(pb::response::Type::Ok)
        && answer
            .identify
            .is_some_and(|identify| !identify.id.is_empty());
    if identified {
        Ok(())
    } else {
        Err(HealthError::Answer(addr.clone()))
    }
}

fn ask(addr: &ControlAddr) -> io::Result<pb::Response> {
    let deadline = Instant::now() + DEADLINE;
    let mut socket = connect(addr)?;
    let request = pb::Request {
        r#type: Some(i32::from(pb::request::Type::Identify).into()),
        ..pb::Request::default()
    };
    socket.set_write_timeout(Some(DEADLINE))?;
    socket.write_all(&frame::encode(&request))?;
    let mut received = BytesMut::new();
    let mut chunk = [0; 4096];
    loop {
        let taken = frame::take(&mut received, DEFAULT_MAX_FRAME)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some(payload) = taken {
            return prost::Message::decode(payload)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let count = match socket.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        };
        received.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
}

fn connect(addr: &ControlAddr) -> io::Result<Socket> {
    match addr {
        ControlAddr::Unix(path) => open(Domain::UNIX, &SockAddr::unix(path)?),
        ControlAddr::Tcp { host, port } => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
            for addr in addresses(host, *port)? {
                match open(Domain::for_address(addr), &addr.into()) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

fn open(domain: Domain, addr: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.connect_timeout(addr, DEADLINE)?;
    Ok(socket)
}

fn addresses(host: &Host, port: u16) -> io::Result<Vec<SocketAddr>> {
    let named = |name: &str, wanted: fn(&SocketAddr) -> bool| {
        let found = (name, port).to_socket_addrs()?;
        Ok(found.filter(wanted).collect())
    };
    match host {
        Host::Ip4(ip) => Ok(vec![(*ip, port).into()]),
        Host::Ip6(ip) => Ok(vec![(*ip, port).into()]),
        Host::Dns4(name) => named(name, SocketAddr::is_ipv4),
        Host::Dns6(name) => named(name, SocketAddr::is_ipv6),
        Host::Dns(name) => named(name, |_| true),
    }
}
