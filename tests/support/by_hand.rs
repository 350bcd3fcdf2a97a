//! A peer written out by hand: plaintext or noise, multistream-select and yamux, every byte as a test
//! wants it. For plaintext the daemon that it talks to needs `-plaintext=true`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use socket2::{Domain, Socket as RawSocket, Type};

use super::secured::{NOISE, Secured};
use super::{Daemon, PATIENCE, Pipe, Socket, raw};

pub const DATA: u8 = 0;
pub const WINDOW_UPDATE: u8 = 1;
pub const PING: u8 = 2;
pub const GO_AWAY: u8 = 3;

pub const SYN: u16 = 1;
pub const ACK: u16 = 2;
pub const FIN: u16 = 4;
pub const RST: u16 = 8;

/// What multistream-select begins with.
pub const MULTISTREAM: &str = "/multistream/1.0.0";

/// The window that a yamux stream begins with.
pub const WINDOW: usize = 256 << 10;

/// A yamux frame without a body; `length` is a size, a credit or a code.
#[must_use]
pub fn header(kind: u8, flags: u16, stream: u32, length: u32) -> [u8; 12] {
    let mut out = [0; 12];
    out[1] = kind;
    out[2..4].copy_from_slice(&flags.to_be_bytes());
    out[4..8].copy_from_slice(&stream.to_be_bytes());
    out[8..].copy_from_slice(&length.to_be_bytes());
    out
}

/// A yamux frame with data.
#[must_use]
pub fn data(flags: u16, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("fits");
    [&header(DATA, flags, stream, length)[..], body].concat()
}

/// Messages of multistream-select.
#[must_use]
pub fn messages(texts: &[&str]) -> Vec<u8> {
    let message = |text: &&str| raw::frame(format!("{text}\n").as_bytes());
    texts.iter().flat_map(message).collect()
}

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u16,
    pub stream: u32,
    pub length: u32,
    pub body: Vec<u8>,
}

/// Where peers reach `daemon` by tcp.
#[must_use]
pub fn address(daemon: &Daemon) -> SocketAddr {
    let tcp = |addr: &Multiaddr| {
        let mut parts = addr.iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port)), None) => Some((ip, port).into()),
            (Some(Protocol::Ip6(ip)), Some(Protocol::Tcp(port)), None) => Some((ip, port).into()),
            _ => None,
        }
    };
    daemon.addrs().iter().find_map(tcp).expect("a tcp address")
}

/// A tcp connection, nothing said on it.
#[must_use]
pub fn dial(daemon: &Daemon) -> Pipe {
    let socket = Socket::Tcp(TcpStream::connect(address(daemon)).expect("connect"));
    socket.set_timeout(PATIENCE).expect("set a timeout");
    Pipe::new(socket)
}

/// A tcp connection from the address `from`, nothing said on it.
///
/// # Errors
/// I/O.
pub fn dial_from(from: impl Into<IpAddr>, at: SocketAddr) -> io::Result<Pipe> {
    let socket = RawSocket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from.into(), 0).into())?;
    socket.connect(&at.into())?;
    let socket = Socket::Tcp(TcpStream::from(socket));
    socket.set_timeout(PATIENCE)?;
    Ok(Pipe::new(socket))
}

/// Proposes `protocol` and reads that the other side agrees.
///
/// # Errors
/// I/O; `InvalidData` if it does not agree.
pub fn agree(pipe: &mut Pipe, protocol: &str) -> io::Result<()> {
    pipe.write_all(&messages(&[MULTISTREAM, protocol]))?;
    for expected in [MULTISTREAM, protocol] {
        let answer = pipe.read_frame()?;
        if answer.strip_suffix(b"\n") != Some(expected.as_bytes()) {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("{answer:?}"),
            ));
        }
    }
    Ok(())
}

/// What a plaintext handshake says of a peer.
#[must_use]
pub fn exchange(peer: &[u8], key: &[u8]) -> Vec<u8> {
    raw::frame(&[raw::bytes(1, peer), raw::bytes(2, key)].concat())
}

/// What a connection says while nobody listens.
#[derive(Debug)]
pub struct Discarded {
    thread: JoinHandle<()>,
    bytes: Arc<AtomicU64>,
}

