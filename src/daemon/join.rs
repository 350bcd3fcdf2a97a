//! Joining a network at the start.

use super::JoinError;
use crate::{
    config::Config,
    control::response::dial_error,
    node::{BootstrapError, BootstrapPeers, Node},
    telemetry::operator_line,
};

/// Connects to the first bootstrap peer that answers. Returns those to look after, if any.
pub(super) async fn join(
    config: &Config,
    node: &Node,
) -> Result<Option<BootstrapPeers>, JoinError> {
    if !config.bootstrap.enabled {
        return Ok(None);
    }
    let peers = &config.bootstrap.peers;
    if !config.bootstrap.explicit {
        let names: Vec<_> = peers.iter().map(ToString::to_string).collect();
        operator_line(&format!(
            "joining the public IPFS network through {}",
            names.join(", ")
        ));
    }
    let peers = BootstrapPeers::new(peers, node.peer_id());
    if peers.is_empty() {
        operator_line("this node is its own only bootstrap peer: it waits for others to come");
        return Ok(None);
    }
    match peers.join(node).await {
        Ok(()) => Ok(Some(peers)),
        Err(error) => Err(JoinError(bootstrap_failure(&error))),
    }
}

/// One line, since Hivemind shows its users only the last.
fn bootstrap_failure(error: &BootstrapError) -> String {
    let reasons = error.failures.iter();
    let mut reasons: Vec<_> = reasons
        .map(|(peer, failure)| {
            let text = dial_error(failure).replace("\n  *", "");
            match text.contains(&peer.to_string()) {
                true => text,
                false => format!("{peer}: {text}"),
            }
        })
        .collect();
    if error.others > 0 {
        reasons.push(format!("and {} more", error.others));
    }
    let mut line = format!("{error}: {}", reasons.join("; "));
    line.push_str(match error.is_without_dns() {
        true => "; no name server answers: see /etc/resolv.conf, or name the peers by ip address",
        false => "; do they run? Name others with -bootstrapPeers, or start without -b",
    });
    line
}
