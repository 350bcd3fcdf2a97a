//! rp2pd, the libp2p daemon.

pub mod banner;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod muxer;
pub mod node;
pub mod shutdown;
pub mod streams;
pub mod wire;
pub mod wording;
