//! A client of a running daemon, for the commands that ask one: `status`, `ping`, `probe` and
//! `-healthcheck`. It blocks, and every wait has an end.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, ToSocketAddrs},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::{
    wire::{
        frame::{self, FrameReader, ReadError, Source},
        maddr::{ControlAddr, Host},
        pb,
    },
    wording::system_error,
};

/// Largest answer taken, in bytes: a status names 4096 peers at most.
const MAX_ANSWER: usize = 64 << 20;

/// Why a daemon has not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, or one that broke.
    #[error("no answer from {addr}: {}", system_error(.source))]
    Io {
        /// Where the daemon should listen.
        addr: ControlAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon has refused.
    #[error("{0}")]
    Refused(String),
    /// The daemon does not know the request.
    #[error(
        "the daemon at {0} does not know this request: it is another program or an older version"
    )]
    Unknown(ControlAddr),
}

/// A control connection.
#[derive(Debug)]
pub struct Client {
    addr: ControlAddr,
    socket: Socket,
    reader: FrameReader,
}

impl Client {
    /// Connects, within `limit` for each address that the name of a host has.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn connect(addr: &ControlAddr, limit: Duration) -> Result<Self, ClientError> {
        let socket = connect(addr, limit).map_err(|source| ClientError::Io {
            addr: addr.clone(),
            source,
        })?;
        Ok(Self {
            addr: addr.clone(),
            socket,
            reader: reader(BytesMut::new()),
        })
    }

    fn failed(&self, source: io::Error) -> ClientError {
        ClientError::Io {
            addr: self.addr.clone(),
            source,
        }
    }

    /// The answer to a request of rp2pd's own, if it comes within `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask_own(
        &mut self,
        request: &pb::Request,
        limit: Duration,
    ) -> Result<pb::Response, ClientError> {
        // Go's daemon closes at a type that it does not know, JavaScript's answers an ERROR, and so
        // do older ones of rp2pd.
        match self.ask(request, limit) {
            Err(ClientError::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                Err(ClientError::Unknown(self.addr.clone()))
            }
            Err(ClientError::Refused(reason)) if reason.starts_with("Unexpected request") => {
                Err(ClientError::Unknown(self.addr.clone()))
            }
            other => other,
        }
    }

    /// The answer to `request`, if it comes within `limit` and is no ERROR.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask(
        &mut self,
        request: &pb::Request,
        limit: Duration,
    ) -> Result<pb::Response, ClientError> {
        let answer = self.exchange(request, limit);
        let answer = answer.map_err(|source| self.failed(source))?;
        match answer.error {
            Some(error) if answer.r#type() == pb::response::Type::Error => {
                Err(ClientError::Refused(error.msg))
            }
            _ => Ok(answer),
        }
    }

    /// Sends a message that is encoded already.
    ///
    /// # Errors
    /// I/O.
    pub fn send(&mut self, message: &[u8], limit: Duration) -> io::Result<()> {
        let mut framed = BytesMut::new();
        frame::put(message, &mut framed);
        self.socket.set_write_timeout(Some(limit))?;
        self.socket.write_all(&framed)
    }

    /// The next message of the daemon, if it comes within `limit`.
    ///
    /// # Errors
    /// As [`Client::next`].
    pub fn next_frame(&mut self, limit: Duration) -> io::Result<Bytes> {
        self.frame(Instant::now() + limit)
    }

    /// What the daemon tells next, if it does within `limit`.
    ///
    /// # Errors
    /// I/O; [`io::ErrorKind::TimedOut`] after the limit.
    pub fn next(&mut self, limit: Duration) -> io::Result<pb::Response> {
        let payload = self.frame(Instant::now() + limit)?;
        pb::Response::decode(payload)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn exchange(&mut self, request: &pb::Request, limit: Duration) -> io::Result<pb::Response> {
        self.socket.set_write_timeout(Some(limit))?;
        self.socket.write_all(&frame::encode(request))?;
        self.next(limit)
    }

    fn frame(&mut self, deadline: Instant) -> io::Result<Bytes> {
        loop {
            if let Some(payload) = self.reader.take().map_err(ReadError::from)? {
                return Ok(payload);
            }
            self.fill(deadline)?;
        }
    }

    /// Sends `bytes` on what has become a stream, and reads as many.
    ///
    /// # Errors
    /// If they do not come within `limit`.
    pub fn echo(&mut self, bytes: &[u8], limit: Duration) -> io::Result<Bytes> {
        let deadline = Instant::now() + limit;
        self.socket.set_write_timeout(Some(limit))?;
        self.socket.write_all(bytes)?;
        while self.reader.received().len() < bytes.len() {
            self.fill(deadline)?;
        }
        let received = std::mem::replace(&mut self.reader, reader(BytesMut::new()));
        let mut received = received.into_received();
        let echoed = received.split_to(bytes.len()).freeze();
        self.reader = reader(received);
        Ok(echoed)
    }

    fn fill(&mut self, deadline: Instant) -> io::Result<()> {
        let mut source = Blocking {
            socket: &self.socket,
            deadline,
        };
        let mut cx = Context::from_waker(Waker::noop());
        match self.reader.poll_fill(&mut source, &mut cx) {
            Poll::Ready(Err(ReadError::Closed | ReadError::Cut)) => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Poll::Ready(filled) => Ok(filled?),
            // The source waits itself.
            Poll::Pending => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

fn reader(received: BytesMut) -> FrameReader {
    FrameReader::new(MAX_ANSWER, received)
}

/// A socket that is read until a deadline, by a thread that may wait.
struct Blocking<'a> {
    socket: &'a Socket,
    deadline: Instant,
}

impl Source for Blocking<'_> {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut socket = self.socket;
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            socket.set_read_timeout(Some(left))?;
            match socket.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                read => return Poll::Ready(read),
            }
        }
    }
}

fn connect(addr: &ControlAddr, limit: Duration) -> io::Result<Socket> {
    match addr {
        ControlAddr::Unix(path) => open(Domain::UNIX, &SockAddr::unix(path)?, limit),
        ControlAddr::Tcp { host, port } => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
            for addr in addresses(host, *port)? {
                match open(Domain::for_address(addr), &addr.into(), limit) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

fn open(domain: Domain, addr: &SockAddr, limit: Duration) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.connect_timeout(addr, limit)?;
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
