//! rp2pd, the libp2p daemon.

pub mod banner;
pub mod cli;
pub mod config;
pub mod control;
pub mod identity;
pub mod muxer;
pub mod node;
pub mod streams;
pub mod telemetry;
pub mod wire;
pub mod wording;
