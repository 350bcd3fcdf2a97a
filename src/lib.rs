//! rp2pd, the libp2p daemon: one process runs a libp2p host, local programs drive it over a
//! socket with the `p2pd` protocol.
//!
//! Six layers. Each depends only on those below it. [`pubsub`], [`relay`], [`autonat`] and
//! [`port_mapping`] stand beside [`dht`]:
//!
//! | layer | knows | never knows |
//! |---|---|---|
//! | [`control`] | client sessions, the wording of answers, the control socket | the swarm |
//! | [`dht`] | the Kademlia node: who is close to a key, records, providers | the swarm, protobuf of clients, sessions |
//! | [`autonat`] | the node by its handle | the swarm, client sessions |
//! | [`port_mapping`] | the node by its handle | the swarm, client sessions |
//! | [`pubsub`] | the node by its handle, topics and their subscribers | the swarm, client sessions, the control protocol |
//! | [`relay`] | the node by its handle, circuits and reservations | the swarm, client sessions, the control protocol |
//! | [`node`] | the swarm and what lives in it, as plain values | protobuf, sessions |
//! | [`streams`] | connected peers, user protocols and their negotiation | the two above |
//! | [`muxer`] | one connection: its task, its multiplexer, its streams | everything above |
//!
//! Below all of them are [`wire`] (frames, messages, addresses), [`limit_hits`] (what was refused,
//! counted), [`events`] (what happens, for clients that follow it), [`memory`] (accounts and the
//! ladder) and [`descriptors`] (the reserve). [`daemon`]
//! builds the layers, runs them and takes them down, with [`cli`], [`config`], [`settings`],
//! [`identity`], [`telemetry`], [`banner`], [`refusal`], [`systemd`], [`shutdown`] and [`validate`].

// The lints of Cargo.toml hold for tests and benchmarks too. These hold for the daemon alone: a
// test reports by panicking and prints what it measured, and in its one binary `pub` says nothing.
#![warn(
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod accounts;
pub mod autonat;
pub mod banner;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod daemon;
pub mod descriptors;
pub mod dht;
pub mod events;
mod faults;
pub mod fixed_limits;
mod fuzz_input;
#[doc(hidden)]
pub mod fuzzing;
mod gone;
pub mod healthcheck;
mod host_header;
pub mod http;
pub mod identity;
pub mod limit_hits;
mod mdns;
pub mod memory;
mod metrics;
pub mod muxer;
pub mod node;
pub mod port_mapping;
pub mod private_network;
pub mod pubsub;
pub mod refusal;
pub mod relay;
pub mod rendezvous;
pub mod settings;
pub mod shutdown;
pub mod status;
pub mod streams;
pub mod systemd;
pub mod telemetry;
pub mod validate;
pub mod wire;
pub mod wording;
pub mod wss;
