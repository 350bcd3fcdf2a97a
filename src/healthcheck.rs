//! `-healthcheck`: whether the daemon at a control address answers.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

use bytes::BytesMut;
use prost::Message as _;

use crate::wire::{
    frame::{self, DEFAULT_MAX_FRAME},
    maddr::{ControlAddr, Host},
    pb,
};

/// For each single step; a healthy daemon needs microseconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Why the daemon counts as unhealthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Nobody accepts, or the answer does not come.
    #[error("no answer from the daemon at {0}: {1}")]
    Io(ControlAddr, #[source] io::Error),
    /// Something answers that is no daemon.
    #[error("the process at {0} does not answer as a p2pd daemon")]
    Answer(ControlAddr),
}

/// Asks the daemon at `addr` to identify itself.
///
/// # Errors
/// See [`HealthError`].
pub fn run(addr: &ControlAddr) -> Result<(), HealthError> {
    let failed = |error| HealthError::Io(addr.clone(), error);
    let answer = match addr {
        ControlAddr::Unix(path) => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            ask(stream)
        }),
        ControlAddr::Tcp { host, port } => connect(host, *port).and_then(|stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            ask(stream)
        }),
    };
    let response = answer
        .map_err(failed)?
        .ok_or_else(|| HealthError::Answer(addr.clone()))?;
    if response.identify.is_some() {
        Ok(())
    } else {
        Err(HealthError::Answer(addr.clone()))
    }
}

fn connect(host: &Host, port: u16) -> io::Result<TcpStream> {
    match host {
        Host::Ip4(ip) => TcpStream::connect((*ip, port)),
        Host::Ip6(ip) => TcpStream::connect((*ip, port)),
        Host::Dns(name) | Host::Dns4(name) | Host::Dns6(name) => {
            TcpStream::connect((name.as_str(), port))
        }
    }
}

/// `None` if the answer is no response frame.
fn ask(mut stream: impl Read + Write) -> io::Result<Option<pb::Response>> {
    let request = pb::Request {
        r#type: Some(pb::request::Type::Identify as i64),
        ..pb::Request::default()
    };
    stream.write_all(&frame::encode(&request))?;
    let mut input = BytesMut::new();
    let mut chunk = [0; 4096];
    loop {
        match frame::take(&mut input, DEFAULT_MAX_FRAME) {
            Ok(Some(frame)) => return Ok(pb::Response::decode(frame).ok()),
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => input.extend_from_slice(&chunk[..n]),
        }
    }
}
