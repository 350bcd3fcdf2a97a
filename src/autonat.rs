//! AutoNAT v1 (`/libp2p/autonat/1.0.0`): asks other nodes whether they can dial this one, and
//! answers the same question of others.
//!
//! The rules and times are go-libp2p's (COMPATIBILITY.md 4.18). Two differ. While circuits are in
//! use, a second host has to confirm that this node is public, since one that lies would take
//! them away. And one address prefix cannot use up the dials of all.

mod client;
mod message;
mod server;
mod throttle;
mod verdict;

use std::sync::Arc;

use tokio::sync::watch;

use crate::node::{DialBack, Node, Reach};
use client::Client;
use server::Server;

/// The protocol's name.
pub const PROTOCOL: &str = "/libp2p/autonat/1.0.0";

/// Finds out whether strangers can dial `node`, until dropped. What it finds is
/// [`Node::watch_reach`].
pub async fn probe(node: Node) {
    Client::new(node).run().await;
}

/// Dials others that ask for it, while `node` is not known to be private; until dropped.
pub async fn serve(node: Node, dial_back: DialBack) {
    let server = Arc::new(Server::new(node.clone(), dial_back));
    let registry = &node.streams().registry;
    let mut reach: watch::Receiver<Reach> = node.watch_reach();
    loop {
        let private = *reach.borrow_and_update() == Reach::Private;
        registry.set_service(PROTOCOL, (!private).then(|| server.service()));
        // A change between public and unknown changes nothing here.
        let changed = reach.wait_for(|now| (*now == Reach::Private) != private);
        if changed.await.is_err() {
            return;
        }
    }
}
