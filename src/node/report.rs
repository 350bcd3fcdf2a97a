//! The report of SIGUSR1 (COMPATIBILITY.md 1.9).

use std::fmt::Write as _;

use super::Node;

impl Node {
    /// Connections and streams as Go lays them out. No line starts like the banner's.
    #[must_use]
    pub fn report(&self) -> String {
        let peers = self.streams().peers.list();
        let count: usize = peers.iter().map(|(_, peer)| peer.links().len()).sum();
        let mut out = format!("Connections and streams ({count}):\n");
        for (id, peer) in peers {
            let protocols = peer.protocols().unwrap_or_default();
            for link in peer.links() {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{id} {}", link.remote);
                let _ = writeln!(out, "\tprotocols: {}", protocols.join(" "));
                let _ = writeln!(out, "\tinbound streams ({})", link.inbound_streams());
                let _ = writeln!(out, "\tmemory ({} bytes)", link.memory());
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
