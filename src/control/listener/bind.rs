//! Binding the control socket. A unix socket is private before the first client can connect.

mod error;

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use rustix::{fs::Mode, process::umask};
use socket2::{Domain, SockAddr, Socket, Type};

pub use error::BindError;
use error::Obstacle;
pub(in crate::control) use error::bind_error;

use super::lock::StartLock;
use crate::systemd::Inherited;
use crate::wire::maddr::{ControlAddr, Host};

/// A bound socket.
#[derive(Debug)]
pub(super) enum Bound {
    /// The file is another's if there is none here.
    Unix(UnixListener, Option<SocketFile>),
    Tcp(TcpListener),
}

/// A socket file of ours. Removed when dropped, unless somebody has put another in its
/// place.
#[derive(Debug)]
pub(in crate::control) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// That at `path`, which has just been made.
    pub(in crate::control) fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: meta.dev(),
            inode: meta.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| meta.dev() == self.device && meta.ino() == self.inode);
        if ours {
            // At exit there is nobody left to report an error to.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds `addr`; returns the bound address as well, with the true port.
pub(super) fn bind(
    addr: &ControlAddr,
    mode: u32,
    group: Option<u32>,
) -> Result<(Bound, ControlAddr), BindError> {
    match addr {
        ControlAddr::Unix(path) => {
            let (listener, file) = unix(path, mode, group)?;
            Ok((Bound::Unix(listener, Some(file)), addr.clone()))
        }
        ControlAddr::Tcp { host, port } => tcp(host, *port),
    }
}

/// A socket that a service manager has bound, and its address.
pub(super) fn inherited(socket: Inherited) -> Result<(Bound, ControlAddr), BindError> {
    let failed = |source| bind_error("the socket that was passed".to_owned(), source);
    match socket {
        Inherited::Unix(listener) => {
            let address = listener.local_addr().map_err(failed)?;
            let path = address.as_pathname().ok_or_else(|| {
                failed(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "a unix socket without a path",
                ))
            })?;
            let address = ControlAddr::Unix(path.to_owned());
            Ok((Bound::Unix(listener, None), address))
        }
        Inherited::Tcp(listener) => {
            let address = tcp_address(&listener).map_err(failed)?;
            Ok((Bound::Tcp(listener), address))
        }
    }
}

fn unix(
    path: &Path,
    mode: u32,
    group: Option<u32>,
) -> Result<(UnixListener, SocketFile), BindError> {
    let failed = |error| bind_error(format!("unix {}", path.display()), error);
    // Two daemons that find the same stale socket must not remove each other's new one.
    let _lock = StartLock::wait(path);
    let listener = match private(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match obstacle(path) {
            Obstacle::Stale => fs::remove_file(path).and_then(|()| private(path)),
            obstacle => return Err(failed(error).behind(obstacle)),
        },
        other => other,
    };
    let listener = listener.map_err(failed)?;
    // From here on the file goes when the start fails.
    let file = SocketFile::of(path).map_err(failed)?;
    if group.is_some() {
        chown(path, None, group).map_err(|error| failed(error).about("-listenGroup"))?;
    }
    if mode != 0o600 {
        let permissions = fs::Permissions::from_mode(mode);
        let set = fs::set_permissions(path, permissions);
        set.map_err(|error| failed(error).about("-listenMode"))?;
    }
    Ok((listener, file))
}

fn private(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// What lies at `path`, where no socket can be bound.
fn obstacle(path: &Path) -> Obstacle {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return Obstacle::Unknown;
    };
    if !meta.file_type().is_socket() {
        return Obstacle::NoSocket;
    }
    let us = rustix::process::geteuid();
    let ours = us.is_root() || meta.uid() == us.as_raw();
    match connect(path) {
        Ok(socket) => match rustix::net::sockopt::socket_peercred(&socket) {
            Ok(owner) => Obstacle::Live {
                pid: owner.pid.as_raw_nonzero().get(),
                uid: owner.uid.as_raw(),
            },
            Err(_) => Obstacle::Unknown,
        },
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => match ours {
            true => Obstacle::Stale,
            false => Obstacle::StaleOfAnother { uid: meta.uid() },
        },
        Err(_) => Obstacle::Unknown,
    }
}

/// Whether a socket lies at `path` that nobody listens on, and that may be replaced.
pub(in crate::control) fn is_stale(path: &Path) -> bool {
    obstacle(path) == Obstacle::Stale
}

/// Connects without waiting: a daemon that hangs may have a full queue.
fn connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

fn tcp(host: &Host, port: u16) -> Result<(Bound, ControlAddr), BindError> {
    let address = match host {
        Host::Ip4(ip) => SocketAddr::new((*ip).into(), port),
        Host::Ip6(ip) => SocketAddr::new((*ip).into(), port),
        Host::Dns4(name) => resolve(name, port, SocketAddr::is_ipv4)?,
        Host::Dns6(name) => resolve(name, port, SocketAddr::is_ipv6)?,
        Host::Dns(name) => resolve(name, port, |_| true)?,
    };
    let network = if address.is_ipv4() { "tcp4" } else { "tcp6" };
    let failed = |error| bind_error(format!("{network} {address}"), error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = tcp_address(&listener).map_err(failed)?;
    Ok((Bound::Tcp(listener), bound))
}

pub(in crate::control) fn tcp_address(listener: &TcpListener) -> io::Result<ControlAddr> {
    let address = listener.local_addr()?;
    let host = match address {
        SocketAddr::V4(address) => Host::Ip4(*address.ip()),
        SocketAddr::V6(address) => Host::Ip6(*address.ip()),
    };
    let port = address.port();
    Ok(ControlAddr::Tcp { host, port })
}

fn resolve(
    name: &str,
    port: u16,
    wanted: fn(&SocketAddr) -> bool,
) -> Result<SocketAddr, BindError> {
    let failed = |reason: String, source| BindError::lookup(name, &reason, source);
    let mut found = (name, port)
        .to_socket_addrs()
        .map_err(|error| failed(error.to_string(), Some(error)))?;
    found
        .find(wanted)
        .ok_or_else(|| failed("no such host".to_owned(), None))
}
