//! Circuit relay v2: reaching peers through relays, being reached so, and the relay itself.

pub mod autorelay;
mod circuits;
mod dialer;
pub mod message;
mod pipe;
mod punch;
mod reservations;
mod service;
mod stop;
mod voucher;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::node::Node;
pub use autorelay::{AutoRelay, Walk};
use dialer::Dialer;
pub use punch::Puncher;
pub(crate) use service::RelayParts;
pub use service::{Relay, RelaySettings, Snapshot};

/// Lets `node` dial addresses with a relay, and accept circuits that relays bring. Identify tells
/// of the latter if it is `told`: Go's `-relay=0` switches neither off. Where there is a `puncher`,
/// it gets direct connections to those who call. The node has so many `places` for inbound
/// connections, of which the relays of one address may use a part.
///
/// Nothing is waited for once `closing` is cancelled.
pub fn start(
    node: &Node,
    told: bool,
    puncher: Option<Arc<Puncher>>,
    places: usize,
    closing: CancellationToken,
) {
    node.set_circuit_dialer(Arc::new(Dialer(node.clone())));
    let registry = &node.streams().registry;
    let service = stop::service(node, puncher, places, closing);
    if told {
        registry.set_service(message::STOP, Some(service));
    } else {
        registry.set_untold_service(message::STOP, service);
    }
}
