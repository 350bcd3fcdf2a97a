//! Binding the control socket. A unix socket is private before the first client can connect.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{fs::Mode, process::umask};

use super::lock::StartLock;
use crate::{
    wire::maddr::{ControlAddr, Host},
    wording::system_error,
};

/// Why the control socket could not be bound, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("listen {what}: {reason}")]
pub struct BindError {
    what: String,
    reason: String,
    #[source]
    source: Option<io::Error>,
}

fn bind_error(what: String, source: io::Error) -> BindError {
    let reason = match source.kind() {
        io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        io::ErrorKind::NotFound => "bind: no such file or directory".to_owned(),
        io::ErrorKind::InvalidInput => "bind: invalid argument".to_owned(),
        io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        _ => format!("bind: {}", system_error(&source)),
    };
    BindError {
        what,
        reason,
        source: Some(source),
    }
}

/// A bound socket.
#[derive(Debug)]
pub(super) enum Bound {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

/// A socket file of ours. Removed when dropped, unless somebody has put another in its
/// place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
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
            let (listener, file) = unix(path, mode, group)
                .map_err(|error| bind_error(format!("unix {}", path.display()), error))?;
            Ok((Bound::Unix(listener, file), addr.clone()))
        }
        ControlAddr::Tcp { host, port } => tcp(host, *port),
    }
}

fn unix(path: &Path, mode: u32, group: Option<u32>) -> io::Result<(UnixListener, SocketFile)> {
    // Two daemons that find the same stale socket must not remove each other's new one.
    let _lock = StartLock::wait(path);
    let listener = match private(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            private(path)?
        }
        other => other?,
    };
    let meta = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        device: meta.dev(),
        inode: meta.ino(),
    };
    if group.is_some() {
        chown(path, None, group)?;
    }
    if mode != 0o600 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok((listener, file))
}

fn private(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// A socket of this user that nobody listens on.
fn is_stale(path: &Path) -> bool {
    let ours = fs::symlink_metadata(path).is_ok_and(|meta| {
        let us = rustix::process::geteuid();
        meta.file_type().is_socket() && (us.is_root() || meta.uid() == us.as_raw())
    });
    ours && UnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
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
    let bound = listener.local_addr().map_err(failed)?;
    let host = match bound {
        SocketAddr::V4(address) => Host::Ip4(*address.ip()),
        SocketAddr::V6(address) => Host::Ip6(*address.ip()),
    };
    let port = bound.port();
    Ok((Bound::Tcp(listener), ControlAddr::Tcp { host, port }))
}

fn resolve(
    name: &str,
    port: u16,
    wanted: fn(&SocketAddr) -> bool,
) -> Result<SocketAddr, BindError> {
    let failed = |reason: String, source| BindError {
        what: "tcp".to_owned(),
        reason: format!("lookup {name}: {reason}"),
        source,
    };
    let mut found = (name, port)
        .to_socket_addrs()
        .map_err(|error| failed(error.to_string(), Some(error)))?;
    found
        .find(wanted)
        .ok_or_else(|| failed("no such host".to_owned(), None))
}
