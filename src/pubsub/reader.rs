//! The stream that a peer writes: RPCs are read field by field and handed to the router.

use std::sync::Arc;

use bytes::Bytes;
use futures::AsyncWriteExt as _;
use libp2p::PeerId;
use prost::{DecodeError, Message as _};
use tokio::{sync::Semaphore, task::yield_now};

use super::{
    FORWARD_PATIENCE, Inner,
    message::{self, MAX_RPC, Message, Validator, pb},
    seen::IdHash,
    validators::{Submitter, Validation, Verdict},
};
use crate::{
    fixed_limits::fixed_limit,
    memory::Account,
    streams::{InboundStream, MessageError, MessageReader, Service, UserStream},
    wire::parts,
};

/// RPCs above 64 KiB that are read at once, of all peers together (SECURITY.md 3).
const MAX_LARGE: usize = 64;
fixed_limit!("pubsub: RPCs above 64 KiB being read", MAX_LARGE);

static LARGE_PERMITS: Semaphore = Semaphore::const_new(MAX_LARGE);

/// Messages in one RPC (SECURITY.md 3). A peer that sent IWANT for many gets them together.
const MAX_RPC_MESSAGES: usize = 5000;
fixed_limit!("pubsub: messages in one RPC", MAX_RPC_MESSAGES);

/// Topics and ids in the control part of one RPC (SECURITY.md 3): more than a mebibyte of any that are
/// worth anything holds.
const MAX_ENTRIES: usize = 65_536;
fixed_limit!(
    "pubsub: topics and ids in the control part of one RPC",
    MAX_ENTRIES
);

/// New messages that are not yet queued for subscribers here, at most.
const BURST: usize = 8;

/// Work done for one stream before others get a turn. Validating a message counts most, any other
/// field of an RPC for 1.
const TURN: usize = 256;
const MESSAGE_WORK: usize = TURN / BURST;
const FIELD_WORK: usize = 1;

