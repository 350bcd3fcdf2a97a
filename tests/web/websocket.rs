//! The control connection in a WebSocket, whose client is written by hand.

use std::io::{self, Read as _, Write as _};

use bytes::BytesMut;
use prost::Message;
use rp2pd::wire::frame;
use rp2pd::wire::pb::{Request, Response, StreamOpenRequest, request, response};

use super::support::control::typed;
use super::support::{Handler, payload};
use super::*;

pub const BINARY: u8 = 2;
pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

pub struct Socket {
    pub socket: TcpStream,
    received: BytesMut,
}

impl Socket {
    pub fn new(web: &Web) -> Self {
        let token = format!("Authorization: Bearer {}\r\n", web.token);
        Self::with(web, &token).expect("a WebSocket")
    }

    /// With these headers beside those of the handshake; the head of what refuses it.
    pub fn with(web: &Web, headers: &str) -> Result<Self, String> {
        let mut socket = web.dial();
        let request = format!(
            "GET /v1/socket HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
            web.at
        );
        socket.write_all(request.as_bytes()).expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if socket.read(&mut byte).expect("a head") == 0 {
                break;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
        // The key and its answer are those of RFC 6455.
        match head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=") {
            true => Ok(Self {
                socket,
                received: BytesMut::new(),
            }),
            false => Err(head),
        }
    }

    /// A message that is whole.
    pub fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0x80 | kind];
        match payload.len() {
            len @ 0..126 => out.push(0x80 | len as u8),
            len if len < 1 << 16 => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        out.extend_from_slice(&mask);
        out.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        out
    }

    pub fn send(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        self.socket.write_all(&Self::message(kind, payload))
    }

    /// The next message of the daemon.
    pub fn next(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.socket.read_exact(&mut head)?;
        assert_eq!(
            (head[0] & 0x80, head[1] & 0x80),
            (0x80, 0),
            "whole, without a mask"
        );
        let len = match head[1] {
            126 => {
                let mut len = [0; 2];
                self.socket.read_exact(&mut len)?;
                u16::from_be_bytes(len).into()
            }
            127 => {
                let mut len = [0; 8];
                self.socket.read_exact(&mut len)?;
                u64::from_be_bytes(len)
            }
            len => len.into(),
        };
        let mut payload = vec![0; usize::try_from(len).expect("small")];
        self.socket.read_exact(&mut payload)?;
        Ok((head[0] & 15, payload))
    }

    /// Sends a request, byte by byte if it is to be `slow`.
    pub fn ask(&mut self, request: &impl Message, slow: bool) -> Response {
        let bytes = frame::encode(request);
        match slow {
            true => bytes
                .iter()
                .for_each(|byte| self.send(BINARY, &[*byte]).expect("sent")),
            false => self.send(BINARY, &bytes).expect("sent"),
        }
        loop {
            if let Some(payload) = frame::take(&mut self.received, usize::MAX).expect("a frame") {
                return Response::decode(payload).expect("a response");
            }
            let (kind, bytes) = self.next().expect("a message");
            assert_eq!(kind, BINARY);
            self.received.extend_from_slice(&bytes);
        }
    }

    pub fn identify(&mut self) -> Response {
        self.ask(&typed(request::Type::Identify), false)
    }
}

