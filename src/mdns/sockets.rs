//! One socket for each IPv4 address of this host: a packet leaves on the segment of its socket.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    task::Poll,
};

use socket2::{Domain, Socket, Type};
use tokio::{io::ReadBuf, net::UdpSocket, task::spawn_blocking};

use crate::{fixed_limits::fixed_limit, node::interface_addresses};

pub(super) const PORT: u16 = 5353;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// Longest packet that is read, in bytes (RFC 6762, 17).
pub(super) const MAX_PACKET: usize = 9000;

/// Addresses of this host that have a socket.
const MAX_SOCKETS: usize = 16;
fixed_limit!("mDNS: addresses of this host with a socket", MAX_SOCKETS);

/// Errors of one socket that are passed over at once.
const MAX_ERRORS: usize = 8;

/// The sockets that there are now.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<(Ipv4Addr, UdpSocket)>);

fn open(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(socket2::Protocol::UDP))?;
    // Others on this host listen on the same port.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT)).into())?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(255)?;
    socket.set_multicast_if_v4(&address)?;
    socket.join_multicast_v4(&GROUP, &address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

impl Sockets {
    /// Opens those that are missing, and closes those whose address has gone.
    ///
    /// # Cancel safety
    /// The next call does it.
    pub(super) async fn update(&mut self) {
        // The kernel may take its time with many interfaces.
        let addresses = spawn_blocking(interface_addresses).await;
        let addresses = addresses.ok().and_then(Result::ok).unwrap_or_default();
        let addresses = addresses.into_iter().filter_map(|ip| match ip {
            IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
            _ => None,
        });
        let addresses: Vec<_> = addresses.take(MAX_SOCKETS).collect();
        self.0.retain(|(address, _)| addresses.contains(address));
        for address in addresses {
            if self.0.iter().any(|(known, _)| *known == address) {
                continue;
            }
            match open(address) {
                Ok(socket) => self.0.push((address, socket)),
                Err(error) => tracing::debug!(%address, %error, "no mDNS here"),
            }
        }
    }

    /// Sends on every segment. What cannot be sent is asked or told again.
    pub(super) async fn send(&self, packet: &[u8]) {
        for (address, socket) in &self.0 {
            if let Err(error) = socket.send_to(packet, (GROUP, PORT)).await {
                tracing::debug!(%address, %error, "mDNS packet not sent");
            }
        }
    }

    /// The next packet of any socket: its length and where it came from. Never, without sockets.
    ///
    /// # Cancel safety
    /// No packet is lost.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        poll_fn(|cx| {
            for (_, socket) in &self.0 {
                // An error, such as that of an earlier packet, is over once it is told. The socket
                // wakes nobody before it has been asked again.
                for _ in 0..MAX_ERRORS {
                    let mut read = ReadBuf::new(buffer);
                    match socket.poll_recv_from(cx, &mut read) {
                        Poll::Ready(Ok(from)) => {
                            return Poll::Ready((read.filled().len(), from));
                        }
                        Poll::Ready(Err(error)) => tracing::debug!(%error, "no mDNS packet"),
                        Poll::Pending => break,
                    }
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use tokio::{io::Interest, time::timeout};
    use tokio_util::task::TaskTracker;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// The error of a packet that nobody took is told to whoever reads next, and then the socket is
    /// as good as before.
    #[tokio::test]
    async fn a_packet_after_an_error_is_read() {
        // Addresses that no other test has its ports on.
        let silent = UdpSocket::bind("127.53.0.1:0").await.unwrap();
        let peer = silent.local_addr().unwrap();
        drop(silent);
        let socket = UdpSocket::bind("127.53.0.2:0").await.unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(peer).await.unwrap();
        socket.send(b"to nobody").await.unwrap();
        // This does not take the error: it is still to be told.
        let refused = timeout(PATIENCE, socket.ready(Interest::ERROR)).await;
        assert!(refused.expect("an error").unwrap().is_error());
        let sockets = Sockets(vec![(Ipv4Addr::LOCALHOST, socket)]);
        // In a task of its own, which nothing wakes but the socket: a timer beside it would make it
        // look again.
        let receiving =
            TaskTracker::new().spawn(async move { sockets.receive(&mut [0; 64]).await });
        let sender = UdpSocket::bind(peer).await.unwrap();
        sender.send_to(b"hello", own).await.unwrap();
        let received = timeout(PATIENCE, receiving).await.expect("a packet");
        assert_eq!(received.unwrap(), (5, peer));
    }
}
