//! In which order the addresses of a peer are dialed, and how far apart.
//!
//! The rules are go-libp2p's `DefaultDialRanker`: QUIC before TCP, IPv6 before IPv4, the second
//! family and the rest one delay later each, public addresses 250 ms apart and private ones 30 ms.
//! Circuits start 500 ms after public addresses. In addition, addresses that have worked go first
//! and those that failed lately go last, but a circuit that has worked not before a direct address.

use std::time::Duration;

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::node::{address_filter::Scope, peer_address::is_relayed};

const PUBLIC_DELAY: Duration = Duration::from_millis(250);
const PRIVATE_DELAY: Duration = Duration::from_millis(30);
const CIRCUIT_DELAY: Duration = Duration::from_millis(500);

/// By then every address is being dialed, however many there are.
pub(super) const LAST_START: Duration = Duration::from_millis(1750);

/// How dials to an address went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum History {
    /// The last one led to the peer.
    Worked,
    /// There was none.
    Unknown,
    /// The last one failed.
    Failed,
}

/// When each of `addresses` is to be dialed, counted from now. In the order given.
pub(super) fn rank(addresses: &[(&Multiaddr, History)]) -> Vec<Duration> {
    let mut starts = vec![Duration::ZERO; addresses.len()];
    let public =
        |(address, _): &(&Multiaddr, History)| !is_relayed(address) && !is_private(address);
    let after_public = if addresses.iter().any(public) {
        CIRCUIT_DELAY
    } else {
        Duration::ZERO
    };
    for (circuits, mut offset) in [(false, Duration::ZERO), (true, after_public)] {
        for history in [History::Worked, History::Unknown, History::Failed] {
            let group: Vec<usize> = (0..addresses.len())
                .filter(|&at| addresses[at].1 == history)
                .filter(|&at| is_relayed(addresses[at].0) == circuits)
                .collect();
            if let Some(last) = rank_group(addresses, &group, offset, &mut starts) {
                offset = last + PUBLIC_DELAY;
            }
        }
    }
    starts.iter().map(|start| *start.min(&LAST_START)).collect()
}

/// Ranks addresses of the same history. When the last of them starts.
fn rank_group(
    addresses: &[(&Multiaddr, History)],
    group: &[usize],
    offset: Duration,
    starts: &mut [Duration],
) -> Option<Duration> {
    let private = |at: usize| is_private(addresses[at].0) && !is_relayed(addresses[at].0);
    let (private, rest): (Vec<usize>, Vec<usize>) = group.iter().partition(|at| private(**at));
    for (mut part, delay) in [(private, PRIVATE_DELAY), (rest, PUBLIC_DELAY)] {
        part.sort_by_key(|&at| preference(addresses[at].0));
        stagger(addresses, &part, delay, offset, starts);
    }
    group.iter().map(|&at| starts[at]).max()
}

/// Starts `part`, which is sorted by preference: QUIC first, then TCP.
fn stagger(
    addresses: &[(&Multiaddr, History)],
    part: &[usize],
    delay: Duration,
    offset: Duration,
    starts: &mut [Duration],
) {
    let mut first_tcp = offset;
    for quic in [true, false] {
        let mut same: Vec<usize> = part
            .iter()
            .copied()
            .filter(|&at| is_quic(addresses[at].0) == quic)
            .collect();
        interleave(addresses, &mut same);
        for (position, &at) in same.iter().enumerate() {
            let rounds = u32::try_from(position.min(2)).unwrap_or(2);
            starts[at] = first_tcp + delay * rounds;
        }
        if quic && let Some(&last) = same.last() {
            first_tcp = starts[last] + delay;
        }
    }
}

/// Moves the best IPv4 address to the second place, behind the best IPv6 address (RFC 8305).
fn interleave(addresses: &[(&Multiaddr, History)], sorted: &mut [usize]) {
    let ip6 = |at: &usize| matches!(addresses[*at].0.iter().next(), Some(Protocol::Ip6(_)));
    if sorted.first().is_some_and(&ip6)
        && let Some(ip4) = sorted.iter().position(|at| !ip6(at))
        && let Some(range) = sorted.get_mut(1..=ip4)
    {
        range.rotate_right(1);
    }
}

