//! Answers to other nodes, as Go's node gives them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::timeout;

use super::{
    Inner, PeerInfo,
    disk::ChangeOrigin,
    key::Key,
    message::{self, Channel, Message, Type},
    table::K,
};
use crate::{
    streams::{InboundStream, Service},
    wire::frame,
};

/// Silence after which a stream is reset (go-libp2p-kad-dht's stream idle timeout).
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Time for a peer to take an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for identify to finish with a peer that another asks for.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest provider key in bytes: a multihash (go-libp2p-kad-dht's bound).
const MAX_PROVIDER_KEY: usize = 80;

/// Why a request is not answered; the stream is then reset, as Go does.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("unknown kind of request")]
    Kind,
    #[error("request without a key, or with one too long")]
    Key,
    #[error("request without a record of its key")]
    Record,
    #[error(transparent)]
    Invalid(#[from] super::RecordError),
    #[error("an older record than the one held")]
    Old,
}

impl Inner {
    /// Answers inbound streams.
    pub(super) fn service(self: &Arc<Self>) -> Service {
        let dht = self.clone();
        Service::new(Box::new(move |inbound| {
            let dht = dht.clone();
            Box::pin(async move { dht.serve(inbound).await })
        }))
    }

    async fn serve(&self, inbound: InboundStream) {
        let peer = inbound.peer;
        // A peer that asks is one to ask, if it serves; identify knows.
        self.admit_if_serving(&peer);
        let mut channel = Channel::new(inbound.stream);
        loop {
            let request = match timeout(IDLE_TIMEOUT, channel.receive()).await {
                Ok(Ok(Some(request))) => request,
                Ok(Ok(None)) => return channel.close().await,
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "DHT stream failed");
                    return;
                }
                Err(_) => return,
            };
            self.await_identify(&request).await;
            let answer = self.answer(&peer, &request);
            let counter = match &answer {
                Ok(_) => &self.counters.answered,
                Err(_) => &self.counters.refused,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            let answer = match answer {
                Ok(Some(answer)) => frame::encode(&answer),
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%peer, %error, "DHT request refused");
                    return;
                }
            };
            match timeout(WRITE_TIMEOUT, channel.send(&answer)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// A peer that has just connected and is looked for already is given a moment to say where
    /// it is.
    async fn await_identify(&self, request: &Message) {
        if request.r#type() != Type::FindNode {
            return;
        }
        let sought = PeerId::from_bytes(&request.key).ok();
        let connected = sought.and_then(|sought| self.node.streams().peers.get(&sought));
        if let Some(peer) = connected
            && peer.protocols().is_none()
        {
            // Without it the answer is as good as it can be.
            let _ = timeout(IDENTIFY_TIMEOUT, peer.identified()).await;
        }
    }

    /// The answer to a request, if its kind has one.
    pub(super) fn answer(
        &self,
        from: &PeerId,
        request: &Message,
    ) -> Result<Option<Message>, RequestError> {
        let kind = Type::try_from(request.r#type).map_err(|_| RequestError::Kind)?;
        let key = &request.key;
        let mut answer = message::request(kind, &[]);
        match kind {
            Type::Ping => return Ok(Some(request.clone())),
            Type::FindNode => {
                check(key, usize::MAX)?;
                answer.closer_peers = self.closer(from, key, PeerId::from_bytes(key).ok());
            }
            Type::GetValue => {
                check(key, usize::MAX)?;
                answer.key = key.clone();
                answer.record = self.held(key).map(|value| message::record(key, &value));
                answer.closer_peers = self.closer(from, key, None);
            }
            Type::PutValue => {
                check(key, usize::MAX)?;
                let record = request.record.as_ref().ok_or(RequestError::Record)?;
                if record.key != *key {
                    return Err(RequestError::Record);
                }
                self.validator.validate(key, &record.value)?;
                if !self.is_better(key, &record.value)? {
                    return Err(RequestError::Old);
                }
                self.store
                    .put_record(ChangeOrigin::Peer, key, &record.value);
                return Ok(Some(request.clone()));
            }
            Type::GetProviders => {
                check(key, MAX_PROVIDER_KEY)?;
                answer.key = key.clone();
                answer.provider_peers = self
                    .known_providers(key)
                    .iter()
                    .map(|info| self.encode(info))
                    .collect();
                answer.closer_peers = self.closer(from, key, None);
            }
            Type::AddProvider => {
                check(key, MAX_PROVIDER_KEY)?;
                for provider in message::providers(request) {
                    // Nobody speaks for others, and a provider nobody can find is none.
                    if provider.id == *from && !provider.addresses.is_empty() {
                        self.store.put_provider(ChangeOrigin::Peer, key, provider);
                    }
                }
                return Ok(None);
            }
        }
        Ok(Some(answer))
    }

    /// Who is closer to `key`, with addresses. The peer that is looked for is told even if it
    /// is no server: nobody else may know it. This daemon itself is the answer to its own id,
    /// without which Go's nodes take it for dead.
    fn closer(&self, from: &PeerId, key: &[u8], sought: Option<PeerId>) -> Vec<message::pb::Peer> {
        if sought == Some(self.node.peer_id()) {
            return vec![self.encode(&self.own_info())];
        }
        let mut closest = self.table().closest(&Key::of(key), K);
        closest.retain(|peer| peer != from);
        if let Some(sought) = sought.filter(|sought| sought != from && !closest.contains(sought)) {
            closest.push(sought);
        }
        closest
            .into_iter()
            .map(|id| self.known_info(id))
            .filter(|info| !info.addresses.is_empty())
            .map(|info| self.encode(&info))
            .collect()
    }

    fn encode(&self, info: &PeerInfo) -> message::pb::Peer {
        message::peer(info, self.node.is_connected(&info.id))
    }
}

fn check(key: &[u8], max: usize) -> Result<(), RequestError> {
    if key.is_empty() || key.len() > max {
        return Err(RequestError::Key);
    }
    Ok(())
}
