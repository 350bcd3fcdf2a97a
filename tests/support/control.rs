//! A blocking client of the control socket: raw frames, and the verbs tests use most.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use bytes::{Buf, Bytes, BytesMut};
use libp2p::{Multiaddr, PeerId};
use prost::Message;
use rp2pd::wire::frame;
use rp2pd::wire::pb::{
    ConnectRequest, DisconnectRequest, PeerInfo, Request, Response, StreamInfo, StreamOpenRequest,
    request, response,
};

use super::{Control, PATIENCE, Socket};

/// A socket together with what was already read from it beyond the last frame: raw bytes
/// after STREAM_OPEN, a handler's connection, or the inside of a [`ControlClient`].
#[derive(Debug)]
pub struct Pipe {
    pub socket: Socket,
    buffered: BytesMut,
}

impl Pipe {
    #[must_use]
    pub fn new(socket: Socket) -> Self {
        Self {
            socket,
            buffered: BytesMut::new(),
        }
    }

    /// Reads one frame; `UnexpectedEof` if the other side closes before its end.
    ///
    /// # Errors
    /// I/O, or `InvalidData` for a frame that is none.
    pub fn read_frame(&mut self) -> io::Result<Bytes> {
        loop {
            // No limit: daemons may answer with frames of any size.
            match frame::take(&mut self.buffered, usize::MAX) {
                Ok(Some(payload)) => return Ok(payload),
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            }
            let mut chunk = [0; 16 << 10];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.buffered.extend_from_slice(&chunk[..n]),
                // A read with a timeout is not restarted when a child of the tests ends.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends all of `bytes`, ends this side, and returns all the other side sent by its end.
    /// Reads while it writes, so an echo of any size passes.
    #[must_use]
    pub fn exchange(mut self, bytes: &[u8]) -> Vec<u8> {
        let mut writer = self.socket.try_clone().expect("clone the socket");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                writer.write_all(bytes).expect("send the payload");
                writer.shutdown_write().expect("end this side");
            });
            let mut answer = Vec::with_capacity(bytes.len());
            self.read_to_end(&mut answer).expect("read to the end");
            answer
        })
    }

    /// Like [`Pipe::exchange`] with a peer that drops the answer once its reader ends:
    /// this side is closed only after `bytes.len()` bytes came back.
    #[must_use]
    pub fn echo(mut self, bytes: &[u8]) -> Vec<u8> {
        let mut writer = self.socket.try_clone().expect("clone the socket");
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(bytes).expect("send the payload"));
            let mut answer = vec![0; bytes.len()];
            self.read_exact(&mut answer).expect("read the payload back");
            answer
        })
    }
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.buffered.is_empty() {
            return self.socket.read(buf);
        }
        let n = self.buffered.len().min(buf.len());
        self.buffered.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// One control connection.
#[derive(Debug)]
pub struct ControlClient {
    pub pipe: Pipe,
}

impl ControlClient {
    /// # Errors
    /// If nobody listens there.
    pub fn connect(control: &Control) -> io::Result<Self> {
        let socket = match control {
            Control::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
            Control::Tcp(addr) => Socket::Tcp(TcpStream::connect_timeout(addr, PATIENCE)?),
        };
        // Longer than any answer may take, so that a hang ends as an error.
        socket.set_timeout(2 * PATIENCE)?;
        Ok(Self {
            pipe: Pipe::new(socket),
        })
    }

