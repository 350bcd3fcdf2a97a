//! Who speaks first on a connection that both sides have dialed.
//!
//! The specification has it that the side that has called is the client and the other the server.
//! go-libp2p before 0.48 has it the other way round, so go by what the peer's program is, and try
//! the other way in the last round, as newer go-libp2p does.

use std::time::Duration;

use crate::node::Manner;

/// Rounds of one punch (go-libp2p).
pub(super) const ROUNDS: usize = 3;

/// The first release of kubo with go-libp2p 0.48.
const KUBO: (u32, u32) = (0, 41);

/// This node's side of a punch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// It was called, and begins.
    Called,
    /// It has called, and answers.
    Calling,
}

impl Side {
    /// go-libp2p's word for it in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Called => "initiator",
            Self::Calling => "receiver",
        }
    }

    /// Time until a peer is dialed as any other. The two sides have different ones, so that not
    /// both connect.
    pub(super) fn patience(self) -> Duration {
        match self {
            Self::Called => Duration::from_millis(400),
            Self::Calling => Duration::from_millis(800),
        }
    }

    /// The role in this round, counted from 0, with a peer whose program is `agent`.
    pub(super) fn manner(self, agent: Option<&str>, round: usize) -> Manner {
        let old = agent.is_some_and(is_inverted);
        let swapped = round % ROUNDS == ROUNDS - 1;
        match (self == Self::Calling) ^ old ^ swapped {
            true => Manner::Client,
            false => Manner::Server,
        }
    }
}

/// Whether the program, as identify tells it, has the roles the other way round.
fn is_inverted(agent: &str) -> bool {
    let mut parts = agent.split('/');
    match parts.next() {
        Some("p2pd" | "go-libp2p-daemon" | "go-ipfs") => true,
        Some("kubo") => parts.next().is_none_or(|version| {
            let mut numbers = version.split(['.', '-']).map(str::parse);
            let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
                return false;
            };
            (major, minor) < KUBO
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_go_has_the_roles_the_other_way_round() {
        for (agent, inverted) in [
            ("p2pd/0.1", true),
            ("go-libp2p-daemon/v0.9.2", true),
            ("go-ipfs/0.13.0/", true),
            ("kubo/0.18.1/675f8bd/docker", true),
            ("kubo/0.40.1/39f8a23", true),
            ("kubo/0.41.0-rc1/", false),
            ("kubo/0.44.0/1234567/", false),
            ("kubo/1.0.0", false),
            ("kubo/dev", false),
            ("kubo", true),
            ("rp2pd/0.1.0", false),
            ("rust-libp2p/0.46.1", false),
            ("js-libp2p/3.0.0 browser/chrome", false),
            ("", false),
        ] {
            assert_eq!(is_inverted(agent), inverted, "{agent}");
        }
    }

    #[test]
    fn the_sides_never_have_the_same_role_and_the_last_round_is_the_other_way() {
        for agent in [None, Some("p2pd/0.1")] {
            for round in 0..2 * ROUNDS {
                let (called, calling) = (
                    Side::Called.manner(agent, round),
                    Side::Calling.manner(agent, round),
                );
                assert_ne!(called, calling);
                let spec = called == Manner::Server;
                assert_eq!(
                    spec,
                    agent.is_none() ^ (round % 3 == 2),
                    "{agent:?} {round}"
                );
            }
        }
    }
}
