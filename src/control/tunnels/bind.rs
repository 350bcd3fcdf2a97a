//! Ports that are bound while the daemon runs.
//!
//! Unlike the control socket, whose mode is set by way of the umask before there are threads, the
//! file of such a socket gets its mode between its making and the first moment at which anybody can
//! connect.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket as RawSocket, Type};
use tokio::{sync::Semaphore, time::timeout};

pub(in crate::control) use crate::control::listener::bind::BindError;
use crate::{
    control::{
        listener::{
            bind::{self, SocketFile},
            lock::StartLock,
        },
        socket::Socket,
    },
    fixed_limits::fixed_limit,
    wire::maddr::{ControlAddr, Host},
};

/// Ports that are bound at once: each needs a thread, which a file system may hold.
const MAX_BINDING: usize = 4;
fixed_limit!("ports of tunnels being bound", MAX_BINDING);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// A port that is listened on.
#[derive(Debug)]
pub(super) enum Port {
    Unix {
        listener: tokio::net::UnixListener,
        /// It goes with the port.
        _file: SocketFile,
    },
    Tcp(tokio::net::TcpListener),
}

impl Port {
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Socket>> {
        Poll::Ready(match self {
            Self::Unix { listener, .. } => {
                ready!(listener.poll_accept(cx)).map(|(stream, _)| Socket::Unix(stream))
            }
            Self::Tcp(listener) => {
                ready!(listener.poll_accept(cx)).and_then(|(stream, _)| Socket::tcp(stream))
            }
        })
    }
}

/// What has been bound, before the runtime knows of it.
enum Bound {
    Unix(std::os::unix::net::UnixListener, SocketFile),
    Tcp(std::net::TcpListener),
}

/// Binds `addr`, an ip address or a path, and gives the file of a path this `mode`.
///
/// # Errors
/// In Go's words; if it takes longer than `limit`; or if the daemon ends.
pub(super) async fn port(
    addr: ControlAddr,
    mode: u32,
    limit: Duration,
) -> Result<(Port, ControlAddr), BindError> {
    static BINDING: Semaphore = Semaphore::const_new(MAX_BINDING);
    let what = addr.to_string();
    let failed = |error: io::Error| bind::bind_error(what.clone(), error);
    let binding = async {
        let turn = BINDING.acquire().await.map_err(io::Error::other);
        let turn = turn.map_err(failed)?;
        let bound = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            bound(&addr, mode)
        });
        bound.await.map_err(io::Error::other).map_err(failed)?
    };
    let (bound, addr) = timeout(limit, binding)
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))??;
    let port = match bound {
        Bound::Unix(listener, file) => {
            tokio::net::UnixListener::from_std(listener).map(|listener| Port::Unix {
                listener,
                _file: file,
            })
        }
        Bound::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(Port::Tcp),
    };
    Ok((port.map_err(failed)?, addr))
}

fn bound(addr: &ControlAddr, mode: u32) -> Result<(Bound, ControlAddr), BindError> {
    match addr {
        ControlAddr::Unix(path) => {
            let (listener, file) = unix(path, mode)?;
            Ok((Bound::Unix(listener, file), addr.clone()))
        }
        ControlAddr::Tcp { host, port } => {
            let ip = match host {
                Host::Ip4(ip) => (*ip).into(),
                Host::Ip6(ip) => (*ip).into(),
                Host::Dns(name) | Host::Dns4(name) | Host::Dns6(name) => {
                    let named = io::Error::from(io::ErrorKind::InvalidInput);
                    return Err(bind::bind_error(name.clone(), named));
                }
            };
            tcp(SocketAddr::new(ip, *port))
        }
    }
}

fn tcp(address: SocketAddr) -> Result<(Bound, ControlAddr), BindError> {
    let network = if address.is_ipv4() { "tcp4" } else { "tcp6" };
    let failed = |error| bind::bind_error(format!("{network} {address}"), error);
    let open = || -> io::Result<std::net::TcpListener> {
        let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(std::net::TcpListener::from(socket))
    };
    let listener = open().map_err(failed)?;
    let bound = bind::tcp_address(&listener).map_err(failed)?;
    Ok((Bound::Tcp(listener), bound))
}

fn unix(
    path: &Path,
    mode: u32,
) -> Result<(std::os::unix::net::UnixListener, SocketFile), BindError> {
    let failed = |error| bind::bind_error(format!("unix {}", path.display()), error);
    let open = || -> io::Result<RawSocket> {
        let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        Ok(socket)
    };
    // Two that find the same stale socket must not remove each other's new one.
    let _lock = StartLock::wait(path);
    let socket = match open() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match bind::is_stale(path) {
            true => std::fs::remove_file(path).and_then(|()| open()),
            false => Err(error),
        },
        other => other,
    };
    let socket = socket.map_err(failed)?;
    // From here on the file goes when this fails.
    let file = SocketFile::of(path).map_err(failed)?;
    // Nobody can connect yet.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    Ok((socket.into(), file))
}
