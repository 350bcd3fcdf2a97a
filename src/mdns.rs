//! mDNS: peers on the same network segment, found and told (`/libp2p` discovery over multicast DNS).
//!
//! What is found goes to the peerstore and is dialed when a client asks for that peer, never by
//! itself. IPv4 only, as other implementations do it by default.

mod message;
mod sockets;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::time::{Instant, sleep_until};

use crate::{
    fixed_limits::fixed_limit,
    node::{Node, address_filter::Scope},
};
use message::{Heard, Own};
use sockets::{PORT, Sockets};

/// Between two questions, after the first ones. Answers live twice as long.
const INTERVAL: Duration = Duration::from_secs(60);

/// When the first questions are asked, after the start.
const FIRST: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(4),
];

/// Between two answers at least (RFC 6762, 6): whoever asks more often is answered with others.
const ANSWER_INTERVAL: Duration = Duration::from_secs(1);
fixed_limit!("mDNS: time between two answers", time ANSWER_INTERVAL);

/// Tells and finds until dropped.
pub(crate) async fn run(node: Node) {
    let mut sockets = Sockets::default();
    let mut buffer = vec![0; sockets::MAX_PACKET];
    let begun = Instant::now();
    let mut asked = 0;
    let mut ask_at = begun;
    let mut answered: Option<Instant> = None;
    // When to answer, if somebody has asked.
    let mut answer_at: Option<Instant> = None;
    loop {
        let answer = async {
            match answer_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = sleep_until(ask_at) => {
                asked += 1;
                ask_at = match FIRST.get(asked) {
                    Some(after) => begun + *after,
                    None => Instant::now() + INTERVAL,
                };
                sockets.update().await;
                sockets.send(&message::question()).await;
                // Who listens without asking is told as well.
                answer_at = answer_at.or(Some(Instant::now()));
            }
            () = answer => {
                answer_at = None;
                answered = Some(Instant::now());
                tell(&node, &sockets).await;
            }
            (length, from) = sockets.receive(&mut buffer) => {
                match message::hear(&buffer[..length], &Own::of(&node)) {
                    Heard::Question if answer_at.is_none() => {
                        let next = answered.map_or(Instant::now(), |last| last + ANSWER_INTERVAL);
                        answer_at = Some(next.max(Instant::now()));
                    }
                    Heard::Peers(addresses) => learn(&node, from, addresses),
                    Heard::Question | Heard::Nothing => {}
                }
            }
        }
    }
}

/// Tells each segment where this node is.
async fn tell(node: &Node, sockets: &Sockets) {
    let own = Own::of(node);
    let told = message::answer(&own);
    if let Some(told) = told {
        sockets.send(&told).await;
    }
}

/// Remembers what was told at `from`, if a peer there may tell it.
fn learn(node: &Node, from: SocketAddr, addresses: Vec<(PeerId, Multiaddr)>) {
    // Answers come from the port of mDNS (RFC 6762, 11), and no router passes them on.
    if from.port() != PORT || Scope::of_ip(from.ip()) == Scope::Public {
        return;
    }
    let teller = match from.ip() {
        IpAddr::V4(ip) => Multiaddr::empty().with(Protocol::Ip4(ip)),
        IpAddr::V6(ip) => Multiaddr::empty().with(Protocol::Ip6(ip)),
    };
    for (peer, address) in addresses {
        if peer != node.peer_id() && node.admits(&teller, &address) {
            tracing::debug!(%peer, %address, "found by mDNS");
            node.learn(peer, vec![address]);
        }
    }
}
