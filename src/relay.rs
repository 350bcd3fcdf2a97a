//! Circuit relay v2: what relays and their clients say to each other, and the relay itself.

mod circuits;
pub mod message;
mod pipe;
mod reservations;
mod service;
mod voucher;

pub(crate) use service::RelayParts;
pub use service::{Relay, RelaySettings, Snapshot};
