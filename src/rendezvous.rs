//! Rendezvous: peers that register under a name, and those that look for them
//! (`/rendezvous/1.0.0` of libp2p's specification).
//!
//! The specification's registrations hold a peer record that the peer has signed, those of
//! py-libp2p 0.8 a plain list of addresses, and those of rust-libp2p a record of an older kind of
//! envelope. None of these reads another's, and one that it cannot read costs it the whole answer.
//! So a point answers each peer in the form that it speaks itself, and a client tries one
//! after another until a point takes it.

mod client;
mod message;
mod points;
mod record;
mod registrations;
mod server;

use std::sync::Arc;

use libp2p::identity::Keypair;
use tokio_util::sync::CancellationToken;

use crate::node::Node;
pub(crate) use message::MAX_NAMESPACE;
use message::PROTOCOL;
pub use points::Points;

/// Registers at `points` and finds others there until `closing`, and unregisters then, within half
/// a second.
pub(crate) async fn meet(
    node: Node,
    identity: Keypair,
    points: Points,
    closing: CancellationToken,
) {
    client::run(node, identity, points, closing).await;
}

/// Lets others register here and find each other.
pub(crate) fn serve(node: &Node) {
    let server = Arc::new(server::Server::new(node.clone()));
    let registry = &node.streams().registry;
    registry.set_service(PROTOCOL, Some(server.service()));
}
