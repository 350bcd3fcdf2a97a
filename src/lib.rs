//! rp2pd, the libp2p daemon.

pub mod control;
pub mod muxer;
pub mod node;
pub mod quote;
pub mod streams;
pub mod wire;
