//! rp2pd, the libp2p daemon.

pub mod wire;
