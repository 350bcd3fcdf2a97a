//! rp2pd, the libp2p daemon.

pub mod cli;
pub mod quote;
pub mod wire;
