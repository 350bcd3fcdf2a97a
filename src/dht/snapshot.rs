//! The state of the DHT node at one moment, for whoever reports it.

use std::fmt;

use libp2p::PeerId;

/// Whether the node answers other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It sends requests only.
    Client,
    /// It answers requests too.
    Server,
}

/// What the store holds of one kind, expired entries included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Entries held.
    pub entries: usize,
    /// Bytes they are charged with.
    pub bytes: usize,
    /// Entries evicted for want of room since the start.
    pub evicted: u64,
}

/// The DHT node at one moment. Its text is the part of the report of SIGUSR1 about the DHT
/// (COMPATIBILITY.md 1.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether the node answers others.
    pub mode: Mode,
    /// The routing table: for each k-bucket in use its common prefix length and its peers.
    pub buckets: Vec<(usize, Vec<PeerId>)>,
    /// Records held.
    pub records: Usage,
    /// Provider records held.
    pub providers: Usage,
    /// Changes not written to the datastore since the start, because it was full or too slow.
    pub unwritten: u64,
    /// Queries of clients under way.
    pub queries: usize,
    /// Requests of peers answered since the start.
    pub answered: u64,
    /// Requests of peers refused since the start.
    pub refused: u64,
    /// Requests to peers that failed since the start.
    pub failed: u64,
}

impl Snapshot {
    /// Peers in the routing table.
    #[must_use]
    pub fn table_size(&self) -> usize {
        self.buckets.iter().map(|(_, peers)| peers.len()).sum()
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "DHT Routing Table:")?;
        for (bits, peers) in &self.buckets {
            writeln!(f, "bucket {bits} ({})", peers.len())?;
            for peer in peers {
                writeln!(f, "\t{peer}")?;
            }
        }
        for (kind, usage) in [("records", self.records), ("providers", self.providers)] {
            writeln!(
                f,
                "{kind}: {}, bytes: {}, evicted: {}",
                usage.entries, usage.bytes, usage.evicted
            )?;
        }
        writeln!(f, "not written to disk: {}", self.unwritten)?;
        writeln!(
            f,
            "queries under way: {}, requests answered: {}, refused: {}, peers that failed: {}\n\n",
            self.queries, self.answered, self.refused, self.failed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_keeps_its_text() {
        let peers = [PeerId::random(), PeerId::random(), PeerId::random()];
        let snapshot = Snapshot {
            mode: Mode::Server,
            buckets: vec![(0, vec![peers[0], peers[1]]), (3, vec![peers[2]])],
            records: Usage {
                entries: 1,
                bytes: 2,
                evicted: 3,
            },
            providers: Usage {
                entries: 4,
                bytes: 5,
                evicted: 6,
            },
            unwritten: 7,
            queries: 8,
            answered: 9,
            refused: 10,
            failed: 11,
        };
        assert_eq!(snapshot.table_size(), 3);
        let [a, b, c] = peers;
        assert_eq!(
            snapshot.to_string(),
            format!(
                "DHT Routing Table:\nbucket 0 (2)\n\t{a}\n\t{b}\nbucket 3 (1)\n\t{c}\n\
                 records: 1, bytes: 2, evicted: 3\nproviders: 4, bytes: 5, evicted: 6\n\
                 not written to disk: 7\n\
                 queries under way: 8, requests answered: 9, refused: 10, peers that failed: 11\n\
                 \n\n"
            )
        );
    }
}
