//! The verbs of PUBSUB.

use std::io;
use std::time::Duration;

use libp2p::PeerId;
use rp2pd::wire::pb::ps_request::Type;
use rp2pd::wire::pb::{PsMessage, PsRequest, PsResponse, request};

use super::control::{texts, typed};
use super::{ControlClient, Daemon, PATIENCE};

impl ControlClient {
    /// Sends a PUBSUB request; the answer's part for pubsub if it has one.
    ///
    /// # Errors
    /// The ERROR text.
    pub fn pubsub(
        &mut self,
        kind: Type,
        topic: Option<&[u8]>,
        data: Option<&[u8]>,
    ) -> Result<Option<PsResponse>, String> {
        let mut request = typed(request::Type::Pubsub);
        request.pubsub = Some(PsRequest {
            r#type: Some(i64::from(kind as i32)),
            topic: topic.map(|topic| topic.to_vec().into()),
            data: data.map(|data| data.to_vec().into()),
        });
        Ok(self.ask(&request)?.pubsub)
    }

    #[must_use]
    pub fn topics(&mut self) -> Vec<String> {
        let answer = self.pubsub(Type::GetTopics, None, None);
        let mut topics = texts(&answer.expect("GET_TOPICS").expect("a pubsub part").topics);
        topics.sort_unstable();
        topics
    }

    /// # Errors
    /// The ERROR text.
    pub fn topic_peers(&mut self, topic: impl AsRef<[u8]>) -> Result<Vec<PeerId>, String> {
        let answer = self.pubsub(Type::ListPeers, Some(topic.as_ref()), None)?;
        let peers = answer.map(|answer| answer.peer_i_ds).unwrap_or_default();
        peers
            .iter()
            .map(|id| PeerId::from_bytes(id).map_err(|error| error.to_string()))
            .collect()
    }

    /// # Errors
    /// The ERROR text.
    pub fn publish(&mut self, topic: impl AsRef<[u8]>, data: &[u8]) -> Result<(), String> {
        self.pubsub(Type::Publish, Some(topic.as_ref()), Some(data))
            .map(drop)
    }

    /// The connection then carries the topic's messages.
    ///
    /// # Errors
    /// The ERROR text.
    pub fn subscribe(mut self, topic: impl AsRef<[u8]>) -> Result<Subscription, String> {
        self.pubsub(Type::Subscribe, Some(topic.as_ref()), None)?;
        Ok(Subscription { client: self })
    }
}

impl Daemon {
    /// SUBSCRIBE that has no reason to fail.
    #[must_use]
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Subscription {
        self.client().subscribe(topic).expect("SUBSCRIBE")
    }

    /// PUBLISH that has no reason to fail.
    pub fn publish(&self, topic: impl AsRef<[u8]>, data: &[u8]) {
        self.client().publish(topic, data).expect("PUBLISH");
    }
}

/// A connection that carries messages.
#[derive(Debug)]
pub struct Subscription {
    pub client: ControlClient,
}

impl Subscription {
    /// # Errors
    /// I/O, or that no message comes within `timeout`.
    pub fn within(&mut self, timeout: Duration) -> io::Result<PsMessage> {
        self.client.pipe.socket.set_timeout(timeout)?;
        self.client.receive()
    }

    /// The next message, which is on its way.
    #[must_use]
    pub fn next(&mut self) -> PsMessage {
        self.within(PATIENCE).expect("a message")
    }

    /// The payload of the next message, which is on its way.
    #[must_use]
    pub fn next_data(&mut self) -> Vec<u8> {
        self.next().data.unwrap_or_default().to_vec()
    }
}
