//! Dials others that ask whether strangers can.
//!
//! Only the asker is dialed, at the IP address that it was met at, on ports that it names. Every
//! other address that it names is left alone, and so are all addresses that
//! [`address_filter`](crate::node::address_filter) would not take from it.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::{sleep_until, timeout, timeout_at};

use super::{
    message::{Kind, MAX_MESSAGE, MESSAGE_COST, Message, Status},
    throttle::Throttle,
};
use crate::{
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    memory::prefix,
    metrics::metrics,
    node::{
        DialBack, Node,
        address_filter::{Scope, admits},
    },
    streams::{InboundStream, Service},
    wire::frame::{self, FrameReader},
};

/// Time for the request to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for a dial (go-libp2p). A failure is told when it is over: earlier, it would tell which
/// ports are closed.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);

/// Time for the peer to take the answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses dialed for one request (SECURITY.md 3; go-libp2p).
const MAX_ADDRESSES: usize = 16;
fixed_limit!("AutoNAT: addresses dialed for one request", MAX_ADDRESSES);

/// Why nobody is dialed; the texts are go-libp2p's.
type Refusal = (Status, &'static str);

pub(super) struct Server {
    node: Node,
    dial_back: DialBack,
    throttle: Mutex<Throttle>,
}

impl Server {
    pub(super) fn new(node: Node, dial_back: DialBack) -> Self {
        Self {
            node,
            dial_back,
            throttle: Mutex::new(Throttle::new(Instant::now())),
        }
    }

    /// Answers inbound streams.
    pub(super) fn service(self: &Arc<Self>) -> Service {
        let server = self.clone();
        Service::new(Box::new(move |inbound| {
            let server = server.clone();
            Box::pin(async move { server.serve(inbound).await })
        }))
    }

    async fn serve(&self, mut inbound: InboundStream) {
        let peer = inbound.peer;
        let Some(message) = receive(&mut inbound).await else {
            return;
        };
        let own = own_ips(&self.node.direct_addresses());
        let answer = match wanted(peer, &inbound.remote, message, &own) {
            Ok(addresses) => self.dial(peer, &inbound.remote, addresses).await,
            Err((status, text)) => {
                if status == Status::DialRefused {
                    metrics().autonat.refused("dial blocked");
                }
                Message::answer(status, text, None)
            }
        };
        let status = answer
            .response
            .as_ref()
            .and_then(|response| response.status);
        let status = status.and_then(|status| Status::try_from(status).ok());
        metrics()
            .autonat
            .sent(status.map_or("unknown", Status::label));
        tracing::debug!(%peer, response = ?answer.response, "asked to dial back");
        let answered = async {
            inbound.stream.write_all(&frame::encode(&answer)).await?;
            inbound.stream.close().await?;
            // A stream that is dropped before its other end has closed is reset, and go-libp2p
            // then drops what it has not read.
            inbound.stream.read(&mut [0]).await
        };
        // A peer that does not take the answer is none the wiser.
        let _ = timeout(WRITE_TIMEOUT, answered).await;
    }

    async fn dial(&self, peer: PeerId, remote: &Multiaddr, addresses: Vec<Multiaddr>) -> Message {
        let room = prefix(remote).and_then(|prefix| {
            let room = self.dial_back.room()?;
            let admitted = self.throttle.lock().admit(peer, prefix, Instant::now());
            admitted.then_some(room)
        });
        let Some(room) = room else {
            Limit::AutonatDials.hit();
            metrics().autonat.refused("rate limited");
            return Message::answer(Status::DialRefused, "too many dials", None);
        };
        let deadline = tokio::time::Instant::now() + DIAL_TIMEOUT;
        match timeout_at(deadline, self.dial_back.dial(peer, addresses, room)).await {
            Ok(Some(address)) => Message::answer(Status::Ok, "", Some(&address)),
            Ok(None) | Err(_) => {
                sleep_until(deadline).await;
                Message::answer(Status::DialError, "dial failed", None)
            }
        }
    }
}

/// What the peer asks, unless it is cut, oversized, late or no request.
async fn receive(inbound: &mut InboundStream) -> Option<Message> {
    let _charge = inbound.account.charge(MESSAGE_COST).ok()?;
    let mut reader = FrameReader::new(MAX_MESSAGE, BytesMut::new());
    let read = timeout(READ_TIMEOUT, reader.next(&mut inbound.stream)).await;
    let mut message = Message::decode(read.ok()?.ok()??).ok()?;
    if message.kind != Some(Kind::Dial.into()) {
        return None;
    }
    if let Some(peer) = message.dial.as_mut().and_then(|dial| dial.peer.as_mut()) {
        // What is dialed is fewer; those that cannot be used count as well.
        peer.addrs.truncate(4 * MAX_ADDRESSES);
        peer.addrs.shrink_to_fit();
    }
    Some(message)
}

/// Where `peer`, met at `remote`, is to be dialed.
fn wanted(
    peer: PeerId,
    remote: &Multiaddr,
    message: Message,
    own: &[IpAddr],
) -> Result<Vec<Multiaddr>, Refusal> {
    let missing = (Status::BadRequest, "missing peer info");
    let info = message.dial.and_then(|dial| dial.peer).ok_or(missing)?;
    if let Some(id) = info.id {
        let id = PeerId::from_bytes(&id).map_err(|_| (Status::BadRequest, "bad peer id"))?;
        if id != peer {
            return Err((Status::BadRequest, "peer id mismatch"));
        }
    }
    let blocked = "refusing to dial peer with blocked observed address";
    let ip = match remote.iter().next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Err((Status::DialRefused, "expected an IP address")),
    };
    // The address of a relay is not the asker's.
    let relayed = remote.iter().any(|part| part == Protocol::P2pCircuit);
    if relayed || Scope::of_ip(ip) != Scope::Public || own.contains(&ip) {
        return Err((Status::DialRefused, blocked));
    }
    let mut addresses = vec![remote.clone()];
    for told in info.addrs.iter().filter_map(|told| at(ip, peer, told)) {
        if addresses.len() < MAX_ADDRESSES && !addresses.contains(&told) && admits(remote, &told) {
            addresses.push(told);
        }
    }
    Ok(addresses)
}

/// An address that `peer` told, at `ip` whatever it said. None unless it begins with an IP address
/// and leads straight to the peer.
fn at(ip: IpAddr, peer: PeerId, told: &Bytes) -> Option<Multiaddr> {
    let told = Multiaddr::try_from(told.to_vec()).ok()?;
    let mut parts = told.iter();
    matches!(parts.next()?, Protocol::Ip4(_) | Protocol::Ip6(_)).then_some(())?;
    let mut address = Multiaddr::from(ip);
    for part in parts {
        match part {
            Protocol::P2p(named) if named == peer => {}
            Protocol::P2p(_)
            | Protocol::P2pCircuit
            | Protocol::Ip4(_)
            | Protocol::Ip6(_)
            | Protocol::Dns(_)
            | Protocol::Dns4(_)
            | Protocol::Dns6(_)
            | Protocol::Dnsaddr(_) => return None,
            part => address.push(part),
        }
    }
    Some(address)
}

/// The IP addresses of this host.
pub(super) fn own_ips(addresses: &[Multiaddr]) -> Vec<IpAddr> {
    let first = addresses.iter().filter_map(|address| address.iter().next());
    first
        .filter_map(|part| match part {
            Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
            Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
