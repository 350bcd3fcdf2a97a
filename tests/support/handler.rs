//! The client's end of STREAM_HANDLER: a listener to which the daemon dials each stream.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use prost::Message;
use rp2pd::wire::pb::{Request, StreamHandlerRequest, StreamInfo, request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

use super::Socket;
use super::control::typed;
use super::{Control, ControlClient, PATIENCE, Pipe};

#[derive(Debug)]
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// A listener for inbound streams, on a unix socket or on a port of 127.0.0.1.
#[derive(Debug)]
pub struct Handler {
    listener: Listener,
    control: Control,
    _dir: Option<TempDir>,
}

impl Handler {
    /// Listens on a unix socket of its own; registers nothing.
    #[must_use]
    pub fn unix() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("handler.sock");
        Self {
            listener: Listener::Unix(UnixListener::bind(&path).expect("bind the handler")),
            control: Control::Unix(path),
            _dir: Some(dir),
        }
    }

    /// Listens on 127.0.0.1; registers nothing.
    #[must_use]
    pub fn tcp() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind the handler");
        Self {
            control: Control::Tcp(listener.local_addr().expect("an address")),
            listener: Listener::Tcp(listener),
            _dir: None,
        }
    }

    /// Where it listens, as a binary multiaddr.
    #[must_use]
    pub fn addr_bytes(&self) -> Vec<u8> {
        self.control.to_bytes()
    }

    /// Where it listens, as text.
    #[must_use]
    pub fn addr(&self) -> String {
        self.control.multiaddr()
    }

    /// The request that registers this listener for `protocols`.
    #[must_use]
    pub fn request(&self, protocols: &[&str], balanced: Option<bool>) -> Request {
        let mut request = typed(request::Type::StreamHandler);
        request.stream_handler = Some(StreamHandlerRequest {
            addr: Some(self.control.to_bytes().into()),
            proto: protocols
                .iter()
                .map(|name| name.as_bytes().to_vec().into())
                .collect(),
            balanced,
        });
        request
    }

    /// Registers for `protocols` at the daemon behind `client`.
    ///
    /// # Errors
    /// The ERROR text.
    pub fn register(
        &self,
        client: &mut ControlClient,
        protocols: &[&str],
        balanced: Option<bool>,
    ) -> Result<(), String> {
        client.ask(&self.request(protocols, balanced)).map(drop)
    }

    /// The next stream: its StreamInfo frame, then its bytes.
    ///
    /// # Errors
    /// `TimedOut` if none comes within `timeout`; otherwise what the socket says.
    pub fn accept(&self, timeout: Duration) -> io::Result<(StreamInfo, Pipe)> {
        let timeout = Timespec::try_from(timeout).map_err(|_| ErrorKind::InvalidInput)?;
        let mut ready = [PollFd::new(&self.listener, PollFlags::IN)];
        if poll(&mut ready, Some(&timeout))? == 0 {
            return Err(ErrorKind::TimedOut.into());
        }
        let socket = match &self.listener {
            Listener::Unix(listener) => Socket::Unix(listener.accept()?.0),
            Listener::Tcp(listener) => Socket::Tcp(listener.accept()?.0),
        };
        socket.set_timeout(2 * PATIENCE)?;
        let mut pipe = Pipe::new(socket);
        let info = StreamInfo::decode(pipe.read_frame()?)
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok((info, pipe))
    }

    /// Echoes the next `streams` streams to their end, one after another, on a thread.
    /// Joining it gives their StreamInfo.
    #[must_use]
    pub fn echo(self, streams: usize) -> JoinHandle<Vec<StreamInfo>> {
        std::thread::spawn(move || {
            let mut infos = Vec::new();
            for _ in 0..streams {
                let (info, mut pipe) = self.accept(PATIENCE).expect("an inbound stream");
                infos.push(info);
                echo(&mut pipe).expect("echo");
            }
            infos
        })
    }
}

/// A unix listener whose queue is full, so that every further connect waits.
#[must_use]
pub fn never_accepts(path: &Path) -> (UnixListener, Vec<UnixStream>) {
    let listener = UnixListener::bind(path).expect("bind");
    rustix::net::listen(listener.as_fd(), 1).expect("a short queue");
    let mut waiting = Vec::new();
    for _ in 0..64 {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        )
        .expect("a socket");
        let addr = rustix::net::SocketAddrUnix::new(path).expect("an address");
        match rustix::net::connect(&socket, &addr) {
            Ok(()) => waiting.push(UnixStream::from(socket)),
            Err(_) => return (listener, waiting),
        }
    }
    panic!("the queue never fills");
}

/// Sends back what comes until the other side ends, then ends this side.
fn echo(pipe: &mut Pipe) -> io::Result<()> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        match pipe.read(&mut chunk)? {
            0 => return pipe.socket.shutdown_write(),
            n => pipe.write_all(&chunk[..n])?,
        }
    }
}
