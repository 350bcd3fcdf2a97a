//! `/plaintext/2.0.0`: no encryption, no authentication.
//!
//! The library's own upgrade limits the handshake to 100 bytes, too little for RSA and ECDSA
//! keys; this one takes what Go takes.

use std::io;

use futures::{
    future::BoxFuture,
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
};
use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey},
};
use prost::Message as _;

use crate::fixed_limits::fixed_limit;

/// Longest handshake message in bytes (go-libp2p's plaintext reader).
const MAX_EXCHANGE: usize = 64 * 1024;
fixed_limit!("plaintext handshake", bytes MAX_EXCHANGE);

#[derive(Clone, PartialEq, prost::Message)]
struct Exchange {
    #[prost(bytes = "vec", optional, tag = "1")]
    id: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pubkey: Option<Vec<u8>>,
}

/// Exchanges identities; neither side proves that it holds its key.
pub(super) fn handshake<C>(
    mut io: C,
    identity: Keypair,
) -> BoxFuture<'static, io::Result<(PeerId, C)>>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::pin(async move {
        let public = identity.public();
        let ours = Exchange {
            id: Some(public.to_peer_id().to_bytes()),
            pubkey: Some(public.encode_protobuf()),
        };
        io.write_all(&ours.encode_length_delimited_to_vec()).await?;
        io.flush().await?;
        let length = unsigned_varint::aio::read_usize(&mut io)
            .await
            .map_err(io::Error::other)?;
        if length > MAX_EXCHANGE {
            return Err(invalid("handshake message too large"));
        }
        let mut bytes = Vec::new();
        (&mut io)
            .take(length as u64)
            .read_to_end(&mut bytes)
            .await?;
        if bytes.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let theirs = Exchange::decode(&bytes[..]).map_err(io::Error::other)?;
        let key = theirs.pubkey.ok_or_else(|| invalid("no public key"))?;
        let key = PublicKey::try_decode_protobuf(&key).map_err(io::Error::other)?;
        let peer = key.to_peer_id();
        if theirs.id.is_none_or(|id| id != peer.to_bytes()) {
            return Err(invalid("peer id and public key do not match"));
        }
        Ok((peer, io))
    })
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