    /// # Errors
    /// I/O.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pipe.socket.write_all(bytes)
    }

    /// # Errors
    /// I/O.
    pub fn send(&mut self, message: &impl Message) -> io::Result<()> {
        self.send_raw(&frame::encode(message))
    }

    /// # Errors
    /// I/O, or `InvalidData` for a frame that is no such message.
    pub fn receive<M: Message + Default>(&mut self) -> io::Result<M> {
        M::decode(self.pipe.read_frame()?)
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    /// Sends one request and returns its answer, OK or ERROR.
    ///
    /// # Errors
    /// I/O, `UnexpectedEof` if the daemon closes instead of answering.
    pub fn request(&mut self, request: &Request) -> io::Result<Response> {
        self.send(request)?;
        self.receive()
    }

    /// Sends one request; the answer, or the daemon's ERROR text.
    ///
    /// # Errors
    /// The ERROR text. Panics if there is no answer at all.
    pub fn ask(&mut self, request: &Request) -> Result<Response, String> {
        let response = self.request(request).expect("an answer");
        match response.r#type() {
            response::Type::Ok => Ok(response),
            response::Type::Error => Err(response.error.map_or_else(String::new, |e| e.msg)),
        }
    }

    #[must_use]
    pub fn identify(&mut self) -> (PeerId, Vec<Multiaddr>) {
        let response = self.ask(&typed(request::Type::Identify)).expect("IDENTIFY");
        let info = response.identify.expect("an identify part");
        let info = PeerInfo {
            id: info.id,
            addrs: info.addrs,
        };
        parse(&info)
    }

    /// # Errors
    /// The ERROR text.
    pub fn connect_to(&mut self, peer: PeerId, addrs: &[Multiaddr]) -> Result<(), String> {
        self.ask(&connect(peer, addrs)).map(drop)
    }

    /// CONNECT that has no reason to fail.
    pub fn connect_peer(&mut self, peer: PeerId, addrs: &[Multiaddr]) {
        self.connect_to(peer, addrs).expect("CONNECT");
    }

    pub fn disconnect(&mut self, peer: PeerId) {
        let mut request = typed(request::Type::Disconnect);
        request.disconnect = Some(DisconnectRequest {
            peer: Some(peer.to_bytes().into()),
        });
        self.ask(&request).expect("DISCONNECT");
    }

    #[must_use]
    pub fn list_peers(&mut self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let response = self
            .ask(&typed(request::Type::ListPeers))
            .expect("LIST_PEERS");
        response.peers.iter().map(parse).collect()
    }

    /// Opens a stream; the connection then carries its raw bytes.
    ///
    /// # Errors
    /// The ERROR text.
    pub fn open_stream(
        mut self,
        peer: PeerId,
        protocols: &[&str],
    ) -> Result<(StreamInfo, Pipe), String> {
        let mut request = typed(request::Type::StreamOpen);
        request.stream_open = Some(StreamOpenRequest {
            peer: Some(peer.to_bytes().into()),
            proto: protocols
                .iter()
                .map(|name| name.as_bytes().to_vec().into())
                .collect(),
            timeout: None,
        });
        let response = self.ask(&request)?;
        Ok((response.stream_info.expect("a streamInfo part"), self.pipe))
    }
}

/// Names that are text.
#[must_use]
pub fn texts(names: &[Bytes]) -> Vec<String> {
    let text = |name: &Bytes| String::from_utf8(name.to_vec()).expect("text");
    names.iter().map(text).collect()
}

/// A request of this type without its parameters.
#[must_use]
pub fn typed(kind: request::Type) -> Request {
    Request {
        r#type: Some(i64::from(kind as i32)),
        ..Request::default()
    }
}

pub(super) fn parse(info: &PeerInfo) -> (PeerId, Vec<Multiaddr>) {
    let id = PeerId::from_bytes(&info.id).expect("a peer id");
    let addrs = info
        .addrs
        .iter()
        .map(|addr| Multiaddr::try_from(addr.to_vec()).expect("a multiaddr"))
        .collect();
    (id, addrs)
}

/// A CONNECT request with the default timeout.
#[must_use]
pub fn connect(peer: PeerId, addrs: &[Multiaddr]) -> Request {
    let mut request = typed(request::Type::Connect);
    request.connect = Some(ConnectRequest {
        peer: Some(peer.to_bytes().into()),
        addrs: addrs.iter().map(|a| a.to_vec().into()).collect(),
        timeout: None,
    });
    request
}
