//! CONTROL: what clients see and change while the daemon runs (PROTOCOL.md 5).

use std::sync::Arc;

use super::{context::Context, outcome::Outcome, request::Steer, response};
use crate::{memory::Account, node::PeerRecord};

/// Bytes that are charged for an entry of an answer, beside its text.
const ENTRY: usize = 128;

/// Answers CONTROL.
pub(super) fn serve(context: &Context, account: &Arc<Account>, request: Steer) -> Outcome {
    let node = &context.node;
    Outcome::Answer(match request {
        Steer::Announced => response::announced(&node.announced()),
        Steer::Announce(addresses) => match node.announce(&addresses) {
            Ok(()) => response::announced(&node.announced()),
            Err(error) => response::error(error.to_string()),
        },
        Steer::Unannounce(addresses) => match node.unannounce(&addresses) {
            Ok(()) => response::announced(&node.announced()),
            Err(error) => response::error(error.to_string()),
        },
        Steer::Tags(peers) => match node.tags(&peers, account) {
            Ok((tags, _charge)) => response::tags(tags),
            Err(error) => response::error(error.to_string()),
        },
        Steer::Peers(query) => {
            let (mut records, mut more) = node.peer_records(&query);
            let mut charge = account.empty_charge();
            let mut bytes = 0;
            let room = records.iter().position(|record| {
                bytes += size(record);
                charge.try_resize(bytes).is_err()
            });
            match room {
                Some(0) => return Outcome::Answer(response::over_budget()),
                // The rest is another page.
                Some(room) => {
                    records.truncate(room);
                    more = true;
                }
                None => {}
            }
            response::peer_records(&records, more)
        }
    })
}

/// Bytes that the answer takes for a peer, about.
fn size(record: &PeerRecord) -> usize {
    let names = record.protocols.iter().map(|name| ENTRY + name.len());
    let addresses = record.addresses.iter();
    let addresses = addresses.map(|known| ENTRY + known.address.len());
    2 * ENTRY + names.sum::<usize>() + addresses.sum::<usize>()
}
