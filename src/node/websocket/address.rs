//! Addresses of websockets: `/tcp/80/ws`, `/tcp/443/tls/ws`, `/tcp/443/tls/sni/<name>/ws` and the
//! older `/tcp/443/wss`.

use std::{borrow::Cow, net::IpAddr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use rustls::pki_types::ServerName;

/// Longest path, in bytes.
const MAX_PATH: usize = 1024;

/// What stands behind the address of a listener's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form(Vec<Protocol<'static>>);

impl Form {
    /// Whether connections are secured by a certificate.
    pub(super) fn is_secure(&self) -> bool {
        !matches!(self.0[..], [Protocol::Ws(_)])
    }

    /// `socket` in this form.
    pub(super) fn of(&self, socket: Multiaddr) -> Multiaddr {
        self.0.iter().fold(socket, |address, part| {
            address.with(Protocol::acquire(part.clone()))
        })
    }
}

/// The socket that `address` is listened on at, and its form. `None` if it is no websocket's.
pub(super) fn listened(address: &Multiaddr) -> Option<(Multiaddr, Form)> {
    let mut socket = address.clone();
    match socket.pop()? {
        secure @ Protocol::Wss(_) => Some((socket, Form(vec![secure]))),
        plain @ Protocol::Ws(_) => match socket.pop()? {
            Protocol::Tls => Some((socket, Form(vec![Protocol::Tls, plain]))),
            part => Some((socket.with(part), Form(vec![plain]))),
        },
        _ => None,
    }
}

/// How an address is dialed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialed {
    /// The address of the connection below.
    pub(super) socket: Multiaddr,
    /// Host and port, as a request names them.
    pub(super) host: String,
    pub(super) path: String,
    /// Whom the certificate has to be for, of secure ones.
    pub(super) name: Option<ServerName<'static>>,
}

/// How `address` is dialed. `None` if it is no websocket's, or if a part of it could be read as
/// something else in a request.
pub(super) fn dialed(address: &Multiaddr) -> Option<Dialed> {
    let mut socket = address.clone();
    let mut peer = None;
    let mut last = socket.pop()?;
    if matches!(last, Protocol::P2p(_)) {
        peer = Some(last);
        last = socket.pop()?;
    }
    let mut sni = None;
    let (secure, path) = match last {
        Protocol::Wss(path) => (true, path),
        Protocol::Ws(path) => match socket.pop()? {
            Protocol::Tls => (true, path),
            Protocol::Sni(name) => {
                sni = Some(name);
                (socket.pop()? == Protocol::Tls).then_some((true, path))?
            }
            part => {
                socket.push(part);
                (false, path)
            }
        },
        _ => return None,
    };
    let (host, port) = host(&socket)?;
    let host = sni.map_or(host, Host::Name);
    let name = host.server_name()?;
    let dialed = Dialed {
        host: host.with_port(port),
        path: checked(path)?,
        name: secure.then_some(name),
        socket: peer.into_iter().fold(socket, Multiaddr::with),
    };
    Some(dialed)
}

enum Host {
    Ip(IpAddr),
    Name(Cow<'static, str>),
}

impl Host {
    /// A name has only characters that names of hosts have.
    fn server_name(&self) -> Option<ServerName<'static>> {
        match self {
            Self::Ip(ip) => Some(ServerName::IpAddress((*ip).into())),
            Self::Name(name) => ServerName::try_from(name.to_string()).ok(),
        }
    }

    fn with_port(&self, port: u16) -> String {
        match self {
            Self::Ip(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
            Self::Ip(ip) => format!("{ip}:{port}"),
            Self::Name(name) => format!("{name}:{port}"),
        }
    }
}

fn host(socket: &Multiaddr) -> Option<(Host, u16)> {
    let mut parts = socket
        .iter()
        .map(Protocol::acquire)
        .skip_while(|part| matches!(part, Protocol::Ip6zone(_)));
    let host = match parts.next()? {
        Protocol::Ip4(ip) => Host::Ip(ip.into()),
        Protocol::Ip6(ip) => Host::Ip(ip.into()),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Host::Name(name),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None) => Some((host, port)),
        _ => None,
    }
}

