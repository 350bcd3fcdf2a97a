//! Bytes on the control socket: frames, protobuf messages, forms of addresses and hashes.
//!
//! Knows nothing of sockets or of the swarm.

pub mod carrier;
pub mod cid;
pub mod frame;
pub(crate) mod fuzzing;
pub mod json;
pub mod maddr;
pub mod multihash;
pub(crate) mod parts;
pub(crate) mod scratch;

/// The messages of `proto/p2pd.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/p2pd.pb.rs"));
}
