//! Control addresses, as text, as bytes and as the operating system takes them.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Where a daemon listens for its clients.
#[derive(Debug, Clone)]
pub enum Control {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Control {
    /// The address as `-listen` takes it.
    #[must_use]
    pub fn multiaddr(&self) -> String {
        match self {
            Self::Unix(path) => format!("/unix{}", path.display()),
            Self::Tcp(SocketAddr::V4(addr)) => format!("/ip4/{}/tcp/{}", addr.ip(), addr.port()),
            Self::Tcp(SocketAddr::V6(addr)) => format!("/ip6/{}/tcp/{}", addr.ip(), addr.port()),
        }
    }

    /// The address as STREAM_HANDLER takes it: a binary multiaddr.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Unix(path) => {
                let path = path.as_os_str().as_bytes();
                let mut len = unsigned_varint::encode::usize_buffer();
                // Multicodec 400 (unix) as a varint.
                let mut bytes = vec![0x90, 0x03];
                bytes.extend_from_slice(unsigned_varint::encode::usize(path.len(), &mut len));
                bytes.extend_from_slice(path);
                bytes
            }
            Self::Tcp(addr) => Multiaddr::from(addr.ip())
                .with(Protocol::Tcp(addr.port()))
                .to_vec(),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("/unix") {
            return Some(Self::Unix(path.into()));
        }
        let mut parts = text.split('/').skip(2);
        let host = parts.next()?;
        let port = parts.nth(1)?.parse::<u16>().ok()?;
        (host, port).to_socket_addrs().ok()?.next().map(Self::Tcp)
    }
}
