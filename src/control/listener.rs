//! The control socket: bound before the daemon does anything else, guarded, removed at exit.

use std::{
    fs,
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    process::umask,
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    arrivals::{Arrivals, Serving},
    context::Context,
    persistent::Connections,
    session::Session,
    socket::Socket,
};
use crate::{
    descriptors::{Descriptors, RESERVE},
    limit_hits::Limit,
    wire::maddr::{ControlAddr, Host},
};

/// Clients that may send requests at once; further ones wait to be accepted. A connection
/// that has become a pipe no longer counts: streams have limits of their own.
pub(crate) const MAX_CLIENTS: usize = 8 * 1024;

/// Pause after a failed accept, and between two looks for a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the control socket could not be bound, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("listen {what}: {reason}")]
pub struct BindError {
    what: String,
    reason: String,
}

fn bind_error(what: String, error: &io::Error) -> BindError {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        io::ErrorKind::NotFound => "bind: no such file or directory".to_owned(),
        io::ErrorKind::InvalidInput => "bind: invalid argument".to_owned(),
        io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        _ => format!("bind: {error}"),
    };
    BindError { what, reason }
}

#[derive(Debug)]
enum Bound {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

/// A bound control socket.
#[derive(Debug)]
pub struct Listener {
    bound: Bound,
    addr: ControlAddr,
}

/// A socket file of ours. Removed when dropped, unless somebody has put another in its
/// place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| meta.dev() == self.device && meta.ino() == self.inode);
        if ours {
            // Nothing is left to tell anybody at exit.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Binds `addr`. A unix socket has `mode` (permission bits) and `group` from before the
    /// first client can connect.
    ///
    /// Must be called while the process has one thread: the mode is set by way of the umask.
    ///
    /// # Errors
    /// In Go's words. A stale unix socket is replaced; a live one, one of another user and
    /// any other file is left alone and reported as in use.
    pub fn bind(addr: &ControlAddr, mode: u32, group: Option<u32>) -> Result<Self, BindError> {
        match addr {
            ControlAddr::Unix(path) => {
                let (listener, file) = bind_unix(path, mode, group)
                    .map_err(|error| bind_error(format!("unix {}", path.display()), &error))?;
                Ok(Self {
                    bound: Bound::Unix(listener, file),
                    addr: addr.clone(),
                })
            }
            ControlAddr::Tcp { host, port } => bind_tcp(host, *port),
        }
    }

    /// The bound address, with the true port.
    #[must_use]
    pub fn addr(&self) -> &ControlAddr {
        &self.addr
    }

    /// Whether clients on other machines can connect.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        match &self.bound {
            Bound::Unix(..) => false,
            Bound::Tcp(listener) => listener
                .local_addr()
                .is_ok_and(|address| !address.ip().is_loopback()),
        }
    }

    /// Accepts clients until `stop`, each served by a task of `tasks`, as long as `descriptors`
    /// has more than the reserve. The socket file is gone when this returns.
    ///
    /// # Errors
    /// If the socket cannot be used with the runtime.
    pub async fn run(
        self,
        context: Arc<Context>,
        persistent: Arc<Connections>,
        tasks: TaskTracker,
        descriptors: Descriptors,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let (acceptor, _file) = match self.bound {
            Bound::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                (Acceptor::Unix(listener), Some(file))
            }
            Bound::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                (Acceptor::Tcp(listener), None)
            }
        };
        match &acceptor {
            Acceptor::Unix(listener) => context.arrivals.watch(listener),
            Acceptor::Tcp(listener) => context.arrivals.watch(listener),
        }
        let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
        let accept = async {
            loop {
                if clients.available_permits() == 0 {
                    Limit::Clients.hit();
                }
                let Ok(permit) = clients.clone().acquire_owned().await else {
                    return;
                };
                if !descriptors.can_spare(RESERVE) {
                    Limit::Descriptors.hit();
                    while !descriptors.can_spare(RESERVE) {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
                match acceptor.accept(&context.arrivals).await {
                    Ok((socket, arrived)) => {
                        context.arrivals.watch(&socket);
                        drop(arrived);
                        let session =
                            Session::new(socket, context.clone(), persistent.clone(), permit);
                        tasks.spawn(async move {
                            if let Err(error) = session.run().await {
                                tracing::debug!(%error, "client connection ended");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept a client");
                        Limit::Descriptors.hit();
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = accept => {}
        }
        Ok(())
    }
}

enum Acceptor {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

impl Acceptor {
    /// The next client. It counts as being served from before it leaves the queue.
    async fn accept(&self, arrivals: &Arc<Arrivals>) -> io::Result<(Socket, Serving)> {
        poll_fn(|cx| {
            let arrived = arrivals.serve();
            let accepted = match self {
                Self::Unix(listener) => {
                    ready!(listener.poll_accept(cx)).map(|(stream, _)| Socket::Unix(stream))
                }
                Self::Tcp(listener) => {
                    ready!(listener.poll_accept(cx)).and_then(|(stream, _)| Socket::tcp(stream))
                }
            };
            Poll::Ready(accepted.map(|socket| (socket, arrived)))
        })
        .await
    }
}

fn bind_unix(path: &Path, mode: u32, group: Option<u32>) -> io::Result<(UnixListener, SocketFile)> {
    // Two daemons that find the same stale socket must not remove each other's new one.
    let _lock = path.parent().and_then(lock_directory);
    let listener = match bind_private(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            bind_private(path)?
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

fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// Not every directory can be opened for reading; the lock only settles a race.
fn lock_directory(directory: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty()).ok()?;
    rustix::fs::flock(&directory, FlockOperation::LockExclusive).ok()?;
    Some(directory)
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

fn bind_tcp(host: &Host, port: u16) -> Result<Listener, BindError> {
    let resolve = |name: &str, wanted: fn(&SocketAddr) -> bool| {
        (name, port)
            .to_socket_addrs()
            .map_err(|error| BindError {
                what: "tcp".to_owned(),
                reason: format!("lookup {name}: {error}"),
            })?
            .find(wanted)
            .ok_or_else(|| BindError {
                what: "tcp".to_owned(),
                reason: format!("lookup {name}: no such host"),
            })
    };
    let address = match host {
        Host::Ip4(ip) => SocketAddr::new((*ip).into(), port),
        Host::Ip6(ip) => SocketAddr::new((*ip).into(), port),
        Host::Dns4(name) => resolve(name, SocketAddr::is_ipv4)?,
        Host::Dns6(name) => resolve(name, SocketAddr::is_ipv6)?,
        Host::Dns(name) => resolve(name, |_| true)?,
    };
    let network = if address.is_ipv4() { "tcp4" } else { "tcp6" };
    let failed = |error: &io::Error| bind_error(format!("{network} {address}"), error);
    let listener = TcpListener::bind(address).map_err(|error| failed(&error))?;
    let bound = listener.local_addr().map_err(|error| failed(&error))?;
    let host = match bound {
        SocketAddr::V4(address) => Host::Ip4(*address.ip()),
        SocketAddr::V6(address) => Host::Ip6(*address.ip()),
    };
    Ok(Listener {
        bound: Bound::Tcp(listener),
        addr: ControlAddr::Tcp {
            host,
            port: bound.port(),
        },
    })
}
