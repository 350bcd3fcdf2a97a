//! CONTROL: what clients see and change while the daemon runs (PROTOCOL.md 5).

use std::{fmt::Display, sync::Arc};

use super::{context::Context, outcome::Outcome, request::Steer, response};
use crate::{
    memory::{Account, OverBudget},
    node::{Node, PeerRecord},
    streams::{Moved, ProtocolName},
    wire::pb,
};

/// Bytes that are charged for an entry of an answer, beside its text.
const ENTRY: usize = 128;

/// Bytes that are charged for an answer that lists rules, limits or traffic, for each entry.
const LISTED: usize = 256;

/// Answers CONTROL. Whoever changes a list is told what it is then.
pub(super) async fn serve(context: &Context, account: &Arc<Account>, request: Steer) -> Outcome {
    let node = &context.node;
    Outcome::Answer(match request {
        Steer::Announced => response::announced(&node.announced()),
        Steer::Announce(addresses) => changed(node.announce(&addresses), || {
            response::announced(&node.announced())
        }),
        Steer::Unannounce(addresses) => changed(node.unannounce(&addresses), || {
            response::announced(&node.announced())
        }),
        Steer::Tags(peers) => match node.tags(&peers, account) {
            Ok((tags, _charge)) => response::tags(tags),
            Err(error) => response::error(error.to_string()),
        },
        Steer::Peers(query) => {
            let (records, more) = node.peer_records(&query);
            page(account, records, more)
        }
        Steer::Listeners => response::listeners(&node.listeners().await),
        Steer::Listen(addresses) => match node.listen(&addresses).await {
            Ok(()) => response::listeners(&node.listeners().await),
            Err(error) => response::error(error.to_string()),
        },
        Steer::Unlisten(addresses) => match node.unlisten(addresses).await {
            Ok(()) => response::listeners(&node.listeners().await),
            Err(error) => response::error(error.to_string()),
        },
        Steer::Rules => rules(node, account),
        Steer::AddRules(added) => changed(node.add_rules(added).await, || rules(node, account)),
        Steer::RemoveRules(subjects) => {
            changed(node.remove_rules(subjects).await, || rules(node, account))
        }
        Steer::Limits => limits(node, account),
        Steer::Limit(set) => {
            let set = node.streams().traffic.limit(set);
            changed(set, || limits(node, account))
        }
        Steer::Unlimit(subjects) => {
            let removed = node.streams().traffic.unlimit(&subjects);
            changed(removed, || limits(node, account))
        }
        Steer::Traffic(peers, protocols) => {
            traffic(node, account, &peers, &protocols).unwrap_or_else(|_| response::over_budget())
        }
    })
}

fn changed<E: Display>(
    changed: Result<(), E>,
    answer: impl FnOnce() -> pb::Response,
) -> pb::Response {
    match changed {
        Ok(()) => answer(),
        Err(error) => response::error(error.to_string()),
    }
}

fn page(account: &Arc<Account>, mut records: Vec<PeerRecord>, mut more: bool) -> pb::Response {
    let mut charge = account.empty_charge();
    let mut bytes = 0;
    let room = records.iter().position(|record| {
        bytes += size(record);
        charge.try_resize(bytes).is_err()
    });
    match room {
        Some(0) => return response::over_budget(),
        // The rest is another page.
        Some(room) => {
            records.truncate(room);
            more = true;
        }
        None => {}
    }
    response::peer_records(&records, more)
}

/// Bytes that the answer takes for a peer, about.
fn size(record: &PeerRecord) -> usize {
    let names = record.protocols.iter().map(|name| ENTRY + name.len());
    let addresses = record.addresses.iter();
    let addresses = addresses.map(|known| ENTRY + known.address.len());
    2 * ENTRY + names.sum::<usize>() + addresses.sum::<usize>()
}

fn rules(node: &Node, account: &Arc<Account>) -> pb::Response {
    let rules = node.rules();
    match account.charge(LISTED * rules.len()) {
        Ok(_charge) => response::rules(&rules),
        Err(_) => response::over_budget(),
    }
}

fn limits(node: &Node, account: &Arc<Account>) -> pb::Response {
    let limits = node.streams().traffic.limits();
    let names = limits
        .iter()
        .filter_map(|(subject, _)| subject.protocol.as_ref());
    let names: usize = names.map(|name| name.as_bytes().len()).sum();
    match account.charge(LISTED * limits.len() + names) {
        Ok(_charge) => response::limits(&limits),
        Err(_) => response::over_budget(),
    }
}

/// What has moved of these, or of all if none is named.
fn traffic(
    node: &Node,
    account: &Arc<Account>,
    peers: &[libp2p::PeerId],
    protocols: &[ProtocolName],
) -> Result<pb::Response, OverBudget> {
    let streams = node.streams();
    let all = peers.is_empty() && protocols.is_empty();
    let connected = match all {
        true => streams.peers.list(),
        false => {
            let named = peers.iter();
            named
                .filter_map(|peer| Some((*peer, streams.peers.get(peer)?)))
                .collect()
        }
    };
    let mut moved: Vec<(ProtocolName, Moved)> = streams.traffic.protocols();
    moved.retain(|(name, _)| all || protocols.contains(name));
    let names: usize = moved.iter().map(|(name, _)| name.as_bytes().len()).sum();
    let _charge = account.charge(LISTED * (connected.len() + moved.len()) + names)?;
    let mut of_peers: Vec<_> = connected
        .into_iter()
        .map(|(id, peer)| {
            let (received, sent) = peer.traffic();
            let moved = Moved {
                received,
                sent,
                streams: peer.open_streams(),
                waited: streams.traffic.waited_for(id),
            };
            (id, peer.connections().len(), moved)
        })
        .collect();
    of_peers.sort_unstable_by_key(|(peer, ..)| *peer);
    Ok(response::traffic(&of_peers, &moved))
}
