//! The control socket: who may use it, what clients ask and what they are told.
//!
//! Knows the node only by its handle: nothing of the swarm, its behaviours or its events.

pub mod arrivals;
mod dht;
pub(crate) mod fuzzing;
pub mod guard;
pub mod handler_dial;
pub mod listener;
pub mod persistent;
mod pipe;
mod pubsub;
mod request;
pub(crate) mod response;
pub mod session;
mod socket;
