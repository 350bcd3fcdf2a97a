//! The control socket: who may use it, what clients request and what they are answered.
//!
//! The node is known by its handle only, never its swarm, its behaviours or their events.

mod accept;
pub mod arrivals;
mod blocked;
mod client;
pub mod clients;
pub mod context;
mod dht;
mod dial_turn;
mod events;
mod execute;
pub(crate) mod fuzzing;
pub mod guard;
pub mod handler_dial;
pub mod listener;
mod mode;
mod one_way;
mod outcome;
mod output;
pub mod persistent;
mod pipe;
mod pubsub;
mod request;
pub(crate) mod response;
mod session;
mod socket;
mod steer;
mod tunnelling;
pub mod tunnels;
mod validators;
pub mod web;