impl Discarded {
    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// A peer with a connection on which it may send any frame.
#[derive(Debug)]
pub struct ByHand {
    pub pipe: Pipe,
    pub key: Keypair,
    next: u32,
}

impl Drop for ByHand {
    fn drop(&mut self) {
        // A reader of its own ends as well.
        self.pipe.socket.shutdown();
    }
}

impl ByHand {
    /// Connects with a key of its own; yamux may be spoken.
    ///
    /// # Errors
    /// If the daemon refuses.
    pub fn try_connect(daemon: &Daemon) -> io::Result<Self> {
        Self::try_over(dial(daemon))
    }

    /// As [`ByHand::try_connect`], on a connection on which nothing was said.
    ///
    /// # Errors
    /// If the daemon refuses.
    pub fn try_over(mut pipe: Pipe) -> io::Result<Self> {
        let key = Keypair::generate_ed25519();
        agree(&mut pipe, "/plaintext/2.0.0")?;
        let public = key.public();
        let ours = exchange(&public.to_peer_id().to_bytes(), &public.encode_protobuf());
        pipe.write_all(&ours)?;
        pipe.read_frame()?;
        agree(&mut pipe, "/yamux/1.0.0")?;
        Ok(Self { pipe, key, next: 1 })
    }

    /// As [`ByHand::try_connect`], after a handshake of noise. Nobody else may read it meanwhile.
    ///
    /// # Errors
    /// If the daemon refuses.
    pub fn try_secured(daemon: &Daemon) -> io::Result<Self> {
        let mut pipe = dial(daemon);
        let key = Keypair::generate_ed25519();
        agree(&mut pipe, NOISE)?;
        let secured = Secured::new(pipe.socket, &key)?;
        let mut pipe = Pipe::new(Socket::Secured(secured));
        agree(&mut pipe, "/yamux/1.0.0")?;
        Ok(Self { pipe, key, next: 1 })
    }

    /// [`ByHand::try_connect`] where there is no reason to refuse.
    #[must_use]
    pub fn connect(daemon: &Daemon) -> Self {
        Self::try_connect(daemon).expect("connect by hand")
    }

    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.key.public().to_peer_id()
    }

    /// The number of a stream not opened before.
    pub fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 2;
        number
    }

    /// Opens a stream and says `body` on it; its number.
    ///
    /// # Errors
    /// I/O.
    pub fn open(&mut self, body: &[u8]) -> io::Result<u32> {
        let number = self.number();
        self.pipe.write_all(&data(SYN, number, body))?;
        Ok(number)
    }

    /// The next frame.
    ///
    /// # Errors
    /// I/O.
    pub fn receive(&mut self) -> io::Result<Frame> {
        let mut head = [0; 12];
        self.pipe.read_exact(&mut head)?;
        let word =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut frame = Frame {
            kind: head[1],
            flags: u16::from_be_bytes([head[2], head[3]]),
            stream: word(4),
            length: word(8),
            body: Vec::new(),
        };
        if frame.kind == DATA {
            frame.body = vec![0; frame.length as usize];
            self.pipe.read_exact(&mut frame.body)?;
        }
        Ok(frame)
    }

    /// Reads and forgets what comes, on a thread, until the connection ends.
    #[must_use]
    pub fn discard(&self) -> Discarded {
        let mut socket = self.pipe.socket.try_clone().expect("clone the socket");
        let bytes = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut rest = vec![0; 64 << 10];
            loop {
                match socket.read(&mut rest) {
                    Ok(n @ 1..) => counted.fetch_add(n as u64, Ordering::Relaxed),
                    // Silence is no end.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Ok(_) | Err(_) => break,
                };
            }
        });
        Discarded { thread, bytes }
    }

    /// Answers the daemon's next question who this peer is with `message`, whole.
    ///
    /// # Errors
    /// I/O.
    pub fn tell_identity(&mut self, message: &[u8]) -> io::Result<()> {
        self.answer_identify(&raw::frame(message), FIN)
    }

    /// As [`ByHand::tell_identity`], with `frames` in place of the message and of the stream's end.
    ///
    /// # Errors
    /// I/O.
    pub fn answer_identify(&mut self, frames: &[u8], end: u16) -> io::Result<()> {
        const NAME: &str = "/ipfs/id/1.0.0";
        loop {
            let frame = self.receive()?;
            let asked = |body: &[u8]| body.windows(NAME.len()).any(|part| part == NAME.as_bytes());
            if frame.kind == DATA && asked(&frame.body) {
                let answer = [&messages(&[MULTISTREAM, NAME])[..], frames].concat();
                return self.pipe.write_all(&data(ACK | end, frame.stream, &answer));
            }
        }
    }
}
