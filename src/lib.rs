//! rp2pd, the libp2p daemon.

pub mod cli;
pub mod config;
pub mod wire;
pub mod wording;
