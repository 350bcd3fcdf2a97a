//! Multiaddr text and byte forms: the addresses of control and handler sockets, and libp2p
//! addresses with Go's error texts (COMPATIBILITY.md 1.6, 3.5, 4.3).

mod parse;

use std::ffi::OsStr;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

pub use parse::{MaddrError, multiaddr_from_bytes, parse_multiaddr};

/// The multicodec of `/unix`.
const UNIX: u32 = 400;

/// Where a control or handler socket listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ControlAddr {
    /// An absolute path; it has exactly one leading slash.
    Unix(PathBuf),
    /// A TCP socket.
    Tcp {
        /// Address or name.
        host: Host,
        /// 0 asks the kernel for a free port.
        port: u16,
    },
}

/// The host part of a TCP address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// `/ip4/…`
    Ip4(Ipv4Addr),
    /// `/ip6/…`
    Ip6(Ipv6Addr),
    /// `/dns4/…`: a name that resolves to IPv4 addresses.
    Dns4(String),
    /// `/dns6/…`: a name that resolves to IPv6 addresses.
    Dns6(String),
    /// `/dns/…`: a name that resolves to either.
    Dns(String),
}

impl ControlAddr {
    /// Reads the text form, such as `/unix/tmp/x.sock` or `/ip4/127.0.0.1/tcp/0`.
    ///
    /// Slashes at the end and doubled slashes before a path are dropped, and so is whatever
    /// follows the TCP port, as in `/ip4/127.0.0.1/tcp/1/ws` (COMPATIBILITY.md 3.5).
    ///
    /// # Errors
    /// Text that is no multiaddr, or a multiaddr that is neither a unix nor a TCP socket;
    /// each in Go's words.
    pub fn parse(text: &str) -> Result<Self, MaddrError> {
        Self::from_multiaddr(&parse_multiaddr(text)?)
    }

    /// Reads the binary form; a path need not be UTF-8.
    ///
    /// # Errors
    /// As [`ControlAddr::parse`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MaddrError> {
        match parse::unix_path(bytes)? {
            Some(path) => Self::unix(path),
            None => Self::from_multiaddr(&multiaddr_from_bytes(bytes)?),
        }
    }

    /// The binary form; a unix path keeps its leading slash, as in Go.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Unix(path) => {
                let path = path.as_os_str().as_bytes();
                let mut code = unsigned_varint::encode::u32_buffer();
                let mut len = unsigned_varint::encode::usize_buffer();
                let mut out = unsigned_varint::encode::u32(UNIX, &mut code).to_vec();
                out.extend_from_slice(unsigned_varint::encode::usize(path.len(), &mut len));
                out.extend_from_slice(path);
                out
            }
            Self::Tcp { host, port } => Multiaddr::from(host.protocol())
                .with(Protocol::Tcp(*port))
                .to_vec(),
        }
    }

    fn unix(path: &[u8]) -> Result<Self, MaddrError> {
        let start = path.iter().take_while(|byte| **byte == b'/').count();
        let relative = path.get(start..).unwrap_or_default();
        if relative.is_empty() {
            return Err(MaddrError::Unusable("unix address without a path".into()));
        }
        Ok(Self::Unix(Path::new("/").join(OsStr::from_bytes(relative))))
    }

    fn from_multiaddr(addr: &Multiaddr) -> Result<Self, MaddrError> {
        let mut parts = addr.iter();
        let host = match parts.next() {
            Some(Protocol::Unix(path)) => return Self::unix(path.as_bytes()),
            Some(Protocol::Ip4(ip)) => Host::Ip4(ip),
            Some(Protocol::Ip6(ip)) => Host::Ip6(ip),
            Some(Protocol::Dns(name)) => Host::Dns(name.into_owned()),
            Some(Protocol::Dns4(name)) => Host::Dns4(name.into_owned()),
            Some(Protocol::Dns6(name)) => Host::Dns6(name.into_owned()),
            _ => {
                let text = format!("{addr} is not a 'thin waist' address");
                return Err(MaddrError::Unusable(text));
            }
        };
        match parts.next() {
            Some(Protocol::Tcp(port)) => Ok(Self::Tcp { host, port }),
            Some(Protocol::Udp(port)) => {
                let (suffix, at) = (host.family(), host.with_port(port));
                let text =
                    format!("listen udp{suffix} {at}: address {at}: unexpected address type");
                Err(MaddrError::Unusable(text))
            }
            _ => {
                let suffix = host.family();
                let text = format!("listen ip{suffix}: unknown network ip{suffix}");
                Err(MaddrError::Unusable(text))
            }
        }
    }
}

impl fmt::Display for ControlAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "/unix{}", path.display()),
            Self::Tcp { host, port } => write!(f, "{}/tcp/{port}", host.protocol()),
        }
    }
}

impl Host {
    fn protocol(&self) -> Protocol<'_> {
        match self {
            Self::Ip4(ip) => Protocol::Ip4(*ip),
            Self::Ip6(ip) => Protocol::Ip6(*ip),
            Self::Dns4(name) => Protocol::Dns4(name.into()),
            Self::Dns6(name) => Protocol::Dns6(name.into()),
            Self::Dns(name) => Protocol::Dns(name.into()),
        }
    }

    /// The digit Go appends to a network's name: `tcp4`, `tcp6`, or plain `tcp`.
    #[must_use]
    pub fn family(&self) -> &'static str {
        match self {
            Self::Ip4(_) | Self::Dns4(_) => "4",
            Self::Ip6(_) | Self::Dns6(_) => "6",
            Self::Dns(_) => "",
        }
    }

    /// `host:port` as Go prints it, IPv6 addresses in brackets.
    #[must_use]
    pub fn with_port(&self, port: u16) -> String {
        match self {
            Self::Ip4(ip) => format!("{ip}:{port}"),
            Self::Ip6(ip) => format!("[{ip}]:{port}"),
            Self::Dns4(name) | Self::Dns6(name) | Self::Dns(name) => format!("{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests;
