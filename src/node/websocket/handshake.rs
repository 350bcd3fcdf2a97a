//! The requests that turn a connection into a websocket (RFC 6455, section 4).
//!
//! The codec has some of its own, which bound neither the bytes of a request nor what may stand in
//! one.

use std::io;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::{Bytes, BytesMut};
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use httparse::{EMPTY_HEADER, Header, Request, Response, Status};
use multibase::Base;

use super::stream::{End, Websocket};
use crate::fixed_limits::fixed_limit;

/// Bytes of a request or of its answer (SECURITY.md 3). Both have a few hundred.
const MAX_HEAD: usize = 8 * 1024;
fixed_limit!("head of a websocket's request or answer", bytes MAX_HEAD);

/// Headers of either (SECURITY.md 3).
const MAX_HEADERS: usize = 64;
fixed_limit!("headers of a websocket's request or answer", MAX_HEADERS);

/// Bytes read at once.
const CHUNK: usize = 1024;

const END: &[u8] = b"\r\n\r\n";

/// What is hashed behind the key of a request.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/// Why a connection has not become a websocket.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the head of the websocket's handshake has more than {MAX_HEAD} bytes")]
    TooLong,
    #[error("the websocket's handshake is no HTTP: {0}")]
    Http(#[from] httparse::Error),
    #[error("the websocket's request is no GET of HTTP/1.1")]
    Method,
    #[error("the websocket's handshake lacks the header {0}, or it says something else")]
    Header(&'static str),
    #[error("the websocket's handshake was answered with status {0}")]
    Status(u16),
    #[error("the websocket's handshake was answered for another key")]
    Key,
}

impl From<HandshakeError> for io::Error {
    fn from(error: HandshakeError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Reads until a head has ended. What came behind it, too.
async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> io::Result<(Bytes, Bytes)> {
    let mut head = BytesMut::with_capacity(CHUNK);
    let mut chunk = [0; CHUNK];
    loop {
        let n = io.read(&mut chunk).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The end may have begun in what came before.
        let from = head.len().saturating_sub(END.len() - 1);
        head.extend_from_slice(&chunk[..n]);
        let end = head[from..].windows(END.len()).position(|at| at == END);
        if let Some(end) = end {
            let rest = head.split_off(from + end + END.len());
            return Ok((head.freeze(), rest.freeze()));
        }
        if head.len() > MAX_HEAD {
            return Err(HandshakeError::TooLong.into());
        }
    }
}

/// Whether a header of that name, a list, has `wanted`.
fn has(headers: &[Header<'_>], name: &'static str, wanted: &str) -> Result<(), HandshakeError> {
    let named = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    let mut words = named.flat_map(|header| header.value.split(|byte| *byte == b','));
    match words.any(|word| word.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())) {
        true => Ok(()),
        false => Err(HandshakeError::Header(name)),
    }
}

/// The value of the only header of that name.
fn value<'a>(headers: &[Header<'a>], name: &'static str) -> Result<&'a str, HandshakeError> {
    let mut named = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    match (named.next(), named.next()) {
        (Some(one), None) => std::str::from_utf8(one.value)
            .map(str::trim)
            .map_err(|_| HandshakeError::Header(name)),
        _ => Err(HandshakeError::Header(name)),
    }
}

/// What shows that the request with `key` was understood.
fn accepted(key: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    Base::Base64Pad.encode(hash)
}

/// What a request that is in order is answered.
fn answer(head: &[u8]) -> Result<String, HandshakeError> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = Request::new(&mut headers);
    let Status::Complete(_) = request.parse(head)? else {
        return Err(HandshakeError::Method);
    };
    if request.method != Some("GET") || request.version != Some(1) {
        return Err(HandshakeError::Method);
    }
    has(request.headers, "Upgrade", "websocket")?;
    has(request.headers, "Connection", "upgrade")?;
    has(request.headers, "Sec-WebSocket-Version", "13")?;
    let key = value(request.headers, "Sec-WebSocket-Key")?;
    match Base::Base64Pad.decode(key) {
        Ok(bytes) if bytes.len() == 16 => {}
        _ => return Err(HandshakeError::Header("Sec-WebSocket-Key")),
    }
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accepted(key)
    ))
}

/// Whether `head` is the answer to the request with `key`.
fn check(head: &[u8], key: &str) -> Result<(), HandshakeError> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = Response::new(&mut headers);
    let Status::Complete(_) = response.parse(head)? else {
        return Err(HandshakeError::Status(0));
    };
    match response.code {
        Some(101) => {}
        code => return Err(HandshakeError::Status(code.unwrap_or(0))),
    }
    has(response.headers, "Upgrade", "websocket")?;
    has(response.headers, "Connection", "upgrade")?;
    match value(response.headers, "Sec-WebSocket-Accept")? == accepted(key) {
        true => Ok(()),
        false => Err(HandshakeError::Key),
    }
}

/// Serves the request of a peer that has connected.
pub(super) async fn accept<T>(mut io: T) -> io::Result<Websocket<T>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (head, early) = read_head(&mut io).await?;
    match answer(&head) {
        Ok(answer) => io.write_all(answer.as_bytes()).await?,
        Err(error) => {
            io.write_all(REFUSAL).await?;
            io.flush().await?;
            return Err(error.into());
        }
    }
    io.flush().await?;
    Ok(Websocket::new(io, early, End::Server))
}

/// Requests a websocket at `path` of `host`, which are free of characters that would end them.
pub(super) async fn connect<T>(mut io: T, host: &str, path: &str) -> io::Result<Websocket<T>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let key = Base::Base64Pad.encode(rand::random::<[u8; 16]>());
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;
    let (head, early) = read_head(&mut io).await?;
    check(&head, &key)?;
    Ok(Websocket::new(io, early, End::Client))
}

#[cfg(test)]
mod tests;
