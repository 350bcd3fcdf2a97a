//! What is queued for one peer, and its encoding.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use tokio::sync::oneshot;

use crate::{
    fixed_limits::fixed_limit,
    pubsub::message::{Message, pb},
};

/// Queued messages at which a peer counts as busy. Who has a message for others as well does not
/// wait for a busy peer.
const BUSY: usize = 16;
fixed_limit!("pubsub: waiting messages at which a peer is busy", BUSY);

/// Bytes of them.
const BUSY_BYTES: usize = 256 << 10;
fixed_limit!("pubsub: waiting bytes at which a peer is busy", bytes BUSY_BYTES);

/// A change of the mesh of a topic that a peer is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum MeshChange {
    Graft,
    /// The peer must not graft again before `backoff` is over.
    Prune {
        backoff: Option<Duration>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Topics whose state is to be announced: whether they have subscribers here.
    pub(super) subscriptions: BTreeMap<Arc<[u8]>, bool>,
    /// Whether announcements are being written.
    pub(super) announcing: bool,
    pub(super) marks: Vec<oneshot::Sender<()>>,
    pub(super) mesh: BTreeMap<Arc<[u8]>, MeshChange>,
    pub(super) ihave: Vec<pb::IHave>,
    pub(super) iwant: Vec<Bytes>,
    pub(super) messages: VecDeque<Arc<Message>>,
    pub(super) bytes: usize,
    /// Since when the peer has read nothing of what is queued.
    pub(super) blocked: Option<Instant>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
            && self.mesh.is_empty()
            && self.ihave.is_empty()
            && self.iwant.is_empty()
            && self.messages.is_empty()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.messages.len() >= BUSY || self.bytes >= BUSY_BYTES
    }

    pub(super) fn blocked_for(&self) -> Duration {
        self.blocked.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Encodes everything but messages.
    pub(super) fn encode_control(&mut self, output: &mut BytesMut) {
        if !self.subscriptions.is_empty() {
            self.announcing = true;
            let subscriptions = std::mem::take(&mut self.subscriptions).into_iter();
            let subscriptions = subscriptions.map(|(topic, subscribe)| pb::SubOpts {
                subscribe: Some(subscribe),
                topic_id: Some(Bytes::copy_from_slice(&topic)),
            });
            put_rpc(
                output,
                pb::Rpc {
                    subscriptions: subscriptions.collect(),
                    ..pb::Rpc::default()
                },
            );
        }
        if !self.mesh.is_empty() {
            let mut control = pb::Control::default();
            for (topic, mesh) in std::mem::take(&mut self.mesh) {
                let topic_id = Some(Bytes::copy_from_slice(&topic));
                match mesh {
                    MeshChange::Graft => control.graft.push(pb::Graft { topic_id }),
                    MeshChange::Prune { backoff } => control.prune.push(pb::Prune {
                        topic_id,
                        backoff: backoff.map(|time| time.as_secs()),
                    }),
                }
            }
            put_control(output, control);
        }
        if !self.ihave.is_empty() {
            let ihave = std::mem::take(&mut self.ihave);
            put_control(
                output,
                pb::Control {
                    ihave,
                    ..pb::Control::default()
                },
            );
        }
        if !self.iwant.is_empty() {
            let message_i_ds = std::mem::take(&mut self.iwant);
            let iwant = vec![pb::IWant { message_i_ds }];
            put_control(
                output,
                pb::Control {
                    iwant,
                    ..pb::Control::default()
                },
            );
        }
    }
}

fn put_control(output: &mut BytesMut, control: pb::Control) {
    put_rpc(
        output,
        pb::Rpc {
            control: Some(control),
            ..pb::Rpc::default()
        },
    );
}

fn put_rpc(output: &mut BytesMut, rpc: pb::Rpc) {
    output.extend_from_slice(&rpc.encode_length_delimited_to_vec());
}

/// A message as an RPC of its own.
pub(super) fn put_message(output: &mut BytesMut, body: &[u8]) {
    const PUBLISH: u32 = 2;
    let len = body.len() as u64;
    let rpc = key_len(PUBLISH) + encoded_len_varint(len) + body.len();
    output.reserve(rpc + encoded_len_varint(rpc as u64));
    encode_varint(rpc as u64, output);
    encode_key(PUBLISH, WireType::LengthDelimited, output);
    encode_varint(len, output);
    output.extend_from_slice(body);
}
