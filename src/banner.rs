//! What the daemon prints on stdout: the lines by which clients know that it is ready.

use std::fmt::Write as _;

use libp2p::{Multiaddr, PeerId};

use crate::telemetry;
use crate::wire::maddr::ControlAddr;

/// The lines of COMPATIBILITY.md 1.5.
///
/// `control` and `addrs` are those really bound; `bootstrap` is empty unless peers were both
/// given and dialled.
fn text(
    control: &ControlAddr,
    peer: PeerId,
    addrs: &[Multiaddr],
    bootstrap: &[Multiaddr],
) -> String {
    let mut text = format!("Control socket: {control}\nPeer ID: {peer}\nPeer Addrs:\n");
    for addr in addrs {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{addr}");
    }
    if !bootstrap.is_empty() {
        text.push_str("Bootstrap peers:\n");
        for addr in bootstrap {
            let _ = writeln!(text, "{addr}");
        }
    }
    text
}

/// Sends the lines to stdout, as one chunk: some readers take a chunk for the whole.
pub fn print(control: &ControlAddr, peer: PeerId, addrs: &[Multiaddr], bootstrap: &[Multiaddr]) {
    telemetry::banner(text(control, peer, addrs, bootstrap));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_clients_read_them() {
        let control = ControlAddr::parse("/ip4/127.0.0.1/tcp/4711").unwrap();
        let peer: PeerId = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
            .parse()
            .unwrap();
        let head = "Control socket: /ip4/127.0.0.1/tcp/4711\n\
                    Peer ID: 12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA\n\
                    Peer Addrs:\n";
        assert_eq!(text(&control, peer, &[], &[]), head);
        let addr: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let one = [addr];
        let all = text(&control, peer, &one, &one);
        assert_eq!(
            all,
            format!("{head}/ip4/127.0.0.1/tcp/1\nBootstrap peers:\n/ip4/127.0.0.1/tcp/1\n")
        );
    }
}