#[test]
fn the_frames_of_the_control_socket_travel_in_messages() {
    let web = Web::new(&[]);
    let mut socket = Socket::new(&web);
    for slow in [false, true] {
        let answer = socket.ask(&typed(request::Type::Identify), slow);
        let id = answer.identify.expect("a part").id;
        assert_eq!(id[..], web.daemon.peer_id().to_bytes()[..]);
    }
    // Two requests in one message.
    let both = frame::encode(&typed(request::Type::Identify)).repeat(2);
    socket.send(BINARY, &both).expect("sent");
    let one = socket.identify();
    assert_eq!(one.r#type(), response::Type::Ok);
    socket.send(PING, b"there?").expect("sent");
    loop {
        let (kind, bytes) = socket.next().expect("a message");
        if kind == PONG {
            assert_eq!(bytes, b"there?");
            break;
        }
        assert_eq!(kind, BINARY);
    }
    socket.send(CLOSE, &1000_u16.to_be_bytes()).expect("sent");
    while let Ok((kind, _)) = socket.next() {
        assert!(kind == CLOSE || kind == BINARY);
    }
}

#[test]
fn a_browser_shows_its_token_as_a_subprotocol() {
    let web = Web::new(&["-controlOrigins=https://page.example"]);
    let offer = format!(
        "Sec-WebSocket-Protocol: rp2pd.v1, rp2pd.token.{}\r\n",
        web.token
    );
    let origin = "Origin: https://page.example\r\n";
    let mut socket = Socket::with(&web, &format!("{offer}{origin}")).expect("a WebSocket");
    assert!(socket.identify().identify.is_some());
    let evil = format!("{offer}Origin: https://evil.example\r\n");
    let refused = Socket::with(&web, &evil).err().expect("refused");
    assert!(refused.starts_with("http/1.1 403 "), "{refused}");
    let wrong = offer.replace(&web.token, &"0".repeat(64));
    let refused = Socket::with(&web, &wrong).err().expect("refused");
    assert!(refused.starts_with("http/1.1 401 "), "{refused}");
}

#[test]
fn a_websocket_becomes_a_stream_with_both_its_ends() {
    let (web, other) = (Web::new(&[]), Daemon::spawn(&[LISTEN]));
    web.daemon.connect_to(&other);
    let handler = Handler::unix();
    handler
        .register(&mut other.client(), &["/late"], None)
        .expect("a handler");
    let mut socket = Socket::new(&web);
    let open = Request {
        stream_open: Some(StreamOpenRequest {
            peer: Some(other.peer_id().to_bytes().into()),
            proto: vec!["/late".into()],
            timeout: None,
        }),
        ..typed(request::Type::StreamOpen)
    };
    let answer = socket.ask(&open, false);
    assert_eq!(answer.stream_info.expect("a part").proto, "/late");
    let (_, mut pipe) = handler.accept(PATIENCE).expect("a stream");
    let sent = payload(1 << 20, 1);
    let copy = sent.clone();
    // Reads to the end of this side, and only then answers.
    let far = std::thread::spawn(move || {
        let mut came = Vec::new();
        pipe.read_to_end(&mut came).expect("an end");
        assert!(came == copy);
        pipe.write_all(&came).expect("sent");
    });
    for chunk in sent.chunks(40_000) {
        socket.send(BINARY, chunk).expect("sent");
    }
    socket.send(BINARY, b"").expect("sent");
    let mut came = Vec::new();
    loop {
        match socket.next().expect("a message") {
            (BINARY, bytes) => came.extend_from_slice(&bytes),
            (CLOSE, code) => {
                assert_eq!(code[..2], 1000_u16.to_be_bytes());
                break;
            }
            (kind, _) => panic!("{kind}"),
        }
    }
    assert!(came == sent, "{} bytes", came.len());
    far.join().expect("the other side");
}

#[test]
fn what_breaks_the_protocol_ends_it() {
    let web = Web::new(&[]);
    let mut text = Socket::new(&web);
    text.send(TEXT, b"{}").expect("sent");
    assert_eq!(text.next().expect("a message"), (CLOSE, vec![0x03, 0xeb]));
    // Too large; a client splits it.
    let mut large = Socket::new(&web);
    let _ = large.send(BINARY, &vec![0; 65 * 1024]);
    let told = large.next();
    assert!(told.is_err() || told.is_ok_and(|(kind, _)| kind == CLOSE));
    // What is no request ends as on the control socket.
    let mut wrong = Socket::new(&web);
    wrong.send(BINARY, &[0xff; 16]).expect("sent");
    let (kind, error) = wrong.next().expect("the ERROR");
    assert!(kind == BINARY && !error.is_empty());
    assert_eq!(wrong.next().expect("its end"), (BINARY, Vec::new()));
    assert_eq!(wrong.next().expect("the end").0, CLOSE);
    assert!(web.call("identify", "")["identify"].is_object());
}