fn checked(path: Cow<'_, str>) -> Option<String> {
    let harmless = path.len() <= MAX_PATH && path.bytes().all(|byte| byte.is_ascii_graphic());
    (harmless && path.starts_with('/')).then(|| path.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn what_is_listened_on_keeps_its_form() {
        for (form, secure) in [("/ws", false), ("/tls/ws", true), ("/wss", true)] {
            let address = format!("/ip4/127.0.0.1/tcp/4001{form}").parse().unwrap();
            let (socket, kept) = listened(&address).unwrap();
            assert_eq!(socket.to_string(), "/ip4/127.0.0.1/tcp/4001");
            assert_eq!((kept.is_secure(), kept.of(socket)), (secure, address));
        }
        for other in ["/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/udp/1/quic-v1"] {
            assert_eq!(listened(&other.parse().unwrap()), None);
        }
    }

    #[test]
    fn what_is_dialed_is_named_in_the_request() {
        let told = |text: &str| {
            let dialed = dialed(&text.parse().unwrap())?;
            let name = dialed.name.map(|name| name.to_str().into_owned());
            Some((dialed.socket.to_string(), dialed.host, dialed.path, name))
        };
        let ip = "/ip4/1.2.3.4/tcp/80";
        let plain = |socket: &str, host: &str| {
            Some((socket.to_owned(), host.to_owned(), "/".to_owned(), None))
        };
        assert_eq!(told(&format!("{ip}/ws")), plain(ip, "1.2.3.4:80"));
        let with_peer = format!("{ip}/p2p/{PEER}");
        let wanted = plain(&with_peer, "1.2.3.4:80");
        assert_eq!(told(&format!("{ip}/ws/p2p/{PEER}")), wanted);
        let ip6 = "/ip6/::1/tcp/80";
        assert_eq!(told(&format!("{ip6}/ws")), plain(ip6, "[::1]:80"));
        let zoned = "/ip6zone/eth0/ip6/fe80::1/tcp/80";
        assert_eq!(told(&format!("{zoned}/ws")), plain(zoned, "[fe80::1]:80"));
        for (form, host) in [
            ("/wss", "a.b"),
            ("/tls/ws", "a.b"),
            ("/tls/sni/c.d/ws", "c.d"),
        ] {
            let (socket, named, _, name) = told(&format!("/dns4/a.b/tcp/443{form}")).unwrap();
            assert_eq!(socket, "/dns4/a.b/tcp/443");
            assert_eq!(
                (named, name.as_deref()),
                (format!("{host}:443"), Some(host))
            );
        }
        let secure = told(&format!("{ip}/tls/ws")).unwrap();
        assert_eq!(secure.3.as_deref(), Some("1.2.3.4"));
    }

    #[test]
    fn nothing_that_ends_a_line_comes_into_a_request() {
        let base: Multiaddr = "/ip4/1.2.3.4/tcp/80".parse().unwrap();
        for path in ["x", "", "/a b", "/\r\nX: y", "/\u{e4}"] {
            let address = base.clone().with(Protocol::Ws(path.into()));
            assert_eq!(dialed(&address), None, "{path:?}");
        }
        let long = format!("/{}", "x".repeat(MAX_PATH));
        assert_eq!(dialed(&base.clone().with(Protocol::Ws(long.into()))), None);
        let path = base.with(Protocol::Ws("/x?y=1".into()));
        assert_eq!(dialed(&path).unwrap().path, "/x?y=1");
        for name in ["a b", "a\r\nb", "", "a/b"] {
            let named = Multiaddr::empty()
                .with(Protocol::Dns(name.into()))
                .with(Protocol::Tcp(80))
                .with(Protocol::Ws("/".into()));
            assert_eq!(dialed(&named), None, "{name:?}");
        }
        for other in [
            "/ip4/1.2.3.4/tcp/80",
            "/ip4/1.2.3.4/udp/80/ws",
            "/ip4/1.2.3.4/tcp/80/sni/a/ws",
            "/ip4/1.2.3.4/tcp/80/tls",
        ] {
            assert_eq!(dialed(&other.parse().unwrap()), None, "{other}");
        }
    }
}
