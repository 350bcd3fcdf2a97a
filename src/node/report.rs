//! The report of SIGUSR1 (COMPATIBILITY.md 1.9).

use std::fmt::Write as _;

use super::Node;

impl Node {
    /// Connections and streams as Go lays them out. No line starts like the banner's.
    #[must_use]
    pub fn report(&self) -> String {
        let peers = self.streams().peers.list();
        let count: usize = peers.iter().map(|(_, peer)| peer.connections().len()).sum();
        let mut out = format!("Connections and streams ({count}):\n");
        for (id, peer) in peers {
            let protocols = peer.protocols().unwrap_or_default();
            for connection in peer.connections() {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{id} {}", connection.remote);
                let _ = writeln!(out, "\tprotocols: {}", protocols.join(" "));
                let _ = writeln!(out, "\tinbound streams ({})", connection.inbound_streams());
                let _ = writeln!(out, "\tmemory ({} bytes)", connection.memory());
            }
        }
        let counters = &self.streams().counters;
        let load = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        let _ = writeln!(
            out,
            "Inbound streams served: {}, refused: {}",
            load(&counters.served),
            load(&counters.refused)
        );
        out
    }
}
