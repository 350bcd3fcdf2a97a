//! Hard limits on connections.
//!
//! Whoever may not have an inbound connection is refused when it is accepted, before the handshake:
//! the dialer sees an error, never a connection that ends at once. [`Admission`] decides, and
//! [`Gate`] asks it on behalf of every transport. [`Limiter`] counts what is known only after the
//! handshake: connections with one peer, and all of them.
//!
//! The library's own behaviour for this keeps an entry for every peer id it has ever seen.

mod admission;
mod behaviour;
mod gate;
mod rates;
mod refusals;
mod source;
mod state;
mod values;

pub(super) use admission::Admission;
pub(super) use behaviour::Limiter;
pub(super) use gate::Gate;
pub use values::{AddressLimits, ConnectionLimits};
pub(crate) use values::{CONNECTION_COST, PER_PEER};
