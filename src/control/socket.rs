//! A control or handler socket, unix or tcp.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt::{set_socket_linger, set_socket_send_buffer_size, socket_send_buffer_size},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream, lookup_host},
    time::sleep,
};

use crate::{
    fixed_limits::fixed_limit,
    wire::{
        frame::Source,
        maddr::{ControlAddr, Host},
    },
};

/// Bytes of answers that the kernel takes of a client that sends requests, before it doubles them
/// (SECURITY.md 3).
pub(super) const NARROW: usize = 8 * 1024;
fixed_limit!("answers in the kernel for a client on a unix socket", bytes NARROW);

/// Time between two looks at whether the other end is still there.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// Longest pause between two attempts at a listener whose queue is full.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// A connected stream socket.
#[derive(Debug)]
pub(super) enum Socket {
    /// Unix domain.
    Unix(UnixStream),
    /// TCP.
    Tcp(TcpStream),
}

impl Socket {
    /// Connects to where a client listens, by tcp only to addresses that `may` be reached. The
    /// caller sets the deadline.
    pub(super) async fn connect(
        addr: &ControlAddr,
        may: impl Fn(IpAddr) -> bool,
    ) -> io::Result<Self> {
        let ip = async |ip: IpAddr, port: u16| {
            if may(ip) {
                TcpStream::connect((ip, port)).await
            } else {
                Err(out_of_reach())
            }
        };
        match addr {
            ControlAddr::Unix(path) => connect_path(path).await.map(Self::Unix),
            ControlAddr::Tcp { host, port } => {
                let stream = match host {
                    Host::Ip4(host) => ip((*host).into(), *port).await?,
                    Host::Ip6(host) => ip((*host).into(), *port).await?,
                    Host::Dns4(name) => connect_name(name, *port, SocketAddr::is_ipv4, may).await?,
                    Host::Dns6(name) => connect_name(name, *port, SocketAddr::is_ipv6, may).await?,
                    Host::Dns(name) => connect_name(name, *port, |_| true, may).await?,
                };
                Self::tcp(stream)
            }
        }
    }

    pub(super) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Writes all of `bytes`.
    pub(super) async fn write_whole(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Self::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the kernel take little of a unix socket before it makes the writer wait: what it has
    /// taken is the daemon's memory until the client reads it or goes, even once the daemon has
    /// closed. Returns what [`Socket::widen`] needs.
    pub(super) fn narrow(&self) -> usize {
        let before = self.send_buffer();
        if let Self::Unix(stream) = self {
            // Without it there is more in the kernel, no fault.
            let _ = set_socket_send_buffer_size(stream, NARROW);
        }
        before
    }

    /// Makes the kernel take as much as before [`Socket::narrow`], which returned `before`.
    pub(super) fn widen(&self, before: usize) {
        if let Self::Unix(stream) = self {
            // The kernel doubles what it is told.
            let _ = set_socket_send_buffer_size(stream, before / 2);
        }
    }

    pub(super) fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// From now on, closing resets a tcp connection, or does so no more. A unix socket has no reset: its
    /// other end sees an end.
    pub(super) fn set_abortive(&self, abortive: bool) {
        if let Self::Tcp(stream) = self {
            // Without it the other end sees an end.
            let _ = set_socket_linger(stream, abortive.then_some(Duration::ZERO));
        }
    }

    /// Bytes that the kernel takes before it makes the writer wait.
    pub(super) fn send_buffer(&self) -> usize {
        let size = match self {
            Self::Unix(stream) => socket_send_buffer_size(stream),
            Self::Tcp(stream) => socket_send_buffer_size(stream),
        };
        size.unwrap_or(0)
    }

    /// Whether the other end has finished or gone; what it sent may still be unread.
    pub(super) fn finished(&self) -> bool {
        match self {
            Self::Unix(stream) => is(stream, PollFlags::RDHUP),
            Self::Tcp(stream) => is(stream, PollFlags::RDHUP),
        }
    }

    /// Whether the other end will read no more. A unix socket tells at once; tcp only by
    /// failing a later write.
    pub(super) fn hung_up(&self) -> bool {
        match self {
            Self::Unix(stream) => is(stream, PollFlags::empty()),
            Self::Tcp(_) => false,
        }
    }
}

impl Socket {
    /// Waits until the other end will read no more, as far as the socket tells
    /// ([`Socket::hung_up`]). Looks for the first time after `grace`.
    pub(super) async fn gone(&self, grace: Duration) {
        let mut pause = grace;
        loop {
            sleep(pause).await;
            if self.hung_up() {
                return;
            }
            pause = TICK;
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// Whether the other end has gone, or `asked` holds.
fn is(stream: &impl AsFd, asked: PollFlags) -> bool {
    let mut fds = [PollFd::new(stream, asked)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ends = asked | PollFlags::HUP | PollFlags::ERR;
    match poll(&mut fds, Some(&now)) {
        Ok(_) => fds[0].revents().intersects(ends),
        Err(_) => false,
    }
}

/// A listener whose queue is full refuses for the moment: unix sockets have no waiting
/// connect for callers that must not block.
async fn connect_path(path: &Path) -> io::Result<UnixStream> {
    let mut pause = Duration::from_millis(1);
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(pause).await,
            other => return other,
        }
        pause = (2 * pause).min(MAX_PAUSE);
    }
}

async fn connect_name(
    name: &str,
    port: u16,
    wanted: fn(&SocketAddr) -> bool,
    may: impl Fn(IpAddr) -> bool,
) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for address in lookup_host((name, port)).await?.filter(wanted) {
        if !may(address.ip()) {
            last = out_of_reach();
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn out_of_reach() -> io::Error {
    io::Error::other("the handler is out of the client's reach")
}

/// Reads while the socket is shared. One task at a time may do so.
impl Source for &Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut got = 0;
            let read = match self {
                Socket::Unix(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_io(Interest::READABLE, || take(stream, buffer, &mut got))
                }
                Socket::Tcp(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_io(Interest::READABLE, || take(stream, buffer, &mut got))
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && got == 0 => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Ok(got));
                }
                other => return Poll::Ready(other),
            }
        }
    }
}

/// Reads into `buffer`; how much stands in `got`. Bytes that do not fill it were all there was,
/// which the runtime is told in the same way as that nothing is there: else it would have to be
/// asked again.
fn take(socket: impl AsFd, buffer: &mut [u8], got: &mut usize) -> io::Result<usize> {
    *got = rustix::io::read(socket, &mut *buffer)?;
    if (1..buffer.len()).contains(got) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(*got)
}

macro_rules! each {
    ($self:ident, $method:ident($($arg:expr),*)) => {
        match $self.get_mut() {
            Socket::Unix(stream) => Pin::new(stream).$method($($arg),*),
            Socket::Tcp(stream) => Pin::new(stream).$method($($arg),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_flush(cx))
    }

    /// Shuts down the sending side only.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_shutdown(cx))
    }
}
