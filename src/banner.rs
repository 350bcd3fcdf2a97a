//! temporary
use crate::wire::maddr::ControlAddr;
use libp2p::{Multiaddr, PeerId};
use std::io::Write as _;
pub fn print(c: &ControlAddr, p: PeerId, a: &[Multiaddr]) {
    let mut s = format!("Control socket: {c}\nPeer ID: {p}\nPeer Addrs:\n");
    for x in a {
        s.push_str(&format!("{x}\n"));
    }
    let _ = std::io::stdout().write_all(s.as_bytes());
}
