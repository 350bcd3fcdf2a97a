//! One socket for each IPv4 address of this host: a packet leaves on the segment of its socket.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    task::Poll,
};

use socket2::{Domain, Socket, Type};
use tokio::{io::ReadBuf, net::UdpSocket};

use crate::node::interface_addresses;

pub(super) const PORT: u16 = 5353;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// Longest packet that is read, in bytes (RFC 6762, 17).
pub(super) const MAX_PACKET: usize = 9000;

/// Addresses of this host that have a socket.
const MAX_SOCKETS: usize = 16;

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
    pub(super) fn update(&mut self) {
        let addresses = interface_addresses().unwrap_or_default();
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
                let mut read = ReadBuf::new(buffer);
                // An error, such as that of an earlier packet, costs that turn.
                if let Poll::Ready(Ok(from)) = socket.poll_recv_from(cx, &mut read) {
                    return Poll::Ready((read.filled().len(), from));
                }
            }
            Poll::Pending
        })
        .await
    }
}
