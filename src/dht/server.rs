//! Answers to other nodes, as Go's node gives them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;
use prost::Message as _;
use tokio::time::timeout;

use super::{
    Inner, PeerInfo,
    answer::{self, MAX_ANSWER, MAX_CLOSER_BYTES},
    key::Key,
    message::{self, Channel, Message, Type},
    store::Holder,
    table::K,
    validators::Asker,
};
use crate::{
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    memory::{Account, Charge, OverBudget, is_throttled, prefix},
    streams::{InboundStream, Service},
    telemetry::Chain,
    wire::frame,
};

/// Silence after which a stream is reset (go-libp2p-kad-dht's stream idle timeout).
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
fixed_limit!("DHT: silence on an inbound stream", time IDLE_TIMEOUT);

/// Time for a peer to take an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for identify to finish with a peer that another asks for.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest provider key in bytes: a multihash (go-libp2p-kad-dht's bound).
const MAX_PROVIDER_KEY: usize = 80;
fixed_limit!("DHT: key of a provider record", bytes MAX_PROVIDER_KEY);

/// Providers taken from one request: a peer announces itself.
const MAX_REQUEST_PROVIDERS: usize = 16;
fixed_limit!(
    "DHT: providers taken from one request",
    MAX_REQUEST_PROVIDERS
);

/// Providers told of one key (SECURITY.md 3), chosen at random from more.
const MAX_TOLD: usize = 256;
fixed_limit!("DHT: providers told of one key", MAX_TOLD);

/// Bytes that an answer takes while it waits, besides its own.
const ANSWER_COST: usize = 1 << 10;

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
    #[error(
        "as much waits to be sent to the peer as may be held because of it, or memory is short"
    )]
    Share,
    #[error(transparent)]
    Memory(#[from] OverBudget),
}

impl RequestError {
    /// Whether no honest peer sends such a request.
    fn is_malformed(&self) -> bool {
        match self {
            // Peers cannot know which namespaces are validated here, and when.
            Self::Invalid(super::RecordError::KeyType | super::RecordError::Unvalidated(..)) => {
                false
            }
            Self::Kind | Self::Key | Self::Record | Self::Invalid(_) => true,
            Self::Old | Self::Share | Self::Memory(_) => false,
        }
    }
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