/// Why a stream of RPCs is given up.
#[derive(Debug, thiserror::Error)]
enum RpcError {
    #[error(transparent)]
    Stream(#[from] MessageError),
    #[error("malformed RPC")]
    Malformed(#[source] DecodeError),
    #[error("too many messages in an RPC")]
    TooMany,
}

impl Inner {
    /// The service that reads what peers write.
    pub(super) fn service(self: &Arc<Self>) -> Service {
        let pubsub = self.clone();
        Service::new(Box::new(move |inbound| {
            let pubsub = pubsub.clone();
            Box::pin(async move { pubsub.serve(inbound).await })
        }))
    }

    async fn serve(&self, inbound: InboundStream) {
        let InboundStream {
            peer,
            mut stream,
            account,
            ..
        } = inbound;
        let (number, superseded) = self.router.open_inbound(peer, &account);
        let mut fresh = Vec::with_capacity(BURST);
        let ended = superseded
            .run_until_cancelled(self.read(peer, &account, &mut stream, &mut fresh))
            .await;
        self.notify_subscribers(&mut fresh).await;
        match ended {
            // The peer has finished: so does this side.
            Some(Ok(())) => {
                let _ = stream.close().await;
            }
            Some(Err(error)) => {
                tracing::debug!(%peer, error = %crate::telemetry::Chain(&error), "pubsub stream failed")
            }
            None => {}
        }
        self.router.close_inbound(peer, number);
        while self.router.sweep() {
            yield_now().await;
        }
    }

    /// Reads until the peer finishes. What is not yet delivered to subscribers is left in `fresh`.
    async fn read(
        &self,
        peer: PeerId,
        account: &Arc<Account>,
        stream: &mut UserStream,
        fresh: &mut Vec<Arc<Message>>,
    ) -> Result<(), RpcError> {
        let mut rpcs = MessageReader::new(MAX_RPC, account.empty_charge(), &LARGE_PERMITS);
        let mut validator = Validator::new(self.signing);
        let malformed = |error: DecodeError| {
            self.router.malformed(peer);
            RpcError::Malformed(error)
        };
        let mut work = 0;
        while let Some(rpc) = rpcs.next(stream).await? {
            let mut messages = 0;
            if self.router.is_graylisted(&peer) {
                continue;
            }
            for field in message::fields(&rpc) {
                let (number, value) = field.map_err(malformed)?;
                work += FIELD_WORK;
                match number {
                    1 => {
                        let change = pb::SubOpts::decode(value).map_err(malformed)?;
                        self.router.on_subscription(peer, &change);
                    }
                    2 => {
                        work += MESSAGE_WORK;
                        messages += 1;
                        if messages > MAX_RPC_MESSAGES {
                            self.router.malformed(peer);
                            return Err(RpcError::TooMany);
                        }
                        let raw = pb::Message::decode(value).map_err(malformed)?;
                        fresh.extend(self.accept_message(peer, &raw, &mut validator).await);
                    }
                    3 => {
                        work += TURN;
                        self.control(peer, account, value).map_err(malformed)?;
                    }
                    _ => {}
                }
                if work >= TURN {
                    work = 0;
                    self.notify_subscribers(fresh).await;
                }
            }
            if !fresh.is_empty() && !rpcs.has_next() {
                self.notify_subscribers(fresh).await;
            }
        }
        Ok(())
    }

    /// Hands over what `peer` says of meshes and of the messages that it has. Entries of two bytes
    /// take thirty times as much once they are decoded, which is charged before; without room for it
    /// the peer is not heard. More than [`MAX_ENTRIES`] are a breach of the rules.
    fn control(
        &self,
        peer: PeerId,
        account: &Arc<Account>,
        value: Bytes,
    ) -> Result<(), DecodeError> {
        let Some(cost) = parts::cost_within(&value, MAX_ENTRIES) else {
            self.router.overlong_control(peer);
            return Ok(());
        };
        let Ok(_parts) = account.charge(cost) else {
            return Ok(());
        };
        let control = pb::Control::decode(value)?;
        self.router.on_control(peer, &control);
        Ok(())
    }

    /// Delivers messages to subscribers here. The tasks that write to other peers run first:
    /// they wait for nothing else, and waking two tasks at once costs a thread switch.
    async fn notify_subscribers(&self, messages: &mut Vec<Arc<Message>>) {
        yield_now().await;
        for message in messages.drain(..) {
            self.router.subscriptions().deliver(&message);
        }
    }

    /// Validates a message of `peer` and forwards it. `None` if it is not new or not valid.
    async fn accept_message(
        &self,
        peer: PeerId,
        raw: &pb::Message,
        validator: &mut Validator,
    ) -> Option<Arc<Message>> {
        let topic = message::topic_name(raw.topic.as_ref());
        let own = raw.from.as_deref() == Some(&*self.author.from);
        if own || !self.router.subscriptions().has_subscribers(topic) {
            return None;
        }
        let id = message::message_id(raw.from.as_deref(), raw.seqno.as_deref());
        if self.router.has_seen(IdHash::of(&id)) {
            return None;
        }
        let message = match validator.validate(raw, topic.into()) {
            Ok(message) => Arc::new(message),
            Err(reason) => {
                self.router.rejected(peer, reason);
                return None;
            }
        };
        match self.validators.of(topic) {
            None => {
                let spread = self.router.publish(&message, Some(peer), FORWARD_PATIENCE);
                spread.await.then_some(message)
            }
            Some(Validation::Held) => None,
            Some(Validation::By(queue)) => {
                // Judged once, however many peers send it.
                if !self.router.note(&message) {
                    return None;
                }
                match queue.submit(&message, Submitter::Peer(peer)) {
                    Ok(()) | Err(Verdict::Ignore) => None,
                    Err(Verdict::Reject) => {
                        self.router.rejected_by_validator(peer);
                        None
                    }
                    Err(Verdict::Accept) => {
                        let forward = self.router.forward(&message, Some(peer), FORWARD_PATIENCE);
                        forward.await;
                        Some(message)
                    }
                }
            }
        }
    }
}
