//! Rules, each found by what it speaks of.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::IpAddr,
};

use ipnet::IpNet;
use libp2p::PeerId;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// There is none.
    Block,
    /// There may be one.
    Allow,
}

/// What a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A peer.
    Peer(PeerId),
    /// All addresses of a network.
    Network(IpNet),
    /// Peers that have no rule of their own.
    EveryPeer,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => write!(f, "peer {peer}"),
            Self::Network(network) => write!(f, "network {network}"),
            Self::EveryPeer => f.write_str("every peer"),
        }
    }
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What it speaks of.
    pub subject: Subject,
    /// What becomes of connections with it.
    pub action: Action,
}

/// All rules.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    networks: HashMap<IpNet, Action>,
    /// The lengths of their prefixes, for IPv4 (true) and IPv6.
    lengths: BTreeSet<(bool, u8)>,
    peers: BTreeMap<PeerId, Action>,
    every_peer: Option<Action>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.networks.len() + self.peers.len() + usize::from(self.every_peer.is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn insert(&mut self, rule: Rule) {
        let action = rule.action;
        match rule.subject {
            Subject::Peer(peer) => drop(self.peers.insert(peer, action)),
            Subject::EveryPeer => self.every_peer = Some(action),
            Subject::Network(network) => {
                let network = plain(network);
                self.networks.insert(network, action);
                self.lengths.insert(kind(&network));
            }
        }
    }

    /// Whether there was one.
    pub(super) fn remove(&mut self, subject: &Subject) -> bool {
        match subject {
            Subject::Peer(peer) => self.peers.remove(peer).is_some(),
            Subject::EveryPeer => self.every_peer.take().is_some(),
            Subject::Network(network) => {
                let known = self.networks.remove(&plain(*network)).is_some();
                self.lengths = self.networks.keys().map(kind).collect();
                known
            }
        }
    }

    pub(super) fn of_peer(&self, peer: &PeerId) -> Action {
        let own = self.peers.get(peer).copied();
        own.or(self.every_peer).unwrap_or(Action::Allow)
    }

    pub(super) fn of_ip(&self, ip: IpAddr) -> Action {
        let lengths = self.lengths.iter().rev();
        let lengths = lengths.filter(|(ipv4, _)| *ipv4 == ip.is_ipv4());
        let mut networks = lengths.filter_map(|(_, length)| IpNet::new(ip, *length).ok());
        let longest = networks.find_map(|network| self.networks.get(&network.trunc()));
        longest.copied().unwrap_or(Action::Allow)
    }

    pub(super) fn list(&self) -> Vec<Rule> {
        let mut networks: Vec<_> = self.networks.iter().collect();
        networks.sort_unstable_by_key(|(network, _)| **network);
        let networks = networks.into_iter();
        let networks = networks.map(|(network, action)| (Subject::Network(*network), *action));
        let peers = self.peers.iter();
        let peers = peers.map(|(peer, action)| (Subject::Peer(*peer), *action));
        let every = self.every_peer.map(|action| (Subject::EveryPeer, action));
        let all = networks.chain(peers).chain(every);
        all.map(|(subject, action)| Rule { subject, action })
            .collect()
    }
}

/// The network without bits behind its prefix. One of IPv4 addresses mapped to IPv6 is that of IPv4, as
/// addresses are.
fn plain(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network.trunc();
    };
    let ipv4 = v6.addr().to_ipv4_mapped();
    let length = v6.prefix_len().checked_sub(96);
    let mapped = ipv4
        .zip(length)
        .map(|(ip, length)| IpNet::new(ip.into(), length));
    match mapped {
        Some(Ok(mapped)) => mapped.trunc(),
        _ => network.trunc(),
    }
}

fn kind(network: &IpNet) -> (bool, u8) {
    (matches!(network, IpNet::V4(_)), network.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str, action: Action) -> Rule {
        let subject = Subject::Network(text.parse().expect("a network"));
        Rule { subject, action }
    }

    #[test]
    fn the_longest_prefix_decides() {
        let mut table = Table::default();
        for rule in [
            network("10.0.0.0/8", Action::Block),
            network("10.1.2.3/16", Action::Allow),
            network("10.1.2.3/32", Action::Block),
            network("::/0", Action::Block),
            network("2001:db8::/32", Action::Allow),
        ] {
            table.insert(rule);
        }
        let of = |text: &str| table.of_ip(text.parse().expect("an address"));
        assert_eq!(of("10.2.0.1"), Action::Block);
        assert_eq!(of("10.1.0.1"), Action::Allow);
        assert_eq!(of("10.1.2.3"), Action::Block);
        assert_eq!(of("11.0.0.1"), Action::Allow, "IPv6 alone is blocked");
        assert_eq!(of("2001:db8::1"), Action::Allow);
        assert_eq!(of("2001:db9::1"), Action::Block);
        assert_eq!(table.len(), table.list().len());
        assert!(table.remove(&network("10.1.0.0/16", Action::Allow).subject));
        assert!(!table.remove(&network("10.1.0.0/16", Action::Allow).subject));
        assert_eq!(table.of_ip([10, 1, 0, 1].into()), Action::Block);
    }

    #[test]
    fn a_network_mapped_to_ipv6_is_one_of_ipv4() {
        let mut table = Table::default();
        table.insert(network("::ffff:10.1.2.3/104", Action::Block));
        table.insert(network("::ffff:0:0/95", Action::Block));
        assert_eq!(table.of_ip([10, 2, 0, 1].into()), Action::Block);
        assert_eq!(table.of_ip([11, 2, 0, 1].into()), Action::Allow);
        assert_eq!(table.list()[0], network("10.0.0.0/8", Action::Block));
        assert!(table.remove(&network("10.0.0.0/8", Action::Block).subject));
        assert!(table.remove(&network("::ffff:0:0/95", Action::Block).subject));
        assert!(table.is_empty());
    }

    #[test]
    fn a_peers_own_rule_comes_before_that_of_every_peer() {
        let (mut table, peer) = (Table::default(), PeerId::random());
        let rule = |subject, action| Rule { subject, action };
        assert_eq!(table.of_peer(&peer), Action::Allow);
        table.insert(rule(Subject::EveryPeer, Action::Block));
        assert_eq!(table.of_peer(&peer), Action::Block);
        table.insert(rule(Subject::Peer(peer), Action::Allow));
        assert_eq!(table.of_peer(&peer), Action::Allow);
        assert_eq!(table.of_peer(&PeerId::random()), Action::Block);
        assert!(table.remove(&Subject::EveryPeer));
        assert_eq!(table.of_peer(&PeerId::random()), Action::Allow);
    }
}