    async fn serve(self: &Arc<Self>, inbound: InboundStream) {
        let peer = inbound.peer;
        // A peer that asks is one to ask, if it serves; identify knows.
        self.admit_if_serving(&peer);
        let holder = Holder::Peer {
            prefix: prefix(&inbound.remote),
            peer: Some(peer),
        };
        let account = inbound.account;
        let turn = self.turns.of(peer);
        let mut channel = Channel::new(inbound.stream, &account);
        loop {
            let received = channel.receive(MAX_REQUEST_PROVIDERS);
            let request = match timeout(IDLE_TIMEOUT, received).await {
                Ok(Ok(Some(request))) => request,
                Ok(Ok(None)) => return channel.close().await,
                Ok(Err(error)) => {
                    let is_malformed = error.is_malformed();
                    let error = Chain(&error);
                    tracing::debug!(%peer, %error, "DHT stream failed");
                    if is_malformed {
                        self.node.misbehaves(&peer, "dht", &error.to_string());
                    }
                    return;
                }
                Err(_) => return,
            };
            self.await_identify(&request).await;
            let prepared = {
                let validated = self.is_validated_by_client(&request.key);
                let _turn = turn.wait(validated && has_record(&request)).await;
                self.prepare(&peer, holder, &account, request).await
            };
            channel.release();
            let counter = match &prepared {
                Ok(_) => &self.counters.answered,
                Err(_) => &self.counters.refused,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            let (answer, _charge) = match prepared {
                Ok(Some(prepared)) => prepared,
                Ok(None) => continue,
                Err(error) => {
                    let is_malformed = error.is_malformed();
                    let error = Chain(&error);
                    tracing::debug!(%peer, %error, "DHT request refused");
                    if is_malformed {
                        self.node.misbehaves(&peer, "dht", &error.to_string());
                    }
                    return;
                }
            };
            match timeout(WRITE_TIMEOUT, channel.send(&answer)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// The encoded answer to a request, if its kind has one. It is charged to the peer until it
    /// is sent, which the peer may put off for as long as it can.
    async fn prepare(
        &self,
        peer: &PeerId,
        holder: Holder,
        account: &Arc<Account>,
        request: Message,
    ) -> Result<Option<(Bytes, Charge)>, RequestError> {
        // Many peers that each hold less than their share may fill the memory as well.
        if self.holds_its_share(peer, account) || is_throttled() {
            Limit::MemoryCharged.hit();
            return Err(RequestError::Share);
        }
        let Some(answer) = self.answer(peer, holder, &request).await? else {
            return Ok(None);
        };
        let charge = account.charge(answer.encoded_len() + ANSWER_COST)?;
        Ok(Some((frame::encode(&answer), charge)))
    }

    /// Whether what waits on the connections of `peer` is as much as may be held because of it.
    /// What has been written to a stream is no longer charged to an account, and each stream
    /// queues up to 256 KiB.
    fn holds_its_share(&self, peer: &PeerId, account: &Account) -> bool {
        let connected = self.node.streams().peers.get(peer);
        let connections = connected.map(|peer| peer.connections());
        let queued: u64 = connections
            .iter()
            .flatten()
            .map(|connection| connection.memory())
            .sum();
        queued.saturating_add(account.used()) >= account.limit()
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
    async fn answer(
        &self,
        from: &PeerId,
        holder: Holder,
        request: &Message,
    ) -> Result<Option<Message>, RequestError> {
        let kind = Type::try_from(request.r#type).map_err(|_| RequestError::Kind)?;
        let key = &request.key;
        let mut answer = message::request(kind, &[]);
        match kind {
            Type::Ping => return Ok(Some(request.clone())),
            Type::FindNode => {
                check(key, usize::MAX)?;
                let sought = PeerId::from_bytes(key).ok();
                answer.closer_peers = self.closer(from, key, sought, &mut MAX_ANSWER.clone());
            }
            Type::GetValue => {
                check(key, usize::MAX)?;
                answer.key = key.clone();
                let held = self.held(Asker::Peer, key).await;
                answer.record = held.map(|value| message::record(key, &value));
                // A large record leaves no room for anything else.
                let mut budget = MAX_ANSWER.saturating_sub(answer.encoded_len());
                answer.closer_peers = self.closer(from, key, None, &mut budget);
            }
            Type::PutValue => {
                check(key, usize::MAX)?;
                let record = request.record.as_ref().ok_or(RequestError::Record)?;
                if record.key != *key {
                    return Err(RequestError::Record);
                }
                let value = &record.value;
                self.validate(Asker::Peer, key, value).await?;
                let place = self.place_of(Asker::Peer, key, value).await?;
                let place = place.ok_or(RequestError::Old)?;
                let asker = (holder, Asker::Peer);
                if !self.put_record(asker, key, value, place).await? {
                    return Err(RequestError::Old);
                }
                return Ok(Some(request.clone()));
            }
            Type::GetProviders => {
                check(key, MAX_PROVIDER_KEY)?;
                answer.key = key.clone();
                let mut budget = MAX_CLOSER_BYTES;
                answer.closer_peers = self.closer(from, key, None, &mut budget);
                let mut budget = MAX_ANSWER.saturating_sub(answer.encoded_len());
                let providers = self.known_providers(key, MAX_TOLD);
                answer.provider_peers = self.encode(providers, &mut budget);
            }
            Type::AddProvider => {
                check(key, MAX_PROVIDER_KEY)?;
                for provider in message::providers(request) {
                    let provider = self.admitted(from, provider);
                    // Nobody speaks for others, and a provider nobody can find is none.
                    if provider.id == *from && !provider.addresses.is_empty() {
                        self.store.put_provider(holder, key, provider);
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
    fn closer(
        &self,
        from: &PeerId,
        key: &[u8],
        sought: Option<PeerId>,
        budget: &mut usize,
    ) -> Vec<message::pb::Peer> {
        if sought == Some(self.node.peer_id()) {
            return self.encode(vec![self.own_info()], budget);
        }
        let mut closest = self.table().closest_verified(&Key::of(key), K);
        closest.retain(|peer| peer != from);
        if let Some(sought) = sought.filter(|sought| sought != from && !closest.contains(sought)) {
            closest.push(sought);
        }
        let closest = closest.into_iter().map(|id| self.known_info(id));
        let closest = closest.filter(|info| !info.addresses.is_empty());
        self.encode(closest.collect(), budget)
    }

    fn encode(&self, infos: Vec<PeerInfo>, budget: &mut usize) -> Vec<message::pb::Peer> {
        let infos = infos.into_iter().map(|info| {
            let connected = self.node.is_connected(&info.id);
            (info, connected)
        });
        answer::peers(&infos.collect::<Vec<_>>(), budget)
    }
}

/// Whether an answer depends on a record.
fn has_record(request: &Message) -> bool {
    matches!(request.r#type(), Type::GetValue | Type::PutValue)
}

fn check(key: &[u8], max: usize) -> Result<(), RequestError> {
    if key.is_empty() || key.len() > max {
        return Err(RequestError::Key);
    }
    Ok(())
}