/// Smaller is better: QUIC, IPv6, a port that looks like a configured one.
fn preference(address: &Multiaddr) -> (bool, bool, u16) {
    let mut ip4 = true;
    let mut port = u16::MAX;
    for part in address {
        match part {
            Protocol::Ip6(_) => ip4 = false,
            Protocol::Tcp(number) | Protocol::Udp(number) => port = number,
            _ => {}
        }
    }
    (!is_quic(address), ip4, port)
}

fn is_quic(address: &Multiaddr) -> bool {
    address
        .iter()
        .any(|part| matches!(part, Protocol::Quic | Protocol::QuicV1))
}

fn is_private(address: &Multiaddr) -> bool {
    let scope = match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Scope::of_ip(ip.into()),
        Some(Protocol::Ip6(ip)) => Scope::of_ip(ip.into()),
        _ => return false,
    };
    matches!(scope, Scope::Loopback | Scope::LinkLocal | Scope::Private)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(addresses: &[(&str, History)]) -> Vec<u128> {
        let addresses: Vec<(Multiaddr, History)> = addresses
            .iter()
            .map(|(text, history)| (text.parse().unwrap(), *history))
            .collect();
        let addresses: Vec<_> = addresses.iter().map(|(a, history)| (a, *history)).collect();
        rank(&addresses).iter().map(Duration::as_millis).collect()
    }

    #[test]
    fn families_and_transports_start_as_in_go() {
        use History::Unknown;
        let starts = ranked(&[
            ("/ip4/1.2.3.4/tcp/4001", Unknown),
            ("/ip6/2600::1/tcp/4001", Unknown),
            ("/ip4/1.2.3.4/udp/4001/quic-v1", Unknown),
            ("/ip6/2600::1/udp/4001/quic-v1", Unknown),
            ("/ip4/1.2.3.5/udp/4001/quic-v1", Unknown),
            ("/ip4/192.168.1.5/tcp/4001", Unknown),
            ("/ip4/10.0.0.1/udp/4001/quic-v1", Unknown),
        ]);
        assert_eq!(starts, [1000, 750, 250, 0, 500, 30, 0]);
    }

    #[test]
    fn circuits_wait_for_direct_addresses() {
        use History::Unknown;
        let peer = libp2p::PeerId::random();
        let circuit = format!("/ip4/1.1.1.1/tcp/4001/p2p/{peer}/p2p-circuit");
        assert_eq!(
            ranked(&[(&circuit, Unknown), ("/ip4/1.2.3.4/tcp/4001", Unknown)]),
            [500, 0]
        );
        assert_eq!(ranked(&[(&circuit, Unknown)]), [0]);
        let worked = (circuit.as_str(), History::Worked);
        assert_eq!(
            ranked(&[worked, ("/ip4/1.2.3.4/tcp/4001", History::Failed)]),
            [500, 0]
        );
        assert_eq!(
            ranked(&[worked, ("/ip4/10.2.3.4/tcp/4001", Unknown)]),
            [0, 0]
        );
    }

    #[test]
    fn what_worked_is_first_and_what_failed_is_last() {
        assert_eq!(
            ranked(&[
                ("/ip4/1.2.3.4/tcp/1", History::Failed),
                ("/ip4/1.2.3.4/tcp/2", History::Unknown),
                ("/ip4/1.2.3.4/tcp/3", History::Worked),
            ]),
            [500, 250, 0]
        );
    }

    #[test]
    fn all_start_within_two_seconds() {
        for history in [History::Worked, History::Unknown, History::Failed] {
            let many: Vec<String> = (1..=100)
                .map(|port| format!("/ip4/1.2.3.4/tcp/{port}"))
                .collect();
            let mut many: Vec<(&str, History)> =
                many.iter().map(|text| (text.as_str(), history)).collect();
            many.push(("/ip4/1.2.3.5/udp/1/quic-v1", History::Unknown));
            assert!(ranked(&many).iter().all(|start| *start < 2000));
        }
    }
}
